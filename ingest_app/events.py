"""The native endpoints: POST /event (one event), POST /events (several), GET /pixel.gif (one, as an image).

A body is read as JSON whatever its Content-Type is, because sendBeacon sends text/plain. Only NDJSON needs its own
Content-Type.
"""

from typing import Any

from flask import Blueprint, Response, current_app, request

from analytics.access.api_key import WRITE_SCOPE
from analytics.events.schema import EventSchema, InvalidEvent
from analytics.json_schema import ANYTHING, TEXT, Json, an_object, any_of, just, list_of, or_null
from analytics.schema_fields import Moment
from ingest_app.answers import (
    EventAnswer,
    EventError,
    EventsAnswer,
    Parameters,
    answer_one,
    answer_one_validated,
    answer_several,
    is_validation,
)
from ingest_app.collector import Collector
from ingest_app.hit import MOST_EVENTS, Environ, read_batch, read_bytes, read_event, read_hit, read_json
from ingest_app.reply import Reply
from web.openapi import JSON, NDJSON, PLAIN, Operation, described_by, parameter

# One transparent pixel.
GIF = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
# Parameters of an image's query that hold JSON.
OF_JSON = ("props", "revenue", "interactive", "engagement_time", "scroll_depth")

SENDING = "Sending events"
_VALIDATE = "With `validate=1` the response says what would happen. Footfall stores and counts nothing. "
_SENT_TOO_MUCH = {415: "", 429: ""}
_EXAMPLE: Json = {
    "site_id": "site-abc-123",
    "event_type": "pageview",
    "url": "https://shop.example/pricing?utm_source=newsletter",
    "timestamp": "2026-11-22T19:30:01Z",
    "event_id": "4f1c2d",
    "props": {"plan": "pro"},
}
_ONE = Operation(
    summary="Send one event",
    tag=SENDING,
    optional_scope=WRITE_SCOPE,
    note=_VALIDATE,
    query=Parameters,
    error=EventError,
    body={JSON: EventSchema, PLAIN: EventSchema},
    answer={JSON: EventAnswer},
    says={
        400: "`not_json`, `invalid_event`, `unknown_site`, `too_old` or `too_large`. `fields` says what is wrong.",
        403: "`origin_not_allowed`: the site does not accept events from the origin of this page.",
        **_SENT_TOO_MUCH,
    },
    examples={"body": _EXAMPLE},
)

_MANY = list_of(
    any_of(EventSchema, ANYTHING),
    maxItems=MOST_EVENTS,
    description="Each event is as in POST /event. An invalid event is rejected with its index and does not affect "
    "the others.",
)
_SENT_AT = any_of(or_null(Moment.json_schema), just("")) | {
    "description": "When the client sends the request, by the same clock as the timestamps of the events."
}
_SEVERAL = any_of(_MANY, an_object({"events": _MANY}, {"sent_at": _SENT_AT}))
_BATCH = Operation(
    summary="Send several events. An invalid event does not affect the others.",
    tag=SENDING,
    optional_scope=WRITE_SCOPE,
    note=_VALIDATE
    + "Then the limit of the body is MAX_BODY_BYTES, and `dropped` includes events that a worker would drop.",
    query=Parameters,
    body={
        JSON: _SEVERAL,
        PLAIN: _SEVERAL,
        NDJSON: TEXT | {"description": "One event on each line. Empty lines are ignored."},
    },
    says={
        400: "`not_json`, `too_many_events`, or the body is not a list of events. No event is accepted.",
        **_SENT_TOO_MUCH,
    },
    examples={"body": {"events": [_EXAMPLE]}},
)

_PIXEL = Operation(
    summary="Send one event with an image, where scripts do not run",
    note="The response is an image, unless the status is 414, 429 or 503. The query may have any text field of an"
    " event. Without `url` and `path`, the event gets the page that shows the image.",
    tag=SENDING,
    answer={"image/gif": {}},
    parameters=[
        parameter("site_id", TEXT, "Without it, the event is not counted."),
        parameter("event_type", TEXT | {"default": "pageview"}),
        parameter("url", TEXT),
        parameter("referrer", TEXT),
        *(parameter(name, TEXT | {"description": "JSON."}) for name in OF_JSON),
    ],
    headers={
        "X-Footfall-Rejected": {
            "schema": TEXT,
            "description": "Why the event was not counted: a code and the names of the fields.",
        }
    },
    says={429: ""},
    examples={"site_id": "site-abc-123"},
)


def receive_event(collector: Collector, environ: Environ, raw: bytes) -> Reply:
    """One event, without `?validate`."""
    with collector.counting_what_cannot_be_read(environ):
        body = read_event(raw)
    return answer_one(collector.admit(read_hit(environ, [body])), body)


def events_blueprint(collector: Collector) -> Blueprint:
    blueprint = Blueprint("events", __name__)

    @blueprint.post("/event")
    @described_by(_ONE)
    def receive_one() -> Response:
        environ = request.environ
        if is_validation():
            body = read_json(read_bytes())
            return answer_one_validated(collector.validate(read_hit(environ, [body])), body).as_response()
        with collector.counting_what_cannot_be_read(environ):
            raw = read_bytes()
        return receive_event(collector, environ, raw).as_response()

    @blueprint.post("/events")
    @described_by(_BATCH)
    def receive_events() -> EventsAnswer:
        if is_validation():
            bodies, sent_at = read_batch(current_app.config["MAX_CONTENT_LENGTH"])
            return answer_several(collector.validate(read_hit(request.environ, bodies, sent_at)), bodies)
        with collector.counting_what_cannot_be_read(request.environ):
            bodies, sent_at = read_batch()
        return answer_several(collector.admit(read_hit(request.environ, bodies, sent_at)), bodies)

    @blueprint.get("/pixel.gif")
    @described_by(_PIXEL)
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
