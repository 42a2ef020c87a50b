"""Plans funnels, retention, journeys and histories as DuckDB's SQL. Pure. As in filter_sql.py, all text from users is
passed as parameters.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta

from analytics.events.event import DESCRIBED
from analytics.interval import Interval
from analytics.queries.local_time import LocalClock
from analytics.queries.query import Filter, Grain, Query
from analytics.reports.filter_sql import Terms, columns_of, text_or_missing
from analytics.reports.query_plan import Plan
from analytics.segments.snapshot import Snapshot
from analytics.sql import Sql, joined_by, put, value

EVENT_BYTES = 1_000  # approximate bytes of an event in a history, without its properties
# One number for the place of an event among its visitor's events, because ASOF JOIN compares a single column. No
# visitor has more than 32,767 events in one millisecond. The product stays below 2^63 until the year 10889.
_PLACE = "occurred * 32768 + least(tie, 32767)"


def funnel(query: Query, steps: Sequence[Filter], window: timedelta | None) -> Plan:
    """The statement returns one row: how many visitors (with a window) or visits (without) reached each step.

    Each step is joined to the latest path to the step before it. A later path began no earlier, so it has the most time
    left. One join for each step therefore finds whether any start fits.
    """
    who = "visit" if window is None else "visitor"

    def render(terms: Terms, columns: set[str]) -> Sql:
        meets = [put(f"{{}} AS s{n}", terms.filter(step)) for n, step in enumerate(steps)]
        hits = put(
            f"SELECT {who} AS who, occurred, {_PLACE} AS place, {{}} FROM ({{}}) WHERE {who} IS NOT NULL AND {{}}",
            joined_by(", ", meets), terms.rows(columns), terms.filters(query.filters),
        )  # fmt: skip
        ways = _ways(len(steps), window)
        ctes = [put("hits AS MATERIALIZED ({})", hits), *(put(f"way_{n} AS ({{}})", way) for n, way in enumerate(ways))]
        counts = ", ".join(f"(SELECT count(DISTINCT who) FROM way_{n})" for n in range(len(ways)))
        return _with(terms, ctes, Sql(f"SELECT {counts}"))

    return _plan(query, {who, "occurred", "tie"}, (*query.filters, *steps), render)


def _ways(steps: int, window: timedelta | None) -> list[Sql]:
    """The paths to each step, from the relation `hits`."""
    ways = [Sql("SELECT who, place, occurred AS began FROM hits WHERE s0")]
    for n in range(1, steps):
        joined = (
            f"SELECT hit.who, hit.place, before.began FROM (SELECT * FROM hits WHERE s{n}) hit"
            f" ASOF JOIN way_{n - 1} before ON hit.who = before.who AND hit.place > before.place"
        )
        if window is None:
            ways.append(Sql(joined))
        else:
            limit = value(window // timedelta(milliseconds=1))
            ways.append(put(f"{joined} WHERE hit.occurred - before.began <= {{}}", limit))
    return ways


def retention(query: Query, grain: Grain) -> Plan:
    """The statement returns rows of (bucket of a visitor's first event, bucket of any event, number of visitors)."""
    clock = LocalClock(query.period)
    # Without filters, a visitor's first event in a bucket stands for all of them.
    openings = clock.no_visit_leaps and not query.filters

    def render(terms: Terms, columns: set[str]) -> Sql:
        clock = terms.clock
        events, fits = terms.rows(columns, openings=openings), terms.filters(query.filters)
        if openings:
            events, fits = clock.touched(events, grain), Sql(f"(seen IS NULL OR {clock.is_new('seen', grain)})")
        came = put(
            f"SELECT DISTINCT visitor, {clock.bucket(clock.column, grain)} AS bucket FROM ({{}})"
            " WHERE visitor IS NOT NULL AND {}",
            events, fits,
        )  # fmt: skip
        first = Sql("first AS (SELECT visitor, min(bucket) AS cohort FROM came GROUP BY visitor)")
        counts = Sql("SELECT cohort, bucket, count(*) FROM came JOIN first USING (visitor) GROUP BY cohort, bucket")
        return _with(terms, [put("came AS MATERIALIZED ({})", came), first], counts)

    return _plan(query, {"visitor", clock.column} | ({"seen"} if openings else set()), query.filters, render)


def views_of(query: Query, page: str) -> Plan:
    """The statement returns the matching pageviews of `page`: their visits, their places in these visits, and the
    interval of these visits.
    """

    def render(terms: Terms, columns: set[str]) -> Sql:
        found = put(
            f"SELECT visit, {_PLACE} AS place, span_start, span_end FROM ({{}})"
            " WHERE visit IS NOT NULL AND name = 'pageview' AND {} = {} AND {}",
            terms.rows(columns), text_or_missing("event:page"), value(page), terms.filters(query.filters),
        )  # fmt: skip
        return _with(terms, [], found)

    columns = {"visit", "name", "page", "occurred", "tie", "span_start", "span_end"}
    return _plan(query, columns, query.filters, render)


def neighbours(interval: Interval, limit: int) -> Plan:
    """The statement returns rows of (direction, page, count) for the pageviews in the relation `viewed`, whose visits
    are in the interval. The directions are "following" and "preceding". Each has the most frequent pages first, up to
    the limit. A NULL page means that no page followed or preceded.
    """
    columns = frozenset(("visit", "name", "page", "occurred", "tie"))
    return Plan(interval, columns, lambda snapshot: _neighbours(snapshot.rows(interval, sorted(columns)), limit))


def _neighbours(rows: Sql, limit: int) -> Sql:
    views = put(
        f"SELECT visit, {_PLACE} AS place, {{}} AS page FROM ({{}})"
        " WHERE name = 'pageview' AND visit IN (SELECT visit FROM viewed)",
        text_or_missing("event:page"), rows,
    )  # fmt: skip
    beside = (
        "SELECT visit, place, lead(page) OVER views AS following, lag(page) OVER views AS preceding FROM ({})"
        " WINDOW views AS (PARTITION BY visit ORDER BY place)"
    )
    ways = [
        put(
            f"(SELECT '{way}' AS way, {way} AS page, count(*) AS n FROM met GROUP BY page"
            " ORDER BY n DESC, page IS NULL, page LIMIT {})",
            value(limit),
        )
        for way in ("following", "preceding")
    ]
    return put(
        f"WITH met AS MATERIALIZED (SELECT following, preceding FROM ({beside}) JOIN viewed USING (visit, place))"
        " SELECT * FROM ({}) ORDER BY way, n DESC, page IS NULL, page",
        views,
        joined_by(" UNION ALL ", ways),
    )


def visitor_history(interval: Interval, visitor: int, limit: int, most_events: int, most_bytes: int) -> Plan:
    """The statement returns the events of the visitor's latest visits: the latest visit first, its events in order, up
    to both limits. The last column is the total number of events of those visits. The events are chosen without their
    properties, because a visitor may have gigabytes of them.
    """
    columns = frozenset((
        "occurred", "tie", "visitor", "visit", "visit_duration", "visit_pageviews", "visit_bounce",
        "entry_page", "exit_page", "name", "page", "hostname", "engagement_time", "scroll_depth", "revenue",
        "currency", "props", *DESCRIBED,
    ))  # fmt: skip

    def render(snapshot: Snapshot) -> Sql:
        described = ", ".join(f"{name} := {name}" for name in DESCRIBED)
        who = put("visitor = {} AND visit IS NOT NULL", value(visitor))
        theirs = put(
            f"SELECT visit, xor(visit, visitor)::BIGINT AS began, occurred, tie, {EVENT_BYTES} + coalesce(strlen("
            "props::VARCHAR), 0) AS size FROM ({}) WHERE {}",
            snapshot.rows(interval, ("visitor", "visit", "occurred", "tie", "props")), who,
        )  # fmt: skip
        latest = put("SELECT visit FROM theirs GROUP BY visit ORDER BY max(occurred) DESC LIMIT {}", value(limit))
        counted = (
            "SELECT visit, occurred, tie, row_number() OVER places AS place, sum(size) OVER places AS bytes,"
            " count(*) OVER () AS events FROM theirs WHERE visit IN (SELECT visit FROM latest)"
            " WINDOW places AS (ORDER BY began DESC, visit, occurred, tie ROWS UNBOUNDED PRECEDING)"
        )
        shown = put(
            f"SELECT * FROM ({counted}) WHERE place <= {{}} AND bytes <= {{}}", value(most_events), value(most_bytes)
        )
        return put(
            "WITH theirs AS MATERIALIZED ({}), latest AS ({}), shown AS MATERIALIZED ({})"
            " SELECT visit, xor(visit, visitor)::BIGINT AS began, visit_duration, visit_pageviews, visit_bounce,"
            f" entry_page, exit_page, struct_pack({described}) AS described,"
            " occurred, name, page, hostname, engagement_time, scroll_depth, revenue, currency, props,"
            " (SELECT max(events) FROM shown) FROM ({}) WHERE {}"
            " AND (visit, occurred, tie) IN (SELECT (visit, occurred, tie) FROM shown)"
            " ORDER BY began DESC, visit, occurred, tie",
            theirs, latest, shown, snapshot.rows(interval, sorted(columns)), who,
        )  # fmt: skip

    return Plan(interval, columns, render)


def places(query: Query) -> Plan:
    """The statement returns the places of the matching events, in order of time. A place is (occurred, visitor, tie),
    and no two events share one.
    """

    def render(terms: Terms, columns: set[str]) -> Sql:
        found = "SELECT occurred, visitor, tie FROM ({}) WHERE {} ORDER BY occurred"
        return _with(terms, [], put(found, terms.rows(columns), terms.filters(query.filters)))

    return _plan(query, {"occurred", "visitor", "tie"}, query.filters, render)


def _plan(query: Query, columns: set[str], filters: Sequence[Filter], render: Callable[[Terms, set[str]], Sql]) -> Plan:
    """Return the plan of a statement over one relation of events with these columns and those of the filters. `render`
    takes all columns of the relation.
    """
    of_relation = columns | columns_of(filters, query.goals)
    of_all = of_relation | columns_of(filters, query.goals, inside_done=True)
    return Plan(query.period.interval, frozenset(of_all), lambda snapshot: render(Terms(query, snapshot), of_relation))


def _with(terms: Terms, ctes: Sequence[Sql], body: Sql) -> Sql:
    done = [put(f"done_{n} AS ({{}})", each) for n, each in enumerate(terms.done, start=1)]
    if not (done or ctes):
        return body
    return put("WITH {} {}", joined_by(", ", [*done, *ctes]), body)
