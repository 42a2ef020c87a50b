"""gunicorn's worker: one event loop per process, and a pool of threads for work that may wait.

The loop reads requests and writes responses (web/http_connection.py). It also runs the requests whose path the app
lists under ON_LOOP, if their body is small. If such a request has to wait for a store, it raises WouldWait
(analytics/event_loop.py) and runs again in a thread. All other requests run in threads. No thread waits for a client:
a response in several pieces is made piece by piece, as the client reads it.

A response waits for the commits that its request has started (web/commits.py), without a thread.
"""

import asyncio
import io
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import structlog
import uvloop
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker as BaseWorker

from analytics.event_loop import WouldWait, forbid_waiting
from web.commits import COMMITS, FAILED
from web.errors import BUSY, INTERNAL
from web.http_connection import Connection, Request, render_error

log = structlog.get_logger()

LOOP_BODY = 16_384  # bytes: about 60 events, or 2 ms
MOST_QUEUED = 500  # requests that run in threads or wait for one
MOST_HELD = 128_000_000  # bytes of bodies that are being received or wait for their response
MOST_SLOW = 131_072  # bytes: larger incomplete bodies are given up first
PIECE = 262_144  # bytes of a response that are made before the client reads any of it
SWEEP = 0.25  # seconds
IDLE_AT_STOP = 2.0  # seconds that a stopping process keeps idle connections, whose client may be about to send
_SWITCH = 0.0005  # seconds that a thread with a batch keeps the interpreter from the loop; Python's default is 0.005


class QuietLogger(Logger):  # type: ignore[misc]
    """gunicorn's logger without an access log, which would contain visitors' addresses."""

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        return


