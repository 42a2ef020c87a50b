"""GET /stats: a site's views, users and top paths, of one UTC day or of all time."""

import re
from dataclasses import asdict
from datetime import date
from typing import Any

from flask import Blueprint, Response, jsonify, request
from marshmallow import EXCLUDE, Schema, ValidationError, fields
from marshmallow.validate import Length

from analytics.event_schema import EARLIEST, LATEST, normalized
from analytics.stats import StatsReader
from web.auth import Check
from web.errors import BadRequest

ALL_TIME = "all_time"


class Day(fields.Date):
    """YYYY-MM-DD to the letter; strptime alone takes 2026-1-5 too."""

    default_error_messages = {
        "invalid": "Not a valid date; write YYYY-MM-DD.",
        "range": "Not between the years 1970 and 9998.",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> date:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            raise self.make_error("invalid", input=value, obj_type="date")
        day: date = super()._deserialize(value, attr, data, **kwargs)
        if not EARLIEST.date() <= day < LATEST.date():
            raise self.make_error("range")
        return day


class StatsQuery(Schema):
    class Meta:
        unknown = EXCLUDE

    site_id = fields.String(required=True, validate=Length(min=1, max=128))
    date = Day(format="%Y-%m-%d")


_query = StatsQuery()


def stats_blueprint(stats: StatsReader, auth: Check) -> Blueprint:
    blueprint = Blueprint("stats", __name__)
    blueprint.before_request(auth)

    @blueprint.get("/stats")
    def read_stats() -> Response:
        query = _read_query()
        day = query.get("date")
        found = stats.read(query["site_id"], day)
        return jsonify(site_id=query["site_id"], date=day.isoformat() if day else ALL_TIME, **asdict(found))

    return blueprint


def _read_query() -> dict[str, Any]:
    try:
        query: dict[str, Any] = _query.load(request.args)
    except ValidationError as error:
        names = normalized(error)
        raise BadRequest("invalid_query", f"The query cannot be answered: see {', '.join(names)}.", names) from None
    return query
