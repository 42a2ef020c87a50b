"""The numbers of a weekly or monthly summary, from the same engine as reports.

Callers must handle what Reports.answer raises.
"""

from __future__ import annotations  # evaluated, they would import DuckDB, which most workers do not need

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from analytics.notifications.calendar import period_before
from analytics.notifications.rule import RulePeriod
from analytics.queries.query import Order, Period, Query
from analytics.sites.site import Site

if TYPE_CHECKING:
    from analytics.reports.engine import Reports

FIGURES_SUMMARIZED = ("visitors", "visits", "pageviews", "views_per_visit", "bounce_rate", "visit_duration")
_LISTS = {"pages": "event:page", "sources": "visit:source", "countries": "visit:country_name", "goals": "event:goal"}
_NONE = (None,) * len(FIGURES_SUMMARIZED)
_MOST_ROWS = 5


def summary(reports: Reports, site: Site, grain: RulePeriod, period: Period) -> dict[str, Any] | None:
    """Return the figures of the period and of the period before, and the first rows of each list. Returns None if the
    engine cannot include all events yet, because too many are in no segment.
    """
    asked = Query(site.site_id, FIGURES_SUMMARIZED, period, compare_with=period_before(grain, period), goals=site.goals)
    answer = reports.answer(asked)
    if answer.as_of is not None:
        return None
    row = answer.rows[0]
    figures = zip(asked.metrics, row.metrics, row.before or _NONE, strict=True)
    return {
        "period": grain,
        "first_day": period.first_day().isoformat(),
        "last_day": period.last_day().isoformat(),
        "figures": {name: {"value": value, "before": before} for name, value, before in figures},
        **{
            name: _top(reports, asked, dimension) for name, dimension in _LISTS.items() if name != "goals" or site.goals
        },
    }


def _top(reports: Reports, asked: Query, dimension: str) -> list[dict[str, Any]]:
    order = (Order("visitors", descending=True), Order(dimension))
    query = replace(asked, metrics=("visitors",), dimensions=(dimension,), order_by=order, limit=_MOST_ROWS)
    rows = reports.answer(replace(query, compare_with=None)).rows
    return [{"name": row.dimensions[0], "visitors": row.metrics[0]} for row in rows]
