"""POST /event: one event a hit; POST /events: several.

The body is JSON whatever its Content-Type says: sendBeacon calls it text/plain.
"""

import math

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import RequestEntityTooLarge

from ingest_app.door import Door

QUEUED = b'{"success": true, "message": "Event queued successfully"}'


def events_blueprint(door: Door) -> Blueprint:
    blueprint = Blueprint("events", __name__)

    @blueprint.post("/event")
    def receive_event() -> Response:
        door.admit(_read_body())
        return Response(QUEUED, mimetype="application/json")

    @blueprint.post("/events")
    def receive_events() -> Response:
        admitted = door.admit_several(_read_body())
        rejected = [
            {"index": index, "code": error.code, "message": str(error), "fields": error.fields}
            for index, error in admitted.rejected.items()
        ]
        return jsonify(success=True, accepted=admitted.accepted, dropped=0, rejected=rejected)

    return blueprint


def _read_body() -> bytes:
    body = request.get_data(cache=False)
    if request.content_length is None and len(body) >= (request.max_content_length or math.inf):
        raise RequestEntityTooLarge  # a chunked body, which werkzeug cuts at the limit
    return body
