"""/ops/segments: the segments of each site, what is dirty, and a rebuild by the workers."""

from dataclasses import dataclass
from datetime import datetime

import structlog
from flask import Response, abort, request
from werkzeug.wrappers import Response as BaseResponse

from analytics.languages import gettext, ngettext
from analytics.segments.engine import Segments
from analytics.segments.store import SegmentSizes
from analytics.segments.verification import months_of
from report_app.console.access import owner
from report_app.console.console_page import console_page, done
from report_app.page_blueprint import PageBlueprint

log = structlog.get_logger()

MOST_ROWS_SHOWN = 500


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """`dirty`: hours with events that are in no segment yet. `months`: those that are left to build again."""

    site_id: str
    count: int
    rows: int
    size: int
    last_built: datetime | None
    dirty: int
    months: int


def add_segments(blueprint: PageBlueprint, segments: Segments) -> None:
    @blueprint.get("/ops/segments", endpoint="segments")
    def segments_page() -> Response:
        rows = _rows(segments, request.args.get("site", "").strip())
        size, dirty = sum(row.size for row in rows), sum(row.dirty for row in rows)
        return console_page("segments", rows=rows[:MOST_ROWS_SHOWN], count=len(rows), size=size, dirty=dirty)

    @blueprint.post("/ops/segments/rebuild")
    def rebuild_segments() -> BaseResponse:
        site_id = request.form.get("site", "")
        months = months_of(segments, site_id) or abort(400, gettext("site: There are no events of this site."))
        segments.backfill.add(site_id, months)
        log.info("rebuild_requested", site_id=site_id, months=len(months), by=str(owner().id))
        said = ngettext(
            "The workers build %(count)s month of %(site)s again. Reports use the old segments until then.",
            "The workers build %(count)s months of %(site)s again. Reports use the old segments until then.",
            len(months),
            site=site_id,
        )
        return done(said, "segments")


def _rows(segments: Segments, site_id: str) -> list[SegmentRow]:
    """The rows of all sites, or of one, the largest first."""
    dirty, months = segments.dirty.of_sites(), segments.backfill.of_sites()
    sizes = {each.site_id: each for each in segments.store.sizes()}
    sites = {*sizes, *dirty, *months}
    rows = [_row(sizes.get(name), name, dirty[name], months[name]) for name in sites if site_id in ("", name)]
    return sorted(rows, key=lambda row: (-row.size, row.site_id))


def _row(sizes: SegmentSizes | None, site_id: str, dirty: int, months: int) -> SegmentRow:
    of = sizes or SegmentSizes(site_id, 0, 0, 0, None)
    return SegmentRow(site_id, of.count, of.rows, of.size, of.last_built, dirty, months)
