"""GET /openapi.json: the app's API in OpenAPI 3.1. GET /docs: the same as a page with forms to try it.

Both are public: the description is no secret. The page is Swagger UI as flask-swagger-ui ships it. It loads nothing
from other servers, and its Content-Security-Policy enforces that.
"""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, redirect
from werkzeug.wrappers import Response as BaseResponse

from analytics.json_schema import TEXT, Json
from web.openapi import HTML, PROCESS, Api, Operation, described_by

_OURS = files("web") / "static"
SWAGGERS = files("flask_swagger_ui") / "dist"
_PARTS = {
    "docs.css": _OURS,
    "docs.js": _OURS,
    "swagger-ui.css": SWAGGERS,
    "swagger-ui-bundle.js": SWAGGERS,
    "favicon-32x32.png": SWAGGERS,
}
CONTENT_TYPES = {".html": HTML, ".css": "text/css", ".js": "text/javascript", ".png": "image/png"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_KEPT = "public, max-age=3600"  # a new version of Footfall has new files
PART = f"/docs/<any{tuple(_PARTS)}:name>"


_JSON = Operation(summary="This description", tag=PROCESS, uses_stores=False)
_DOCS = Operation(summary="This description as a page", tag=PROCESS, answer={HTML: str}, uses_stores=False)
_DOCS_WITH_SLASH = Operation(
    summary="Redirect to /docs",
    tag=PROCESS,
    status=308,
    answer={HTML: str},
    headers={"Location": {"required": True, "schema": TEXT}},
    uses_stores=False,
)
_FILES = Operation(
    summary="Files of the documentation page",
    tag=PROCESS,
    answer={media: {} for media in CONTENT_TYPES.values() if media != HTML},
    uses_stores=False,
    examples={"name": "swagger-ui.css"},
)


@cache
def _read(name: str) -> bytes:
    """A part, once in memory for all clients that read it slowly."""
    return (_PARTS[name] / name).read_bytes()


def docs_blueprint(app: Flask, api: Api) -> Blueprint:
    """`app`: the app that is described."""
    blueprint = Blueprint("docs", __name__)

    @cache
    def description() -> Json:
        from web.description import describe  # noqa: PLC0415 - see web/description.py

        return describe(app, api)

    @blueprint.get("/openapi.json")
    @described_by(_JSON)
    def as_json() -> dict[str, Any]:
        return description()

    @blueprint.get("/docs")
    @described_by(_DOCS)
    def page() -> Response:
        return Response((_OURS / "docs.html").read_bytes(), 200, {"Content-Security-Policy": _POLICY}, HTML)

    @blueprint.get("/docs/")
    @described_by(_DOCS_WITH_SLASH)
    def page_with_slash() -> BaseResponse:
        return redirect("../docs", 308)  # relative, so that a proxy may serve the app below a path of its own

    @blueprint.get(PART)
    @described_by(_FILES)
    def part(name: str) -> Response:
        return Response(_read(name), 200, {"Cache-Control": _KEPT}, CONTENT_TYPES[Path(name).suffix])

    return blueprint
