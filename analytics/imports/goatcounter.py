"""GoatCounter's export of pageviews, as CSV of version 1 or 2. Pure.

Source: goatcounter.com/help/export. The name of the first column begins with the version. A row has no id.
"""

from collections.abc import Iterator, Mapping, Sequence

from analytics.events.coercion import page, props, text, without_nothing
from analytics.imports.format import ImportFormat, SkippedRow, SourceEvent, described_place, in_utc
from analytics.imports.source import Head, SourceFile, keyed
from analytics.visitors.client import Client

_FALSE = ("", "0", "false")
_FROM_WEB = "h"  # Referrer scheme: the referrer is a URL, without its scheme
_FROM_CAMPAIGN = "c"


def recognises(head: Head) -> bool:
    is_first = bool({"1Path", "2Path"} & head.columns)
    return is_first and {"Event", "Session", "Bot", "Date"} <= head.columns


def read(files: Sequence[SourceFile]) -> Iterator[tuple[str, Mapping[str, str]]]:
    return keyed((row for file in files for row in file.csv_rows()), lambda row: "\0".join(row.values()))


def translate(row: tuple[str, Mapping[str, str]]) -> Iterator[SourceEvent | SkippedRow]:
    key, hit = row
    if hit["Bot"] not in _FALSE:
        yield SkippedRow("bot")
        return
    path = hit.get("2Path") or hit.get("1Path", "")
    is_event = hit["Event"].lower() not in _FALSE
    event = ({} if is_event else page(path)) | {
        "event_type": text(path, 128) if is_event else "pageview",
        "event_id": f"goatcounter:{key}",
        "timestamp": in_utc(hit["Date"]),
        "screen": _screen(hit.get("Screen size", "")),
        "props": props({"title": hit.get("Title")}),
        **_origin(hit.get("Referrer", ""), hit.get("Referrer scheme", "")),
        **_place(hit.get("Location", "")),
        **_named("browser", hit.get("Browser", "")),
        **_named("os", hit.get("System", "")),
    }
    # Version 1, and 2 with its full data, have the user agent, which says more than the two names.
    client = Client(user_agent=hit.get("UserAgent", "")[:1024])
    yield SourceEvent(without_nothing(event), visitor=hit["Session"], client=client)


def _origin(referrer: str, scheme: str) -> dict[str, str | None]:
    if scheme == _FROM_WEB or (not scheme and "." in referrer):
        return {"referrer": text(referrer if "://" in referrer else f"https://{referrer}", 2048)}
    return {"utm_source" if scheme == _FROM_CAMPAIGN else "source": text(referrer, 255)}


def _place(location: str) -> dict[str, str | None]:
    country, _, region = location.partition("-")
    return described_place(country, region)


def _named(name: str, written: str) -> dict[str, str | None]:
    """`Firefox 140` as a name and a version."""
    words, _, version = written.rpartition(" ")
    is_version = bool(words) and version[:1].isdigit()
    return {name: text(words if is_version else written, 128), f"{name}_version": version if is_version else None}


def _screen(written: str) -> str | None:
    """`1920,1080,2` (the last is the density) as `1920x1080`."""
    parts = written.split(",")
    return "x".join(part.partition(".")[0] for part in parts[:2]) if len(parts) > 1 and parts[0] != "0" else None


GOATCOUNTER_EXPORT = ImportFormat(
    name="goatcounter",
    title="GoatCounter's export",
    mapping={
        "a path; with Event": "pageview; an event of that type",
        "Session": "visitor_id, hashed",
        "Referrer": "referrer, source or utm_source",
        "Browser, System, Location": "browser, os, country and region",
        "Screen size, Title": "screen, props.title",
        "rows of bots": "not imported",
    },
    recognises=recognises,
    read=read,
    translate=translate,
)
