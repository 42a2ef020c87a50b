"""GET /api/v1/stats/...: Plausible's Stats API v1. Each request becomes a query of version 2."""

from collections.abc import Callable
from datetime import date, datetime
from functools import partial
from typing import Any, NotRequired, TypedDict

from flask import Blueprint, Response, jsonify, request

from analytics.json_schema import Count, one_of, schema_of, text, whole
from analytics.queries.query import Query
from analytics.queries.query_schema import check_site_id, load_query
from analytics.reports.engine import Reports
from analytics.reports.realtime import RealtimeReader
from analytics.reports.results import Row
from analytics.schema_fields import YEARS
from report_app.errors import OF_VERSION_1, PlausibleError
from report_app.metric_format import Figure, change, figure, nothing
from report_app.plausible_v1.query_parameters import (
    COMPARE,
    FARTHEST_PAGE,
    FLAGS_V1,
    INTERVALS,
    MOST_RESULTS,
    PERIODS_V1,
    Args,
    aggregate_body,
    breakdown_body,
    metrics_asked,
    naming_parameters,
    timeseries_body,
)
from report_app.query_json_schema import DIMENSION, metric, metric_names
from report_app.site_lookup import SITE_EXAMPLE, SiteLookup
from report_app.url_parameters import CHARACTERS_IN_A_LIST, SITE_PARAMETER
from web.auth import Check, api_key_id
from web.openapi import JSON, Operation, described_by, parameter


class TotalJson(TypedDict):
    value: Figure
    comparison_value: NotRequired[Figure]
    change: NotRequired[int | None]


class TotalsJson(TypedDict):
    results: dict[str, TotalJson]


class RowsJson(TypedDict):
    results: list[dict[str, str | Figure]]


VERSION_1 = "Plausible's API of version 1"
_DAY = f"{YEARS}-[01][0-9]-[0-3][0-9]"
_ASKED = [
    SITE_PARAMETER,
    parameter("period", one_of(*PERIODS_V1), "The default is `30d`, which ends with `date`."),
    parameter(
        "date",
        text(pattern=f"^{_DAY}(,{_DAY})?$"),
        "A day. The default is today. With the period `custom`, the first and the last day.",
    ),
    parameter(
        "metrics", metric_names(metric(CHARACTERS_IN_A_LIST)), "The default is `visitors`.", style="form", explode=False
    ),
    parameter("with_imported", one_of(*FLAGS_V1), "`true` includes imported daily totals that can answer."),
    parameter("filters", text(), "For example `visit:browser==Firefox|Safari;event:page==/blog/**`."),
]
_OF_BREAKDOWN = [
    *_ASKED,
    parameter("property", DIMENSION, "A dimension, for example `event:page`.", required=True),
    parameter("limit", whole(1, MOST_RESULTS), "The default is 100."),
    parameter("page", whole(1, FARTHEST_PAGE), "The page of results, from 1."),
]


def _described(summary: str, parameters: list[Any], **examples: object) -> Operation:
    return Operation(
        summary=summary, tag=VERSION_1, parameters=parameters, error=PlausibleError, says=OF_VERSION_1,
        examples={"site_id": SITE_EXAMPLE, **examples},
    )  # fmt: skip


_CURRENT = Operation(
    summary="Number of visitors in the last 5 minutes",
    tag=VERSION_1,
    parameters=[SITE_PARAMETER],
    answer={JSON: schema_of(Count)},
    error=PlausibleError,
    says=OF_VERSION_1,
    examples={"site_id": SITE_EXAMPLE},
)
_AGGREGATE = _described("Metrics of a period", [*_ASKED, parameter("compare", one_of(COMPARE))], period="7d")
_TIMESERIES = _described(
    "Metrics of a period by hour, day or month", [*_ASKED, parameter("interval", one_of(*INTERVALS, "date"))],
    period="6mo",
)  # fmt: skip
_BREAKDOWN = _described("Metrics of a period by a property", _OF_BREAKDOWN, property="event:page")


def stats_v1_blueprint(
    reports: Reports, realtime: RealtimeReader, site_called: SiteLookup, auth: Check, clock: Callable[[], datetime]
) -> Blueprint:
    blueprint = Blueprint("stats_v1", __name__, url_prefix="/api/v1/stats")
    blueprint.before_request(auth)

    @blueprint.get("/realtime/visitors")
    @described_by(_CURRENT)
    def current_visitors() -> Response:
        with naming_parameters():
            site = site_called(check_site_id(request.args.get("site_id", "")))
        return jsonify(realtime.read(site.site_id).last_5_minutes.visitors)

    @blueprint.get("/aggregate")
    @described_by(_AGGREGATE)
    def aggregate() -> TotalsJson:
        query, (row,) = answer(aggregate_body)
        return {"results": _totals(query, row)}

    @blueprint.get("/timeseries")
    @described_by(_TIMESERIES)
    def timeseries() -> RowsJson:
        return {"results": [_row(["date"], row) for row in answer(timeseries_body)[1]]}

    @blueprint.get("/breakdown")
    @described_by(_BREAKDOWN)
    def breakdown() -> RowsJson:
        query, rows = answer(breakdown_body)
        names = [_short(dimension) for dimension in query.dimensions]
        return {"results": [_row(names, row) for row in rows]}

    def answer(body_of: Callable[[Args, date], dict[str, Any]]) -> tuple[Query, list[Row]]:
        budget, now = reports.budget(api_key_id()), clock()
        with naming_parameters():
            site = site_called(check_site_id(request.args.get("site_id", "")))
            body = body_of(request.args, now.astimezone(site.zone).date())
            query = load_query(body, site, now, partial(reports.earliest, site.site_id, budget))
            return query, list(budget.each(reports.answer(query, budget).rows))

    return blueprint


def _totals(query: Query, row: Row) -> dict[str, TotalJson]:
    before = row.before or [nothing(name) for name in query.metrics]
    totals: dict[str, TotalJson] = {}
    for name, now, then in zip(query.metrics, row.metrics, before, strict=True):
        totals[name] = {"value": figure(now)}
        if query.compare_with:
            totals[name] |= {"comparison_value": figure(then), "change": change(now, then)}
    return totals


def _row(names: list[str], row: Row) -> dict[str, str | Figure]:
    return dict(zip(names, row.dimensions, strict=True)) | dict(
        zip(metrics_asked(request.args), map(figure, row.metrics), strict=True)
    )


def _short(dimension: str) -> str:
    """event:page is called page, and event:props:plan plan."""
    return dimension.split(":", 2)[-1]
