"""`make overload`: twice as many events as the system can accept, for MINUTES. It must shed the rest and recover.

First measures how many single events per second the system accepts. Then clients send twice as many, whether or not the
earlier ones are answered. Then a light load follows at once. Prints a table, and exits with 1 if

- a refused request was answered with anything but 503 and Retry-After
- an accepted request took 250 ms or longer (the 99th percentile; the slowest one is printed)
- normal service was not back within 10 s of the end: each answer 200, within 250 ms
- an acknowledged event was lost or doubled, or the ledger does not balance

MINUTES (10) and TIMES (2, the capacity) in the environment change the run.
"""

import os
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from analytics.journal.journal import JOURNAL_KEY
from bench.ingestion import machine, print_table
from bench.load import Load
from bench.many_events import ManyEvents, Outcome
from tests.support.running_system import System, system_running

CAPACITY_SECONDS = 10.0
SLOWEST = 250.0  # ms
RECOVERY, OBSERVED = 10.0, 20.0  # seconds
OUTSTANDING = 0.5  # seconds of requests that may wait for their answers at the same time
PROBES = 20  # per second


@dataclass
class Overload:
    """`recovered`: seconds from the end of the overload until the last answer that was not normal.

    `backlog`: events in the journal at the end of the overload.
    """

    capacity: float
    wanted: float
    load: Load
    recovered: float
    backlog: int
    outcome: Outcome

    def faults(self) -> list[str]:
        load = self.load
        found = self.outcome.faults()
        if not load.statuses.keys() <= {200, 503} or load.without_retry_after or load.dropped:
            found.append(
                f"answers {dict(load.statuses)}, {load.without_retry_after} x 503 without Retry-After,"
                f" {load.dropped} requests without an answer"
            )
        if (slow := load.accepted_latency(0.99)) >= SLOWEST:
            found.append(f"accepted requests took {slow:.0f} ms (p99), and may take {SLOWEST:.0f}")
        if self.recovered > RECOVERY:
            found.append(f"normal service after {self.recovered:.1f} s, and not within {RECOVERY:.0f}")
        return found


def run_overload(
    system: System, seconds: float, times: float = 2, capacity_seconds: float = CAPACITY_SECONDS
) -> Overload:
    events = ManyEvents(system)
    capacity = events.send(capacity_seconds).accepted_rate
    wanted = times * capacity
    load = events.send(seconds, rate=wanted, connections=int(wanted * OUTSTANDING))
    backlog = system.redis().xlen(JOURNAL_KEY)
    recovered = _recovery(system)
    return Overload(capacity, wanted, load, recovered, backlog, events.count())


def _recovery(system: System) -> float:
    """Seconds until the last answer of a light load that was not normal. 0 if all were."""
    start, recovered = time.perf_counter(), 0.0
    with httpx.Client(base_url=system.ingest, timeout=5) as client:
        while (asked := time.perf_counter()) < start + OBSERVED:
            try:
                status = client.post("/event", json={"site_id": "probe", "event_type": "page_view"}).status_code
            except httpx.HTTPError:
                status = 0
            now = time.perf_counter()
            if status != 200 or (now - asked) * 1000 >= SLOWEST:
                recovered = now - start
            time.sleep(1 / PROBES)
    return recovered


def main() -> None:
    minutes, times = float(os.environ.get("MINUTES", "10")), float(os.environ.get("TIMES", "2"))
    with tempfile.TemporaryDirectory(prefix="footfall-overload-") as folder, system_running(Path(folder)) as system:
        overload = run_overload(system, minutes * 60, times)
    print(f"# make overload MINUTES={minutes:g} TIMES={times:g}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine()}\n")
    load, faults = overload.load, overload.faults()
    print_table(
        f"{times:g} times the capacity for {minutes:g} minutes",
        {
            "accepted at most, before, events/s": f"{overload.capacity:,.0f}",
            "wanted, sent, accepted, events/s": f"{overload.wanted:,.0f}, {load.rate:,.0f}, {load.accepted_rate:,.0f}",
            "answers": ", ".join(f"{count:,} x {status}" for status, count in load.statuses.items()),
            "503 without Retry-After": f"{load.without_retry_after}",
            "requests never answered": f"{load.dropped}",
            "accepted requests, p50, p99, slowest": ", ".join(
                f"{load.accepted_latency(share):.0f} ms" for share in (0.5, 0.99, 1)
            ),
            "all requests, p50, p99": f"{load.latency(0.5):.0f} ms, {load.latency(0.99):.0f} ms",
            "events in the journal at the end": f"{overload.backlog:,}",
            "until normal service": f"{overload.recovered:.1f} s",
            **overload.outcome.rows(),
            "limits": "; ".join(faults) or "met",
        },
    )
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
