"""Writes the daily totals of a site as CSV files of Plausible's export. Plausible imports them, and so does
analytics/imports/plausible_export.py.

Each number comes from a query for one day. Sums that no metric states are products: the duration of all visits is the
mean, in whole seconds, times the visits. Callers must handle what Reports.answer raises, and SegmentsNotBuilt.
"""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from analytics.queries.query import Condition, Filter, Not, Period, Query, missing, of_days
from analytics.reports.results import Answer
from analytics.sites.site import Site

_MOST_ROWS = 1_000_000  # of a table and a day; an answer with more text is refused before
_SYSTEMS = {"macOS": "Mac", "Linux": "GNU/Linux"}
_UTM = ("utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term")

Ask = Callable[[Query], Answer]
Counts = Mapping[str, int]


class SegmentsNotBuilt(Exception):
    """So many events are new that an answer would leave some of them out."""


def _of_visits(visitors: int, visits: int, pageviews: int, bounce_rate: float, duration: int) -> Counts:
    bounces, seconds = round(visits * bounce_rate / 100), visits * duration
    both = {"visits": visits, "entrances": visits, "exits": visits, "bounces": bounces, "visit_duration": seconds}
    return {"visitors": visitors, "pageviews": pageviews, **both}


def _of_pages(visitors: int, visits: int, pageviews: int, seconds: int | None, depth: int | None) -> Counts:
    return {
        "visitors": visitors, "visits": visits, "pageviews": pageviews,
        "total_time_on_page": visits * (seconds or 0), "total_time_on_page_visits": visits if seconds else 0,
        "total_scroll_depth": visitors * (depth or 0),
        "total_scroll_depth_visits": 0 if depth is None else visitors,
    }  # fmt: skip


def _of_custom_events(visitors: int, events: int) -> Counts:
    return {"visitors": visitors, "events": events}


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of the export. `columns` split its numbers, and have the names of dimensions. A column without one is 0:
    Plausible has numbers for cities. `numbers` are the other columns, which `count` makes from the metrics.
    """

    name: str
    columns: Mapping[str, str] = field(default_factory=dict)
    numbers: Sequence[str] = ("visitors", "pageviews", "bounces", "visits", "visit_duration")
    metrics: tuple[str, ...] = ("visitors", "visits", "pageviews", "bounce_rate", "visit_duration")
    count: Callable[..., Counts] = _of_visits
    filters: tuple[Filter, ...] = ()


_TABLES = (
    _Table("visitors"),
    _Table(
        "pages",
        {"hostname": "event:hostname", "page": "event:page"},
        (
            *("visits", "visitors", "pageviews", "total_scroll_depth", "total_scroll_depth_visits"),
            *("total_time_on_page", "total_time_on_page_visits"),
        ),
        ("visitors", "visits", "pageviews", "time_on_page", "scroll_depth"),
        _of_pages,
    ),
    _Table(
        "entry_pages",
        {"entry_page": "visit:entry_page"},
        ("visitors", "entrances", "visit_duration", "bounces", "pageviews"),
    ),
    _Table(
        "exit_pages", {"exit_page": "visit:exit_page"}, ("visitors", "visit_duration", "exits", "bounces", "pageviews")
    ),
    _Table("sources", {name: f"visit:{name}" for name in ("source", "referrer", *_UTM)}),
    _Table("locations", {"country": "visit:country", "region": "visit:region", "city": ""}),
    _Table("devices", {"device": "visit:device"}),
    _Table("browsers", {"browser": "visit:browser", "browser_version": "visit:browser_version"}),
    _Table("operating_systems", {"operating_system": "visit:os", "operating_system_version": "visit:os_version"}),
    _Table(
        "custom_events",
        {"name": "event:name", "link_url": "event:props:url", "path": "event:props:path"},
        ("visitors", "events"),
        ("visitors", "events"),
        _of_custom_events,
        (Not(Condition("is", "event:name", ("pageview", "engagement"))),),
    ),
)


def days_with_events(ask: Ask, site: Site, period: Period) -> list[date]:
    """Return the days of the period with an event. Raises as `write_plausible_tables`."""
    found = _whole(ask(Query(site.site_id, ("events",), period, ("time:day",), limit=_MOST_ROWS)))
    return sorted(date.fromisoformat(row.dimensions[0]) for row in found.rows)


def write_plausible_tables(ask: Ask, site: Site, days: Sequence[date], folder: Path) -> Iterator[date]:
    """Write a file of each table into the folder, and yield each of the days, which are in order, when it is
    written. Replaces files of the same days. Raises SegmentsNotBuilt, and what `ask` raises.
    """
    with ExitStack() as opened:
        writers = []
        for table in _TABLES:
            path = folder / f"imported_{table.name}_{days[0]:%Y%m%d}_{days[-1]:%Y%m%d}.csv"
            writers.append(csv.writer(opened.enter_context(path.open("w", encoding="utf-8", newline=""))))
            writers[-1].writerow(["date", *table.columns, *table.numbers])
        for day in days:
            for table, writer in zip(_TABLES, writers, strict=True):
                writer.writerows(_rows(table, ask, site, day))
            yield day


def _rows(table: _Table, ask: Ask, site: Site, day: date) -> Iterator[list[Any]]:
    dimensions = tuple(filter(None, table.columns.values()))
    period = of_days(day, day, site.zone)
    asked = Query(site.site_id, table.metrics, period, dimensions, table.filters, limit=_MOST_ROWS)
    for row in _whole(ask(asked)).rows:
        shown = dict(zip(dimensions, row.dimensions, strict=True))
        counts = table.count(*row.metrics)
        cells = [_cell(dimension, shown.get(dimension, "0")) for dimension in table.columns.values()]
        yield [day, *cells, *(counts[number] for number in table.numbers)]


def _cell(dimension: str, shown: str) -> str:
    """The value as Plausible writes it: by its own names, and "" if there is none."""
    if dimension and shown == missing(dimension):
        return ""
    return _SYSTEMS.get(shown, shown) if dimension == "visit:os" else shown


def _whole(answer: Answer) -> Answer:
    """Raises SegmentsNotBuilt."""
    if answer.as_of:
        raise SegmentsNotBuilt
    return answer
