"""OpenAPI operations of the ingestion app: one entry of _OPERATIONS per route (web/openapi.py describes an entry)."""

from functools import cache

from analytics.access.store import WRITE_SCOPE
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
Send what happens on your sites. A 200 says that it is on disk; an event with an `event_id` is stored once, however
often it is sent.

Bodies are JSON whatever their Content-Type says, and may be compressed: `Content-Encoding` gzip, br, zstd or deflate.
Every error is `{"success": false, "error": {"code", "message", "fields"}}`. 429 and 503 come with Retry-After: send it
again. A request that is no HTTP at all, beyond the limits of its head, or slower than a minute, is answered with 400,
408, 414, 431 or 501 in the same shape, whatever the route.
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
    description="Each as for POST /event. One that is not is rejected by its index, and the others are accepted.",
)
SENT_AT = any_of(or_null(A_MOMENT), just("")) | {
    "description": "When it is sent, by the clock that the events' timestamps are of."
}
SEVERAL = any_of(_MANY, an_object({"events": _MANY}, {"sent_at": SENT_AT}))
_REJECTED = an_object({"index": WHOLE_COUNT, "code": TEXT, "message": TEXT, "fields": map_of(list_of(TEXT))})
FIRST_REJECTED = f"The first {MOST_LISTED} at most, each with up to {MOST_FIELDS} of its fields."
WARNINGS = {
    "description": "Fields that Footfall does not know and ignores, at most 100; the closest name, if there is."
}
REASON = TEXT | {"description": "Why it was dropped. Only with an API key that may write events of its site."}
VALIDATE = "With `validate=1` the answer says what would happen, and nothing is stored or counted. "
RESOLVED = {
    "type": "object",
    "description": "The event as it would be stored; `visitor` is `user_id`, `anonymous` or `none`. Without an API "
    "key that may write events of its site, it lacks what a worker adds.",
}
SENT_TOO_MUCH = {415: "", 429: ""}

_OPERATIONS: dict[str, Operation] = {
    "POST /event": Operation(
        summary="One event",
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
            400: "`not_json`, `invalid_event`, `unknown_site`, `too_old` or `too_large`; `fields` says what is wrong.",
            403: "`origin_not_allowed`: the site does not take events from this page's origin.",
            **SENT_TOO_MUCH,
        },
        examples={"body": EVENT},
    ),
    "POST /events": Operation(
        summary="Several events; none suffers from its neighbours",
        tag=SENDING,
        scope=WRITE_SCOPE,
        key_optional=True,
        note=VALIDATE
        + "Then the body may have MAX_BODY_BYTES at most, and what a worker would drop is among `dropped`.",
        query=Parameters,
        body={JSON: SEVERAL, _PLAIN: SEVERAL, NDJSON: TEXT | {"description": "An event a line; empty lines are none."}},
        answer={
            JSON: an_object(
                {
                    "success": just(True),
                    "accepted": WHOLE_COUNT,
                    "dropped": WHOLE_COUNT,
                    "rejected": list_of(_REJECTED) | {"description": FIRST_REJECTED},
                },
                {
                    "rejected_count": WHOLE_COUNT | {"description": "Of all rejected events, if not all are listed."},
                    "dropped_events": list_of(an_object({"index": WHOLE_COUNT, "reason": REASON})),
                    "warnings": list_of(an_object(WARNING, {"index": WHOLE_COUNT})) | WARNINGS,
                    "events": list_of(RESOLVED),
                },
            )
        },
        says={
            400: "`not_json`, or no list of events, or `too_many_events`: all of it is refused.",
            **SENT_TOO_MUCH,
        },
        examples={"body": {"events": [EVENT]}},
    ),
    "GET /js/footfall.js": Operation(
        summary="The tracker, for a page's script tag",
        tag=SENDING,
        answer={"text/javascript": {}},
        headers={"ETag": {"required": True, "schema": TEXT}},
        uses_stores=False,
    ),
    "GET /pixel.gif": Operation(
        summary="One event, where only an image can be asked for",
        note="An image, whatever came of it. Any field of an event that is text may be in the query; without `url` and "
        "`path` the page is the one that the image is on.",
        tag=SENDING,
        answer={"image/gif": {}},
        parameters=[
            {"name": "site_id", "required": False, "schema": TEXT, "description": "Without it nothing is counted."},
            {"name": "event_type", "required": False, "schema": TEXT | {"default": "pageview"}},
            {"name": "url", "required": False, "schema": TEXT},
            {"name": "referrer", "required": False, "schema": TEXT},
            *({"name": name, "required": False, "schema": TEXT | {"description": "JSON."}} for name in OF_JSON),
        ],
        headers={
            "X-Footfall-Rejected": {"schema": TEXT, "description": "Why it was not counted: a code, and which fields."}
        },
        says={429: ""},
        examples={"site_id": "site-abc-123"},
    ),
    "GET /opt-out": Operation(
        summary="The page on which a visitor opts out",
        tag=PRIVACY,
        query=opting_out.OptOutQuery,
        answer={"text/html": TEXT},
        uses_stores=False,
        examples={"site_id": "site-abc-123"},
    ),
    "POST /opt-out": Operation(
        summary="Opts this browser out, or in again",
        tag=PRIVACY,
        body={"application/x-www-form-urlencoded": opting_out.Chosen},
        answer={"text/html": TEXT},
        says={400: "", 403: "`other_site`: the page of another site sent it."},
        uses_stores=False,
    ),
    **DROP_IN_OPERATIONS,
    **common(["redis"]),
}


@cache
def description() -> Json:
    return describe("Footfall: events in", _ABOUT, _OPERATIONS, {}, {})
