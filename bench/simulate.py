"""`make simulate`: a queueing simulation of worker hosts, with measured service times.

A worker process has two batches in flight (docs/decisions/0019). It claims a batch from Redis, prepares it, writes it
to MongoDB while it prepares the next, and settles it in Redis. The processes of a host share its cores. All hosts share
Redis, which uses one core, and the primary of MongoDB. A write also waits until a majority has it on disk.

The model gets what an event cost on one worker host of `make hosts`. It predicts the rates of one, two and three hosts,
and compares them with the measured ones. Exits with 1 if one is wrong by more than 15 %: the plans then mean nothing.
The plans say how many hosts store a rate with HEADROOM to spare. They are computed, and so is everything in them.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import simpy

BATCH = 1000  # events
IN_FLIGHT = 2  # batches of a process
SIMULATED, WARM_UP = 40.0, 10.0  # seconds; the warm-up is not counted
MOST_WRONG = 0.15


@dataclass(frozen=True)
class Times:
    """Seconds of CPU for an event in a worker host, in Redis and in the primary of MongoDB.

    `commit`: seconds that a batch waits until a majority has it on disk.
    """

    worker: float
    redis: float
    mongodb: float
    commit: float


@dataclass(frozen=True)
class Hosts:
    """`cores` of each worker host, which may be a share of one. `processes`: of its worker (WORKER_CONCURRENCY)."""

    count: int
    cores: float
    processes: int = 2


def stored_per_second(hosts: Hosts, times: Times, mongodb_cores: int = 2) -> float:
    """Simulates worker hosts that drain a journal that never becomes empty. Returns events per second."""
    environment = simpy.Environment()
    redis, mongodb = simpy.Resource(environment, 1), simpy.Resource(environment, mongodb_cores)
    stored = 0

    def used(part: simpy.Resource, seconds: float) -> Generator[simpy.Event, Any, None]:
        with part.request() as turn:
            yield turn
            yield environment.timeout(seconds)

    def batches(process: simpy.Resource, cores: simpy.Resource) -> Generator[simpy.Event, Any, None]:
        """One of the batches in flight of a process, again and again."""
        nonlocal stored
        while True:
            yield from used(redis, times.redis * BATCH / 2)  # claim
            with process.request() as turn:  # one thread of a process runs Python at a time
                yield turn
                yield from used(cores, times.worker * BATCH / min(hosts.cores, 1))
            yield from used(mongodb, times.mongodb * BATCH)
            yield environment.timeout(times.commit)
            yield from used(redis, times.redis * BATCH / 2)  # settle
            stored += BATCH if environment.now > WARM_UP else 0

    for _ in range(hosts.count):
        cores = simpy.Resource(environment, max(1, int(hosts.cores)))
        for _ in range(hosts.processes):
            process = simpy.Resource(environment, 1)
            for _ in range(IN_FLIGHT):
                environment.process(batches(process, cores))
    environment.run(WARM_UP + SIMULATED)
    return stored / SIMULATED
