"""Flask without work that no request of ours needs. All that is overridden are hooks that Flask and Werkzeug document.

docs/decisions/0013-event-loop.md has the CPU that each of them saves.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Flask, Request, Response
from flask.ctx import RequestContext
from flask.sessions import NullSession, SessionInterface
from werkzeug.routing import Map, MapAdapter, Rule
from werkzeug.wsgi import get_host

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_OF_HOST = ("wsgi.url_scheme", "HTTP_HOST", "SERVER_NAME", "SERVER_PORT", "SCRIPT_NAME")

F = TypeVar("F", bound=Callable[..., Any])


class LeanResponse(Response):
    """A response. One that is whole needs no search of its headers, and nothing is closed after it."""

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        pieces = self.response
        is_whole = self.status_code in (200, 202) and isinstance(pieces, list) and "Content-Length" in self.headers
        if not is_whole or self._on_close or environ["REQUEST_METHOD"] == "HEAD":
            return super().__call__(environ, start_response)
        start_response(self.status, self.headers.to_wsgi_list())
        return self.iter_encoded()


class NoSessions(SessionInterface):
    """For an app without sessions."""

    def __init__(self) -> None:
        self._none = NullSession()  # it refuses changes, so all requests may share it

    def open_session(self, app: Flask, request: Request) -> NullSession:
        return self._none


class LeanFlask(Flask):
    response_class = LeanResponse

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fixed_routes: dict[tuple[str, str], Rule] = {}  # by method and path, those without variables

    def ensure_sync(self, func: F) -> F:
        return func  # no view and no hook is a coroutine

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """As Flask's, but the host is not parsed for each request."""
        if request is None:
            return super().create_url_adapter(None)
        environ = request.environ
        said = tuple(environ.get(name) for name in _OF_HOST)
        of_host = _bound(self.url_map, said)
        return MapAdapter(
            self.url_map,
            of_host.server_name,
            of_host.script_name,
            of_host.subdomain,
            of_host.url_scheme,
            request.path,
            request.method,
            environ.get("QUERY_STRING"),
        )

    def request_context(self, environ: "WSGIEnvironment") -> RequestContext:
        return _LeanContext(self, environ)


class _LeanContext(RequestContext):
    app: LeanFlask

    def match_request(self) -> None:
        """As Flask's, but a path without variables is found in a dict."""
        request, fixed = self.request, self.app.fixed_routes
        asked = request.method, request.path
        if rule := fixed.get(asked):
            request.url_rule, request.view_args = rule, {}
            return
        super().match_request()
        if request.url_rule and not request.url_rule.arguments:
            fixed[asked] = request.url_rule


@lru_cache(256)
def _bound(urls: Map, said: tuple[str | None, ...]) -> MapAdapter:
    """The adapter of a host. Raises HTTPException if the host is not valid."""
    environ: dict[str, Any] = dict(zip(_OF_HOST, said, strict=True))
    script, scheme = environ["SCRIPT_NAME"], environ["wsgi.url_scheme"]
    return urls.bind(get_host(environ), script, urls.default_subdomain or "", scheme)
