"""Plausible's CSV export: daily totals by table, and no events. A table is recognised by its columns. Pure.

Source: plausible.io/docs/export-stats and plausible.io/docs/csv-import. Times are in seconds, scroll depths in percent.
Daily tables of another system can be imported too if their columns have these names.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from analytics.aggregates.day_total import DayTotal
from analytics.digest import digest_of
from analytics.enrichment.channels import TrafficOrigin, channel_of
from analytics.enrichment.sources import read_referrer, source_named
from analytics.events.coercion import text
from analytics.imports.format import ImportFormat, SkippedRow, described_place
from analytics.imports.source import Head, SourceFile

_LONGEST = 2048  # characters of a value
_MOST = 10**12  # of one number
_PAGEVIEW = "pageview"
_DIRECT = "Direct / None"
_SYSTEMS = {"Mac": "macOS", "GNU/Linux": "Linux"}
_UTM = ("utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term")
_OF_VISITS = {
    "visitors": "visitors", "visits": "visits", "pageviews": "pageviews", "bounces": "bounces",
    "visit_duration": "durations",
}  # fmt: skip
_OF_PAGES = {
    "visitors": "visitors", "visits": "visits", "pageviews": "pageviews", "total_time_on_page": "engaged",
    "total_time_on_page_visits": "timed", "total_scroll_depth": "depths", "total_scroll_depth_visits": "scrolled",
}  # fmt: skip
_OF_CUSTOM_EVENTS = {"visitors": "visitors", "events": "events"}


@dataclass(frozen=True, slots=True)
class _Layout:
    """A table of the export: the name of ours, and its columns and numbers by their names in ours."""

    table: str
    columns: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, str] = field(default_factory=lambda: _OF_VISITS)


# By the column that only this table has.
_LAYOUTS = {
    "page": _Layout("pages", {"page": "page", "hostname": "hostname"}, _OF_PAGES),
    "entry_page": _Layout("entry_pages", {"entry_page": "entry_page"}, {**_OF_VISITS, "entrances": "visits"}),
    "exit_page": _Layout("exit_pages", {"exit_page": "exit_page"}, {**_OF_VISITS, "exits": "visits"}),
    "source": _Layout("sources", {name: name for name in ("source", "referrer", *_UTM)}),
    "country": _Layout("places", {name: name for name in ("country", "region", "city")}),
    "device": _Layout("devices", {"device": "device"}),
    "browser": _Layout("browsers", {"browser": "browser", "browser_version": "browser_version"}),
    "operating_system": _Layout("systems", {"operating_system": "os", "operating_system_version": "os_version"}),
    "link_url": _Layout("custom_events", {"name": "name", "link_url": "url", "path": "path"}, _OF_CUSTOM_EVENTS),
    "property": _Layout("props", {"property": "prop", "value": "value"}, _OF_CUSTOM_EVENTS),
}
_TOTAL = _Layout("total")


def recognises(head: Head) -> bool:
    return {"date", "visitors"} <= head.columns and _layout_of(head.columns) is not None


def read(files: Sequence[SourceFile]) -> Iterator[Mapping[str, str]]:
    return (row for file in files for row in file.csv_rows())


def translate(row: Mapping[str, str]) -> Iterator[DayTotal | SkippedRow]:
    layout = _layout_of(row.keys())
    if layout is None:
        yield SkippedRow("not_readable")
        return
    day = datetime.strptime(row["date"], "%Y%m%d" if row["date"].isdigit() else "%Y-%m-%d").date()  # noqa: DTZ007 a day
    said = {ours: row[theirs] for theirs, ours in layout.columns.items() if theirs in row}
    group = {name: value for name, given in _described(layout.table, said).items() if (value := text(given, _LONGEST))}
    counts = {ours: _count(row[theirs]) for theirs, ours in layout.counts.items() if row.get(theirs)}
    key = "\0".join(value for name, value in row.items() if name not in ("date", *layout.counts))
    yield DayTotal(layout.table, day, digest_of(key), group, counts)
    if layout.table == "total":  # pageviews are events too, so that the shares of custom events are of all visitors
        seen = {"visitors": counts["visitors"], "events": counts.get("pageviews", 0)}
        yield DayTotal("custom_events", day, _PAGEVIEW, {"name": _PAGEVIEW}, seen)


def _layout_of(columns: Collection[str]) -> _Layout | None:
    """The table with these columns. The totals of a day have no other column."""
    found = next((layout for name, layout in _LAYOUTS.items() if name in columns), None)
    return found or (_TOTAL if {"date", *_OF_VISITS}.issuperset(columns) else None)


def _described(table: str, said: Mapping[str, str]) -> Mapping[str, str | None]:
    """The values as Footfall writes them."""
    match table:
        case "sources":
            return _origin(said)
        case "places":  # Plausible writes cities as numbers, and Footfall has their names
            return described_place(said["country"], said.get("region"))
        case "systems":
            return {**said, "os": _SYSTEMS.get(said["os"], said["os"])}
    return said


def _origin(said: Mapping[str, str]) -> dict[str, str | None]:
    named = "" if said["source"] == _DIRECT else said["source"]
    source = source_named(named) if named else None
    medium, campaign = (said.get(f"utm_{name}", "").lower() for name in ("medium", "campaign"))
    origin = TrafficOrigin(source.name.lower(), source.kind, medium, campaign) if source else TrafficOrigin("")
    referrer = read_referrer(said.get("referrer", ""))
    return {
        **said,
        "source": source.name if source else None,
        "channel": channel_of(origin),
        "referrer": referrer.text if referrer else None,
    }


def _count(written: str) -> int:
    """Raises ValueError for a number that no table has."""
    number = round(float(written))
    if not 0 <= number <= _MOST:
        raise ValueError(f"{written[:20]} is not a count")
    return number


PLAUSIBLE_EXPORT = ImportFormat(
    name="plausible",
    title="Plausible's export, or other daily totals",
    mapping={
        "visitors": "the totals of a day",
        "pages, entry_pages, exit_pages": "the totals of a page",
        "sources": "by source, channel, referrer and utm_...",
        "locations": "by country and region",
        "devices, browsers, systems": "the same, by our names",
        "custom_events": "by event:name, and props url and path",
        "custom_props": "by each property alone",
        "city": "not imported",
    },
    recognises=recognises,
    read=read,
    translate=translate,
    is_daily=True,
)
