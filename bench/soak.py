"""`make soak`: a steady load for a long time, with reports and the building of segments. Nothing may grow.

First measures how many single events per second the system accepts. Then sends SHARE of that for MINUTES, while reports
are asked, in six windows. The first two warm the system up. Prints latency by window, and the memory, files and
connections of each process after the warm-up and at the end. Exits with 1 if

- an acknowledged event was lost or doubled, the ledger does not balance, or an answer was not a 200
- the memory of a process grew by 3 % or more after the warm-up. mongod may fill its cache of 1 GB
- the files or the connections of a process accumulated
- an event took longer at the end: the median by a quarter, or the 99th percentile by half

MINUTES (30) and SHARE (0.6) in the environment change the run.
"""

import os
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import httpx
import psutil

from analytics.journal.journal import JOURNAL_KEY
from bench.ingestion import PARTS, machine, print_table, pss
from bench.many_events import SITES, ManyEvents, Outcome
from tests.support.running_system import System, system_running

WINDOWS, WARM_UP = 6, 2
CAPACITY_SECONDS = 10.0
SAMPLES = 10  # of memory, in a window; the median of them counts
MOST_GROWTH = 0.03
SLOWER = {0.5: 1.25, 0.99: 1.5}  # how many times the latency of the end may be that after the warm-up, by its share
MORE_FILES = 1.1, 5  # times, and in addition
ASK_EVERY = 1.0  # seconds
DIMENSIONS = ("event:page", "visit:source", "time:hour")


@dataclass(frozen=True)
class Usage:
    """Of a process. `memory`: MB of PSS."""

    memory: float
    files: int
    connections: int


@dataclass
class Window:
    """`latency`: ms by the share of answers that were faster. `usage`: the median of each process, by name and id.

    `asked`: seconds of each report. `waiting`: events in the journal at its end.
    """

    rate: float = 0.0
    latency: dict[float, float] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    dropped: int = 0
    usage: dict[tuple[str, int], Usage] = field(default_factory=dict)
    asked: list[float] = field(default_factory=list)
    waiting: int = 0
    segments: int = 0

    @property
    def row(self) -> str:
        reports = f"{median(self.asked) * 1000:.0f} and {max(self.asked) * 1000:.0f} ms" if self.asked else "none"
        return (
            f"{self.rate:,.0f}; {self.latency[0.5]:.1f} and {self.latency[0.99]:.1f} ms; {reports};"
            f" {self.waiting:,}; {self.segments}; {sum(x.files for x in self.usage.values())};"
            f" {sum(x.connections for x in self.usage.values())}"
        )


@dataclass
class Soak:
    """The results. `capacity`: events per second."""

    capacity: float
    windows: list[Window]
    outcome: Outcome

    @property
    def warm(self) -> Window:
        return self.windows[WARM_UP - 1]

    @property
    def last(self) -> Window:
        return self.windows[-1]

    def faults(self) -> list[str]:
        found = self.outcome.faults()
        statuses = sum((window.statuses for window in self.windows), Counter[int]())
        dropped = sum(window.dropped for window in self.windows)
        if set(statuses) != {200} or dropped:
            found.append(f"answers {dict(statuses)}, {dropped} requests without one")
        for share, times in SLOWER.items():
            after, end = self.windows[WARM_UP].latency[share], self.last.latency[share]
            if end > after * times:
                found.append(f"p{share * 100:.0f} was {after:.1f} ms after the warm-up, and {end:.1f} ms at the end")
        return [*found, *(fault for each in self.both() for fault in _growth(*each))]

    def both(self) -> Iterator[tuple[str, Usage, Usage]]:
        """The processes that ran after the warm-up and still run at the end."""
        for (name, pid), end in self.last.usage.items():
            if warm := self.warm.usage.get((name, pid)):
                yield f"{name} {pid}", warm, end


def _growth(name: str, warm: Usage, end: Usage) -> Iterator[str]:
    if end.memory >= warm.memory * (1 + MOST_GROWTH) and not name.startswith("mongodb"):
        yield f"the memory of {name} grew by {end.memory / warm.memory - 1:.1%}"
    times, more = MORE_FILES
    for what in ("files", "connections"):
        if getattr(end, what) > getattr(warm, what) * times + more:
            yield f"the {what} of {name} grew from {getattr(warm, what)} to {getattr(end, what)}"


