"""Reads the JSON of `POST /api/v2/query` into a Query. Names and errors are those of Plausible's Stats API v2.

The input may be any JSON value. Only this module knows the JSON names of queries. It does not check whether RE2 accepts
a pattern. The engine does, and reports the condition's `place`. Callers must handle InvalidQuery, which says what is
wrong and points to where.

The parsing does not use marshmallow, because a filter's form depends on its first words, and each error needs its JSON
pointer.
"""

import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, NoReturn

from analytics.languages import joined, translatable
from analytics.queries.case_folding import folded
from analytics.queries.periods import (
    NAMED_PERIODS,
    SECOND,
    grain_for,
    period_called,
    period_meant,
    previous_period,
    trimmed,
    whole_seconds,
    year_before,
)
from analytics.queries.query import (
    EVENT_DIMENSIONS,
    GRAINS,
    METRICS,
    OF_GOALS,
    OF_PAGES,
    PROPS,
    SHARES,
    TIME_DIMENSIONS,
    VISIT_DIMENSIONS,
    VISIT_NUMBERS,
    And,
    Condition,
    Done,
    Filter,
    Grain,
    Not,
    Operator,
    Or,
    Order,
    Period,
    Query,
    conditions,
    count_labels,
    function_of_numbers,
    missing,
    of_days,
)
from analytics.schema_fields import EARLIEST, INT64, LATEST_SENT, is_encodable
from analytics.sites.schema import MOST_SAVED
from analytics.sites.site import Site
from analytics.suggestion import closest, did_you_mean

# Reports need less than these limits. Without them, one small body could keep the engine busy for minutes.
MOST_DIMENSIONS = 10
MOST_CONDITIONS = 100
MOST_VALUES = 1_000  # of all conditions together
MOST_DEPTH = 10  # of filters within filters
LONGEST_TEXT = 2_048  # of a value to compare with, or of a dimension's name; the length limit of a path
LONGEST_SITE_ID = 128  # as in analytics/events/schema.py
MOST_SITES = 20  # of a roll-up; each of them is read as in a query of its own
MOST_LABELS = 10_000  # time buckets, each of which has a row: 416 days by hour, 27 years by day
MOST_ROWS = 10_000
FARTHEST_ROW = 1_000_000_000
LARGEST_NUMBER = 1_000_000_000  # with which a visit's seconds or pageviews are compared
LONGEST_QUOTE = 200  # of the quoted value in an error

REQUIRED = ("site_id", "metrics", "date_range")
_OPTIONAL = ("dimensions", "filters", "order_by", "include", "pagination")
_FLAGS = ("imports", "time_labels", "total_rows", "trim_relative_date_range")
MODES = ("previous_period", "year_over_year", "custom")

OPERATORS: dict[str, tuple[Operator, bool]] = {  # and whether it is negated
    "is": ("is", False),
    "is_not": ("is", True),
    "contains": ("contains", False),
    "contains_not": ("contains", True),
    "matches": ("matches", False),
    "matches_not": ("matches", True),
}
OPERATORS_OF_NUMBERS: dict[str, tuple[Operator, bool]] = {
    "is": ("is", False),
    "is_not": ("is", True),
    "greater": ("greater", False),
    "less": ("less", False),
}
# The words with which a filter may begin.
OF_FILTERS = (*OPERATORS, "greater", "less", "and", "or", "not", "has_done", "has_not_done")
OPERATORS_OF_GOALS = ("is", "contains")
# geolocation databases have own codes for places that are not countries, such as A1
COUNTRY = re.compile(r"[A-Za-z0-9]{2}")

_DIMENSIONS = (*EVENT_DIMENSIONS, *VISIT_DIMENSIONS)
_TIMES = ("time", *TIME_DIMENSIONS)

DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?(Z|[+-][0-9]{2}:[0-9]{2}(:[0-9]{2})?)"
)

