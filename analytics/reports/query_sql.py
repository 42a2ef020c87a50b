"""Translates a query into one statement of DuckDB's SQL. Pure.

The text consists of constants of this module and of filter_sql.py. Every number is computed from integers, so that
rounding is exact, and from whole events.

The statement is both fast and exact. In most queries, a row alone tells whether it is the first of its visit in its
bucket (`entry`, `prior`), or the first of its visitor (`seen`). Counting rows then replaces counting distinct ids. If a
query counts only visits and visitors, it reads only the openings (analytics/segments/visit_sql.py), which are a third
of the rows. If it has no filter, it may also count pageviews and events: a second scan reads the names of all events.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from analytics.interval import QUARTER
from analytics.queries.local_time import LocalClock, time_buckets
from analytics.queries.query import (
    EVENT_DIMENSIONS,
    MISSING_VALUE,
    OF_MONEY,
    OF_VISITS,
    PROPS,
    And,
    Condition,
    Done,
    Filter,
    Not,
    Or,
    Order,
    Query,
    function_of_numbers,
    missing,
)
from analytics.reports.filter_sql import Terms, column_of, columns_of, columns_of_goals, goal_reached, number, text
from analytics.reports.first_groups import MOST_FIRST_GROUPS, first_groups, stored
from analytics.reports.imported_days import ImportedTotals, everybody, imported_groups, imported_scrolls
from analytics.reports.query_plan import Plan
from analytics.segments.snapshot import Snapshot
from analytics.sql import TRUE, Sql, joined_by, put, value

# The calculation uses whole numbers, so that halves are always rounded away from zero.
_SHARE = "CASE WHEN {whole} > 0 THEN ((20000 * {part} + {whole}) // (2 * {whole}))::DOUBLE / 100 ELSE 0.0 END"
_PER_VISIT = "CASE WHEN {n} > 0 THEN (2 * {sum} + {unit} * {n}) // (2 * {unit} * {n}) ELSE 0 END"
_MEAN = "sign({sum})::HUGEINT * ((2 * abs({sum}) + {n}) // (2 * {n}))"
_PERCENT = {"median": 50, "p75": 75, "p90": 90}  # of the way from the least number to the greatest

_MANY_VALUES = {"event:page", "visit:entry_page", "visit:exit_page", "visit:referrer"}
# Metrics that only need the names of events.
_OF_NAMES = {
    "pageviews": "count(*) FILTER (name = 'pageview')",
    "events": "count(*) FILTER (name <> 'engagement')",
}
_OF_EVENTS = {"pageviews", "events", "time_on_page", "scroll_depth", *OF_MONEY}
# The columns of a metric, in addition to those that tell visitors and visits apart.
_COLUMNS = {
    "pageviews": {"name"},
    "events": {"name"},
    "bounce_rate": {"visit_bounce"},
    "visit_duration": {"visit_duration"},
    "views_per_visit": {"visit_pageviews"},
    "time_on_page": {"engagement_time"},
    "scroll_depth": {"visitor", "page", "scroll_depth"},
    "total_revenue": {"revenue", "currency"},
    "average_revenue": {"revenue", "currency"},
    "percentage": {"visitor"},
}


def plan_query(
    query: Query, only: Iterable[tuple[str, ...]] | None = None, imported: ImportedTotals | None = None
) -> Plan:
    """Plan the statement that answers the query. `only` lists the wanted groups by their dimensions without time; None
    means all. `imported` are in the relation IMPORTED_RELATION, and count too.

    Each row has the dimensions (a time dimension as the number of its bucket), the metrics (money in thousandths,
    numbers of a property in billionths), the currencies of the money metrics in their order, `here`, and the number of
    all rows. If the page is empty, the result has one row, whose `here` is NULL.
    """
    shape = _Shape.of(query)
    columns = shape.columns() | {"visitor", "seen", "name"} | columns_of(query.filters, query.goals, inside_done=True)
    return Plan(query.period.interval, frozenset(columns), partial(_statement, shape, only, imported))


@dataclass(frozen=True)
class _Shape:
    """What a query alone tells about its statement.

    `visit_level`: within a bucket, all of a visit's rows in the period are in the same group, or none of them is.
    `openings`: only visits and visitors are counted, so the openings stand for the events. `everybody`: the query has
    no filters and at most a time dimension, so a visitor's first event in a bucket stands for the visitor. `apart`: the
    metrics of _OF_NAMES, if they are counted from all events, and the others from the openings. Metrics of OF_VISITS
    read several columns, so this takes half of the time.
    """

    query: Query
    visit_level: bool
    openings: bool
    everybody: bool
    apart: tuple[str, ...]

    @staticmethod
    def of(query: Query) -> "_Shape":
        clock = LocalClock(query.period)
        of_events = [name for name in query.dimensions if name in EVENT_DIMENSIONS or name.startswith(PROPS)]
        visit_level = clock.unit == QUARTER and not of_events and not any(map(_is_of_events, query.filters))
        of_rows = [metric for metric in query.metrics if metric in _OF_EVENTS or function_of_numbers(metric)]
        everybody = visit_level and not query.filters and len(query.dimensions) == (query.grain is not None)
        is_apart = everybody and _OF_NAMES.keys() >= {*of_rows} and not set(OF_VISITS).isdisjoint(query.metrics)
        openings = visit_level and clock.no_visit_leaps and (is_apart or not of_rows)
        return _Shape(query, visit_level, openings, everybody, tuple(of_rows) if openings else ())

    @property
    def names(self) -> list[str]:
        return [f"d{n}" for n in range(len(self.query.dimensions))]

    def names_of(self, keep: Callable[[str], bool]) -> list[str]:
        return [name for name, dimension in zip(self.names, self.query.dimensions, strict=True) if keep(dimension)]

    @property
    def counts_visitors(self) -> bool:
        others = {"visits", "pageviews", "events", *OF_VISITS, *OF_MONEY}
        return not all(metric in others or function_of_numbers(metric) for metric in self.query.metrics)

    @property
    def number_props(self) -> list[str]:
        """The properties whose numbers the metrics are about."""
        found = [asked[1] for metric in self.query.metrics if (asked := function_of_numbers(metric))]
        return list(dict.fromkeys(found))

    @property
    def wants_first(self) -> bool:
        """Whether the answer has the first of many groups by visitors, so that not all groups have to be counted. The
        events are then read several times. This is fast only if no filter is computed and no property is read.
        """
        query = self.query
        by = query.order_by[0] if query.order_by else Order(query.metrics[0], descending=True)
        return (
            by == Order("visitors", descending=True)
            and not _MANY_VALUES.isdisjoint(query.dimensions)
            and query.grain is None
            and "event:goal" not in query.dimensions
            and query.offset + query.limit <= MOST_FIRST_GROUPS
            and all(map(_present, query.filters))
            and "props" not in self.columns()
        )

    @property
    def has_newcomers(self) -> bool:
        """Whether the rows that are the first of their visitors in the period tell how many visitors fit the filters.
        Filters for a page are allowed, because almost all visitors begin with a page.
        """
        of_pages = all(_present(each) == "event:page" for each in self.query.filters)
        return of_pages and self.query.grain is None and LocalClock(self.query.period).unit == QUARTER

    @property
    def counts_visits(self) -> bool:
        return bool(set(self.query.metrics) & {"visits", "time_on_page", *OF_VISITS})

    @property
    def marks_first(self) -> bool:
        """Whether rows have `first`, which is true for the first event of a visit in its bucket."""
        return self.visit_level and (self.counts_visits or not (self.openings or self.everybody))

    def columns(self) -> set[str]:
        """Return the columns of the events that are counted. `visitor` is missing if `seen` may tell visitors apart."""
        query = self.query
        found = columns_of(query.filters, query.goals) | self.columns_of_dimensions(query.dimensions)
        for metric in query.metrics:
            if metric not in self.apart:
                found |= _COLUMNS.get(metric, set())
        if self.number_props:
            found |= {"name", "props"}
        if self.counts_visitors:
            found.add("seen" if self.everybody else "visitor")
        if self.marks_first:
            found |= {"entry"} if self.openings else {"entry", "prior"}
        if self.visit_level and not (self.openings or self.everybody):
            found.add("visit_bounce")
        if not self.visit_level and self.counts_visits:
            found.add("visit")
            if set(query.metrics) & set(OF_VISITS):
                found |= {"visit_bounce", "visit_duration", "visit_pageviews"}
        return found | ({"quarter", "seen"} if self.openings and query.grain else set())

    def columns_of_dimensions(self, dimensions: Iterable[str]) -> set[str]:
        found: set[str] = set()
        for name in dimensions:
            if name == "event:goal":
                found |= columns_of_goals(self.query.goals)
            else:
                found.add(LocalClock(self.query.period).column if name.startswith("time:") else column_of(name))
        return found


def _present(wanted: Filter) -> str | None:
    """The dimension, if the filter only removes events without a value of it."""
    match wanted:
        case Not(Condition("is", dimension, (only,))) if only == missing(dimension):
            return dimension
    return None


def _is_of_events(wanted: Filter) -> bool:
    """Whether the filter may match one event of a visit and not another."""
    match wanted:
        case And(inner) | Or(inner):
            return any(map(_is_of_events, inner))
        case Not(one):
            return _is_of_events(one)
        case Done():
            return False
        case Condition():
            return wanted.dimension.startswith("event:")


def _statement(
    shape: _Shape, only: Iterable[tuple[str, ...]] | None, imported: ImportedTotals | None, snapshot: Snapshot
) -> Sql:
    query, terms = shape.query, Terms(shape.query, snapshot)
    ctes: dict[str, Sql] = {}
    counted = _counted(shape, snapshot)
    metrics = [_metric(shape, terms, name, ctes) for name in query.metrics]
    ranked = shape.wants_first and only is None and not imported
    events = _events(shape, terms, counted, ranked)
    shown = ", ".join([*shape.names, *(f"{what} AS {name}" for name, what in counted.items())])
    done = {f"done_{n}": each for n, each in enumerate(terms.done, start=1)}
    main = Sql(f"SELECT {shown} FROM events{_grouped(shape.names)}")
    if shape.everybody and shape.counts_visitors and (uncertain := _uncertain_buckets(shape, snapshot)):
        main = _with_distinct_visitors(main, uncertain)
    if shape.apart:
        main = _with_counts_of_names(main, shape, terms)
    counts = {**events, "main": main}
    if ranked:
        words = [value(missing(dimension)) for dimension in query.dimensions]
        counts = first_groups(shape.names, words, query.offset + query.limit, events["everything"], counted)
    before = {**done, **counts, **ctes}
    if imported:
        before |= _with_imports(shape, terms, imported, [*counted, *shape.apart], before)
    source = Sql("main")
    if query.time_labels:
        before["spine"] = _spine(shape)
        source = Sql(f"spine LEFT JOIN main USING ({', '.join(shape.names)})")
    for name in ctes:
        source = Sql(source.text + _joined(shape, name))
    money = [f"currency AS c{n}" for n, name in enumerate(query.metrics) if name in OF_MONEY]
    shown = ", ".join([*shape.names, *(f"{metric} AS m{n}" for n, metric in enumerate(metrics)), *money])
    before["final"] = put(f"SELECT {shown} FROM {source.text}{{}}", _among(shape, only))
    # To keep all events for the next time that they are read would take more memory than a report may use.
    read_again = ("everything", "events") if ranked else ()
    relations = [
        put(f"{name} AS{' NOT MATERIALIZED' if name in read_again else ''} ({{}})", cte) for name, cte in before.items()
    ]
    text = put(
        f"WITH {{}} SELECT page.*, total FROM (SELECT count(*) AS total FROM {'groups' if ranked else 'final'})"
        f" LEFT JOIN (SELECT *, true AS here FROM final ORDER BY {_order(shape)} LIMIT ? OFFSET ?) page ON true"
        f" ORDER BY {_order(shape)}",
        joined_by(", ", relations),
    )
    return Sql(text.text, (*text.values, query.limit, query.offset))


def _with_imports(
    shape: _Shape, terms: Terms, imported: ImportedTotals, counted: Sequence[str], own: Mapping[str, Sql]
) -> dict[str, Sql]:
    """The relations of `own` that count imported totals too."""
    names = shape.names
    found = {"main": _added(names, own["main"], imported_groups(names, terms, counted), counted)}
    if "scrolled" in own:
        depths = imported_scrolls(names, terms)
        found["scrolled"] = _added(names, own["scrolled"], depths, ("pages", "depths"))
    if "percentage" in shape.query.metrics:
        found["everybody"] = everybody(terms, own["everybody"], imported.people)
    return found


def _added(names: Sequence[str], own: Sql, imported: Sql, counts: Iterable[str]) -> Sql:
    shown = ", ".join([*names, *(f"sum({name}) AS {name}" for name in counts)])
    return put(f"SELECT {shown} FROM ({{}} UNION ALL BY NAME {{}}){_grouped(names)}", own, imported)


def _counted(shape: _Shape, snapshot: Snapshot) -> dict[str, str]:
    """What is counted in each group, by name: SQL aggregates over `events`."""
    wanted = set(shape.query.metrics)
    counted = {}
    if shape.counts_visitors:
        counted["visitors"] = _visitors(shape, snapshot)
    if shape.counts_visits:
        counted["visits"] = "count(*) FILTER (first)" if shape.visit_level else "count(DISTINCT visit)"
    counted |= {name: what for name, what in _OF_NAMES.items() if name in wanted and name not in shape.apart}
    if shape.visit_level:
        for metric, what, column in (
            ("bounce_rate", "bounces", "visit_bounce::INTEGER"),
            ("visit_duration", "durations", "visit_duration"),
            ("views_per_visit", "views", "visit_pageviews"),
        ):
            if metric in wanted:
                counted[what] = f"coalesce(sum({column}) FILTER (first), 0)"
    if "time_on_page" in wanted:
        counted |= {"engaged": "sum(engagement_time)", "timed": counted["visits"]}
    if wanted & set(OF_MONEY):
        paid = "revenue IS NOT NULL"
        if "event:goal" in shape.query.dimensions:
            paid += " AND (money IS NULL OR money = currency)"
        counted["paid"] = f"count(*) FILTER ({paid})"
        counted["earned"] = f"(sum(revenue) FILTER ({paid}) * 1000)::HUGEINT"
        counted["currencies"] = f"count(DISTINCT currency) FILTER ({paid})"
        counted["currency"] = f"any_value(currency) FILTER ({paid})"
    for n in range(len(shape.number_props)):
        counted |= {f"count{n}": f"count(number{n})", f"sum{n}": f"sum(number{n})"}
    return counted


_NEWCOMERS = "count(*) FILTER (newcomer)"


def _visitors(shape: _Shape, snapshot: Snapshot) -> str:
    if shape.everybody:
        uncertain = _uncertain_buckets(shape, snapshot)
        if uncertain is None:
            return "count(DISTINCT visitor) FILTER (newcomer)"
        if not uncertain:
            return _NEWCOMERS
        return f"count(*) FILTER (newcomer AND NOT {_among_buckets(uncertain)})"
    every_event = shape.visit_level and not shape.openings
    return f"count(DISTINCT visitor){' FILTER (first OR visit_bounce IS NULL)' if every_event else ''}"


def _with_distinct_visitors(main: Sql, uncertain: Sequence[int]) -> Sql:
    """Add the visitors of these buckets to `main`, which counts none there. Apart from the other counts, it takes half
    of the time.
    """
    few = f"SELECT d0, count(DISTINCT visitor) AS others FROM events WHERE newcomer AND {_among_buckets(uncertain)}"
    return put(
        "SELECT counts.* REPLACE (visitors + coalesce(others, 0) AS visitors) FROM ({}) AS counts"
        f" LEFT JOIN ({few} GROUP BY d0) USING (d0)",
        main,
    )


def _with_counts_of_names(main: Sql, shape: _Shape, terms: Terms) -> Sql:
    """Add the metrics that are counted apart. Each bucket has openings if it has events."""
    dimensions = shape.query.dimensions
    rows = terms.rows({"name"} | shape.columns_of_dimensions(dimensions))
    buckets = [
        put(f"{{}} AS {name}", terms.dimension(each)) for name, each in zip(shape.names, dimensions, strict=True)
    ]
    events = put("SELECT {} FROM ({})", joined_by(", ", [*buckets, Sql("name")]), rows)
    shown = ", ".join([*shape.names, *(f"{_OF_NAMES[metric]} AS {metric}" for metric in shape.apart)])
    join = f"LEFT JOIN ({{}}) USING ({', '.join(shape.names)})" if shape.names else "CROSS JOIN ({})"
    return put(f"SELECT * FROM ({{}}) {join}", main, put(f"SELECT {shown} FROM ({{}}){_grouped(shape.names)}", events))


def _among_buckets(buckets: Sequence[int]) -> str:
    return f"d0 IN ({', '.join(map(str, buckets))})"


_MOST_DAYS = 1_000  # days that are checked one by one


def _uncertain_buckets(shape: _Shape, snapshot: Snapshot) -> list[int] | None:
    """The buckets that more than one source holds. None means that any bucket may be one of them."""
    query = shape.query
    if snapshot.holds_whole(query.period.interval):
        return []
    if query.grain != "day" or (days := LocalClock(query.period).days(_MOST_DAYS)) is None:
        return None
    return [number for number, interval in days if not snapshot.holds_whole(interval)]


def _events(shape: _Shape, terms: Terms, counted: dict[str, str], ranked: bool) -> dict[str, Sql]:
    """The relation `events`: the matching events with the dimensions and the values to count. If it is `ranked`, the
    dimensions are as first_groups expects them.
    """
    query = shape.query
    dimensions = [
        put(f"{{}} AS {stored(name)}", text(dimension))
        if ranked
        else put(f"{{}} AS {name}", terms.dimension(dimension))
        for name, dimension in zip(shape.names, query.dimensions, strict=True)
        if dimension != "event:goal"
    ]
    flags = []
    columns = shape.columns()
    if shape.everybody and shape.counts_visitors:
        flags.append(f"(seen IS NULL OR {terms.clock.is_new('seen', query.grain)}) AS newcomer")
        if counted["visitors"] != _NEWCOMERS:
            columns.add("visitor")
    if shape.marks_first:
        again = "" if shape.openings else f" OR coalesce({terms.clock.is_new('prior', query.grain)}, false)"
        flags.append(f"entry{again} AS first")
    if "event:goal" in query.dimensions:
        goals = [
            put("CASE WHEN {} THEN struct_pack(name := {}, money := {}) END", goal_reached(goal), value(goal.name),
                put("{}::VARCHAR", value(goal.currency)))
            for goal in query.goals
        ]  # fmt: skip
        dimensions.append(put("list_filter([{}], lambda goal: goal IS NOT NULL) AS goals", joined_by(", ", goals)))
    numbers = [
        put(f"CASE WHEN name <> 'engagement' THEN {{}} END AS number{n}", number(prop))
        for n, prop in enumerate(shape.number_props)
    ]
    limits = [terms.outright(each) for each in query.filters]
    what = joined_by(", ", [*dimensions, *map(Sql, flags), *numbers, Sql("*")])
    rows = terms.rows(columns, openings=shape.openings)
    if shape.openings and query.grain:
        rows = terms.clock.touched(rows, query.grain)
    events = put("SELECT {} FROM ({}) WHERE {}", what, rows, joined_by(" AND ", limits or [TRUE]))
    if "event:goal" not in query.dimensions:
        return {"everything": events, "events": Sql("SELECT * FROM everything")}
    name = shape.names[query.dimensions.index("event:goal")]
    each = "SELECT *, unnest(goals) AS goal FROM everything"
    spread = f"SELECT * EXCLUDE (goals, goal), goal.name AS {name}, goal.money AS money FROM ({each})"
    return {"everything": events, "events": Sql(spread)}


def _metric(shape: _Shape, terms: Terms, name: str, ctes: dict[str, Sql]) -> str:  # noqa: PLR0911  one for each metric
    """SQL of one metric, from the counts in `main` and from relations that it adds to `ctes`."""
    match name:
        case "visitors" | "visits" | "pageviews" | "events":
            return f"coalesce({name}, 0)"
        case "bounce_rate":
            return _of_visits(shape, ctes, "100 * bounces", 1)
        case "visit_duration":
            return _of_visits(shape, ctes, "durations", 1000)
        case "views_per_visit":
            return f"({_of_visits(shape, ctes, '100 * views', 1)})::DOUBLE / 100"
        case "time_on_page":
            times = _PER_VISIT.format(sum="engaged", n="coalesce(timed, 0)", unit=1000)
            return f"CASE WHEN engaged IS NOT NULL THEN {times} END"
        case "scroll_depth":
            ctes["scrolled"] = _scrolled(shape)
            return "CASE WHEN pages > 0 THEN (2 * depths + pages) // (2 * pages) END"
        case "total_revenue":
            return "CASE WHEN currencies = 1 THEN earned END"
        case "average_revenue":
            return f"CASE WHEN currencies = 1 THEN {_MEAN.format(sum='earned', n='paid')} END"
        case "percentage":
            ctes["everybody"] = _everybody(shape, terms)
            return _SHARE.format(part="coalesce(visitors, 0)", whole="people")
        case "conversion_rate":
            kept = shape.names_of(lambda dimension: dimension.startswith("time:"))
            ctes["of_all"] = _anyway(shape, terms, kept, "all_visitors")
            return _SHARE.format(part="coalesce(visitors, 0)", whole="coalesce(all_visitors, 0)")
        case "group_conversion_rate":
            kept = shape.names_of(lambda dimension: dimension != "event:goal")
            ctes["of_group"] = _anyway(shape, terms, kept, "group_visitors")
            return _SHARE.format(part="coalesce(visitors, 0)", whole="coalesce(group_visitors, 0)")
    return _metric_of_numbers(shape, name, ctes)


def _metric_of_numbers(shape: _Shape, name: str, ctes: dict[str, Sql]) -> str:
    asked = function_of_numbers(name)
    assert asked is not None  # noqa: S101  the parser allows no other metric
    function, prop = asked
    n = shape.number_props.index(prop)
    match function:
        case "count":
            return f"coalesce(count{n}, 0)"
        case "average":
            return _MEAN.format(sum=f"sum{n}", n=f"count{n}")
        case "median" | "p75" | "p90":
            ctes[f"quantiles{n}"] = _quantiles(shape, n)
    return f"{function}{n}"


def _quantiles(shape: _Shape, n: int) -> Sql:
    """The percentiles of a property's numbers. Between two numbers, they are interpolated."""
    dimensions = "".join(f"{name}, " for name in shape.names)
    group = f"PARTITION BY {', '.join(shape.names)}" if shape.names else ""
    times = (
        f"SELECT {dimensions}number{n} AS number, count(*) AS times FROM events WHERE number{n} IS NOT NULL"
        f" GROUP BY {dimensions}number"
    )
    # `upto` is how many numbers are not greater. `last` is the place of the greatest, if the least has the place 0.
    places = (
        f"SELECT *, sum(times) OVER ({group} ORDER BY number) AS upto, sum(times) OVER ({group}) - 1 AS last"
        f" FROM ({times})"
    )
    quantiles = []
    for name, percent in _PERCENT.items():
        below = f"min(number) FILTER (upto > {percent} * last // 100)"
        above = f"min(number) FILTER (upto > ({percent} * last + 99) // 100)"
        between = f"(100 * {below} + {percent} * any_value(last) % 100 * ({above} - {below}))"
        quantiles.append(f"{_MEAN.format(sum=between, n=100)} AS {name}{n}")
    return Sql(f"SELECT {dimensions}{', '.join(quantiles)} FROM ({places}){_grouped(shape.names)}")


