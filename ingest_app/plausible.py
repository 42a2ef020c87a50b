"""POST /api/event as in Plausible: one event, for one or several sites.

Plausible's clients read at most the status. The answer is 202, and `x-plausible-dropped` is the number of sites that
did not keep the event.
"""

from flask import Blueprint, Response, request

from ingest_app.collector import Collector
from ingest_app.drop_in import SitesMeant, in_their_words
from ingest_app.hit import read_bytes, read_hit, read_json
from ingest_app.plausible_schema import PLAUSIBLE_NAMES, read_plausible


def plausible_blueprint(collector: Collector) -> Blueprint:
    blueprint = Blueprint("plausible", __name__)

    @blueprint.post("/api/event")
    def receive_plausible_event() -> Response:
        with collector.counting_what_cannot_be_read():
            read = read_plausible(read_json(read_bytes()), request.headers.get("X-Forwarded-For", ""))
        meant = SitesMeant(collector.sites.by_domain)
        sites = dict.fromkeys(meant.id_of(domain) for domain in read.domains)
        admitted = collector.admit(read_hit([read.event | {"site_id": site_id} for site_id in sites], is_foreign=True))
        for error in in_their_words(admitted.rejected, PLAUSIBLE_NAMES).values():
            if error.code != "unknown_site":
                raise error
        dropped = admitted.dropped + len(admitted.rejected)
        return Response("ok", 202, {"x-plausible-dropped": str(dropped)} if dropped else None, mimetype="text/plain")

    return blueprint
