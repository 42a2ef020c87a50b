"""The native endpoints: POST /event (one event), POST /events (several), GET /pixel.gif (one, as an image).

A body is read as JSON whatever its Content-Type is, because sendBeacon sends text/plain. Only NDJSON needs its own
Content-Type.
"""

from typing import Any

from flask import Blueprint, Response, current_app, request

from analytics.events.schema import InvalidEvent
from ingest_app.answers import answer_one, answer_one_validated, answer_several, is_validation
from ingest_app.collector import Collector
from ingest_app.hit import Environ, read_batch, read_bytes, read_hit, read_json
from ingest_app.reply import Reply

# One transparent pixel.
GIF = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
# Parameters of an image's query that hold JSON.
OF_JSON = ("props", "revenue", "interactive", "engagement_time", "scroll_depth")


def receive_event(collector: Collector, environ: Environ, raw: bytes) -> Reply:
    """One event, without `?validate`."""
    with collector.counting_what_cannot_be_read(environ):
        body = read_json(raw)
    return answer_one(collector.admit(read_hit(environ, [body])), body)


def events_blueprint(collector: Collector) -> Blueprint:
    blueprint = Blueprint("events", __name__)

    @blueprint.post("/event")
    def receive_one() -> Response:
        environ = request.environ
        if is_validation():
            body = read_json(read_bytes())
            return answer_one_validated(collector.validate(read_hit(environ, [body])), body).as_response()
        with collector.counting_what_cannot_be_read(environ):
            raw = read_bytes()
        return receive_event(collector, environ, raw).as_response()

    @blueprint.post("/events")
    def receive_events() -> Response:
        if is_validation():
            bodies, sent_at = read_batch(current_app.config["MAX_CONTENT_LENGTH"])
            return answer_several(collector.validate(read_hit(request.environ, bodies, sent_at)), bodies)
        with collector.counting_what_cannot_be_read(request.environ):
            bodies, sent_at = read_batch()
        return answer_several(collector.admit(read_hit(request.environ, bodies, sent_at)), bodies)

    @blueprint.get("/pixel.gif")
    def receive_pixel() -> Response:
        """Answers with the image whatever the outcome is, because browsers ignore an image's status. Errors that a
        client may retry (TooManyRequests, Unavailable) keep their own status.
        """
        answer = Response(GIF, mimetype="image/gif", headers={"Cache-Control": "no-store"})
        if request.method == "HEAD":
            return answer
        for error in collector.admit(read_hit(request.environ, [_event_of_query()])).rejected.values():
            answer.headers["X-Footfall-Rejected"] = f"{error.code}: {', '.join(error.fields)}"
        return answer

    return blueprint


def _event_of_query() -> dict[str, Any] | InvalidEvent:
    query = request.args.to_dict()
    event: dict[str, Any] = {"event_type": "pageview", **query}
    if not query.get("url") and not query.get("path") and request.referrer:
        event["url"] = request.referrer
    try:
        return event | {name: read_json(query[name].encode()) for name in OF_JSON if query.get(name)}
    except InvalidEvent as error:
        return error