_DONE_IN_DONE = translatable("Invalid filters. Behavioral filters (has_done, has_not_done) cannot be nested.")
_NOT_IN_ENUM = translatable("Value %(value)s is not allowed in enum.")
_NO_COUNTRY = translatable("Invalid visit:country filter, visit:country needs to be a valid 2-letter country code")
_NOTHING_EARLIER = translatable("Expected a date range with an earlier one to compare with.")
_NEEDS_GOAL = translatable("Metric `%(metric)s` can only be queried with event:goal filters or dimensions")
_NEEDS_PAGE = translatable("Metric `%(metric)s` can only be queried with event:page filters or dimensions")
_DEEP_PROPERTY = translatable(
    "Invalid filters. When `conversion_rate` or `group_conversion_rate` metrics are used, custom property filters can"
    " only be used on top level."
)
_TOO_MANY: Mapping[Grain, str] = {
    "hour": translatable("The period has %(count)s hours, and the maximum is %(most)s."),
    "day": translatable("The period has %(count)s days, and the maximum is %(most)s."),
    "week": translatable("The period has %(count)s weeks, and the maximum is %(most)s."),
    "month": translatable("The period has %(count)s months, and the maximum is %(most)s."),
}
_OTHER_GRAIN = translatable("Use a grain of %(grains)s, or a shorter period.")
_SHORTER_PERIOD = translatable("Use a shorter period.")

JSON_TYPES = {
    dict: "Object",
    list: "Array",
    str: "String",
    bool: "Boolean",
    int: "Integer",
    float: "Number",
    type(None): "Null",
}


class InvalidQuery(Exception):
    """The caller's mistake. `pointer` is the place in the body, such as "#/metrics/1", or "" if there is no single
    place.
    """

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(f"{pointer}: {message}" if pointer else message)
        self.pointer = pointer
        self.message = message


SitesCalled = Callable[[Sequence[str]], list[Site]]  # returns the settings of the sites with these names, each once
# returns the time of the first event of these sites; called only if the date range is "all"
Earliest = Callable[[Sequence[str]], datetime | None]


def read_query(body: object, sites_called: SitesCalled, now: datetime, earliest: Earliest) -> Query:
    """Find the sites that `body` names, and return the query that it describes. Raises InvalidQuery, and what
    `sites_called` and `earliest` raise. `now` is aware.
    """
    site, *others = sites_called(check_site_ids(_body(body)["site_id"]))
    site_ids = [each.site_id for each in (site, *others)]
    return load_query(body, site, now, lambda: earliest(site_ids), others)


def load_query(
    body: object,
    site: Site,
    now: datetime,
    earliest: Callable[[], datetime | None],
    others: Sequence[Site] = (),
) -> Query:
    """Return the query that `body` describes. Raises InvalidQuery. `now` and the result of `earliest` are aware.

    `others` are the other sites of a roll-up. `earliest` returns the time of the first event of all the sites, or None
    without one. It is called only if the date range is "all".
    """
    asked = _body(body)
    check_site_ids(asked["site_id"])
    site = _as_one(site, others)
    metrics = _metrics(asked["metrics"])
    dimensions = _dimensions(asked.get("dimensions", []))
    filters = _filters(asked.get("filters", []), site)
    include = _include(asked.get("include", {}))
    limit, offset = _pagination(asked.get("pagination", {}))
    period = _period(asked["date_range"], site, now, earliest)
    if include.trimmed:
        period = trimmed(period, asked["date_range"], now)
    grain = f"time:{grain_for(period)}"
    dimensions = tuple(grain if dimension == "time" else dimension for dimension in dimensions)
    query = Query(
        site_id=site.site_id,
        metrics=metrics,
        period=period,
        dimensions=dimensions,
        filters=filters,
        order_by=_order_by(asked.get("order_by", []), metrics, dimensions),
        limit=limit,
        offset=offset,
        time_labels=include.time_labels,
        total_rows=include.total_rows,
        compare_with=_compare_with(include.comparisons, period, site) if include.comparisons else None,
        goals=site.goals,
        others=tuple(other.site_id for other in others),
        imports=include.imports,
    )
    _check_metrics(query)
    _check_labels(query)
    return query