def _of_visits(shape: _Shape, ctes: dict[str, Sql], what: str, unit: int) -> str:
    if shape.visit_level:
        return _PER_VISIT.format(sum=f"coalesce({what}, 0)", n="coalesce(visits, 0)", unit=unit)
    dimensions = "".join(f"{name}, " for name in shape.names)
    once = f"SELECT DISTINCT {dimensions}visit, visit_bounce, visit_duration, visit_pageviews FROM events"
    ctes["of_visits"] = Sql(
        f"SELECT {dimensions}count(*) AS met, count(*) FILTER (visit_bounce) AS bounces,"
        f" coalesce(sum(visit_duration), 0) AS durations, coalesce(sum(visit_pageviews), 0) AS views"
        f" FROM ({once} WHERE visit IS NOT NULL){_grouped(shape.names)}"
    )
    return _PER_VISIT.format(sum=f"coalesce({what}, 0)", n="coalesce(met, 0)", unit=unit)


def _scrolled(shape: _Shape) -> Sql:
    dimensions = "".join(f"{name}, " for name in shape.names)
    deepest = (
        f"SELECT {dimensions}max(scroll_depth)::INTEGER AS depth FROM events WHERE visitor IS NOT NULL"
        f" AND scroll_depth IS NOT NULL GROUP BY {dimensions}visitor, coalesce(page, '{MISSING_VALUE}')"
    )
    return Sql(f"SELECT {dimensions}count(*) AS pages, sum(depth) AS depths FROM ({deepest}){_grouped(shape.names)}")


