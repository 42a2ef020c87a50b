"""GET /stats and the routes below it: a site's numbers, with parameters that can be typed into curl.

/stats has the numbers of one UTC day or of all time. /stats/timeseries and /stats/breakdown answer the same queries as
POST /api/v2/query, from the parameters of a URL. /stats/realtime has the current visitors.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date, datetime
from functools import partial
from itertools import chain
from typing import Any

from flask import Blueprint, Response, jsonify, request
from marshmallow import EXCLUDE, Schema, ValidationError, fields
from marshmallow.validate import Length

from analytics.queries.query import GRAINS
from analytics.queries.query_schema import shown
from analytics.reports.engine import Reports
from analytics.reports.realtime import RealtimeReader
from analytics.schema_fields import EARLIEST, LATEST_SENT, StrictSchema, Text, normalized
from analytics.suggestion import did_you_mean
from report_app.csv_output import as_csv, wants_csv
from report_app.metric_format import cells, columns, figure
from report_app.site_lookup import SiteLookup
from report_app.url_parameters import PAGING, PERIOD, UrlQuery, bad_parameters, read_parameters, short
from web.auth import Check, api_key_id
from web.errors import BadRequest
from web.request_data import read

_ALL_TIME = "all_time"
_ASKED = ("site_id", *PERIOD, "metrics", "by", *PAGING, "format", "bom")


class Day(fields.Date):
    """Accepts only YYYY-MM-DD. strptime alone would also accept 2026-1-5."""

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


def stats_blueprint(
    reports: Reports, realtime: RealtimeReader, site_called: SiteLookup, auth: Check, clock: Callable[[], datetime]
) -> Blueprint:
    blueprint = Blueprint("stats", __name__)
    blueprint.before_request(auth)

    @blueprint.get("/stats")
    def read_stats() -> Response:
        query = _read_query()
        day = query.get("date")
        site_id = site_called(query["site_id"]).site_id
        found = reports.stats(site_id, day, reports.budget(api_key_id()))
        return jsonify(site_id=site_id, date=day.isoformat() if day else _ALL_TIME, **asdict(found))

    @blueprint.get("/stats/timeseries")
    def timeseries() -> Response:
        asked = read_parameters(request.args, [*_ASKED, "grain"], metrics="visitors,visits,pageviews")
        asked.body["dimensions"].insert(0, _time_dimension())
        asked.body["include"] = {"time_labels": True}
        return answer(asked)

    @blueprint.get("/stats/breakdown")
    def breakdown() -> Response:
        asked = read_parameters(request.args, _ASKED, by="page", metrics="visitors,pageviews")
        asked.body["pagination"] = {"limit": 100} | asked.body["pagination"]
        asked.body["include"] = {"total_rows": True}
        return answer(asked)

    @blueprint.get("/stats/realtime")
    def right_now() -> Response:
        site_id = site_called(read(RealtimeQuery(), request.args)["site_id"]).site_id
        found = asdict(realtime.read(site_id))
        return jsonify(site_id=site_id, **found | {"as_of": found["as_of"].isoformat()})

    def answer(asked: UrlQuery) -> Response:
        budget = reports.budget(api_key_id())
        csv = wants_csv()
        with asked.naming_parameters():
            site = site_called(asked.site_id)
            query = asked.load(site, clock(), partial(reports.earliest, site.site_id, budget))
            found = reports.answer(query, budget)
        answered = budget.each(found.rows)
        dimensions = [short(dimension) for dimension in query.dimensions]
        if csv:
            names = [*dimensions, *chain.from_iterable(columns(metric) for metric in query.metrics)]
            return as_csv(names, ([*row.dimensions, *_all_cells(query.metrics, row.metrics)] for row in answered))
        first, last = shown(query, asked.body)["date_range"]
        said: dict[str, Any] = {"site_id": query.site_id, "from": first, "to": last}
        if found.total_rows is not None:
            said["total_rows"] = found.total_rows
        if found.as_of:
            said["as_of"] = found.as_of.isoformat()
        rows = ((*row.dimensions, *map(figure, row.metrics)) for row in answered)
        return jsonify(said | {"results": [dict(zip((*dimensions, *query.metrics), row, strict=True)) for row in rows]})

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
