"""`make bench`: single events through the whole real stack, compared with the limits of the machine.

Three variants run in turns, so that other load on the machine affects all of them: an app with a constant answer,
Footfall with a write per request, and Footfall with its group commit. Prints rates and latencies, the speed at which
the worker drains the journal, CPU and memory per process, and lost and doubled events (must be 0, otherwise it exits
with 1). The processes of Footfall do not see the packages for development, which `make run` does not install.
SECONDS (20, for all turns of a variant) and CONNECTIONS (64) change the load.
"""

import json
import os
import platform
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
from msgspec.structs import replace
from redis import Redis

from analytics.events.event import Event, id_from_client, new_id
from analytics.events.schema import load_event
from analytics.journal.journal import JOURNAL_KEY, Journal, Line
from analytics.visitors.salts import SALT_ZONE, Salts, visitor_id
from bench import calibration
from bench.hits import hit, user_agents, weights
from bench.load import Load, post_request, run_load
from config.celery import EVENTS_QUEUE
from tests.support.running_system import System, wait_for

SECONDS = float(os.environ.get("SECONDS", "20"))
CONNECTIONS = int(os.environ.get("CONNECTIONS", "64"))
TURNS = 5
CONSTANT, UNGROUPED, FOOTFALL = "constant answer, same Flask and gunicorn", "a write for each request", "group commit"
BACKLOG = 60_000
PARTS = {"ingest": "ingest_app", "worker": "tasks worker", "beat": "tasks beat", "report": "report_app",
         "flower": "footfall.flower", "redis": "redis-server", "mongodb": "mongod"}  # fmt: skip
REST = 15.0  # seconds without work before memory is measured


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
    """Whether no event was lost or doubled."""
    print(f"# make bench, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine()}\n")
    time.sleep(REST)
    print_memory("memory of the idle system after its start, MB (PSS)", system)
    inserts = _calibrate(system)
    rates, used = _take_turns(system, folder)
    drained, drained_hits = drain(system, BACKLOG, "drain"), drain(system, BACKLOG, "hits", as_hits=True)
    sent = {site: load for name in rates if name != CONSTANT for site, load in rates[name].items()}
    lost, doubled = _check(system, sent)
    _print_rates({name: [*loads.values()] for name, loads in rates.items()}, sent.values(), lost, doubled)
    print_table(
        f"the worker alone: {BACKLOG:,} single-event entries waiting",
        {
            "drained, events/s": f"{drained:,.0f}",
            "of bare insert_many": f"{drained / inserts:.2f}",
            "drained, hits of browsers, with URL, referrer and sender to enrich, events/s": f"{drained_hits:,.0f}",
            "of bare insert_many, hits of browsers": f"{drained_hits / inserts:.2f}",
        },
    )
    accepted = sum(load.statuses[200] for load in rates[FOOTFALL].values())
    print_table("CPU seconds for 1,000 events", {name: f"{cpu / accepted * 1000:.2f}" for name, cpu in used.items()})
    time.sleep(REST)
    print_memory("memory of the idle system after the bench, MB (PSS)", system)
    return lost == doubled == 0 and accepted > 0


def _calibrate(system: System) -> float:
    """Print the limits of the machine. Returns the documents/s of insert_many."""
    with system.database() as database:
        inserts = calibration.inserts(database)
        limits = {
            "CPU loop, million turns/s": calibration.cpu_loops(),
            "XADD, one at a time, entries/s": calibration.appends(system.redis()),
            "XADD, a hundred in a pipeline, entries/s": calibration.appends_by_hundred(system.redis()),
            "insert_many, a thousand at a time, documents/s": inserts,
        }
    print_table("calibration", {name: f"{value:,.1f}" for name, value in limits.items()})
    return inserts


def _take_turns(system: System, folder: Path) -> tuple[dict[str, dict[str, Load]], Mapping[str, float]]:
    """The loads of each variant by their sites, and the CPU seconds of each part while Footfall had its turns."""
    redis, rates, used = system.redis(), defaultdict[str, dict[str, Load]](dict), Counter[str]()
    stores = {"REDIS_URL": system.redis_url, "MONGODB_URI": system.mongodb_uri}
    with (
        calibration.serving("bench.constant:app", folder) as constant,
        calibration.serving("bench.ungrouped:app", folder, **stores) as ungrouped,
    ):
        ports = {CONSTANT: constant, UNGROUPED: ungrouped, FOOTFALL: system.ports["INGESTION_PORT"]}
        for turn in range(TURNS):
            for name, port in ports.items():
                before, site = cpu_seconds(system), f"{name} {turn}"
                rates[name][site] = run_load(port, _requests(site), connections=CONNECTIONS, seconds=SECONDS / TURNS)
                wait_for(lambda: redis.xlen(JOURNAL_KEY) == 0, "an empty journal", 300)
                if name == FOOTFALL:
                    used.update({part: cpu - before[part] for part, cpu in cpu_seconds(system).items()})
    return rates, used


