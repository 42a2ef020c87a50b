"""Creates the Flask app that both apps build on: error responses, health routes, common limits and headers."""

from collections.abc import Callable, Mapping

from flask import Flask, Response, request
from werkzeug.middleware.proxy_fix import ProxyFix

from web.errors import register_errors
from web.health import health_blueprint

# For answers that are not pages, in case a browser shows one. A route that is a page sets its own headers.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
}
STRICT_TRANSPORT = ("Strict-Transport-Security", "max-age=31536000")  # if a trusted proxy says that it spoke https


def new_app(name: str, checks: Mapping[str, Callable[[], None]], most_bytes: int) -> Flask:
    """An app without routes of its own. `checks`: see web/health.py. `most_bytes`: the largest body."""
    app = Flask(name, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = most_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]
    register_errors(app)
    app.register_blueprint(health_blueprint(checks))
    app.after_request(_with_headers)
    return app


def trust_proxies(app: Flask, count: int) -> None:
    """Believes the X-Forwarded headers of `count` proxies in front of the app. Call it last."""
    if count:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count)  # type: ignore[method-assign]


def _with_headers(response: Response) -> Response:
    said = {name.lower() for name, _ in response.headers}
    for name, value in SECURITY_HEADERS.items():
        if name.lower() not in said:
            response.headers.add(name, value)
    if request.is_secure:
        response.headers.setdefault(*STRICT_TRANSPORT)
    return response
