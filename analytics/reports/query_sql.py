"""Translates a query into one statement of DuckDB's SQL.

The text consists of constants of this module. All text from a user (a value, a pattern, a property's name, a goal's
name) is passed as a parameter. Every number is computed from integers, so that rounding is exact, and from whole
events.

The statement is both fast and exact. In most queries, a row alone tells whether it is the first of its visit in its
bucket (`entry`, `prior`), or the first of its visitor (`seen`). Counting rows then replaces counting distinct ids. If a
query counts only visits and visitors, it reads only the openings (analytics/segments/visit_sql.py), which are a third
of the rows.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Protocol
from zoneinfo import ZoneInfo

from analytics.events.page_patterns import page_pattern
from analytics.interval import DAY, HOUR, QUARTER, VISIT_GAP, Interval, as_ms
from analytics.queries.case_folding import FOLDED_SQL, folded
from analytics.queries.local_time import EPOCH_DAY, bucket_of, offsets, time_labels
from analytics.queries.patterns import FLAGS
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
    Grain,
    Not,
    Operator,
    Or,
    Order,
    Period,
    Query,
    midnight,
    missing,
)
from analytics.sites.site import Goal
from analytics.sql import FALSE, TRUE, Sql, joined_by, put, value

_PLAIN = {
    "event:page": "page",
    "event:hostname": "hostname",
    "event:name": "name",
    "visit:city_name": "city",
}
NAMES_OF = {"visit:country_name": ("country", "country_names"), "visit:region_name": ("region", "region_names")}


class Rows(Protocol):
    """Snapshot.rows of the query's period."""

    def __call__(self, columns: Iterable[str], /, *, openings: bool = False) -> Sql: ...


