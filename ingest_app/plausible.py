"""POST /api/event as in Plausible: one event, for one or several sites.

Plausible's clients read at most the status. The answer is 202, and `x-plausible-dropped` is the number of sites that
did not keep the event.
"""

from flask import Blueprint, Response, request

from analytics.json_schema import TEXT, just
from ingest_app.collector import Admitted, Collector
from ingest_app.drop_in import (
    DROP_IN_TAG,
    OF_EVENTS,
    DropInError,
    SitesMeant,
    in_their_words,
    read_own_batch,
)
from ingest_app.hit import Environ, read_bytes, read_hit, read_json
from ingest_app.plausible_schema import PLAUSIBLE_BODY, PLAUSIBLE_NAMES, read_plausible
from ingest_app.reply import Reply
from web.openapi import JSON, PLAIN, Operation, described_by

_EVENT = Operation(
    summary="One event, in the format of Plausible's clients",
    tag=DROP_IN_TAG,
    body={JSON: PLAUSIBLE_BODY, PLAIN: PLAUSIBLE_BODY},
    parameters=[{"name": "X-Forwarded-For", "in": "header", "required": False, "schema": TEXT}],
    status=202,
    answer={PLAIN: just("ok")},
    headers={"x-plausible-dropped": {"schema": TEXT, "description": "The number of sites that dropped the event."}},
    says=OF_EVENTS,
    error=DropInError,
)

_TEXT = "text/plain; charset=utf-8"


def receive_plausible(collector: Collector, environ: Environ, raw: bytes) -> Reply:
    meant = SitesMeant(collector.sites.by_domain)
    with collector.counting_what_cannot_be_read(environ):
        body = read_json(raw)
        if (batch := read_own_batch(environ, body, meant)) is None:
            read = read_plausible(body, environ.get("HTTP_X_FORWARDED_FOR", ""))
    if batch:
        return _accepted(collector.admit(batch))
    sites = dict.fromkeys(meant.id_of(domain) for domain in read.domains)
    events = [read.event | {"site_id": site_id} for site_id in sites]
    admitted = collector.admit(read_hit(environ, events, is_foreign=True))
    for error in in_their_words(admitted.rejected, PLAUSIBLE_NAMES).values():
        if error.code != "unknown_site":
            raise error
    return _accepted(admitted)


def _accepted(admitted: Admitted) -> Reply:
    dropped = admitted.dropped + len(admitted.rejected)
    return Reply(b"ok", "202 ACCEPTED", _TEXT, (("x-plausible-dropped", str(dropped)),) if dropped else ())


def plausible_blueprint(collector: Collector) -> Blueprint:
    blueprint = Blueprint("plausible", __name__)

    @blueprint.post("/api/event")
    @described_by(_EVENT)
    def receive_plausible_event() -> Response:
        with collector.counting_what_cannot_be_read(request.environ):
            raw = read_bytes()
        return receive_plausible(collector, request.environ, raw).as_response()

    return blueprint
