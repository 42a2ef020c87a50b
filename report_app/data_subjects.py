"""/admin/visitors: finds, exports and erases all data of one visitor.

Ids are in the body, not in the URL: proxies and shells log URLs.
"""

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, Literal, TypedDict

import structlog
from flask import Blueprint, Response
from marshmallow import Schema, ValidationError, validates_schema

from analytics.json_schema import Count, Json
from analytics.privacy.eraser import Eraser
from analytics.privacy.visitor import Visitor
from analytics.schema_fields import Text
from analytics.unavailable import Unavailable
from report_app.export import AS_FILE
from report_app.site_lookup import SITE_EXAMPLE
from web.auth import Check
from web.openapi import JSON, NDJSON, Operation, described_by
from web.request_data import read, read_body

log = structlog.get_logger()

SOON = (
    "Reports no longer count this visitor. A worker drops their events that are still in the journal. Old segment files"
    " are deleted within two minutes. After that, /admin/visitors/search finds nothing."
)


class Whose(Schema):
    json_schema: Json = {"oneOf": [{"required": [name]} for name in ("user_id", "visitor_id")]}

    site_id = Text(required=True, shortest=1, longest=128)
    user_id = Text(shortest=1, longest=256)
    visitor_id = Text(shortest=1, longest=64)

    @validates_schema
    def is_one(self, whose: dict[str, Any], **_: Any) -> None:
        if ("user_id" in whose) == ("visitor_id" in whose):
            raise ValidationError("Send either user_id or visitor_id.", "user_id")


class VisitorFound(TypedDict):
    events: Count
    segments: Count
    dead_letters: Count
    journal: Count
    found: bool


class ErasedCounts(TypedDict):
    events: Count
    dead_letters: Count
    waiting: Count


class VisitorErased(TypedDict):
    success: Literal[True]
    erased: ErasedCounts
    message: str


_TAG = "Search, export and erase a visitor"
_NOTE = "Send exactly one of `user_id` and `visitor_id`."
_EXAMPLE: Json = {"site_id": SITE_EXAMPLE, "user_id": "user-xyz-789"}
_SEARCH = Operation(
    summary="Count the stored data of one visitor",
    tag=_TAG,
    note=_NOTE,
    body={JSON: Whose},
    examples={"body": _EXAMPLE},
)
_EXPORT = Operation(
    summary="Export the data of one visitor, one record on each line",
    tag=_TAG,
    note=_NOTE,
    body={JSON: Whose},
    answer={NDJSON: {}},
    headers=AS_FILE,
    examples={"body": _EXAMPLE},
)
_ERASE = Operation(
    summary="Erase the data of one visitor permanently",
    tag=_TAG,
    note=_NOTE,
    body={JSON: Whose},
    examples={"body": _EXAMPLE | {"user_id": "user-who-left"}},
)


def erasure_blueprint(eraser: Eraser, auth: Check) -> Blueprint:
    blueprint = Blueprint("erasure", __name__, url_prefix="/admin/visitors")
    blueprint.before_request(auth)

    @blueprint.post("/search")
    @described_by(_SEARCH)
    def search() -> VisitorFound:
        found = eraser.data.search(_visitor())
        return {
            "events": found.events,
            "segments": found.segments,
            "dead_letters": found.dead_letters,
            "journal": found.journal,
            "found": not found.is_nothing,
        }

    @blueprint.post("/export")
    @described_by(_EXPORT)
    def export() -> Response:
        lines = eraser.data.export(_visitor())
        first = list(islice(lines, 1))  # asks the stores before the status 200 is sent
        answer = Response(_watched(chain(first, lines)), mimetype=NDJSON)
        answer.headers.set("Content-Disposition", "attachment", filename="visitor.ndjson")
        return answer

    @blueprint.post("/erase")
    @described_by(_ERASE)
    def erase() -> VisitorErased:
        erased = eraser.erase(_visitor())
        counts: ErasedCounts = {
            "events": erased.events,
            "dead_letters": erased.dead_letters,
            "waiting": erased.waiting,
        }
        return {"success": True, "erased": counts, "message": SOON}

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