def query_json(query: Query, body: dict[str, Any]) -> dict[str, Any]:
    """Return the "query" of the answer, which shows how the query was understood. `body` is the JSON from which the
    query was loaded.
    """
    answer = {
        "site_id": list(query.site_ids) if query.others else query.site_id,
        "metrics": list(query.metrics),
        "date_range": _shown_period(query.period),
        "filters": body.get("filters", []),
        "dimensions": list(query.dimensions),
        "order_by": [[order.key, "desc" if order.descending else "asc"] for order in query.order_by],
        "include": {name: value for name, value in body.get("include", {}).items() if value},
        "pagination": {"offset": query.offset, "limit": query.limit},
    }
    if query.compare_with:
        answer["comparison_date_range"] = _shown_period(query.compare_with)
    return answer


def _shown_period(period: Period) -> list[str]:
    last = max(period.start, period.end - SECOND)  # a day that clocks skipped has no last second
    return [moment.astimezone(period.zone).isoformat(timespec="seconds") for moment in (period.start, last)]


# The body, its metrics and its dimensions


def _body(body: object) -> dict[str, Any]:
    return _object(body, "#", (*REQUIRED, *_OPTIONAL), REQUIRED)


def check_site_id(site_id: object, place: str = "#/site_id") -> str:
    """Return the site id if it is valid. Raises InvalidQuery."""
    if not isinstance(site_id, str):
        _mismatch(place, "String", site_id)
    if not 0 < len(site_id) <= LONGEST_SITE_ID or not is_encodable(site_id):
        raise InvalidQuery(place, translatable("Expected a string of 1 to %(most)s characters.", most=LONGEST_SITE_ID))
    return site_id


def check_site_ids(value: object) -> list[str]:
    """Return the sites of a query: one, or a list of several. Raises InvalidQuery."""
    if not isinstance(value, list):
        return [check_site_id(value)]
    site_ids = _array(value, "#/site_id", most=MOST_SITES, least=1)
    for i, site_id in enumerate(site_ids):
        check_site_id(site_id, f"#/site_id/{i}")
    return [*_unique(site_ids, "#/site_id")]


def _as_one(site: Site, others: Sequence[Site]) -> Site:
    """Return the site with the goals and saved filters that all the sites have. Raises InvalidQuery if their days
    differ.
    """
    zones = {each.site_id: each.zone.key for each in (site, *others)}
    if len(set(zones.values())) > 1:
        named = ", ".join(f"{_cut(site_id)} {zone}" for site_id, zone in zones.items())
        message = translatable(
            "Expected sites with the same time zone but got %(sites)s. Query the sites of each zone.", sites=named
        )
        raise InvalidQuery("#/site_id", message)
    return replace(
        site,
        goals=tuple(goal for goal in site.goals if all(goal in other.goals for other in others)),
        saved_filters=tuple(x for x in site.saved_filters if all(x in other.saved_filters for other in others)),
    )


def _metrics(value: object) -> tuple[str, ...]:
    metrics = _array(value, "#/metrics", most=len(METRICS), least=1)
    for i, metric in enumerate(metrics):
        if not _is_metric(metric):
            message = translatable("Invalid metric %(metric)s", metric=_quoted(metric))
            raise InvalidQuery(f"#/metrics/{i}", _suggesting(message, metric, METRICS))
    return _unique(metrics, "#/metrics")


def _is_metric(value: object) -> bool:
    if not isinstance(value, str):
        return False
    return value in METRICS or (function_of_numbers(value) is not None and _is_name(value))


def _dimensions(value: object) -> tuple[str, ...]:
    """Return the dimensions as requested. The caller replaces `time` by one of the time dimensions."""
    dimensions = _array(value, "#/dimensions", most=MOST_DIMENSIONS)
    timed = False
    for i, dimension in enumerate(dimensions):
        if not (_is_time(dimension) or _is_dimension(dimension)):
            message = translatable("Invalid dimension %(dimension)s", dimension=_quoted(dimension))
            raise InvalidQuery(f"#/dimensions/{i}", _suggesting_dimension(message, dimension, (*_DIMENSIONS, *_TIMES)))
    _unique(dimensions, "#/dimensions")
    for i, dimension in enumerate(dimensions):
        if timed and _is_time(dimension):
            raise InvalidQuery(f"#/dimensions/{i}", translatable("Expected no more than one time dimension."))
        timed = timed or _is_time(dimension)
    return tuple(dimensions)


