"""Answers the routes that get nearly all requests, in front of Flask and WSGI.

Each such route has one function, which its blueprint calls too. Flask takes about 100 µs of CPU per request for
contexts, routing, hooks and the response, more than all the rest. A request with a query, an encoded or a large body
goes to Flask. So does every error: Flask then raises it again (web/commits.py), and the error handlers answer it.
tests/ingest_app/test_hot_routes.py compares both ways byte by byte.
"""

from collections.abc import Callable
from functools import lru_cache, partial

from analytics.event_loop import LARGEST_ON_LOOP
from analytics.events.segment_com import CALLS
from ingest_app.cdn_headers import Names
from ingest_app.collector import Collector
from ingest_app.events import receive_event
from ingest_app.hit import BODY_BYTES, PLACE_HEADERS, Environ
from ingest_app.plausible import receive_plausible
from ingest_app.reply import Reply
from ingest_app.segment_com import receive_segment
from ingest_app.segment_com_schema import SHORT_CALLS
from ingest_app.umami import receive_umami
from web.app import SECURITY_HEADERS, STRICT_TRANSPORT, Headers
from web.commits import ERROR_TO_RAISE
from web.errors import ANY_ORIGIN
from web.http_connection import render_head

HotRoute = Callable[[Collector, Environ, bytes], Reply]
HOT_ROUTES: dict[str, HotRoute] = {
    "/event": receive_event,
    "/api/event": receive_plausible,
    "/api/send": receive_umami,
    **{f"/v1/{kind}": partial(receive_segment, kind=kind) for kind in (*CALLS, *SHORT_CALLS)},
}


class HotRoutes:
    """`place_headers`: the names that ingest_app/cdn_headers.py reads, if any. `most`: the largest body of an event, in
    bytes.
    """

    def __init__(self, collector: Collector, place_headers: Names | None, most: int) -> None:
        self._collector = collector
        self._place_headers = place_headers
        self._most = min(most, LARGEST_ON_LOOP)

    def answer(self, environ: Environ, body: bytes | bytearray) -> tuple[bytes, bytes] | None:
        """See InFront in web/commits.py. Raises WouldWait on the loop."""
        route = HOT_ROUTES.get(environ["PATH_INFO"])
        if route is None or len(body) > self._most or not _is_plain(environ, body):
            return None
        environ[PLACE_HEADERS] = self._place_headers
        environ[BODY_BYTES] = len(body)
        try:
            self._collector.charge_address(environ)
            reply = route(self._collector, environ, bytes(body))
        except Exception as error:
            environ[ERROR_TO_RAISE] = error
            return None
        is_https = environ["wsgi.url_scheme"] == "https"
        return _head(reply.status, reply.content_type, len(reply.body), reply.headers, is_https), reply.body


@lru_cache(256)  # nearly all responses have the same
def _head(status: str, content_type: str, length: int, own: Headers, is_https: bool) -> bytes:
    always = (*ANY_ORIGIN, *SECURITY_HEADERS.items(), *([STRICT_TRANSPORT] if is_https else []))
    return render_head(status, (*own, ("Content-Type", content_type), ("Content-Length", str(length)), *always))


def _is_plain(environ: Environ, body: bytes | bytearray) -> bool:
    return (
        environ["REQUEST_METHOD"] == "POST"
        and not environ.get("QUERY_STRING")
        and environ.get("CONTENT_LENGTH") == str(len(body))  # the server does not receive a body that is too long
        and "HTTP_CONTENT_ENCODING" not in environ
        and ERROR_TO_RAISE not in environ
    )
