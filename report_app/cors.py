"""CORS for reports: pages of the allowed origins may read them in a browser, with a key in `Authorization`.

Without credentials: a browser sends no cookie, and reports take none. Other routes answer without these headers.
"""

from flask import Flask, Response, request

_REPORTS = {"stats", "stats_v1", "ledger", "query", "explorations"}  # blueprints
_PREFLIGHT_KEPT_FOR = 7200  # seconds; Chromium keeps it for at most this time


def allow_origins(app: Flask, origins: frozenset[str]) -> None:
    @app.before_request
    def answer_preflight() -> Response | None:
        """A preflight request has no key, so it is answered before the key is checked."""
        return Response(status=204) if _is_preflight() and _is_allowed(origins) else None

    @app.after_request
    def with_cors_headers(response: Response) -> Response:
        if not origins or request.blueprint not in _REPORTS:
            return response
        response.vary.add("Origin")
        if _is_allowed(origins):
            response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
            response.headers["Access-Control-Expose-Headers"] = "Retry-After, X-Footfall-Warning"
            if _is_preflight():
                response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
                response.headers["Access-Control-Allow-Methods"] = "GET, POST"
                response.headers["Access-Control-Max-Age"] = str(_PREFLIGHT_KEPT_FOR)
        return response


def _is_allowed(origins: frozenset[str]) -> bool:
    return request.blueprint in _REPORTS and request.headers.get("Origin") in origins


def _is_preflight() -> bool:
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