def _is_time(value: object) -> bool:
    return value == "time" or value in TIME_DIMENSIONS


def _is_dimension(value: object) -> bool:
    """Whether this is a dimension of an event or its visit, by which queries may filter."""
    if value in EVENT_DIMENSIONS or value in VISIT_DIMENSIONS:
        return True
    return isinstance(value, str) and value.startswith(PROPS) and len(PROPS) < len(value) and _is_name(value)


def _is_name(text: str) -> bool:
    """Whether the text may name a property."""
    return len(text) <= LONGEST_TEXT and "\0" not in text and is_encodable(text)


def _order_by(value: object, metrics: tuple[str, ...], dimensions: tuple[str, ...]) -> tuple[Order, ...]:
    """The effective order. By default, it is time ascending, or else the first metric descending."""
    time_dimension = next((dimension for dimension in dimensions if _is_time(dimension)), None)
    orders = []
    for i, entry in enumerate(_array(value, "#/order_by", most=len(METRICS) + MOST_DIMENSIONS)):
        place = f"#/order_by/{i}"
        key, direction = _array(entry, place, most=2, least=2)
        if not (_is_metric(key) or _is_time(key) or _is_dimension(key)):
            message = translatable("Invalid value in order_by %(key)s", key=_quoted(key))
            raise InvalidQuery(f"{place}/0", _suggesting_dimension(message, key, (*metrics, *dimensions)))
        if direction not in ("asc", "desc"):
            message = translatable(_NOT_IN_ENUM, value=_quoted(direction))
            raise InvalidQuery(f"{place}/1", _suggesting(message, direction, ("asc", "desc")))
        if key == "time":
            key = time_dimension
        if key not in metrics and key not in dimensions:
            message = translatable(
                "Invalid order_by entry '%(entry)s'. Entry is not a queried metric or dimension.", entry=_quoted(entry)
            )
            raise InvalidQuery(place, message)
        orders.append(Order(key, direction == "desc"))
    return tuple(orders) or (Order(time_dimension) if time_dimension else Order(metrics[0], descending=True),)


# Filters


def _filters(value: object, site: Site) -> tuple[Filter, ...]:
    entries = _array(value, "#/filters", most=MOST_CONDITIONS)
    found: list[Condition] = []
    return tuple(_filter(entry, f"#/filters/{i}", site, found) for i, entry in enumerate(entries))


def _counted(one: Filter, found: list[Condition]) -> Filter:
    """Count a condition while the filters are read, because a few saved filters may stand for very many conditions.
    `found` holds those before it.
    """
    found += conditions((one,))
    if len(found) > MOST_CONDITIONS:
        message = translatable("Expected a maximum of %(most)s conditions but got more.", most=MOST_CONDITIONS)
        raise InvalidQuery("#/filters", message)
    if sum(len(condition.values) for condition in found) > MOST_VALUES:
        message = translatable("Expected a maximum of %(most)s values but got more.", most=MOST_VALUES)
        raise InvalidQuery("#/filters", message)
    return one