@dataclass(frozen=True)
class LocalClock:
    """Local time within a period. Its offset from UTC changes at most a few times.

    `unit` is the unit, in ms, of the column that is read: `quarter` or `occurred`. It is `quarter` if all offsets and
    both ends of the period are whole quarters of an hour, and if local hours follow one another. This is almost always
    true, and `quarter` is read in a fifth of the time.
    """

    period: Period
    unit: int
    changes: tuple[tuple[int, int], ...]  # (from when, offset), in units; the first from the beginning

    @staticmethod
    def of(period: Period, extent: Interval | None = None) -> "LocalClock":
        """Return the local clock of a period. `extent` holds all existing events, and offset changes outside it are
        omitted. If it is None, events may be anywhere.
        """
        whole = Interval(as_ms(period.start), as_ms(period.end))
        unit = _unit(period.zone, whole)
        start, end = whole.start, whole.end
        if extent is not None:
            start = min(max(start, extent.start), end)
            end = max(min(end, extent.end), start)
        changes = offsets(period.zone, Interval(start, end))
        return LocalClock(period, unit, tuple((when // unit, offset // unit) for when, offset in changes))

    @property
    def column(self) -> str:
        return "quarter" if self.unit == QUARTER else "occurred"

    @property
    def start(self) -> int:
        return as_ms(self.period.start) // self.unit

    @property
    def end(self) -> int:
        return as_ms(self.period.end) // self.unit

    def bucket(self, column: str, grain: Grain) -> str:
        """SQL for the number of the local hour, day, week or month."""
        local = f"({column} + {_offset_at(column, self.changes)})"
        day = f"({local} // {DAY // self.unit})"
        match grain:
            case "hour":
                return f"({local} // {HOUR // self.unit})"
            case "day":
                return day
            case "week":
                return f"(({day} + 3) // 7)"
            case "month":
                moment = f"(DATE '1970-01-01' + {day}::INTEGER)"
                return f"(year({moment}) * 12 + month({moment}) - 1)"

    def days(self, most: int) -> list[tuple[int, Interval]] | None:
        """Return the days of the period with their numbers, or None if there are more than `most`."""
        if self.period.days() > most:
            return None
        found = []
        day, last = self.period.first_day(), self.period.last_day()
        while day <= last:
            start, end = midnight(day, self.period.zone), midnight(day + timedelta(days=1), self.period.zone)
            interval = Interval(as_ms(max(start, self.period.start)), as_ms(min(end, self.period.end)))
            found.append(((day - EPOCH_DAY).days, interval))
            day += timedelta(days=1)
        return found

    def is_new(self, column: str, grain: Grain | None) -> str | None:
        """SQL for whether the quarter `column` is in another bucket than the row, or before the period. None if
        quarters are too coarse to tell.
        """
        if self.unit != QUARTER:
            return None
        if grain is None:
            return f"({column} < {self.start})"
        return f"({column} < {self.start} OR {self.bucket(column, grain)} <> {self.bucket('quarter', grain)})"

    @property
    def no_visit_leaps(self) -> bool:
        """Whether a visit has an event in every bucket between its first and its last event. This is true if no bucket,
        and no part of a bucket at the ends of the period, is shorter than the longest gap in a visit.
        """
        edges = [(self.start, self.changes[0][1]), (self.end, self.changes[-1][1])]
        edges += [(when, offset) for (_, a), (when, b) in pairwise(self.changes) for offset in (a, b)]
        return self.unit == QUARTER and all((when + offset) * QUARTER % VISIT_GAP == 0 for when, offset in edges)

    def touched(self, openings: Sql, grain: Grain) -> Sql:
        """Return the openings of the period, once for each bucket that they touch, with a `quarter` in that bucket.
        Valid only if `no_visit_leaps`. An opening that continues into a bucket has no `seen` there, because its visitor
        was not seen earlier in the bucket. If events stand for themselves, a visitor may appear several times in a
        bucket; such buckets count distinct visitors.
        """
        first, last = f"greatest(quarter, {self.start})", f"least(last_quarter, {self.end - 1})"
        own = f"SELECT * REPLACE ({first} AS quarter) FROM ({{}})"
        later = (
            f"SELECT * REPLACE (unnest(range({first} + 1, {last} + 1)) AS quarter, NULL AS seen) FROM ({{}})"
            f" WHERE {self.bucket(first, grain)} < {self.bucket(last, grain)}"
        )
        begins = f"{self.bucket('quarter', grain)} <> {self.bucket('(quarter - 1)', grain)}"
        return put(f"{own} UNION ALL BY NAME SELECT * FROM ({later}) WHERE {begins}", openings, openings)


@lru_cache(256)
def _unit(zone: ZoneInfo, interval: Interval) -> int:
    changes = offsets(zone, interval)
    whole = all(when % QUARTER == 0 and offset % QUARTER == 0 for when, offset in changes)
    return QUARTER if whole and _in_order(changes) and not interval.end % QUARTER else 1


def _offset_at(column: str, changes: Sequence[tuple[int, int]]) -> str:
    """Select the offset by bisection: a site with a century of events has 200 changes, and each row is compared with 8
    of them.
    """
    if len(changes) == 1:
        return str(changes[0][1])
    middle = len(changes) // 2
    before, after = _offset_at(column, changes[:middle]), _offset_at(column, changes[middle:])
    return f"CASE WHEN {column} < {changes[middle][0]} THEN {before} ELSE {after} END"


def _in_order(changes: Sequence[tuple[int, int]]) -> bool:
    """Whether each hour and day ends before the next one begins. This is false if clocks go back by two hours. The
    previous event then does not tell whether an event is the first in its bucket.
    """
    return all(
        (when + before - 1) // HOUR <= (when + after) // HOUR for (_, before), (when, after) in pairwise(changes)
    )


# Expressions for filters


class Terms:
    """Builds expressions over rows of a snapshot, and collects the columns that they need."""

    def __init__(self, query: Query, clock: LocalClock, source: Rows, done: list[Sql] | None = None) -> None:
        """`done` collects the relations done_1, done_2, ... that all terms of a statement refer to."""
        self.query = query
        self.clock = clock
        self.source = source
        self.columns: set[str] = set()
        self.done: list[Sql] = [] if done is None else done

    def column(self, name: str) -> str:
        self.columns.add(name)
        return name

    def rows(self, *more: str) -> Sql:
        """Return the events of the period, with the columns used so far."""
        return self.source(sorted({*self.columns, *more}))

    def openings(self, grain: Grain | None) -> Sql:
        """Return the openings in each bucket, which stand for the events if only visits and visitors are counted."""
        found = self.source(sorted(self.columns | {"quarter", "seen"} if grain else self.columns), openings=True)
        return self.clock.touched(found, grain) if grain else found

    def dimension(self, name: str) -> Sql:
        """SQL for the event's value, or for the word that replaces a missing value. For a time dimension, it is the
        number of the bucket. Never NULL.
        """
        if name.startswith("time:"):
            grain: Grain = name.removeprefix("time:")  # type: ignore[assignment]
            return Sql(self.clock.bucket(self.column(self.clock.column), grain))
        return put("coalesce({}, {})", self.text(name), value(missing(name)))

    def text(self, name: str) -> Sql:
        """SQL for the event's value of a dimension other than time. NULL if the event has none."""
        if name.startswith(PROPS):
            return put("nullif({}[{}], '')", Sql(self.column("props")), value(name.removeprefix(PROPS)))
        if name in NAMES_OF:
            column, table = NAMES_OF[name]
            code = self.column(column)
            return Sql(f"coalesce((SELECT n.name FROM {table} n WHERE n.code = {code}), {code})")
        return Sql(self.column(_PLAIN.get(name) or name.removeprefix("visit:")))

    def filters(self, filters: Iterable[Filter]) -> Sql:
        return joined_by(" AND ", [self.filter(each) for each in filters] or [TRUE])

    def outright(self, wanted: Filter) -> Sql:
        """The same as `filter`, but it may be NULL for a row that does not match. DuckDB can then skip parts of a
        Parquet file by the file's dictionaries.
        """
        match wanted:
            case Condition("is", dimension, values, True) if (
                missing(dimension) not in values
                and not dimension.startswith((PROPS, "time:"))
                and dimension != "event:goal"
                and dimension not in NAMES_OF
            ):
                column = self.column(_PLAIN.get(dimension) or dimension.removeprefix("visit:"))
                return put("({})", joined_by(" OR ", [put(f"{column} = {{}}", value(each)) for each in values]))
        return self.filter(wanted)

    def filter(self, wanted: Filter) -> Sql:
        """SQL for whether a row matches. Never NULL, so that NOT gives the opposite."""
        match wanted:
            case And(inner):
                return put("({})", self.filters(inner))
            case Or(inner):
                return put("({})", joined_by(" OR ", [self.filter(each) for each in inner] or [FALSE]))
            case Not(one):
                return put("(NOT {})", self.filter(one))
            case Done(one):
                inside = Terms(self.query, self.clock, self.source, self.done)
                condition = inside.filter(one)
                rows = inside.rows("visit")
                self.done.append(put("SELECT DISTINCT visit FROM ({}) WHERE visit IS NOT NULL AND {}", rows, condition))
                return Sql(f"coalesce({self.column('visit')} IN (SELECT visit FROM done_{len(self.done)}), false)")
            case Condition():
                return self._condition(wanted)

    def _condition(self, wanted: Condition) -> Sql:
        if wanted.dimension == "event:goal":
            fits = [goal for goal in self.query.goals if _names(wanted, goal)]
            return put("({})", joined_by(" OR ", [self.goal(goal) for goal in fits] or [FALSE]))
        # Only `is` compares with the word for a missing value: `contains` would find "set" in "(not set)".
        whole = wanted.operator == "is"
        text = self.dimension(wanted.dimension) if whole else self.text(wanted.dimension)
        test = _TESTS[wanted.operator, wanted.case_sensitive]
        tests = joined_by(" OR ", [test(text, value(each)) for each in wanted.values] or [FALSE])
        return put("({})" if whole else "coalesce({}, false)", tests)

    def goal(self, goal: Goal) -> Sql:
        name = self.column("name")
        if goal.page is None:
            kind = "pageview" if goal.event_type in ("page_view", "pageview") else goal.event_type
            return put(f"{name} = {{}}", value(kind))
        page = self.column("page")
        fits = put(f"coalesce(regexp_full_match({page}, {{}}), false)", value(page_pattern(goal.page)))
        return put(f"({name} = 'pageview' AND {{}})", fits)


# By operator, and whether it is case-sensitive.
_TESTS: dict[tuple[Operator, bool], Callable[[Sql, Sql], Sql]] = {
    ("is", True): lambda text, each: put("{} = {}", text, each),
    ("is", False): lambda text, each: put(f"{FOLDED_SQL} = {FOLDED_SQL}", text, each),
    ("contains", True): lambda text, each: put("contains({}, {})", text, each),
    ("contains", False): lambda text, each: put(f"contains({FOLDED_SQL}, {FOLDED_SQL})", text, each),
    ("matches", True): lambda text, each: put(f"regexp_matches({{}}, {{}}, '{FLAGS[True]}')", text, each),
    ("matches", False): lambda text, each: put(f"regexp_matches({{}}, {{}}, '{FLAGS[False]}')", text, each),
}


def _names(wanted: Condition, goal: Goal) -> bool:
    name, values = goal.name, wanted.values
    if not wanted.case_sensitive:
        name, values = folded(name), tuple(map(folded, values))
    return name in values if wanted.operator == "is" else any(each in name for each in values)


# The statement

# The calculation uses whole numbers, so that halves are always rounded away from zero.
_SHARE = "CASE WHEN {whole} > 0 THEN ((20000 * {part} + {whole}) // (2 * {whole}))::DOUBLE / 100 ELSE 0.0 END"
_PER_VISIT = "CASE WHEN {n} > 0 THEN (2 * {sum} + {unit} * {n}) // (2 * {unit} * {n}) ELSE 0 END"


_OF_EVENTS = {"pageviews", "events", "time_on_page", "scroll_depth", *OF_MONEY}


@dataclass
class _Plan:
    """What is known about a query before its SQL is written.

    `visit_level`: within a bucket, all of a visit's rows in the period are in the same group, or none of them is.
    `openings`: only visits and visitors are counted, so the openings stand for the events. `everybody`: the query has
    no filters and at most a time dimension, so a visitor's first event in a bucket stands for the visitor.
    """

    query: Query
    clock: LocalClock
    terms: Terms
    visit_level: bool
    openings: bool
    everybody: bool

    @staticmethod
    def of(query: Query, rows: Rows) -> "_Plan":
        clock = LocalClock.of(query.period, query.extent)
        of_events = [name for name in query.dimensions if name in EVENT_DIMENSIONS or name.startswith(PROPS)]
        visit_level = clock.unit == QUARTER and not of_events and not any(map(_is_of_events, query.filters))
        openings = visit_level and clock.no_visit_leaps and not set(query.metrics) & _OF_EVENTS
        everybody = visit_level and not query.filters and len(query.dimensions) == (query.grain is not None)
        return _Plan(query, clock, Terms(query, clock, rows), visit_level, openings, everybody)

    @property
    def names(self) -> list[str]:
        return [f"d{n}" for n in range(len(self.query.dimensions))]

    def names_of(self, keep: Callable[[str], bool]) -> list[str]:
        return [name for name, dimension in zip(self.names, self.query.dimensions, strict=True) if keep(dimension)]


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


def statement(
    query: Query,
    rows: Rows,
    whole: Callable[[Interval], bool] = lambda _: False,
    only: Iterable[tuple[str, ...]] | None = None,
) -> Sql:
    """Return the SQL that answers the query. `rows`: see Rows. `whole`: see Snapshot.holds_whole. `only` lists the
    wanted groups by their dimensions without time; None means all.

    Each row has the dimensions (a time dimension as the number of its bucket), the metrics (money in thousandths), the
    currencies of the money metrics in their order, `here`, and the number of all rows. If the page is empty, the result
    has one row, whose `here` is NULL.
    """
    plan = _Plan.of(query, rows)
    ctes: dict[str, Sql] = {}
    counted = _counted(plan, whole)
    metrics = [_metric(plan, name, ctes) for name in query.metrics]
    events = _events(plan, counted)
    main = ", ".join([*plan.names, *(f"{what} AS {name}" for name, what in counted.items())])
    grouped = f" GROUP BY {', '.join(plan.names)}" if plan.names else ""
    done = {f"done_{n}": each for n, each in enumerate(plan.terms.done, start=1)}
    before = {**done, **events, "main": Sql(f"SELECT {main} FROM events{grouped}"), **ctes}
    source = Sql("main")
    if query.time_labels:
        before["spine"] = _spine(plan)
        source = Sql(f"spine LEFT JOIN main USING ({', '.join(plan.names)})")
    for name in ctes:
        source = Sql(source.text + _joined(plan, name))
    money = [f"currency AS c{n}" for n, name in enumerate(query.metrics) if name in OF_MONEY]
    shown = ", ".join([*plan.names, *(f"{metric} AS m{n}" for n, metric in enumerate(metrics)), *money])
    before["final"] = put(f"SELECT {shown} FROM {source.text}{{}}", _among(plan, only))
    text = put(
        f"WITH {{}} SELECT page.*, total FROM (SELECT count(*) AS total FROM final)"
        f" LEFT JOIN (SELECT *, true AS here FROM final ORDER BY {_order(plan)} LIMIT ? OFFSET ?) page ON true"
        f" ORDER BY {_order(plan)}",
        joined_by(", ", [put(f"{name} AS ({{}})", cte) for name, cte in before.items()]),
    )
    return Sql(text.text, (*text.values, query.limit, query.offset))


def _counted(plan: _Plan, whole: Callable[[Interval], bool]) -> dict[str, str]:
    """What is counted in each group, by name: SQL aggregates over `events`."""
    wanted = set(plan.query.metrics)
    counted = {}
    if wanted - {"visits", "pageviews", "events", *OF_VISITS, *OF_MONEY}:
        counted["visitors"] = _visitors(plan, whole)
    if wanted & {"visits", "time_on_page", *OF_VISITS}:
        counted["visits"] = "count(*) FILTER (first)" if plan.visit_level else "count(DISTINCT visit)"
    if "pageviews" in wanted:
        counted["pageviews"] = f"count(*) FILTER ({plan.terms.column('name')} = 'pageview')"
    if "events" in wanted:
        counted["events"] = f"count(*) FILTER ({plan.terms.column('name')} <> 'engagement')"
    if plan.visit_level:
        for metric, what, column in (
            ("bounce_rate", "bounces", "visit_bounce::INTEGER"),
            ("visit_duration", "durations", "visit_duration"),
            ("views_per_visit", "views", "visit_pageviews"),
        ):
            if metric in wanted:
                counted[what] = f"coalesce(sum({column}) FILTER (first), 0)"
                plan.terms.column(column.partition("::")[0])
    if "time_on_page" in wanted:
        counted["engaged"] = f"sum({plan.terms.column('engagement_time')})"
    if wanted & set(OF_MONEY):
        plan.terms.columns |= {"revenue", "currency"}
        paid = "revenue IS NOT NULL"
        if "event:goal" in plan.query.dimensions:
            paid += " AND (money IS NULL OR money = currency)"
        counted["paid"] = f"count(*) FILTER ({paid})"
        counted["earned"] = f"(sum(revenue) FILTER ({paid}) * 1000)::HUGEINT"
        counted["currencies"] = f"count(DISTINCT currency) FILTER ({paid})"
        counted["currency"] = f"any_value(currency) FILTER ({paid})"
    return counted


def _visitors(plan: _Plan, whole: Callable[[Interval], bool]) -> str:
    if plan.everybody:
        uncertain = _uncertain_buckets(plan, whole)
        if uncertain is None:
            return "count(DISTINCT visitor) FILTER (newcomer)"
        if not uncertain:
            return "count(*) FILTER (newcomer)"
        among = f"d0 IN ({', '.join(map(str, uncertain))})"
        return f"count(*) FILTER (newcomer AND NOT {among}) + count(DISTINCT visitor) FILTER (newcomer AND {among})"
    every_event = plan.visit_level and not plan.openings
    return f"count(DISTINCT visitor){' FILTER (first OR visit_bounce IS NULL)' if every_event else ''}"


_MOST_DAYS = 1_000  # days that are checked one by one


def _uncertain_buckets(plan: _Plan, whole: Callable[[Interval], bool]) -> list[int] | None:
    """The buckets that more than one source holds. None means that any bucket may be one of them."""
    period = Interval(as_ms(plan.query.period.start), as_ms(plan.query.period.end))
    grain = plan.query.grain
    if grain is None:
        return [] if whole(period) else None
    if whole(period):
        return []
    if grain != "day" or (days := plan.clock.days(_MOST_DAYS)) is None:
        return None
    return [number for number, interval in days if not whole(interval)]


def _events(plan: _Plan, counted: dict[str, str]) -> dict[str, Sql]:
    """The relation `events`: the matching events with the dimensions and the values to count."""
    query, terms = plan.query, plan.terms
    dimensions = [
        put(f"{{}} AS {name}", terms.dimension(dimension))
        for name, dimension in zip(plan.names, query.dimensions, strict=True)
        if dimension != "event:goal"
    ]
    flags = []
    if plan.everybody and "visitors" in counted:
        new = plan.clock.is_new(terms.column("seen"), query.grain)
        flags.append(f"(seen IS NULL OR {new}) AS newcomer")
        if "DISTINCT" in counted["visitors"]:
            terms.column("visitor")
    if plan.openings:
        if "visits" in counted:
            flags.append(f"{terms.column('entry')} AS first")
    elif plan.visit_level:
        if "visits" in counted or not plan.everybody:
            new = plan.clock.is_new(terms.column("prior"), query.grain)
            flags.append(f"{terms.column('entry')} OR coalesce({new}, false) AS first")
        terms.columns |= {plan.clock.column} if flags else set()
        terms.columns |= set() if plan.everybody else {"visit_bounce"}
    elif "visits" in counted:
        terms.column("visit")
    if "visitors" in counted and not plan.everybody:
        terms.column("visitor")
    if "event:goal" in query.dimensions:
        goals = [
            put("CASE WHEN {} THEN struct_pack(name := {}, money := {}) END", terms.goal(goal), value(goal.name),
                put("{}::VARCHAR", value(goal.currency)))
            for goal in query.goals
        ]  # fmt: skip
        dimensions.append(put("list_filter([{}], lambda goal: goal IS NOT NULL) AS goals", joined_by(", ", goals)))
    limits = [terms.outright(each) for each in query.filters]
    what = joined_by(", ", [*dimensions, *map(Sql, flags), Sql("*")])
    rows = terms.openings(query.grain) if plan.openings else terms.rows()
    events = put("SELECT {} FROM ({}) WHERE {}", what, rows, joined_by(" AND ", limits or [TRUE]))
    if "event:goal" not in query.dimensions:
        return {"everything": events, "events": Sql("SELECT * FROM everything")}
    name = plan.names[query.dimensions.index("event:goal")]
    each = "SELECT *, unnest(goals) AS goal FROM everything"
    spread = f"SELECT * EXCLUDE (goals, goal), goal.name AS {name}, goal.money AS money FROM ({each})"
    return {"everything": events, "events": Sql(spread)}


def _metric(plan: _Plan, name: str, ctes: dict[str, Sql]) -> str:  # noqa: PLR0911  one for each metric
    """SQL of one metric, from the counts in `main` and from relations that it adds to `ctes`."""
    match name:
        case "visitors" | "visits" | "pageviews" | "events":
            return f"coalesce({name}, 0)"
        case "bounce_rate":
            return _of_visits(plan, ctes, "100 * bounces", 1)
        case "visit_duration":
            return _of_visits(plan, ctes, "durations", 1000)
        case "views_per_visit":
            return f"({_of_visits(plan, ctes, '100 * views', 1)})::DOUBLE / 100"
        case "time_on_page":
            times = _PER_VISIT.format(sum="engaged", n="coalesce(visits, 0)", unit=1000)
            return f"CASE WHEN engaged IS NOT NULL THEN {times} END"
        case "scroll_depth":
            ctes["scrolled"] = _scrolled(plan)
            return "CASE WHEN pages > 0 THEN (2 * depths + pages) // (2 * pages) END"
        case "total_revenue":
            return "CASE WHEN currencies = 1 THEN earned END"
        case "average_revenue":
            mean = "sign(earned)::HUGEINT * ((2 * abs(earned) + paid) // (2 * paid))"
            return f"CASE WHEN currencies = 1 THEN {mean} END"
        case "percentage":
            plan.terms.column("visitor")
            everybody = "SELECT count(DISTINCT visitor) FROM everything"
            return _SHARE.format(part="coalesce(visitors, 0)", whole=f"({everybody})")
        case "conversion_rate":
            ctes["of_all"] = _anyway(
                plan, plan.names_of(lambda dimension: dimension.startswith("time:")), "all_visitors"
            )
            return _SHARE.format(part="coalesce(visitors, 0)", whole="coalesce(all_visitors, 0)")
        case "group_conversion_rate":
            kept = plan.names_of(lambda dimension: dimension != "event:goal")
            ctes["of_group"] = _anyway(plan, kept, "group_visitors")
            return _SHARE.format(part="coalesce(visitors, 0)", whole="coalesce(group_visitors, 0)")
    raise ValueError(name)


def _of_visits(plan: _Plan, ctes: dict[str, Sql], what: str, unit: int) -> str:
    if plan.visit_level:
        return _PER_VISIT.format(sum=f"coalesce({what}, 0)", n="coalesce(visits, 0)", unit=unit)
    plan.terms.columns |= {"visit", "visit_bounce", "visit_duration", "visit_pageviews"}
    dimensions = "".join(f"{name}, " for name in plan.names)
    once = f"SELECT DISTINCT {dimensions}visit, visit_bounce, visit_duration, visit_pageviews FROM events"
    ctes["of_visits"] = Sql(
        f"SELECT {dimensions}count(*) AS met, count(*) FILTER (visit_bounce) AS bounces,"
        f" coalesce(sum(visit_duration), 0) AS durations, coalesce(sum(visit_pageviews), 0) AS views"
        f" FROM ({once} WHERE visit IS NOT NULL){_grouped(plan.names)}"
    )
    return _PER_VISIT.format(sum=f"coalesce({what}, 0)", n="coalesce(met, 0)", unit=unit)


def _scrolled(plan: _Plan) -> Sql:
    plan.terms.columns |= {"visitor", "page", "scroll_depth"}
    dimensions = "".join(f"{name}, " for name in plan.names)
    deepest = (
        f"SELECT {dimensions}max(scroll_depth)::INTEGER AS depth FROM events WHERE visitor IS NOT NULL"
        f" AND scroll_depth IS NOT NULL GROUP BY {dimensions}visitor, coalesce(page, '{MISSING_VALUE}')"
    )
    return Sql(f"SELECT {dimensions}count(*) AS pages, sum(depth) AS depths FROM ({deepest}){_grouped(plan.names)}")


def _anyway(plan: _Plan, kept: Sequence[str], name: str) -> Sql:
    """The visitors by the kept dimensions, no matter which goals they reached."""
    query = plan.query
    terms = Terms(query, plan.clock, plan.terms.source, plan.terms.done)
    filters = terms.filters(each for each in query.filters if not _is_of_goals_or_props(each))
    dimensions = [put(f"{{}} AS {d}", terms.dimension(query.dimensions[plan.names.index(d)])) for d in kept]
    what = joined_by(", ", [*dimensions, Sql(f"count(DISTINCT {terms.column('visitor')}) AS {name}")])
    return put(f"SELECT {{}} FROM ({{}}) WHERE {{}}{_grouped(kept)}", what, terms.rows(), filters)


def _is_of_goals_or_props(wanted: Filter) -> bool:
    one = wanted.filter if isinstance(wanted, Not) else wanted
    return isinstance(one, Condition) and one.dimension.startswith(("event:goal", PROPS))


def _grouped(names: Sequence[str]) -> str:
    return f" GROUP BY {', '.join(names)}" if names else ""


def _joined(plan: _Plan, name: str) -> str:
    kept = {
        "of_all": plan.names_of(lambda dimension: dimension.startswith("time:")),
        "of_group": plan.names_of(lambda dimension: dimension != "event:goal"),
    }.get(name, plan.names)
    return f" LEFT JOIN {name} USING ({', '.join(kept)})" if kept else f" CROSS JOIN {name}"


def _spine(plan: _Plan) -> Sql:
    """Every label of the period, for each group of the other dimensions that occurs."""
    grain = plan.query.grain
    assert grain is not None  # noqa: S101 the parser allows labels only with a time dimension
    buckets = [bucket_of(text, grain) for text in time_labels(plan.query.period, grain)]
    time = plan.names[plan.query.dimensions.index(f"time:{grain}")]
    labels = put(f"SELECT unnest({{}}::BIGINT[]) AS {time}", value(buckets))
    others = [name for name in plan.names if name != time]
    if not others:
        return labels
    return put(f"SELECT * FROM (SELECT DISTINCT {', '.join(others)} FROM main) CROSS JOIN ({{}})", labels)


def _among(plan: _Plan, only: Iterable[tuple[str, ...]] | None) -> Sql:
    names = plan.names_of(lambda dimension: not dimension.startswith("time:"))
    if only is None or not names:
        return Sql("")
    columns = zip(*only, strict=True)
    wanted = joined_by(", ", [put("unnest({}::VARCHAR[])", value(list(column))) for column in columns])
    return put(f" WHERE ({', '.join(names)}) IN (SELECT {{}})", wanted)


def _order(plan: _Plan) -> str:
    query = plan.query
    orders = [*query.order_by]
    if not orders:
        orders = [Order(f"time:{query.grain}")] if query.grain else [Order(query.metrics[0], descending=True)]
    keys = []
    for order in orders:
        known = order.key in query.dimensions
        name = plan.names[query.dimensions.index(order.key)] if known else f"m{query.metrics.index(order.key)}"
        keys.append(f"{name} {'DESC' if order.descending else 'ASC'} NULLS LAST")
    return ", ".join([*keys, *plan.names])