def _print_rates(rates: Mapping[str, list[Load]], sent: Iterable[Load], lost: int, doubled: int) -> None:
    best = {name: sorted(loads, key=lambda load: load.rate)[TURNS // 2] for name, loads in rates.items()}
    print_table(
        f"POST /event, one event a hit, {CONNECTIONS} connections, median of {TURNS} turns of {SECONDS / TURNS:.1f} s",
        {
            name: f"{load.rate:,.0f} requests/s, {load.rate / best[CONSTANT].rate:.2f} of the constant answer,"
            f" p50 {load.latency(0.5):.1f} ms, p99 {load.latency(0.99):.1f} ms"
            for name, load in best.items()
        }
        | {
            "group commit against a write for each": ", ".join(
                f"{after.rate / before.rate:.2f}"
                for before, after in zip(rates[UNGROUPED], rates[FOOTFALL], strict=True)
            ),
            "answers": ", ".join(f"{n:,} x {status}" for status, n in _statuses(rates[FOOTFALL]).items()),
            "requests never answered": str(sum(load.dropped for load in sent)),
            "lost": str(lost),
            "doubled": str(doubled),
        },
    )


def drain(system: System, backlog: int, site: str, *, as_hits: bool = False) -> float:
    """Events per second from the journal to MongoDB, if they already wait and nothing else runs.

    `as_hits`: the events are like those of browsers (bench/hits.py). Otherwise a server has already described them.
    """
    with workers_held_back(system):
        fill(system.redis(), backlog, site, as_hits=as_hits)
    return drained(system.redis(), backlog)


@contextmanager
def workers_held_back(system: System) -> Iterator[None]:
    """No worker stores anything during the block."""
    workers = system.part("tasks worker")
    for worker in workers:
        worker.suspend()
    try:
        yield
    finally:
        for worker in workers:
            worker.resume()


def drained(redis: Redis, backlog: int) -> float:
    """Events per second from the journal, from the first batch on. Returns when it is empty."""
    wait_for(lambda: redis.xlen(JOURNAL_KEY) < backlog, "the first batch", 60)
    start, first_seen = time.perf_counter(), redis.xlen(JOURNAL_KEY)
    wait_for(lambda: redis.xlen(JOURNAL_KEY) == 0, "an empty journal", 300)
    return first_seen / (time.perf_counter() - start)


def fill(redis: Redis, backlog: int, site: str, *, as_hits: bool) -> None:
    """Append this many events to the journal. `as_hits`: see drain."""
    now = datetime.now(UTC)
    journal = Journal(redis, queue=EVENTS_QUEUE, batch=1000, claim_idle=35)
    for first in range(0, backlog, 500):
        bodies = [_body(number, site) for number in range(first, first + 500)]
        events = _hits(redis, site) if as_hits else [load_event(body, now) for body in bodies]
        journal.append([Line.of(event) for event in events])


def _hits(redis: Redis, site: str) -> list[Event]:
    """500 events."""
    chance = random.Random()
    agents = user_agents(random.Random(1))
    salts, today = Salts(redis, lambda: datetime.now(UTC)), datetime.now(UTC).date()
    salt = salts.of(SALT_ZONE, today)
    found = (hit(chance, agent, site) for agent in chance.choices(agents, weights(agents), k=500))
    return [
        replace(event, id=new_id(), visitor_id=visitor_id(salt, site, client), client=salts.seal(client, today))
        for event, client in found
    ]


def _body(number: int, site: str) -> dict[str, str]:
    return {
        "site_id": site, "event_type": "page_view", "path": f"/page/{number % 100}", "user_id": f"user-{number}",
        "timestamp": "2026-11-22T10:00:00Z", "event_id": f"{number}",
    }  # fmt: skip


def _requests(site: str) -> Callable[[int], bytes]:
    return lambda number: post_request("bench", "/event", json.dumps(_body(number, site)).encode())


def _statuses(loads: Iterable[Load]) -> Counter[int]:
    return sum((load.statuses for load in loads), Counter())


def _check(system: System, sent: Mapping[str, Load]) -> tuple[int, int]:
    """The number of acknowledged events that are not in MongoDB, and of documents in excess of one per event sent."""
    lost = doubled = 0
    with system.database() as database:
        for site, load in sent.items():
            stored = list(database["events"].find({"site_id": site}, {"user_id": 1}))
            ids = {document["_id"] for document in stored}
            lost += sum(id_from_client(site, f"{number}") not in ids for number in load.answered)
            doubled += len(stored) - len({document["user_id"] for document in stored})
    return lost, doubled


def cpu_seconds(system: System) -> dict[str, float]:
    used: dict[str, float] = defaultdict(float)
    for name, words in PARTS.items():
        used[name] = sum(sum(p.cpu_times()[:4]) for p in system.part(words))
    used["load generator"] = sum(psutil.Process().cpu_times()[:2])
    return used


def print_memory(title: str, system: System) -> None:
    """Prints the memory of each part and of all. PSS divides a page among the processes that share it."""
    used = {name: [pss(process) for process in system.part(words)] for name, words in PARTS.items()}
    used["supervisor"] = [pss(system.process)]
    rows = {name: f"{sum(each):.0f} = {' + '.join(f'{used:.0f}' for used in each)}" for name, each in used.items()}
    print_table(title, rows | {"all": f"{sum(map(sum, used.values())):.0f}"})


def pss(process: psutil.Process) -> float:
    """The memory of a process in MB. A page that processes share counts once for all of them."""
    return float(process.memory_full_info().pss) / 1e6


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
