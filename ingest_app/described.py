"""The ingestion app's routes, described: a line of OPERATIONS for each (web/openapi.py says what it holds)."""

from functools import cache

from analytics.event_schema import EventSchema
from ingest_app.events import MOST_EVENTS
from web.json_schema import ANYTHING, COUNT, TEXT, Json, an_object, any_of, just, list_of, map_of
from web.openapi import JSON, Operation, common, describe

ABOUT = """\
Send what happens on your sites. A 200 says that it is on disk; an event with an `event_id` is stored once, however
often it is sent.

Bodies are JSON whatever their Content-Type says. Every error is
`{"success": false, "error": {"code", "message", "fields"}}`. 503 comes with Retry-After: send it again. A request that
is no HTTP at all, or beyond the limits of its head, is answered with 400, 414, 431 or 501 in the same shape, whatever
the route.
"""

PLAIN = "text/plain"  # what sendBeacon calls it

SENDING = "Sending events"
EVENT = {
    "site_id": "site-abc-123",
    "event_type": "pageview",
    "url": "https://shop.example/pricing?utm_source=newsletter",
    "timestamp": "2026-11-22T19:30:01Z",
    "event_id": "4f1c2d",
    "props": {"plan": "pro"},
}
MANY = list_of(
    any_of(EventSchema, ANYTHING),
    maxItems=MOST_EVENTS,
    description="Each as for POST /event. One that is not is rejected by its index, and the others are accepted.",
)
REJECTED = an_object({"index": COUNT, "code": TEXT, "message": TEXT, "fields": map_of(list_of(TEXT))})

OPERATIONS: dict[str, Operation] = {
    "POST /event": Operation(
        summary="One event",
        tag=SENDING,
        body={JSON: EventSchema, PLAIN: EventSchema},
        answer={JSON: an_object({"success": just(True), "message": TEXT})},
        says={400: "`not_json` or `invalid_event`; `fields` says what is wrong."},
        examples={"body": EVENT},
    ),
    "POST /events": Operation(
        summary="Several events; none suffers from its neighbours",
        tag=SENDING,
        body={media: any_of(MANY, an_object({"events": MANY})) for media in (JSON, PLAIN)},
        answer={
            JSON: an_object({"success": just(True), "accepted": COUNT, "dropped": COUNT, "rejected": list_of(REJECTED)})
        },
        says={400: "`not_json`, or no list of events, or `too_many_events`: all of it is refused."},
        examples={"body": {"events": [EVENT]}},
    ),
    "GET /js/footfall.js": Operation(
        summary="The tracker, for a page's script tag",
        tag=SENDING,
        answer={"text/javascript": {}},
        headers={"ETag": {"required": True, "schema": TEXT}},
        uses_stores=False,
    ),
    **common(["redis"]),
}


@cache
def description() -> Json:
    return describe("Footfall: events in", ABOUT, OPERATIONS, {}, {})
