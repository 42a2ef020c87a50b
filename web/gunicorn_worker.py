"""gunicorn's threaded worker with its own way to wait for requests and to answer those that cannot be parsed.

The worker waits in its loop: a thread gets a request when all of it has arrived. So a client that sends a byte per
second, or nothing, keeps no thread from other clients. A request that is too large to wait for in the loop (a batch)
gets a thread at once. At most half of the threads are for such requests, and the other half is for complete requests. A
request may take WORKER_PATIENCE, and a second more for each 64 KiB received. After that it is answered with 408.

The worker answers errors in JSON, as both apps do, where gunicorn would answer in HTML. It logs a line without the
visitor's address, which gunicorn would log.
"""

import re
import select
import signal
import socket
import time
from collections import deque
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from typing import Any

import structlog
from gunicorn.glogging import Logger
from gunicorn.http.errors import (
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.workers.gthread import ThreadWorker

from web.errors import INTERNAL, NOT_HTTP, TOO_SLOW, ClientGone, TooSlow, code_for, error_body, note_broken

log = structlog.get_logger()

WORKER_PATIENCE = 10.0  # seconds
PER_SECOND = 65536  # bytes
LINGER = 2.0  # seconds that a client has to close a connection after the answer
LONGEST_HEAD = 32768  # bytes in which the loop looks for the end of a request's head
LONGEST = 131072  # bytes of a request that the loop waits for: a hit of MAX_BODY_BYTES, and its head
_PIECE = 65536

_STATUS = {
    LimitRequestLine: "414 URI Too Long",
    LimitRequestHeaders: "431 Request Header Fields Too Large",
    UnsupportedTransferCoding: "501 Not Implemented",
    TooSlow: "408 Request Timeout",
}

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,15})[ \t]*(?:\r\n|\Z)")
CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*(?:\r\n|\Z)")
_CHUNK = re.compile(rb"[0-9a-fA-F]{1,15}")  # the start of the line before a chunk

# WAITS: more of the request is to come. WHOLE: all of it has arrived. OPEN: it goes to a thread as it is.
WAITS, WHOLE, OPEN = "waits", "whole", "open"


def state_of(raw: bytes, looked: int = 0) -> tuple[str, int, int]:
    """The state of a request, the size in bytes at which it is whole (0 if unknown), and the position to continue at.

    Pass the position as `looked` when more bytes have arrived. If a request is taken for whole and is not, its thread
    waits a little, and nothing else happens.
    """
    end = raw.find(b"\r\n\r\n")
    if end < 0:
        return (OPEN if len(raw) > LONGEST_HEAD else WAITS), 0, 0
    head = raw[:end].lower()
    if b"\r\nexpect:" in head:
        return OPEN, 0, 0  # the client waits for a 100 Continue
    length = _LENGTH.search(head)
    if b"\r\ntransfer-encoding:" in head:
        if length or not CHUNKED.search(head):
            return OPEN, 0, 0  # the parser answers with an error
        state, looked = _state_of_chunks(raw, looked or end + 4)
        return (OPEN if state == WAITS and len(raw) > LONGEST else state), 0, looked
    needs = end + 4 + (int(length[1]) if length else 0)
    return (WHOLE if len(raw) >= needs else OPEN if needs > LONGEST else WAITS), needs, 0


def _state_of_chunks(raw: bytes, at: int) -> tuple[str, int]:
    """The state of a chunked body, and the start of the next chunk. `at`: the start of a chunk.

    It goes from chunk to chunk and never back. So the loop reads each line once, in however many pieces a client sends.
    """
    while (end := raw.find(b"\r\n", at)) >= 0:
        size = _CHUNK.match(raw, at)
        if not size:
            return OPEN, at  # invalid; a thread answers with an error
        length = int(size[0], 16)
        if not length:  # the last chunk, before the trailers
            is_whole = raw.find(b"\r\n\r\n", end) >= 0
            return (WHOLE if is_whole else OPEN if len(raw) - end > LONGEST_HEAD else WAITS), at
        at = end + 2 + length + 2
    return WAITS, at


