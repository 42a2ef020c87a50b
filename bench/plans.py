"""`python -m bench.plans`: what 1,000, 10,000 and 100,000 events a second need. All of it is computed.

It multiplies the costs of an event, which docs/performance.md and docs/sizing.md have as measured, by the rate, and
leaves each part idle for 40 % of the time. Each app has at least two processes or hosts, so that one may fail.
`make simulate` prints the same with the costs of build/hosts.json, and with delays, if its predictions are right.

RATES changes the rates. CORE (10), MEMORY (2) and DISK (0.1) are the prices of a core, and of a GB of memory and of
disk, for a month. The defaults are examples, and no offer of a provider.
"""

import os
from dataclasses import dataclass
from math import ceil

IN_USE = 0.6  # of each part, in the busiest hour
PEAK = 4  # the rate of the busiest hour, relative to the mean
HOST_CORES = 2  # of a host of ingestion or workers
DAYS, OUTAGE = 30, 3600  # for which events are kept; seconds that MongoDB may be unreachable
COPIES = 3  # members of a replica set
WAITING, STORED, SEGMENT, DOCUMENT, REQUEST = 483, 297, 36, 453, 1000  # bytes of an event; a request is assumed
LARGEST_MEMBER = 4e12  # bytes of disk; more than that needs a further shard
INGESTION, WORKER, REPORT = 0.068, 0.256, 0.6  # GB of a process
MONGODB, REPORTS = 16, 2  # GB of memory of a member; processes that report


@dataclass(frozen=True)
class Costs:
    """Seconds of CPU for a hit of a browser: in ingestion, in Redis to append it, and in what stores it.

    `build`: for the first segment that it is in.
    """

    ingestion: float = 152e-6
    append: float = 12.6e-6
    worker: float = 66.1e-6
    build: float = 10.4e-6
    redis: float = 6.3e-6
    mongodb: float = 16e-6


@dataclass(frozen=True)
class Plan:
    """For `rate` events per second in the busiest hour."""

    rate: float
    costs: Costs

    @property
    def ingestion_processes(self) -> int:
        return max(2, ceil(self.rate * self.costs.ingestion / IN_USE))

    @property
    def worker_hosts(self) -> int:
        return max(2, ceil(self.rate * (self.costs.worker + self.costs.build) / IN_USE / HOST_CORES))

    @property
    def journals(self) -> int:
        return ceil(self.rate * (self.costs.append + self.costs.redis) / IN_USE)

    @property
    def mongodb_cores(self) -> int:
        """Of the primaries of all shards."""
        return ceil(self.rate * self.costs.mongodb / IN_USE)

    @property
    def disk(self) -> float:
        """Bytes of the events of DAYS, in one copy."""
        return self.rate / PEAK * 86_400 * DAYS * (STORED + SEGMENT)

    @property
    def shards(self) -> int:
        return ceil(self.disk / LARGEST_MEMBER)

    @property
    def cores(self) -> int:
        """Each process of ingestion, journal and its copy, and report has one. Each member of MongoDB has those of its
        primary, because it may become one.
        """
        members = COPIES * max(self.mongodb_cores, self.shards)
        return self.ingestion_processes + HOST_CORES * self.worker_hosts + 2 * self.journals + members + REPORTS

    @property
    def waiting(self) -> float:
        """GB of Redis that wait if MongoDB is unreachable for OUTAGE, in one copy."""
        return self.rate * OUTAGE * WAITING / 1e9

    @property
    def memory(self) -> float:
        """GB."""
        workers = self.worker_hosts * (HOST_CORES + 1) * WORKER
        apps = self.ingestion_processes * INGESTION + workers + REPORTS * REPORT
        return apps + 2 * self.waiting + COPIES * self.shards * MONGODB

    @property
    def all_disk(self) -> float:
        """GB: all copies of the events, both copies of Redis's file, and the copies of segments."""
        segments = self.rate / PEAK * 86_400 * DAYS * SEGMENT
        return (COPIES * self.disk + segments) / 1e9 + 2 * self.waiting

    @property
    def price(self) -> float:
        core, memory, disk = (float(os.environ.get(*x)) for x in (("CORE", "10"), ("MEMORY", "2"), ("DISK", "0.1")))
        return self.cores * core + self.memory * memory + self.all_disk * disk

    def rows(self) -> dict[str, str]:
        """Cells of a table."""
        traffic = (self.rate * size / 1e6 for size in (REQUEST, 3 * WAITING, COPIES * DOCUMENT))
        return {
            "ingestion: processes": f"{self.ingestion_processes}",
            f"workers: hosts with {HOST_CORES} cores and {HOST_CORES} processes": f"{self.worker_hosts}",
            "Redis: journals, each with a replica": f"{self.journals}",
            "Redis: memory for an hour without MongoDB, each copy": f"{self.waiting:,.1f} GB",
            "MongoDB: cores of the primaries": f"{self.mongodb_cores}",
            "MongoDB: shards of three members": f"{self.shards}",
            f"MongoDB: disk for {DAYS} days, each copy": f"{self.disk / 1e9:,.0f} GB",
            "network: requests; journal; MongoDB": "; ".join(f"{each:,.1f}" for each in traffic) + " MB/s",
            "all: cores; memory; disk": f"{self.cores}; {self.memory:,.0f} GB; {self.all_disk:,.0f} GB",
            "cost a month, at the prices above": f"{self.price:,.0f}",
        }


def plan(rate: float, costs: Costs | None = None) -> Plan:
    return Plan(rate, costs or Costs())


def print_columns(titles: list[str], columns: list[dict[str, str]]) -> None:
    """Prints a table whose columns have the same rows."""
    print(f"\n| computed | {' | '.join(titles)} |\n|{'---|' * (len(titles) + 1)}")
    for name in columns[0]:
        print(f"| {name} | {' | '.join(column[name] for column in columns)} |")


def main() -> None:
    rates = [float(rate) for rate in os.environ.get("RATES", "1000,10000,100000").split(",")]
    print_columns([f"{rate:,.0f} events/s" for rate in rates], [plan(rate).rows() for rate in rates])


if __name__ == "__main__":
    main()
