"""Deploys under load: a restart drops no request, and a stopping worker stores its events or hands them back."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from pymongo.database import Database
from redis import Redis

from analytics.events.event import id_from_client
from analytics.events.schema import load_event
from analytics.journal.journal import GROUP, JOURNAL_KEY, Journal, Line
from bench.load import Load, post_request, run_load
from config.celery import EVENTS_QUEUE
from config.settings import Settings
from footfall.embedded_servers import pick_port
from tasks.beat import BEAT_ALIVE
from tests.support.running_system import make_project, running_alone, wait_for
from tests.support.services import NOW
from tests.system.test_deployment import PROCFILE

SITE = "deploys"
CONCURRENCY = Settings().web_concurrency
# The connections of proxies, hurried scripts and browsers: always busy, new, and idle ones. Idle clients pause for less
# than the two seconds for which a stopping gunicorn keeps idle connections. The difference is the time that this
# machine may take to wake a waiting client. A client that comes after two seconds is disconnected, which is correct.
CLIENTS = {
    "busy": {"connections": 8},
    "fresh": {"connections": 8},
    "idle for a second": {"connections": 24, "pause": 1.0},
    "idle for nearly two": {"connections": 24, "pause": 1.7},
}


def post(client: str, number: int) -> bytes:
    body = json.dumps({"site_id": SITE, "event_type": "page_view", "event_id": f"{client} {number}"}).encode()
    request = post_request("footfall", "/event", body)
    return request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) if client == "fresh" else request


@contextmanager
def load(port: int) -> Iterator[dict[str, Load]]:
    """All kinds of clients at once, during the block. The results are complete when the block has ended."""
    seen: dict[str, Load] = {}
    stop = threading.Event()

    def run(client: str) -> None:
        seen[client] = run_load(port, lambda n: post(client, n), seconds=60, stop=stop, **CLIENTS[client])

    threads = [threading.Thread(target=run, args=(client,)) for client in CLIENTS]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def check_that_all_were_answered_and_stored(seen: dict[str, Load], redis: Redis, database: Database[dict[str, Any]]):
    assert set(seen) == set(CLIENTS)
    assert {client: load.dropped for client, load in seen.items()} == dict.fromkeys(CLIENTS, 0)
    assert {status for load in seen.values() for status in load.statuses} == {200}
    wait_for(lambda: redis.xlen(JOURNAL_KEY) == 0, "an empty journal")
    answered = {id_from_client(SITE, f"{client} {n}") for client, load in seen.items() for n in load.answered}
    assert answered == set(database["events"].distinct("_id", {"site_id": SITE}))


@pytest.fixture
def stores(settings: Settings) -> dict[str, str]:
    """The environment of a process on the tests' stores. CLAIM_IDLE is its default, 35 s."""
    return {"REDIS_URL": settings.redis_url, "MONGODB_URI": settings.mongodb_uri}


def test_reloading_restarting_and_replacing_gunicorn_under_load_drops_no_request(
    redis: Redis, database: Database[dict[str, Any]], stores: dict[str, str], tmp_path: Path
):
    """HUP twice; TERM to one process after another; USR2 and then TERM to the old gunicorn."""
    port, log = pick_port(0), tmp_path / "log"
    with (
        running_alone(PROCFILE["worker"], log, **stores),
        running_alone(PROCFILE["ingest"], log, **stores, INGESTION_PORT=str(port)) as gunicorn,
    ):
        wait_for(lambda: answers(port) and len(gunicorn.children()) == CONCURRENCY, "gunicorn and all its processes")

        def wait_until_renewed(old: list[psutil.Process]) -> None:
            wait_for(lambda: len(now := gunicorn.children()) == CONCURRENCY and not {*old} & {*now}, "new ones")

        with load(port) as seen:
            for _ in range(2):
                old = gunicorn.children()
                gunicorn.send_signal(signal.SIGHUP)
                wait_until_renewed(old)
            old = gunicorn.children()
            for process in old:
                process.terminate()
                psutil.wait_procs([process], timeout=20)
            wait_until_renewed(old)
            gunicorn.send_signal(signal.SIGUSR2)
            wait_for(lambda: any(p.children() for p in gunicorn.children()), "the new gunicorn")
            gunicorn.terminate()
            gunicorn.wait(20)
        check_that_all_were_answered_and_stored(seen, redis, database)


@pytest.mark.parametrize(("app", "port_name"), [("ingest", "INGESTION_PORT"), ("report", "REPORTING_PORT")])
def test_after_a_reload_gunicorn_uses_the_settings_of_now(
    app: str, port_name: str, stores: dict[str, str], tmp_path: Path
):
    """The app is built before the processes are forked, so gunicorn has to build it again."""
    project, port = make_project(tmp_path / "project", "ADMIN_KEY=the-first-admin-key"), pick_port(0)
    environment = stores | {port_name: str(port), "DATA_DIR": str(tmp_path)}

    def may_read(key: str) -> bool:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.get(f"http://127.0.0.1:{port}/metrics", headers=headers).status_code == 200

    with running_alone(f"env --chdir={project} {PROCFILE[app]}", tmp_path / "log", **environment) as gunicorn:
        wait_for(lambda: answers(port), app)
        assert (may_read("the-first-admin-key"), may_read("the-second-admin-key")) == (True, False)
        (project / ".env").write_text("ADMIN_KEY=the-second-admin-key")
        gunicorn.send_signal(signal.SIGHUP)
        wait_for(lambda: may_read("the-second-admin-key") and not may_read("the-first-admin-key"), "the second key")
        (project / ".env").write_text("ADMIN_KEY=short")
        gunicorn.send_signal(signal.SIGHUP)
        wait_for(lambda: "ADMIN_KEY must be at least 16" in (tmp_path / "log").read_text(), "the error")
        assert may_read("the-second-admin-key")


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def fill(journal: Journal, count: int) -> None:
    journal.held("nobody")  # creates the group
    bodies = [{"site_id": SITE, "event_type": "page_view", "event_id": f"{n}"} for n in range(count)]
    for first in range(0, count, 500):
        journal.append([Line.of(load_event(body, NOW)) for body in bodies[first : first + 500]])