def _filter(
    value: object, place: str, site: Site, found: list[Condition], *, depth: int = 1, in_done: bool = False
) -> Filter:
    if depth > MOST_DEPTH:
        message = translatable("Expected filters with at most %(most)s levels of nesting.", most=MOST_DEPTH)
        raise InvalidQuery(place, message)

    def inner(value: object, place: str, in_done: bool = in_done) -> Filter:
        return _filter(value, place, site, found, depth=depth + 1, in_done=in_done)

    match value:
        case ["and" | "or" as operator, [_, *_] as several]:
            filters = tuple(inner(each, f"{place}/1/{i}") for i, each in enumerate(several))
            return And(filters) if operator == "and" else Or(filters)
        case ["not", one]:
            return Not(inner(one, f"{place}/1"))
        case ["has_done" | "has_not_done", _] if in_done:
            raise InvalidQuery(place, _DONE_IN_DONE)
        case ["has_done" | "has_not_done" as operator, one]:
            done = Done(inner(one, f"{place}/1", in_done=True))
            return done if operator == "has_done" else Not(done)
        case ["is", "segment", [_, *_] as ids] if len(ids) <= MOST_SAVED:
            saved = tuple(
                _saved_filter(each, f"{place}/2/{i}", site, found, depth=depth, in_done=in_done)
                for i, each in enumerate(ids)
            )
            _unique([str(each) for each in ids], f"{place}/2")
            return Or(saved)
        case [str(operator), str(dimension), [_, *_], *_] if operator in OPERATORS and _is_dimension(dimension):
            return _counted(_condition(list(value), place, site), found)
        case [str(operator), str(dimension), [_, *_] as values] if (
            operator in OPERATORS_OF_NUMBERS and dimension in VISIT_NUMBERS
        ):
            kind, negated = OPERATORS_OF_NUMBERS[operator]
            numbers = [_whole(each, f"{place}/2/{i}", 0, LARGEST_NUMBER) for i, each in enumerate(values)]
            condition = Condition(kind, dimension, tuple(map(str, numbers)), place=place)
            return _counted(Not(condition) if negated else condition, found)
    raise _invalid_filter(value, place)


def _saved_filter(
    saved_id: object, place: str, site: Site, found: list[Condition], *, depth: int, in_done: bool
) -> Filter:
    """A saved filter of the site, which Plausible calls a segment. It names no other saved filter."""
    saved = next((each for each in site.saved_filters if type(saved_id) is int and each.id == saved_id), None)
    if saved is None:
        message = translatable("The segment %(id)s is not a saved filter of this site.", id=_quoted(saved_id))
        raise InvalidQuery(place, message)
    alone = replace(site, saved_filters=())
    inner = json.loads(saved.filters)
    return And(tuple(_filter(each, place, alone, found, depth=depth + 1, in_done=in_done) for each in inner))


def _condition(entry: list[Any], place: str, site: Site) -> Filter:
    asked, dimension, clauses, *modifiers = entry
    operator, negated = OPERATORS[asked]
    if dimension == "event:goal" and asked not in OPERATORS_OF_GOALS:
        raise _invalid_filter(entry, place)
    match modifiers:
        case _ if modifiers in ([], [{}]):
            case_sensitive = True
        case [{"case_sensitive": bool(case_sensitive)} as modifier] if len(modifier) == 1:
            pass
        case _:
            raise _invalid_filter(entry, place)
    values = []
    for i, clause in enumerate(clauses):
        value = _as_text(clause, dimension)
        if value is None:
            raise _invalid_filter(entry, place)
        if len(value) > LONGEST_TEXT or not is_encodable(value):
            message = translatable("Expected a string of at most %(most)s characters.", most=LONGEST_TEXT)
            raise InvalidQuery(f"{place}/2/{i}", message)
        values.append(value)
    condition = Condition(operator, dimension, tuple(values), case_sensitive, place)
    if operator == "is":
        _check_country(condition)
        _check_goals(condition, site)
    return Not(condition) if negated else condition


def _as_text(value: object, dimension: str) -> str | None:
    """Return the text with which the event's value is compared, or None if `value` is not valid. Properties are
    compared as text, no matter which type they had. A city may be a number in a geolocation database.
    """
    of_prop = dimension.startswith(PROPS)
    match value:
        case str():
            return value
        case bool():
            return str(value).lower() if of_prop else None
        case int() if value in INT64 and (of_prop or dimension == "visit:city"):
            return str(value)
        case float() if math.isfinite(value) and of_prop:
            return repr(value)
        case float() if value.is_integer() and dimension == "visit:city":
            return _as_text(int(value), dimension)
    return None


