"""Computes the expected answer of every report from raw documents, in the plainest way.

It is written from the specification, not from the engine, which is compared with it. Documents are those of MongoDB's
`events`, in any order, with aware UTC times. Nothing here is optimised, only `rounded` rounds, and nothing is computed
in floating point.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import product
from math import ceil, floor
from typing import Any, NamedTuple

import pycountry
import re2
from babel.numbers import format_compact_currency, format_currency

from analytics.queries.query import (
    DESCRIBED,
    MISSING_VALUE,
    PROPS,
    And,
    Condition,
    Done,
    Filter,
    Grain,
    Not,
    Or,
    Period,
    Query,
    function_of_numbers,
    missing,
)
from analytics.sites.site import Goal

Document = dict[str, Any]
Group = tuple[str, ...]
Visitor = tuple[str, str]  # the site and the id

LONGEST_GAP = timedelta(minutes=30)
MOST_PATHS = 10
# Every bucket but the first and the last of a period is longer, even if clocks change by half an hour.
STEP = timedelta(minutes=15)
MILLISECOND = timedelta(milliseconds=1)


class Row(NamedTuple):
    dimensions: Group
    metrics: tuple[Any, ...]


@dataclass(frozen=True)
class Answer:
    """An answer. `total_rows`: the number of rows before limit and offset."""

    rows: list[Row]
    total_rows: int


# Events and visits


def is_pageview(event: Document) -> bool:
    return event["event_type"] in ("page_view", "pageview")


def is_engagement(event: Document) -> bool:
    return bool(event["event_type"] == "engagement")


def is_custom(event: Document) -> bool:
    return not is_pageview(event) and not is_engagement(event)


def visitor_of(event: Document) -> Visitor | None:
    """The visitor, who belongs to one site."""
    who = event.get("user_id") or event.get("visitor_id")
    return (event["site_id"], who) if who else None


def in_order(events: Iterable[Document]) -> list[Document]:
    return sorted(events, key=lambda event: (event["timestamp"], _arrival(event), event["_id"]))


def _arrival(event: Document) -> list[int]:
    """The place of an event in the order of arrival: its `sequence`, or the id of its journal entry.

    Events that did not come through the journal are first.
    """
    return [int(number) for number in (event.get("sequence") or event.get("entry_id") or "0-0").split("-")]


@dataclass(frozen=True, eq=False)  # a visit equals only itself
class Visit:
    """A visit. `events`: in order. The first is the entry, and is no engagement."""

    events: tuple[Document, ...]

    @property
    def entry(self) -> Document:
        return self.events[0]

    @property
    def pageviews(self) -> list[Document]:
        return [event for event in self.events if is_pageview(event)]

    @property
    def duration(self) -> timedelta:
        length: timedelta = self.events[-1]["timestamp"] - self.entry["timestamp"]
        return length

    @property
    def is_bounce(self) -> bool:
        acted = any(is_custom(event) and event.get("interactive") is not False for event in self.events)
        return len(self.pageviews) == 1 and not acted


def visits_of(documents: Iterable[Document]) -> list[Visit]:
    """The visits of every visitor of every site, in no particular order."""
    events_of: dict[Visitor, list[Document]] = {}
    for event in documents:
        visitor = visitor_of(event)
        if visitor is not None:
            events_of.setdefault(visitor, []).append(event)
    return [visit for events in events_of.values() for visit in _visits_of_one(in_order(events))]


def _visits_of_one(events: list[Document]) -> Iterator[Visit]:
    intervals: list[list[Document]] = []
    for event in events:
        if not intervals or event["timestamp"] - intervals[-1][-1]["timestamp"] > LONGEST_GAP:
            intervals.append([])
        intervals[-1].append(event)
    for interval in intervals:
        while interval and is_engagement(interval[0]):  # an engagement cannot begin a visit
            interval.pop(0)
        if interval:
            yield Visit(tuple(interval))


# Values of dimensions


def text_of(value: object) -> str | None:
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case float():
            return repr(value)
        case _:
            return str(value)


@cache
def country_name(code: str) -> str:
    found = pycountry.countries.get(alpha_2=code)
    return str(found.name) if found else code


@cache
def region_name(code: str) -> str:
    found = pycountry.subdivisions.get(code=code)
    return str(found.name) if found else code


NAMED: dict[str, tuple[str, Callable[[str], str]]] = {
    "country_name": ("country", country_name),
    "region_name": ("region", region_name),
    "city_name": ("city", str),
}


def time_label(moment: datetime, grain: Grain, period: Period) -> str:
    local = moment.astimezone(period.zone)
    day = local.date()
    match grain:
        case "hour":
            return f"{day.isoformat()} {local.hour:02}:00:00"
        case "day":
            return day.isoformat()
        case "week":
            return (day - timedelta(days=day.weekday())).isoformat()
        case "month":
            return day.replace(day=1).isoformat()


@cache
def time_labels(period: Period, grain: Grain) -> tuple[str, ...]:
    """The labels of all buckets that the period touches, each once, in order of time."""
    labels: dict[str, None] = {}
    moment = period.start
    while moment < period.end:
        labels[time_label(moment, grain, period)] = None
        moment += STEP
    if period.start < period.end:
        labels[time_label(period.end - MILLISECOND, grain, period)] = None
    return tuple(labels)


def meets(event: Document, goal: Goal) -> bool:
    if goal.page is not None:
        return is_pageview(event) and bool(event.get("path")) and page_fits(goal.page, event["path"])
    if goal.event_type in ("page_view", "pageview"):
        return is_pageview(event)
    return bool(event["event_type"] == goal.event_type)


def page_fits(pattern: str, path: str) -> bool:
    meanings = {"**": ".*", "*": "[^/]*"}
    parts = re.split(r"(\*\*|\*)", pattern)
    return re.fullmatch("".join(meanings.get(part, re.escape(part)) for part in parts), path, re.DOTALL) is not None


class Asked:
    """The events of the query's sites as the query sees them.

    `within`: the events of the period (E in the specification). `fitting`: those that fit the filters (M). Both are in
    order.
    """

    def __init__(self, documents: Iterable[Document], query: Query) -> None:
        self.query = query
        of_site = in_order(event for event in documents if event["site_id"] in query.site_ids)
        self._visits = {event["_id"]: visit for visit in visits_of(of_site) for event in visit.events}
        self.within = [x for x in of_site if query.period.start <= x["timestamp"] < query.period.end]
        self.fitting = self.fitting_all(query.filters)

    def fitting_all(self, filters: Iterable[Filter]) -> list[Document]:
        filters = tuple(filters)
        return [event for event in self.within if all(self.fits(event, each) for each in filters)]

    def visit_of(self, event: Document) -> Visit | None:
        return self._visits.get(event["_id"])

    def fits(self, event: Document, wanted: Filter) -> bool:
        match wanted:
            case And(inner):
                return all(self.fits(event, each) for each in inner)
            case Or(inner):
                return any(self.fits(event, each) for each in inner)
            case Not(one):
                return not self.fits(event, one)
            case Done(one):
                visit = self.visit_of(event)
                return visit is not None and any(
                    self.visit_of(other) is visit and self.fits(other, one) for other in self.within
                )
            case Condition(_, "visit:duration" | "visit:views"):
                visit = self.visit_of(event)
                return visit is not None and any(_compares(visit, wanted, int(each)) for each in wanted.values)
            case Condition():
                return any(satisfies(value, wanted) for value in self._compared(event, wanted))

    def _compared(self, event: Document, wanted: Condition) -> list[str]:
        """The values that are compared.

        The word for a missing value can be equal to a value, but is not searched in.
        """
        values = self.values(event, wanted.dimension)
        is_missing = wanted.dimension != "event:goal" and self._value(event, wanted.dimension) in (None, "")
        return [] if is_missing and wanted.operator != "is" else values

    def values(self, event: Document, dimension: str) -> list[str]:
        """The values of a dimension: one. For event:goal there is one per goal that the event meets."""
        if dimension == "event:goal":
            return sorted({goal.name for goal in self.query.goals if meets(event, goal)})
        if dimension.startswith("time:"):
            return [time_label(event["timestamp"], dimension.removeprefix("time:"), self.query.period)]  # type: ignore[arg-type]
        return [self._value(event, dimension) or missing(dimension)]

    def _value(self, event: Document, dimension: str) -> str | None:
        """The value. None or "" if it is missing."""
        if dimension.startswith(PROPS):
            return text_of((event.get("props") or {}).get(dimension.removeprefix(PROPS)))
        kind, name = dimension.split(":")
        if kind == "event":
            if name == "name":
                return "pageview" if is_pageview(event) else event["event_type"]
            return event.get({"page": "path", "hostname": "hostname"}[name])
        return self._value_of_visit(event, name)

    def _value_of_visit(self, event: Document, name: str) -> str | None:
        visit = self.visit_of(event)
        if name.startswith(("entry_page", "exit_page")):
            if visit is None or not visit.pageviews:
                return None
            page = visit.pageviews[0 if name.startswith("entry") else -1]
            return page.get("hostname" if name.endswith("hostname") else "path")
        entry = visit.entry if visit else event
        if name in NAMED:
            described, name_of = NAMED[name]
            return name_of(entry[described]) if entry.get(described) else None
        assert name in DESCRIBED
        return entry.get(name)

    def groups(self, event: Document, dimensions: Sequence[str]) -> list[Group]:
        """The groups in which the event counts: one. For event:goal there may be several or none."""
        return list(product(*(self.values(event, dimension) for dimension in dimensions)))


def _compares(visit: Visit, wanted: Condition, number: int) -> bool:
    seconds = rounded(Fraction(visit.duration // MILLISECOND, 1000), 0)
    given = seconds if wanted.dimension == "visit:duration" else len(visit.pageviews)
    return {"is": given == number, "greater": given > number, "less": given < number}[wanted.operator]


def satisfies(value: str, condition: Condition) -> bool:
    """Whether a value satisfies the condition. If case does not matter, RE2 decides which texts are the same."""
    case = "" if condition.case_sensitive else "(?i)"
    match condition.operator:
        case "is" if condition.case_sensitive:
            return value in condition.values
        case "is":
            return any(re2.fullmatch(case + re2.escape(wanted), value) for wanted in condition.values)
        case "contains" if condition.case_sensitive:
            return any(wanted in value for wanted in condition.values)
        case "contains":
            return any(re2.search(case + re2.escape(wanted), value) for wanted in condition.values)
        case "matches":
            return any(re2.search(case + wanted, value) for wanted in condition.values)


# Numbers


def rounded(number: Fraction, digits: int) -> Fraction:
    """Rounds half away from zero."""
    scaled = abs(number) * 10**digits
    size = Fraction(floor(scaled + Fraction(1, 2)), 10**digits)
    return size if number >= 0 else -size


def share(part: int, whole: int) -> float:
    return float(rounded(Fraction(100 * part, whole), 2)) if whole else 0.0


def visitors(rows: Iterable[Document]) -> set[Visitor]:
    return {visitor for row in rows if (visitor := visitor_of(row)) is not None}


def money(amount: Decimal, currency: str) -> dict[str, Any]:
    return {
        "value": float(amount),
        "currency": currency,
        "short": format_compact_currency(amount, currency, locale="en_US", fraction_digits=1),
        "long": format_currency(amount, currency, locale="en_US"),
    }


def answer(documents: Sequence[Document], query: Query) -> Answer:
    """The answer for the period. The answer for a comparison is `answer(documents,
    query.in_period(query.compare_with))`.
    """
    asked = Asked(documents, query)
    groups: dict[Group, list[Document]] = {}
    for event in asked.fitting:
        for group in asked.groups(event, query.dimensions):
            groups.setdefault(group, []).append(event)
    if not query.dimensions:
        groups.setdefault((), [])
    if query.time_labels:
        for group in _every_label(query, list(groups)):
            groups.setdefault(group, [])
    rows = [
        Row(group, tuple(_metric(asked, name, group, rows) for name in query.metrics)) for group, rows in groups.items()
    ]
    rows = _ordered(rows, query)
    return Answer(rows[query.offset : query.offset + query.limit], len(rows))


def _every_label(query: Query, groups: list[Group]) -> Iterator[Group]:
    """The groups that occur, at every label of the period."""
    assert query.grain
    place = query.dimensions.index(f"time:{query.grain}")
    others = {(group[:place], group[place + 1 :]) for group in groups}
    if len(query.dimensions) == 1:
        others = {((), ())}
    for before, after in others:
        for label in time_labels(query.period, query.grain):
            yield (*before, label, *after)


def _metric(asked: Asked, name: str, group: Group, rows: list[Document]) -> Any:  # noqa: PLR0911, PLR0912  one each
    """The value of a metric for the rows of a group."""
    visits = {visit for row in rows if (visit := asked.visit_of(row)) is not None}
    match name:
        case "visitors":
            return len(visitors(rows))
        case "visits":
            return len(visits)
        case "pageviews":
            return sum(is_pageview(row) for row in rows)
        case "events":
            return sum(not is_engagement(row) for row in rows)
        case "bounce_rate":
            bounces = sum(visit.is_bounce for visit in visits)
            return int(rounded(Fraction(100 * bounces, len(visits)), 0)) if visits else 0
        case "visit_duration":
            milliseconds = sum(visit.duration // MILLISECOND for visit in visits)
            return int(rounded(Fraction(milliseconds, 1000 * len(visits)), 0)) if visits else 0
        case "views_per_visit":
            views = sum(len(visit.pageviews) for visit in visits)
            return float(rounded(Fraction(views, len(visits)), 2)) if visits else 0.0
        case "percentage":
            return share(len(visitors(rows)), len(visitors(asked.fitting)))
        case "conversion_rate":
            kept = [dimension for dimension in asked.query.dimensions if dimension.startswith("time:")]
            return share(len(visitors(rows)), _visitors_anyway(asked, group, kept))
        case "group_conversion_rate":
            kept = [dimension for dimension in asked.query.dimensions if dimension != "event:goal"]
            return share(len(visitors(rows)), _visitors_anyway(asked, group, kept))
        case "scroll_depth":
            return _scroll_depth(asked, rows)
        case "time_on_page":
            times = [row["engagement_time"] for row in rows if row.get("engagement_time") is not None]
            if not times:
                return None
            return int(rounded(Fraction(sum(times), 1000 * len(visits)), 0)) if visits else 0
        case "total_revenue" | "average_revenue":
            return _revenue(asked, name, group, rows)
    asked_of = function_of_numbers(name)
    assert asked_of, name
    function, key = asked_of
    numbers = sorted(number for row in rows if (number := number_of(row, key)) is not None)
    return _of_numbers(function, numbers)


def number_of(event: Document, key: str) -> Fraction | None:
    """The number that the event has as a property, with nine decimals."""
    text = text_of((event.get("props") or {}).get(key)) or ""
    if is_engagement(event) or not re.fullmatch(r"-?[0-9]{1,19}([.][0-9]+)?([eE][+-]?[0-9]+)?", text):
        return None
    number = rounded(Fraction(text), 9)
    return number if abs(number) < 10**19 else None


def _of_numbers(function: str, numbers: list[Fraction]) -> Fraction | int | None:
    match function:
        case "count":
            return len(numbers)
        case _ if not numbers:
            return None
        case "sum":
            return sum(numbers, Fraction(0))
        case "average":
            return rounded(sum(numbers, Fraction(0)) / len(numbers), 9)
    place = (len(numbers) - 1) * {"median": Fraction(1, 2), "p75": Fraction(3, 4), "p90": Fraction(9, 10)}[function]
    below, above = numbers[floor(place)], numbers[ceil(place)]
    return rounded(below + (place - floor(place)) * (above - below), 9)


def _visitors_anyway(asked: Asked, group: Group, kept: Sequence[str]) -> int:
    """The visitors with the same values of the `kept` dimensions, regardless of filters by goals and props."""

    def is_of_goals_or_props(wanted: Filter) -> bool:
        condition = wanted.filter if isinstance(wanted, Not) else wanted
        return isinstance(condition, Condition) and condition.dimension.startswith(("event:goal", PROPS))

    values = dict(zip(asked.query.dimensions, group, strict=True))
    same = tuple(values[dimension] for dimension in kept)
    everybody = asked.fitting_all(each for each in asked.query.filters if not is_of_goals_or_props(each))
    return len(visitors(event for event in everybody if asked.groups(event, kept) == [same]))


def _scroll_depth(asked: Asked, rows: list[Document]) -> int | None:
    deepest: dict[tuple[Visitor, str], int] = {}
    for row in rows:
        visitor, depth = visitor_of(row), row.get("scroll_depth")
        if visitor is not None and depth is not None:
            of_page = (visitor, row.get("path") or MISSING_VALUE)
            deepest[of_page] = max(depth, deepest.get(of_page, 0))
    return int(rounded(Fraction(sum(deepest.values()), len(deepest)), 0)) if deepest else None


def _revenue(asked: Asked, name: str, group: Group, rows: list[Document]) -> dict[str, Any] | None:
    revenues = [row["revenue"] for row in rows if row.get("revenue") is not None]
    if "event:goal" in asked.query.dimensions:
        of_group = group[asked.query.dimensions.index("event:goal")]
        (currency,) = {goal.currency for goal in asked.query.goals if goal.name == of_group}
        revenues = [revenue for revenue in revenues if currency in (None, revenue["currency"])]
    if len({revenue["currency"] for revenue in revenues}) != 1:
        return None
    total = sum((Fraction(revenue["amount"].to_decimal()) for revenue in revenues), Fraction(0))
    if name == "average_revenue":
        total = rounded(total / len(revenues), 3)
    return money(Decimal(int(total * 1000)) / 1000, revenues[0]["currency"])


def _ordered(rows: list[Row], query: Query) -> list[Row]:
    """Sorts by each key in turn, the last first, because sorting is stable."""
    rows = sorted(rows, key=lambda row: row.dimensions)
    if query.order_by:
        orders = [(order.key, order.descending) for order in query.order_by]
    elif query.grain:
        orders = [(f"time:{query.grain}", False)]
    else:
        orders = [(query.metrics[0], True)]
    for key, descending in reversed(orders):
        rows = _ordered_by(rows, _key(query, key), descending)
    return rows


def _key(query: Query, key: str) -> Callable[[Row], Any]:
    if key in query.dimensions:
        place = query.dimensions.index(key)
        return lambda row: row.dimensions[place]
    place = query.metrics.index(key)

    def metric(row: Row) -> Any:
        value = row.metrics[place]
        return value["value"] if isinstance(value, dict) else value

    return metric


def _ordered_by(rows: list[Row], key: Callable[[Row], Any], descending: bool) -> list[Row]:
    known = [row for row in rows if key(row) is not None]
    unknown = [row for row in rows if key(row) is None]
    return sorted(known, key=key, reverse=descending) + unknown


# The other reports


def stats(documents: Sequence[Document], day: date | None) -> dict[str, Any]:
    """The answer of GET /stats for one site's documents, for a UTC day, or for all time without one."""
    events = [event for event in documents if day is None or event["timestamp"].astimezone(UTC).date() == day]
    views = Counter(event["path"] for event in events if is_pageview(event) and event.get("path") is not None)
    most = sorted(views.items(), key=lambda row: (-row[1], row[0]))[:MOST_PATHS]
    return {
        "total_views": sum(map(is_pageview, events)),
        "unique_users": len(visitors(events)),
        "top_paths": [{"path": path, "views": count} for path, count in most],
    }


