"""POST /api/event as in Plausible: one event, for one or several sites.

Plausible's clients read at most the status. The answer is 202, and `x-plausible-dropped` is the number of sites that
did not keep the event.
"""

from flask import Blueprint, Response, request

from ingest_app.collector import Collector
from ingest_app.drop_in import SitesMeant, in_their_words
from ingest_app.hit import Environ, read_bytes, read_hit, read_json
from ingest_app.plausible_schema import PLAUSIBLE_NAMES, read_plausible
from ingest_app.reply import Reply

_TEXT = "text/plain; charset=utf-8"


def receive_plausible(collector: Collector, environ: Environ, raw: bytes) -> Reply:
    with collector.counting_what_cannot_be_read(environ):
        read = read_plausible(read_json(raw), environ.get("HTTP_X_FORWARDED_FOR", ""))
    meant = SitesMeant(collector.sites.by_domain)
    sites = dict.fromkeys(meant.id_of(domain) for domain in read.domains)
    events = [read.event | {"site_id": site_id} for site_id in sites]
    admitted = collector.admit(read_hit(environ, events, is_foreign=True))
    for error in in_their_words(admitted.rejected, PLAUSIBLE_NAMES).values():
        if error.code != "unknown_site":
            raise error
    dropped = admitted.dropped + len(admitted.rejected)
    return Reply(b"ok", "202 ACCEPTED", _TEXT, (("x-plausible-dropped", str(dropped)),) if dropped else ())


def plausible_blueprint(collector: Collector) -> Blueprint:
    blueprint = Blueprint("plausible", __name__)

    @blueprint.post("/api/event")
    def receive_plausible_event() -> Response:
        with collector.counting_what_cannot_be_read(request.environ):
            raw = read_bytes()
        return receive_plausible(collector, request.environ, raw).as_response()

    return blueprint
