"""`make bench-sites`: what one, a hundred and ten thousand sites cost, if one of a hundred is busy.

For each number of sites, a system of its own gets the sites, an API key and a rule for each busy one. It stores
events at one rate, nine of ten of them for busy sites and the rest for any site. Then its workers stand still, and one
process does in turn what beat's tasks do, and builds the hours of all sites, which are due at once. Last, it asks for
reports and for the overview. Prints the CPU time of all processes, which other loads on the machine affect less than
the time. It fails if a segment lacks
an event.

COUNTS (1,100,10000), RATE (500 events/s), SECONDS (15) and SEED (1) in the environment change the run.
"""

import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from uuid import uuid4

import httpx
import pyarrow.parquet as pq
import structlog

from analytics.journal.journal import JOURNAL_KEY
from analytics.notifications.rule import CHEAP_KINDS, COUNTING_KINDS, Channel, Rule, RuleKind
from analytics.sites.site import Site
from analytics.sites.store import to_document
from bench import report_data
from bench.ingestion import cpu_seconds, machine, workers_held_back
from bench.load import post_request, run_load
from bench.reports import in_new_process, timed
from bench.segments import build_due, measure
from config.services import Services
from config.settings import Settings
from tests.support.running_system import System, system_running, wait_for

COUNTS = [int(count) for count in os.environ.get("COUNTS", "1,100,10000").split(",")]
RATE, SECONDS = float(os.environ.get("RATE", "500")), float(os.environ.get("SECONDS", "15"))
SEED = int(os.environ.get("SEED", "1"))
CONNECTIONS = 64
NAME = "site-{}"
EVENTS_DUE, EVENTS_DUE_BUSY = 5, 300  # of an hour that is due, in each site and in each busy site
ROUNDS = 5  # of a task or a request; the median is printed
STORES = ("redis-server", "mongod")

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))  # the table goes to the same output


def main() -> None:
    print(f"# make bench-sites RATE={RATE:g} SECONDS={SECONDS:g} SEED={SEED}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC,"
          f" {machine()}, load average {os.getloadavg()[0]:.1f}\n")  # fmt: skip
    found = [measured(count) for count in COUNTS]
    print(f"| | {' | '.join(f'{count:,} sites' for count in COUNTS)} |\n|---|{'---|' * len(COUNTS)}")
    for row in found[0]:
        print(f"| {row} | {' | '.join(rows[row] for rows in found)} |")


