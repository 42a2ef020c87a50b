"""GET /openapi.json: the app's API in OpenAPI 3.1. GET /docs: the same as a page with forms to try it.

Both are public: the description is no secret. The page is Swagger UI as flask-swagger-ui ships it. It loads nothing
from other servers, and its Content-Security-Policy enforces that.
"""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path

from flask import Blueprint, Response, jsonify, redirect
from werkzeug.wrappers import Response as BaseResponse

from web.json_schema import Json

_OURS = files("web") / "static"
SWAGGERS = files("flask_swagger_ui") / "dist"
_PARTS = {
    "docs.css": _OURS,
    "docs.js": _OURS,
    "swagger-ui.css": SWAGGERS,
    "swagger-ui-bundle.js": SWAGGERS,
    "favicon-32x32.png": SWAGGERS,
}
CONTENT_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".png": "image/png"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_KEPT = "public, max-age=3600"  # a new version of Footfall has new files
PART = f"/docs/<any{tuple(_PARTS)}:name>"


@cache
def _read(name: str) -> bytes:
    """A part, once in memory for all clients that read it slowly."""
    return (_PARTS[name] / name).read_bytes()


def docs_blueprint(description: Callable[[], Json]) -> Blueprint:
    blueprint = Blueprint("docs", __name__)

    @blueprint.get("/openapi.json")
    def as_json() -> Response:
        return jsonify(description())

    @blueprint.get("/docs")
    def page() -> Response:
        return Response((_OURS / "docs.html").read_bytes(), 200, {"Content-Security-Policy": _POLICY}, "text/html")

    @blueprint.get("/docs/")
    def page_with_slash() -> BaseResponse:
        return redirect("../docs", 308)  # relative, so that a proxy may serve the app below a path of its own

    @blueprint.get(PART)
    def part(name: str) -> Response:
        return Response(_read(name), 200, {"Cache-Control": _KEPT}, CONTENT_TYPES[Path(name).suffix])

    return blueprint
