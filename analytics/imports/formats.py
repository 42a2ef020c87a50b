"""The table of formats. A new format is a module with an ImportFormat, and a line here."""

from collections.abc import Sequence

from analytics.imports.access_log import ACCESS_LOG
from analytics.imports.footfall_export import FOOTFALL_EXPORT
from analytics.imports.format import MISREAD, ImportFormat
from analytics.imports.ga4 import GA4_EXPORT
from analytics.imports.goatcounter import GOATCOUNTER_EXPORT
from analytics.imports.matomo import MATOMO_LOG
from analytics.imports.plausible_export import PLAUSIBLE_EXPORT
from analytics.imports.posthog import POSTHOG_EXPORT
from analytics.imports.segment_com_archive import SEGMENT_COM_ARCHIVE
from analytics.imports.source import Head, SourceFile, UnreadableFile
from analytics.imports.umami import UMAMI_TABLES

IMPORT_FORMATS = {
    each.name: each
    for each in (
        FOOTFALL_EXPORT,
        UMAMI_TABLES,
        ACCESS_LOG,
        MATOMO_LOG,
        GOATCOUNTER_EXPORT,
        SEGMENT_COM_ARCHIVE,
        POSTHOG_EXPORT,
        GA4_EXPORT,
        PLAUSIBLE_EXPORT,
    )
}


def detect(files: Sequence[SourceFile]) -> ImportFormat:
    """Return the format of these files. Raises UnreadableFile if no format fits all of them."""
    heads = [file.head() for file in files]
    for each in IMPORT_FORMATS.values():
        if all(_fits(each, head) for head in heads):
            return each
    names = ", ".join(str(file.path) for file in files)
    raise UnreadableFile(f"No format fits {names}. Name it with --format: {', '.join(IMPORT_FORMATS)}.")


def _fits(form: ImportFormat, head: Head) -> bool:
    try:
        return form.recognises(head)
    except MISREAD:
        return False
