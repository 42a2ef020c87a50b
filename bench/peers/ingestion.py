"""`make bench-peers`: single events, browser hits and batches, sent to Footfall and to other stacks in one run.

All contenders run on this machine all the time, and take turns. In a turn, the workers stand still while the load
generator posts events. Then they store what waits, while nothing else happens. All contenders get a load one after the
other, in the reverse order in every other round. In the first two rounds, the workers of Footfall and of the stack that
it replaces also store exactly 100,000 waiting events of each kind. At the end, both are asked for a report while events
are posted (reading.py). The tables have the medians of the rounds, and the medians of the ratios within a round.

Exits with 1 if a contender lost or doubled an event, or if the reports differ. SECONDS (2) is the length of each load,
and ROUNDS (3) their number.
"""

import math
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from statistics import median

from redis import Redis

from bench import calibration
from bench.ingestion import machine
from bench.load import Load
from bench.peers.contenders import BULLMQ, FOOTFALL, Contender, all_contenders
from bench.peers.load import read_redis, run_load
from bench.peers.reading import RATE, Reads, read_during_writes
from bench.peers.requests import (
    BATCHES,
    BROWSER,
    DESCRIBED,
    DISPATCHED,
    LOADS,
    MANY,
    WAITING_DESCRIBED,
    WAITING_HITS,
    XADD,
    Traffic,
)
from bench.reports import own_mongodb, say
from config.clients import make_database
from config.settings import Settings
from footfall.embedded_servers import pick_port, redis_server
from tests.support.running_system import frozen, running, wait_for

SECONDS, ROUNDS = float(os.environ.get("SECONDS", "2")), int(os.environ.get("ROUNDS", "3"))
WAITING_ROUNDS = 2  # in each of which both contenders take two minutes for the waiting events
READS = 5 * SECONDS  # the length of the reads
CONSTANT, THREADS = "limit: constant answer, our worker and Flask", "limit: constant answer, gthread and Flask"
APPEND, INSERTS = "limit: XADD to Redis", "limit: insert_many of 1,000"
PARTS_OF_ALL = ("ingestion", "worker", "redis", "mongodb")
STALLED = 30  # seconds without a new document, after which the remaining events are lost


@dataclass
class Turn:
    """What one load did to one contender. CPU in µs an event, latencies in ms, memory in bytes an event."""

    load: Load
    accepted: int
    cpu: dict[str, float]
    waiting: float = 0.0
    drained: float = 0.0  # events/s
    drain_cpu: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.accepted / self.load.seconds


Key = tuple[str, str]  # the names of a contender and of a load


class Results:
    """All turns, and the speed of insert_many in documents/s, both in the order of rounds."""

    def __init__(self) -> None:
        self.turns: dict[Key, list[Turn]] = defaultdict(list)
        self.inserts: dict[str, list[float]] = defaultdict(list)  # by load
        self.sizes: dict[str, float] = {}  # bytes of a stored event, by contender
        self.memory: dict[str, dict[str, float]] = {}
        self.reads: dict[str, Reads] = {}
        self.wrong: list[str] = []

    def median_of(self, key: Key, value: Callable[[Turn], float]) -> float:
        return median(map(value, self.turns[key]))

    def ratio(self, ours: Key, theirs: Key, value: Callable[[Turn], float]) -> float:
        """The median of the ratios within a round."""
        pairs = zip(self.turns[ours], self.turns[theirs], strict=True)
        return median(value(a) / value(b) for a, b in pairs)

    def of_inserts(self, key: Key) -> float:
        pairs = zip(self.turns[key], self.inserts[key[1]], strict=True)
        return median(turn.drained / inserts for turn, inserts in pairs)