def _check_country(condition: Condition) -> None:
    if condition.dimension != "visit:country":
        return
    for value in condition.values:
        if not COUNTRY.fullmatch(value) and value != missing("visit:country"):
            raise InvalidQuery("", _NO_COUNTRY)


def _check_goals(condition: Condition, site: Site) -> None:
    if condition.dimension != "event:goal":
        return
    same = str if condition.case_sensitive else folded
    names = {same(goal.name) for goal in site.goals}
    for value in condition.values:
        if same(value) not in names:
            message = translatable(
                "Invalid filters. The goal `%(goal)s` is not configured for this site.", goal=_cut(value)
            )
            raise InvalidQuery("", _suggesting(message, value, [goal.name for goal in site.goals]))


def _invalid_filter(value: object, place: str) -> InvalidQuery:
    message = translatable("Invalid filter %(filter)s", filter=_quoted(value))
    match value:
        case [operator, *_] if operator not in OF_FILTERS:
            message = _suggesting(message, operator, OF_FILTERS)
        case [_, dimension, *_] if not (_is_dimension(dimension) or dimension in VISIT_NUMBERS):
            message = _suggesting_dimension(message, dimension, (*_DIMENSIONS, *VISIT_NUMBERS))
    return InvalidQuery(place, message)


# The period and the comparison period


def _period(value: object, site: Site, now: datetime, earliest: Callable[[], datetime | None]) -> Period:
    period = period_called(value, now, site.zone, earliest) if isinstance(value, str) else None
    if period is None and isinstance(value, str):
        meant = period_meant(value)
        suggestion = did_you_mean(meant or value, [meant] if meant else NAMED_PERIODS)
        raise _invalid_date_range(value, "#/date_range", suggestion)
    return period or _from_to(value, "#/date_range", site)


def day_of(text: str) -> date | None:
    """Return the day, YYYY-MM-DD, or None if the text is not one."""
    try:
        return date.fromisoformat(text) if DATE.fullmatch(text) else None
    except ValueError:  # 30 February
        return None


def _from_to(value: object, place: str, site: Site) -> Period:
    """Read two dates, or two times with an offset, in order. The period includes the last day or second."""
    try:
        match value:
            case [str(first), str(last)] if DATE.fullmatch(first) and DATE.fullmatch(last):
                days = date.fromisoformat(first), date.fromisoformat(last)
                if EARLIEST.date() <= days[0] <= days[1] < LATEST_SENT.date():
                    return of_days(*days, site.zone)
            case [str(first), str(last)] if _MOMENT.fullmatch(first) and _MOMENT.fullmatch(last):
                start, end = (whole_seconds(datetime.fromisoformat(text)) for text in (first, last))
                if EARLIEST <= start <= end < LATEST_SENT:
                    return Period(start, end + SECOND, site.zone)
    except (ValueError, OverflowError):  # 30 February; year 1, which is year 0 in UTC
        pass
    raise _invalid_date_range(value, place)


