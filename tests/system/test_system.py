"""Writes at the front and reads at the back of the whole running system: gunicorn, Redis, Celery, MongoDB, Flower."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

import httpx
import psutil
import pytest

from analytics.events.event import id_from_client
from analytics.journal.journal import GROUP, JOURNAL_KEY
from config.celery import QUEUES
from tasks.beat import BEAT_ALIVE
from tests.support.running_system import System, kill_if_there, wait_for
from tests.system.test_deployment import COMPOSE


@pytest.fixture
def site(request: pytest.FixtureRequest) -> str:
    """A site for each test, so that they can share one system."""
    return request.node.name[:128]


def stats(system: System, site: str) -> dict:
    return httpx.get(f"{system.report}/stats", params={"site_id": site}).json()


def count(system: System, site: str) -> int:
    with system.database() as database:
        return database["events"].count_documents({"site_id": site})


async def post_all(system: System, bodies: list[dict], most_at_once: int = 32) -> Counter[int]:
    """Posts each body once. Returns the number of answers by status."""
    limits = httpx.Limits(max_connections=most_at_once)
    async with httpx.AsyncClient(limits=limits, timeout=30) as client:
        answers = await asyncio.gather(*[client.post(f"{system.ingest}/event", json=body) for body in bodies])
    return Counter(answer.status_code for answer in answers)


def test_an_event_that_is_sent_appears_in_the_report(system: System, site: str):
    event = {
        "site_id": site,
        "event_type": "page_view",
        "path": "/pricing",
        "user_id": "user-xyz-789",
        "timestamp": "2026-11-22T10:00:00Z",
    }
    answer = httpx.post(f"{system.ingest}/event", json=event)
    assert answer.status_code == 200
    assert answer.json() == {"success": True, "message": "Event queued successfully"}
    wait_for(lambda: stats(system, site)["total_views"] == 1, "the event in the report", 5)
    day = httpx.get(f"{system.report}/stats", params={"site_id": site, "date": "2026-11-22"}).json()
    assert day == {
        "site_id": site,
        "date": "2026-11-22",
        "total_views": 1,
        "unique_users": 1,
        "top_paths": [{"path": "/pricing", "views": 1}],
    }


def test_hits_of_browsers_are_in_the_report_and_hits_of_bots_are_not(system: System, site: str):
    agents = {
        "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36": 2,
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)": 3,
    }
    body = {"site_id": site, "event_type": "pageview", "url": "https://www.shop.example/a?gclid=1", "screen": "390x844"}
    for agent, times in agents.items():
        for _ in range(times):
            headers = {"User-Agent": agent, "Accept-Language": "de-DE,de;q=0.9"}
            assert httpx.post(f"{system.ingest}/event", json=body, headers=headers).status_code == 200
    wait_for(lambda: not system.redis().xlen(JOURNAL_KEY), "an empty journal")
    dimensions = ["source", "channel", "browser", "os", "device", "language", "screen", "entry_page"]
    query = {
        "site_id": site, "date_range": "all", "metrics": ["visitors", "pageviews"],
        "dimensions": [f"visit:{name}" for name in dimensions],
    }  # fmt: skip
    (row,) = httpx.post(f"{system.report}/api/v2/query", json=query).json()["results"]
    assert row["dimensions"] == ["Google", "Paid Search", "Chrome", "Windows", "Desktop", "de-DE", "Mobile", "/a"]
    assert row["metrics"] == [1, 2]


def test_fifty_invalid_events_of_a_thousand_are_rejected_and_the_others_are_stored(system: System, site: str):
    bodies = [{"site_id": site, "event_type": "page_view", "user_id": f"u{n}"} for n in range(950)]
    bad = [{"site_id": site, "event_type": "page_view", "timestamp": f"not a time {n}"} for n in range(50)]
    mixed = [body for n in range(50) for body in (*bodies[n * 19 : n * 19 + 19], bad[n])]
    assert asyncio.run(post_all(system, mixed)) == {200: 950, 400: 50}
    wait_for(lambda: count(system, site) == 950, "950 documents")
    assert stats(system, site)["unique_users"] == 950


def test_invalid_entries_written_directly_to_the_journal_become_dead_letters(system: System, site: str):
    redis = system.redis()
    entries = [redis.xadd(JOURNAL_KEY, {"event": json.dumps({"site_id": site, "path": n})}) for n in range(50)]
    redis.xadd(JOURNAL_KEY, {"event": json.dumps({"site_id": site, "event_type": "page_view"})})
    names = [entry.decode() for entry in entries]
    with system.database() as database:
        dead = {"attempts.entry_id": {"$in": names}}
        wait_for(lambda: database["dead_letters"].count_documents(dead) == 50, "50 dead letters")
        letter = database["dead_letters"].find_one({"attempts.entry_id": names[7]})
    assert json.loads(letter["raw"]) == {"site_id": site, "path": 7}
    assert letter["detail"] == {
        "event_type": ["Missing data for required field."],
        "path": ["Not a valid string."],
    }
    wait_for(lambda: count(system, site) == 1, "the good event beside them, which only beat can have woken anyone for")


def test_an_event_posted_five_times_with_one_event_id_is_stored_once(system: System, site: str):
    body = {"site_id": site, "event_type": "page_view", "event_id": "order-1"}
    assert asyncio.run(post_all(system, [body] * 5)) == {200: 5}
    wait_for(lambda: system.redis().xlen(JOURNAL_KEY) == 0, "an empty journal")
    with system.database() as database:
        documents = list(database["events"].find({"site_id": site}))
    assert [document["_id"] for document in documents] == [id_from_client(site, "order-1")]


def hit_while_holding(system: System, targets: Callable[[], list[psutil.Process]]) -> None:
    """Kills processes with -9 while a worker holds a batch, and checks that the worker ended with the batch."""
    redis = system.redis()

    def holding() -> int:
        return redis.xpending(JOURNAL_KEY, GROUP)["pending"]

    while True:
        wait_for(holding, "a worker that holds events")
        for process in targets():
            kill_if_there(process)
        if holding():
            return


def test_killing_a_worker_within_twenty_thousand_events_neither_loses_nor_duplicates_one(system: System, site: str):
    """The journal is filled faster than over HTTP, and both the pool's children and the whole worker are killed."""
    redis = system.redis()
    line = redis.pipeline(transaction=False)
    for n in range(20_000):
        body = {"site_id": site, "event_type": "page_view", "user_id": f"u{n}", "event_id": f"{n}"}
        line.xadd(JOURNAL_KEY, {"event": json.dumps(body)})
    line.execute()
    for goal in (2_000, 8_000):
        wait_for(lambda goal=goal: count(system, site) >= goal, f"{goal} documents")
        hit_while_holding(system, lambda: system.part("celery", "worker")[1:])
    wait_for(lambda: count(system, site) >= 12_000, "12,000 documents")
    hit_while_holding(system, lambda: system.part("celery", "worker"))
    assert count(system, site) < 20_000, "the worker was killed too late to prove anything"
    wait_for(lambda: redis.xlen(JOURNAL_KEY) == 0, "an empty journal", 100)
    assert count(system, site) == 20_000
    assert stats(system, site) | {"top_paths": []} == {
        "site_id": site, "date": "all_time", "total_views": 20_000, "unique_users": 20_000, "top_paths": []
    }  # fmt: skip