def deaths(redis: Redis) -> list[int]:
    """The number of counted deliveries of each event that a consumer still holds."""
    return [row["times_delivered"] for row in redis.xpending_range(JOURNAL_KEY, GROUP, "-", "+", 10_000)]


def test_a_worker_stopped_within_a_backlog_holds_nothing_afterwards_and_the_next_one_continues(
    journal: Journal, redis: Redis, database: Database[dict[str, Any]], stores: dict[str, str], tmp_path: Path
):
    count_of_events = 100_000  # a task that is told to stop may go on for a second, and stores 50,000 events in it
    fill(journal, count_of_events)
    log = tmp_path / "log"
    with running_alone(PROCFILE["beat"], log, **stores):
        with running_alone(PROCFILE["worker"], log, **stores) as worker:
            wait_for(lambda: count(database) >= 3_000, "3,000 documents")
            assert stop(worker, signal.SIGTERM) < 10
        assert deaths(redis) == []
        assert count(database) < count_of_events, "the worker was stopped too late to prove anything"
        with running_alone(PROCFILE["worker"], log, **stores):
            wait_for(lambda: redis.xlen(JOURNAL_KEY) == 0, "an empty journal, sooner than by CLAIM_IDLE", 30)
    assert count(database) == count_of_events
    assert database["dead_letters"].count_documents({}) == 0


def test_workers_stopped_while_mongodb_does_not_answer_hand_back_their_entries(
    journal: Journal, redis: Redis, database: Database[dict[str, Any]], stores: dict[str, str], tmp_path: Path
):
    """With TERM and with QUIT. It does not count against the events, however often a deploy meets an outage."""
    fill(journal, 4_000)
    stores = stores | {"STORE_BATCH": "250"}  # a wake-up for each thousand events
    log = tmp_path / "log"
    mongod = psutil.Process(database.command("serverStatus")["pid"])
    with running_alone(PROCFILE["beat"], log, **stores):
        mongod.suspend()
        try:
            with (
                running_alone(PROCFILE["worker"], log, **stores) as one,
                running_alone(PROCFILE["worker"].replace("worker@", "two@"), log, **stores) as two,
            ):
                wait_for(lambda: len(redis.xinfo_consumers(JOURNAL_KEY, GROUP)) == 4, "four processes that hold events")
                one.terminate()
                assert stop(two, signal.SIGQUIT) < 40
                assert stop(one, signal.SIGTERM) < 1, "it took longer than the other"
        finally:
            mongod.resume()
        found = deaths(redis)
        assert (len(found) >= 1_000, set(found)) == (True, {0}), "a batch of each process"
        with running_alone(PROCFILE["worker"], log, **stores):
            wait_for(lambda: redis.xlen(JOURNAL_KEY) == 0, "an empty journal, sooner than by CLAIM_IDLE", 20)
    assert count(database) == 4_000
    assert database["dead_letters"].count_documents({}) == 0


def stop(worker: psutil.Popen, how: signal.Signals) -> float:
    """Seconds until the worker and its processes have ended."""
    family = [worker, *worker.children(recursive=True)]
    start = time.monotonic()
    worker.send_signal(how)
    _, left = psutil.wait_procs(family, timeout=60)
    assert left == []
    return time.monotonic() - start


def count(database: Database[dict[str, Any]]) -> int:
    return database["events"].count_documents({"site_id": SITE})


def test_two_beats_send_no_superfluous_wake_ups_and_if_one_dies_the_other_continues(
    journal: Journal, redis: Redis, database: Database[dict[str, Any]], stores: dict[str, str], tmp_path: Path
):
    stores = stores | {"STORE_BATCH": "250"}  # a wake-up for each thousand events
    log = tmp_path / "log"
    fill(journal, 5_000)

    def beat(name: str) -> AbstractContextManager[psutil.Popen]:
        (tmp_path / name).mkdir()
        return running_alone(PROCFILE["beat"], log, **stores, TMPDIR=str(tmp_path / name))

    def looked(name: str, seconds: float) -> bool:
        """Whether this beat has touched its file after that time."""
        alive = tmp_path / name / BEAT_ALIVE.name
        return alive.exists() and alive.stat().st_mtime > seconds

    with beat("one") as one, beat("two"):
        wait_for(lambda: looked("one", 0) and looked("two", 0), "both beats")
        soon = time.time() + 4
        lengths = []

        def both_have_gone_on() -> bool:
            lengths.append(redis.llen(EVENTS_QUEUE))
            return looked("one", soon) and looked("two", soon)

        wait_for(both_have_gone_on, "both beats four seconds later")
        assert 5 <= max(lengths) <= 10, "one for each thousand events, from each beat at most"
        with running_alone(PROCFILE["worker"], log, **stores):
            wait_for(lambda: count(database) == 5_000, "the events")
            one.kill()
            redis.xadd(JOURNAL_KEY, {"event": json.dumps({"site_id": SITE, "event_type": "page_view"})})
            wait_for(lambda: count(database) == 5_001, "one event more", 5)
            wait_for(lambda: redis.xlen(JOURNAL_KEY) == 0, "an empty journal")
    assert database["dead_letters"].count_documents({}) == 0
