"""POST /api/send and /api/batch as in Umami: one event, or an array of events.

Umami's script takes `cache` from the answer and sends it back as `x-umami-cache`. In Umami this saves the look-up of
the visitor. Here `cache` and the two ids have no meaning: visitor and visit are derived from the events.
"""

import json
import re
from collections.abc import Sequence
from typing import TypedDict
from uuid import UUID, uuid4

from flask import Blueprint, Response, request

from analytics.events.drop import Drop
from analytics.events.schema import InvalidEvent
from analytics.json_schema import ANYTHING, Count, IdText, list_of
from ingest_app.collector import Collector
from ingest_app.drop_in import (
    DROP_IN_TAG,
    OF_BATCHES,
    OF_EVENTS,
    DropInError,
    RejectedJson,
    SitesMeant,
    describe_rejections,
    in_their_words,
    read_own_batch,
)
from ingest_app.hit import BATCH_BYTES, MOST_EVENTS, Environ, checked_events, read_bytes, read_hit, read_json
from ingest_app.reply import Reply
from ingest_app.umami_schema import UMAMI_BODY, UMAMI_NAMES, WEBSITE_EXAMPLE, read_umami
from web.openapi import JSON, PLAIN, Operation, described_by


class UmamiAnswer(TypedDict):
    cache: str
    sessionId: IdText
    visitId: IdText


class UmamiBatchAnswer(TypedDict):
    size: Count
    processed: Count
    errors: Count
    details: list[RejectedJson]
    cache: str


_BATCH = list_of(ANYTHING, maxItems=MOST_EVENTS)
_EXAMPLE = {"type": "event", "payload": {"website": WEBSITE_EXAMPLE, "hostname": "shop.example", "url": "/"}}
_SEND = Operation(
    summary="One event, in the format of Umami's clients",
    tag=DROP_IN_TAG,
    body={JSON: UMAMI_BODY, PLAIN: UMAMI_BODY},
    answer={JSON: UmamiAnswer},
    says=OF_EVENTS,
    error=DropInError,
    examples={"body": _EXAMPLE},
)
_SEND_BATCH = Operation(
    summary="Several events, in the format of Umami's clients",
    tag=DROP_IN_TAG,
    body={JSON: _BATCH, PLAIN: _BATCH},
    says=OF_BATCHES,
    error=DropInError,
    examples={"body": [_EXAMPLE]},
)


def receive_umami(collector: Collector, environ: Environ, raw: bytes) -> Reply:
    with collector.counting_what_cannot_be_read(environ):
        body = read_json(raw)
        batch = read_own_batch(environ, body, SitesMeant(collector.sites.by_key))
    if batch:
        collector.admit(batch)
    else:
        for error in in_their_words(_admit(collector, environ, [body]), UMAMI_NAMES).values():
            raise error
    return Reply(json.dumps(_answer(environ)).encode())


def umami_blueprint(collector: Collector) -> Blueprint:
    blueprint = Blueprint("umami", __name__)

    @blueprint.post("/api/send")
    @described_by(_SEND)
    def receive_umami_event() -> Response:
        with collector.counting_what_cannot_be_read(request.environ):
            raw = read_bytes()
        return receive_umami(collector, request.environ, raw).as_response()

    @blueprint.post("/api/batch")
    @described_by(_SEND_BATCH)
    def receive_umami_batch() -> UmamiBatchAnswer:
        environ = request.environ
        with collector.counting_what_cannot_be_read(environ):
            bodies = checked_events(read_json(read_bytes(BATCH_BYTES)), "body")
        rejected = _admit(collector, environ, bodies)
        return {
            "size": len(bodies),
            "processed": len(bodies) - len(rejected),
            "errors": len(rejected),
            "details": describe_rejections(rejected, UMAMI_NAMES),
            "cache": _answer(environ)["cache"],
        }

    return blueprint


def _admit(collector: Collector, environ: Environ, bodies: Sequence[object]) -> dict[int, InvalidEvent]:
    """Admits the events and returns the rejected ones by index. Raises TooManyRequests and Unavailable."""
    meant = SitesMeant(collector.sites.by_key)
    events = [_translated(environ, body, meant) for body in bodies]
    return collector.admit(read_hit(environ, events, is_foreign=True)).rejected


def _translated(environ: Environ, body: object, meant: SitesMeant) -> object:
    try:
        read = read_umami(body, environ.get("HTTP_X_FORWARDED_FOR", ""))
        site_id = meant.id_of(read.website)
    except InvalidEvent as error:
        return error
    return Drop(read.reason, site_id) if read.event is None else read.event | {"site_id": site_id}


def _answer(environ: Environ) -> UmamiAnswer:
    given = environ.get("HTTP_X_UMAMI_CACHE", "")
    cache = given if re.fullmatch("[0-9a-f]{32}", given) else uuid4().hex
    return {"cache": cache, "sessionId": str(UUID(cache)), "visitId": str(UUID(cache))}