def test_flower_shows_the_worker_and_what_its_tasks_did(system: System, site: str):
    httpx.post(f"{system.ingest}/event", json={"site_id": site, "event_type": "page_view"})

    def seen() -> str:
        table = {
            "draw": 1,
            "start": 0,
            "length": 100,
            "search[value]": "",
            "order[0][column]": 0,
            "order[0][dir]": "asc",
        }
        return httpx.get(f"{system.flower}/tasks/datatable", params=table | {"columns[0][data]": "name"}).text

    wait_for(lambda: "'stored': 1, 'duplicate': 0, 'dead': 0" in seen(), "the task and its result in Flower")
    assert "tasks.events.store_events" in seen()
    workers = httpx.get(f"{system.flower}/workers?json=1", timeout=10)
    assert workers.status_code == 200
    assert "worker@" in workers.text


def test_a_beat_that_hangs_is_seen_by_the_container_s_health_check(system: System):
    alive = system.folder / BEAT_ALIVE.name
    *command, script = COMPOSE["services"]["beat"]["healthcheck"]["test"]
    assert command == ["CMD", "python", "-c"]

    def check() -> int:
        here = script.replace("/tmp/footfall-beat-alive", str(alive))  # noqa: S108 (the container's path)
        return subprocess.run([sys.executable, "-c", here], check=False).returncode

    alive.unlink()
    wait_for(alive.exists, "beat's sign of life", 5)
    assert check() == 0
    for beat in system.part("celery", "beat"):
        beat.suspend()
    os.utime(alive, (0, 0))
    assert check() == 1
    for beat in system.part("celery", "beat"):
        beat.resume()


