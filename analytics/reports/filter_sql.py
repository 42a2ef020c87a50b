"""Dimensions, filters and goals as DuckDB's SQL over rows of a snapshot, and the columns that they read. Pure.

The text consists of constants of this module. All text from a user (a value, a pattern, a property's name, a goal's
name) is passed as a parameter.
"""

from collections.abc import Callable, Iterable, Sequence

from analytics.events.event import PAGEVIEW_TYPES
from analytics.events.page_patterns import page_pattern
from analytics.queries.case_folding import FOLDED_SQL, folded
from analytics.queries.local_time import LocalClock
from analytics.queries.patterns import FLAGS
from analytics.queries.query import PROPS, And, Condition, Done, Filter, Grain, Not, Operator, Or, Query, missing
from analytics.segments.snapshot import Snapshot
from analytics.sites.site import Goal
from analytics.sql import FALSE, TRUE, Sql, joined_by, put, value

_PLAIN = {
    "event:page": "page",
    "event:hostname": "hostname",
    "event:name": "name",
    "visit:city_name": "city",
    "visit:duration": "visit_duration",
    "visit:views": "visit_pageviews",
}
# A duration is rounded to whole seconds, as in a visitor's history.
_NUMBERS = {"visit:duration": "(visit_duration + 500) // 1000", "visit:views": "visit_pageviews"}
_JSON_NUMBER = "-?[0-9]{1,19}([.][0-9]+)?([eE][+-]?[0-9]+)?"
_SIGNS = {"is": "=", "greater": ">", "less": "<"}
NAMES_OF = {"visit:country_name": ("country", "country_names"), "visit:region_name": ("region", "region_names")}


def column_of(dimension: str) -> str:
    """Return the column that holds a dimension other than time and goal."""
    if dimension.startswith(PROPS):
        return "props"
    if dimension in NAMES_OF:
        return NAMES_OF[dimension][0]
    return _PLAIN.get(dimension) or dimension.removeprefix("visit:")


def columns_of_goals(goals: Iterable[Goal]) -> set[str]:
    return {column for goal in goals for column in (("name",) if goal.page is None else ("name", "page"))}


def columns_of(filters: Iterable[Filter], goals: Sequence[Goal], *, inside_done: bool = False) -> set[str]:
    """Return the columns of the rows that the filters compare. `inside_done` adds the columns of the rows among which
    Done looks for an event.
    """
    found: set[str] = set()
    for each in filters:
        match each:
            case And(inner) | Or(inner):
                found |= columns_of(inner, goals, inside_done=inside_done)
            case Not(one):
                found |= columns_of((one,), goals, inside_done=inside_done)
            case Done(one):
                found |= {"visit"} | (columns_of((one,), goals, inside_done=True) if inside_done else set())
            case Condition(_, "event:goal"):
                found |= columns_of_goals(goal for goal in goals if _names(each, goal))
            case Condition():
                found.add(column_of(each.dimension))
    return found


