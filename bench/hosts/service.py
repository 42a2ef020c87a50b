"""What an event costs on one worker host: the service times of bench/simulate.py.

They do not come from the rates that the simulation must predict. The host has no limit of CPU, the costs are CPU times
of processes, and a client of its own measures how long a write waits.
"""

import time
from datetime import UTC, datetime

from analytics.segments.due import due_at
from bench import calibration
from bench.hosts.deployment import WORKERS, Deployment
from bench.hosts.scaling import used
from bench.ingestion import drained, fill, workers_held_back
from bench.simulate import BATCH, Times
from tests.support.running_system import wait_for

REST = 10.0  # seconds without events
WARM_UP = 20_000  # events of each kind that are stored before, because processes read tables for the first ones
BUILT_LIMIT = 180  # seconds until the segments of the events are built


def measure_times(deployment: Deployment, backlog: int) -> tuple[Times, Times]:
    """Of described events, and of hits of browsers. Only the first worker host may run."""
    wait_until_built(deployment)
    groups = _groups(deployment)
    with used(deployment, groups) as idle:
        time.sleep(REST)
    waits = _insert_seconds(deployment)
    found = []
    for kind in ("described", "hits"):
        warm_up(deployment, f"first {kind}", as_hits=kind == "hits")
        _fill(deployment, backlog, f"service {kind}", as_hits=kind == "hits")
        start = time.monotonic()
        with used(deployment, groups) as cores:
            drained(deployment.redis(), backlog)
        seconds = time.monotonic() - start
        worker, redis, mongodb = ((cores[name] - idle[name]) * seconds / backlog for name in groups)
        found.append(Times(worker, redis, mongodb, max(0.0, waits - mongodb * BATCH), idle["worker"]))
        wait_until_built(deployment)
    described, hits = found
    return described, hits


def warm_up(deployment: Deployment, site: str, *, as_hits: bool) -> None:
    """Lets the processes of the worker hosts do what they do only once, such as reading their tables."""
    _fill(deployment, WARM_UP, site, as_hits=as_hits)
    drained(deployment.redis(), WARM_UP)
    wait_until_built(deployment)


def _fill(deployment: Deployment, events: int, site: str, *, as_hits: bool) -> None:
    with workers_held_back(deployment):
        fill(deployment.redis(), events, site, as_hits=as_hits)


def wait_until_built(deployment: Deployment) -> None:
    """Returns when the worker hosts have no segments of past hours to build, which would use their CPU."""
    past = {"hour": {"$lte": due_at(datetime.now(UTC)).over}}
    with deployment.database() as database:
        wait_for(lambda: database["dirty_hours"].find_one(past) is None, "segments of all past events", BUILT_LIMIT)


def _groups(deployment: Deployment) -> dict[str, tuple[str, ...]]:
    """The worker host, the master of Redis and the primary of MongoDB."""
    names = {host.address: name for name, host in deployment.hosts.items()}
    master = wait_for(deployment.pair.master, "a master")
    return {
        "worker": WORKERS[:1],
        "redis": (names[master.address],),
        "mongodb": (names[deployment.mongodb.primary().address],),
    }


def _insert_seconds(deployment: Deployment) -> float:
    """Seconds that the client of a write of BATCH documents does nothing until a majority has them on disk."""
    with deployment.database() as database:
        cpu = time.process_time()
        rate = calibration.inserts(database)
        return BATCH / rate - (time.process_time() - cpu) / calibration.INSERTS
