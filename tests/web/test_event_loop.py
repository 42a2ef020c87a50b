"""The event loop of a gunicorn process never waits: not for Redis, and not for a client that does not read."""

import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest
from redis import Redis

from analytics.event_loop import WouldWait, forbid_waiting, may_wait
from analytics.journal.journal import JOURNAL_KEY
from config.clients import make_redis
from config.settings import Settings
from footfall.embedded_servers import pick_port
from ingest_app.hit import MOST_ON_LOOP
from tests.support.running_system import frozen, running_alone, wait_for
from tests.support.services import ADMIN_KEY
from tests.system.test_deployment import PROCFILE
from web.gunicorn_worker import NEVER_REFUSED

EVENT = {"site_id": "shop", "event_type": "pageview", "user_id": "ann"}
REDIS_TIMEOUT = Settings().redis_timeout


@pytest.fixture(scope="module")
def server(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = pick_port(0)
    environment = {
        "REDIS_URL": settings.redis_url, "INGESTION_PORT": str(port), "WEB_CONCURRENCY": "1", "ADMIN_KEY": ADMIN_KEY,
    }  # fmt: skip
    with running_alone(PROCFILE["ingest"], tmp_path_factory.mktemp("loop") / "log", **environment):
        base = f"http://127.0.0.1:{port}"
        wait_for(lambda: is_up(base), "gunicorn")
        yield base


def is_up(base: str) -> bool:
    try:
        return httpx.get(f"{base}/healthz").status_code == 200
    except httpx.HTTPError:
        return False


def redis_server(redis: Redis) -> psutil.Process:
    return psutil.Process(redis.info()["process_id"])


def test_a_redis_client_refuses_the_thread_of_a_loop_and_serves_others(settings: Settings):
    client = make_redis(settings)

    def on_a_loop() -> None:
        forbid_waiting()
        with pytest.raises(WouldWait):
            client.ping()
        with pytest.raises(WouldWait):
            may_wait()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(on_a_loop).result()
    assert client.ping()


def accepts(base: str) -> bool:
    return httpx.post(f"{base}/event", json=EVENT).status_code == 200


def while_events_wait(base: str, redis: Redis) -> tuple[list[float], list[httpx.Response]]:
    """Seconds that /healthz takes while 40 events wait for a frozen Redis, and the answers to the events."""
    wait_for(lambda: accepts(base), "a process that looks nothing up and a Redis that answers")
    times = []
    with frozen([redis_server(redis)]), ThreadPoolExecutor(40) as pool, httpx.Client(base_url=base) as client:
        waiting = [pool.submit(httpx.post, f"{base}/event", json=EVENT, timeout=20) for _ in range(40)]
        while not all(one.done() for one in waiting):
            begin = time.monotonic()
            assert client.get("/healthz").status_code == 200
            times.append(time.monotonic() - begin)
            time.sleep(0.005)
        return times, [one.result() for one in waiting]


def test_with_redis_frozen_the_loop_answers_at_once_and_events_get_a_503(server: str, redis: Redis):
    """A busy machine may delay an answer. A loop that waits for Redis delays one each time that Redis is frozen."""
    longest = []
    for _ in range(3):
        times, answers = while_events_wait(server, redis)
        assert sorted(times)[len(times) // 2] < 0.05
        assert {answer.status_code for answer in answers} == {503}
        for answer in answers:
            assert answer.json()["error"]["code"] == "unavailable"
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert answer.headers["Retry-After"] == "1"
        longest.append(max(times))
        if longest[-1] < REDIS_TIMEOUT / 2:
            break
    assert min(longest) < REDIS_TIMEOUT / 2
    wait_for(lambda: accepts(server), "a Redis that answers again")


FIRST: dict[str, tuple[str, object, int, int]] = {  # path, body, status, events
    "one": ("/event", EVENT, 200, 1),
    "two": ("/events", [EVENT, EVENT], 200, 2),
    "many": ("/events", [EVENT] * 2000, 200, 2000),
    "invalid": ("/event", {"site_id": "shop"}, 400, 0),
    "plausible": ("/api/event", {"n": "pageview", "u": "https://shop/x", "d": "shop"}, 202, 1),
}


@pytest.mark.parametrize("case", FIRST)
def test_the_first_request_of_a_process_waits_for_its_look_ups_in_a_thread_and_counts_once(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory, redis: Redis, case: str
):
    path, body, status, events = FIRST[case]
    port = pick_port(0)
    environment = {"REDIS_URL": settings.redis_url, "INGESTION_PORT": str(port), "WEB_CONCURRENCY": "1"}
    with running_alone(PROCFILE["ingest"], tmp_path_factory.mktemp("first") / "log", **environment):
        base = f"http://127.0.0.1:{port}"
        wait_for(lambda: is_up(base), "gunicorn")
        assert httpx.post(f"{base}{path}", content=json.dumps(body)).status_code == status
    assert redis.xlen(JOURNAL_KEY) == events


def test_connections_that_are_opened_together_are_shared_by_all_processes(settings: Settings, tmp_path: Path):
    port = pick_port(0)
    environment = {"REDIS_URL": settings.redis_url, "INGESTION_PORT": str(port), "WEB_CONCURRENCY": "2"}
    with running_alone(PROCFILE["ingest"], tmp_path / "log", **environment) as gunicorn:
        wait_for(lambda: is_up(f"http://127.0.0.1:{port}"), "gunicorn")
        wait_for(lambda: min(shares(gunicorn, port)) >= 16, "two processes with a share of 64 connections")


def shares(gunicorn: psutil.Popen, port: int) -> list[int]:
    """Opens 64 connections, and returns how many of them each process accepted."""
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(64)]
        ours = {each.getsockname()[1] for each in opened}

        def accepted() -> list[int]:
            found = [x.net_connections("tcp") for x in gunicorn.children()]
            return [sum(bool(each.raddr) and each.raddr.port in ours for each in one) for one in found]

        return wait_for(lambda: sum(counts := accepted()) == 64 and counts, "64 accepted connections")


def test_events_that_wait_too_long_are_refused_and_the_process_still_says_that_it_lives(
    settings: Settings, tmp_path: Path, redis: Redis
):
    """All requests arrive while the process is stopped, so that one turn of the loop reads them."""
    port = pick_port(0)
    environment = {
        "REDIS_URL": settings.redis_url, "INGESTION_PORT": str(port), "WEB_CONCURRENCY": "1", "ADMIN_KEY": ADMIN_KEY,
    }  # fmt: skip
    body = json.dumps([EVENT | {"props": {f"p{n}": "x" * 20 for n in range(30)}}] * MOST_ON_LOOP).encode()
    hit = b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    alive = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with running_alone(PROCFILE["ingest"], tmp_path / "log", **environment) as gunicorn, ExitStack() as stack:
        base = f"http://127.0.0.1:{port}"
        wait_for(lambda: is_up(base), "gunicorn")
        assert httpx.post(f"{base}/event", json=EVENT).status_code == 200
        addresses = [("127.0.0.1", port)] * 900
        clients = [stack.enter_context(socket.create_connection(each, timeout=20)) for each in addresses]
        requests = [hit] * (len(clients) - 1) + [alive]
        assert {status(client, alive) for client in clients} == {200}
        with frozen(gunicorn.children()):
            for client, request in zip(clients, requests, strict=True):
                client.sendall(request)
        *answers, lives = [status(client) for client in clients]
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        metrics = httpx.get(f"{base}/metrics", headers=headers).text
    counts = Counter(answers)
    assert lives == 200
    assert counts.keys() == {200, 503}
    assert counts[200] >= NEVER_REFUSED - 1
    assert redis.xlen(JOURNAL_KEY) == 1 + counts[200] * MOST_ON_LOOP
    assert f"footfall_requests_shed_total {counts[503]}.0" in metrics


def status(client: socket.socket, request: bytes = b"") -> int:
    client.sendall(request)
    return int(client.recv(65536).split()[1])