def run_soak(system: System, seconds: float, share: float = 0.6, capacity_seconds: float = CAPACITY_SECONDS) -> Soak:
    events = ManyEvents(system)
    capacity = events.send(capacity_seconds).accepted_rate
    events.wait_until_stored()
    windows = [_window(system, events, seconds / WINDOWS, share * capacity) for _ in range(WINDOWS)]
    return Soak(capacity, windows, events.count())


def _window(system: System, events: ManyEvents, seconds: float, rate: float) -> Window:
    window = Window()
    with _watching(system, window, seconds / SAMPLES), _asking(system, window):
        load = events.send(seconds, rate=rate)
    window.rate, window.statuses, window.dropped = load.rate, load.statuses, load.dropped
    window.latency = {share: load.latency(share) for share in SLOWER}
    window.waiting = system.redis().xlen(JOURNAL_KEY)
    with system.database() as database:
        window.segments = sum(len(x.get("segments", ())) for x in database["segment_manifests"].find())
    return window


@contextmanager
def _watching(system: System, window: Window, every: float) -> Iterator[None]:
    """Takes samples of all processes during the block. At its end their medians are in the window."""
    samples: dict[tuple[str, int], list[Usage]] = defaultdict(list)

    def sample() -> None:
        for key, usage in _usage(system):
            samples[key].append(usage)

    with _repeating(sample, every):
        yield
    window.usage = {
        key: Usage(
            median(x.memory for x in found),
            int(median(x.files for x in found)),
            int(median(x.connections for x in found)),
        )
        for key, found in samples.items()
    }


@contextmanager
def _asking(system: System, window: Window) -> Iterator[None]:
    with httpx.Client(base_url=system.report, timeout=30) as client:

        def ask() -> None:
            number = len(window.asked)
            body = {
                "site_id": SITES[number % len(SITES)],
                "metrics": ["visitors", "pageviews"],
                "dimensions": [DIMENSIONS[number % len(DIMENSIONS)]],
                "date_range": "day",
            }
            start = time.perf_counter()
            answer = client.post("/api/v2/query", json=body)
            window.asked.append(time.perf_counter() - start)
            if answer.status_code != 200:
                window.statuses[answer.status_code] += 1

        with _repeating(ask, ASK_EVERY):
            yield


@contextmanager
def _repeating(act: Callable[[], None], every: float) -> Iterator[None]:
    """Calls `act` every few seconds, in a thread, during the block. Raises what it raised."""
    over, failed = threading.Event(), []

    def run() -> None:
        try:
            while not over.wait(every):
                act()
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failed:
        raise failed[0]


def _usage(system: System) -> Iterator[tuple[tuple[str, int], Usage]]:
    for name, words in PARTS.items():
        for process in system.part(words):
            with suppress(psutil.NoSuchProcess):
                connections = len(process.net_connections())
                yield (name, process.pid), Usage(pss(process), process.num_fds(), connections)


def main() -> None:
    minutes, share = float(os.environ.get("MINUTES", "30")), float(os.environ.get("SHARE", "0.6"))
    with tempfile.TemporaryDirectory(prefix="footfall-soak-") as folder, system_running(Path(folder)) as system:
        soak = run_soak(system, minutes * 60, share)
    print(f"# make soak MINUTES={minutes:g} SHARE={share:g}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine()}\n")
    length = minutes / WINDOWS
    print_table(
        f"windows of {length:g} minutes: events/s; p50 and p99; reports, p50 and slowest; waiting events, segments,"
        " files and connections of all processes at the end",
        {f"{number * length:g} min": window.row for number, window in enumerate(soak.windows, start=1)},
    )
    print_table(
        f"each process after {WARM_UP * length:g} minutes and at the end: memory (PSS), files, connections",
        {
            name: f"{warm.memory:.1f} to {end.memory:.1f} MB, {end.memory / warm.memory - 1:+.1%};"
            f" {warm.files} to {end.files}; {warm.connections} to {end.connections}"
            for name, warm, end in soak.both()
        },
    )
    faults = soak.faults()
    print_table(
        "events",
        {
            "accepted at most, events/s": f"{soak.capacity:,.0f}",
            **soak.outcome.rows(),
            "limits": "; ".join(faults) or "met",
        },
    )
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
