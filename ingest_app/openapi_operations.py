"""OpenAPI operations of the ingestion app: one entry of _OPERATIONS per route (web/openapi.py describes an entry)."""

from functools import cache

from analytics.access.api_key import WRITE_SCOPE
from analytics.events.schema import EventSchema
from ingest_app import opt_out as opting_out
from ingest_app.answers import Parameters
from ingest_app.drop_in import MOST_FIELDS, MOST_LISTED
from ingest_app.drop_in_operations import DROP_IN_OPERATIONS
from ingest_app.events import OF_JSON
from ingest_app.hit import MOST_EVENTS
from web.json_schema import (
    A_MOMENT,
    ANYTHING,
    TEXT,
    WHOLE_COUNT,
    Json,
    an_object,
    any_of,
    just,
    list_of,
    map_of,
    one_of,
    or_null,
)
from web.openapi import EVENT_BODIES, JSON, NDJSON, WARNING, Operation, common, describe

_ABOUT = """\
Send the events of your sites. A 200 means that the event is on disk. An event with an `event_id` is stored once, even
if it is sent several times.

Footfall reads every body as JSON and ignores its Content-Type. A body may be compressed: `Content-Encoding` gzip, br,
zstd or deflate.

Every error is `{"success": false, "error": {"code", "message", "fields"}}`. 429 and 503 have a Retry-After header: send
the request again after that time. A request that is not HTTP, whose first line or headers are too long, or that takes
longer than a minute to arrive, gets 400, 408, 414, 431 or 501 in the same form, on every route.
"""

_PLAIN = "text/plain"  # sendBeacon's Content-Type

SENDING = "Sending events"
PRIVACY = "Privacy"
EVENT = {
    "site_id": "site-abc-123",
    "event_type": "pageview",
    "url": "https://shop.example/pricing?utm_source=newsletter",
    "timestamp": "2026-11-22T19:30:01Z",
    "event_id": "4f1c2d",
    "props": {"plan": "pro"},
}
_MANY = list_of(
    any_of(EventSchema, ANYTHING),
    maxItems=MOST_EVENTS,
    description="Each event is as in POST /event. An invalid event is rejected with its index and does not affect "
    "the others.",
)
SENT_AT = any_of(or_null(A_MOMENT), just("")) | {
    "description": "When the client sends the request, by the same clock as the timestamps of the events."
}
SEVERAL = any_of(_MANY, an_object({"events": _MANY}, {"sent_at": SENT_AT}))
_REJECTED = an_object({"index": WHOLE_COUNT, "code": TEXT, "message": TEXT, "fields": map_of(list_of(TEXT))})
FIRST_REJECTED = f"The first {MOST_LISTED} rejected events, each with at most {MOST_FIELDS} fields."
WARNINGS = {
    "description": "Fields that Footfall does not know and ignores, at most 100. The message suggests a similar "
    "name, if there is one."
}
REASON = TEXT | {
    "description": "Why the event was dropped. Only shown if the request has an API key that may write events of "
    "its site."
}
VALIDATE = "With `validate=1` the response says what would happen. Footfall stores and counts nothing. "
RESOLVED = {
    "type": "object",
    "description": "The event as Footfall would store it. `visitor` is `user_id`, `anonymous` or `none`. The fields "
    "that a worker adds are only shown if the request has an API key that may write events of its site.",
}
SENT_TOO_MUCH = {415: "", 429: ""}

