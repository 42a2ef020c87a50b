"""Backup and restore of a whole system, by the commands that docs/backup.md shows."""

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from celery.schedules import crontab
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError

from analytics.backup.archive import PARTIAL, read_manifest
from analytics.events.event import id_from_client
from analytics.journal.journal import JOURNAL_KEY
from bench.load import Load, post_request, run_load
from footfall.demo_traffic import DEMO_SITES, day_events
from tests.support.running_system import BIN, ROOT, System, make_project, own_environment, wait_for

QUIET, BUSY = "quiet.example", "busy"


def commands_of(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


QUESTIONS: list[dict[str, Any]] = [
    {"metrics": ["visitors", "visits", "pageviews", "events", "bounce_rate", "visit_duration", "views_per_visit"]},
    *(
        {"metrics": ["visitors", "events"], "dimensions": [dimension]}
        for dimension in (
            "event:page",
            "event:goal",
            "visit:source",
            "visit:country",
            "visit:browser",
            "visit:exit_page",
        )
    ),
    {"metrics": ["visitors", "visits"], "dimensions": ["time:day"]},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a clone of this project, with the virtual environment."""
    project = make_project(tmp_path_factory.mktemp("clone") / "footfall", "STATS_TIME_LIMIT=19\n")
    (project / ".venv").symlink_to(BIN.parent)
    return project


@contextmanager
def ended(system: System) -> Iterator[System]:
    try:
        yield system
    finally:
        system.kill()


@pytest.fixture(scope="module")
def original(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A running system with events of a quiet site."""
    with ended(System(tmp_path_factory.mktemp("original"), project=folder, CLAIM_IDLE="5")) as system:
        system.start()
        until, site = datetime.now(UTC) - timedelta(hours=1), replace(DEMO_SITES[0], site_id=QUIET)
        days = [until.astimezone(site.zone).date() - timedelta(days=back) for back in range(4)]
        post_all(system, [event for day in days for event in day_events(site, day, 4, until, until.date())])
        drained(system)
        yield system


@pytest.fixture
def restored(folder: Path, tmp_path: Path) -> Iterator[System]:
    """A system that never ran."""
    with ended(System(tmp_path / "restored", project=folder, CLAIM_IDLE="5")) as system:
        system.folder.mkdir()
        yield system


def post_all(system: System, bodies: list[dict[str, Any]]) -> None:
    some = iter(bodies)
    while batch := list(islice(some, 200)):
        answer = httpx.post(f"{system.ingest}/events", json=batch, timeout=30)
        assert (answer.status_code, answer.json()["accepted"]) == (200, len(batch)), answer.text


def drained(system: System) -> None:
    redis = system.redis()
    wait_for(lambda: redis.xlen(JOURNAL_KEY) == 0, "an empty journal", 60)


def answers(system: System) -> list[Any]:
    found = []
    for question in QUESTIONS:
        query = {"site_id": QUIET, "date_range": "7d"} | question
        found.append(httpx.post(f"{system.report}/api/v2/query", json=query, timeout=30).json()["results"])
    return found


def run(system: System, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of the docs in the folder of the system. `make run` owns its stores, so none is set."""
    environment = own_environment() | system.environment
    ran = subprocess.run(
        ["sh", "-c", line],
        cwd=system.project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran


def start_command(system: System, *words: str) -> psutil.Popen:
    return psutil.Popen(
        [sys.executable, "-m", "footfall", *words],
        cwd=system.project,
        env=own_environment() | system.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@contextmanager
def load(system: System, site: str = BUSY, connections: int = 16) -> Iterator[Load]:
    """Events of the site, during the block. The result is complete when the block has ended."""
    seen, stop = Load(), threading.Event()

    def send() -> None:
        def request(n: int) -> bytes:
            body = json.dumps({"site_id": site, "event_type": "pageview", "path": f"/{n % 9}", "event_id": f"{n}"})
            return post_request("footfall", "/event", body.encode())

        vars(seen).update(
            vars(run_load(system.ports["INGESTION_PORT"], request, seconds=90, stop=stop, connections=connections))
        )

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def ids_of(system: System, site_id: str) -> set[Any]:
    with system.database() as database:
        return set(database["events"].distinct("_id", {"site_id": site_id}))


def test_a_system_that_is_copied_under_load_answers_the_same_after_the_restore(original: System, restored: System):
    backup, settings, restore, audit = commands_of("backup.md")[
        :4
    ]  # tests/footfall/test_archive_command.py has the rest
    with load(original) as seen:
        wait_for(lambda: len(ids_of(original, BUSY)) > 500, "a load")
        before = ids_of(original, BUSY)
        run(original, backup)
    assert set(seen.statuses) == {200}
    drained(original)
    run(restored, settings)
    assert "STATS_TIME_LIMIT='19.0'" in (restored.project / ".env").read_text()
    run(restored, restore)
    restored.start()
    drained(restored)
    assert answers(restored) == answers(original)
    answered = {id_from_client(BUSY, f"{n}") for n in seen.answered}
    assert before <= ids_of(restored, BUSY) <= answered
    assert "The ledger is correct" in run(restored, audit).stdout
    assert ids_of(restored, QUIET) == ids_of(original, QUIET)
    repeated = sorted(seen.answered)[:200]
    post_all(restored, [{"site_id": BUSY, "event_type": "pageview", "event_id": f"{n}"} for n in repeated])
    drained(restored)
    assert ids_of(restored, BUSY) <= answered
    assert "The ledger is correct" in run(restored, audit).stdout
    assert restored.stop() == []


def wait_for_events(system: System) -> None:
    """Wait until events are stored that were not there before."""
    with system.database() as database:
        before = database["events"].estimated_document_count()
        wait_for(lambda: database["events"].estimated_document_count() > before, "more events")


def test_a_backup_that_is_killed_at_any_point_is_not_taken_for_a_whole_one(original: System, tmp_path: Path):
    """Events arrive all the time, before and after each kill."""
    with load(original, "killed", connections=2) as seen:
        for n, written in enumerate(
            ("settings.env", "mongodb.events.bson.zst", "redis.ledger.bson.zst", "manifest.json")
        ):
            folder = tmp_path / f"{n}"
            partial = folder.with_name(folder.name + PARTIAL)
            wait_for_events(original)
            process = start_command(original, "backup", str(folder))

            def is_there(file=partial / written, folder=folder, process=process) -> bool:
                return file.exists() or folder.exists() or process.poll() is not None

            wait_for(is_there, written)
            process.kill()
            process.wait()
            wait_for_events(original)
            if folder.exists():  # it was complete before the signal arrived
                assert read_manifest(folder).files
                continue
            assert "documents in" in original.run_footfall("backup", str(folder)).stdout
            assert not partial.exists()
            assert read_manifest(folder).files
    assert set(seen.statuses) == {200}
    drained(original)


def kill_at(process: psutil.Popen, is_reached: Callable[[], bool]) -> None:
    """Kills a command at a point. The command stands still while this is checked, so it cannot go on meanwhile."""
    end = time.monotonic() + 60
    process.suspend()
    while not is_reached():
        assert time.monotonic() < end, "the command did not get there"
        process.resume()
        time.sleep(0.002)
        assert process.poll() is None, "the command has ended already"
        process.suspend()
    process.kill()
    process.wait()


def test_a_restore_that_is_killed_starts_no_system_and_is_continued(original: System, restored: System, tmp_path: Path):
    """No events can arrive meanwhile: a restore needs an empty system that does not run."""
    assert original.run_footfall("backup", str(tmp_path / "backup")).returncode == 0
    redis = restored.redis()

    def has_events() -> bool:
        # A new client finds a server at once that has just started.
        with MongoClient[dict[str, Any]](restored.mongodb_uri, serverSelectionTimeoutMS=50) as client:
            return client.get_default_database()["events"].estimated_document_count() > 100

    def has_counts() -> bool:
        return bool(redis.exists("footfall:books"))

    for is_reached in (lambda: True, has_events, has_counts):

        def is_there(is_reached: Callable[[], bool] = is_reached) -> bool:
            with suppress(RedisError, PyMongoError):
                return bool(redis.exists("footfall:stores")) and is_reached()
            return False

        kill_at(start_command(restored, "restore", str(tmp_path / "backup")), is_there)
        restored.launch()
        assert restored.process.wait(timeout=60) == 1
        assert "did not finish. Run the same `footfall restore` again to continue it" in restored.output()
    ran = restored.run_footfall("restore", str(tmp_path / "backup"), REDIS_URL="", MONGODB_URI="")
    assert ran.returncode == 0, ran.stderr
    restored.start()
    drained(restored)
    assert answers(restored) == answers(original)
    assert restored.run_footfall("audit").returncode == 0
    ran = restored.run_footfall("restore", str(tmp_path / "backup"))
    assert (ran.returncode, "Stop them first" in ran.stderr) == (1, True)


def test_cron_makes_a_backup_each_night_and_copies_it(original: System, tmp_path: Path):
    """Without rsync on this machine, the copy is not made."""
    text = (ROOT / "docs" / "backup.md").read_text(encoding="utf-8")
    ((schedule, command),) = re.findall(r"(?m)^((?:[\d*/,-]+ +){5})(.+)$", text)
    assert crontab.from_string(schedule.strip()).hour == {3}
    assert not re.search(r"(?<!\\)%", command), "cron ends the command at a % without a backslash"
    line = command.replace(r"\%", "%").replace("/srv/footfall", f"{original.project}")
    line = line.replace(" other:footfall/", f" {tmp_path}/")
    backup, _, copy = line.partition(" && rsync ")
    assert copy == f"-a backups/ {tmp_path}/"
    has_rsync = shutil.which("rsync") is not None
    run(original, line if has_rsync else backup)
    (made,) = (each for each in (original.project / "backups").iterdir() if re.fullmatch(r"\d{4}-\d\d-\d\d", each.name))
    assert read_manifest(made).files
    if has_rsync:
        assert read_manifest(tmp_path / made.name) == read_manifest(made)
        assert (tmp_path / made.name).stat().st_mode & 0o777 == 0o700


def test_the_commands_to_upgrade_run_while_the_system_runs(original: System):
    for line in commands_of("upgrading.md"):
        assert "Nothing to upgrade." in run(original, line).stdout
