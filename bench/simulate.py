"""`make simulate`: a queueing simulation of worker hosts, with the service times that `make hosts` measured.

A worker process has two batches in flight (docs/decisions/0019). It claims a batch from Redis, prepares it, writes it
to MongoDB while it prepares the next, and settles it in Redis. The processes of a host share its cores. All hosts share
the journals, each of which uses one core, and the primary of MongoDB. A write also waits until a majority has it on
disk. In a plan, events arrive at random. A wake-up is sent at most every 50 ms, and a process that finds no events
waits for the next one.

It reads build/hosts.json, which `make hosts ROUNDS=0` writes, and compares the predicted rates of one, two and three
worker hosts with the measured ones. Exits with 1, without plans, if one is wrong by more than 15 %, and with 2 if there
is no such file. Otherwise it prints plans for RATES (1000,10000,100000), which are computed, as is everything in them.
"""

import os
import random
import sys
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from math import ceil, inf, sqrt
from pathlib import Path
from typing import Any

import msgspec
import simpy

from bench import plans

BATCH = 1000  # events
IN_FLIGHT = 2  # batches of a process
SIMULATED, WARM_UP = 40.0, 10.0  # seconds; the warm-up is not counted
TICK, WAKE_UP = 0.01, 0.05  # seconds between arrivals, and between wake-ups
BATCHES_OF_A_WAKE_UP = 4
MOST_WRONG = 0.15
MEASUREMENTS = Path(__file__).parent.parent / "build/hosts.json"


@dataclass(frozen=True)
class Times:
    """Seconds of CPU for an event in a worker host, in the master of Redis and in the primary of MongoDB.

    `commit`: seconds that a batch waits until a majority has it on disk. `idle`: cores that a worker host uses when no
    events wait. `append`: seconds of CPU of Redis to append an event; 0 if the events are in the journal already.
    """

    worker: float
    redis: float
    mongodb: float
    commit: float
    idle: float = 0
    append: float = 0


@dataclass(frozen=True)
class Hosts:
    """`cores` of each worker host, which may be a share of one. `processes`: of its worker (WORKER_CONCURRENCY)."""

    count: int
    cores: float
    processes: int = 2


@dataclass(frozen=True)
class Rate:
    """Events per second that so many worker hosts stored. `machine`: the cores of the machine that were used."""

    hosts: int
    rate: float
    machine: float


@dataclass(frozen=True)
class Measurements:
    """The file of `make hosts`. `share`: of a core, of each worker host while its `rates` were measured.

    The rates are of described events, as is `described`. `hits`: the same for hits of browsers, for the plans.
    """

    when: str
    cores: int
    share: float
    described: Times
    hits: Times
    rates: list[Rate]


@dataclass(frozen=True)
class Run:
    """`p99`: seconds from the arrival of an event until it is settled. `used`: the share of Redis, and of MongoDB."""

    stored_per_second: float
    p99: float
    redis: float
    mongodb: float


class _Model:
    """Journals, MongoDB and worker hosts. Without a `rate` of arrivals, the journal never becomes empty."""

    def __init__(self, hosts: Hosts, times: Times, rate: float, journals: int, mongodb_cores: int) -> None:
        self.environment = simpy.Environment()
        self.journals = [simpy.Resource(self.environment, 1) for _ in range(journals)]
        self.mongodb = simpy.Resource(self.environment, mongodb_cores)
        self.busy = dict.fromkeys([*self.journals, self.mongodb], 0.0)
        self.delays: list[tuple[float, int]] = []  # of the events of each arrival
        self._waiting = deque[tuple[float, int]]()  # when they arrived, and how many
        self._idle = deque[simpy.Event]()
        self._hosts, self._times, self._rate = hosts, times, rate
        self._chance = random.Random(1)
        if rate < inf:
            self.environment.process(self._arrivals())
            self.environment.process(self._wake_ups())
        number = max(1, ceil(hosts.cores))
        speed = (hosts.cores - times.idle) / number  # of a core
        for _ in range(hosts.count):
            cores = simpy.Resource(self.environment, number)
            for _ in range(hosts.processes):
                process = simpy.Resource(self.environment, 1)
                for _ in range(IN_FLIGHT):
                    self.environment.process(self._batches(process, cores, speed))

    def _batches(self, process: simpy.Resource, cores: simpy.Resource, speed: float) -> Generator[Any, Any, None]:
        """One of the batches in flight of a process, again and again."""
        times = self._times
        while True:
            claimed = self._claim()
            if not claimed:
                self._idle.append(self.environment.event())
                yield self._idle[-1]
                continue
            events, journal = sum(n for _, n in claimed), self._chance.choice(self.journals)
            yield from self._use(journal, times.redis * events / 2)  # claim
            with process.request() as turn:  # one thread of a process runs Python at a time
                yield turn
                yield from self._use(cores, times.worker * events / speed)
            yield from self._use(self.mongodb, times.mongodb * events)
            yield self.environment.timeout(times.commit)
            yield from self._use(journal, times.redis * events / 2)  # settle
            if (now := self.environment.now) > WARM_UP:
                self.delays += [(now - arrived, n) for arrived, n in claimed]

    def _claim(self) -> list[tuple[float, int]]:
        if self._rate == inf:
            return [(self.environment.now, BATCH)]
        claimed, room = [], BATCH
        while room and self._waiting:
            arrived, n = self._waiting.popleft()
            if n > room:
                self._waiting.appendleft((arrived, n - room))
            claimed.append((arrived, min(n, room)))
            room -= claimed[-1][1]
        return claimed

    def _use(self, part: simpy.Resource, seconds: float) -> Generator[simpy.Event, Any, None]:
        with part.request() as turn:
            yield turn
            yield self.environment.timeout(seconds)
            if part in self.busy and self.environment.now > WARM_UP:
                self.busy[part] += seconds

    def _arrivals(self) -> Generator[Any, Any, None]:
        mean = self._rate * TICK
        while True:
            yield self.environment.timeout(TICK)
            if (n := max(0, round(self._chance.normalvariate(mean, sqrt(mean))))) > 0:
                self._waiting.append((self.environment.now, n))
                self.environment.process(self._use(self._chance.choice(self.journals), self._times.append * n))

    def _wake_ups(self) -> Generator[Any, Any, None]:
        while True:
            yield self.environment.timeout(WAKE_UP)
            for _ in range(ceil(sum(n for _, n in self._waiting) / BATCH / BATCHES_OF_A_WAKE_UP)):
                if self._idle:
                    self._idle.popleft().succeed()


