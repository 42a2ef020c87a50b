"""Appends on an event loop, to a real Redis that dies, freezes, restarts, is full, or is cut off."""

import asyncio
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from analytics.events.account import Account
from analytics.journal.journal import JOURNAL_KEY, Journal, Line
from analytics.journal.loop_redis import executing_on_loop
from analytics.unavailable import Unavailable
from config.clients import make_redis
from config.settings import Settings
from footfall.embedded_servers import Server, pick_port, redis_server
from tests.support.running_system import frozen, running, wait_for

ACCOUNT = Account("site", date(2026, 11, 22))
PATIENCE = 0.5  # seconds
NAME = "on-the-loop"


class Loop:
    """An event loop as a server's, and what runs on it."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self._stack = AsyncExitStack()

    def run(self, steps: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(steps)

    def journal(self, url: str) -> Callable[..., int]:
        """Appends events to the journal at this URL."""
        append = self.run(self._stack.enter_async_context(journal_at(url).appending_on_loop()))
        return lambda *raws: self.run(append([Line(ACCOUNT, event=raw) for raw in raws]))

    def redis(self, url: str) -> Callable[..., list[Any]]:
        """Executes commands, and then needs the confirmation of some replicas."""
        execute = self.run(self._stack.enter_async_context(executing_on_loop(client(url))))
        return lambda *commands, replicas=0: self.run(execute(commands, replicas))

    def close(self) -> None:
        self.run(self._stack.aclose())
        self.loop.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return redis_server(tmp_path / "redis", pick_port(0))


def client(url: str) -> Redis:
    return make_redis(Settings(redis_url=url, redis_timeout=PATIENCE), NAME)


def journal_at(url: str) -> Journal:
    return Journal(client(url), queue="events", batch=250, claim_idle=1, retry_pause=0)


@pytest.fixture
def appends(loop: Loop, server: Server) -> Callable[..., int]:
    return loop.journal(server.url)


def held(redis: Redis) -> list[bytes]:
    found: Any = redis.xrange(JOURNAL_KEY)
    return [fields[b"event"] for _, fields in found]


def process(running_server: subprocess.Popen[bytes]) -> psutil.Process:
    return psutil.Process(running_server.pid)


def connections(redis: Redis) -> int:
    """Of the loop."""
    return sum(each["name"] == NAME for each in redis.client_list())


def test_an_append_on_a_loop_writes_the_same_as_any_other(appends: Callable[..., int], server: Server):
    with running(server), Redis.from_url(server.url, protocol=2) as redis:
        assert appends(b"1", b"2") == 1
        after_one = redis.hgetall("footfall:books:2026-11-22"), redis.hgetall("footfall:journal:held")
        assert held(redis) == [b"1", b"2"]
        redis.flushall()
        assert journal_at(server.url).append([Line(ACCOUNT, event=raw) for raw in (b"1", b"2")]) == 1
        assert (redis.hgetall("footfall:books:2026-11-22"), redis.hgetall("footfall:journal:held")) == after_one


def test_all_appends_share_one_connection(appends: Callable[..., int], server: Server):
    with running(server), Redis.from_url(server.url) as redis:
        for raw in (b"1", b"2", b"3"):
            appends(raw)
        assert connections(redis) == 1


def test_a_script_that_redis_has_forgotten_is_sent_again(appends: Callable[..., int], server: Server):
    with running(server), Redis.from_url(server.url, protocol=2) as redis:
        appends(b"1")
        redis.script_flush()
        appends(b"2")
        assert held(redis) == [b"1", b"2"]


def test_a_redis_that_is_killed_fails_an_append_and_a_new_one_gets_the_next(
    appends: Callable[..., int], server: Server
):
    with running(server):
        appends(b"1")
    with pytest.raises(Unavailable, match="Connection"):
        appends(b"2")
    with running(server), Redis.from_url(server.url, protocol=2) as redis:
        appends(b"3")
        assert held(redis) == [b"1", b"3"]


def test_a_redis_that_is_killed_during_an_append_fails_it_at_once(
    appends: Callable[..., int], server: Server, loop: Loop
):
    with running(server) as found:
        appends(b"1")
        with frozen([process(found)]):
            loop.loop.call_later(0.1, found.kill)
            began = time.monotonic()
            with pytest.raises(Unavailable, match="the connection to Redis ended"):
                appends(b"2")
        assert time.monotonic() - began < PATIENCE


def test_a_frozen_redis_fails_an_append_in_time_and_never_stops_the_loop(
    appends: Callable[..., int], server: Server, loop: Loop
):
    gaps: list[float] = []

    async def watch() -> None:
        for _ in range(100):
            begin = time.monotonic()
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - begin)

    with running(server) as found, Redis.from_url(server.url, protocol=2) as redis:
        appends(b"1")
        with frozen([process(found)]):
            began = time.monotonic()
            watching = loop.loop.create_task(watch())
            with pytest.raises(Unavailable, match=f"no reply within {PATIENCE} s"):
                appends(*[b"x" * 1000] * 8000)
            assert PATIENCE <= time.monotonic() - began < PATIENCE + 1
            loop.loop.run_until_complete(watching)
        assert sorted(gaps)[90] < 0.1
        wait_for(lambda: connections(redis) == 0, "the end of the old connection")
        appends(b"3")
        assert held(redis)[-1] == b"3"
        assert connections(redis) == 1, "the connection that was given up is closed"


def test_a_frozen_redis_does_not_keep_the_bytes_of_failed_appends(appends: Callable[..., int], server: Server):
    with running(server) as found:
        appends(b"1")
        ours = psutil.Process()
        with frozen([process(found)]):
            sizes = []
            for _ in range(6):
                with pytest.raises(Unavailable):
                    appends(*[b"x" * 1000] * 8000)
                sizes.append(ours.memory_info().rss)
        assert sizes[-1] - sizes[1] < 16_000_000


def test_a_late_reply_is_not_the_reply_to_the_next_append(appends: Callable[..., int], server: Server):
    with running(server) as found, Redis.from_url(server.url, protocol=2) as redis:
        appends(b"1")
        with frozen([process(found)]), pytest.raises(Unavailable):
            appends(*[b"late"] * 1000)
        assert appends(b"2") <= 2
        wait_for(lambda: len(held(redis)) == 1002, "the late append")
        assert appends(b"3") == 2


def test_a_restart_between_two_appends_fails_none(appends: Callable[..., int], server: Server, loop: Loop):
    with running(server):
        appends(b"1")
    with running(server), Redis.from_url(server.url, protocol=2) as redis:
        loop.run(asyncio.sleep(0.05))  # the loop sees the end of its connection
        appends(b"2")
        assert held(redis) == [b"1", b"2"]


def test_a_full_redis_refuses_an_append(loop: Loop, server: Server):
    with running(server), Redis.from_url(server.url) as redis:
        redis.config_set("maxmemory", 1)
        with pytest.raises(Unavailable, match="above 85% of its maxmemory"):
            loop.journal(server.url)(b"1")
        execute = loop.redis(server.url)
        with pytest.raises(ResponseError, match="OOM"):
            execute(("SET", "name", "value"))
        redis.config_set("maxmemory", 0)
        assert execute(("SET", "name", "value"), ("GET", "name")) == [True, b"value"]


def test_a_replica_that_takes_no_writes_fails_the_append_and_its_connection(
    appends: Callable[..., int], server: Server, tmp_path: Path
):
    with running(server), Redis.from_url(server.url) as redis:
        appends(b"1")
        redis.replicaof("127.0.0.1", 1)
        with pytest.raises(Unavailable, match="READONLY"):
            appends(b"2")
        redis.replicaof("NO", "ONE")
        appends(b"3")
        assert connections(redis) == 1


def test_an_append_that_too_few_replicas_confirm_fails(loop: Loop, server: Server):
    with running(server):
        execute = loop.redis(server.url)
        with pytest.raises(RedisError, match="fewer than 1 replicas confirmed"):
            execute(("SET", "name", "value"), replicas=1)
        assert execute(("GET", "name")) == [b"value"]


def test_a_user_a_password_and_a_database_are_those_of_the_url(loop: Loop, server: Server):
    with running(server), Redis.from_url(server.url) as redis:
        redis.acl_setuser("ann", enabled=True, passwords=["+s3cret"], keys=["*"], commands=["+@all"])
        redis.acl_setuser("default", enabled=False)
        right = server.url.replace("//", "//ann:s3cret@").replace("/0", "/3")
        execute = loop.redis(right)
        execute(("SET", "name", "value"))
        with Redis.from_url(right) as other:
            assert other.get("name") == b"value"
            assert {each["db"] for each in other.client_list() if each["name"] == NAME} == {"3"}
        wrong = loop.redis(right.replace("s3cret", "wrong"))
        with pytest.raises(AuthenticationError):
            wrong(("PING",))


def test_a_unix_socket_is_used(loop: Loop, tmp_path: Path):
    server = redis_server(tmp_path / "redis", pick_port(0))
    path = Path(tempfile.gettempdir()) / f"redis-{server.port}.sock"  # a short path
    server = replace(server, command=[*server.command, "--unixsocket", str(path)])
    with running(server):
        appends = loop.journal(f"unix://{path}")
        appends(b"1")
        with Redis.from_url(server.url, protocol=2) as redis:
            assert held(redis) == [b"1"]
    path.unlink(missing_ok=True)


def test_with_tls_a_thread_waits_for_redis(loop: Loop, server: Server):
    """The embedded Redis has no TLS, so the handshake fails."""
    with running(server), pytest.raises(Unavailable, match="redis"):
        loop.journal(server.url.replace("redis://", "rediss://"))(b"1")


@contextmanager
def relay(port: int, forward: Callable[[bytes, socket.socket], None]) -> Iterator[str]:
    """A URL of the Redis at `port`. `forward` gets each piece of a reply, and the socket of the client."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                accepted, _ = listening.accept()
                other = socket.create_connection(("127.0.0.1", port))
                opened.extend((accepted, other))
                threading.Thread(target=pump, args=(accepted, other.sendall), daemon=True).start()
                threading.Thread(target=pump, args=(other, lambda x, to=accepted: forward(x, to)), daemon=True).start()

    def pump(source: socket.socket, then: Callable[[bytes], None]) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                then(data)

    opened: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}/0"
        listening.shutdown(socket.SHUT_RDWR)
    for each in opened:
        each.close()


