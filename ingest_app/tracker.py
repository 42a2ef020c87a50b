"""GET /js/footfall.js: the tracker, for every site. `make tracker` builds it (ingest_app/js/build.py)."""

import gzip
from pathlib import Path

from flask import Blueprint, Response, request

from analytics.json_schema import TEXT
from ingest_app.events import SENDING
from web.openapi import Operation, described_by

_BUILT = Path(__file__).parent / "js" / "footfall.min.js"

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


def tracker_blueprint() -> Blueprint:
    blueprint = Blueprint("tracker", __name__)
    plain = _BUILT.read_bytes()
    packed = gzip.compress(plain, 9, mtime=0)

    @blueprint.get("/js/footfall.js")
    @described_by(_SCRIPT)
    def tracker() -> Response:
        packs = request.accept_encodings["gzip"] > 0
        answer = Response(packed if packs else plain, headers=_HEADERS, mimetype="text/javascript")
        if packs:
            answer.content_encoding = "gzip"
        answer.add_etag()
        answer.make_conditional(request)
        return answer

    return blueprint
