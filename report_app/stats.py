"""GET /stats and the routes below it: a site's numbers, with parameters that can be typed into curl.

/stats has the numbers of one UTC day or of all time. /stats/timeseries and /stats/breakdown answer the same queries as
POST /api/v2/query, from the parameters of a URL. /stats/realtime has the current visitors.
"""

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from functools import partial
from itertools import chain
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from flask import Blueprint, Response, request
from marshmallow import EXCLUDE, Schema, ValidationError, fields
from marshmallow.validate import Length

from analytics.json_schema import TEXT, Count, DayText, Json, Keywords, MomentText, one_of
from analytics.queries.query import GRAINS
from analytics.queries.query_schema import query_json
from analytics.reports.engine import Reports
from analytics.reports.realtime import Lately, RealtimeReader
from analytics.reports.results import PathViews
from analytics.schema_fields import EARLIEST, LATEST_SENT, StrictSchema, Text, normalized
from analytics.suggestion import did_you_mean
from report_app.csv_output import CSV, FORMAT_PARAMETERS, as_csv, wants_csv
from report_app.errors import OF_QUESTIONS
from report_app.metric_format import Figure, Warnings, cells, columns, figure, metric_warnings
from report_app.query_json_schema import DATE_TEXT
from report_app.site_lookup import SITE_EXAMPLE, SiteLookup
from report_app.url_parameters import (
    FILTER_PARAMETERS,
    PAGING,
    PERIOD,
    TABLE_PARAMETERS,
    UrlQuery,
    bad_parameters,
    read_parameters,
    short,
)
from web.auth import Check, api_key_id
from web.errors import BadRequest
from web.openapi import Operation, described_by, parameter
from web.request_data import read

_ASKED = ("site_id", *PERIOD, "metrics", "by", *PAGING, "format", "bom")


