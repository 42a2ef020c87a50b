"""How fast one, two and three worker hosts store waiting events, each with a share of a core, and what is used up."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from bench.hosts.deployment import MONGODB, REDIS, WORKERS, Deployment
from bench.ingestion import drained, fill, workers_held_back

STEADY = 0.9  # of the periods: a host that reaches its limit in so many is used up
GROUPS = {"worker hosts": WORKERS, "Redis, both hosts": REDIS, "MongoDB, three hosts": MONGODB}


@dataclass(frozen=True)
class Throughput:
    """`rate`: events per second. `throttled`: the share of the time in which a worker host had reached its limit.

    `cores`: what the processes of each group used, and the whole machine.
    """

    hosts: int
    rate: float
    throttled: float
    cores: dict[str, float]

    def saturated(self, share: float) -> str:
        """What was used up. `share`: the limit of each worker host, of a core."""
        machine = psutil.cpu_count() or 1
        if self.throttled >= STEADY:
            return f"the CPU of the worker hosts ({share:.0%} of a core each)"
        if self.cores["machine"] > STEADY * machine:
            return f"the CPU of this machine ({machine} cores)"
        return f"no CPU: worker hosts were at their limit for {self.throttled:.0%} of the time"


def measure(deployment: Deployment, hosts: int, share: float, backlog: int) -> Throughput:
    """Lets `hosts` worker hosts, which run, drain a backlog. The others must not run."""
    names = WORKERS[:hosts]
    for name in names:
        deployment.hosts[name].limit_cpu(share)
    try:
        with workers_held_back(deployment):
            fill(deployment.redis(), backlog, f"scaling {hosts}", as_hits=False)
        with used(deployment, GROUPS) as cores:
            before = [deployment.hosts[name].throttled() for name in names]
            rate = drained(deployment.redis(), backlog)
            after = [deployment.hosts[name].throttled() for name in names]
    finally:
        for name in names:
            deployment.hosts[name].limit_cpu(None)
    periods, reached = (sum(x[n] - y[n] for x, y in zip(after, before, strict=True)) for n in (0, 1))
    return Throughput(hosts, rate, reached / max(periods, 1), cores)


@contextmanager
def used(deployment: Deployment, groups: Mapping[str, Sequence[str]]) -> Iterator[dict[str, float]]:
    """The cores that the hosts of each group use during the block, and "machine": all programs. Filled at its end."""
    found: dict[str, float] = {}
    start, before, machine = time.monotonic(), _cpu_seconds(deployment, groups), psutil.cpu_times()
    yield found
    seconds, now = time.monotonic() - start, psutil.cpu_times()
    for name, spent in _cpu_seconds(deployment, groups).items():
        found[name] = (spent - before[name]) / seconds
    idle = now.idle + now.iowait - machine.idle - machine.iowait
    found["machine"] = (psutil.cpu_count() or 1) - idle / seconds


def _cpu_seconds(deployment: Deployment, groups: Mapping[str, Sequence[str]]) -> dict[str, float]:
    return {
        group: sum(sum(x.cpu_times()[:2]) for name in names for x in deployment.hosts[name].processes())
        for group, names in groups.items()
    }
