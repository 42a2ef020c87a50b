"""OpenAPI operations of the drop-in endpoints. They describe the fields that are read. docs/sending.md says what is
done with each of them.
"""

from collections.abc import Mapping

from ingest_app.hit import MOST_EVENTS
from ingest_app.plausible_schema import LONGEST_EVENT_NAME
from ingest_app.segment_com_schema import CALLS, SHORT_CALLS
from ingest_app.umami_schema import LONGEST_NAME as LONGEST_UMAMI_NAME
from ingest_app.umami_schema import UMAMI_TYPES
from web.json_schema import (
    ANYTHING,
    FLAG,
    TEXT,
    UUID,
    WHOLE_COUNT,
    Json,
    an_object,
    any_of,
    just,
    list_of,
    loosely,
    map_of,
    one_of,
    text,
    whole,
)
from web.openapi import DROP_INS, JSON, Operation

_PLAIN = "text/plain"
TAG = "From clients of other systems"
OBJECT: Json = {"type": "object"}
_REFUSED = {400: "The body is not JSON, or does not have the format of this route.", 415: "", 429: ""}
REFUSED_EVENT = _REFUSED | {403: "`origin_not_allowed`: the site does not accept events from the origin of this page."}

_REJECTED = list_of(an_object({"index": WHOLE_COUNT, "code": TEXT, "message": TEXT, "fields": map_of(list_of(TEXT))}))
TAKEN = an_object(
    {"success": just(True), "accepted": WHOLE_COUNT, "dropped": WHOLE_COUNT, "rejected": _REJECTED},
    {"rejected_count": WHOLE_COUNT},
)
TAKEN_BY_UMAMI = {"cache": TEXT, "sessionId": UUID, "visitId": UUID}

# Other systems' clients cannot correct what is rejected, so only what is not `loosely` is rejected.
NOT_BLANK = r"[^\s\u001c-\u001f\u0085]"
NO_TEXT: Json = {"type": ["array", "boolean", "null", "number", "object"]}


