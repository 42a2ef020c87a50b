"""One HTTP/1 connection on the event loop: reads requests and writes responses, within limits of bytes and seconds.

httptools parses (llhttp, in its strict mode). No thread and no task waits for a client: a connection is a few hundred
bytes with a deadline, which `Server.sweep` checks.

    receiving   READ_SECONDS for a request, and a second more for each 64 KiB received; then 408
    answering   one request at a time; the connection is not read further while others wait
    writing     READ_SECONDS for the client to read, and a second more for each 64 KiB unsent; then it is reset
    idle        KEEP_ALIVE seconds after a response, READ_SECONDS on a new connection; then it is closed
    leaving     LINGER seconds for the client to read the last response and close

A request that cannot be parsed gets an error response in the standard format.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from web.errors import (
    NOT_HTTP,
    TOO_SLOW,
    ClientGone,
    LongHead,
    NotRead,
    NotSupported,
    TooSlow,
    code_for,
    error_body,
    note_broken,
)

READ_SECONDS = 10.0
PER_SECOND = 65536  # bytes
KEEP_ALIVE = 65.0  # seconds; above a proxy's usual 60, so that the proxy closes first
LINGER = 2.0  # seconds
LONGEST_LINE = 4094  # bytes of a request's target
LONGEST_HEADER = 8190  # bytes
MOST_HEADERS = 100
LONGEST_HEAD = 32768  # bytes, of trailers too
MOST_BODY = 5_000_000  # bytes; the app answers a longer body with 413 and receives nothing of it

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Refused(Exception):
    """The request is answered without the app."""

    def __init__(self, status: int, message: str, cause: Exception) -> None:
        super().__init__(message)
        self.status = status
        self.cause = cause


class Request:
    """A received request. `is_cut`: its body was too long and is not here; the connection ends with the response."""

    __slots__ = ("body", "headers", "is_cut", "is_head_complete", "keeps_alive", "length", "method", "refusal",
                 "size", "url", "version")  # fmt: skip

    def __init__(self) -> None:
        self.method = self.version = ""
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.size = 0  # bytes of the headers, and later of the trailers
        self.body = bytearray()
        self.length: int | None = None  # as the client declares it
        self.is_head_complete = self.is_cut = False
        self.keeps_alive = True
        self.refusal: Refused | None = None

    def environ(self, base: dict[str, Any]) -> dict[str, Any]:
        """The WSGI environ. Headers whose name has an underscore are omitted, because they could pose as others."""
        target = self.url
        if not target.startswith(b"/") and b"://" in target:  # the absolute form, as for a proxy
            target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
        path, _, query = target.partition(b"?")
        environ = base | {
            "REQUEST_METHOD": self.method,
            "SERVER_PROTOCOL": f"HTTP/{self.version}",
            "RAW_URI": self.url.decode("latin-1"),
            "PATH_INFO": (unquote_to_bytes(path) if b"%" in path else path).decode("latin-1"),
            "QUERY_STRING": query.decode("latin-1"),
        }
        for name, value in self.headers:
            key = _KEYS.get(name) or _key_of(name)
            if not key:
                continue
            text = value.decode("latin-1")
            if key in environ:
                text = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{text}"
            environ[key] = text
        if self.body or self.length is not None:
            environ["CONTENT_LENGTH"] = str(self.length if self.is_cut and self.length else len(self.body))
        return environ


_KEYS: dict[bytes, str] = {}  # a header's name to its name in WSGI; "" for one that is omitted
_MOST_KEYS = 1000  # clients choose the names


def _key_of(name: bytes) -> str:
    text = name.decode("latin-1").upper()
    if "_" in text or text == "TRANSFER-ENCODING":  # the body is complete, so it has a length instead
        key = ""
    elif text in ("CONTENT-TYPE", "CONTENT-LENGTH"):
        key = text.replace("-", "_")
    else:
        key = "HTTP_" + text.replace("-", "_")
    if len(_KEYS) < _MOST_KEYS:
        _KEYS[name] = key
    return key


class Server(Protocol):
    """What a connection needs of its server. Times are those of the event loop."""

    is_stopping: bool

    def opened(self, connection: "Connection") -> None: ...

    def closed(self, connection: "Connection") -> None: ...

    def take(self, connection: "Connection", request: Request) -> None:
        """Answers a request, now or later, with `connection.finish` or `connection.stream`."""

    def note_held(self, size: int) -> None:
        """Bodies now hold `size` bytes more, or fewer."""


class Connection(asyncio.Protocol):
    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._parser = HttpRequestParser(self)
        self._receiving: Request | None = None
        self._current: Request | None = None
        self._waiting: deque[Request] = deque()
        self._head_bytes = 0  # received of a head that is not complete
        self._held = 0  # bytes of bodies
        self._more: Callable[[], None] | None = None  # asks for the next piece of a response
        self._stop: Callable[[], None] = lambda: None  # no more pieces are needed
        self._is_blocked = False  # the client has not read what was sent
        self._is_deaf = False  # what the client still sends is not read
        self._is_leaving = False  # the last response was sent
        self._is_at_end = False  # the client sends nothing more
        self._is_chunked = False
        self.peer = ""
        self.started = self.deadline = math.inf
        self._transport: asyncio.Transport

    # What the transport calls

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=0)  # so that any unsent byte has a deadline
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if peer else ""
        self.deadline = self._loop.time() + READ_SECONDS
        self._server.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        if self.is_idle:
            self.started = self._loop.time()
            self.deadline = self.started + READ_SECONDS
        self.deadline += len(data) / PER_SECOND
        if self._receiving is None or not self._receiving.is_head_complete:
            self._head_bytes += len(data)
        self._feed(data)
        if self._head_bytes > LONGEST_HEAD:
            self._refuse(431, NOT_HTTP, LongHead())

    def eof_received(self) -> bool:
        self._is_at_end = True
        if self._is_leaving:
            return False
        if self._receiving:
            self._refuse(400, NOT_HTTP, ClientGone())
            return True
        return self._current is not None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._receiving and self._receiving.is_head_complete and not self._is_leaving:
            note_broken(ClientGone())
        self._is_deaf = self._is_leaving = True
        if self._more:
            self._stop()
        self._current = self._more = None
        self._waiting.clear()
        self._release()
        self._server.closed(self)

    def pause_writing(self) -> None:
        self._is_blocked = True
        self._transport.pause_reading()
        self.deadline = self._loop.time() + READ_SECONDS + self._transport.get_write_buffer_size() / PER_SECOND

    def resume_writing(self) -> None:
        self._is_blocked = False
        if self._is_leaving:
            self._linger()
        elif self._current is None:
            self._go_on()
        else:
            self.deadline = math.inf
            if self._more:
                self._more()

    # What the parser calls

    def on_message_begin(self) -> None:
        self._receiving = Request()

    def on_url(self, url: bytes) -> None:
        request = self._receiving
        if request is None:
            return
        request.url += url
        if len(request.url) > LONGEST_LINE:
            raise Refused(414, NOT_HTTP, LongHead())

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._receiving
        if request is None:
            return
        size = len(name) + len(value)
        request.size += size
        if size > LONGEST_HEADER or request.size > LONGEST_HEAD or len(request.headers) >= MOST_HEADERS:
            raise Refused(431, NOT_HTTP, LongHead())
        if not request.is_head_complete:
            request.headers.append((name, value))

    def on_headers_complete(self) -> None:
        request, parser = self._receiving, self._parser
        if request is None:
            return
        request.is_head_complete = True
        self._head_bytes = 0
        request.method = parser.get_method().decode()
        request.version = parser.get_http_version()
        request.keeps_alive = parser.should_keep_alive()
        if request.version not in ("1.1", "1.0"):
            raise Refused(400, NOT_HTTP, NotSupported())
        expects = False
        for name, value in request.headers:
            match name.lower():
                case b"content-length":
                    request.length = int(value)
                case b"transfer-encoding":
                    if value.strip().lower() != b"chunked":
                        raise Refused(501, NOT_HTTP, NotSupported())
                case b"expect":
                    expects = value.lower() == b"100-continue" and request.version == "1.1"
        if request.length and request.length > MOST_BODY:
            self._cut(request)
        elif expects and self._current is None:
            self._transport.write(_CONTINUE)

    def on_body(self, piece: bytes) -> None:
        request = self._receiving
        if request is None:
            return
        request.body += piece
        self._held += len(piece)
        self._server.note_held(len(piece))
        if len(request.body) > MOST_BODY:
            request.length = len(request.body)
            self._cut(request)

    def on_message_complete(self) -> None:
        if self._receiving and not self._parser.should_upgrade():
            self._complete(self._receiving)

    # Requests

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except HttpParserCallbackError as error:
            refusal = error.__context__
            if not isinstance(refusal, Refused):
                raise
            self._refuse(refusal.status, str(refusal), refusal.cause)
        except HttpParserError as error:
            self._refuse(400, NOT_HTTP, error)

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Reads a request again without its header Upgrade, as RFC 9110 permits (7.8). The parser has stopped at it."""
        request = self._receiving
        self._receiving = None
        self._parser = HttpRequestParser(self)
        if request is None or request.method == "CONNECT":
            self._refuse(400, NOT_HTTP, NotSupported())
            return
        head = [request.method.encode() + b" " + request.url + b" HTTP/" + request.version.encode()]
        head += [name + b": " + value for name, value in request.headers if name.lower() != b"upgrade"]
        self._feed(b"\r\n".join(head) + b"\r\n\r\n" + rest)

    def _cut(self, request: Request) -> None:
        self._is_deaf = request.is_cut = True
        request.keeps_alive = False
        request.body = bytearray()
        self._complete(request)

    def _refuse(self, status: int, message: str, cause: Exception) -> None:
        if self._is_deaf or (self._current and not self._current.keeps_alive):
            return
        self._is_deaf = True
        note_broken(cause)
        request = Request()
        request.keeps_alive = False
        request.refusal = Refused(status, message, cause)
        self._complete(request)

    def _complete(self, request: Request) -> None:
        self._receiving = None
        self._head_bytes = 0
        if self._is_leaving:
            return
        if self._current is None:
            self._current = request
            self._start()
        elif [self._current, *self._waiting][-1].keeps_alive:
            self._waiting.append(request)
            self._transport.pause_reading()

    def _start(self) -> None:
        request = self._current
        if request is None:
            return
        self.deadline = math.inf
        if request.refusal:
            self.finish(*render_error(request.refusal.status, str(request.refusal)))
        else:
            self._server.take(self, request)

    def expire(self) -> None:
        """Ends what took too long. The server calls it when `deadline` is over."""
        if self._is_leaving or self._is_blocked:
            if self._is_blocked:
                note_broken(NotRead())
            self._transport.abort()
        elif self._receiving or self._head_bytes:
            self._refuse(408, TOO_SLOW, TooSlow())
        else:
            self._transport.close()

    # Responses

    @property
    def is_idle(self) -> bool:
        return self._current is None and self._receiving is None and not self._head_bytes

    @property
    def held(self) -> int:
        """Bytes of the body that is being received."""
        return len(self._receiving.body) if self._receiving else 0

    def give_up(self, status: int, message: str) -> None:
        """Answers a request that is not complete."""
        self._refuse(status, message, TooSlow())

    def finish(self, head: bytes, body: bytes = b"") -> None:
        """Sends the response to the current request, and goes on to the next one. `head`: without its empty line."""
        request = self._current
        if request is None:
            return
        is_last = self._is_last(request)
        self._transport.write(head + _ending(request, is_last) + (b"" if request.method == "HEAD" else body))
        self._done(is_last)

    def stream(self, head: bytes, more: Callable[[], None], stop: Callable[[], None], is_sized: bool) -> None:
        """Sends the response to the current request in pieces. `is_sized`: `head` has a Content-Length.

        `more` is called when the client can take another piece, and `piece`, `end` or `abort` answers it. `stop` is
        called if the connection ends before.
        """
        request = self._current
        if request is None:
            return
        self._is_chunked = not is_sized and request.version == "1.1"
        if self._is_chunked:
            head += b"Transfer-Encoding: chunked\r\n"
        elif not is_sized:
            request.keeps_alive = False
        self._transport.write(head + _ending(request, self._is_last(request)))
        self._more, self._stop = more, stop
        if not self._is_blocked:
            more()

    def piece(self, data: bytes) -> None:
        if self._more is None:
            return
        self._write_piece(data)
        if not self._is_blocked:
            self._more()

    def end(self, data: bytes) -> None:
        """Sends the last piece."""
        request = self._current
        if request is None:
            return
        self._more = None
        self._write_piece(data)
        if self._is_chunked:
            self._transport.write(b"0\r\n\r\n")
        self._done(self._is_last(request))

    def _write_piece(self, data: bytes) -> None:
        if data and self._current and self._current.method != "HEAD":
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    def abort(self) -> None:
        """Resets the connection, so that the client sees that the response is not complete."""
        self._transport.abort()

    def _is_last(self, request: Request) -> bool:
        return not request.keeps_alive or self._is_at_end or self._server.is_stopping

    def _done(self, is_last: bool) -> None:
        self._current = None
        self._release()
        if is_last:
            self._leave()
        elif not self._is_blocked:
            self._go_on()

    def _release(self) -> None:
        if self._held:
            self._server.note_held(-self._held)
            self._held = 0

    def _go_on(self) -> None:
        """Takes the next request."""
        if self._waiting:
            # not now: a client with many requests must not keep the loop from others
            self._current = self._waiting.popleft()
            self._loop.call_soon(self._start)
            return
        self.deadline = self._loop.time() + KEEP_ALIVE
        if self._receiving or self._head_bytes:
            self.deadline = self._loop.time() + READ_SECONDS
        self._transport.resume_reading()

    def _leave(self) -> None:
        """Ends the connection after its last response.

        A client that still sends would lose the response if the server closed first (RFC 9112, 9.6).
        """
        self._is_deaf = self._is_leaving = True
        self._waiting.clear()
        if not self._is_blocked:
            self._linger()

    def _linger(self) -> None:
        if self._is_at_end:
            self._transport.close()
            return
        self.deadline = self._loop.time() + LINGER
        self._transport.write_eof()
        self._transport.resume_reading()


def _ending(request: Request, is_last: bool) -> bytes:
    """The end of a response's head."""
    if is_last:
        return b"Connection: close\r\n\r\n"
    return b"Connection: keep-alive\r\n\r\n" if request.version == "1.0" else b"\r\n"


def render_error(status: int, message: str) -> tuple[bytes, bytes]:
    """The head and the body of an error response that no app makes."""
    body = error_body(code_for(status), message).encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
        f"X-Content-Type-Options: nosniff\r\nContent-Length: {len(body)}\r\n"
    )
    return head.encode(), body
