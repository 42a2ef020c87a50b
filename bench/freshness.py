"""`make bench-freshness`: the time from the 200 of an event until a report counts it.

One sender posts batches with RATE events per second in total to one site. Meanwhile a client requests today's views
from GET /stats continuously. A batch is visible with the first answer whose total includes it and all earlier batches.
Its delay is the time from its 200 to the end of that answer. SECONDS (60) and RATE (1000) in the environment change the
run. Exits with 1 if a total was ever lower than in an earlier answer, or wrong at the end.
"""

import json
import os
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from datetime import UTC, datetime
from pathlib import Path

import httpx

from bench.ingestion import machine, print_table
from tests.support.running_system import System, wait_for

SECONDS = float(os.environ.get("SECONDS", "60"))
RATE = int(os.environ.get("RATE", "1000"))
BATCHES = 10  # per second
SITE = "fresh"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="footfall-bench-") as folder:
        system = System(Path(folder)).start()
        try:
            sound = bench(system)
        finally:
            system.stop()
            system.kill()
    sys.exit(0 if sound else 1)


def bench(system: System) -> bool:
    print(f"# make bench-freshness, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine()}\n")
    acked: list[tuple[float, int]] = []  # pairs of the time, and the number of events acknowledged so far
    seen: list[tuple[float, float, int]] = []  # for each answer: its time, its duration in seconds, the total
    over = threading.Event()
    asker = threading.Thread(target=_ask, args=(system, seen, over))
    asker.start()
    _send(system, acked)
    total = acked[-1][1]
    wait_for(lambda: seen and seen[-1][2] >= total, "all events in the report", 60)
    over.set()
    asker.join()
    totals = [count for _, _, count in seen]
    delays = sorted(seen[bisect_left(totals, count)][0] - when for when, count in acked)
    took = sorted(seconds for _, seconds, _ in seen)
    print_table(
        f"{RATE:,} events/s for {SECONDS:.0f} s to one site, in batches, while reports are asked all the time",
        {
            "events acknowledged": f"{total:,}",
            "acknowledged to visible, p50, p95, p99, most": ", ".join(
                f"{_share(delays, share) * 1000:,.0f} ms" for share in (0.5, 0.95, 0.99, 1)
            ),
            "GET /stats of today meanwhile, answers, p50, p99": f"{len(took):,}, {_share(took, 0.5) * 1000:,.0f} ms,"
            f" {_share(took, 0.99) * 1000:,.0f} ms",
        },
    )
    return totals == sorted(totals) and totals[-1] == total


def _send(system: System, acked: list[tuple[float, int]]) -> None:
    size = RATE // BATCHES
    start = time.monotonic()
    with httpx.Client(base_url=system.ingest) as client:
        for number in range(int(SECONDS * BATCHES)):
            time.sleep(max(0.0, start + number / BATCHES - time.monotonic()))
            batch = [_event(number * size + n) for n in range(size)]
            answer = client.post("/events", content=json.dumps(batch))
            assert answer.json()["accepted"] == size, answer.text
            acked.append((time.monotonic(), (number + 1) * size))


def _event(number: int) -> dict[str, str]:
    return {
        "site_id": SITE, "event_type": "page_view", "path": f"/{number % 500}", "user_id": f"{number % 5000}",
        "event_id": str(number), "source": f"s{number % 20}",
    }  # fmt: skip


def _ask(system: System, seen: list[tuple[float, float, int]], over: threading.Event) -> None:
    with httpx.Client(base_url=system.report, timeout=30) as client:
        while not over.is_set():
            before = time.monotonic()
            views = client.get("/stats", params={"site_id": SITE}).json()["total_views"]
            now = time.monotonic()
            seen.append((now, now - before, views))
            over.wait(0.02)


def _share(ordered: list[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


if __name__ == "__main__":
    main()