class Patient:
    """A connection's socket for reading requests. The time limit applies to a whole request, not to each read."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._draining: float | None = None
        self.until = 0.0

    def recv(self, size: int) -> bytes:
        """Returns up to `size` bytes. Raises TooSlow and ClientGone."""
        seconds = self.until - time.monotonic()
        if self._draining is not None:
            seconds = min(seconds, self._draining)
        if seconds <= 0 or not self._poll.poll(seconds * 1000):
            raise TooSlow if self._draining is None else TimeoutError
        try:
            piece = self._sock.recv(size)
        except ConnectionError:
            raise ClientGone from None
        self.until += len(piece) / PER_SECOND
        return piece

    def gettimeout(self) -> float | None:
        return self._draining

    def settimeout(self, seconds: float | None) -> None:
        """gunicorn calls this before it discards the rest of an unread body."""
        self._draining = seconds


class QuietLogger(Logger):  # type: ignore[misc]
    """gunicorn's logger without an access log, which would contain visitors' addresses.

    gunicorn prepares each line of the log even if it is not kept. That took 6 % of the collector's CPU.
    """

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        return


class Worker(ThreadWorker):  # type: ignore[misc]
    pending_conns: deque[Any]  # connections that wait for a request, by deadline

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._most_open = max(self.cfg.threads // 2, 1)
        self._open: set[Any] = set()  # connections whose request goes to a thread as it arrives
        self._queue: deque[Any] = deque()  # connections that wait for such a thread
        self._leaving: deque[Any] = deque()  # answered connections that are to be closed

    # All methods except handle_error run in the loop's thread.

    def init_signals(self) -> None:
        """Installs the signal handlers, then unblocks the stop signals that waited until now (config/gunicorn.py)."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT))

    def enqueue_req(self, conn: Any) -> None:
        """Takes a new connection, or one that has become readable again."""
        if self.cfg.is_ssl:
            super().enqueue_req(conn)
            return
        conn.init()
        conn.close = partial(self._close, conn)
        if not isinstance(conn.parser.unreader.sock, Patient):
            conn.parser.unreader.sock = Patient(conn.sock)
        conn.sock.setblocking(False)
        conn.data_ready = True
        conn.needs = conn.looked = 0
        conn.timeout = conn.parser.unreader.sock.until = time.monotonic() + WORKER_PATIENCE
        state = self._read(conn)
        if state == WAITS:
            self.pending_conns.append(conn)
            self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))
        else:
            self._hand_over(conn, state)

    def on_pending_socket_readable(self, conn: Any, client: socket.socket) -> None:
        state = self._read(conn)
        if state != WAITS:
            self.poller.unregister(client)
            self.pending_conns.remove(conn)
            self._hand_over(conn, state)

    def finish_request(self, conn: Any, fs: Any) -> None:
        if conn in self._open:
            self._open.remove(conn)
            if self._queue:
                self._hand_over(self._queue.popleft(), OPEN)
        super().finish_request(conn, fs)

    def murder_pending(self) -> None:
        while self.pending_conns and self.pending_conns[0].timeout <= time.monotonic():
            conn = self.pending_conns.popleft()
            with suppress(KeyError, ValueError, OSError):
                self.poller.unregister(conn.sock)
            if _received(conn):
                self.handle_error(None, conn.sock, conn.client, TooSlow())
            self.nr_conns -= 1
            conn.close()

        while self._leaving and self._leaving[0].timeout <= time.monotonic():
            self._leave(self._leaving[0])

    def _close(self, conn: Any, graceful: bool = False) -> None:
        """Closes a connection. `graceful`: the client still has an answer to read.

        A client that still sends loses the answer if the server closes the connection first (RFC 9112, 9.6). gunicorn
        waits for the client here, in the loop: two seconds for each client that does not close, and no other client is
        served. This worker lets the loop drain the connection instead.
        """
        try:
            if graceful:
                conn.sock.shutdown(socket.SHUT_WR)
                conn.sock.setblocking(False)
                self.poller.register(conn.sock, EVENT_READ, partial(self._drain, conn))
                self.nr_conns += 1
                conn.timeout = time.monotonic() + LINGER
                self._leaving.append(conn)
                return
        except (OSError, ValueError):
            log.debug("client_gone")
        conn.sock.close()

    def _drain(self, conn: Any, _client: socket.socket) -> None:
        try:
            is_over = not conn.sock.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            is_over = True
        if is_over:
            self._leave(conn)

    def _leave(self, conn: Any) -> None:
        self._leaving.remove(conn)
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.sock.close()

    def _cap_keepalive(self, deadline: float) -> None:
        """A worker that stops does not wait for connections without any bytes of a request either."""
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            if not _received(conn):
                conn.timeout = min(conn.timeout, deadline)
        self.pending_conns = deque(sorted(self.pending_conns, key=lambda conn: conn.timeout))

    def _read(self, conn: Any) -> str:
        """Reads what has arrived, up to what the loop waits for. Returns the state of the request."""
        buffer = conn.parser.unreader.buf
        buffer.seek(0, 2)
        state = self._state(conn) if buffer.tell() else WAITS
        while state == WAITS:
            try:
                piece = conn.sock.recv(_PIECE)
            except BlockingIOError:
                return WAITS
            except OSError:
                return WHOLE  # the thread handles the error
            if not piece:
                return WHOLE  # nothing more will come
            buffer.write(piece)
            state = self._state(conn)
            if len(piece) < _PIECE:
                break
        return state

    def _state(self, conn: Any) -> str:
        buffer = conn.parser.unreader.buf
        if conn.needs:
            return WHOLE if buffer.tell() >= conn.needs else WAITS
        state, needs, conn.looked = state_of(buffer.getvalue(), conn.looked)
        conn.needs = needs if state == WAITS else 0
        return state

    def _hand_over(self, conn: Any, state: str) -> None:
        if state == OPEN and len(self._open) >= self._most_open:
            self._queue.append(conn)
            return
        if state == OPEN:
            self._open.add(conn)
            conn.parser.unreader.sock.until = time.monotonic() + WORKER_PATIENCE
        super().enqueue_req(conn)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        if isinstance(exc, ParseException) or req is None:  # without a request, the parser failed
            status = _STATUS.get(type(exc), "400 Bad Request")
            message = TOO_SLOW if isinstance(exc, TooSlow) else NOT_HTTP
            note_broken(exc)
        else:
            status = "500 Internal Server Error"
            message = INTERNAL
            log.error("request_failed", error=type(exc).__name__, exc_info=exc)
        body = error_body(code_for(int(status[:3])), message).encode()
        head = (
            f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: application/json\r\n"
            "X-Content-Type-Options: nosniff\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        try:
            client.sendall(head.encode() + body)
        except OSError:
            log.debug("client_gone")


def _received(conn: Any) -> int:
    """The number of received bytes of an incomplete request."""
    return len(conn.parser.unreader.buf.getbuffer())