_OPERATIONS: dict[str, Operation] = {
    "POST /event": Operation(
        summary="Send one event",
        tag=SENDING,
        scope=WRITE_SCOPE,
        key_optional=True,
        note=VALIDATE,
        query=Parameters,
        error=EVENT_BODIES,
        body={JSON: EventSchema, _PLAIN: EventSchema},
        answer={
            JSON: an_object(
                {"success": just(True), "message": TEXT},
                {
                    "dropped": REASON,
                    "warnings": list_of(an_object(WARNING)) | WARNINGS,
                    "outcome": one_of("accepted", "dropped"),
                    "event": RESOLVED,
                },
            )
        },
        says={
            400: "`not_json`, `invalid_event`, `unknown_site`, `too_old` or `too_large`. `fields` says what is wrong.",
            403: "`origin_not_allowed`: the site does not accept events from the origin of this page.",
            **SENT_TOO_MUCH,
        },
        examples={"body": EVENT},
    ),
    "POST /events": Operation(
        summary="Send several events. An invalid event does not affect the others.",
        tag=SENDING,
        scope=WRITE_SCOPE,
        key_optional=True,
        note=VALIDATE
        + "Then the limit of the body is MAX_BODY_BYTES, and `dropped` includes events that a worker would drop.",
        query=Parameters,
        body={
            JSON: SEVERAL,
            _PLAIN: SEVERAL,
            NDJSON: TEXT | {"description": "One event on each line. Empty lines are ignored."},
        },
        answer={
            JSON: an_object(
                {
                    "success": just(True),
                    "accepted": WHOLE_COUNT,
                    "dropped": WHOLE_COUNT,
                    "rejected": list_of(_REJECTED) | {"description": FIRST_REJECTED},
                },
                {
                    "rejected_count": WHOLE_COUNT
                    | {
                        "description": "The number of all rejected events. Only present if `rejected` does not list "
                        "all of them."
                    },
                    "dropped_events": list_of(an_object({"index": WHOLE_COUNT, "reason": REASON})),
                    "warnings": list_of(an_object(WARNING, {"index": WHOLE_COUNT})) | WARNINGS,
                    "events": list_of(RESOLVED),
                },
            )
        },
        says={
            400: "`not_json`, `too_many_events`, or the body is not a list of events. No event is accepted.",
            **SENT_TOO_MUCH,
        },
        examples={"body": {"events": [EVENT]}},
    ),
    "GET /js/footfall.js": Operation(
        summary="The tracker script for your pages",
        tag=SENDING,
        answer={"text/javascript": {}},
        headers={"ETag": {"required": True, "schema": TEXT}},
        uses_stores=False,
    ),
    "GET /pixel.gif": Operation(
        summary="Send one event with an image, where scripts do not run",
        note="The response is always an image. The query may have any text field of an event. Without `url` and "
        "`path`, the event gets the page that shows the image.",
        tag=SENDING,
        answer={"image/gif": {}},
        parameters=[
            {
                "name": "site_id",
                "required": False,
                "schema": TEXT,
                "description": "Without it, the event is not counted.",
            },
            {"name": "event_type", "required": False, "schema": TEXT | {"default": "pageview"}},
            {"name": "url", "required": False, "schema": TEXT},
            {"name": "referrer", "required": False, "schema": TEXT},
            *({"name": name, "required": False, "schema": TEXT | {"description": "JSON."}} for name in OF_JSON),
        ],
        headers={
            "X-Footfall-Rejected": {
                "schema": TEXT,
                "description": "Why the event was not counted: a code and the names of the fields.",
            }
        },
        says={429: ""},
        examples={"site_id": "site-abc-123"},
    ),
    "GET /opt-out": Operation(
        summary="The page where a visitor opts out",
        tag=PRIVACY,
        query=opting_out.OptOutQuery,
        answer={"text/html": TEXT},
        uses_stores=False,
        examples={"site_id": "site-abc-123"},
    ),
    "POST /opt-out": Operation(
        summary="Opt this browser out, or in again",
        tag=PRIVACY,
        body={"application/x-www-form-urlencoded": opting_out.Chosen},
        answer={"text/html": TEXT},
        says={400: "", 403: "`other_site`: a page of another site sent the form."},
        uses_stores=False,
    ),
    **DROP_IN_OPERATIONS,
    **common(["redis"]),
}


@cache
def description() -> Json:
    return describe("Footfall: events in", _ABOUT, _OPERATIONS, {}, {})
