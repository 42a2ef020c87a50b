"""POST /event: one event a hit. The body is JSON whatever its Content-Type says: sendBeacon calls it text/plain."""

import json
import math

from flask import Blueprint, Response, request
from werkzeug.exceptions import RequestEntityTooLarge

from analytics.event_schema import InvalidEvent
from ingest_app.door import Door
from web.errors import BadRequest

QUEUED = b'{"success": true, "message": "Event queued successfully"}'


def events_blueprint(door: Door) -> Blueprint:
    blueprint = Blueprint("events", __name__)

    @blueprint.post("/event")
    def receive_event() -> Response:
        try:
            door.admit(_read_json())
        except InvalidEvent as error:
            raise BadRequest("invalid_event", f"The event was not accepted: {error}", error.fields) from None
        return Response(QUEUED, mimetype="application/json")

    return blueprint


def _read_json() -> object:
    body = request.get_data(cache=False)
    if request.content_length is None and len(body) >= (request.max_content_length or math.inf):
        raise RequestEntityTooLarge  # a chunked body, which werkzeug cuts at the limit
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidEvent({"body": [f"Not JSON: {error}."]}) from None
