"""The tracker, for every site, also under the names of other systems' scripts. `make tracker` builds it."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from flask import Blueprint, Response, request

from analytics.json_schema import TEXT
from ingest_app.drop_in import DROP_IN_TAG
from ingest_app.events import SENDING
from web.openapi import Operation, described_by

_FOLDER = Path(__file__).parent / "js"
TRACKER = _FOLDER / "footfall.min.js"
STAND_IN = _FOLDER / "stand_in.min.js"
EXTRAS = _FOLDER / "extras.min.js"

_HEADERS = {
    # Short, so that a new version is in use everywhere within an hour. While the server is not reachable, browsers use
    # the version that they have.
    "Cache-Control": "public, max-age=3600, stale-while-revalidate=86400, stale-if-error=86400",
    "Cross-Origin-Resource-Policy": "cross-origin",  # for pages that are cross-origin isolated
    "X-Content-Type-Options": "nosniff",
    "Vary": "Accept-Encoding",
}

_SCRIPT = Operation(
    summary="The tracker script for your pages",
    tag=SENDING,
    answer={"text/javascript": {}},
    headers={"ETag": {"required": True, "schema": TEXT}},
    uses_stores=False,
)
_EXTRAS = replace(_SCRIPT, summary="The optional second script: forms, tagged elements, missing pages, web vitals")
_STAND_IN = replace(
    _SCRIPT,
    summary="The tracker script for pages of Plausible or Umami",
    tag=DROP_IN_TAG,
    note="It reads the attributes of their script tags, and provides `plausible()` and `umami`.",
)
_VARIANT = replace(
    _STAND_IN,
    variables={
        "variants": {"description": "As in `script.hash.manual.js`. The script reads `hash`, `manual` and `local`."}
    },
    examples={"variants": "hash"},
)


def tracker_blueprint() -> Blueprint:
    blueprint = Blueprint("tracker", __name__)
    tracker, extras, stand_in = map(_script, (TRACKER, EXTRAS, STAND_IN))

    @blueprint.get("/js/footfall.js")
    @described_by(_SCRIPT)
    def get_tracker() -> Response:
        return tracker()

    @blueprint.get("/js/footfall.extras.js")
    @described_by(_EXTRAS)
    def get_extras() -> Response:
        return extras()

    @blueprint.get("/js/script.js")
    @blueprint.get("/js/plausible.js")
    @blueprint.get("/script.js")
    @described_by(_STAND_IN)
    def get_stand_in() -> Response:
        return stand_in()

    @blueprint.get("/js/script.<variants>.js")
    @blueprint.get("/js/plausible.<variants>.js")
    @described_by(_VARIANT)
    def get_stand_in_variant(variants: str) -> Response:  # noqa: ARG001 - the script reads its own name
        return stand_in()

    return blueprint


def _script(built: Path) -> Callable[[], Response]:
    plain = built.read_bytes()
    packed = gzip.compress(plain, 9, mtime=0)

    def respond() -> Response:
        packs = request.accept_encodings["gzip"] > 0
        answer = Response(packed if packs else plain, headers=_HEADERS, mimetype="text/javascript")
        if packs:
            answer.content_encoding = "gzip"
        answer.add_etag()
        answer.make_conditional(request)
        return answer

    return respond
