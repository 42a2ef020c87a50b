"""Creates the Flask app that both apps build on: error responses, health routes, common limits and headers."""

from collections.abc import Callable, Mapping

from flask import Flask, Response, request
from werkzeug.middleware.proxy_fix import ProxyFix

from web.errors import register_errors
from web.health import health_blueprint

# For answers that are not pages, in case a browser shows one. A route that is a page sets its own headers.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
}


def new_app(name: str, checks: Mapping[str, Callable[[], None]], most_bytes: int, trusted_proxies: int = 0) -> Flask:
    """An app without routes of its own. `checks`: see web/health.py. `most_bytes`: the largest body.

    `trusted_proxies`: the number of proxies in front of the app whose X-Forwarded headers are believed.
    """
    app = Flask(name, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = most_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]
    register_errors(app)
    app.register_blueprint(health_blueprint(checks))
    app.after_request(_with_headers)
    if trusted_proxies:
        fixed = ProxyFix(app.wsgi_app, x_for=trusted_proxies, x_proto=trusted_proxies)
        app.wsgi_app = fixed  # type: ignore[method-assign]
    return app


def _with_headers(response: Response) -> Response:
    said = {name.lower() for name, _ in response.headers}
    for name, value in _HEADERS.items():
        if name.lower() not in said:
            response.headers.add(name, value)
    if request.is_secure:  # a trusted proxy says so
        response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    return response
