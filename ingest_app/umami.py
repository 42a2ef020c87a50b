"""POST /api/send and /api/batch as in Umami: one event, or an array of events.

Umami's script takes `cache` from the answer and sends it back as `x-umami-cache`. In Umami this saves the look-up of
the visitor. Here `cache` and the two ids have no meaning: visitor and visit are derived from the events.
"""

import json
import re
from collections.abc import Sequence
from uuid import UUID, uuid4

from flask import Blueprint, Response, jsonify, request

from analytics.events.drop import Drop
from analytics.events.schema import InvalidEvent
from ingest_app.collector import Collector
from ingest_app.drop_in import SitesMeant, describe_rejections, in_their_words
from ingest_app.hit import BATCH_BYTES, Environ, checked_events, read_bytes, read_hit, read_json
from ingest_app.reply import Reply
from ingest_app.umami_schema import UMAMI_NAMES, read_umami


def receive_umami(collector: Collector, environ: Environ, raw: bytes) -> Reply:
    with collector.counting_what_cannot_be_read(environ):
        body = read_json(raw)
    for error in in_their_words(_admit(collector, environ, [body]), UMAMI_NAMES).values():
        raise error
    return Reply(json.dumps(_answer(environ)).encode())


def umami_blueprint(collector: Collector) -> Blueprint:
    blueprint = Blueprint("umami", __name__)

    @blueprint.post("/api/send")
    def receive_umami_event() -> Response:
        with collector.counting_what_cannot_be_read(request.environ):
            raw = read_bytes()
        return receive_umami(collector, request.environ, raw).as_response()

    @blueprint.post("/api/batch")
    def receive_umami_batch() -> Response:
        environ = request.environ
        with collector.counting_what_cannot_be_read(environ):
            bodies = checked_events(read_json(read_bytes(BATCH_BYTES)), "body")
        rejected = _admit(collector, environ, bodies)
        processed = len(bodies) - len(rejected)
        return jsonify(
            size=len(bodies),
            processed=processed,
            errors=len(rejected),
            details=describe_rejections(rejected, UMAMI_NAMES),
            cache=_answer(environ)["cache"],
        )

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


def _answer(environ: Environ) -> dict[str, str]:
    given = environ.get("HTTP_X_UMAMI_CACHE", "")
    cache = given if re.fullmatch("[0-9a-f]{32}", given) else uuid4().hex
    return {"cache": cache, "sessionId": str(UUID(cache)), "visitId": str(UUID(cache))}
