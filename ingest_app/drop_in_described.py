"""The drop-in endpoints, described: what their clients send, as far as it is read (docs/sending.md says what becomes
of it).
"""

from collections.abc import Mapping

from ingest_app.hit import MOST_EVENTS
from ingest_app.plausible_schema import LONGEST_NAME, LONGEST_URL
from ingest_app.segment_schema import KINDS, SHORT
from ingest_app.umami_schema import LONGEST_NAME as LONGEST_UMAMI_NAME
from ingest_app.umami_schema import TYPES
from web.json_schema import (
    ANYTHING,
    COUNT,
    NUMBER,
    TEXT,
    UUID,
    Json,
    an_object,
    any_of,
    just,
    list_of,
    map_of,
    one_of,
    text,
)
from web.openapi import DROP_INS, JSON, Operation

PLAIN = "text/plain"
TAG = "From clients of other systems"
SOMETHING = text(pattern=r"\S")


def said(what: str) -> Json:
    """A field that is read where it is of its kind, and left out where it is not."""
    return {"description": what}


TEXTUAL = said("A text.")
OBJECT: Json = {"type": "object"}
REFUSED = {400: "Not JSON, or not what this route reads.", 415: "", 429: ""}
REFUSED_EVENT = REFUSED | {403: "`origin_not_allowed`: the site does not take events from this page's origin."}

REJECTED = list_of(an_object({"index": COUNT, "code": TEXT, "message": TEXT, "fields": map_of(list_of(TEXT))}))
TAKEN = an_object({"success": just(True), "accepted": COUNT, "dropped": COUNT, "rejected": REJECTED})
TAKEN_BY_UMAMI = {"cache": TEXT, "sessionId": UUID, "visitId": UUID}

PLAUSIBLES = an_object(
    {
        "n": any_of(SOMETHING | {"maxLength": LONGEST_NAME}, NUMBER)
        | {"description": "`pageview`, `engagement` or a name of yours; or as `name`."},
        "u": SOMETHING | {"maxLength": LONGEST_URL, "description": "The page's URL; or as `url`."},
    },
    {
        "d": said("Domains, several with commas between; or as `domain`. Else the URL's."),
        "r": said("The referrer; or as `referrer`."),
        "p": said("Properties, an object; or as `props`."),
        "$": said("Revenue, an object of `amount` and `currency`; or as `revenue`."),
        "i": said("Whether the visitor did it; or as `interactive`."),
        "h": said("1: the page's path has its hash; or as `hashMode`."),
        "e": said("Of an engagement: milliseconds."),
        "sd": said("Of an engagement: how far the page was seen, in percent."),
    },
    description="Optional fields are left out where they are none of their kind.",
)
UMAMIS = an_object(
    {
        "type": one_of(*TYPES),
        "payload": an_object(
            {"website": SOMETHING | {"description": "A write key."}},
            {
                "name": said("Of an event that is no pageview.") | {"maxLength": LONGEST_UMAMI_NAME},
                "id": said("Who it was.") | {"maxLength": 256},
                "data": said("An object."),
                "timestamp": said("Unix, in seconds."),
                "ip": said("Whose it is, where a server sends it."),
                "userAgent": said("Likewise."),
                **dict.fromkeys(("url", "hostname", "title", "referrer", "language", "screen", "tag"), TEXTUAL),
            },
        ),
    }
)
BATCH = an_object(
    {"batch": list_of(ANYTHING, maxItems=MOST_EVENTS)},
    {"writeKey": said("Names the site."), "sentAt": said("ISO 8601."), "context": said("Of all messages.")},
)
HERE = {"apiKey": TEXT, "apiHost": TEXT, "protocol": TEXT}
WRITE_KEY = {"name": "writeKey", "required": False, "schema": TEXT}
A_VIEW = {"n": "pageview", "u": "https://shop.example/pricing", "d": "shop.example"}
A_TRACK = {"userId": "ann", "event": "Signed Up", "messageId": "m-1", "writeKey": "site-abc-123"}
WEBSITE = "b59e9c65-ae32-47f1-8400-119fcf4861c4"