def in_bytes(most: int, least: int = 0) -> Json:
    """A text of at most `most` bytes of UTF-8. A character takes up to four bytes."""
    return any_of(text(least, most, "^[ -~]*$"), text(least, most // 4))


WITH_HOST = "^https?://[a-z]{1,20}/[!-~]{0,100}$"
PLAUSIBLES_PROPS = {
    "type": "object",
    "propertyNames": in_bytes(300),
    "additionalProperties": any_of(in_bytes(2000), NO_TEXT),
}
_PLAUSIBLES = an_object(
    {
        "n": any_of(text(longest=LONGEST_EVENT_NAME, pattern=NOT_BLANK), {"type": "number"})
        | {"description": "`pageview`, `engagement` or the name of a custom event. Also accepted as `name`."},
        "u": any_of(text(pattern=WITH_HOST), text(pattern=r"^/[^/\[\]]{0,400}$"))
        | {"description": "The URL of the page. Also accepted as `url`."},
    },
    {
        "d": text(longest=128, pattern=r"[^\s,\u001c-\u001f\u0085]")
        | {"description": "Domains. Also accepted as `domain`. The default is the host of the URL."},
        "r": loosely(TEXT | {"description": "Referrer. Also accepted as `referrer`."}),
        "p": any_of(PLAUSIBLES_PROPS, TEXT, {"type": ["array", "boolean", "null", "number"]})
        | {"description": "Properties, as an object or as a string of JSON. Also accepted as `props`."},
        "$": loosely(
            an_object({"amount": ANYTHING, "currency": TEXT}, description="Revenue. Also accepted as `revenue`.")
        ),
        "i": loosely(
            FLAG
            | {"description": "Whether the event is an interaction of the visitor. Also accepted as `interactive`."}
        ),
        "h": loosely(
            one_of(0, 1) | {"description": "If 1, the path of the page includes the hash. Also accepted as `hashMode`."}
        ),
        "e": loosely(whole(0, 86_400_000, description="Engagement time in milliseconds")),
        "sd": loosely(whole(0, 100, description="Scroll depth of the page in percent")),
    },
    allOf=[
        any_of(
            {"not": {"properties": {"n": just("engagement")}}},
            {"required": ["e"], "properties": {"e": whole(0, 86_400_000)}},
            {"required": ["sd"], "properties": {"sd": whole(0, 100)}},
        ),
        any_of({"required": ["d"]}, {"properties": {"u": text(pattern=WITH_HOST)}}),
    ],
)
UMAMIS_TEXTS = ("url", "hostname", "title", "referrer", "language", "screen", "tag", "id", "ip", "userAgent")
UMAMIS = an_object(
    {
        "payload": an_object(
            {"website": text(pattern=NOT_BLANK, examples=["b59e9c65-ae32-47f1-8400-119fcf4861c4"])},
            {
                "name": loosely(TEXT),
                "data": loosely(OBJECT),
                "timestamp": ANYTHING | {"description": "Unix time in seconds"},
                **dict.fromkeys(UMAMIS_TEXTS, loosely(TEXT)),
            },
        ),
    },
    {"type": one_of(*UMAMI_TYPES) | {"default": "event"}},
    anyOf=[
        {"required": ["type"], "properties": {"type": {"not": just("event")}}},
        {"properties": {"payload": {"properties": {"name": any_of(text(longest=LONGEST_UMAMI_NAME), NO_TEXT)}}}},
    ],
)
BATCH = an_object(
    {"batch": list_of(ANYTHING, maxItems=MOST_EVENTS)},
    {"writeKey": loosely(TEXT), "sentAt": loosely(TEXT), "context": loosely(OBJECT)},
)
_HERE = {"apiKey": TEXT, "apiHost": TEXT, "protocol": TEXT}
_WRITE_KEY = {"name": "writeKey", "required": False, "schema": TEXT}
A_VIEW = {"n": "pageview", "u": "https://shop.example/pricing", "d": "shop.example"}
A_TRACK = {"userId": "ann", "event": "Signed Up", "messageId": "m-1", "writeKey": "site-abc-123"}
WEBSITE = "b59e9c65-ae32-47f1-8400-119fcf4861c4"


def _a_batch(whose: str, note: str = "") -> Operation:
    return Operation(
        summary=f"Several messages, in the format of {whose}",
        note=note,
        tag=TAG,
        body={JSON: BATCH, _PLAIN: BATCH},
        parameters=[_WRITE_KEY],
        answer={JSON: TAKEN},
        says=_REFUSED,
        error=DROP_INS,
        examples={"body": {"batch": [A_TRACK | {"type": "track"}], "writeKey": "site-abc-123"}},
    )


DROP_IN_OPERATIONS: Mapping[str, Operation] = {
    "POST /api/event": Operation(
        summary="One event, in the format of Plausible's clients",
        tag=TAG,
        body={JSON: _PLAUSIBLES, _PLAIN: _PLAUSIBLES},
        parameters=[{"name": "X-Forwarded-For", "in": "header", "required": False, "schema": TEXT}],
        status=202,
        answer={_PLAIN: just("ok")},
        headers={
            "x-plausible-dropped": {"schema": TEXT, "description": "The number of sites that dropped the event."}
        },
        says=REFUSED_EVENT,
        error=DROP_INS,
    ),
    "POST /api/send": Operation(
        summary="One event, in the format of Umami's clients",
        tag=TAG,
        body={JSON: UMAMIS, _PLAIN: UMAMIS},
        answer={JSON: an_object(TAKEN_BY_UMAMI)},
        says=REFUSED_EVENT,
        error=DROP_INS,
        examples={"body": {"type": "event", "payload": {"website": WEBSITE, "hostname": "shop.example", "url": "/"}}},
    ),
    "POST /api/batch": Operation(
        summary="Several events, in the format of Umami's clients",
        tag=TAG,
        body={media: list_of(ANYTHING, maxItems=MOST_EVENTS) for media in (JSON, _PLAIN)},
        answer={
            JSON: an_object(
                {
                    "size": WHOLE_COUNT,
                    "processed": WHOLE_COUNT,
                    "errors": WHOLE_COUNT,
                    "details": _REJECTED,
                    "cache": TEXT,
                },
            )
        },
        says=_REFUSED,
        error=DROP_INS,
        examples={"body": [{"type": "event", "payload": {"website": WEBSITE, "hostname": "shop.example", "url": "/"}}]},
    ),
    "POST /v1/batch": _a_batch(
        "Segment's and RudderStack's libraries", "The write key may also be the user name of Basic authentication."
    ),
    "POST /v1/b": _a_batch("Segment's library for browsers"),
    "POST /v1/import": _a_batch("imports"),
    "POST /beacon/v1/batch": _a_batch("RudderStack's beacons"),
    f"POST /v1/<any({', '.join([*CALLS, *SHORT_CALLS])}):kind>": Operation(
        summary="One message, in the format of Segment's and RudderStack's libraries",
        tag=TAG,
        body={JSON: OBJECT, _PLAIN: OBJECT},
        parameters=[_WRITE_KEY],
        answer={JSON: TAKEN},
        says=_REFUSED,
        error=DROP_INS,
        examples={"body": A_TRACK, "kind": "track"},
    ),
    "GET /pixel/v1/<any(track, page):kind>": Operation(
        summary="One message of RudderStack's pixel, where scripts do not run",
        note="The response is always an image. A value may be JSON. A name may be a path, for example "
        "`context.page.url`.",
        tag=TAG,
        parameters=[_WRITE_KEY, {"name": "event", "required": False, "schema": TEXT}],
        answer={"image/gif": {}},
        says={429: ""},
        error=DROP_INS,
        examples={"kind": "page"},
    ),
    "GET /v1/projects/<write_key>/settings": Operation(
        summary="The settings that Segment's library for browsers loads from its cdnURL",
        tag=TAG,
        answer={JSON: an_object({"integrations": an_object({"Segment.io": an_object(_HERE)})})},
        uses_stores=False,
        error=DROP_INS,
        examples={"write_key": "site-abc-123"},
    ),
}  # fmt: skip