def funnel(documents: Sequence[Document], query: Query, steps: Sequence[Filter], window: timedelta | None) -> list[int]:
    """The number of visitors (with a window) or visits (without one) that reached each step."""
    asked = Asked(documents, query)
    walks: dict[object, list[Document]] = {}
    for event in asked.fitting:
        walker = asked.visit_of(event) if window is None else visitor_of(event)
        if walker is not None:
            walks.setdefault(walker, []).append(event)
    reached = [_steps_reached(asked, walk, steps, window) for walk in walks.values()]
    return [sum(far > step for far in reached) for step in range(len(steps))]


def _steps_reached(asked: Asked, walk: list[Document], steps: Sequence[Filter], window: timedelta | None) -> int:
    """The most steps reached from any start.

    From a start, the earliest event for each step leaves most time for the others.
    """
    best = 0
    for place, start in enumerate(walk):
        if not asked.fits(start, steps[0]):
            continue
        reached = 1
        for event in walk[place + 1 :]:
            in_time = window is None or event["timestamp"] - start["timestamp"] <= window
            if in_time and reached < len(steps) and asked.fits(event, steps[reached]):
                reached += 1
        best = max(best, reached)
    return best


def retention(documents: Sequence[Document], query: Query, grain: Grain) -> list[tuple[str, int, list[int]]]:
    """For each cohort with visitors, in order of time: its label, its size, and its visitors in each period."""
    labels = time_labels(query.period, grain)
    came: dict[Visitor, list[str]] = {}
    for event in Asked(documents, query).fitting:
        visitor = visitor_of(event)
        if visitor is not None:
            came.setdefault(visitor, []).append(time_label(event["timestamp"], grain, query.period))
    cohorts: dict[str, list[Visitor]] = {}
    for visitor, buckets in came.items():
        cohorts.setdefault(buckets[0], []).append(visitor)
    return [
        (label, len(cohort), [sum(later in came[visitor] for visitor in cohort) for later in labels[first:]])
        for first, label in enumerate(labels)
        if (cohort := cohorts.get(label))
    ]


Steps = list[tuple[str | None, int]]


def journeys(documents: Sequence[Document], query: Query, page: str) -> tuple[Steps, Steps]:
    """The pages after `page` and before it in visits: paths, the most frequent first.

    None is the visit's end or beginning.
    """
    asked = Asked(documents, query)
    following: Counter[str | None] = Counter()
    previous: Counter[str | None] = Counter()
    for event in asked.fitting:
        visit = asked.visit_of(event)
        if visit is None or not is_pageview(event) or asked.values(event, "event:page") != [page]:
            continue
        pages = [view.get("path") or MISSING_VALUE for view in visit.pageviews]
        (place,) = [place for place, view in enumerate(visit.pageviews) if view["_id"] == event["_id"]]
        following[pages[place + 1] if place + 1 < len(pages) else None] += 1
        previous[pages[place - 1] if place > 0 else None] += 1
    return _most_first(following), _most_first(previous)


def _most_first(counts: Counter[str | None]) -> Steps:
    return sorted(counts.items(), key=lambda row: (-row[1], row[0] is None, row[0] or ""))
