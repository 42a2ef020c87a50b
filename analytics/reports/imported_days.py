"""Plans which imported daily totals answer a query, and adds them to its statement as DuckDB's SQL. Pure.

A query is answered from one table of daily totals, which must have all of its dimensions, filters and metrics. Every
number but one is added exactly. The visitors of several days are the sum of the visitors of each day, because daily
totals do not tell who came back.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from analytics.aggregates.day_total import AGGREGATE_TABLES, AggregateTable
from analytics.interval import QUARTER
from analytics.queries.local_time import LocalClock, bucket_of
from analytics.queries.query import OF_VISITS, PROPS, Condition, Done, Filter, Query, conditions, of_days
from analytics.reports.filter_sql import Terms, column_of
from analytics.reports.query_plan import Plan
from analytics.reports.results import UNSUPPORTED_INTERVAL, UNSUPPORTED_QUERY, ImportedPart
from analytics.segments.snapshot import Snapshot
from analytics.sql import Sql, put, value

IMPORTED_RELATION = "imported"  # the relation
_DAYS_ONLY = "Imported data are not included, because they are daily totals{}."
_NO_TABLE = "Imported data are not included, because they have no daily totals {}."
# What each metric counts.
_COUNTS_OF = {
    "visitors": {"visitors"},
    "visits": {"visits"},
    "pageviews": {"pageviews"},
    "events": {"events"},
    "bounce_rate": {"bounces", "visits"},
    "visit_duration": {"durations", "visits"},
    "views_per_visit": {"pageviews", "visits", "durations"},  # durations: of whole visits
    "time_on_page": {"engaged", "timed"},
    "scroll_depth": {"depths", "scrolled"},
    "percentage": {"visitors"},
}
_ADDITIVE = {"pageviews", "events"}
_OF_DAYS = ("visitors", "percentage")  # metrics that are sums over days
# What the columns of `main` are called (query_sql.py), in milliseconds where it has times.
_COUNTED = {
    "visitors": "sum(visitors)",
    "visits": "sum(visits)",
    "pageviews": "sum(pageviews)",
    "events": "sum(events)",
    "bounces": "sum(bounces)",
    "durations": "1000 * sum(durations)",
    "views": "sum(pageviews)",
    "engaged": "1000 * nullif(sum(engaged), 0)",
    "timed": "sum(timed)",
}
_OWN_PROPS = ("url", "path")  # properties that are columns of the table of custom events


@dataclass(frozen=True, slots=True)
class ImportsPlan:
    """The table that answers a query, the columns to read, and the days. `prop` is the property of the table `props`
    that is read, or "".
    """

    table: AggregateTable
    columns: tuple[str, ...]
    first: date
    last: date
    by_day: bool
    prop: str = ""


@dataclass(frozen=True, slots=True)
class ImportedTotals:
    """The totals that a query counts: sums as AggregateStore returns them. `people` are all visitors of these days, or
    None if they are not known.
    """

    plan: ImportsPlan
    sums: Sequence[Mapping[str, Any]]
    people: int | None


def plan_imports(query: Query) -> ImportsPlan | ImportedPart:
    """Return the plan, or why imported totals cannot answer the query."""
    period = query.period
    if query.grain == "hour":
        return _skipped(UNSUPPORTED_INTERVAL, _DAYS_ONLY.format(", and the query asks by hour"))
    if period != of_days(period.first_day(), period.last_day(), period.zone):
        return _skipped(UNSUPPORTED_INTERVAL, _DAYS_ONLY.format(", and the period does not have whole days"))
    asked = conditions(query.filters)
    dimensions = [name for name in query.dimensions if not name.startswith("time:")]
    names = [*dimensions, *(condition.dimension for condition in asked)]
    columns = tuple(dict.fromkeys(column for name in names for column in _columns(name)))
    table = next((each for each in AGGREGATE_TABLES.values() if _fits(each, query, columns)), None)
    props = {name.removeprefix(PROPS) for name in names if name.startswith(PROPS)} - set(_OWN_PROPS)
    if table is None or len(props) > 1 or _has_done(query.filters) or _is_by_moments(query):
        return _skipped(UNSUPPORTED_QUERY, _NO_TABLE.format(_said(query, dimensions)))
    return ImportsPlan(table, columns, period.first_day(), period.last_day(), query.grain is not None, "".join(props))


def summed_metrics(query: Query, days: Iterable[date]) -> tuple[str, ...]:
    """The metrics of the query that add up numbers of several days, so that a person may count several times."""
    buckets = [bucket_of(f"{day}", query.grain) if query.grain else 0 for day in days]
    is_summed = len(set(buckets)) < len(buckets)
    return tuple(metric for metric in query.metrics if metric in _OF_DAYS and is_summed)


def days_with_events(query: Query, first: date, last: date) -> Plan:
    """The statement returns the days from `first` to `last` with an event, as buckets."""
    period = of_days(first, last, query.period.zone)
    column = LocalClock(period).column

    def render(snapshot: Snapshot) -> Sql:
        day = LocalClock(period, snapshot.extent).bucket(column, "day")
        return put(f"SELECT DISTINCT {day} FROM ({{}})", snapshot.rows(period.interval, [column]))

    return Plan(period.interval, frozenset((column,)), render)


def imported_relation(query: Query, totals: ImportedTotals) -> Sql:
    """SQL that creates the relation IMPORTED_RELATION."""
    plan, sums = totals.plan, totals.sums
    shown = [put(f"unnest({{}}::VARCHAR[]) AS {name}", value([x.get(name) for x in sums])) for name in plan.columns]
    shown += [put(f"unnest({{}}::BIGINT[]) AS {name}", value([x[name] for x in sums])) for name in plan.table.counts]
    grain = query.grain
    buckets = [bucket_of(x["day"], grain) if grain else 0 for x in sums]
    each = put(f"SELECT unnest({{}}::BIGINT[]) AS bucket{', {}' * len(shown)}", value(buckets), *shown)
    return put(f"CREATE OR REPLACE TEMP TABLE {IMPORTED_RELATION} AS SELECT *{_props(plan)} FROM ({{}})", each)


def imported_groups(names: Sequence[str], terms: Terms, counted: Iterable[str]) -> Sql:
    """SQL for the counts of `main` by the dimensions of the query, which are called `names`."""
    shown = _dimensions(names, terms)
    shown += [Sql(f"{_COUNTED[name]} AS {name}") for name in counted]
    return _grouped(shown, names, terms)


def imported_scrolls(names: Sequence[str], terms: Terms) -> Sql:
    """SQL for the pages that were scrolled, and the sum of their depths."""
    shown = [*_dimensions(names, terms), Sql("sum(scrolled) AS pages"), Sql("sum(depths) AS depths")]
    return _grouped(shown, names, terms)


def everybody(terms: Terms, own: Sql, people: int | None) -> Sql:
    """SQL for `people`, the number of all visitors that fit the filters. `own`: SQL for those who sent events.

    The visitors of a filtered table may be in several of its rows, but they are not more than all visitors.
    """
    found = "coalesce(sum(visitors), 0)"
    most = Sql(found) if people is None else put(f"least({found}, {{}})", value(people))
    filters = terms.filters(terms.query.filters)
    return put(f"SELECT ({{}}) + {{}} AS people FROM {IMPORTED_RELATION} WHERE {{}}", own, most, filters)


def _dimensions(names: Sequence[str], terms: Terms) -> list[Sql]:
    both = zip(names, terms.query.dimensions, strict=True)
    return [
        Sql(f"bucket AS {name}") if each.startswith("time:") else put(f"{{}} AS {name}", terms.dimension(each))
        for name, each in both
    ]


def _grouped(shown: Sequence[Sql], names: Sequence[str], terms: Terms) -> Sql:
    what = put(", ".join("{}" for _ in shown), *shown)
    by = f" GROUP BY {', '.join(names)}" if names else ""
    return put(f"SELECT {{}} FROM {IMPORTED_RELATION} WHERE {{}}{by}", what, terms.filters(terms.query.filters))


def _props(plan: ImportsPlan) -> str:
    if plan.prop:
        return ", map([prop], [value]) AS props"
    own = [name for name in _OWN_PROPS if name in plan.columns]
    quoted = ", ".join(f"'{name}'" for name in own)
    return f", map([{quoted}], [{', '.join(own)}]) AS props" if own else ""


def _columns(dimension: str) -> tuple[str, ...]:
    if not dimension.startswith(PROPS):
        return (column_of(dimension),)
    prop = dimension.removeprefix(PROPS)
    return (prop,) if prop in _OWN_PROPS else ("prop", "value")


def _fits(table: AggregateTable, query: Query, columns: Sequence[str]) -> bool:
    if not table.columns.issuperset(columns):
        return False
    needed = [_COUNTS_OF.get(metric) for metric in query.metrics]
    if any(counts is None or not counts <= table.counts for counts in needed):
        return False
    is_added = any(counts and not counts <= _ADDITIVE for counts in needed)
    return not (table.overlaps and is_added) or _is_split(table, query)


def _is_split(table: AggregateTable, query: Query) -> bool:
    """Whether each group has one value of a column in which the rows of a visit differ."""
    single = [
        x.dimension for x in query.filters if isinstance(x, Condition) and x.operator == "is" and not x.values[1:]
    ]
    return any(column in table.overlaps for name in (*query.dimensions, *single) for column in _columns(name))


def _has_done(filters: Iterable[Filter]) -> bool:
    return any(
        isinstance(each, Done)
        or _has_done(getattr(each, "filters", ()))
        or _has_done([each.filter] if hasattr(each, "filter") else [])
        for each in filters
    )


def _is_by_moments(query: Query) -> bool:
    """Whether the zone's clocks are such that visits of the query are told apart by their events (local_time.py)."""
    return LocalClock(query.period).unit != QUARTER and bool(set(query.metrics) & set(OF_VISITS))


def _said(query: Query, dimensions: Sequence[str]) -> str:
    filtered = dict.fromkeys(condition.dimension for condition in conditions(query.filters))
    by = f" by {' and '.join(dimensions)}" if dimensions else ""
    where = f" with a filter for {' and '.join(filtered)}" if filtered else ""
    return f"of {', '.join(query.metrics)}{by}{where}"


def _skipped(reason: str, warning: str) -> ImportedPart:
    return ImportedPart(skip_reason=reason, warning=warning)
