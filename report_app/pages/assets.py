"""The files that pages load: style sheets, scripts and images of this server."""

import gzip
import hashlib
from functools import cache
from pathlib import Path

from flask import Response, abort, request

from report_app.page_blueprint import PageBlueprint
from web.docs import CONTENT_TYPES

_FILES = Path(__file__).parents[1] / "static"
ASSETS = {file.name: file for file in sorted(_FILES.rglob("*")) if file.suffix in (".css", ".js", ".svg")}
_TYPES = CONTENT_TYPES | {".svg": "image/svg+xml"}
_KEPT = "public, max-age=31536000, immutable"  # the address of a file changes with its content


@cache
def asset_url(name: str) -> str:
    return f"/assets/{name}?v={hashlib.sha256(_content(name)).hexdigest()[:12]}"


@cache
def _content(name: str) -> bytes:
    return ASSETS[name].read_bytes()


@cache
def _compressed(name: str) -> bytes:
    return gzip.compress(_content(name), 9, mtime=0)


def assets_blueprint() -> PageBlueprint:
    blueprint = PageBlueprint("assets", __name__)

    @blueprint.get("/assets/<name>")
    def asset(name: str) -> Response:
        if name not in ASSETS:
            abort(404)
        headers = {"Cache-Control": _KEPT, "Vary": "Accept-Encoding"}
        if request.accept_encodings["gzip"]:
            return Response(
                _compressed(name), 200, headers | {"Content-Encoding": "gzip"}, mimetype=_TYPES[ASSETS[name].suffix]
            )
        return Response(_content(name), 200, headers, mimetype=_TYPES[ASSETS[name].suffix])

    return blueprint
