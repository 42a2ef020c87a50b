"""POST /api/v2/funnel, /retention and /journeys: what visitors did in sequence.

Plausible's API has none of them. Their site, date range and filters are those of /api/v2/query, and their errors have
the same shape.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from flask import Blueprint, Response, jsonify

from analytics.queries.exploration_schema import load_funnel, load_journeys, load_retention
from analytics.reports.engine import Reports
from analytics.reports.results import Cohort
from report_app.metric_format import share
from report_app.site_lookup import SiteLookup
from web.auth import Check, api_key_id
from web.request_data import read_body


def explorations_blueprint(
    reports: Reports, site_called: SiteLookup, auth: Check, clock: Callable[[], datetime]
) -> Blueprint:
    blueprint = Blueprint("explorations", __name__, url_prefix="/api/v2")
    blueprint.before_request(auth)

    @blueprint.post("/funnel")
    def funnel() -> Response:
        budget = reports.budget(api_key_id())
        asked = load_funnel(read_body(), site_called, clock(), partial(reports.earliest, budget=budget))
        counts = reports.funnel(asked.query, asked.steps, asked.window, budget)
        return jsonify(results=_steps(asked.labels, counts), query=asked.shown)

    @blueprint.post("/retention")
    def retention() -> Response:
        budget = reports.budget(api_key_id())
        asked = load_retention(read_body(), site_called, clock(), partial(reports.earliest, budget=budget))
        cohorts = reports.retention(asked.query, asked.grain, budget)
        return jsonify(results=[_cohort(cohort) for cohort in budget.each(cohorts)], query=asked.shown)

    @blueprint.post("/journeys")
    def journeys() -> Response:
        budget = reports.budget(api_key_id())
        asked = load_journeys(read_body(), site_called, clock(), partial(reports.earliest, budget=budget))
        found = reports.journeys(asked.query, asked.page, budget)
        both = {"following": found.following, "preceding": found.preceding}
        pages = {name: [_page(*each) for each in some] for name, some in both.items()}
        return jsonify(results=pages, query=asked.shown)

    return blueprint


def _steps(labels: Sequence[str], counts: Sequence[int]) -> list[dict[str, Any]]:
    """The steps of an answer. No visitor is lost before the first step, so its share is that of itself."""
    steps = []
    for label, count, before in zip(labels, counts, [counts[0], *counts], strict=False):
        shares = {"share": share(count, counts[0]), "share_of_previous": share(count, before)}
        steps.append({"label": label, "count": count, **shares, "dropped": before - count})
    return steps


def _cohort(cohort: Cohort) -> dict[str, Any]:
    shares = [share(count, cohort.active[0]) for count in cohort.active]
    return {"cohort": cohort.label, "visitors": cohort.active[0], "active": cohort.active, "shares": shares}


def _page(page: str | None, count: int) -> dict[str, Any]:
    return {"page": page, "count": count}
