"""/admin/visitors: finds, exports and erases all data of one visitor.

Ids are in the body, not in the URL: proxies and shells log URLs.
"""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain, islice
from typing import Any

import structlog
from flask import Blueprint, Response, jsonify
from marshmallow import Schema, ValidationError, validates_schema

from analytics.privacy.eraser import Eraser
from analytics.privacy.visitor import Visitor
from analytics.schema_fields import Text
from analytics.unavailable import Unavailable
from web.auth import Check
from web.request_data import read, read_body

log = structlog.get_logger()

SOON = (
    "Reports no longer count this visitor. A worker drops their events that are still in the journal. Old segment files"
    " are deleted within two minutes. After that, /admin/visitors/search finds nothing."
)


class Whose(Schema):
    site_id = Text(required=True, shortest=1, longest=128)
    user_id = Text(shortest=1, longest=256)
    visitor_id = Text(shortest=1, longest=64)

    @validates_schema
    def is_one(self, whose: dict[str, Any], **_: Any) -> None:
        if ("user_id" in whose) == ("visitor_id" in whose):
            raise ValidationError("Send either user_id or visitor_id.", "user_id")


def erasure_blueprint(eraser: Eraser, auth: Check) -> Blueprint:
    blueprint = Blueprint("erasure", __name__, url_prefix="/admin/visitors")
    blueprint.before_request(auth)

    @blueprint.post("/search")
    def search() -> Response:
        found = eraser.data.search(_visitor())
        return jsonify(asdict(found) | {"found": not found.is_nothing})

    @blueprint.post("/export")
    def export() -> Response:
        lines = eraser.data.export(_visitor())
        first = list(islice(lines, 1))  # asks the stores before the status 200 is sent
        answer = Response(_watched(chain(first, lines)), mimetype="application/x-ndjson")
        answer.headers.set("Content-Disposition", "attachment", filename="visitor.ndjson")
        return answer

    @blueprint.post("/erase")
    def erase() -> Response:
        erased = eraser.erase(_visitor())
        counts = {"events": erased.events, "dead_letters": erased.dead_letters, "waiting": erased.waiting}
        return jsonify(success=True, erased=counts, message=SOON)

    return blueprint


def _visitor() -> Visitor:
    return Visitor(**read(Whose(), read_body()))


def _watched(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yields the lines. If a store fails after the status was sent, the error is logged and the answer breaks off."""
    try:
        yield from lines
    except Unavailable as error:
        log.warning("export_aborted", error=type(error.cause).__name__)
        raise
