"""What a system leaves behind: files that only its owner may read, and no warnings of libraries when it stops."""

import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tests.support.running_system import System, wait_for

ROOT = Path(__file__).parents[2]
# Keeps every function and class of Footfall in a thread that still runs when the interpreter ends.
HOLDS_EVERYTHING = """
import importlib, pkgutil, sys, threading
import analytics, report_app, tasks
tasks.app.loader.import_default_modules()
held = [
    thing
    for package in (analytics, report_app)
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + ".")
    if module.name != "report_app.wsgi"
    for thing in vars(importlib.import_module(module.name)).values()
    if callable(thing) and not getattr(thing, "__module__", "").startswith("_duckdb")
]
print(len(held))
running = threading.Event()
def hold(things):
    running.set()
    threading.Event().wait()
threading.Thread(target=hold, args=(held,), daemon=True).start()
running.wait()
del held
"""


PRIVATE = {stat.S_IFDIR: 0o700, stat.S_IFREG: 0o600}


def modes(folder: Path) -> dict[Path, int]:
    """The modes of the folder and everything in it, except symbolic links and files that disappear meanwhile."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        with suppress(FileNotFoundError):
            found[path] = path.lstat().st_mode
    return {path: mode for path, mode in found.items() if not stat.S_ISLNK(mode)}


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system that built a segment, and answered a report from it."""
    system = System(tmp_path_factory.mktemp("used"))
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    event = {"site_id": "site", "event_type": "page_view", "timestamp": yesterday}
    try:
        system.start()
        assert httpx.post(f"{system.ingest}/event", json=event, timeout=10).status_code == 200
        with system.database() as database:
            wait_for(lambda: database["segments.files"].count_documents({}), "a segment", 60)

        def views() -> int:
            return httpx.get(f"{system.report}/stats?site_id=site", timeout=15).json().get("total_views", 0)

        wait_for(lambda: [views() for _ in range(8)] == [1] * 8, "the event in the reports of each process", 30)
        yield system
    finally:
        system.kill()


def test_other_users_cannot_read_the_data_of_a_running_system(used: System):
    data = Path(used.environment["DATA_DIR"])
    found = modes(data)
    for part in ("redis", "mongodb", "segments"):
        assert data / part in found
    assert any(path.suffix == ".parquet" for path in found), "a copy of a segment"
    assert [
        f"{path} {mode:o}" for path, mode in found.items() if stat.S_IMODE(mode) != PRIVATE[stat.S_IFMT(mode)]
    ] == []


def test_data_that_other_users_can_read_are_closed_to_them_at_the_next_start(tmp_path: Path):
    system = System(tmp_path)
    data = Path(system.environment["DATA_DIR"])
    for folder in (data / "redis", data / "mongodb" / "journal", data / "segments"):
        folder.mkdir(parents=True)
        (folder / "old").write_text("")
    old_umask = {path: mode for path, mode in modes(data).items() if stat.S_IMODE(mode) & 0o077}
    assert len(old_umask) > 6, "this test needs a umask that lets others read"
    not_ours = tmp_path / "not ours"
    not_ours.touch(0o644)
    (data / "segments" / "elsewhere").symlink_to(not_ours)
    try:
        system.start()
    finally:
        system.kill()
    assert stat.S_IMODE(not_ours.stat().st_mode) == 0o644
    for folder in ("redis", "mongodb", "segments"):
        assert [path for path, mode in modes(data / folder).items() if stat.S_IMODE(mode) & 0o077] == []


def test_a_stop_logs_no_error_after_duckdb_was_used(used: System):
    assert used.stop() == []
    assert "everything has stopped" in used.output()
    assert "nanobind" not in used.output()
    assert "leaked" not in used.output()
    assert "Traceback" not in used.output()


def test_no_code_of_ours_keeps_a_type_of_duckdb_beyond_the_end_of_the_interpreter():
    ran = subprocess.run(
        [sys.executable, "-c", HOLDS_EVERYTHING], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 500
    assert ran.stderr == ""