class Terms:
    """Builds the expressions of one statement over a snapshot."""

    def __init__(self, query: Query, snapshot: Snapshot) -> None:
        self.query = query
        self.snapshot = snapshot
        self.clock = LocalClock(query.period, snapshot.extent)
        self.done: list[Sql] = []  # the relations done_1, done_2, ... that the expressions refer to

    def rows(self, columns: set[str], *, openings: bool = False) -> Sql:
        """Return the events of the period, or the openings that stand for them (Snapshot.rows)."""
        return self.snapshot.rows(self.query.period.interval, sorted(columns), openings=openings)

    def dimension(self, name: str) -> Sql:
        """SQL for the event's value, or for the word that replaces a missing value. For a time dimension, it is the
        number of the bucket. Never NULL.
        """
        if name.startswith("time:"):
            grain: Grain = name.removeprefix("time:")  # type: ignore[assignment]
            return Sql(self.clock.bucket(self.clock.column, grain))
        return text_or_missing(name)

    def filters(self, filters: Iterable[Filter]) -> Sql:
        return joined_by(" AND ", [self.filter(each) for each in filters] or [TRUE])

    def outright(self, wanted: Filter) -> Sql:
        """The same as `filter`, but it may be NULL for a row that does not match. DuckDB can then skip parts of a
        Parquet file by the file's dictionaries.
        """
        match wanted:
            case Condition("is", dimension, values, True) if (
                _is_a_column(dimension) and missing(dimension) not in values
            ):
                tests = [put(f"{column_of(dimension)} = {{}}", value(each)) for each in values]
                return put("({})", joined_by(" OR ", tests))
            case Not(Condition("is", dimension, values, True)) if (
                _is_a_column(dimension) and missing(dimension) in values
            ):
                tests = [put(f"{column_of(dimension)} <> {{}}", value(each)) for each in values]
                return put("({})", joined_by(" AND ", tests))
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
                rows = self.rows({"visit"} | columns_of((one,), self.query.goals))
                found = put("SELECT DISTINCT visit FROM ({}) WHERE visit IS NOT NULL AND {}", rows, self.filter(one))
                self.done.append(found)
                return Sql(f"coalesce(visit IN (SELECT visit FROM done_{len(self.done)}), false)")
            case Condition(_, "event:goal"):
                reached = [goal_reached(goal) for goal in self.query.goals if _names(wanted, goal)]
                return put("({})", joined_by(" OR ", reached or [FALSE]))
            case Condition():
                return _condition(wanted)


def _is_a_column(dimension: str) -> bool:
    """Whether a column holds the dimension's text as it is."""
    computed = dimension.startswith(PROPS) or dimension in NAMES_OF or dimension in _NUMBERS
    return not computed and dimension != "event:goal"


def text(dimension: str) -> Sql:
    """SQL for the event's value of a dimension other than time and goal. NULL if the event has none."""
    column = column_of(dimension)
    if dimension.startswith(PROPS):
        return put(f"nullif({column}[{{}}], '')", value(dimension.removeprefix(PROPS)))
    if dimension in NAMES_OF:
        _, table = NAMES_OF[dimension]
        return Sql(f"coalesce((SELECT n.name FROM {table} n WHERE n.code = {column}), {column})")
    return Sql(column)


def text_or_missing(dimension: str) -> Sql:
    """SQL for the event's value, or for the word that replaces a missing value. Never NULL."""
    return put("coalesce({}, {})", text(dimension), value(missing(dimension)))


def number(prop: str) -> Sql:
    """SQL for the number that the event has as the property, in billionths. NULL if it has none.

    A number is written as in JSON, with at most 19 digits before the point, and is less than 10^19. All integers of 64
    bits are. It is rounded to nine decimals, half away from zero.
    """
    given = text(PROPS + prop)
    cast = put("(TRY_CAST({} AS DECIMAL(28, 9)) * 1000000000)::HUGEINT", given)
    return put("CASE WHEN regexp_full_match({}, {}) THEN {} END", given, value(_JSON_NUMBER), cast)


def goal_reached(goal: Goal) -> Sql:
    if goal.page is None:
        kind = "pageview" if goal.event_type in PAGEVIEW_TYPES else goal.event_type
        return put("name = {}", value(kind))
    fits = put("coalesce(regexp_full_match(page, {}), false)", value(page_pattern(goal.page)))
    return put("(name = 'pageview' AND {})", fits)


def _condition(wanted: Condition) -> Sql:
    if wanted.dimension in _NUMBERS:
        return _number_condition(wanted)
    # Only `is` compares with the word for a missing value: `contains` would find "set" in "(not set)".
    whole = wanted.operator == "is"
    given = text_or_missing(wanted.dimension) if whole else text(wanted.dimension)
    test = _TESTS[wanted.operator, wanted.case_sensitive]
    tests = joined_by(" OR ", [test(given, value(each)) for each in wanted.values] or [FALSE])
    return put("({})" if whole else "coalesce({}, false)", tests)


def _number_condition(wanted: Condition) -> Sql:
    test = f"{_NUMBERS[wanted.dimension]} {_SIGNS[wanted.operator]} {{}}"
    return put("coalesce({}, false)", joined_by(" OR ", [put(test, value(int(each))) for each in wanted.values]))


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
