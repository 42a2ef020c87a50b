"""Measures the basic speed of this machine at this moment. The figures of the benches are compared with it."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from pymongo.database import Database
from redis import Redis

from footfall.embedded_servers import pick_port
from tests.support.running_system import wait_for

INSERTS = 20  # writes of a thousand documents
ENTRY = (
    b'{"id":"%032x","site_id":"bench","event_type":"page_view","timestamp":"2026-11-22T10:00:00+00:00",' + b"x" * 120
)


def cpu_loops() -> float:
    """Millions of iterations of an empty Python loop per second."""
    start = time.perf_counter()
    for _ in range(5_000_000):
        pass
    return 5 / (time.perf_counter() - start)


def appends(redis: Redis) -> float:
    """Entries per second, with one XADD at a time, each on disk before the next."""
    return _rate(lambda: redis.xadd("bench:calibration", {"event": ENTRY}), 2000)


def appends_by_hundred(redis: Redis) -> float:
    """Entries per second, with a hundred XADDs in a pipeline."""

    def hundred() -> None:
        line = redis.pipeline(transaction=False)
        for _ in range(100):
            line.xadd("bench:calibration", {"event": ENTRY})
        line.execute()

    rate = 100 * _rate(hundred, 200)
    redis.delete("bench:calibration")
    return rate


def inserts(database: Database[dict[str, Any]]) -> float:
    """Documents per second: insert_many of 1,000 documents, indexed like `events`, with majority and journal."""
    collection = database["bench_calibration"]
    collection.create_index([("site_id", 1), ("timestamp", 1)])
    now = datetime.now(UTC)

    def thousand() -> None:
        collection.insert_many([_document(now) for _ in range(1000)], ordered=False)

    rate = 1000 * _rate(thousand, INSERTS)
    collection.drop()
    return rate


def _document(now: datetime) -> dict[str, Any]:
    user = uuid.uuid4()
    return {
        "_id": user, "site_id": "bench", "event_type": "page_view", "path": "/pricing", "user_id": user.hex,
        "timestamp": now, "received_at": now, "created_at": now,
    }  # fmt: skip


@contextmanager
def serving(app: str, folder: Path, *options: str, **settings: str) -> Iterator[int]:
    """Runs an app under the same gunicorn settings as Footfall's apps, except for `options`. Yields its port."""
    port = pick_port(0)
    command = [sys.executable, "-m", "gunicorn", "--config", "python:config.gunicorn", "--bind", f"127.0.0.1:{port}"]
    with (folder / "serving.log").open("ab") as log:
        process = subprocess.Popen([*command, *options, app], stdout=log, stderr=log, env=os.environ | settings)
    try:
        wait_for(lambda: answers(port), app)
        yield port
    finally:
        process.terminate()
        process.wait()


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code < 500
    except httpx.HTTPError:
        return False


def _rate(act: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        act()
    return times / (time.perf_counter() - start)
