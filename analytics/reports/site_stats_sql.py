"""Plans what `GET /stats` asks, and when a site's first event was, as DuckDB's SQL. Pure. These statements read no
visits.
"""

from analytics.interval import QUARTER, Interval
from analytics.reports.query_plan import Plan
from analytics.segments.snapshot import Snapshot
from analytics.sql import Sql, put, value

MOST_PATHS = 10

# It is one statement, because a second statement costs 2 ms.
_STATS = f"""
WITH people AS (SELECT {{}} AS users FROM ({{}}) WHERE seen IS NULL OR seen < {{}}), pages AS (
  SELECT page, count(*) AS n FROM ({{}}) WHERE name = 'pageview' GROUP BY page)
SELECT users, page, n, total FROM people LEFT JOIN (
  SELECT page, n, (sum(n) OVER ())::BIGINT AS total FROM pages
  ORDER BY page IS NULL, n DESC, page LIMIT {MOST_PATHS}) ON true
ORDER BY page IS NULL, n DESC, page
"""


def site_stats(interval: Interval) -> Plan:
    """The statement returns the number of visitors; the pages with the most pageviews, with pageviews without a page
    last; and the number of all pageviews.
    """

    def render(snapshot: Snapshot) -> Sql:
        users = Sql("count(*)" if snapshot.holds_whole(interval) else "count(DISTINCT visitor)")
        people = snapshot.rows(interval, ["visitor", "seen"], openings=True)
        since = value(interval.start // QUARTER)
        return put(_STATS, users, people, since, snapshot.rows(interval, ["name", "page"]))

    return Plan(interval, frozenset(("visitor", "seen", "name", "page")), render)


def first_event(interval: Interval) -> Plan:
    """The statement returns when the first event of the interval was, or NULL."""

    def render(snapshot: Snapshot) -> Sql:
        return put("SELECT min(occurred) FROM ({})", snapshot.rows(interval, ["occurred"]))

    return Plan(interval, frozenset(("occurred",)), render)