def _everybody(shape: _Shape, terms: Terms) -> Sql:
    """The number of visitors who fit the filters."""
    query = shape.query
    is_whole = terms.snapshot.holds_whole(query.period.interval)
    if not shape.has_newcomers or (shape.openings and not is_whole):  # few openings of short segments are not the first
        return Sql("SELECT count(DISTINCT visitor) AS people FROM everything")
    rows = terms.rows({"seen", "visitor"} | columns_of(query.filters, query.goals), openings=shape.openings)
    is_new = f"(seen IS NULL OR {terms.clock.is_new('seen', None)})"
    if not query.filters:
        people = "count(*)" if is_whole else "count(DISTINCT visitor)"
        return put(f"SELECT {people} AS people FROM ({{}}) WHERE {is_new}", rows)
    newcomers = put(f"SELECT visitor, {{}} AS fits FROM ({{}}) WHERE {is_new}", terms.filters(query.filters), rows)
    # DuckDB does not read the events for an empty relation of others.
    others = "SELECT visitor FROM newcomers WHERE NOT fits"
    people = (
        "SELECT visitor FROM newcomers WHERE fits"
        f" UNION ALL SELECT visitor FROM everything SEMI JOIN ({others}) AS others USING (visitor)"
    )
    return put(f"WITH newcomers AS ({{}}) SELECT count(DISTINCT visitor) AS people FROM ({people})", newcomers)