def _a_batch(whose: str, note: str = "") -> Operation:
    return Operation(
        summary=f"Several messages, as {whose} send them",
        note=note,
        tag=TAG,
        body={JSON: BATCH, PLAIN: BATCH},
        parameters=[WRITE_KEY],
        answer={JSON: TAKEN},
        says=REFUSED,
        error=DROP_INS,
        examples={"body": {"batch": [A_TRACK | {"type": "track"}], "writeKey": "site-abc-123"}},
    )


DROP_IN_OPERATIONS: Mapping[str, Operation] = {
    "POST /api/event": Operation(
        summary="One event, as Plausible's clients send it",
        tag=TAG,
        body={JSON: PLAUSIBLES, PLAIN: PLAUSIBLES},
        parameters=[{"name": "X-Forwarded-For", "in": "header", "required": False, "schema": TEXT}],
        status=202,
        answer={PLAIN: just("ok")},
        headers={
            "x-plausible-dropped": {"schema": TEXT, "description": "For how many sites it was not kept."}
        },
        says=REFUSED_EVENT,
        error=DROP_INS,
    ),
    "POST /api/send": Operation(
        summary="One event, as Umami's clients send it",
        tag=TAG,
        body={JSON: UMAMIS, PLAIN: UMAMIS},
        answer={JSON: an_object(TAKEN_BY_UMAMI)},
        says=REFUSED_EVENT,
        error=DROP_INS,
        examples={"body": {"type": "event", "payload": {"website": WEBSITE, "hostname": "shop.example", "url": "/"}}},
    ),
    "POST /api/batch": Operation(
        summary="Several of Umami's events",
        tag=TAG,
        body={media: list_of(ANYTHING, maxItems=MOST_EVENTS) for media in (JSON, PLAIN)},
        answer={
            JSON: an_object(
                {"size": COUNT, "processed": COUNT, "errors": COUNT, "details": REJECTED, "cache": TEXT},
            )
        },
        says=REFUSED,
        error=DROP_INS,
        examples={"body": [{"type": "event", "payload": {"website": WEBSITE, "hostname": "shop.example", "url": "/"}}]},
    ),
    "POST /v1/batch": _a_batch("Segment's and RudderStack's libraries", "The write key may be a Basic user too."),
    "POST /v1/b": _a_batch("Segment's library for browsers may"),
    "POST /v1/import": _a_batch("those who import"),
    "POST /beacon/v1/batch": _a_batch("RudderStack's beacons"),
    f"POST /v1/<any({', '.join([*KINDS, *SHORT])}):kind>": Operation(
        summary="One message of Segment's or RudderStack's",
        tag=TAG,
        body={JSON: OBJECT, PLAIN: OBJECT},
        parameters=[WRITE_KEY],
        answer={JSON: TAKEN},
        says=REFUSED | {404: ""},
        error=DROP_INS,
        examples={"body": A_TRACK, "kind": "track"},
    ),
    "GET /pixel/v1/<any(track, page):kind>": Operation(
        summary="One message of RudderStack's, where only an image can be asked for",
        note="An image, whatever came of it. A value may be JSON, a name a way into it, as `context.page.url`.",
        tag=TAG,
        parameters=[WRITE_KEY, {"name": "event", "required": False, "schema": TEXT}],
        answer={"image/gif": {}},
        says={404: "", 429: ""},
        error=DROP_INS,
        examples={"kind": "page"},
    ),
    "GET /v1/projects/<write_key>/settings": Operation(
        summary="What Segment's library for browsers asks its cdnURL for",
        tag=TAG,
        answer={JSON: an_object({"integrations": an_object({"Segment.io": an_object(HERE)})})},
        uses_stores=False,
        error=DROP_INS,
        examples={"write_key": "site-abc-123"},
    ),
}  # fmt: skip
