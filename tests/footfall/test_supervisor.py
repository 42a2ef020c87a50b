"""`make run` as a user sees it.

It starts, restarts dead processes, answers while Redis does not, stops, and keeps all data.
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from analytics.journal.journal import JOURNAL_KEY
from footfall.embedded_servers import pick_port
from tests.support.accounts import PASSWORD, token_in
from tests.support.running_system import UP, System, pick_ports, wait_for

SITE = "site"


@pytest.fixture
def own_system(tmp_path: Path) -> Iterator[System]:
    """A system for one test, which may break it."""
    system = System(tmp_path, CLAIM_IDLE="1")
    try:
        yield system
    finally:
        system.kill()


def views(system: System, site: str = SITE) -> int:
    try:
        return httpx.get(f"{system.report}/stats?site_id={site}", timeout=15).json().get("total_views", -1)
    except httpx.HTTPError:
        return -1


def event(site: str) -> dict[str, str]:
    return {"site_id": site, "event_type": "page_view"}


def post(system: System, site: str = SITE) -> int:
    return httpx.post(f"{system.ingest}/event", json=event(site), timeout=10).status_code


def link_of(system: System) -> str:
    """The link for the first owner, which a start prints once."""
    (link,) = re.findall(r"^http\S+/join/\S+$", system.output(), re.MULTILINE)
    return str(link)


def create_owner(link: str) -> None:
    with httpx.Client() as browser:
        form = {"csrf_token": token_in(browser.get(link).text), "email": "olga@example.org", "name": "Olga"}
        assert browser.post(link, data=form | {"password": PASSWORD}).status_code == 303


def test_ctrl_c_stops_everything_and_starting_again_finds_everything(own_system: System):
    own_system.start()
    assert "curl -X POST" in own_system.output()
    for worker in own_system.part("tasks worker"):
        worker.suspend()  # so that accepted events are still in the journal at the stop
    assert [post(own_system) for _ in range(20)] == [200] * 20
    for worker in own_system.part("tasks worker"):
        worker.resume()
    assert own_system.stop() == []
    assert "everything has stopped" in own_system.output()
    assert "Traceback" not in own_system.output()

    first_link = link_of(own_system)
    own_system.start()
    wait_for(lambda: views(own_system) == 20, "the 20 events")
    link = link_of(own_system)
    assert link != first_link, "each start makes another link"
    assert httpx.get(first_link).status_code == 404
    create_owner(link)
    assert httpx.get(link).status_code == 404, "a link works once"
    assert own_system.stop(signal.SIGTERM) == []

    own_system.start()
    assert "/join/" not in own_system.output(), "there is an owner"
    assert own_system.stop(signal.SIGTERM) == []


@pytest.mark.parametrize("line", ["", "redis is ready", "mongodb is ready", "Starting gunicorn"])
def test_ctrl_c_during_the_start_stops_everything_too(own_system: System, line: str):
    own_system.launch()
    wait_for(lambda: line in own_system.output() and own_system.process.children(), "the start", 60)
    start = time.monotonic()
    assert own_system.stop() == []
    assert time.monotonic() - start < 20
    assert UP not in own_system.output()


def test_killing_the_supervisor_leaves_no_process_behind(own_system: System):
    own_system.start()
    family = own_system.process.children(recursive=True)
    own_system.process.kill()
    _, left = psutil.wait_procs(family, timeout=60)
    assert left == []


def test_a_process_that_dies_is_restarted_and_nothing_is_lost(system: System):
    sent = 0
    for words in (["tasks beat"], ["gunicorn", "report"], ["mongod"], ["redis-server"], ["gunicorn", "ingest"]):
        old = system.part(*words)
        for process in old:
            process.kill()
        psutil.wait_procs(old, timeout=10)
        wait_for(lambda words=words: system.part(*words), f"a new {words}")
        sent += wait_for(lambda: _accepted(system, "killed"), f"an accepted event after {words} died")
    wait_for(lambda: views(system, "killed") == sent, "every accepted event in the report", 60)


def _accepted(system: System, site: str) -> int:
    try:
        return int(post(system, site) == 200)
    except httpx.HTTPError:
        return 0


def test_a_frozen_or_dead_redis_is_a_503_within_two_seconds_for_all_concurrent_requests(system: System):
    """64 clients at once are twice the number of threads: no client may wait for another client's time-out either."""
    assert post(system, "frozen") == 200
    (redis,) = system.part("redis-server")
    answers: list[tuple[int, float, str]] = []

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", system.ports["INGESTION_PORT"], timeout=30)
        start = time.monotonic()
        connection.request("POST", "/event", json.dumps(event("frozen")))
        answer = connection.getresponse()
        answers.append((answer.status, time.monotonic() - start, answer.headers.get("Retry-After", "")))
        connection.close()

    redis.suspend()
    clients = [threading.Thread(target=client) for _ in range(64)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    redis.resume()
    assert {status for status, _, _ in answers} == {503}
    assert {retry_after.isdigit() for _, _, retry_after in answers} == {True}
    assert max(took for _, took, _ in answers) < 2.0
    wait_for(lambda: _accepted(system, "frozen"), "an accepted event after the thaw", 5)

    system.process.suspend()  # so that Redis stays dead
    redis.kill()
    answers.clear()
    client()
    system.process.resume()
    ((status, took, _),) = answers
    assert status == 503
    assert took < 2.0
    wait_for(lambda: _accepted(system, "frozen"), "an accepted event after the start of another Redis")


def test_events_wait_while_mongodb_is_unreachable_and_the_task_retries(system: System):
    redis = system.redis()
    wait_for(lambda: redis.xlen(JOURNAL_KEY) == 0, "an empty journal")
    (mongod,) = system.part("mongod")
    mongod.suspend()
    before = retries(system)
    assert [post(system, "waiting") for _ in range(5)] == [200] * 5
    wait_for(lambda: retries(system) > before, "a retry", 40)
    assert redis.xlen(JOURNAL_KEY) == 5
    mongod.resume()
    wait_for(lambda: views(system, "waiting") == 5, "the events", 60)
    with system.database() as database:
        assert database["dead_letters"].count_documents({}) == 0


def retries(system: System) -> int:
    return system.output().count('"event": "task_retried"')


def run_supervisor(**environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the supervisor on its own ports: a running Footfall may use the default ones."""
    names = ["INGESTION_PORT", "REPORTING_PORT", "WORKER_METRICS_PORT", "FLOWER_PORT"]
    ports = {name: str(port) for name, port in zip(names, pick_ports(4), strict=True)}
    return subprocess.run(
        [sys.executable, "-m", "footfall.supervisor"],
        env=os.environ | ports | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_taken_port_is_named_with_its_setting(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = run_supervisor(DATA_DIR=str(tmp_path), REPORTING_PORT=str(port))
    assert ran.returncode == 1
    assert f"port {port} is in use. Free it, or set REPORTING_PORT" in ran.stderr


def test_a_port_set_for_two_things_is_named(tmp_path: Path):
    port = str(pick_port(0))
    ran = run_supervisor(DATA_DIR=str(tmp_path), REPORTING_PORT=port, REDIS_PORT=port)
    assert ran.returncode == 1
    assert f"port {port} is set twice. Change REPORTING_PORT" in ran.stderr


def test_an_invalid_data_dir_is_named():
    ran = run_supervisor(DATA_DIR="/proc/nowhere")
    assert ran.returncode == 1
    assert "DATA_DIR" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_invalid_setting_is_named_at_the_start(tmp_path: Path):
    ran = run_supervisor(DATA_DIR=str(tmp_path), STORE_BATCH="many")
    assert ran.returncode == 1
    assert "STORE_BATCH" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_embedded_server_moves_when_its_port_is_taken_and_its_data_moves_along(own_system: System):
    own_system.start()
    assert post(own_system) == 200
    wait_for(lambda: views(own_system) == 1, "the event")
    own_system.stop()
    port = own_system.ports["MONGODB_PORT"]
    with socket.create_server(("127.0.0.1", port)):
        own_system.start()
        assert f"port {port} is in use; mongodb uses port " in own_system.output()
        wait_for(lambda: views(own_system) == 1, "the event, on another port")


def test_a_second_make_run_in_the_same_folder_is_refused(system: System):
    ran = run_supervisor(DATA_DIR=system.environment["DATA_DIR"])
    assert ran.returncode == 1
    assert "another `make run`" in ran.stderr
