"""`python -m bench.draining`: the cost of an event in the worker, in microseconds of CPU and of time.

One process stores EVENTS (10,000) events of each kind ROUNDS (5) times, in servers of its own. It prints the minimum of
each column, because other load on the machine only adds to it. The last row is bare insert_many, for comparison.
`make bench` measures the same through Celery with all worker processes.
"""

import gc
import logging
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import structlog

from analytics.pipeline import store_waiting
from bench import calibration
from bench.ingestion import fill
from config.services import Services
from config.settings import Settings
from footfall.embedded_servers import mongo_server, pick_port, redis_server
from tests.support.running_system import running

EVENTS, ROUNDS = int(os.environ.get("EVENTS", "10000")), int(os.environ.get("ROUNDS", "5"))


def main() -> None:
    sys.setswitchinterval(0.0005)  # as tasks/app.py does in a worker
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="footfall-bench-") as name:
        folder = Path(name)
        redis, mongodb = redis_server(folder / "redis", pick_port(0)), mongo_server(folder / "mongodb", pick_port(0))
        with running(redis), running(mongodb):
            measure(Services(Settings(redis_url=redis.url, mongodb_uri=mongodb.url, data_dir=name)))


def measure(services: Services) -> None:
    def store(site: str, *, as_hits: bool) -> tuple[float, float]:
        fill(services.redis, EVENTS, site, as_hits=as_hits)
        gc.collect()
        gc.freeze()  # as config/shared_memory.py does in a worker
        spent = timed(lambda: [store_waiting(services.stores, "bench") for _ in range(EVENTS // 1000)])
        assert not services.journal.waiting()
        return spent

    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for turn in range(ROUNDS + 1):  # the first one fills the caches
        found["described events"].append(store(f"described {turn}", as_hits=False))
        found["hits of browsers"].append(store(f"hits {turn}", as_hits=True))
        found["insert_many"].append(timed(lambda: calibration.inserts(services.database), 20_000))
    print("| storing | CPU, µs an event | time, µs an event |\n|---|---|---|")
    for kind, turns in found.items():
        cpu, spent = (min(each) for each in zip(*turns[1:], strict=True))
        print(f"| {kind} | {cpu:.1f} | {spent:.1f} |")


def timed(act: Callable[[], object], events: int = EVENTS) -> tuple[float, float]:
    """CPU and time, in microseconds an event."""
    cpu, start = time.process_time(), time.perf_counter()
    act()
    return (time.process_time() - cpu) / events * 1e6, (time.perf_counter() - start) / events * 1e6


if __name__ == "__main__":
    main()
