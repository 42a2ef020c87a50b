"""A question about one site. Pure: query_schema.py makes it from JSON, reports.py answers it.

What each metric, dimension and filter means is written for its readers in docs/reports.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from analytics.events.event import DESCRIBED
from analytics.interval import Interval
from analytics.sites.site import Goal

# The metrics, by what they are asked of: each of them is one number (or, of revenue, one object) for a group of events.
COUNTS = ("visitors", "visits", "pageviews", "events")
OF_VISITS = ("views_per_visit", "bounce_rate", "visit_duration")
OF_PAGES = ("scroll_depth", "time_on_page")  # need event:page, as a dimension or in a filter
OF_GOALS = ("conversion_rate", "group_conversion_rate")  # need event:goal, likewise
OF_MONEY = ("total_revenue", "average_revenue")
SHARES = ("percentage",)  # needs a dimension
METRICS = (*COUNTS, *OF_VISITS, *OF_PAGES, *OF_GOALS, *OF_MONEY, *SHARES)

_NAMED = ("country_name", "region_name", "city_name")
EVENT_DIMENSIONS = ("event:goal", "event:page", "event:hostname", "event:name")
# DESCRIBED: each event has its own; a visit has those of its entry, its first event.
VISIT_DIMENSIONS = tuple(
    f"visit:{name}"
    for name in ("entry_page", "entry_page_hostname", "exit_page", "exit_page_hostname", *DESCRIBED, *_NAMED)
)
GRAINS: tuple["Grain", ...] = ("hour", "day", "week", "month")
TIME_DIMENSIONS = tuple(f"time:{grain}" for grain in GRAINS)
PROPS = "event:props:"  # and the property's name

# What a dimension says of an event that has no value for it; filters compare with the same word.
MISSING = {"visit:source": "Direct / None"}
MISSING_PROP = "(none)"
MISSING_VALUE = "(not set)"


def missing(dimension: str) -> str:
    return MISSING_PROP if dimension.startswith(PROPS) else MISSING.get(dimension, MISSING_VALUE)


Grain = Literal["hour", "day", "week", "month"]
Operator = Literal["is", "contains", "matches"]


@dataclass(frozen=True, slots=True)
class Condition:
    """The event's value of `dimension` is, contains or matches (RE2, anywhere in it) one of `values`.

    `place`: a JSON pointer to where the asker wrote it.
    """

    operator: Operator
    dimension: str
    values: tuple[str, ...]
    case_sensitive: bool = True
    place: str = "#/filters"


@dataclass(frozen=True, slots=True)
class And:
    filters: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Or:
    filters: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Not:
    filter: "Filter"


@dataclass(frozen=True, slots=True)
class Done:
    """Some event of the same visit, within the period, fits `filter`. An event of no visit has never done anything."""

    filter: "Filter"


Filter = Condition | And | Or | Not | Done


def conditions(filters: tuple[Filter, ...]) -> Iterator[Condition]:
    """Every condition, however deep it stands."""
    for each in filters:
        match each:
            case Condition():
                yield each
            case And(inner) | Or(inner):
                yield from conditions(inner)
            case Not(one) | Done(one):
                yield from conditions((one,))


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` up to, not including, `end`: aware UTC, whole milliseconds. Days and hours are those of `zone`."""

    start: datetime
    end: datetime
    zone: ZoneInfo

    def days(self) -> int:
        """How many of the zone's days it touches."""
        if self.end <= self.start:
            return 0
        return (self.last_day() - self.first_day()).days + 1

    def first_day(self) -> date:
        return self.start.astimezone(self.zone).date()

    def last_day(self) -> date:
        return (self.end - timedelta(milliseconds=1)).astimezone(self.zone).date()


def of_days(first: date, last: date, zone: ZoneInfo) -> Period:
    """Both days are in it."""
    return Period(midnight(first, zone), midnight(last + timedelta(days=1), zone), zone)


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """When the day begins there, as UTC. Where clocks skip midnight, that is the first moment after the gap."""
    start = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
    # In a gap, the conversion goes by the offset before it, which ends up after it: the moment of the change is meant.
    if start.astimezone(zone).replace(tzinfo=None) != datetime(day.year, day.month, day.day):  # noqa: DTZ001  wall clock
        offset = datetime(day.year, day.month, day.day, fold=1, tzinfo=zone).utcoffset() or timedelta(0)
        before = start - timedelta(hours=3)
        while start - before > timedelta(milliseconds=1):
            middle = before + (start - before) / 2
            before, start = (before, middle) if middle.astimezone(zone).utcoffset() == offset else (middle, start)
    return start


_HOUR = timedelta(hours=1)


def count_labels(period: Period, grain: Grain) -> int:
    """How many labels the period has; off by some where the clocks change. Does not go through them."""
    if period.end <= period.start:
        return 0
    first, last = period.first_day(), period.last_day()
    match grain:
        case "hour":
            return -((period.start - period.end) // _HOUR)
        case "day":
            return period.days()
        case "week":
            return (last - first + timedelta(first.weekday())).days // 7 + 1
        case "month":
            return (last.year - first.year) * 12 + last.month - first.month + 1


@dataclass(frozen=True, slots=True)
class Order:
    """`key`: a metric or a dimension of the query."""

    key: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """`filters`: all of them must fit. `goals`: the site's. `compare_with`: another period, asked the same.

    `time_labels`: every bucket of the period has a row, events or none. `extent`: holds all events that there are, if
    that is known. It saves work and changes no answer.
    """

    site_id: str
    metrics: tuple[str, ...]
    period: Period
    dimensions: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    order_by: tuple[Order, ...] = ()
    limit: int = 10_000
    offset: int = 0
    time_labels: bool = False
    total_rows: bool = False
    compare_with: Period | None = None
    goals: tuple[Goal, ...] = ()
    extent: Interval | None = None

    @property
    def grain(self) -> Grain | None:
        """That of the time dimension, if there is one."""
        for grain in GRAINS:
            if f"time:{grain}" in self.dimensions:
                return grain
        return None

    def in_period(self, period: Period) -> "Query":
        return replace(self, period=period, compare_with=None)