def test_a_connection_that_ends_within_a_reply_fails_the_append(loop: Loop, server: Server):
    cuts = [True]

    def forward(piece: bytes, to: socket.socket) -> None:
        if piece.startswith(b"*4") and cuts.pop():  # of the append
            cuts.append(False)
            to.sendall(piece[:9])
            to.shutdown(socket.SHUT_RDWR)
        else:
            to.sendall(piece)
            cuts[:] = cuts or [False]

    with running(server) as _, relay(server.port, forward) as url, Redis.from_url(server.url, protocol=2) as redis:
        appends = loop.journal(url)
        with pytest.raises(Unavailable, match="the connection to Redis ended"):
            appends(b"1")
        appends(b"2")
        assert held(redis) == [b"1", b"2"], "the outcome of the first append was not known"


def test_a_reply_that_comes_byte_by_byte_is_read(loop: Loop, server: Server):
    def forward(piece: bytes, to: socket.socket) -> None:
        to.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for n in range(len(piece)):
            to.sendall(piece[n : n + 1])

    with running(server), relay(server.port, forward) as url:
        assert loop.journal(url)(*[b"x"] * 2000) == 2


@pytest.mark.parametrize("nonsense", [b"+OK\r\n" * 4, b"this is not Redis\r\n"])
def test_a_server_that_says_something_else_fails_the_append(loop: Loop, server: Server, nonsense: bytes):
    said = threading.Event()

    def forward(piece: bytes, to: socket.socket) -> None:
        to.sendall(nonsense if piece.startswith(b"$") and not said.is_set() else piece)  # for the reply to INFO

    with running(server), relay(server.port, forward) as url:
        appends = loop.journal(url)
        with pytest.raises(Unavailable, match="InvalidResponse"):
            appends(b"1")
        said.set()
        appends(b"1")
