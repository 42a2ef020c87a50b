"""Renders pages and parts of pages, with a Content-Security-Policy that allows only this server's own files."""

import gzip
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from flask import Response, abort, render_template, request

from report_app.page_blueprint import PageBlueprint
from web.docs import CONTENT_TYPES

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_FILES = Path(__file__).parents[1] / "static"
ASSETS = {file.name: file for file in sorted(_FILES.rglob("*")) if file.suffix in (".css", ".js", ".svg")}
_TYPES = CONTENT_TYPES | {".svg": "image/svg+xml"}
_KEPT = "public, max-age=31536000, immutable"  # the address of a file changes with its content


def show(template: str, status: int = 200, **context: Any) -> Response:
    theme = request.cookies.get("theme")
    text = render_template(template, theme=theme if theme in ("light", "dark") else None, **context)
    headers = {"Content-Security-Policy": PAGE_POLICY, "Referrer-Policy": "same-origin", "Vary": "Cookie, HX-Request"}
    return Response(text, status, headers, mimetype="text/html")


@cache
def asset_url(name: str) -> str:
    return f"/assets/{name}?v={hashlib.sha256(ASSETS[name].read_bytes()).hexdigest()[:12]}"


@cache
def _compressed(name: str) -> bytes:
    return gzip.compress(ASSETS[name].read_bytes(), 9, mtime=0)


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
        return Response(ASSETS[name].read_bytes(), 200, headers, mimetype=_TYPES[ASSETS[name].suffix])

    return blueprint
