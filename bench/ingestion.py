"""`make bench`: single events through the whole real stack, and what the machine can do beside it.

Prints: requests/s and latencies, events stored/s, CPU for each process, lost and doubled events (must be 0: exit 1).
SECONDS (10) and CONNECTIONS (64) in the environment change the load.
"""

import json
import os
import platform
import sys
import tempfile
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import psutil

from analytics.event import id_from_client
from analytics.event_schema import load_event
from analytics.journal import JOURNAL_KEY, Journal, Line
from bench import calibration
from bench.load import Load, post_request, run_load
from config.celery import EVENTS_QUEUE
from tests.system import System, wait_for

SECONDS = float(os.environ.get("SECONDS", "10"))
CONNECTIONS = int(os.environ.get("CONNECTIONS", "64"))
SITE = "bench"
BACKLOG = 60_000
PARTS = {"ingest": "ingest_app", "worker": "tasks worker", "beat": "tasks beat", "report": "report_app",
         "flower": "tasks flower", "redis": "redis-server", "mongodb": "mongod"}  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="footfall-bench-") as folder:
        system = System(Path(folder)).start()
        try:
            sound = bench(system, Path(folder))
        finally:
            system.stop()
            system.kill()
    sys.exit(0 if sound else 1)


def bench(system: System, folder: Path) -> bool:
    print(f"# make bench, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine()}\n")
    with system.database() as database:
        inserts = calibration.inserts(database)
        limits = {
            "CPU loop, million turns/s": calibration.cpu_loops(),
            "XADD, one at a time, entries/s": calibration.appends(system.redis()),
            "XADD, a hundred in a pipeline, entries/s": calibration.appends_by_hundred(system.redis()),
            "insert_many, a thousand at a time, documents/s": inserts,
        }
    constant = calibration.constant_answer(folder, _request, CONNECTIONS, SECONDS / 2)
    limits["constant answer, same Flask and gunicorn, requests/s"] = constant.rate
    print_table("calibration", {name: f"{value:,.1f}" for name, value in limits.items()})

    before = cpu_seconds(system)
    start = time.perf_counter()
    load = run_load(system.ports["INGESTION_PORT"], _request, connections=CONNECTIONS, seconds=SECONDS)
    wait_for(lambda: system.redis().xlen(JOURNAL_KEY) == 0, "an empty journal", 300)
    took = time.perf_counter() - start
    used = {name: cpu - before[name] for name, cpu in cpu_seconds(system).items()}

    drained = drain(system, BACKLOG, SITE + "-drain")
    lost, doubled = _check(system, load)
    accepted = load.statuses[200]
    print_table(
        f"POST /event, one event a hit, {CONNECTIONS} connections, {SECONDS:g} s",
        {
            "requests/s": f"{load.rate:,.0f}",
            "of the constant answer": f"{load.rate / constant.rate:.2f}",
            "p50, p99 (constant answer)": f"{load.latency(0.5):.1f} ms, {load.latency(0.99):.1f} ms "
            f"({constant.latency(0.5):.1f}, {constant.latency(0.99):.1f})",
            "answers": ", ".join(f"{count:,} x {status}" for status, count in load.statuses.items()),
            "requests never answered": str(load.dropped),
            "events stored/s, last one drained": f"{accepted / took:,.0f}",
            "drained after the last request": f"{took - load.seconds:.2f} s",
            "lost": str(lost),
            "doubled": str(doubled),
        },
    )
    print_table(
        f"the worker alone: {BACKLOG:,} single-event entries waiting",
        {
            "drained, events/s": f"{drained:,.0f}",
            "of bare insert_many": f"{drained / inserts:.2f}",
        },
    )
    print_table("CPU seconds for 1,000 events", {name: f"{cpu / accepted * 1000:.2f}" for name, cpu in used.items()})
    return lost == doubled == 0 and accepted > 0


def drain(system: System, backlog: int, site: str) -> float:
    """Events a second from the journal to MongoDB, when they already wait and nothing else runs."""
    workers = system.part("tasks worker")
    for worker in workers:
        worker.suspend()
    redis, now = system.redis(), datetime.now(UTC)
    journal = Journal(redis, queue=EVENTS_QUEUE, batch=1000, claim_idle=35)
    for first in range(0, backlog, 500):
        bodies = [_body(number, site) for number in range(first, first + 500)]
        journal.append([Line.of(load_event(body, now)) for body in bodies])
    for worker in workers:
        worker.resume()
    wait_for(lambda: redis.xlen(JOURNAL_KEY) < backlog, "the first batch", 60)
    start, first_seen = time.perf_counter(), redis.xlen(JOURNAL_KEY)
    wait_for(lambda: redis.xlen(JOURNAL_KEY) == 0, "an empty journal", 300)
    return first_seen / (time.perf_counter() - start)


def _body(number: int, site: str) -> dict[str, str]:
    return {
        "site_id": site, "event_type": "page_view", "path": f"/page/{number % 100}", "user_id": f"user-{number}",
        "timestamp": "2026-11-22T10:00:00Z", "event_id": f"{number}",
    }  # fmt: skip


def _request(number: int) -> bytes:
    return post_request("bench", "/event", json.dumps(_body(number, SITE)).encode())


def _check(system: System, load: Load) -> tuple[int, int]:
    """Events acknowledged and not in MongoDB; documents there beyond one for each event sent."""
    with system.database() as database:
        stored = [document["user_id"] for document in database["events"].find({"site_id": SITE}, {"user_id": 1})]
        ids = {document["_id"] for document in database["events"].find({"site_id": SITE}, {"_id": 1})}
    lost = sum(id_from_client(SITE, f"{number}") not in ids for number in load.answered)
    return lost, len(stored) - len(set(stored))


def cpu_seconds(system: System) -> dict[str, float]:
    used: dict[str, float] = defaultdict(float)
    for name, words in PARTS.items():
        used[name] = sum(sum(p.cpu_times()[:4]) for p in system.part(words))
    used["load generator"] = sum(psutil.Process().cpu_times()[:2])
    return used


def machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def print_table(title: str, rows: dict[str, str]) -> None:
    print(f"| {title} | |\n|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {value} |")
    print(flush=True)


if __name__ == "__main__":
    main()