def _anyway(shape: _Shape, terms: Terms, kept: Sequence[str], name: str) -> Sql:
    """The visitors by the kept dimensions, no matter which goals they reached."""
    query = shape.query
    filters = [each for each in query.filters if not _is_of_goals_or_props(each)]
    dimensions = [query.dimensions[shape.names.index(d)] for d in kept]
    columns = {"visitor"} | columns_of(filters, query.goals) | shape.columns_of_dimensions(dimensions)
    shown = [put(f"{{}} AS {d}", terms.dimension(dimension)) for d, dimension in zip(kept, dimensions, strict=True)]
    what = joined_by(", ", [*shown, Sql(f"count(DISTINCT visitor) AS {name}")])
    grouped = f"SELECT {{}} FROM ({{}}) WHERE {{}}{_grouped(kept)}"
    return put(grouped, what, terms.rows(columns), terms.filters(filters))


def _is_of_goals_or_props(wanted: Filter) -> bool:
    one = wanted.filter if isinstance(wanted, Not) else wanted
    return isinstance(one, Condition) and one.dimension.startswith(("event:goal", PROPS))


def _grouped(names: Sequence[str]) -> str:
    return f" GROUP BY {', '.join(names)}" if names else ""


def _joined(shape: _Shape, name: str) -> str:
    kept = {
        "of_all": shape.names_of(lambda dimension: dimension.startswith("time:")),
        "of_group": shape.names_of(lambda dimension: dimension != "event:goal"),
        "everybody": [],
    }.get(name, shape.names)
    return f" LEFT JOIN {name} USING ({', '.join(kept)})" if kept else f" CROSS JOIN {name}"