def measured(count: int) -> dict[str, str]:
    """The rows of the table for this number of sites."""

    def say(what: str) -> None:
        print(f"{datetime.now(UTC):%H:%M:%S} {count:,} sites: {what}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="footfall-bench-") as name, system_running(Path(name)) as system:
        settings = Settings(redis_url=system.redis_url, mongodb_uri=system.mongodb_uri, data_dir=name)
        with closing(Services(settings)) as services:
            say("setting up")
            add_sites(services, count)
            say("events")
            rows = ingestion(system, count)
            moments = make_events(system.mongodb_uri, count, Path(name))
            with workers_held_back(system):
                say("segments")
                rows |= builds(system, services, moments, Path(name))
                say("tasks")
                rows |= tasks(system, services)
            say("reports")
            rows |= reports(system, services, count)
    return rows


def busy(count: int) -> int:
    return max(1, count // 100)


def add_sites(services: Services, count: int) -> None:
    """Writes the documents of the sites themselves: 10,000 changes by SiteStore would take an hour."""
    sites = [Site(NAME.format(n), domains=(f"site-{n}.example",), retention_days=365) for n in range(count)]
    documents = [to_document(site) | {"write_key": str(uuid4())} for site in sites]
    services.database["sites"].insert_many(documents)
    now, kinds = services.now(), (RuleKind.SILENCE, RuleKind.DROP)
    for n in range(busy(count)):
        for kind in kinds:
            target = "https://hooks.example/of-a-bench"
            services.notifications.add(
                Rule(uuid4(), NAME.format(n), kind, Channel.WEBHOOK, target, 60, None, None, now, secret=target)
            )
    services.registry.publish(services.sites.all)


def ingestion(system: System, count: int) -> dict[str, str]:
    """Sends events, and returns when all are stored. The same rate for all, because a batch has a fixed cost."""
    chance = random.Random(SEED)

    def request(number: int) -> bytes:
        site = chance.randrange(busy(count) if chance.random() < 0.9 else count)
        body = {"site_id": NAME.format(site), "event_type": "page_view", "path": f"/{number % 100}",
                "user_id": f"{number % 5000}", "event_id": f"{number}"}  # fmt: skip
        return post_request("bench", "/event", json.dumps(body).encode())

    port = system.ports["INGESTION_PORT"]
    run_load(port, request, connections=CONNECTIONS, seconds=3, rate=RATE)  # fills the caches
    redis = system.redis()
    wait_for(lambda: redis.xlen(JOURNAL_KEY) == 0, "an empty journal", 60)
    before = cpu_seconds(system)
    load = run_load(port, request, connections=CONNECTIONS, seconds=SECONDS, rate=RATE)
    wait_for(lambda: redis.xlen(JOURNAL_KEY) == 0, "an empty journal", 60)
    used = {part: (cpu - before[part]) / load.statuses[200] * 1e6 for part, cpu in cpu_seconds(system).items()}
    parts = {"ingest": "ingestion", "worker": "workers", "redis": "Redis", "mongodb": "MongoDB", "beat": "beat"}
    return {f"{name}, µs of CPU for an event": f"{used[part]:,.0f}" for part, name in parts.items()} | {
        "events/s, p99 of the answers": f"{load.rate:,.0f}, {load.latency(0.99):.0f} ms",
    }


def make_events(uri: str, count: int, folder: Path) -> list[tuple[str, int]]:
    """Inserts events of a past month, and returns the site and the time (ms) of each."""
    moments: list[tuple[str, int]] = []
    for seed, sites, events in ((SEED, count, EVENTS_DUE), (SEED + 1, busy(count), EVENTS_DUE_BUSY)):
        file = folder / "made-up.parquet"
        report_data.make_up(file, seed, events * sites, 20, sites)
        report_data.load(uri, file, seed, NAME)
        places = pq.read_table(file, columns=["site", "occurred"]).to_pydict()
        moments += [(NAME.format(site), ms) for site, ms in zip(*places.values(), strict=True)]
        file.unlink()
    return moments


@dataclass(frozen=True)
class Spent:
    """Seconds, and seconds of CPU of the process that worked and of both stores."""

    seconds: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.seconds * 1e3:,.1f} ms, {self.cpu * 1e3:,.1f} ms of CPU"


def spent(system: System, act: Callable[[], object]) -> Spent:
    before, start = _cpu(system), time.perf_counter()
    act()
    return Spent(time.perf_counter() - start, _cpu(system) - before)


def usual(system: System, act: Callable[[], object]) -> Spent:
    """The median of ROUNDS, by CPU."""
    return sorted((spent(system, act) for _ in range(ROUNDS)), key=lambda each: each.cpu)[ROUNDS // 2]


def _cpu(system: System) -> float:
    stores = (each for name in STORES for each in system.part(name))
    return time.process_time() + sum(sum(each.cpu_times()[:2]) for each in stores)


def tasks(system: System, ours: Services) -> dict[str, str]:
    """What beat asks every five seconds, and what its tasks do."""

    def ask() -> None:
        now = ours.now()
        ours.journal.wake_ups_owed()
        ours.due_builds.is_any()
        ours.notifications.is_any_due(now)
        ours.sign_ins.is_any_due(now)
        ours.uploads.is_any_due()
        ours.imports.is_any_removed()
        ours.removals.is_rewrite_owed()
        ours.erasures.is_any_unfinished()

    def publish_changed() -> None:
        ours.database["sites"].update_one({"_id": NAME.format(0)}, {"$set": {"write_key": str(uuid4())}})
        ours.registry.publish(ours.sites.all)

    every = {
        "5 s: what beat asks": ask,
        "minute: publish_sites, no change": lambda: ours.registry.publish(ours.sites.all),
        "minute: publish_sites, one site changed": publish_changed,
        "minute: carry_ledger": lambda: ours.ledger.carry(ours.now().date() - timedelta(days=1)),
        "minute: take_sample": ours.samples.take,
        "minute: check_rules": lambda: ours.rule_checker.check(CHEAP_KINDS),
        "5 minutes: check_counts": lambda: ours.rule_checker.check(COUNTING_KINDS),
        "10 minutes: collect_segments": lambda: (
            ours.segments.builder.merge_rested(),
            ours.segments.store.collect(ours.now()),
        ),
        "hour: purge_expired": lambda: ours.purger.purge_expired(ours.sites.all()),
    }
    return {f"each {name}": str(usual(system, act)) for name, act in every.items()}


def builds(system: System, ours: Services, moments: Iterable[tuple[str, int]], folder: Path) -> dict[str, str]:
    """Builds the hours of all sites, in a new process. Raises AssertionError if the segments do not hold all events."""
    moments = list(moments)
    ours.due_builds.dirty.mark(moments, ours.now() - timedelta(hours=2))
    seconds, cpu = in_new_process(measure, build_due, system.mongodb_uri, folder)
    site_ids = {site_id for site_id, _ in moments}
    segments = (segment for site_id in site_ids for segment in ours.segments.store.manifest(site_id).segments)
    assert sum(each.rows for each in segments if each.end <= report_data.MONTH.end) == len(moments)
    return {
        "all sites are due at once": f"{seconds:,.1f} s of 3,600, {len(site_ids) / seconds:,.0f} sites/s,"
        f" {cpu / len(site_ids) * 1e3:,.2f} ms of CPU for a site",
    }


def reports(system: System, ours: Services, count: int) -> dict[str, str]:
    busiest, quiet = NAME.format(0), NAME.format(count - 1)
    with httpx.Client(base_url=system.report, timeout=60, headers={"Accept": "text/html"}) as client:

        def question(site_id: str) -> Callable[[], object]:
            body = {"site_id": site_id, "metrics": ["visitors", "visits"], "date_range": ["2026-09-01", "2026-09-30"],
                    "dimensions": ["time:day"]}  # fmt: skip
            return lambda: client.post("/api/v2/query", json=body).raise_for_status()

        every = {
            "report of a month of a busy site": question(busiest),
            "report of a month of another site": question(quiet),
            "overview of all sites": lambda: client.get("/").raise_for_status(),
            "card of a site in the overview": lambda: client.get(f"/parts/card/{quiet}").raise_for_status(),
            "change of a site's settings": lambda: ours.sites.change(Site(quiet), ["timezone"]),
        }
        rows = {name: f"{_usual_ms(act):,.1f} ms" for name, act in every.items()}
        page = client.get("/").text
        assert quiet in page
    return rows | {"size of the overview": f"{len(page) / 1e3:,.0f} kB"}


def _usual_ms(act: Callable[[], object]) -> float:
    act()
    return median(timed(act)[0] for _ in range(ROUNDS)) * 1e3


if __name__ == "__main__":
    main()
