"""`make outage`: MongoDB is unreachable under a steady load for a long time, then returns. No event may be lost.

First measures how fast the worker drains a backlog without any fault. Then it kills mongod, posts about RATE events per
second for MINUTES, starts mongod again, and measures how fast the backlog drains. At the end it measures once more
without a fault. It compares every acknowledged id with the content of MongoDB. Prints a table, and exits with 1 if an
event was lost or doubled, or if the backlog drained at less than half the speed.

MINUTES (10) and RATE (200) in the environment change the run.
"""

import json
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from analytics.events.event import id_from_client
from analytics.journal.journal import JOURNAL_KEY
from bench.ingestion import PARTS, cpu_seconds, drain, machine, print_table
from bench.load import Load, post_request, run_load
from config.celery import EVENTS_QUEUE
from footfall.embedded_servers import Server, mongo_server, pick_port
from tests.support.running_system import System, running, wait_for

SITE = "outage"
CONNECTIONS = 20
DRAIN_LIMIT = 1800  # seconds


@dataclass
class Outage:
    """The results of a run.

    Rates are events per second. `bytes_each`: the memory of Redis that a waiting event takes.
    """

    load: Load
    drained_before: float
    drained: float = 0.0
    drained_after: float = 0.0
    backlog: int = 0
    most_wake_ups: int = 0
    bytes_each: float = 0.0
    seconds_to_go_on: float = 0.0
    seconds_to_drain: float = 0.0
    lost: int = 0
    doubled: int = 0
    dead: int = 0
    cpu: dict[str, float] | None = None

    @property
    def is_sound(self) -> bool:
        return bool(self.load.answered) and not (self.lost or self.doubled or self.dead)

    @property
    def is_fast(self) -> bool:
        return self.drained > min(self.drained_before, self.drained_after) / 2


def run_outage(system: System, mongodb: Server, seconds: float, rate: float, reference: int = 60_000) -> Outage:
    """Runs an outage.

    `system` runs on `mongodb`, and neither is started yet. `reference`: the size of the reference backlogs.
    """
    redis = system.redis()
    with running(mongodb):
        system.start()
        drained_before = drain(system, reference, "before")
        memory = redis.info("memory")["used_memory"]
    before = cpu_seconds(system)
    load, most_wake_ups = _load(system, seconds, rate)
    cpu = {name: used - before[name] for name, used in cpu_seconds(system).items()}
    waiting = redis.xlen(JOURNAL_KEY)
    outage = Outage(load, drained_before, backlog=waiting, most_wake_ups=most_wake_ups, cpu=cpu)
    outage.bytes_each = (redis.info("memory")["used_memory"] - memory) / waiting
    with running(mongodb):
        back = time.perf_counter()
        wait_for(lambda: redis.xlen(JOURNAL_KEY) < waiting * 0.9, "the first tenth", 60)
        start, first_seen = time.perf_counter(), redis.xlen(JOURNAL_KEY)
        outage.seconds_to_go_on = start - back
        wait_for(lambda: redis.xlen(JOURNAL_KEY) == 0, "an empty journal", DRAIN_LIMIT)
        outage.drained = first_seen / (time.perf_counter() - start)
        outage.seconds_to_drain = time.perf_counter() - back
        outage.drained_after = drain(system, reference, "after")
        _count(system, outage)
        assert system.stop() == [], "the system left processes behind"
    return outage


def _load(system: System, seconds: float, rate: float) -> tuple[Load, int]:
    """Applies a steady load for `seconds`. Returns it, and the greatest length of Celery's queue meanwhile."""
    loads: list[Load] = []

    def post() -> None:
        port, pause = system.ports["INGESTION_PORT"], CONNECTIONS / rate
        loads.append(run_load(port, _request, connections=CONNECTIONS, seconds=seconds, pause=pause))

    redis, longest = system.redis(), 0
    thread = threading.Thread(target=post)
    thread.start()
    while thread.is_alive():
        longest = max(longest, redis.llen(EVENTS_QUEUE))
        thread.join(timeout=0.1)
    return loads[0], longest


def _request(number: int) -> bytes:
    event = {
        "site_id": SITE, "event_type": "page_view", "path": f"/page/{number % 100}", "user_id": f"{number}",
        "timestamp": "2026-11-22T10:00:00Z", "event_id": f"{number}",
    }  # fmt: skip
    return post_request("bench", "/event", json.dumps(event).encode())


def _count(system: System, outage: Outage) -> None:
    with system.database() as database:
        stored = list(database["events"].find({"site_id": SITE}, {"user_id": 1}))
        outage.dead = database["dead_letters"].count_documents({})
    ids = {document["_id"] for document in stored}
    outage.lost = sum(id_from_client(SITE, f"{number}") not in ids for number in outage.load.answered)
    outage.doubled = len(stored) - len({document["user_id"] for document in stored})


def main() -> None:
    minutes, rate = float(os.environ.get("MINUTES", "10")), float(os.environ.get("RATE", "200"))
    with tempfile.TemporaryDirectory(prefix="footfall-outage-") as folder:
        mongodb = mongo_server(Path(folder) / "mongodb", pick_port(0))
        system = System(Path(folder), MONGODB_URI=mongodb.url)
        try:
            outage = run_outage(system, mongodb, minutes * 60, rate)
        finally:
            system.kill()
    print(f"# make outage MINUTES={minutes:g} RATE={rate:g}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine()}\n")
    load = outage.load
    print_table(
        f"MongoDB away for {minutes:g} minutes",
        {
            "acknowledged": f"{len(load.answered):,}, {load.rate:,.0f}/s",
            "answers": ", ".join(f"{count:,} x {status}" for status, count in load.statuses.items()),
            "requests never answered": str(load.dropped),
            "p50, p99": f"{load.latency(0.5):.1f} ms, {load.latency(0.99):.1f} ms",
            "lost": str(outage.lost),
            "doubled": str(outage.doubled),
            "dead letters": str(outage.dead),
            "backlog when MongoDB came back": f"{outage.backlog:,}",
            "Redis's memory for each waiting event": f"{outage.bytes_each:.0f} bytes",
            "wake-ups in Celery's queue, at most": str(outage.most_wake_ups),
            "until the first tenth of it was stored": f"{outage.seconds_to_go_on:.1f} s",
            "until all of it was": f"{outage.seconds_to_drain:.1f} s",
            "drained, events/s": f"{outage.drained:,.0f}",
            "the same worker without an outage, before and after, events/s": f"{outage.drained_before:,.0f}, "
            f"{outage.drained_after:,.0f}",
        },
    )
    used = outage.cpu or {}
    print_table("CPU during the outage", {name: f"{used[name] / load.seconds:.1%} of a core" for name in PARTS})
    sys.exit(0 if outage.is_sound and outage.is_fast else 1)


if __name__ == "__main__":
    main()
