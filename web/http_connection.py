"""One HTTP/1 connection on the event loop: reads requests and writes responses, within limits of bytes and seconds.

httptools parses (llhttp, in its strict mode) what is not a plain request (web/http_request.py). No thread and no task
waits for a client: a connection is a few hundred bytes with a deadline, which `ConnectionServer.sweep` checks.

    receiving   READ_SECONDS for a request, and a second more for each 64 KiB received; then 408
    answering   one request at a time; the connection is not read further while others wait
    parsing     SLICE bytes or one request at a time; then other connections have their turn
    writing     READ_SECONDS for the client to read, and a second more for each 64 KiB unsent; then it is reset
    idle        KEEP_ALIVE seconds after a response, READ_SECONDS on a new connection; then it is closed
    leaving     LINGER seconds for the client to read the last response and close

A request that cannot be parsed gets an error response in the standard format.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Protocol

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from web.errors import (
    ANY_ORIGIN,
    NOT_HTTP,
    RETRY_AFTER,
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
from web.http_request import Request, RequestRefused, read_plain

READ_SECONDS = 10.0
PER_SECOND = 65536  # bytes
KEEP_ALIVE = 65.0  # seconds; above a proxy's usual 60, so that the proxy closes first
LINGER = 2.0  # seconds
LONGEST_TARGET = 4094  # bytes of a request's target
LONGEST_HEADER = 8190  # bytes
MOST_HEADERS = 100
LONGEST_HEAD = 32768  # bytes, of trailers and of the framing of chunks too
FRAMING = 8  # bytes that a chunked body may have around each of its own, in addition to LONGEST_HEAD
LONGEST_LENGTH = 18  # digits of a Content-Length
SLICE = 2048  # bytes; the smallest request has 18, so these are up to 113 requests
MOST_BODY = 5_000_000  # bytes; the app answers a longer body with 413 and receives nothing of it

_LARGE_PACKET = 65536  # bytes; uvloop reads up to 256,000
_LONG_BODY = 65536  # bytes of a response that are not copied to follow its head
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ConnectionServer(Protocol):
    """What a connection needs of its server. Times are those of the event loop."""

    is_stopping: bool

    def opened(self, connection: "Connection") -> None: ...

    def closed(self, connection: "Connection") -> None: ...

    def take(self, connection: "Connection", request: Request) -> None:
        """Answers a request, now or later, with `connection.finish` or `connection.stream`."""

    def read_later(self, connection: "Connection") -> None:
        """Calls `connection.read_on` in a later turn of the loop."""

    def note_held(self, size: int) -> None:
        """What is received and not answered yet, or not sent yet, now takes `size` bytes more, or fewer."""


class Connection(asyncio.Protocol):
    def __init__(self, server: ConnectionServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._parser = HttpRequestParser(self)
        self._receiving: Request | None = None
        self._current: Request | None = None
        self._waiting: deque[Request] = deque()
        self._unread = b""  # received and not parsed yet
        self._head_bytes = 0  # received of a head, of trailers, or around chunks
        self._held = 0  # bytes of bodies, of `_unread`, and of `_unsent`
        self._unsent = 0  # bytes of a response that the client does not read
        self._written = 0  # bytes that were written last; they are kept until all of them are sent
        self._has_started = False  # a request of the slice that is being parsed
        self._has_read = False  # a large packet, and waits for its turn to read on
        self._will_parse = False  # _parse_more will be called
        self._is_reading = True
        self._more: Callable[[], None] | None = None  # asks for the next piece of a response
        self._stop: Callable[[], None] = lambda: None  # no more pieces are needed
        self._is_blocked = False  # the client has not read what was sent
        self._is_deaf = False  # what the client still sends is not read
        self._is_leaving = False  # the last response was sent
        self._is_at_end = False  # the client sends nothing more
        self._is_chunked = False
        self.peer = self.client = ""  # the address, and its subscriber: the server sets it
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
        if len(data) > _LARGE_PACKET:  # the transport would go on reading, up to 8 MB, before others have their turn
            self._has_read = True
            self._choose_to_read()
            self._server.read_later(self)
        if self._is_deaf:
            return
        if self.is_idle:
            self.started = self._loop.time()
            self.deadline = self.started + READ_SECONDS
        self.deadline += len(data) / PER_SECOND
        if self._unread or self._waiting:
            self._unread += data
            self._hold(len(data))
        else:
            self._parse(data)

    def read_on(self) -> None:
        """Reads again after a large packet."""
        self._has_read = False
        self._choose_to_read()

    def eof_received(self) -> bool:
        self._is_at_end = True
        if self._is_leaving:
            return False
        if not self._unread:
            self._end_input()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._receiving and self._receiving.is_head_complete and not self._is_leaving:
            note_broken(ClientGone())
        self._is_deaf = self._is_leaving = True
        if self._more:
            self._stop()
        self._current = self._receiving = self._more = None
        self._waiting.clear()
        self._unread = b""
        self._hold(-self._held)
        self._server.closed(self)

    def pause_writing(self) -> None:
        self._is_blocked = True
        self._choose_to_read()
        self._unsent = max(self._transport.get_write_buffer_size(), self._written)
        self._hold(self._unsent)
        self.deadline = self._loop.time() + READ_SECONDS + self._unsent / PER_SECOND

    def resume_writing(self) -> None:
        self._is_blocked = False
        self._hold(-self._unsent)
        self._unsent = 0
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
        if not self._is_deaf:
            self._receiving = Request()

    def on_url(self, url: bytes) -> None:
        request = self._receiving
        if request is None:
            return
        request.url += url
        if len(request.url) > LONGEST_TARGET:
            raise RequestRefused(414, NOT_HTTP, LongHead())

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._receiving
        if request is None:
            return
        size = len(name) + len(value)
        request.size += size
        if size > LONGEST_HEADER or request.size > LONGEST_HEAD or len(request.headers) >= MOST_HEADERS:
            raise RequestRefused(431, NOT_HTTP, LongHead())
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
        if parser.should_upgrade():  # see _ignore_upgrade
            return
        if request.version not in ("1.1", "1.0"):
            raise RequestRefused(400, NOT_HTTP, NotSupported())
        expects = False
        for name, value in request.headers:
            match name.lower():
                case b"content-length":
                    if len(value) > LONGEST_LENGTH:
                        raise RequestRefused(400, NOT_HTTP, LongHead())
                    request.length = int(value)
                case b"transfer-encoding":
                    if value.strip().lower() != b"chunked":
                        raise RequestRefused(501, NOT_HTTP, NotSupported())
                    if request.version == "1.0":  # a proxy of that time would not know where the body ends
                        raise RequestRefused(400, NOT_HTTP, NotSupported())
                case b"expect":
                    expects = value.lower() == b"100-continue" and request.version == "1.1"
        if request.length and request.length > MOST_BODY:
            self._cut(request)
        elif expects and self._current is None and not self._waiting:
            self._write(_CONTINUE)

    def on_body(self, piece: bytes) -> None:
        request = self._receiving
        if request is None:
            return
        if not request.body:
            request.body = bytearray()
        request.body += piece
        self._head_bytes = max(0, self._head_bytes - (1 + FRAMING) * len(piece))
        self._hold(len(piece))
        if len(request.body) > MOST_BODY and not self._is_deaf:
            request.length = len(request.body)
            self._cut(request)

    def on_message_complete(self) -> None:
        if self._receiving and not self._parser.should_upgrade():
            self._complete(self._receiving)

    # Requests

    def _parse(self, data: bytes) -> None:
        """Parses the first slice of `data`, and keeps the rest for _parse_more."""
        if len(data) > SLICE:
            size = self._slice()
            data, self._unread = data[:size], data[size:]
            self._hold(len(self._unread))
        self._has_started = False
        if self.is_idle and (plain := read_plain(data)):
            self._hold(len(plain.body))
            self._complete(plain)
        else:
            self._head_bytes += len(data)
            self._feed(data)
            if self._head_bytes > LONGEST_HEAD:
                self._refuse(431, NOT_HTTP, LongHead())
        self._has_started = False
        if self._waiting and self._current is None and not self._is_blocked:
            self._go_on()
        elif self._unread:
            self._parse_soon()
        elif self._is_at_end:
            self._end_input()
        self._choose_to_read()

    def _parse_soon(self) -> None:
        """Parses the next slice in a later turn of the loop, once however often it is called in this turn."""
        if not self._will_parse:
            self._will_parse = True
            self._loop.call_soon(self._parse_more)

    def _parse_more(self) -> None:
        """Parses the next slice, unless a request waits: then _go_on calls this again."""
        self._will_parse = False
        if self._unread and not self._waiting:
            data, self._unread = self._unread, b""
            self._hold(-len(data))
            self._parse(data)

    def _slice(self) -> int:
        """Bytes to parse at once. The bytes of a body take next to no time if its length is declared."""
        if self._receiving and self._receiving.length:
            return max(SLICE, self._receiving.length - len(self._receiving.body))
        return SLICE

    def _feed(self, piece: bytes) -> None:
        while piece:
            try:
                self._parser.feed_data(piece)
                return
            except HttpParserUpgrade as upgrade:
                piece = self._ignore_upgrade(piece[upgrade.args[0] :])
            except HttpParserCallbackError as error:
                refusal = error.__context__
                if not isinstance(refusal, RequestRefused):
                    raise
                self._refuse(refusal.status, str(refusal), refusal.cause)
                return
            except HttpParserError as error:
                self._refuse(400, NOT_HTTP, error)
                return

    def _ignore_upgrade(self, rest: bytes) -> bytes:
        """Returns a request without its header Upgrade, as RFC 9110 permits (7.8), and what follows.

        The parser has stopped after the request's head, also if it has a body.
        """
        request = self._receiving
        self._receiving = None
        self._parser = HttpRequestParser(self)
        if request is None or request.method == "CONNECT":
            self._refuse(400, NOT_HTTP, NotSupported())
            return b""
        head = [request.method.encode() + b" " + request.url + b" HTTP/" + request.version.encode()]
        head += [name + b": " + value for name, value in request.headers if name.lower() != b"upgrade"]
        return b"\r\n".join(head) + b"\r\n\r\n" + rest

    def _cut(self, request: Request) -> None:
        request.is_cut = True
        request.keeps_alive = False
        self._hold(-len(request.body))
        request.body = b""
        self._receiving = None
        self._stop_input()
        self._complete(request)

    def _refuse(self, status: int, message: str, cause: Exception) -> None:
        if self._is_deaf:
            return
        self._stop_input()
        if self._current and not self._current.keeps_alive:
            return
        note_broken(cause)
        request = Request()
        request.keeps_alive = False
        request.refusal = RequestRefused(status, message, cause)
        self._complete(request)

    def _stop_input(self) -> None:
        """Nothing more is read of this client, and a request that is not complete is dropped."""
        self._is_deaf = True
        self._hold(-self._incomplete())
        self._receiving = None
        self._unread = b""

    def _end_input(self) -> None:
        """The client sends nothing more, and everything is parsed."""
        if self._receiving:
            self._refuse(400, NOT_HTTP, ClientGone())
        elif self._current is None and not self._waiting and not self._is_leaving:
            self._leave()

    def _complete(self, request: Request) -> None:
        self._receiving = None
        self._head_bytes = 0
        last = self._waiting[-1] if self._waiting else self._current
        if self._is_leaving or (last and not last.keeps_alive):
            self._hold(-len(request.body))
        elif last or self._is_blocked or self._has_started:
            self._waiting.append(request)
        else:
            self._has_started = True
            self._current = request
            self._start()

    def _start(self) -> None:
        request = self._current
        if request is None or self._is_leaving:
            return
        self.deadline = math.inf
        if request.refusal:
            self.finish(*render_error(request.refusal.status, str(request.refusal)))
        else:
            self._server.take(self, request)

    def expire(self) -> None:
        """Ends what took too long. The server calls it when `deadline` is over."""
        if self._is_blocked:
            note_broken(NotRead())
            self.abort()
        elif self._is_leaving:
            self.abort()
        elif self.is_idle:
            self._transport.close()
        else:
            self._refuse(408, TOO_SLOW, TooSlow())

    # Responses

    @property
    def is_idle(self) -> bool:
        return self._current is None and self._receiving is None and not self._head_bytes and not self._unread

    @property
    def is_closing(self) -> bool:
        """Whether the connection was closed or reset in this turn of the loop."""
        return bool(self._transport.is_closing())

    @property
    def held(self) -> int:
        """Bytes that give_up frees."""
        return self._incomplete() + self._unsent

    def _incomplete(self) -> int:
        return (len(self._receiving.body) if self._receiving else 0) + len(self._unread)

    def give_up(self, status: int, message: str) -> None:
        """Answers a request that is not complete, or resets the connection if its client does not read."""
        if self._is_blocked:
            note_broken(NotRead())
            self.abort()
        else:
            self._refuse(status, message, TooSlow())

    def finish(self, head: bytes, body: bytes = b"") -> None:
        """Sends the response to the current request, and goes on to the next one. `head`: without its empty line."""
        request = self._current
        if request is None or self._is_leaving:
            return
        is_last = self._is_last(request)
        head += _ending(request, is_last)
        if request.method == "HEAD":
            self._write(head)
        elif len(body) <= _LONG_BODY:
            self._write(head + body)
        else:
            self._write(head)
            self._write(body)
        self._done(is_last)

    def stream(self, head: bytes, more: Callable[[], None], stop: Callable[[], None], is_sized: bool) -> None:
        """Sends the response to the current request in pieces. `is_sized`: `head` has a Content-Length.

        `more` is called when the client can take another piece, and `piece`, `end` or `abort` answers it. `stop` is
        called if the connection ends before.
        """
        request = self._current
        if request is None or self._is_leaving:
            stop()
            return
        self._drop_body(request)
        self._is_chunked = not is_sized and request.version == "1.1"
        if self._is_chunked:
            head += b"Transfer-Encoding: chunked\r\n"
        elif not is_sized:
            request.keeps_alive = False
        self._write(head + _ending(request, self._is_last(request)))
        self._more, self._stop = more, stop
        if not self._is_blocked:
            more()

    def piece(self, data: bytes) -> None:
        if self._more is None or self._is_leaving:
            return
        self._write_piece(data)
        if not self._is_blocked:
            self._more()

    def end(self, data: bytes) -> None:
        """Sends the last piece."""
        request = self._current
        if request is None or self._is_leaving:
            return
        self._more = None
        self._write_piece(data)
        if self._is_chunked:
            self._write(b"0\r\n\r\n")
        self._done(self._is_last(request))

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():  # uvloop raises
            if self._is_blocked:
                self._unsent += len(data)
                self._hold(len(data))
            self._written = len(data)
            self._transport.write(data)

    def _write_piece(self, data: bytes) -> None:
        if data and self._current and self._current.method != "HEAD":
            self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    def abort(self) -> None:
        """Resets the connection, so that the client sees that the response is not complete."""
        self._stop_input()
        self._is_leaving = True
        self._hold(-self._held)
        self._unsent = 0
        self._transport.abort()

    def _is_last(self, request: Request) -> bool:
        is_ending = self._is_at_end or self._server.is_stopping
        return not request.keeps_alive or (is_ending and not self._waiting and not self._unread)

    def _done(self, is_last: bool) -> None:
        if self._current:
            self._drop_body(self._current)
        self._current = None
        if is_last:
            self._leave()
        elif not self._is_blocked:
            self._go_on()

    def _drop_body(self, request: Request) -> None:
        self._hold(-len(request.body))
        request.body = b""

    def _hold(self, size: int) -> None:
        if size:
            self._held += size
            self._server.note_held(size)

    def _go_on(self) -> None:
        """Takes the next request."""
        if self._waiting:
            # not now: a client with many requests must not keep the loop from others
            self._current = self._waiting.popleft()
            self.deadline = math.inf
            self._loop.call_soon(self._start)
            return
        self.deadline = self._loop.time() + (KEEP_ALIVE if self.is_idle else READ_SECONDS)
        if self._unread:
            self._parse_soon()
        self._choose_to_read()

    def _choose_to_read(self) -> None:
        """Stops reading while the client does not read, or has sent more requests than the one that is answered."""
        is_full = bool(self._waiting or self._unread) and not self._is_deaf
        should_read = not (self._is_blocked or is_full or self._is_at_end or self._has_read)
        if should_read != self._is_reading and not self._transport.is_closing():
            self._is_reading = should_read
            if should_read:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _leave(self) -> None:
        """Ends the connection after its last response.

        A client that still sends would lose the response if the server closed first (RFC 9112, 9.6).
        """
        self._is_deaf = self._is_leaving = True
        self._receiving = None
        self._waiting.clear()
        self._unread = b""
        self._hold(self._unsent - self._held)
        if not self._is_blocked:
            self._linger()

    def _linger(self) -> None:
        if self._is_at_end:
            self._transport.close()
        elif not self._transport.is_closing():
            self.deadline = self._loop.time() + LINGER
            self._transport.write_eof()
            self._choose_to_read()


def _ending(request: Request, is_last: bool) -> bytes:
    """The end of a response's head."""
    if is_last:
        return b"Connection: close\r\n\r\n"
    return b"Connection: keep-alive\r\n\r\n" if request.version == "1.0" else b"\r\n"


def render_head(status: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """The head of a response, without its date and its empty line."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    return f"HTTP/1.1 {status}\r\n{lines}".encode("latin-1", "replace")


@lru_cache(64)
def render_error(status: int, message: str) -> tuple[bytes, bytes]:
    """The head and the body of an error response that no app makes. It is the same for all sites and visitors, so any
    page may read it: its script learns when to try again.
    """
    body = error_body(code_for(status), message).encode()
    retry = [("Retry-After", f"{RETRY_AFTER}")] if status == 503 else []
    own = [("Content-Type", "application/json"), ("Content-Length", f"{len(body)}")]
    headers = (*own, *retry, ("X-Content-Type-Options", "nosniff"), *ANY_ORIGIN)
    return render_head(f"{status} {HTTPStatus(status).phrase}", headers), body
