"""`make chaos`: kills and freezes random parts of the running system, then counts the outcome of each event.

Producers post events, and repeat each with its event_id until it is acknowledged. Meanwhile processes are killed with
-9, or frozen for a while, in an order that the seed fixes. Then the system drains, and the ids are compared: every
acknowledged event must be in MongoDB, no event may be stored twice, and the ledger must balance. Prints a table, and
exits with 1 if an event was lost or doubled, or if the ledger does not balance. If the system does not drain, it prints
processes, journal, queues, stacks and logs.

FAULTS (20), SEED (1) and PRODUCERS (4) in the environment change the run.
"""

import http.client
import json
import math
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import psutil
from pymongo.database import Database
from redis import Redis
from redis.exceptions import RedisError

from analytics.events.event import id_from_client
from analytics.events.store import EventStore
from analytics.journal.audit import Audited, audit
from analytics.journal.dead_letters import DeadLetterStore
from analytics.journal.journal import JOURNAL_KEY, Journal
from analytics.journal.ledger import Ledger
from bench.ingestion import print_table
from bench.post_mortem import post_mortem
from config.celery import EVENTS_QUEUE
from tests.support.running_system import System, kill_if_there, wait_for

SITE = "chaos"
STALLED = 180  # seconds; a system whose journal has not shrunk for so long does not drain
# The parts to hit: a piece of their command line, and whether all of their processes are hit or one of them.
TARGETS = {
    "ingest, all": ("ingest_app", True),
    "ingest, one process": ("ingest_app", False),
    "worker, all": ("tasks worker", True),
    "worker, one pool process": ("tasks worker", False),
    "beat": ("tasks beat", True),
    "redis": ("redis-server", True),
    "mongodb": ("mongod", True),
}
FREEZES = (0.2, 4.0)  # seconds; longer than the collector's time limit for Redis and shorter than a task's for MongoDB
PAUSES = (0.1, 1.5)  # seconds between two faults
MOST_A_HIT = 20  # events in a hit of every other producer
PAGES = 50


class Tested(Protocol):
    """What is sent to, and what is counted: a System, or a system on several hosts. `ingest`: a URL."""

    ingest: str

    def redis(self) -> Redis: ...

    def database(self) -> AbstractContextManager[Database[dict[str, Any]]]: ...


@dataclass
class Tally:
    """The results of a run. Events are identified by their event_id. Each run that shares a system has its own site."""

    site: str = SITE
    faults: Counter[str] = field(default_factory=Counter)
    acknowledged: set[str] = field(default_factory=set)
    hits: int = 0  # hits with acknowledged events
    refused: Counter[str] = field(default_factory=Counter)
    answered_at: list[float] = field(default_factory=list)  # time.monotonic() of every 200
    slowest: float = 0.0  # seconds to the slowest answer, whatever its status
    stored: int = 0
    lost: set[str] = field(default_factory=set)
    doubled: int = 0
    dead: int = 0
    ledger: list[str] = field(default_factory=list)  # faults that the audit found in the ledger
    seconds_to_drain: float = 0.0

    @property
    def shut(self) -> float:
        """The longest time in seconds without a 200."""
        times = sorted(self.answered_at)
        return max((after - before for before, after in pairwise(times)), default=0.0)

    @property
    def is_sound(self) -> bool:
        return bool(self.acknowledged) and not (self.lost or self.doubled or self.dead or self.ledger)


def run_chaos(system: System, faults: int, seed: int, producers: int = 4, stalled: float = STALLED) -> Tally:
    """Causes `faults` faults in a running system. Returns when the system has drained.

    Raises AssertionError if a process is not restarted or the system does not drain. Before that it prints the system's
    state.
    """
    tally = Tally()
    try:
        with producing(system, tally, producers):
            chance = random.Random(seed)
            for _ in range(faults):
                time.sleep(chance.uniform(*PAUSES))
                tally.faults[_fault(system, chance)] += 1
        drain(system, tally, stalled)
    except AssertionError:
        print(post_mortem(system))
        raise
    return tally


