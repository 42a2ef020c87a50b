"""POST /event: one event a hit; POST /events: several.

The body is JSON whatever its Content-Type says: sendBeacon calls it text/plain.
"""

from collections.abc import Sequence

from flask import Blueprint, Response, jsonify

from analytics.event_schema import InvalidEvent, read_json
from ingest_app.door import Door
from ingest_app.hit import read_bytes, read_hit

MOST_EVENTS = 5000  # a hit

QUEUED = b'{"success": true, "message": "Event queued successfully"}'


def events_blueprint(door: Door) -> Blueprint:
    blueprint = Blueprint("events", __name__)

    @blueprint.post("/event")
    def receive_event() -> Response:
        with door.counting_what_cannot_be_read():
            body = read_json(read_bytes())
        admitted = door.admit(read_hit([body]))
        if admitted.rejected:
            raise admitted.rejected[0]
        return Response(QUEUED, mimetype="application/json")

    @blueprint.post("/events")
    def receive_events() -> Response:
        with door.counting_what_cannot_be_read():
            bodies = _list_in(read_json(read_bytes()))
        admitted = door.admit(read_hit(bodies))
        rejected = [
            {"index": index, "code": error.code, "message": str(error), "fields": error.fields}
            for index, error in admitted.rejected.items()
        ]
        return jsonify(success=True, accepted=admitted.accepted, dropped=len(admitted.dropped), rejected=rejected)

    return blueprint


def _list_in(body: object) -> Sequence[object]:
    events = body.get("events") if isinstance(body, dict) else body
    if not isinstance(events, list):
        raise InvalidEvent({"events": ["Not a list of events."]})
    if len(events) > MOST_EVENTS:
        raise InvalidEvent({"events": [f"More than {MOST_EVENTS} events."]}, "too_many_events")
    return events
