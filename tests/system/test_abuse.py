"""Clients that mean harm, against both real apps: honest requests are answered in time, and memory comes back.

Attacks come from other addresses of the loopback network. A process of its own sends the honest requests. The machine
may be busy with other work, so a time counts as too long only if it is also far from the time without an attack.
"""

import json
import multiprocessing
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import brotli
import psutil
import pytest
from redis import Redis

from config.settings import Settings
from footfall.embedded_servers import pick_port
from tests.support.running_system import running_alone, wait_for
from tests.support.services import ADMIN_KEY
from tests.system.test_deployment import PROCFILE

pytestmark = pytest.mark.alone

MEASURED = 1.5  # seconds of each attack
P99, LONGEST_BATCH = 0.25, 2.0  # seconds
FAR = 4  # times the figure without an attack
GROWTH = 200_000_000  # bytes of a process
PORTS = {"ingest": "INGESTION_PORT", "report": "REPORTING_PORT"}
SITE_LIMIT = 20_000  # events in a minute
INFLATED = 50_000_000  # bytes

LARGE = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: footfall\r\n\r\n"  # 1.4 MB
EVENT = {"site_id": "shop", "event_type": "pageview", "user_id": "ann", "path": "/prices"}
WRONG = b"[" + b",".join([b'{"site_id":"shop"}'] * 5000) + b"]"
POST = b"POST /events HTTP/1.1\r\nHost: footfall\r\n"


@dataclass(frozen=True)
class Server:
    port: int
    process: psutil.Popen

    def memory(self) -> int:
        """Bytes of the largest process."""
        return max(child.memory_info().rss for child in self.process.children())


