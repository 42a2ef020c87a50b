"""gunicorn's worker: one event loop per process, and a pool of threads for work that may wait.

The loop reads requests and writes responses (web/http_connection.py). It also runs the requests whose path the app
lists under ON_LOOP, if their body is small. If such a request has to wait for a store, it raises WouldWait
(analytics/event_loop.py) and runs again in a thread. All other requests run in threads. No thread waits for a client:
a response in several pieces is made piece by piece, as the client reads it.

A response waits for the commits that its request has started (web/commits.py), without a thread. An app that has
USE_LOOP makes its commits on the loop: the worker calls it with the loop before the first request. An app that has
IN_FRONT is asked by it first, which takes less than WSGI.

Every resource that a client can use up has a limit, and one address gets a share of it: threads and their queue
(web/fair_pool.py), bytes of bodies, connections.
"""

import asyncio
import ctypes
import heapq
import io
import math
import os
import resource
import signal
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Set
from concurrent.futures import Future
from contextvars import Context, copy_context
from email.utils import formatdate
from functools import lru_cache, partial
from typing import Any

import structlog
import uvloop
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker as BaseWorker
from msgspec import Struct

from analytics.addresses import subscriber_network
from analytics.event_loop import LARGEST_ON_LOOP, WouldWait, forbid_waiting
from config.metrics import REQUESTS_SHED
from config.settings import threads_of_large_bodies
from web.commits import COMMITS, ERROR_TO_RAISE, InFront
from web.errors import BUSY, INTERNAL
from web.fair_pool import FairPool, Then, Work
from web.http_connection import Connection, render_error, render_head
from web.http_request import Request

log = structlog.get_logger()

LARGE_BODY = 2048  # bytes of a body whose events may take long
MOST_QUEUED = 500  # requests that run in threads or wait for one
MOST_HELD = 128_000_000  # bytes of bodies until they are answered, and of responses until they are sent
LONGEST_SLICE = 0.005  # seconds of requests that the loop handles in a row; then commits and responses have their turn
LONGEST_WAIT = 0.05  # seconds that a request waits for its slice; then it is refused
NEVER_REFUSED = 256  # requests that wait: they take 25 ms, but a machine that stands still makes them old
RESPONSE_PIECE = 262_144  # bytes of a response that are made before the client reads any of it
SWEEP = 0.25  # seconds
GIVE_UP_EVERY = 0.02  # seconds; looking at 10,000 connections takes 3 ms
READ_IN_A_TURN = 4  # connections that read a large packet in a turn of the loop: a turn then takes a few ms
ACCEPTED_AT_ONCE = 8  # connections; 8,000 a second are as many as a process can handle
MOST_ACCEPTED = 64  # at once, by a busy loop
ACCEPT_PAUSE = 0.001  # seconds
NO_FILE_PAUSE = 0.05
IDLE_AT_STOP = 2.0  # seconds that a stopping process keeps idle connections, whose client may be about to send
_MMAP_THRESHOLD, _ARENA_MAX = -3, -8  # of mallopt(3)
_NO_BODY = io.BytesIO()
_SWITCH = 0.0005  # seconds that a thread with a batch keeps the interpreter from the loop; Python's default is 0.005


class QuietLogger(Logger):  # type: ignore[misc]
    """gunicorn's logger without an access log, which would contain visitors' addresses."""

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        return


class AppResponse(Struct):
    """What the app answered. `head`: without the date. `is_sized`: the client can tell where the body ends without
    chunks. `rest`: the pieces of the body after `body`, None if there are none.
    """

    commits: list[Future[None]]
    head: bytes
    body: bytes
    is_sized: bool = True
    rest: "ResponsePieces | None" = None


def _first_of(pieces: "ResponsePieces") -> tuple[bytes, "ResponsePieces | None"]:
    """The whole body, or its first piece and the others."""
    try:
        body, has_more = pieces.read()
    except BaseException:  # WouldWait is none of the Exceptions
        pieces.close()
        raise
    if has_more:
        return body, pieces
    pieces.close()
    return body, None


@lru_cache(256)  # most responses of ingestion have the same head
def _render_head(status: str, headers: tuple[tuple[str, str], ...]) -> tuple[bytes, bool]:
    """See AppResponse."""
    is_sized = status.startswith(("204", "304")) or any(name.lower() == "content-length" for name, _ in headers)
    return render_head(status, headers), is_sized