@contextmanager
def producing(system: Tested, tally: Tally, producers: int = 4) -> Iterator[None]:
    """Sends events, each until it is acknowledged, while the block runs."""
    stop = threading.Event()
    threads = [threading.Thread(target=_produce, args=(system, n, tally, stop)) for n in range(producers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def drain(system: Tested, tally: Tally, stalled: float = STALLED) -> None:
    """Returns when no event waits any more, with everything counted.

    Raises AssertionError if the journal does not shrink for `stalled` seconds. There is no limit for the whole time,
    because the time that a backlog takes depends on the load of the machine.
    """
    start = shrunk_at = time.monotonic()
    least = math.inf
    while waiting := _waiting(system):
        now = time.monotonic()
        if waiting < least:
            least, shrunk_at = waiting, now
        if now - shrunk_at > stalled:
            raise AssertionError(f"an empty journal: {least} events wait, and none less for {stalled} s")
        time.sleep(0.1)
    tally.seconds_to_drain = time.monotonic() - start
    _count(system, tally)


def _fault(system: System, chance: random.Random) -> str:
    """Causes one fault and returns its description. Waits for a target that is being restarted."""
    name = chance.choice(list(TARGETS))
    freezes, seconds, pick = chance.random() < 0.4, chance.uniform(*FREEZES), chance.random()
    words, all_of_them = TARGETS[name]
    processes: Sequence[psutil.Process] = wait_for(lambda: system.part(words), name, 60)
    if not all_of_them:
        children = processes[1:] or processes
        processes = [children[int(pick * len(children))]]
    if not freezes:
        for process in processes:
            kill_if_there(process)
        return f"kill -9: {name}"
    _signal_all(processes, "suspend")
    time.sleep(seconds)
    _signal_all(processes, "resume")
    return f"freeze: {name}"


def _signal_all(processes: Sequence[psutil.Process], what: str) -> None:
    for process in processes:
        try:
            getattr(process, what)()
        except psutil.NoSuchProcess:
            continue


def _produce(system: Tested, producer: int, tally: Tally, stop: threading.Event) -> None:
    """Posts one hit after the other, each until it is acknowledged: hits with one event, or with several."""
    number = 0
    connection = _connect(system)
    while not stop.is_set():
        number += 1
        ids = [f"{producer}-{number}-{n}" for n in range(1 if producer % 2 else 1 + number % MOST_A_HIT)]
        event = {"site_id": tally.site, "event_type": "page_view", "path": f"/{number % PAGES}"}
        events = [event | {"event_id": x, "user_id": x} for x in ids]
        path, body = ("/event", json.dumps(events[0])) if producer % 2 else ("/events", json.dumps(events))
        acknowledged = False
        while not acknowledged and not stop.is_set():
            start = time.monotonic()
            try:
                connection.request("POST", path, body)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                tally.refused[type(error).__name__] += 1
                connection.close()
                connection = _connect(system)
                stop.wait(0.05)
                continue
            now = time.monotonic()
            tally.slowest = max(tally.slowest, now - start)
            if acknowledged := answer.status == 200:
                tally.acknowledged.update(ids)
                tally.hits += 1
                tally.answered_at.append(now)
            else:
                tally.refused[str(answer.status)] += 1
                stop.wait(0.05)
    connection.close()


def _connect(system: Tested) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(system.ingest).netloc, timeout=5)


def _waiting(system: Tested) -> float:
    """Events in the journal. Infinity if Redis does not answer."""
    try:
        return system.redis().xlen(JOURNAL_KEY)
    except RedisError:
        return math.inf


def _count(system: Tested, tally: Tally) -> None:
    with system.database() as database:
        stored = list(database["events"].find({"site_id": tally.site}, {"user_id": 1}))
        tally.dead = database["dead_letters"].count_documents({})
        tally.ledger = audited(system, database)
    ids = {document["_id"] for document in stored}
    tally.stored = len(stored)
    tally.doubled = len(stored) - len({document["user_id"] for document in stored})
    tally.lost = {event_id for event_id in tally.acknowledged if id_from_client(tally.site, event_id) not in ids}


def audited(system: Tested, database: Database[dict[str, Any]]) -> list[str]:
    """The faults of the ledger. Waits until it is at rest."""
    redis = system.redis()
    journal = Journal(redis, queue=EVENTS_QUEUE, batch=1000, claim_idle=35)
    stores = Audited(Ledger(redis, database), journal, EventStore(database), DeadLetterStore(database))
    found = wait_for(lambda: (found := audit(stores)).at_rest and found, "the ledger at rest")
    return found.faults


def outcome(tally: Tally) -> dict[str, str]:
    """The rows of a table."""
    return {
        "acknowledged": f"{len(tally.acknowledged):,} in {tally.hits:,} hits",
        "lost": str(len(tally.lost)),
        "doubled": str(tally.doubled),
        "dead letters": str(tally.dead),
        "ledger": "; ".join(tally.ledger) or "balanced",
        "stored (some were applied though not acknowledged)": f"{tally.stored:,}",
        "not acknowledged at first": ", ".join(f"{n} x {what}" for what, n in tally.refused.most_common()),
        "seconds to drain after the last fault": f"{tally.seconds_to_drain:.1f}",
    }


def main() -> None:
    faults, seed = int(os.environ.get("FAULTS", "20")), int(os.environ.get("SEED", "1"))
    with tempfile.TemporaryDirectory(prefix="footfall-chaos-") as folder:
        system = System(Path(folder), CLAIM_IDLE="5").start()
        start = time.monotonic()
        try:
            tally = run_chaos(system, faults, seed, int(os.environ.get("PRODUCERS", "4")))
            seconds = time.monotonic() - start
        finally:
            system.stop()
            system.kill()
    print(f"# make chaos FAULTS={faults} SEED={seed}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores\n")
    print_table("faults", {name: str(count) for name, count in sorted(tally.faults.items())})
    print_table("events", outcome(tally) | {"seconds per fault, all in all": f"{seconds / max(faults, 1):.2f}"})
    sys.exit(0 if tally.is_sound else 1)


if __name__ == "__main__":
    main()
