"""POST /api/v2/funnel, /retention and /journeys: what visitors did in sequence.

Plausible's API has none of them. Their site, date range and filters are those of /api/v2/query, and their errors have
the same shape.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any, NotRequired, TypedDict

from flask import Blueprint

from analytics.json_schema import Count, Json, Percent
from analytics.queries.exploration_schema import (
    STEP_KINDS,
    Funnel,
    FunnelSchema,
    JourneysSchema,
    RetentionSchema,
    load_funnel,
    load_journeys,
    load_retention,
)
from analytics.queries.query import Query
from analytics.reports.engine import Reports
from analytics.reports.results import Cohort
from report_app.errors import OF_PROGRAMS, PlausibleError
from report_app.metric_format import SUMMED_OVER_SITES, share
from report_app.query import PROGRAMS, Understood
from report_app.site_lookup import SITE_EXAMPLE, SiteLookup
from web.auth import Check, api_key_id
from web.openapi import JSON, Operation, described_by
from web.request_data import read_body


class StepJson(TypedDict):
    label: str
    count: Count
    share: Percent
    share_of_previous: Percent
    dropped: Count


class ExploredJson(TypedDict):
    query: Understood
    warning: NotRequired[Annotated[str, "What to know about a report about several sites."]]


class FunnelJson(ExploredJson):
    results: list[StepJson]


class CohortJson(TypedDict):
    cohort: str
    visitors: Count
    active: Sequence[Count]
    shares: list[Percent]


class RetentionJson(ExploredJson):
    results: list[CohortJson]


class PageJson(TypedDict):
    page: str | None
    count: Count


class DirectionsJson(TypedDict):
    following: list[PageJson]
    preceding: list[PageJson]


class JourneysJson(ExploredJson):
    results: DirectionsJson


_EXPLORED: Json = {"site_id": SITE_EXAMPLE, "date_range": "30d"}
_STEPS = [{"page": "/"}, {"event": "signup", "label": "Signed up"}]
_FUNNEL = Operation(
    summary="How many visitors completed each step of a funnel",
    tag=PROGRAMS,
    note=f"A step has exactly one of {', '.join(STEP_KINDS)}.",
    body={JSON: FunnelSchema},
    error=PlausibleError,
    says=OF_PROGRAMS,
    examples={"body": _EXPLORED | {"steps": _STEPS, "window": "7d"}},
)
_RETENTION = Operation(
    summary="How many visitors came back, by cohort",
    tag=PROGRAMS,
    body={JSON: RetentionSchema},
    error=PlausibleError,
    says=OF_PROGRAMS,
    examples={"body": _EXPLORED | {"grain": "week"}},
)
_JOURNEYS = Operation(
    summary="Pages that visitors viewed before and after a page",
    tag=PROGRAMS,
    body={JSON: JourneysSchema},
    error=PlausibleError,
    says=OF_PROGRAMS,
    examples={"body": _EXPLORED | {"page": "/pricing", "limit": 5}},
)


def explorations_blueprint(
    reports: Reports, site_called: SiteLookup, auth: Check, clock: Callable[[], datetime]
) -> Blueprint:
    blueprint = Blueprint("explorations", __name__, url_prefix="/api/v2")
    blueprint.before_request(auth)

    @blueprint.post("/funnel")
    @described_by(_FUNNEL)
    def funnel() -> FunnelJson:
        budget = reports.budget(api_key_id())
        asked = load_funnel(read_body(), site_called.each, clock(), partial(reports.earliest_of, budget=budget))
        counts = reports.funnel(asked.query, asked.steps, asked.window, budget)
        return funnel_json(asked, counts)

    @blueprint.post("/retention")
    @described_by(_RETENTION)
    def retention() -> RetentionJson:
        budget = reports.budget(api_key_id())
        asked = load_retention(read_body(), site_called.each, clock(), partial(reports.earliest_of, budget=budget))
        cohorts = reports.retention(asked.query, asked.grain, budget)
        results = [_cohort(cohort) for cohort in budget.each(cohorts)]
        return {"results": results, **_explored(asked.query, asked.shown)}

    @blueprint.post("/journeys")
    @described_by(_JOURNEYS)
    def journeys() -> JourneysJson:
        budget = reports.budget(api_key_id())
        asked = load_journeys(read_body(), site_called.each, clock(), partial(reports.earliest_of, budget=budget))
        found = reports.journeys(asked.query, asked.page, budget)
        return {
            "results": {
                "following": [_page(*each) for each in found.following],
                "preceding": [_page(*each) for each in found.preceding],
            },
            **_explored(asked.query, asked.shown),
        }

    return blueprint


def funnel_json(asked: Funnel, counts: Sequence[int]) -> FunnelJson:
    """The answer, from how many reached each step."""
    return {"results": _steps(asked.labels, counts), **_explored(asked.query, asked.shown)}


def _explored(query: Query, shown: Mapping[str, Any]) -> ExploredJson:
    said: ExploredJson = {"query": shown}
    if query.others:
        said["warning"] = SUMMED_OVER_SITES
    return said


def _steps(labels: Sequence[str], counts: Sequence[int]) -> list[StepJson]:
    """The steps of an answer. No visitor is lost before the first step, so its share is that of itself."""
    return [
        {
            "label": label,
            "count": count,
            "share": share(count, counts[0]),
            "share_of_previous": share(count, before),
            "dropped": before - count,
        }
        for label, count, before in zip(labels, counts, [counts[0], *counts], strict=False)
    ]


def _cohort(cohort: Cohort) -> CohortJson:
    shares = [share(count, cohort.active[0]) for count in cohort.active]
    return {"cohort": cohort.label, "visitors": cohort.active[0], "active": cohort.active, "shares": shares}


def _page(page: str | None, count: int) -> PageJson:
    return {"page": page, "count": count}