class ResponsePieces:
    """The body of a response, read in a thread at a time. All reads share the context of the request."""

    def __init__(self, body: Any, context: Context) -> None:
        self._body = body
        self._iterator: Iterator[bytes] = iter(body)
        self._context = context

    def read(self) -> tuple[bytes, bool]:
        """At least RESPONSE_PIECE bytes, and whether the body has more."""
        return self._context.run(self._read)

    def close(self) -> None:
        self._context.run(getattr(self._body, "close", lambda: None))

    def _read(self) -> tuple[bytes, bool]:
        found, size = [], 0
        for piece in self._iterator:
            found.append(piece)
            size += len(piece)
            if size >= RESPONSE_PIECE:
                return b"".join(found), True
        return b"".join(found), False


_Held = tuple[Connection, dict[str, Any], AppResponse]
_Delayed = tuple[float, Connection, dict[str, Any], bytes | bytearray]  # when it was received, and its body


class Worker(BaseWorker):  # type: ignore[misc]
    """The server of the connections of this process."""

    def init_process(self) -> None:
        _return_large_blocks()
        self._loop = uvloop.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(_log_failure)
        self._connections: set[Connection] = set()
        self._accepting: set[asyncio.Task[Any]] = set()  # the loop itself has only weak references
        self._by_client: Counter[str] = Counter()  # connections
        self._reading: deque[Connection] = deque()  # those that wait for their turn to read a large packet
        self._waiting: dict[Future[None], list[_Held]] = {}
        self._held = 0
        self._delayed: deque[_Delayed] = deque()
        self._slice_ends = 0.0  # 0 before the first request of a turn of the loop
        self._gave_up = 0.0
        self.is_stopping = False
        self._pool = FairPool(self._loop, self.cfg.threads, MOST_QUEUED, MOST_HELD)
        self._large_bodies = FairPool(self._loop, threads_of_large_bodies(self.cfg.threads), MOST_QUEUED, MOST_HELD)
        self._most_connections = _raise_file_limit()
        self._date = b""
        super().init_process()

    def init_signals(self) -> None:
        """Installs the signal handlers, then unblocks the stop signals that waited until now (config/gunicorn.py).

        They are Python's own handlers: uvloop's lose a signal that arrives before the loop runs. The loop wakes up at
        least every SWEEP seconds.
        """
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, self.handle_exit)
        signal.signal(signal.SIGINT, self._quit)
        signal.signal(signal.SIGQUIT, self._quit)
        signal.signal(signal.SIGUSR1, self.handle_usr1)
        signal.signal(signal.SIGWINCH, self.handle_winch)
        signal.signal(signal.SIGABRT, self.handle_abort)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT))

    def run(self) -> None:
        config = getattr(self.wsgi, "config", {})
        self._on_loop: Set[str] = config.get("ON_LOOP", frozenset())  # the app may change it
        self._answer_in_front: InFront = config.get("IN_FRONT", lambda *_: None)
        self._proxies: int = config.get("TRUSTED_PROXIES", 0)
        config.get("USE_LOOP", lambda _: None)(self._loop)
        sys.setswitchinterval(_SWITCH)
        forbid_waiting()
        self._loop.run_until_complete(self._serve())
        self._end_tasks()
        self._pool.close()
        self._large_bodies.close()
        # The loop is an object of C that keeps all that it refers to, and DuckDB reports what exists at the end.
        self._loop.close()
        asyncio.set_event_loop(None)

    def _end_tasks(self) -> None:
        """Ends the tasks that the app has started. No request waits for them any more."""
        for task in (left := asyncio.all_tasks(self._loop)):
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))

    def _quit(self, *_: object) -> None:
        self.alive = False
        self.cfg.worker_int(self)
        os._exit(0)

    async def _serve(self) -> None:
        ports = [each.sock for each in self.sockets]
        for port in ports:
            port.setblocking(False)
            self._listen(port)
        self._environ = {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": str(self.sockets[0].sock.getsockname()[1]),
            "SERVER_SOFTWARE": "footfall",
            "SCRIPT_NAME": "",
        }
        while self.alive and self.ppid == os.getppid():
            self._sweep()
            await asyncio.sleep(SWEEP)
        self.is_stopping = True
        for port in ports:
            self._loop.remove_reader(port)
        now = self._loop.time()
        last = now + self.cfg.graceful_timeout
        for connection in self._connections:
            if connection.is_idle:
                connection.deadline = min(connection.deadline, now + IDLE_AT_STOP)
        while (self._connections or self._accepting) and self._loop.time() < last:
            self._sweep()
            await asyncio.sleep(0.02)

    def _listen(self, port: socket.socket, due: float = math.inf) -> None:
        """`due`: when this should be called. A busy loop calls it later, and then accepts more connections at once."""
        if not self.is_stopping:
            late = max(0.0, self._loop.time() - due)
            most = min(ACCEPTED_AT_ONCE * (1 + int(late / ACCEPT_PAUSE / 2)), MOST_ACCEPTED)
            self._loop.add_reader(port, self._accept, port, most)

    def _accept(self, port: socket.socket, most: int) -> None:
        """Accepts some connections, then leaves the next ones to other processes for a moment.

        The loop's own server accepts all that wait. Then one process got 55 to 64 of 64 connections that were opened
        together.
        """
        self._loop.remove_reader(port)
        pause = ACCEPT_PAUSE
        try:
            for _ in range(most):
                accepted, _ = port.accept()
                connecting = self._loop.connect_accepted_socket(lambda: Connection(self, self._loop), accepted)
                task = self._loop.create_task(connecting)
                self._accepting.add(task)
                task.add_done_callback(self._accepting.discard)
        except BlockingIOError:
            pass
        except OSError as error:  # no file descriptor is left
            log.warning("connection_not_accepted", error=type(error).__name__)
            pause = NO_FILE_PAUSE
        self._loop.call_later(pause, self._listen, port, self._loop.time() + pause)

    def _sweep(self) -> None:
        self.notify()
        self._date = f"Date: {formatdate(usegmt=True)}\r\n".encode()
        now = self._loop.time()
        for connection in [x for x in self._connections if x.deadline <= now]:
            connection.expire()

    # What connections call

    def opened(self, connection: Connection) -> None:
        connection.client = subscriber_network(connection.peer)
        self._connections.add(connection)
        self._by_client[connection.client] += 1
        if len(self._connections) > self._most_connections:
            self._close_some()

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._by_client[connection.client] -= 1
        if not self._by_client[connection.client]:
            del self._by_client[connection.client]

    def read_later(self, connection: Connection) -> None:
        self._reading.append(connection)
        if len(self._reading) == 1:
            self._loop.call_soon(self._read_some)

    def _read_some(self) -> None:
        """Lets a few connections read on. All at once, 100 clients that sent 4 MB kept others waiting for up to 0.9 s.
        In turn, they keep others waiting for up to 0.12 s.
        """
        for _ in range(min(READ_IN_A_TURN, len(self._reading))):
            self._reading.popleft().read_on()
        if self._reading:
            self._loop.call_soon(self._read_some)

    def note_held(self, size: int) -> None:
        self._held += size
        if self._held > MOST_HELD and size > 0 and self._loop.time() > self._gave_up + GIVE_UP_EVERY:
            self._gave_up = self._loop.time()
            self._loop.call_soon(self._give_up_some)

    def take(self, connection: Connection, request: Request) -> None:
        body = request.body
        environ = request.environ(self._environ)
        environ["REMOTE_ADDR"] = connection.peer
        environ[COMMITS] = []
        is_encoded = "HTTP_CONTENT_ENCODING" in environ
        if environ["PATH_INFO"] not in self._on_loop or len(body) > LARGEST_ON_LOOP or is_encoded:
            self._take_in_thread(connection, environ, body)
        elif self._is_slice_over() and (body or environ["QUERY_STRING"]):  # /healthz has neither
            self._delay(connection, environ, body)
        else:
            self._take_on_loop(connection, environ, body)

    def _take_on_loop(self, connection: Connection, environ: dict[str, Any], body: bytes | bytearray) -> None:
        try:
            self._send(connection, environ, self._answer_on_loop(environ, body))
        except WouldWait:
            environ[COMMITS] = []
            self._take_in_thread(connection, environ, body)

    def _take_in_thread(self, connection: Connection, environ: dict[str, Any], body: bytes | bytearray) -> None:
        client, size = self._client(environ), len(body)
        is_large = size > LARGE_BODY or "HTTP_CONTENT_ENCODING" in environ
        pool = self._large_bodies if is_large else self._pool
        if self._held > MOST_HELD or not pool.accepts(client, size):
            self._refuse(connection)
            return
        work = partial(self._ask_app, environ, body, copy_context())
        pool.submit(client, size, work, lambda answer: self._send(connection, environ, answer))

    # Overload: the loop reads all connections that have sent something before it does anything else. Requests that
    # arrive faster than they are handled wait here, so that a response needs a few slices, not a few seconds.

    def _is_slice_over(self) -> bool:
        now = time.perf_counter()
        if not self._slice_ends:
            self._slice_ends = now + LONGEST_SLICE
            self._loop.call_soon(self._end_slice)
        return bool(self._delayed) or now > self._slice_ends

    def _end_slice(self) -> None:
        self._slice_ends = 0.0

    def _delay(self, connection: Connection, environ: dict[str, Any], body: bytes | bytearray) -> None:
        if self._held > MOST_HELD:
            self._refuse(connection)
            return
        if not self._delayed:
            self._loop.call_soon(self._take_delayed)
        self._delayed.append((time.perf_counter(), connection, environ, body))

    def _take_delayed(self) -> None:
        """Handles the requests that wait, in their order, for a slice. Refuses those that have waited too long."""
        delayed, began = self._delayed, time.perf_counter()
        while delayed and (now := time.perf_counter()) < began + LONGEST_SLICE:
            received, connection, environ, body = delayed.popleft()
            if connection.is_closing:
                continue
            if now > received + LONGEST_WAIT and len(delayed) >= NEVER_REFUSED:
                self._refuse(connection)
            else:
                self._take_on_loop(connection, environ, body)
        if delayed:
            self._loop.call_soon(self._take_delayed)

    def _refuse(self, connection: Connection) -> None:
        REQUESTS_SHED.inc()
        connection.finish(*render_error(503, BUSY))

    # Shares

    def _client(self, environ: dict[str, Any]) -> str:
        """Who gets a share: the address that connected, or the one that a trusted proxy names."""
        forwarded = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
        named = subscriber_network(forwarded[-self._proxies]) if 0 < self._proxies <= len(forwarded) else ""
        return named or subscriber_network(environ["REMOTE_ADDR"])

    def _close_some(self) -> None:
        """Closes a hundredth of all connections: of the addresses with the most, idle ones first."""

        def worth(connection: Connection) -> tuple[int, bool, float]:
            return -self._by_client[connection.client], not connection.is_idle, connection.deadline

        # Those that are closed in this turn of the loop are still among the connections.
        open_ones = [x for x in self._connections if not x.is_closing]
        for connection in heapq.nsmallest(len(self._connections) // 100 + 1, open_ones, worth):
            connection.abort()

    def _give_up_some(self) -> None:
        """Frees a tenth of MOST_HELD: bodies that are not complete, and responses whose client does not read.

        Those of the addresses with the most, oldest first.
        """
        held: Counter[str] = Counter()
        for each in self._connections:
            held[each.client] += each.held
        slow = sorted((x for x in self._connections if x.held), key=lambda x: (-held[x.client], x.started))
        for connection in slow:
            if self._held <= MOST_HELD * 0.9:
                return
            connection.give_up(503, BUSY)

    # Requests

    def _answer_on_loop(self, environ: dict[str, Any], body: bytes | bytearray) -> AppResponse | None:
        """The answer, None if the app fails. Raises WouldWait."""
        try:
            return self._ask_app(environ, body, copy_context())
        except Exception:
            log.exception("request_failed")
            return None

    def _ask_app(self, environ: dict[str, Any], body: bytes | bytearray, context: Context) -> AppResponse:
        """Calls the app, in `context`. Raises WouldWait on the loop."""
        if answer := self._answer_in_front(environ, body):
            return AppResponse(environ[COMMITS], *answer)
        environ["wsgi.input"] = io.BytesIO(body)
        said: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], _: object = None) -> None:
            said[:] = status, tuple(headers)

        found, rest = _first_of(ResponsePieces(context.run(self.wsgi, environ, start_response), context))
        environ["wsgi.input"] = _NO_BODY  # the body is not needed while the answer waits for its commits
        head, is_sized = _render_head(*said)
        return AppResponse(environ[COMMITS], head, found, is_sized, rest)

    def _send(self, connection: Connection, environ: dict[str, Any], answer: AppResponse | None) -> None:
        if answer is None:
            connection.finish(*render_error(500, INTERNAL))
            return
        for commit in answer.commits:
            if commit in self._waiting or not commit.done():
                self._send_after(commit, (connection, environ, answer))
                return
            if error := commit.exception():
                self._send_failure(connection, environ, error)
                return
        self._write(connection, environ, answer)

    def _send_failure(self, connection: Connection, environ: dict[str, Any], error: BaseException) -> None:
        """Answers a request of which a commit failed: the app handles it again and raises the error."""
        environ[ERROR_TO_RAISE] = error
        environ[COMMITS] = []
        try:
            self._send(connection, environ, self._answer_on_loop(environ, b""))
        except WouldWait:
            work = partial(self._ask_app, environ, b"", copy_context())
            self._pool.submit(self._client(environ), 0, work, lambda x: self._send(connection, environ, x))

    def _send_after(self, commit: Future[None], held: "_Held") -> None:
        """Sends the answer when `commit` is done. The answers of a commit share the call into the loop's thread."""
        if commit in self._waiting:
            self._waiting[commit].append(held)
            return
        self._waiting[commit] = [held]
        commit.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._release, commit))

    def _release(self, commit: Future[None]) -> None:
        has_failed = commit.exception() is not None
        for connection, environ, answer in self._waiting.pop(commit):
            if has_failed or len(answer.commits) > 1:
                self._send(connection, environ, answer)
            else:
                self._write(connection, environ, answer)

    def _write(self, connection: Connection, environ: dict[str, Any], answer: AppResponse) -> None:
        head = answer.head + self._date
        if answer.rest is not None:
            stream = Stream(connection, answer.rest, answer.body, partial(self._pool.submit, self._client(environ), 0))
            connection.stream(head, stream.more, stream.stop, answer.is_sized)
            return
        if not answer.is_sized and environ["REQUEST_METHOD"] != "HEAD":
            head += b"Content-Length: %d\r\n" % len(answer.body)
        connection.finish(head, answer.body)


