"""Funnels, retention, journeys and histories as DuckDB's SQL. As in query_sql.py, all text from users is passed as
parameters.
"""

from collections.abc import Sequence
from datetime import timedelta

from analytics.events.event import DESCRIBED
from analytics.queries.query import Filter, Grain, Query
from analytics.reports.query_sql import LocalClock, Rows, Terms
from analytics.sql import Sql, joined_by, put, value

# One number for the place of an event among its visitor's events, because ASOF JOIN compares a single column. No
# visitor has more than 32,767 events in one millisecond. The product stays below 2^63 until the year 10889.
EVENT_BYTES = 1_000  # approximate bytes of an event in a history, without its properties
_PLACE = "occurred * 32768 + least(tie, 32767)"


def funnel(query: Query, rows: Rows, steps: Sequence[Filter], window: timedelta | None) -> Sql:
    """Return one row: how many visitors (with a window) or visits (without) reached each step.

    Each step is joined to the latest path to the step before it. A later path began no earlier, so it has the most time
    left. One join for each step therefore finds whether any start fits.
    """
    who = "visit" if window is None else "visitor"
    terms = Terms(query, LocalClock.of(query.period, query.extent), rows)
    fits = terms.filters(query.filters)
    meets = [put(f"{{}} AS s{n}", terms.filter(step)) for n, step in enumerate(steps)]
    hits = put(
        f"SELECT {who} AS who, occurred, {_PLACE} AS place, {{}} FROM ({{}}) WHERE {who} IS NOT NULL AND {{}}",
        joined_by(", ", meets), terms.rows(who, "occurred", "tie"), fits,
    )  # fmt: skip
    ways = [Sql("SELECT who, place, occurred AS began FROM hits WHERE s0")]
    for n in range(1, len(steps)):
        joined = (
            f"SELECT hit.who, hit.place, before.began FROM (SELECT * FROM hits WHERE s{n}) hit"
            f" ASOF JOIN way_{n - 1} before ON hit.who = before.who AND hit.place > before.place"
        )
        if window is None:
            ways.append(Sql(joined))
        else:
            limit = value(window // timedelta(milliseconds=1))
            ways.append(put(f"{joined} WHERE hit.occurred - before.began <= {{}}", limit))
    ctes = [put("hits AS MATERIALIZED ({})", hits), *(put(f"way_{n} AS ({{}})", way) for n, way in enumerate(ways))]
    counts = ", ".join(f"(SELECT count(DISTINCT who) FROM way_{n})" for n in range(len(ways)))
    return _with(terms, ctes, Sql(f"SELECT {counts}"))


def retention(query: Query, rows: Rows, grain: Grain) -> Sql:
    """Return rows of (bucket of a visitor's first event, bucket of any event, number of visitors)."""
    clock = LocalClock.of(query.period, query.extent)
    terms = Terms(query, clock, rows)
    fits = terms.filters(query.filters)
    terms.columns |= {"visitor", clock.column}
    if query.filters or not clock.no_visit_leaps:
        events = terms.rows()
    else:  # a visitor's first event in a bucket stands for all of them
        terms.column("seen")
        events, fits = terms.openings(grain), Sql(f"(seen IS NULL OR {clock.is_new('seen', grain)})")
    came = put(
        f"SELECT DISTINCT visitor, {clock.bucket(clock.column, grain)} AS bucket FROM ({{}})"
        " WHERE visitor IS NOT NULL AND {}",
        events, fits,
    )  # fmt: skip
    first = Sql("first AS (SELECT visitor, min(bucket) AS cohort FROM came GROUP BY visitor)")
    counts = Sql("SELECT cohort, bucket, count(*) FROM came JOIN first USING (visitor) GROUP BY cohort, bucket")
    return _with(terms, [put("came AS MATERIALIZED ({})", came), first], counts)


def views_of(query: Query, rows: Rows, page: str) -> Sql:
    """Return the matching pageviews of `page`: their visits, their places in these visits, and the interval of these
    visits.
    """
    terms = Terms(query, LocalClock.of(query.period, query.extent), rows)
    fits = terms.filters(query.filters)
    viewed = put("{} = {}", terms.dimension("event:page"), value(page))
    found = put(
        f"SELECT visit, {_PLACE} AS place, span_start, span_end FROM ({{}})"
        " WHERE visit IS NOT NULL AND name = 'pageview' AND {} AND {}",
        terms.rows("visit", "name", "occurred", "tie", "span_start", "span_end"), viewed, fits,
    )  # fmt: skip
    return _with(terms, [], found)


def neighbours(query: Query, rows: Rows) -> Sql:
    """Return rows of (direction, page, count) for the pageviews in the relation `viewed`. The directions are
    "following" and "preceding". Each has the most frequent pages first, up to the query's limit. A NULL page means that
    no page followed or preceded.
    """
    terms = Terms(query, LocalClock.of(query.period, query.extent), rows)
    page = terms.dimension("event:page")
    views = put(
        f"SELECT visit, {_PLACE} AS place, {{}} AS page FROM ({{}})"
        " WHERE name = 'pageview' AND visit IN (SELECT visit FROM viewed)",
        page, terms.rows("visit", "name", "occurred", "tie"),
    )  # fmt: skip
    beside = (
        "SELECT visit, place, lead(page) OVER views AS following, lag(page) OVER views AS preceding FROM ({})"
        " WINDOW views AS (PARTITION BY visit ORDER BY place)"
    )
    ways = [
        put(
            f"(SELECT '{way}' AS way, {way} AS page, count(*) AS n FROM met GROUP BY page"
            " ORDER BY n DESC, page IS NULL, page LIMIT {})",
            value(query.limit),
        )
        for way in ("following", "preceding")
    ]
    return put(
        f"WITH met AS MATERIALIZED (SELECT following, preceding FROM ({beside}) JOIN viewed USING (visit, place))"
        " SELECT * FROM ({}) ORDER BY way, n DESC, page IS NULL, page",
        views,
        joined_by(" UNION ALL ", ways),
    )


def visitor_history(rows: Rows, visitor: int, limit: int, most_events: int, most_bytes: int) -> Sql:
    """Return the events of the visitor's latest visits: the latest visit first, its events in order, up to both limits.
    The last column is the total number of events of those visits. The events are chosen without their properties,
    because a visitor may have gigabytes of them.
    """
    described = ", ".join(f"{name} := {name}" for name in DESCRIBED)
    columns = ("occurred", "tie", "visitor", "visit", "visit_duration", "visit_pageviews", "visit_bounce",
               "entry_page", "exit_page", "name", "page", "hostname", "engagement_time", "scroll_depth", "revenue",
               "currency", "props", *DESCRIBED)  # fmt: skip
    who = put("visitor = {} AND visit IS NOT NULL", value(visitor))
    theirs = put(
        f"SELECT visit, xor(visit, visitor)::BIGINT AS began, occurred, tie, {EVENT_BYTES} + coalesce(strlen("
        "props::VARCHAR), 0) AS size FROM ({}) WHERE {}",
        rows(("visitor", "visit", "occurred", "tie", "props")), who,
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
        theirs, latest, shown, rows(columns), who,
    )  # fmt: skip


def places(query: Query, rows: Rows) -> Sql:
    """Return the places of the matching events, in order of time. A place is (occurred, visitor, tie), and no two
    events share one.
    """
    terms = Terms(query, LocalClock.of(query.period, query.extent), rows)
    fits = terms.filters(query.filters)
    found = terms.rows("occurred", "visitor", "tie")
    return _with(terms, [], put("SELECT occurred, visitor, tie FROM ({}) WHERE {} ORDER BY occurred", found, fits))


def _with(terms: Terms, ctes: Sequence[Sql], body: Sql) -> Sql:
    done = [put(f"done_{n} AS ({{}})", each) for n, each in enumerate(terms.done, start=1)]
    if not (done or ctes):
        return body
    return put("WITH {} {}", joined_by(", ", [*done, *ctes]), body)
