"""Answers the routes that get nearly all requests, before Flask's dispatch.

Each such route has one function, which its blueprint calls too. Flask takes about 100 µs of CPU per request for
contexts, routing, hooks and the response, twice as much as the collector itself. A request with a query, an encoded or
a large body goes to Flask. So does every error: Flask then raises it again (web/commits.py), and the error handlers
answer it. tests/ingest_app/test_hot_routes.py compares both ways byte by byte.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from analytics.event_loop import LARGEST_ON_LOOP
from analytics.events.segment_com import CALLS
from ingest_app.cdn_headers import Names
from ingest_app.collector import Collector
from ingest_app.cors import ANY_ORIGIN
from ingest_app.events import receive_event
from ingest_app.hit import PLACE_HEADERS, Environ, read_declared
from ingest_app.plausible import receive_plausible
from ingest_app.reply import Headers, Reply
from ingest_app.segment_com import receive_segment
from ingest_app.segment_com_schema import SHORT_CALLS
from ingest_app.umami import receive_umami
from web.app import SECURITY_HEADERS, STRICT_TRANSPORT
from web.commits import ERROR_TO_RAISE

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

HotRoute = Callable[[Collector, Environ, bytes], Reply]
HOT_ROUTES: dict[str, HotRoute] = {
    "/event": receive_event,
    "/api/event": receive_plausible,
    "/api/send": receive_umami,
    **{f"/v1/{kind}": partial(receive_segment, kind=kind) for kind in (*CALLS, *SHORT_CALLS)},
}


class HotRoutes:
    """A WSGI app in front of Flask's. `place_headers`: the names that ingest_app/cdn_headers.py reads, if any. `most`:
    the largest body of an event, in bytes.
    """

    def __init__(self, app: "WSGIApplication", collector: Collector, place_headers: Names | None, most: int) -> None:
        self._flask = app
        self._collector = collector
        self._place_headers = place_headers
        self._most = min(most, LARGEST_ON_LOOP)

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ[PLACE_HEADERS] = self._place_headers
        route = HOT_ROUTES.get(environ["PATH_INFO"])
        if route is None or not _is_plain(environ, self._most):
            return self._flask(environ, start_response)
        try:
            reply = self._answer(route, environ)
        except Exception as error:
            environ[ERROR_TO_RAISE] = error
            return self._flask(environ, start_response)
        is_https = environ["wsgi.url_scheme"] == "https"
        start_response(reply.status, [*_headers(reply.content_type, len(reply.body), reply.headers, is_https)])
        return [reply.body]

    def _answer(self, route: HotRoute, environ: Environ) -> Reply:
        self._collector.charge_address(environ)
        return route(self._collector, environ, read_declared(environ, int(environ["CONTENT_LENGTH"])))


@lru_cache(256)  # nearly all responses have the same
def _headers(content_type: str, length: int, own: Headers, is_https: bool) -> Headers:
    always = (*ANY_ORIGIN, *SECURITY_HEADERS.items(), *([STRICT_TRANSPORT] if is_https else []))
    return ("Content-Type", content_type), ("Content-Length", str(length)), *own, *always


def _is_plain(environ: Environ, most: int) -> bool:
    length = environ.get("CONTENT_LENGTH", "")
    return (
        environ["REQUEST_METHOD"] == "POST"
        and not environ.get("QUERY_STRING")
        and "HTTP_CONTENT_ENCODING" not in environ
        and ERROR_TO_RAISE not in environ
        and length.isdecimal()
        and int(length) <= most
    )