def simulate(hosts: Hosts, times: Times, *, rate: float = inf, journals: int = 1, mongodb_cores: int = 2) -> Run:
    """Simulates worker hosts that store events which arrive at a `rate`, or that drain a journal without an end."""
    if hosts.cores <= times.idle:
        raise ValueError(f"a worker host needs more than the {times.idle:.3f} cores that it uses without events")
    model = _Model(hosts, times, rate, journals, mongodb_cores)
    model.environment.run(WARM_UP + SIMULATED)
    stored = sum(n for _, n in model.delays)
    left, p99 = stored * 0.01, inf  # without any stored event
    for delay, n in sorted(model.delays, reverse=True):
        left, p99 = left - n, delay
        if left <= 0:
            break
    redis = sum(model.busy[journal] for journal in model.journals) / journals
    return Run(stored / SIMULATED, p99, redis / SIMULATED, model.busy[model.mongodb] / mongodb_cores / SIMULATED)


def errors(measured: Measurements) -> dict[Rate, tuple[float, float]]:
    """The predicted rate for each measured one, and by which part of the measured rate it is wrong."""
    found = {}
    for each in measured.rates:
        predicted = simulate(Hosts(each.hosts, measured.share), measured.described).stored_per_second
        found[each] = predicted, predicted / each.rate - 1
    return found


def main(file: Path = MEASUREMENTS) -> None:
    try:
        measured = msgspec.json.decode(file.read_bytes(), type=Measurements)
    except FileNotFoundError:
        print(f"{file} does not exist. Run `make hosts ROUNDS=0` first.", file=sys.stderr)
        sys.exit(2)
    try:
        found = errors(measured)
    except ValueError as error:
        sys.exit(f"No plans: {error}. Repeat `make hosts` with a larger SHARE.")
    print(f"Measured {measured.when}, worker hosts with {measured.share:.0%} of a core each.\n")
    print(
        "| worker hosts | predicted, events/s | measured | error | cores of the machine in use |\n|---|---|---|---|---|"
    )
    for each, (predicted, error) in found.items():
        machine = f"{each.machine:.2f} of {measured.cores}"
        print(f"| {each.hosts} | {predicted:,.0f} | {each.rate:,.0f} | {error:+.1%} | {machine} |")
    if {each.hosts for each in found} != {1, 2, 3}:
        sys.exit("\nNo plans: the file needs the rates of one, two and three worker hosts.")
    if any(abs(error) > MOST_WRONG for _, error in found.values()):
        sys.exit(
            f"\nNo plans: a prediction is wrong by more than {MOST_WRONG:.0%}. If all cores of the machine are in use, "
            "repeat `make hosts` on a machine that does nothing else, or with a smaller SHARE."
        )
    print_plans(measured.hits, [float(rate) for rate in os.environ.get("RATES", "1000,10000,100000").split(",")])


def print_plans(times: Times, rates: list[float]) -> None:
    """Prints what each rate needs, and what the simulation says about it."""
    columns = []
    for rate in rates:
        costs = plans.Costs(worker=times.worker, redis=times.redis, mongodb=times.mongodb)
        plan = plans.plan(rate, costs)
        busy = Times(
            plan.costs.worker + plan.costs.build, times.redis, times.mongodb, times.commit, times.idle, costs.append
        )
        hosts = Hosts(plan.worker_hosts, plans.HOST_CORES)
        run = simulate(hosts, busy, rate=rate, journals=plan.journals, mongodb_cores=plan.mongodb_cores)
        rows = {
            "simulated: stored, events/s": f"{run.stored_per_second:,.0f}",
            "simulated: p99 until stored": f"{run.p99 * 1000:,.0f} ms",
            "simulated: Redis, MongoDB in use": f"{run.redis:.0%}, {run.mongodb:.0%}",
        }
        columns.append(plan.rows() | rows)
    plans.print_columns([f"{rate:,.0f} events/s" for rate in rates], columns)


if __name__ == "__main__":
    main()
