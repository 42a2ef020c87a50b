"""Daily totals that another system counted: the visitors, visits and pageviews of a site on a day, as a whole or by
some columns, such as the country. They are no events, and no event can be derived from them. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

_OF_VISITS = frozenset(("visitors", "visits", "pageviews", "bounces", "durations"))
_OF_CUSTOM_EVENTS = frozenset(("visitors", "events"))


@dataclass(frozen=True, slots=True)
class AggregateTable:
    """A table of daily totals. `columns` split its numbers, and have the names of the columns that reports read.
    `counts` are the numbers that it has. `durations` and `engaged` are in seconds, `depths` in percent of a page.

    `overlaps`: a visit may be in several rows of a day that differ in these columns, so that only pageviews and events
    may be added over such rows.
    """

    name: str
    columns: frozenset[str] = frozenset()
    counts: frozenset[str] = _OF_VISITS
    overlaps: frozenset[str] = frozenset()


def _table(name: str, *columns: str) -> AggregateTable:
    return AggregateTable(name, frozenset(columns))


# Reports choose the first table that fits.
AGGREGATE_TABLES = {
    table.name: table
    for table in (
        _table("total"),
        AggregateTable(
            "pages",
            frozenset(("page", "hostname")),
            frozenset(("visitors", "visits", "pageviews", "engaged", "timed", "depths", "scrolled")),
            overlaps=frozenset(("page",)),
        ),
        _table("entry_pages", "entry_page"),
        _table("exit_pages", "exit_page"),
        _table(
            "sources",
            *("source", "channel", "referrer"),
            *("utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term"),
        ),
        _table("places", "country", "region"),
        _table("devices", "device"),
        _table("browsers", "browser", "browser_version"),
        _table("systems", "os", "os_version"),
        AggregateTable(
            "custom_events",
            frozenset(("name", "url", "path")),
            _OF_CUSTOM_EVENTS,
            overlaps=frozenset(("name", "url", "path")),
        ),
        AggregateTable(
            "props",
            frozenset(("prop", "value")),
            _OF_CUSTOM_EVENTS,
            overlaps=frozenset(("value",)),
        ),
    )
}


@dataclass(frozen=True, slots=True)
class DayTotal:
    """The numbers of one group of a day, in the site's time zone. `group` has the values of the table's columns that
    are known, and `counts` its numbers. `key` identifies the group within the table and day of one import.
    """

    table: str
    day: date
    key: str
    group: Mapping[str, str]
    counts: Mapping[str, int]
