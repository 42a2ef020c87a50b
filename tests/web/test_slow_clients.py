"""Clients that are slow, silent or odd, against the real server: they do not keep other clients from sending."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from redis import Redis

from analytics.journal.journal import JOURNAL_KEY
from config.settings import Settings
from footfall.embedded_servers import pick_port
from tests.support.running_system import frozen, running_alone, wait_for
from tests.system.test_deployment import PROCFILE
from web.http_connection import READ_SECONDS

GOOD = json.dumps({"site_id": "shop", "event_type": "pageview", "user_id": "ann"}).encode()
HEAD = b"POST /event HTTP/1.1\r\nHost: footfall\r\n"


def head(length: int) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % length


@pytest.fixture(scope="module")
def server(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[psutil.Popen, int]]:
    """gunicorn and its port."""
    port = pick_port(0)
    log = tmp_path_factory.mktemp("slow") / "log"
    environment = {"REDIS_URL": settings.redis_url, "INGESTION_PORT": str(port), "WEB_CONCURRENCY": "1"}
    with running_alone(PROCFILE["ingest"], log, **environment) as process:
        wait_for(lambda: is_up(port), "gunicorn")
        yield process, port
        assert "Traceback" not in Path(log).read_text()


def is_up(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=40)


def answer(sock: socket.socket) -> bytes:
    """Everything that arrives until the server closes the connection."""
    found = b""
    with suppress(OSError):
        while piece := sock.recv(65536):
            found += piece
    return found


def test_five_hundred_clients_connect_at_once_while_the_process_is_busy(server):
    """asyncio allows 100 by default, and the others try again after a second."""
    process, port = server
    assert httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=30).status_code == 200
    with frozen(process.children(recursive=True)):
        clients = [socket.create_connection(("127.0.0.1", port), timeout=0.9) for _ in range(500)]
    for client in clients:
        client.close()


def test_two_hundred_slow_clients_delay_no_other_client_and_get_a_408(server, redis: Redis):
    """One process has 16 threads. 50 clients say nothing, 50 send a head and 50 a body with a byte per second, and 50
    stop within the body of a batch.
    """
    _, port = server
    begun = [b"", HEAD, head(len(GOOD)), b"POST /events HTTP/1.1\r\nContent-Length: 4000000\r\n\r\n" + b" " * 100_000]
    slow = {kind: [connect(port) for _ in range(50)] for kind in range(4)}
    start = time.monotonic()
    for kind, socks in slow.items():
        for sock in socks:
            sock.sendall(begun[kind])
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(1):
            for sock in slow[1] + slow[2]:
                with suppress(OSError):
                    sock.send(b"x")

    trickling = threading.Thread(target=trickle)
    trickling.start()
    times = []
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            while time.monotonic() < start + READ_SECONDS - 1:
                begin = time.monotonic()
                assert client.post("/event", content=GOOD).status_code == 200
                times.append(time.monotonic() - begin)
        batch = httpx.post(f"http://127.0.0.1:{port}/events", content=b"[" + GOOD + b"]")
        assert batch.status_code == 200
        for kind in (1, 2):
            for sock in slow[kind]:
                assert answer(sock).startswith(b"HTTP/1.1 408 "), kind
        assert {answer(sock) for sock in slow[0]} == {b""}, "nothing was asked"
        took = time.monotonic() - start
    finally:
        stop.set()
        trickling.join()
        for sock in [sock for socks in slow.values() for sock in socks]:
            sock.close()
    times.sort()
    print(f"{len(times)} events beside 200 slow clients: p50 {times[len(times) // 2] * 1000:.1f} ms,"
          f" slowest {times[-1] * 1000:.0f} ms; the slow ones were sent away after {took:.1f} s")  # fmt: skip
    assert times[int(len(times) * 0.99)] < 1
    assert took < READ_SECONDS + 5


def test_a_body_that_stops_on_a_thread_is_a_408_too(server):
    _, port = server
    with connect(port) as sock:
        sock.sendall(b"POST /events HTTP/1.1\r\nHost: footfall\r\nContent-Length: 4000000\r\n\r\n[")
        found = answer(sock)
    assert found.startswith(b"HTTP/1.1 408 ")
    assert b'"request_timeout"' in found


def test_requests_in_any_number_of_packets_are_answered(server, redis: Redis):
    _, port = server
    chunked = HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD)
    whole = head(len(GOOD)) + GOOD
    last = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD
    with connect(port) as sock:
        for part in (whole[:10], whole[10:100], whole[100:] + whole[:30], whole[30:] + whole, last):
            sock.sendall(part)
            time.sleep(0.02)  # so that each is a packet of its own
        assert answer(sock).count(b"HTTP/1.1 200 OK") == 4
    with connect(port) as sock:
        for byte in range(len(chunked)):
            sock.sendall(chunked[byte : byte + 1])
        assert answer(sock).startswith(b"HTTP/1.1 200 OK")
    assert redis.xlen(JOURNAL_KEY) == 5


def test_a_client_that_expects_100_continue_gets_it(server):
    _, port = server
    with connect(port) as sock:
        sock.sendall(HEAD + b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(GOOD))
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(GOOD)
        assert answer(sock).startswith(b"HTTP/1.1 200 OK")


def test_a_client_that_disconnects_halfway_leaves_nothing_behind(server, redis: Redis):
    process, port = server
    (worker,) = process.children()
    before = worker.num_fds()
    for part in (b"", HEAD, head(50) + b"{", b"\xff" * 100, b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"):
        for _ in range(20):
            with connect(port) as sock:
                sock.sendall(part)
    wait_for(lambda: worker.num_fds() <= before + 2, "an end of their connections")
    assert redis.xlen(JOURNAL_KEY) == 0