@dataclass(slots=True)
class Answer:
    """What the app answered. `rest`: the pieces of the body after `body`, None if there are none."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    rest: "Pieces | None" = None
    commits: list[Future[None]] = field(default_factory=list)

    def head(self, date: bytes) -> bytes:
        lines = "".join([f"{name}: {value}\r\n" for name, value in self.headers])
        return f"HTTP/1.1 {self.status}\r\n{lines}".encode("latin-1") + date

    @property
    def is_sized(self) -> bool:
        return any(name.lower() == "content-length" for name, _ in self.headers)


class Pieces:
    """The body of a response, read in a thread at a time. All reads share the context of the request."""

    def __init__(self, body: Any, context: Context) -> None:
        self._body = body
        self._iterator: Iterator[bytes] = iter(body)
        self._context = context

    def read(self) -> tuple[bytes, bool]:
        """At least PIECE bytes, and whether the body has more."""
        return self._context.run(self._read)

    def close(self) -> None:
        self._context.run(getattr(self._body, "close", lambda: None))

    def _read(self) -> tuple[bytes, bool]:
        found, size = [], 0
        for piece in self._iterator:
            found.append(piece)
            size += len(piece)
            if size >= PIECE:
                return b"".join(found), True
        return b"".join(found), False


class Worker(BaseWorker):  # type: ignore[misc]
    """The server of the connections of this process."""

    def init_process(self) -> None:
        self._loop = uvloop.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._connections: set[Connection] = set()
        self._waiting: dict[Future[None], list[Callable[[], None]]] = {}
        self._held = 0
        self._queued = 0
        self.is_stopping = False
        self._pool = ThreadPoolExecutor(self.cfg.threads, "request")
        self._most_connections = _raise_file_limit()
        self._date = b""
        super().init_process()

    def init_signals(self) -> None:
        """Installs the signal handlers, then unblocks the stop signals that waited until now (config/gunicorn.py)."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        self._loop.add_signal_handler(signal.SIGTERM, self._stop)
        self._loop.add_signal_handler(signal.SIGUSR1, self.log.reopen_files)
        self._loop.add_signal_handler(signal.SIGWINCH, lambda: None)
        for number in (signal.SIGINT, signal.SIGQUIT):
            self._loop.add_signal_handler(number, self._quit)
        signal.signal(signal.SIGABRT, self.handle_abort)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT))

    def run(self) -> None:
        config = getattr(self.wsgi, "config", {})
        self._on_loop: frozenset[str] = config.get("ON_LOOP", frozenset())
        sys.setswitchinterval(_SWITCH)
        forbid_waiting()
        self._loop.run_until_complete(self._serve())
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _stop(self) -> None:
        self.alive = False

    def _quit(self) -> None:
        self.alive = False
        self.cfg.worker_int(self)
        os._exit(0)

    async def _serve(self) -> None:
        ports = [
            await self._loop.create_server(
                lambda: Connection(self, self._loop), sock=each.sock, backlog=self.cfg.backlog
            )
            for each in self.sockets
        ]
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
            port.close()
        now = self._loop.time()
        last = now + self.cfg.graceful_timeout
        for connection in self._connections:
            if connection.is_idle:
                connection.deadline = min(connection.deadline, now + IDLE_AT_STOP)
        while self._connections and self._loop.time() < last:
            self._sweep()
            await asyncio.sleep(0.02)

    def _sweep(self) -> None:
        self.notify()
        self._date = f"Date: {formatdate(usegmt=True)}\r\n".encode()
        now = self._loop.time()
        for connection in [x for x in self._connections if x.deadline <= now]:
            connection.expire()

    # What connections call

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)
        if len(self._connections) > self._most_connections:
            idle = [x for x in self._connections if x.is_idle]
            min(idle or self._connections, key=lambda x: x.deadline).abort()

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def note_held(self, size: int) -> None:
        self._held += size
        if self._held > MOST_HELD and size > 0:
            slow = [x for x in self._connections if x.held > MOST_SLOW]
            if slow:
                min(slow, key=lambda x: x.started).give_up(503, BUSY)

    def take(self, connection: Connection, request: Request) -> None:
        environ = request.environ(self._environ | {"REMOTE_ADDR": connection.peer})
        environ[COMMITS] = []
        if self._runs_on_loop(environ, len(request.body)):
            try:
                self._send(connection, environ, self._ask_app(environ, request.body, copy_context()))
                return
            except WouldWait:
                environ[COMMITS] = []
        if self._queued >= MOST_QUEUED:
            connection.finish(*render_error(503, BUSY))
            return
        context = copy_context()
        self._in_thread(
            lambda: self._ask_app(environ, request.body, context),
            lambda answer: self._send(connection, environ, answer),
        )

    def _runs_on_loop(self, environ: dict[str, Any], size: int) -> bool:
        return environ["PATH_INFO"] in self._on_loop and size <= LOOP_BODY and "HTTP_CONTENT_ENCODING" not in environ

    # Requests

    def _ask_app(self, environ: dict[str, Any], body: bytes | bytearray, context: Context) -> Answer:
        """Calls the app, in `context`. Raises WouldWait on the loop."""
        environ["wsgi.input"] = io.BytesIO(body)
        answer = Answer("500 Internal Server Error", [])

        def start_response(status: str, headers: list[tuple[str, str]], _: object = None) -> None:
            answer.status, answer.headers = status, headers

        pieces = Pieces(context.run(self.wsgi, environ, start_response), context)
        answer.body, has_more = pieces.read()
        if has_more:
            answer.rest = pieces
        else:
            pieces.close()
        answer.commits = environ[COMMITS]
        return answer

    def _in_thread(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Runs `work` in a thread, and calls `then` with its result on the loop, or with None if it fails."""

        def ended(future: Future[Any]) -> None:
            self._queued -= 1
            then(future.result())

        def run() -> Any:
            try:
                return work()
            except Exception:
                log.exception("request_failed")
                return None

        self._queued += 1
        self._pool.submit(run).add_done_callback(lambda future: self._loop.call_soon_threadsafe(ended, future))

    def _send(self, connection: Connection, environ: dict[str, Any], answer: Answer | None) -> None:
        if answer is None:
            connection.finish(*render_error(500, INTERNAL))
        elif waits := [x for x in answer.commits if not x.done()]:
            answer.commits = [x for x in answer.commits if x not in waits[:1]] + waits[:1]
            self._when_done(waits[0], lambda: self._send(connection, environ, answer))
        elif error := next((x.exception() for x in answer.commits if x.exception()), None):
            environ[FAILED] = error
            environ[COMMITS] = []
            self._write(connection, self._ask_app(environ, b"", copy_context()))
        else:
            self._write(connection, answer)

    def _when_done(self, commit: Future[None], then: Callable[[], None]) -> None:
        """Calls `then` on the loop. Requests that share a commit share the call into the loop's thread."""
        if commit in self._waiting:
            self._waiting[commit].append(then)
            return
        self._waiting[commit] = [then]
        commit.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._release, commit))

    def _release(self, commit: Future[None]) -> None:
        for then in self._waiting.pop(commit):
            then()

    def _write(self, connection: Connection, answer: Answer) -> None:
        head, rest = answer.head(self._date), answer.rest
        if rest is None:
            connection.finish(head, answer.body)
            return

        stream = Stream(connection, rest, answer.body, self._in_thread)
        connection.stream(head, stream.more, stream.stop, answer.is_sized)


class Stream:
    """A response in several pieces. It reads a piece in a thread when the client has read the one before."""

    def __init__(
        self,
        connection: Connection,
        rest: Pieces,
        first: bytes,
        in_thread: Callable[[Callable[[], Any], Callable[[Any], None]], None],
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


def _raise_file_limit() -> int:
    """Raises this process's limit of open files as far as it may. Returns how many connections fit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(most, 65_536) if most != resource.RLIM_INFINITY else 65_536
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return most * 4 // 5
