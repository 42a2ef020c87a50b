"""A query about one site, or about several sites as one. Pure: query_schema.py reads it from JSON, and
analytics/reports/engine.py answers it.

docs/reports.md explains each metric, dimension and filter for users.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from analytics.events.event import DESCRIBED
from analytics.interval import Interval, as_ms
from analytics.sites.site import Goal

# The metrics, grouped by what they measure. Each metric is one number (or, for revenue, one object) for a group of
# events.
COUNTS = ("visitors", "visits", "pageviews", "events")
OF_VISITS = ("views_per_visit", "bounce_rate", "visit_duration")
OF_PAGES = ("scroll_depth", "time_on_page")  # need event:page, as a dimension or in a filter
OF_GOALS = ("conversion_rate", "group_conversion_rate")  # need event:goal, as a dimension or in a filter
OF_MONEY = ("total_revenue", "average_revenue")
SHARES = ("percentage",)  # needs a dimension
METRICS = (*COUNTS, *OF_VISITS, *OF_PAGES, *OF_GOALS, *OF_MONEY, *SHARES)
# The functions of a metric of a property's numbers, such as "sum:props:price".
OF_NUMBERS = ("count", "sum", "average", "median", "p75", "p90")

_NAMED = ("country_name", "region_name", "city_name")
EVENT_DIMENSIONS = ("event:goal", "event:page", "event:hostname", "event:name")
# DESCRIBED: each event has its own values; a visit has the values of its entry, which is its first event.
VISIT_DIMENSIONS = tuple(
    f"visit:{name}"
    for name in ("entry_page", "entry_page_hostname", "exit_page", "exit_page_hostname", *DESCRIBED, *_NAMED)
)
GRAINS: tuple["Grain", ...] = ("hour", "day", "week", "month")
TIME_DIMENSIONS = tuple(f"time:{grain}" for grain in GRAINS)
PROPS = "event:props:"  # followed by the property's name

# Numbers of a visit, by which queries may filter: whole seconds, and pageviews.
VISIT_NUMBERS = ("visit:duration", "visit:views")

# The value that a dimension shows for an event without a value. Filters compare with the same text.
MISSING = {"visit:source": "Direct / None"}
MISSING_PROP = "(none)"
MISSING_VALUE = "(not set)"


def missing(dimension: str) -> str:
    return MISSING_PROP if dimension.startswith(PROPS) else MISSING.get(dimension, MISSING_VALUE)


Grain = Literal["hour", "day", "week", "month"]
Operator = Literal["is", "contains", "matches", "greater", "less"]


def function_of_numbers(metric: str) -> tuple[str, str] | None:
    """Return the function and the property of a metric such as "sum:props:price". None for any other metric."""
    function, _, prop = metric.partition(":props:")
    return (function, prop) if prop and function in OF_NUMBERS else None


@dataclass(frozen=True, slots=True)
class Condition:
    """The event's value of `dimension` is, contains or matches (RE2, anywhere in the value) one of `values`.

    A dimension of VISIT_NUMBERS is, is greater than or is less than one of `values`, which are whole numbers as text.
    `place` is a JSON pointer to the condition in the request.
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
    """An event of the same visit, within the period, matches `filter`. An event without a visit never matches."""

    filter: "Filter"


Filter = Condition | And | Or | Not | Done


def conditions(filters: tuple[Filter, ...]) -> Iterator[Condition]:
    """Yield every condition, at any depth."""
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
    """A period from `start` up to, but not including, `end`: aware UTC, whole milliseconds. Days and hours are those of
    `zone`.
    """

    start: datetime
    end: datetime
    zone: ZoneInfo

    @property
    def interval(self) -> Interval:
        return Interval(as_ms(self.start), as_ms(self.end))

    def days(self) -> int:
        """The number of the zone's days that the period touches."""
        if self.end <= self.start:
            return 0
        return (self.last_day() - self.first_day()).days + 1

    def first_day(self) -> date:
        return self.start.astimezone(self.zone).date()

    def last_day(self) -> date:
        return (self.end - timedelta(milliseconds=1)).astimezone(self.zone).date()


def of_days(first: date, last: date, zone: ZoneInfo) -> Period:
    """Return the period from `first` to `last`, including both days."""
    return Period(midnight(first, zone), midnight(last + timedelta(days=1), zone), zone)


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return when the day begins in the zone, as UTC. If clocks skip midnight, the day begins at the first moment after
    the gap.
    """
    start = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
    # If midnight is in a gap, the conversion uses the offset before the gap and gives a moment after the gap. Find the
    # moment of the change instead.
    if start.astimezone(zone).replace(tzinfo=None) != datetime(day.year, day.month, day.day):  # noqa: DTZ001  wall clock
        offset = datetime(day.year, day.month, day.day, fold=1, tzinfo=zone).utcoffset() or timedelta(0)
        before = start - timedelta(hours=3)
        while start - before > timedelta(milliseconds=1):
            middle = before + (start - before) / 2
            before, start = (before, middle) if middle.astimezone(zone).utcoffset() == offset else (middle, start)
    return start


_HOUR = timedelta(hours=1)


def count_labels(period: Period, grain: Grain) -> int:
    """Return the number of labels of the period without listing them. It may differ slightly if the clocks change."""
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
    """A sort key: a metric or a dimension of the query."""

    key: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A query about one site, or about several sites as one (a roll-up): `others` are counted with `site_id`. All
    `filters` must match. `goals` are the goals that all the sites have. `compare_with` is another period for which the
    same metrics are computed.

    `time_labels`: every bucket of the period has a row, even without events. `imports`: imported daily totals
    count too, if they can answer the query.
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
    others: tuple[str, ...] = ()
    imports: bool = False

    @property
    def site_ids(self) -> tuple[str, ...]:
        return (self.site_id, *self.others)

    @property
    def grain(self) -> Grain | None:
        """The grain of the time dimension, or None without one."""
        for grain in GRAINS:
            if f"time:{grain}" in self.dimensions:
                return grain
        return None

    def in_period(self, period: Period) -> "Query":
        return replace(self, period=period, compare_with=None)