def main() -> None:
    moment = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    print(f"# make bench-peers SECONDS={SECONDS:g} ROUNDS={ROUNDS}, {moment}, {machine()}\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="footfall-bench-") as name:
        folder, results = Path(name), Results()
        with _limits(folder / "limits") as limits, all_contenders(folder) as contenders:
            for contender in contenders:
                _take_turn(contender, DESCRIBED, results)  # the first requests of a process are slow
            for number in range(ROUNDS):
                waiting = (WAITING_DESCRIBED, WAITING_HITS) if number < WAITING_ROUNDS else ()
                for traffic in (*LOADS, *waiting):
                    limits(results, traffic)
                    # In both orders the first two, whose ratios count, follow each other at once.
                    for contender in contenders if number % 2 == 0 else contenders[::-1]:
                        _measure(contender, traffic, results)
            _read(contenders, results)
            for contender in contenders:
                _measure_size(contender, results)
                results.memory[contender.name] = contender.memory()
    print_tables(results)
    sys.exit(1 if results.wrong else 0)


@contextmanager
def _limits(folder: Path) -> Iterator[Callable[[Results, Traffic], None]]:
    folder.mkdir()
    server = redis_server(folder / "redis", pick_port(0))
    with (
        running(server),
        own_mongodb(folder) as uri,
        calibration.serving("bench.constant:app", folder) as loop,
        calibration.serving("bench.constant:app", folder, "--worker-class", "gthread") as threads,
        make_database(Settings(mongodb_uri=uri)).client as client,
    ):

        def measure(results: Results, traffic: Traffic) -> None:
            if traffic is DESCRIBED:
                for name, port in ((CONSTANT, loop), (THREADS, threads)):
                    results.turns[name, traffic.name].append(_post(port, traffic))
                results.turns[APPEND, traffic.name].append(_append(server.port))
            results.inserts[traffic.name].append(calibration.inserts(client.get_default_database()))
            say(f"limits, {traffic.name}: insert_many {results.inserts[traffic.name][-1]:,.0f}/s")

        yield measure


def _post(port: int, traffic: Traffic) -> Turn:
    before = time.process_time()
    seconds = SECONDS if traffic.count is None else math.inf
    load = run_load(port, traffic.requests, connections=traffic.connections, seconds=seconds, count=traffic.count)
    accepted = load.statuses[200] * traffic.events
    return Turn(load, accepted, {"load generator": (time.process_time() - before) / max(accepted, 1) * 1e6})


def _append(port: int) -> Turn:
    before = time.process_time()
    load = run_load(port, [XADD], connections=DESCRIBED.connections, seconds=SECONDS, read=read_redis)
    Redis(port=port).flushall()
    accepted = load.statuses[200]
    return Turn(load, accepted, {"load generator": (time.process_time() - before) / max(accepted, 1) * 1e6})


def _measure(contender: Contender, traffic: Traffic, results: Results) -> None:
    if traffic.only is None or contender.name in traffic.only:
        turn = _take_turn(contender, traffic, results)
        results.turns[contender.name, traffic.name].append(turn)
        say(f"{contender.name}, {traffic.name}: {turn.rate:,.0f} events/s, drained {turn.drained:,.0f}/s")


def _take_turn(contender: Contender, traffic: Traffic, results: Results) -> Turn:
    stored = contender.events.estimated_document_count()
    empty, before = _used(contender.redis), contender.cpu_seconds()
    with frozen(contender.processes("worker")):
        turn = _post(contender.port, traffic)
        after = contender.cpu_seconds()
        turn.cpu |= _each(before, after, turn.accepted)
        turn.waiting = (_used(contender.redis) - empty) / turn.accepted
    turn.drained = _drain(contender, stored, turn.accepted)
    turn.drain_cpu = _each(after, contender.cpu_seconds(), turn.accepted)
    more = contender.events.estimated_document_count() - stored - turn.accepted
    if more or turn.load.dropped or len(turn.load.statuses) > 1:
        results.wrong.append(
            f"{contender.name}, {traffic.name}: {more:+} events stored, answers {dict(turn.load.statuses)},"
            f" {turn.load.dropped} requests never answered"
        )
    return turn


def _drain(contender: Contender, stored: int, accepted: int) -> float:
    """Events per second from the first stored event until all are stored, or until nothing has happened for a while."""
    count = contender.events.estimated_document_count
    wait_for(lambda: count() > stored, "the first stored event", STALLED)
    start, first = time.perf_counter(), count() - stored
    found, moved = first, start
    while found < accepted and time.perf_counter() - moved < STALLED:
        time.sleep(0.01)
        if (now := count() - stored) > found:
            found, moved = now, time.perf_counter()
    return (found - first) / (moved - start) if moved > start else 0.0


def _used(redis: Redis) -> int:
    return int(redis.info("memory")["used_memory"])


def _each(before: dict[str, float], after: dict[str, float], events: int) -> dict[str, float]:
    return {part: (after[part] - before[part]) / events * 1e6 for part in after}


def _read(contenders: Sequence[Contender], results: Results) -> None:
    for contender in contenders:
        if contender.ask_days:
            found = results.reads[contender.name] = read_during_writes(contender, contender.ask_days, READS)
            say(f"{contender.name}, reads during writes: p50 {found.reads.latency(0.5):,.1f} ms")
    days = {name: found.days for name, found in results.reads.items()}
    if len(set(map(tuple, days.values()))) > 1:
        results.wrong.append(f"the reports differ: {days}")


def _measure_size(contender: Contender, results: Results) -> None:
    contender.events.database.client.admin.command("fsync")  # sizes are those of the last checkpoint
    stats = contender.events.database.command("collStats", contender.events.name)
    results.sizes[contender.name] = (stats["storageSize"] + stats["totalIndexSize"]) / stats["count"]


# The output


def print_tables(results: Results) -> None:
    _print_loads(results)
    _print_drains(results)
    _print_reads(results)
    _print_row("memory, MB", *PARTS_OF_ALL)
    _print_row(*["---"] * (1 + len(PARTS_OF_ALL)))
    for name, memory in results.memory.items():
        _print_row(name, *(f"{memory[part]:,.0f}" for part in PARTS_OF_ALL))
    print()
    _print_row("target, median of the ratios of the rounds", "target", "this run", "")
    _print_row(*["---"] * 4)
    for name, wanted, found, met in _targets(results):
        _print_row(name, wanted, found, "met" if met else "**missed**")
    print()
    for each in results.wrong:
        print(f"WRONG: {each}")


def _print_loads(results: Results) -> None:
    parts = ("ingestion", "redis", "load generator")
    _print_row(f"{SECONDS:g} s, or the events that wait", "requests/s", "events/s", "p50, ms", "p99", "p99.9",
               *(f"CPU of {part}, µs an event" for part in parts))  # fmt: skip
    _print_row(*["---"] * 9)
    for key in sorted(results.turns, key=lambda key: key[1]):
        _print_row(
            " - ".join(key),
            f"{results.median_of(key, lambda turn: turn.load.rate):,.0f}",
            f"{results.median_of(key, lambda turn: turn.rate):,.0f}",
            *(f"{results.median_of(key, lambda turn, p=p: turn.load.latency(p)):,.1f}" for p in (0.5, 0.99, 0.999)),
            *(f"{results.median_of(key, lambda turn, part=part: turn.cpu.get(part, 0)):,.1f}" for part in parts),
        )
    print()


def _print_drains(results: Results) -> None:
    parts = ("worker", "redis", "mongodb")
    _print_row("waiting events, stored by the workers", "events/s", "of insert_many", "bytes of a waiting event",
               "of a stored one", *(f"CPU of {part}, µs an event" for part in parts))  # fmt: skip
    _print_row(*["---"] * 8)
    for key in sorted((each for each in results.turns if each[0] in results.sizes), key=lambda key: key[1]):
        _print_row(
            " - ".join(key),
            f"{results.median_of(key, lambda turn: turn.drained):,.0f}",
            f"{results.of_inserts(key):.2f}",
            f"{results.median_of(key, lambda turn: turn.waiting):,.0f}",
            f"{results.sizes[key[0]]:,.0f}",
            *(f"{results.median_of(key, lambda turn, part=part: turn.drain_cpu[part]):,.1f}" for part in parts),
        )
    _print_row(INSERTS, f"{median(chain.from_iterable(results.inserts.values())):,.0f}", "1.00", *[""] * 5)
    print()


def _print_reads(results: Results) -> None:
    _print_row(f"reads during {RATE:,} writes/s, {READS:g} s", "reads", "p50, ms", "p99", "writes/s", "p50, ms", "p99")
    _print_row(*["---"] * 7)
    for name, found in results.reads.items():
        _print_row(
            name,
            f"{len(found.reads.latencies):,}",
            *(f"{found.reads.latency(share):,.1f}" for share in (0.5, 0.99)),
            f"{found.writes.rate:,.0f}",
            *(f"{found.writes.latency(share):,.1f}" for share in (0.5, 0.99)),
        )
    print()


def _targets(results: Results) -> Iterator[tuple[str, str, str, bool]]:
    """The name of each target, its limit, the ratio or value of this run, and whether that meets the target."""
    every = (*LOADS, WAITING_DESCRIBED, WAITING_HITS)
    ours = {traffic.name: (FOOTFALL, traffic.name) for traffic in every}
    theirs = {traffic.name: (BULLMQ, traffic.name) for traffic in every}
    single, hits = DESCRIBED.name, BROWSER.name

    def at_least(name: str, wanted: float, found: float) -> tuple[str, str, str, bool]:
        return name, f">= {wanted:g}", f"{found:.2f}", found >= wanted

    def at_most(name: str, wanted: float, found: float) -> tuple[str, str, str, bool]:
        return name, f"<= {wanted:g}", f"{found:,.1f}", found <= wanted

    def accepted(turn: Turn) -> float:
        return turn.rate

    def drained(turn: Turn) -> float:
        return turn.drained

    def p99(turn: Turn) -> float:
        return turn.load.latency(0.99)

    yield at_least(f"single events, relative to {BULLMQ}", 2, results.ratio(ours[single], theirs[single], accepted))
    dispatched = ours[DISPATCHED.name]
    yield at_least("the same through Flask's dispatch", 1.2, results.ratio(dispatched, theirs[single], accepted))
    many = results.ratio(ours[MANY.name], theirs[MANY.name], accepted)
    yield at_least("single events over 512 connections, relative to the same", 2, many)
    yield at_most("p99 with 64 connections, ms", 12, results.median_of(ours[single], p99))
    yield at_most("the same, relative to its p99", 1, results.ratio(ours[single], theirs[single], p99))
    hits_of_single = results.ratio(ours[hits], ours[single], accepted)
    yield at_least("browser hits relative to described events", 0.85, hits_of_single)
    batches = results.ratio(ours[BATCHES.name], theirs[single], accepted)
    yield at_least("events in batches of 500, relative to its single events", 12, batches)
    for name, relative, of_inserts in ((WAITING_DESCRIBED.name, 25, 0.6), (WAITING_HITS.name, 15, 0.4)):
        yield at_least(f"{name} stored, relative to it", relative, results.ratio(ours[name], theirs[name], drained))
        yield at_least(f"{name} stored, relative to insert_many", of_inserts, results.of_inserts(ours[name]))
    waiting = results.median_of(ours[WAITING_DESCRIBED.name], lambda turn: turn.waiting)
    yield at_most("bytes of a waiting described event", 220, waiting)
    yield at_most("bytes of a stored event", 160, results.sizes[FOOTFALL])


def _print_row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
