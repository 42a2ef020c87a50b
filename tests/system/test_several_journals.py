"""Several Redis servers hold waiting events: sites move between them under load, and one of them does not answer."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from pymongo.database import Database
from redis import Redis

from analytics.events.event import id_from_client
from analytics.journal.audit import Audited, audit
from analytics.journal.journal import Journal
from analytics.store_notes import state_of
from bench.load import Load, post_request, run_load
from config.services import Services
from config.settings import Settings
from footfall.embedded_servers import Server, pick_port, redis_server
from tests.support.running_system import frozen, make_project, running, running_alone, wait_for
from tests.system.test_deployment import PROCFILE
from tests.system.test_deploys import answers

SITES = [f"site-{n}" for n in range(24)]


@pytest.fixture
def further(tmp_path: Path) -> Iterator[tuple[Server, psutil.Process]]:
    """Another Redis server, and its process."""
    server = redis_server(tmp_path, pick_port(0))
    with running(server) as process:
        yield server, psutil.Process(process.pid)


@pytest.fixture
def several(settings: Settings, further: tuple[Server, psutil.Process]) -> Settings:
    return replace(settings, journal_urls=f"b={further[0].url}")


@pytest.fixture
def services(several: Settings, redis: Redis, database: Database[dict[str, Any]]) -> Iterator[Services]:
    with closing(Services(several)) as services:
        yield services


def environment(settings: Settings, folder: Path) -> dict[str, str]:
    """Of processes on these stores. Entries of a killed worker are taken over after 3 seconds."""
    return {
        "REDIS_URL": settings.redis_url,
        "MONGODB_URI": settings.mongodb_uri,
        "DATA_DIR": str(folder),
        "CLAIM_IDLE": "3",
        "RATE_LIMIT_ADDRESS": "none",
    }


def body(number: int) -> dict[str, str]:
    return {"site_id": SITES[number % len(SITES)], "event_type": "pageview", "event_id": f"{number}"}


@contextmanager
def load(port: int) -> Iterator[Load]:
    """Events of all sites, during the block. The result is complete when the block has ended."""
    seen, stop = Load(), threading.Event()

    def render(number: int) -> bytes:
        return post_request("footfall", "/event", json.dumps(body(number)).encode())

    with ThreadPoolExecutor(1) as pool:
        running_load = pool.submit(run_load, port, render, connections=8, seconds=90, pause=0.005, stop=stop)
        try:
            yield seen
        finally:
            stop.set()
            vars(seen).update(vars(running_load.result()))


def accepted(services: Services, name: str) -> int:
    """How many events the server of this journal has accepted."""
    redis = services.further_redis[name] if name else services.redis
    counts = (redis.hgetall(key) for key in redis.smembers("footfall:books"))
    return sum(int(n) for each in counts for field, n in each.items() if field.startswith(b"accepted "))


def grown(services: Services, name: str) -> None:
    before = accepted(services, name)
    wait_for(lambda: accepted(services, name) > before + 300, f"events in the journal {name!r}")


def kill_while_it_holds_events(worker: psutil.Process, part: Journal) -> None:
    """Kills a worker and its processes at a moment at which they hold events of this journal."""

    def are_held() -> bool:
        os.killpg(worker.pid, signal.SIGSTOP)
        if part.is_held():
            return True
        os.killpg(worker.pid, signal.SIGCONT)
        return False

    wait_for(are_held, "a worker that holds events")
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait(10)


def test_sites_move_to_another_server_and_back_under_load_while_a_worker_is_killed(
    several: Settings, services: Services, tmp_path: Path
):
    """None is lost, none is doubled, no request fails, and the ledger balances."""
    stores, port = environment(several, tmp_path), pick_port(0)
    project = make_project(tmp_path / "project", "")
    worker = PROCFILE["worker"], tmp_path / "worker.log"
    drains = stores | {"JOURNAL_URLS": several.journal_urls}
    with ExitStack() as stack:
        first = stack.enter_context(running_alone(*worker, **drains))
        stack.enter_context(running_alone(PROCFILE["beat"], tmp_path / "beat.log", **drains))
        ingest = f"env --chdir={project} {PROCFILE['ingest']}", tmp_path / "ingest.log"
        gunicorn = stack.enter_context(running_alone(*ingest, **stores, INGESTION_PORT=str(port)))
        wait_for(lambda: answers(port), "the ingestion app")
        with load(port) as seen:
            grown(services, "")
            assert accepted(services, "b") == 0
            (project / ".env").write_text(f"JOURNAL_URLS={several.journal_urls}")
            gunicorn.send_signal(signal.SIGHUP)
            grown(services, "b")
            kill_while_it_holds_events(first, services.journal.parts[1])
            grown(services, "b")
            stack.enter_context(running_alone(*worker, **drains))
            grown(services, "")
            (project / ".env").write_text(f"JOURNAL_URLS=-{several.journal_urls}")
            gunicorn.send_signal(signal.SIGHUP)
            _wait_until_still(services, "b")
            grown(services, "")
        wait_for(lambda: services.journal.waiting() == 0, "empty journals", 60)
    assert (seen.dropped, set(seen.statuses)) == (0, {200})
    stored = services.database["events"].distinct("_id")
    sent = {id_from_client(body(n)["site_id"], f"{n}") for n in seen.answered}
    assert set(stored) == sent
    assert state_of(services.database)["journals"] == ["b"], "a worker has noted it"
    found = audit(Audited(services.ledger, services.journal, services.events, services.dead_letters))
    assert found.faults == []
    assert found.at_rest
    counts = [sum(getattr(x, name) for x in found.balances) for name in ("accepted", "stored", "duplicate", "dead")]
    assert counts == [len(sent), len(sent), 0, 0]


def test_while_one_server_does_not_answer_only_its_sites_are_refused(
    several: Settings, services: Services, further: tuple[Server, psutil.Process], tmp_path: Path
):
    stores, port = environment(several, tmp_path) | {"JOURNAL_URLS": several.journal_urls}, pick_port(0)
    theirs = [site for site in SITES if services.journal.part_of(site).name == "b"]
    assert 0 < len(theirs) < len(SITES)
    numbers = iter(range(10_000))

    def post() -> dict[str, int]:
        """An event of each site. The statuses by site."""
        statuses = {}
        for event in [body(next(numbers)) for _ in SITES]:
            start = time.monotonic()
            answer = httpx.post(f"http://127.0.0.1:{port}/event", json=event, timeout=5)
            statuses[event["site_id"]] = answer.status_code
            assert time.monotonic() - start < 2
        return statuses

    def stored() -> int:
        return services.database["events"].count_documents({})

    with (
        running_alone(PROCFILE["ingest"], tmp_path / "ingest.log", **stores, INGESTION_PORT=str(port)),
        running_alone(PROCFILE["worker"], tmp_path / "worker.log", **stores),
        running_alone(PROCFILE["beat"], tmp_path / "beat.log", **stores),
    ):
        wait_for(lambda: answers(port), "the ingestion app")
        wait_for(lambda: set(post().values()) == {200}, "all servers")
        wait_for(lambda: services.journal.waiting() == 0, "empty journals")
        before = stored()
        with frozen([further[1]]):
            for _ in range(3):
                assert post() == {site: 503 if site in theirs else 200 for site in SITES}
            wait_for(lambda: stored() == before + 3 * (len(SITES) - len(theirs)), "the events of the other sites")
            assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        wait_for(lambda: set(post().values()) == {200}, "all servers again")
        wait_for(lambda: services.journal.waiting() == 0, "empty journals again")
        found = audit(Audited(services.ledger, services.journal, services.events, services.dead_letters))
    assert found.faults == []


def test_beat_names_a_server_that_is_missing_in_the_setting(settings: Settings, services: Services, tmp_path: Path):
    services.store_notes.note_journals(["b"])
    log = tmp_path / "beat.log"
    with running_alone(PROCFILE["beat"], log, **environment(settings, tmp_path), LOG_FORMAT="json"):
        (line,) = wait_for(lambda: [x for x in log.read_text().splitlines() if "journal_not_set" in x], "the warning")
    assert json.loads(line)["journal"] == "b"


def test_two_names_of_one_server_stop_the_start(several: Settings, services: Services, tmp_path: Path):
    services.store_notes.check_redis()
    wrong = several.journal_urls.replace("b=", "c=").replace("127.0.0.1", "localhost")
    stores = environment(several, tmp_path) | {"JOURNAL_URLS": f"{several.journal_urls},{wrong}"}
    for name in ("ingest", "worker", "beat"):
        log = tmp_path / f"{name}.log"
        with running_alone(PROCFILE[name], log, **stores, INGESTION_PORT=str(pick_port(0))) as process:
            assert process.wait(30) != 0
        assert "The Redis of the journal c is that of the journal b." in log.read_text()


def _wait_until_still(services: Services, name: str) -> None:
    """Wait until no process appends to this journal any more: none for as long as gunicorn keeps old processes."""
    seen, since = accepted(services, name), time.monotonic()
    while time.monotonic() - since < 2:
        if (now := accepted(services, name)) != seen:
            seen, since = now, time.monotonic()
        time.sleep(0.1)
