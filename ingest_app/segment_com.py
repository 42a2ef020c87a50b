"""The HTTP API of Segment and RudderStack: batches, single messages, and the requests of browsers, beacons and pixels.

Every request that an unmodified client can build is answered with 200, and the answer lists the rejected messages. If a
message were refused, the client would send the whole batch again or lose it. RudderStack's Node client ends its process
on a 400.
"""

import base64
import json
from binascii import Error
from dataclasses import replace
from typing import Literal, TypedDict
from urllib.parse import parse_qs

from flask import Blueprint, Response, request
from msgspec import structs

from analytics.events.segment_com import CALLS, translate
from analytics.json_schema import ANYTHING, TEXT, Count, Json, an_object, list_of, loosely
from ingest_app.collector import Admitted, Collector
from ingest_app.drop_in import DROP_IN_TAG, OF_BATCHES, DropInError, Rejections, SitesMeant, list_rejected
from ingest_app.events import GIF
from ingest_app.hit import BATCH_BYTES, MOST_EVENTS, Environ, checked_events, read_bytes, read_hit, read_json
from ingest_app.reply import Reply
from ingest_app.segment_com_schema import (
    SEGMENT_COM_NAMES,
    SHORT_CALLS,
    parameters_as_body,
    read_segment,
    visitor_in,
    write_key_in,
)
from web.openapi import JSON, PLAIN, Operation, described_by, parameter

BATCHES = ("/v1/batch", "/v1/b", "/v1/import", "/beacon/v1/batch")


class MessagesAnswer(Rejections):
    success: Literal[True]
    accepted: Count
    dropped: Count


class BrowserDestination(TypedDict):
    apiKey: str
    apiHost: str
    protocol: str


BrowserIntegrations = TypedDict("BrowserIntegrations", {"Segment.io": BrowserDestination})


class BrowserSettings(TypedDict):
    integrations: BrowserIntegrations


_OBJECT: Json = {"type": "object"}
_WRITE_KEY = parameter("writeKey", TEXT)
_EXAMPLE = {"userId": "ann", "event": "Signed Up", "messageId": "m-1", "writeKey": "site-abc-123"}
_BATCH_BODY = an_object(
    {"batch": list_of(ANYTHING, maxItems=MOST_EVENTS)},
    {"writeKey": loosely(TEXT), "sentAt": loosely(TEXT), "context": loosely(_OBJECT)},
)
_BATCH = Operation(
    summary="Several messages, in the format of Segment's and RudderStack's libraries, imports and beacons",
    note="The write key may also be the user name of Basic authentication.",
    tag=DROP_IN_TAG,
    body={JSON: _BATCH_BODY, PLAIN: _BATCH_BODY},
    parameters=[_WRITE_KEY],
    answer={JSON: MessagesAnswer},
    says=OF_BATCHES,
    error=DropInError,
    examples={"body": {"batch": [_EXAMPLE | {"type": "track"}], "writeKey": "site-abc-123"}},
)
_MESSAGE = replace(
    _BATCH,
    summary="One message, in the format of Segment's and RudderStack's libraries",
    note="",
    body={JSON: _OBJECT, PLAIN: _OBJECT},
    examples={"body": _EXAMPLE, "kind": "track"},
)
_SETTINGS = Operation(
    summary="The settings that Segment's library for browsers loads from its cdnURL",
    tag=DROP_IN_TAG,
    uses_stores=False,
    error=DropInError,
    examples={"write_key": "site-abc-123"},
)
_PIXEL = Operation(
    summary="One message of RudderStack's pixel, where scripts do not run",
    note="The response is an image, unless the status is 414, 429 or 503. A value may be JSON. A name may be a path,"
    " for example `context.page.url`.",
    tag=DROP_IN_TAG,
    parameters=[_WRITE_KEY, parameter("event", TEXT)],
    answer={"image/gif": {}},
    says={429: ""},
    error=DropInError,
    examples={"kind": "page"},
)


def receive_segment(collector: Collector, environ: Environ, raw: bytes, kind: str | None = None) -> Reply:
    """`kind`: of a single message; a batch has none."""
    with collector.counting_what_cannot_be_read(environ):
        body = read_json(raw)
    return _answer(_admit(collector, environ, body, SHORT_CALLS.get(kind, kind) if kind else None))


def segment_blueprint(collector: Collector) -> Blueprint:
    blueprint = Blueprint("segment", __name__)

    @described_by(_BATCH)
    def receive_batch() -> Response:
        return receive(None)

    for path in BATCHES:
        blueprint.post(path)(receive_batch)

    @blueprint.post(f"/v1/<any({', '.join([*CALLS, *SHORT_CALLS])}):kind>")
    @described_by(_MESSAGE)
    def receive_message(kind: str) -> Response:
        return receive(kind)

    def receive(kind: str | None) -> Response:
        with collector.counting_what_cannot_be_read(request.environ):
            raw = read_bytes(BATCH_BYTES)
        return receive_segment(collector, request.environ, raw, kind).as_response()

    @blueprint.get("/v1/projects/<write_key>/settings")
    @described_by(_SETTINGS)
    def tell_a_browser_where_to_send(write_key: str) -> BrowserSettings:
        """The settings that analytics-next requests from its `cdnURL` before it sends anything."""
        return {
            "integrations": {
                "Segment.io": {"apiKey": write_key, "apiHost": f"{request.host}/v1", "protocol": request.scheme}
            }
        }

    @blueprint.get("/pixel/v1/<any(track, page):kind>")
    @described_by(_PIXEL)
    def receive_pixel(kind: str) -> Response:
        _admit(collector, request.environ, parameters_as_body(request.args), kind)
        return Response(GIF, mimetype="image/gif", headers={"Cache-Control": "no-store"})

    return blueprint


def _admit(collector: Collector, environ: Environ, body: object, kind: str | None = None) -> Admitted:
    with collector.counting_what_cannot_be_read(environ):
        said = read_segment(body, kind)
        messages = checked_events(said.messages, "batch")
    site_id = SitesMeant(collector.sites.by_key).id_of(said.write_key or _write_key(environ))
    site = collector.sites.get(site_id)
    assigns = site is not None and site.assigns_visits
    events = [translate(message, site_id, said.context, assigns_visits=assigns) for message in messages]
    hit = read_hit(environ, events, said.sent_at, is_foreign=True)
    return collector.admit(structs.replace(hit, client=visitor_in(hit.client, said)))


def _write_key(environ: Environ) -> str:
    """The write key of `Authorization: Basic` (a user without a password) or of the query. "" for none."""
    kind, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if kind.lower() == "basic":
        try:
            return write_key_in(base64.b64decode(given).decode().partition(":")[0])
        except (Error, UnicodeDecodeError):
            pass
    given_in_query = parse_qs(environ.get("QUERY_STRING", "")).get("writeKey", [None])[0]
    return write_key_in(given_in_query)


def _answer(admitted: Admitted) -> Reply:
    answer: MessagesAnswer = {
        "success": True,
        "accepted": admitted.accepted,
        "dropped": admitted.dropped,
        **list_rejected(admitted.rejected, SEGMENT_COM_NAMES),
    }
    return Reply(json.dumps(answer).encode())