def _spine(shape: _Shape) -> Sql:
    """Every label of the period, for each group of the other dimensions that occurs."""
    grain = shape.query.grain
    assert grain is not None  # noqa: S101 the parser allows labels only with a time dimension
    time = shape.names[shape.query.dimensions.index(f"time:{grain}")]
    labels = put(f"SELECT unnest({{}}::BIGINT[]) AS {time}", value(time_buckets(shape.query.period, grain)))
    others = [name for name in shape.names if name != time]
    if not others:
        return labels
    return put(f"SELECT * FROM (SELECT DISTINCT {', '.join(others)} FROM main) CROSS JOIN ({{}})", labels)


def _among(shape: _Shape, only: Iterable[tuple[str, ...]] | None) -> Sql:
    names = shape.names_of(lambda dimension: not dimension.startswith("time:"))
    if only is None or not names:
        return Sql("")
    columns = zip(*only, strict=True)
    wanted = joined_by(", ", [put("unnest({}::VARCHAR[])", value(list(column))) for column in columns])
    return put(f" WHERE ({', '.join(names)}) IN (SELECT {{}})", wanted)


def _order(shape: _Shape) -> str:
    query = shape.query
    orders = [*query.order_by]
    if not orders:
        orders = [Order(f"time:{query.grain}")] if query.grain else [Order(query.metrics[0], descending=True)]
    keys = []
    for order in orders:
        known = order.key in query.dimensions
        name = shape.names[query.dimensions.index(order.key)] if known else f"m{query.metrics.index(order.key)}"
        keys.append(f"{name} {'DESC' if order.descending else 'ASC'} NULLS LAST")
    return ", ".join([*keys, *shape.names])
