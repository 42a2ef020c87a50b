"""Creates the Flask app that both apps build on: error responses, health routes, common limits and headers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from web.errors import register_errors
from web.health import health_blueprint
from web.lean_flask import LeanFlask

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

Headers = tuple[tuple[str, str], ...]

# For answers that are not pages, in case a browser shows one. A route that is a page sets its own headers.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
}
STRICT_TRANSPORT = ("Strict-Transport-Security", "max-age=31536000")  # if a trusted proxy says that it spoke https


def new_app(
    name: str, checks: Mapping[str, Callable[[], None]], most_bytes: int, headers: Sequence[tuple[str, str]] = ()
) -> Flask:
    """An app without routes of its own. `checks`: see web/health.py. `most_bytes`: the largest body. `headers`: those
    of every response, in addition to SECURITY_HEADERS.
    """
    app = LeanFlask(name, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = most_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]
    register_errors(app)
    app.register_blueprint(health_blueprint(checks))
    app.wsgi_app = FixedHeaders(app.wsgi_app, (*headers, *SECURITY_HEADERS.items()))  # type: ignore[method-assign]
    return app


def trust_proxies(app: Flask, count: int) -> None:
    """Believes the X-Forwarded headers of `count` proxies in front of the app. Call it last."""
    app.config["TRUSTED_PROXIES"] = count  # for web/gunicorn_worker.py
    if count:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count)  # type: ignore[method-assign]
        if in_front := app.config.get("IN_FRONT"):  # ProxyFix passes its second argument on, whatever it is
            app.config["IN_FRONT"] = ProxyFix(in_front, x_for=count, x_proto=count)


class FixedHeaders:
    """A WSGI app that adds headers to the responses of `app`, unless they have these headers.

    In front of Flask, because the headers of its responses take 20 µs for this.
    """

    def __init__(self, app: "WSGIApplication", headers: Sequence[tuple[str, str]]) -> None:
        self._app = app
        self._headers = tuple(headers)

    def __call__(self, environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
        is_https = environ["wsgi.url_scheme"] == "https"

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            missing = _missing(self._headers, is_https, tuple([name for name, _ in headers]))
            return start_response(status, [*headers, *missing], *error)

        return self._app(environ, start)


@lru_cache(256)  # most responses have the same names
def _missing(always: Headers, is_https: bool, names: tuple[str, ...]) -> Headers:
    said = {name.lower() for name in names}
    return tuple(x for x in (*always, *([STRICT_TRANSPORT] if is_https else [])) if x[0].lower() not in said)