def test_the_celery_cli_sees_the_worker_and_its_queues(system: System):
    queues = system.run_celery("inspect", "active_queues", "--json")
    assert queues.returncode == 0, queues.stderr
    (consumed,) = json.loads(queues.stdout).values()
    assert {queue["name"] for queue in consumed} == set(QUEUES)


def test_a_worker_grows_by_the_celery_cli(system: System):
    before = len(system.part("celery", "worker"))
    assert system.run_celery("control", "pool_grow", "1").returncode == 0
    wait_for(lambda: len(system.part("celery", "worker")) == before + 1, "one more process")
    assert system.run_celery("control", "pool_shrink", "1").returncode == 0
    wait_for(lambda: len(system.part("celery", "worker")) == before, "one process less")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"POST /event HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: odd\r\n\r\n", 501),
        (b"POST /event HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
    ],
    ids=["version", "nonsense", "long line", "long header", "transfer encoding", "length"],
)
def test_even_a_request_that_is_not_http_gets_the_usual_error(system: System, request_bytes: bytes, status: int):
    for port in ("INGESTION_PORT", "REPORTING_PORT"):
        with socket.create_connection(("127.0.0.1", system.ports[port]), timeout=10) as connection:
            connection.sendall(request_bytes)
            answer = b"".join(iter(lambda c=connection: c.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert int(head.split()[1]) == status
        assert b"application/json" in head
        assert json.loads(body)["success"] is False
        assert json.loads(body)["error"]["code"]


@pytest.mark.parametrize(
    ("chunks", "status"),
    [(b"zz\r\n{}\r\n0\r\n\r\n", 400), (b"11170\r\n" + b'"' * 70_000 + b"\r\n0\r\n\r\n", 413)],
    ids=["broken", "too large"],
)
def test_an_invalid_chunked_body_is_a_400(system: System, chunks: bytes, status: int):
    head = b"POST /event HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", system.ports["INGESTION_PORT"]), timeout=10) as connection:
        connection.sendall(head + chunks)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert int(answer.split()[1]) == status
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["success"] is False


def test_no_address_of_a_visitor_reaches_a_log(system: System, site: str):
    httpx.post(
        f"{system.ingest}/event",
        json={"site_id": site, "event_type": "page_view"},
        headers={"X-Forwarded-For": "203.0.113.7"},
    )
    with socket.create_connection(("127.0.0.1", system.ports["INGESTION_PORT"]), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/9.9\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n")
        connection.recv(65536)
    wait_for(lambda: "request_broken" in system.output(), "the log line")
    assert "203.0.113.7" not in system.output()
    lines = [line.partition(" | ")[2] for line in system.output().splitlines() if "request_broken" in line]
    assert lines
    assert all("127.0.0.1" not in line for line in lines)