@dataclass(frozen=True)
class Times:
    """Seconds of honest requests. `statuses`: those other than 200."""

    single: list[float]
    large: list[float]
    statuses: list[int]

    @property
    def p99(self) -> float:
        return sorted(self.single)[len(self.single) * 99 // 100]

    def is_good(self, usual: "Times") -> bool:
        is_far = self.p99 > max(P99, FAR * usual.p99) or max(self.large) > max(LONGEST_BATCH, FAR * max(usual.large))
        return not is_far and self.statuses == []


def ask_honestly(app: str, port: int, site: str) -> Times:
    """Sends single requests, and now and then a large one, for MEASURED seconds. A connection serves 20 requests."""
    single: list[float] = []
    large: list[float] = []
    statuses: list[int] = []
    stop = time.monotonic() + MEASURED

    def ask(connection: HTTPConnection, times: list[float], *request: str) -> None:
        begin = time.monotonic()
        connection.request(*request)
        answer = connection.getresponse()
        answer.read()
        times.append(time.monotonic() - begin)
        if answer.status != 200:
            statuses.append(answer.status)

    def in_turn(times: list[float], pause: float, *request: str) -> None:
        while time.monotonic() < stop:
            connection = HTTPConnection("127.0.0.1", port, timeout=30)
            for _ in range(20):
                ask(connection, times, *request)
                time.sleep(pause)
                if time.monotonic() > stop:
                    break
            connection.close()

    event = EVENT | {"site_id": site}
    batch = json.dumps([event] * (150_000 // len(json.dumps(event))))
    assert 145_000 < len(batch) < 160_000
    requests = {
        "ingest": [("POST", "/event", json.dumps(event)), ("POST", "/events", batch)],
        "report": [("GET", "/healthz"), ("GET", f"/stats?site_id={site}&period=day")],
    }[app]
    sender = threading.Thread(target=in_turn, args=(large, MEASURED / 2, *requests[1]))
    sender.start()
    in_turn(single, 0.005, *requests[0])
    sender.join()
    return Times(single, large, statuses)


@pytest.fixture(scope="module")
def servers(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    found, log = {}, tmp_path_factory.mktemp("abuse") / "log"
    with ExitStack() as stack:
        for app, name in PORTS.items():
            port = pick_port(0)
            environment = {
                "REDIS_URL": settings.redis_url, "MONGODB_URI": settings.mongodb_uri, name: str(port),
                "WEB_CONCURRENCY": "2", "ADMIN_KEY": ADMIN_KEY, "RATE_LIMIT_SITE": f"{SITE_LIMIT}/minute",
                "DATA_DIR": str(tmp_path_factory.mktemp("data")),
            }  # fmt: skip
            process = stack.enter_context(running_alone(PROCFILE[app], log, **environment))
            found[app] = Server(port, process)
        for server in found.values():
            wait_for(partial(is_up, server.port), "gunicorn")
        yield found
    said = [json.loads(line) for line in Path(log).read_text().splitlines()]
    assert [line for line in said if line["level"] in ("error", "critical") or "exception" in line] == []
    assert {line["event"] for line in said} >= {"request_broken"}
    assert "127.0.0.2" not in Path(log).read_text()


def is_up(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


# Attacks: each is a context in which it goes on


@dataclass(frozen=True)
class Target:
    port: int
    stack: ExitStack
    is_over: threading.Event

    def connect(self, number: int = 0, address: str = "") -> socket.socket:
        """Connects from 127.0.0.2, or from `address`. The receive buffer is small."""
        sock = self.stack.enter_context(socket.socket())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.bind((address or "127.0.0.2", 0))
        sock.settimeout(20)
        sock.connect(("127.0.0.1", self.port))
        return sock

    def again_and_again(self, work: Callable[[], object], threads: int = 1, pause: float = 0) -> None:
        def run() -> None:
            while not self.is_over.wait(pause):
                with suppress(OSError):
                    work()

        for _ in range(threads):
            thread = threading.Thread(target=run)
            self.stack.callback(thread.join)
            thread.start()
        self.stack.callback(self.is_over.set)

    def ask(self, raw: bytes, address: str = "") -> bytes:
        """Sends a request with `Connection: close` on a connection of its own, and reads the answer."""
        with socket.socket() as sock:
            sock.bind((address or "127.0.0.2", 0))
            sock.settimeout(5)
            sock.connect(("127.0.0.1", self.port))
            sock.sendall(raw)
            sock.settimeout(0.2)
            found = b""
            while not self.is_over.is_set():
                with suppress(TimeoutError):
                    if not (piece := sock.recv(65536)):
                        break
                    found += piece
            return found


def send_a_byte_per_second(target: Target) -> None:
    socks = [target.connect() for _ in range(300)]
    for sock in socks:
        sock.sendall(POST + b"Content-Length: 100\r\n")

    def drip() -> None:
        for sock in socks:
            with suppress(OSError):
                sock.send(b"x")

    target.again_and_again(drip, pause=1)


def never_read(target: Target) -> None:
    for _ in range(34):
        target.connect().sendall(LARGE * 8)


def never_read_on_very_many_connections(target: Target) -> None:
    for _ in range(600):
        target.connect().sendall(LARGE)


def pipeline_without_reading(target: Target) -> None:
    socks = [target.connect() for _ in range(40)]
    for sock in socks:
        sock.setblocking(False)
    small = b"GET /healthz HTTP/1.1\r\nHost: footfall\r\n\r\n" * 1000

    def flood() -> None:
        for sock in socks:
            with suppress(OSError):
                sock.send(small)

    target.again_and_again(flood, pause=0.01)


def pipeline_and_read(target: Target) -> None:
    """The smallest requests, as many as one connection brings in."""
    request = b"GET / HTTP/1.1\r\n\r\n" * 10_000

    def flood() -> None:
        sock = target.connect()
        sock.settimeout(2)
        with sock:
            sender = threading.Thread(target=lambda: _send(sock, request))
            sender.start()
            while not target.is_over.is_set() and sock.recv(262_144):
                pass
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sender.join()

    target.again_and_again(flood, threads=3)


def _send(sock: socket.socket, data: bytes) -> None:
    with suppress(OSError):
        sock.sendall(data)


def stay_silent(target: Target) -> None:
    for _ in range(2000):
        target.connect()


def reset_within_a_body(target: Target) -> None:
    def reset() -> None:
        with target.connect() as sock:
            sock.sendall(POST + b"Content-Length: 200000\r\n\r\n" + b"x" * 3000)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    target.again_and_again(reset, pause=0.002)


def send_lengths_of_thousands_of_digits(target: Target) -> None:
    nines, zeros = b"9" * 5000, b"0" * 5000
    heads = [b"Content-Length: " + nines, b"Content-Length: " + zeros + b"5"]
    heads += [b"Transfer-Encoding: chunked\r\n\r\n" + x for x in (nines, zeros + b"5")]

    def send() -> None:
        for head in heads:
            target.ask(POST + b"Connection: close\r\n" + head + b"\r\n\r\nhello")

    target.again_and_again(send, pause=0.01)
    for _ in range(40):
        target.connect().sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n" + zeros)


def expect_to_continue(target: Target) -> None:
    for _ in range(200):
        target.connect().sendall(POST + b"Expect: 100-continue\r\nContent-Length: 4000000\r\n\r\n")


def encoded(small: bytes) -> bytes:
    return POST + b"Connection: close\r\nContent-Encoding: br\r\nContent-Length: %d\r\n\r\n" % len(small) + small


def inflate_80_000_times(target: Target) -> None:
    """A body that is too large, if it was inflated."""
    small = brotli.compress(bytes(INFLATED), quality=5)
    assert 80_000 * len(small) < INFLATED
    target.again_and_again(lambda: target.ask(encoded(small)), threads=24)


def inflate_wrong_events(target: Target) -> None:
    """A body within the limit, of 5,000 wrong events."""
    small = brotli.compress(WRONG.ljust(4_900_000))
    assert len(small) < 400
    target.again_and_again(lambda: target.ask(encoded(small)), threads=24)


def send_very_many_invalid_events(target: Target) -> None:
    body = b"[" + b",".join([b"{}"] * 5000) + b"]"
    request = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    target.again_and_again(lambda: target.ask(request), threads=24)


def send_chunks_of_one_byte(target: Target) -> None:
    request = POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100_000
    target.again_and_again(lambda: target.ask(request), threads=4)


def hold_large_bodies(target: Target) -> None:
    """200 bodies of 4 MB that are not complete."""
    socks = [target.connect() for _ in range(200)]
    for sock in socks:
        sock.setblocking(False)
        sock.send(POST + b"Content-Length: 4900000\r\n\r\n")
    piece = b" " * 100_000

    def fill() -> None:
        for sock in socks:
            with suppress(OSError):
                sock.send(piece)

    target.again_and_again(fill)


def use_up_the_share_of_others(target: Target) -> None:
    """From one address, 60 batches at once of 1 MB."""
    body = json.dumps([EVENT | {"site_id": "flood", "path": "/" + "x" * 100}] * 5000).encode()
    request = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    target.again_and_again(lambda: target.ask(request), threads=60)


def use_up_a_site_from_many_addresses(target: Target) -> None:
    body = json.dumps([EVENT | {"site_id": "busy"}] * 1000).encode()
    request = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    for number in range(2, 7):
        target.again_and_again(lambda number=number: target.ask(request, f"127.0.0.{number}"), pause=0.05)


ATTACKS: list[Callable[[Target], None]] = [
    send_a_byte_per_second,
    never_read,
    never_read_on_very_many_connections,
    pipeline_without_reading,
    pipeline_and_read,
    stay_silent,
    reset_within_a_body,
    send_lengths_of_thousands_of_digits,
    expect_to_continue,
    hold_large_bodies,
]
ON_INGESTION: list[Callable[[Target], None]] = [
    inflate_80_000_times,
    inflate_wrong_events,
    send_very_many_invalid_events,
    send_chunks_of_one_byte,
    use_up_the_share_of_others,
    use_up_a_site_from_many_addresses,
]


@contextmanager
def going_on(attack: Callable[[Target], None], port: int) -> Iterator[None]:
    with ExitStack() as stack:
        attack(Target(port, stack, threading.Event()))
        yield


@dataclass(frozen=True)
class Observer:
    """Asks honestly from a process of its own. `calm`: the times without an attack, by app."""

    pool: ProcessPoolExecutor
    calm: dict[str, Times]


@pytest.fixture(scope="module")
def observer(servers: dict[str, Server]) -> Iterator[Observer]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:

        def measured(site: str) -> dict[str, Times]:
            return {app: pool.submit(ask_honestly, app, servers[app].port, site).result() for app in PORTS}

        measured("warm")  # the first requests of a process take longer
        yield Observer(pool, measured("calm"))


CASES = [("ingest", x) for x in ATTACKS + ON_INGESTION] + [("report", x) for x in ATTACKS[:6]]


@pytest.mark.parametrize(("app", "attack"), CASES, ids=lambda x: x if isinstance(x, str) else x.__name__)
def test_an_attack_keeps_no_honest_client_waiting(
    servers: dict[str, Server], observer: Observer, redis: Redis, app: str, attack: Callable[[Target], None]
):
    server, usual = servers[app], observer.calm[app]
    before = most = server.memory()
    with going_on(attack, server.port):
        for _ in range(2):  # a time that is too long is measured once more, because the machine may have been busy
            asking = observer.pool.submit(ask_honestly, app, server.port, attack.__name__)
            while not asking.done():
                most = max(most, server.memory())
                time.sleep(0.05)
            times = asking.result()
            if times.is_good(usual):
                break
    print(
        f"\n{app} {attack.__name__}: p99 {times.p99 * 1000:.0f} ms (calm {usual.p99 * 1000:.0f}), "
        f"large {max(times.large) * 1000:.0f} ms (calm {max(usual.large) * 1000:.0f}), "
        f"memory {before >> 20} + {(most - before) >> 20} MB, then {server.memory() >> 20}"
    )
    wait_for(lambda: server.memory() < before + max(60_000_000, (most - before) / 2), "less memory", 5)
    assert times.statuses == []
    assert times.is_good(usual)
    assert most - before < GROWTH


def test_an_address_with_very_many_connections_loses_its_own_and_not_those_of_others(
    settings: Settings, tmp_path: Path
):
    port = pick_port(0)
    line = f"bash -c 'ulimit -n 400; exec {PROCFILE['ingest']}'"  # 320 connections
    environment = {"REDIS_URL": settings.redis_url, "INGESTION_PORT": str(port), "WEB_CONCURRENCY": "1"}
    with running_alone(line, tmp_path / "log", **environment), ExitStack() as stack:
        wait_for(partial(is_up, port), "gunicorn")
        early = HTTPConnection("127.0.0.1", port, timeout=10)
        early.connect()
        target = Target(port, stack, threading.Event())
        greedy = [target.connect() for _ in range(1000)]
        for connection in (early, HTTPConnection("127.0.0.1", port, timeout=10)):
            connection.request("POST", "/event", json.dumps(EVENT))
            assert connection.getresponse().status == 200
            connection.close()
        greedy[-1].sendall(b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert greedy[-1].recv(100).startswith(b"HTTP/1.1 200 ")
    assert "Traceback" not in (tmp_path / "log").read_text()