def _invalid_date_range(value: object, place: str, suggestion: str = "") -> InvalidQuery:
    message = translatable("Invalid date range %(range)s", range=_quoted(value))
    return InvalidQuery(place, joined(message, ".", suggestion) if suggestion else message)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A comparison. `custom` is set if, and only if, the mode is "custom"."""

    mode: str
    match_day_of_week: bool
    custom: object


def _compare_with(comparison: _Comparison, period: Period, site: Site) -> Period:
    if comparison.mode == "custom":
        return _from_to(comparison.custom, "#/include/comparisons/date_range", site)
    before = year_before if comparison.mode == "year_over_year" else previous_period
    try:
        return before(period, comparison.match_day_of_week)
    except (ValueError, OverflowError):  # before the year 1
        raise InvalidQuery("#/include/comparisons", _NOTHING_EARLIER) from None


# Included data and pagination


@dataclass(frozen=True, slots=True)
class _Include:
    imports: bool
    time_labels: bool
    total_rows: bool
    trimmed: bool
    comparisons: _Comparison | None


def _include(value: object) -> _Include:
    include = _object(value, "#/include", (*_FLAGS, "comparisons"))
    flags = {name: _flag(include.get(name, False), f"#/include/{name}") for name in _FLAGS}
    return _Include(
        imports=flags["imports"],
        time_labels=flags["time_labels"],
        total_rows=flags["total_rows"],
        trimmed=flags["trim_relative_date_range"],
        comparisons=_comparison(include["comparisons"]) if "comparisons" in include else None,
    )


def _comparison(value: object) -> _Comparison:
    place = "#/include/comparisons"
    comparison = _object(value, place, ("mode", "date_range", "match_day_of_week"), ("mode",))
    mode = comparison["mode"]
    if mode not in MODES:
        message = translatable(_NOT_IN_ENUM, value=_quoted(mode))
        raise InvalidQuery(f"{place}/mode", _suggesting(message, mode, MODES))
    if mode == "custom" and "date_range" not in comparison:
        raise InvalidQuery(place, _absent(["date_range"]))
    if mode != "custom" and "date_range" in comparison:
        raise InvalidQuery(f"{place}/date_range", translatable('Expected a date_range only with the mode "custom".'))
    match_day_of_week = _flag(comparison.get("match_day_of_week", False), f"{place}/match_day_of_week")
    return _Comparison(mode, match_day_of_week, comparison.get("date_range"))


def _pagination(value: object) -> tuple[int, int]:
    pagination = _object(value, "#/pagination", ("limit", "offset"))
    return (
        _whole(pagination.get("limit", MOST_ROWS), "#/pagination/limit", 1, MOST_ROWS),
        _whole(pagination.get("offset", 0), "#/pagination/offset", 0, FARTHEST_ROW),
    )


# Checks of the whole query


def _check_metrics(query: Query) -> None:
    top_level = tuple(_top_level(query.filters))
    of_events = tuple(_outside_done(query.filters))
    for metric in query.metrics:
        if metric in OF_GOALS and "event:goal" not in _used(query, top_level):
            raise InvalidQuery("", translatable(_NEEDS_GOAL, metric=metric))
        # The visitors without the goal are counted without top-level filters on properties, because only the goal's own
        # events have these properties. Deeper filters cannot be left out, and would make almost every rate 100.
        if metric in OF_GOALS and any(c.dimension.startswith(PROPS) and c not in top_level for c in of_events):
            raise InvalidQuery("", _DEEP_PROPERTY)
        if metric in OF_PAGES and "event:page" not in _used(query, of_events):
            raise InvalidQuery("", translatable(_NEEDS_PAGE, metric=metric))
        if metric in SHARES and not query.dimensions:
            message = translatable("Metric `%(metric)s` can only be queried with dimensions", metric=metric)
            raise InvalidQuery("", message)


def _used(query: Query, filtered_by: tuple[Condition, ...]) -> set[str]:
    return {*query.dimensions, *(condition.dimension for condition in filtered_by)}


def _top_level(filters: tuple[Filter, ...]) -> Iterator[Condition]:
    for each in filters:
        match each:
            case Condition():
                yield each
            case Not(Condition() as condition):
                yield condition


def _outside_done(filters: tuple[Filter, ...]) -> Iterator[Condition]:
    """Yield the conditions on the counted events themselves, not those on other events of their visit."""
    for each in filters:
        match each:
            case Condition():
                yield each
            case And(inner) | Or(inner):
                yield from _outside_done(inner)
            case Not(one):
                yield from _outside_done((one,))


def _check_labels(query: Query) -> None:
    if query.time_labels and not query.grain:
        raise InvalidQuery("", translatable("Invalid include.time_labels: requires a time dimension."))
    if query.grain and (query.time_labels or query.compare_with):  # both list every bucket
        place = "#/include/time_labels" if query.time_labels else "#/include/comparisons"
        for period in (query.period, query.compare_with or query.period):
            check_length(period, query.grain, MOST_LABELS, place)


def check_length(period: Period, grain: Grain, most: int, place: str) -> None:
    """Raises InvalidQuery if the period has more than `most` of these hours, days, weeks or months."""
    if (count := count_labels(period, grain)) <= most:
        return
    coarser = [each for each in GRAINS[GRAINS.index(grain) + 1 :] if count_labels(period, each) <= most]
    instead = translatable(_OTHER_GRAIN, grains=" or ".join(coarser)) if coarser else _SHORTER_PERIOD
    raise InvalidQuery(place, joined(translatable(_TOO_MANY[grain], count=count, most=most), " ", instead))


# JSON values


def _object(value: object, place: str, known: Collection[str], required: Collection[str] = ()) -> dict[str, Any]:
    if not isinstance(value, dict):
        _mismatch(place, "Object", value)
    absent = [name for name in required if name not in value]
    if absent:
        raise InvalidQuery(place, _absent(absent))
    for name in value:
        if name not in known:
            key = _cut(str(name)).replace("~", "~0").replace("/", "~1")
            message = translatable("Schema does not allow additional properties.")
            raise InvalidQuery(f"{place}/{key}", _suggesting(message, name, known))
    return value


def _array(value: object, place: str, most: int, least: int = 0) -> list[Any]:
    if not isinstance(value, list):
        _mismatch(place, "Array", value)
    if len(value) < least:
        message = translatable("Expected a minimum of %(least)s items but got %(n)s.", least=least, n=len(value))
        raise InvalidQuery(place, message)
    if len(value) > most:
        message = translatable("Expected a maximum of %(most)s items but got %(n)s.", most=most, n=len(value))
        raise InvalidQuery(place, message)
    return value


def _unique(texts: list[str], place: str) -> tuple[str, ...]:
    if len(set(texts)) < len(texts):
        raise InvalidQuery(place, translatable("Expected items to be unique but they were not."))
    return tuple(texts)


def _flag(value: object, place: str) -> bool:
    if not isinstance(value, bool):
        _mismatch(place, "Boolean", value)
    return value


def _whole(value: object, place: str, least: int, most: int) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        _mismatch(place, "Integer", value)
    if value < least:
        raise InvalidQuery(place, translatable("Expected the value to be >= %(least)s", least=least))
    if value > most:
        raise InvalidQuery(place, translatable("Expected the value to be <= %(most)s", most=most))
    return value


def _mismatch(place: str, expected: str, value: object) -> NoReturn:
    got = JSON_TYPES.get(type(value), "Unknown")
    message = translatable("Type mismatch. Expected %(expected)s but got %(got)s.", expected=expected, got=got)
    raise InvalidQuery(place, message)


def _absent(names: Sequence[str]) -> str:
    if names[1:]:
        return translatable("Required properties %(names)s were not present.", names=", ".join(names))
    return translatable("Required property %(name)s was not present.", name=names[0])


# Messages that clients of Plausible may know stay unchanged. Only a similar known name is added.


def _suggesting(message: str, name: object, known: Iterable[str]) -> str:
    """Return the message, with a similar name if there is one."""
    suggestion = did_you_mean(name, known) if isinstance(name, str) else ""
    return joined(message, "" if message.endswith(".") else ".", suggestion) if suggestion else message


def _suggesting_dimension(message: str, name: object, known: Iterable[str]) -> str:
    """Compare without `event:`, `visit:` and `time:`, because the caller may have omitted or confused them."""
    by_short = {_short(each): each for each in known}
    meant = closest(_short(name), by_short) if isinstance(name, str) else None
    return message if meant is None else _suggesting(message, by_short[meant], [by_short[meant]])


def _short(dimension: str) -> str:
    return dimension.partition(":")[2] or dimension


def _quoted(value: object) -> str:
    try:
        return _cut(json.dumps(value, ensure_ascii=False))
    except (ValueError, RecursionError):  # an integer of thousands of digits; thousands of nested arrays
        return "of this size"


def _cut(text: str) -> str:
    """Return the text short enough for an error, and valid even if the caller's text was not (half of a surrogate
    pair).
    """
    short = text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE] + "…"
    return short.encode(errors="replace").decode()