class Day(fields.Date):
    """Accepts only YYYY-MM-DD. strptime alone would also accept 2026-1-5."""

    json_schema: Json = DATE_TEXT

    default_error_messages = {
        "invalid": "Not a valid date. Send YYYY-MM-DD.",
        "range": "Not between the years 1970 and 9998.",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> date:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            raise self.make_error("invalid", input=value, obj_type="date")
        day: date = super()._deserialize(value, attr, data, **kwargs)
        if not EARLIEST.date() <= day < LATEST_SENT.date():
            raise self.make_error("range")
        return day


class StatsQuery(Schema):
    class Meta:
        unknown = EXCLUDE  # as in the first version; all other routes refuse unknown parameters

    site_id = fields.String(required=True, validate=Length(min=1, max=128))
    date = Day(format="%Y-%m-%d")


class RealtimeQuery(StrictSchema):
    site_id = Text(required=True, shortest=1, longest=128)


_query = StatsQuery()


class StatsJson(TypedDict):
    site_id: str
    date: DayText | Literal["all_time"]
    total_views: Count
    unique_users: Count
    top_paths: Annotated[list[PathViews], Keywords(maxItems=10)]


class RealtimeJson(TypedDict):
    site_id: str
    as_of: MomentText
    last_5_minutes: Lately
    last_30_minutes: Lately


TableJson = TypedDict(
    "TableJson",
    {
        "site_id": str | list[str],
        "from": MomentText,
        "to": MomentText,
        "results": list[dict[str, str | Figure]],
        "total_rows": NotRequired[Count],
        "as_of": NotRequired[Annotated[MomentText, "Events stored after this time may be missing."]],
        "metric_warnings": NotRequired[Warnings],
    },
)

OVERVIEW = "Reports"
_STATS = Operation(
    summary="Summary of one day or of all time",
    tag=OVERVIEW,
    query=StatsQuery,
    says=OF_QUESTIONS,
    examples={"site_id": SITE_EXAMPLE, "date": "2026-11-22"},
)
_TIMESERIES = Operation(
    summary="Metrics over time",
    tag=OVERVIEW,
    parameters=[
        *TABLE_PARAMETERS,
        *FORMAT_PARAMETERS,
        FILTER_PARAMETERS,
        parameter("grain", one_of(*GRAINS), "The default depends on the length of the period."),
    ],
    answer={CSV: TEXT},
    says=OF_QUESTIONS,
    examples={"site_id": [SITE_EXAMPLE], "period": "7d", "metrics": ["visitors", "bounce_rate"], "grain": "day"},
)
_BREAKDOWN = Operation(
    summary="Metrics by page, source, country or other dimensions",
    tag=OVERVIEW,
    parameters=[*TABLE_PARAMETERS, *FORMAT_PARAMETERS, FILTER_PARAMETERS],
    answer={CSV: TEXT},
    says=OF_QUESTIONS,
    examples={"site_id": [SITE_EXAMPLE], "by": ["source", "country"], "limit": 5, "filters": {"device!": "Mobile"}},
)
_REALTIME = Operation(
    summary="Visitors and pages of the last 5 and 30 minutes",
    tag=OVERVIEW,
    query=RealtimeQuery,
    says=OF_QUESTIONS,
    examples={"site_id": SITE_EXAMPLE},
)


def stats_blueprint(
    reports: Reports, realtime: RealtimeReader, site_called: SiteLookup, auth: Check, clock: Callable[[], datetime]
) -> Blueprint:
    blueprint = Blueprint("stats", __name__)
    blueprint.before_request(auth)

    @blueprint.get("/stats")
    @described_by(_STATS)
    def read_stats() -> StatsJson:
        query = _read_query()
        day = query.get("date")
        site_id = site_called(query["site_id"]).site_id
        found = reports.stats(site_id, day, reports.budget(api_key_id()))
        return {
            "site_id": site_id,
            "date": day.isoformat() if day else "all_time",
            "total_views": found.total_views,
            "unique_users": found.unique_users,
            "top_paths": found.top_paths,
        }

    @blueprint.get("/stats/timeseries")
    @described_by(_TIMESERIES)
    def timeseries() -> TableJson | Response:
        asked = read_parameters(request.args, [*_ASKED, "grain"], metrics="visitors,visits,pageviews", rolls_up=True)
        asked.body["dimensions"].insert(0, _time_dimension())
        asked.body["include"] = {"time_labels": True}
        return answer(asked)

    @blueprint.get("/stats/breakdown")
    @described_by(_BREAKDOWN)
    def breakdown() -> TableJson | Response:
        asked = read_parameters(request.args, _ASKED, by="page", metrics="visitors,pageviews", rolls_up=True)
        asked.body["pagination"] = {"limit": 100} | asked.body["pagination"]
        asked.body["include"] = {"total_rows": True}
        return answer(asked)

    @blueprint.get("/stats/realtime")
    @described_by(_REALTIME)
    def right_now() -> RealtimeJson:
        site_id = site_called(read(RealtimeQuery(), request.args)["site_id"]).site_id
        found = realtime.read(site_id)
        return {
            "site_id": site_id,
            "as_of": found.as_of.isoformat(),
            "last_5_minutes": found.last_5_minutes,
            "last_30_minutes": found.last_30_minutes,
        }

    def answer(asked: UrlQuery) -> TableJson | Response:
        budget = reports.budget(api_key_id())
        csv = wants_csv()
        with asked.naming_parameters():
            site, *others = site_called.each(asked.site_ids)
            first_event = partial(reports.earliest_of, [each.site_id for each in (site, *others)], budget)
            query = asked.load(site, clock(), first_event, others)
            found = reports.answer(query, budget)
        answered = budget.each(found.rows)
        dimensions = [short(dimension) for dimension in query.dimensions]
        if csv:
            names = [*dimensions, *chain.from_iterable(columns(metric) for metric in query.metrics)]
            return as_csv(names, ([*row.dimensions, *_all_cells(query.metrics, row.metrics)] for row in answered))
        understood = query_json(query, asked.body)
        first, last = understood["date_range"]
        rows = ((*row.dimensions, *map(figure, row.metrics)) for row in answered)
        results = [dict(zip((*dimensions, *query.metrics), row, strict=True)) for row in rows]
        said: TableJson = {"site_id": understood["site_id"], "from": first, "to": last, "results": results}
        if found.total_rows is not None:
            said["total_rows"] = found.total_rows
        if found.as_of:
            said["as_of"] = found.as_of.isoformat()
        if warnings := metric_warnings(query):
            said["metric_warnings"] = warnings
        return said

    return blueprint


def _all_cells(names: Sequence[str], metrics: Sequence[Any]) -> Any:
    return chain.from_iterable(cells(*both) for both in zip(names, metrics, strict=True))


def _time_dimension() -> str:
    """The time dimension of the given grain, or without a grain the one that suits the period. Raises BadRequest."""
    grain = request.args.get("grain")
    if grain is not None and grain not in GRAINS:
        raise bad_parameters({"grain": [f"Not a grain. Send one of {', '.join(GRAINS)}.{did_you_mean(grain, GRAINS)}"]})
    return f"time:{grain}" if grain else "time"


def _read_query() -> dict[str, Any]:
    try:
        query: dict[str, Any] = _query.load(request.args)
    except ValidationError as error:
        names = normalized(error)
        raise BadRequest("invalid_query", f"The query is not valid: see {', '.join(names)}.", names) from None
    return query