class Stream:
    """A response in several pieces. It reads a piece in a thread when the client has read the one before."""

    def __init__(
        self,
        connection: Connection,
        rest: ResponsePieces,
        first: bytes,
        in_thread: Callable[[Work, Then], None],
    ) -> None:
        self._connection = connection
        self._rest = rest
        self._first = first
        self._in_thread = in_thread
        self._is_reading = self._is_over = False

    def more(self) -> None:
        if self._first:
            first, self._first = self._first, b""
            self._connection.piece(first)
        else:
            self._is_reading = True
            self._in_thread(self._rest.read, self._send)

    def stop(self) -> None:
        """The connection has ended."""
        if not self._is_over:
            self._is_over = True
            if not self._is_reading:
                self._close()

    def _send(self, found: tuple[bytes, bool] | None) -> None:
        self._is_reading = False
        if self._is_over or found is None:
            self._is_over = True
            self._close()
            self._connection.abort()
            return
        data, has_more = found
        if has_more:
            self._connection.piece(data)
            return
        self._is_over = True
        self._close()
        self._connection.end(data)

    def _close(self) -> None:
        self._in_thread(self._rest.close, lambda _: None)


def _log_failure(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Logs an error of a callback, or in one line the error of a client's connection."""
    error = context.get("exception")
    if isinstance(error, OSError):
        log.info("connection_failed", error=type(error).__name__)
    else:
        log.error("loop_failed", message=context.get("message"), exc_info=error)


def _return_large_blocks() -> None:
    """Makes glibc return large blocks to the system when they are freed. By default it keeps ever larger ones."""
    if hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(_MMAP_THRESHOLD, RESPONSE_PIECE)
        library.mallopt(_ARENA_MAX, 2)


def _raise_file_limit() -> int:
    """Raises this process's limit of open files as far as it may. Returns how many connections fit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(most, 65_536) if most != resource.RLIM_INFINITY else 65_536
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return most * 4 // 5
