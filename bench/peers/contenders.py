"""The systems that `make bench-peers` compares. Each has a new Redis and a new MongoDB of its own, as durable as ours.

Ingestion has two processes each. Footfall is the whole system of `make run`; its other processes are idle.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
from pymongo import MongoClient
from pymongo.collection import Collection
from redis import Redis

from analytics.events.store import INDEXES
from analytics.interval import DAY, Interval, as_ms
from bench.calibration import answers
from bench.ingestion import PARTS, pss
from bench.report_questions import pipeline_of_timeseries
from footfall.embedded_servers import mongo_server, pick_port, redis_server
from tests.support.running_system import System, running, running_alone, wait_for
from tests.support.stock_clients import NODE, environment

FOLDER = Path(__file__).parent
BULLMQ = "Express, BullMQ, mongoose"
FOOTFALL = "Footfall"
TUTORIALS = {
    "Flask, a Celery task per event; threads": ("gthread --threads 16", "prefork --concurrency 2"),
    "Flask, a Celery task per event; gevent": ("gevent", "gevent --concurrency 100"),
}
_DAYS = 30  # of a report

Days = list[tuple[str, int, int]]  # dates, with their visitors and visits


@dataclass(frozen=True)
class Contender:
    """A running system. `roots`: processes of each part, without their children. `ask_days`: asks for the visitors and
    visits of each day of a site, unless the contender has no report.
    """

    name: str
    port: int
    redis: Redis
    events: Collection[dict[str, Any]]
    roots: dict[str, list[psutil.Process]]
    ask_days: Callable[[str], Days] | None = None

    def processes(self, part: str) -> list[psutil.Process]:
        found = [root for root in self.roots[part] if root.is_running()]  # a worker replaces its processes
        return list({each.pid: each for root in found for each in (root, *root.children(recursive=True))}.values())

    def cpu_seconds(self) -> dict[str, float]:
        return {part: sum(sum(p.cpu_times()[:2]) for p in self.processes(part)) for part in self.roots}

    def memory(self) -> dict[str, float]:
        """MB of each part. Pages that processes share count once."""
        return {part: sum(map(pss, self.processes(part))) for part in self.roots}


@contextmanager
def all_contenders(folder: Path) -> Iterator[list[Contender]]:
    """Starts all of them. They are killed at the end."""
    starts = [_footfall, _bullmq, *(partial(_tutorial, name=name) for name in TUTORIALS)]
    with ExitStack() as stack:
        contenders = []
        for number, start in enumerate(starts):
            own = folder / str(number)
            own.mkdir()
            contenders.append(stack.enter_context(start(own)))
        yield contenders


@contextmanager
def _footfall(folder: Path) -> Iterator[Contender]:
    system = System(folder)
    try:
        system.start()
        parts = {"ingestion": "ingest", "worker": "worker", "redis": "redis", "mongodb": "mongodb"}
        roots = {part: system.part(PARTS[name]) for part, name in parts.items()}
        with system.database() as database, httpx.Client(base_url=system.report, timeout=60) as client:
            port, ask = system.ports["INGESTION_PORT"], partial(_report_of_days, client)
            yield Contender(FOOTFALL, port, system.redis(), database["events"], roots, ask)
        system.stop()
    finally:
        system.kill()


@contextmanager
def _bullmq(folder: Path) -> Iterator[Contender]:
    with _stores(folder) as (redis, uri, roots), ExitStack() as stack:
        port, log = pick_port(0), folder / "log"
        settings = {
            "PATH": environment(FOLDER)["PATH"],
            "REDIS_PORT": f"{redis.get_connection_kwargs()['port']}",
            "MONGODB_URI": uri,
        }
        server, *workers = [
            stack.enter_context(running_alone(f"{NODE} {FOLDER}/bullmq/{script}.mjs", log, PORT=f"{port}", **settings))
            for script in ("server", "worker", "worker")
        ]
        found = _ready(BULLMQ, port, redis, uri, roots | {"ingestion": [server], "worker": workers})
        yield replace(found, ask_days=partial(_aggregated_days, found.events))


@contextmanager
def _tutorial(folder: Path, name: str) -> Iterator[Contender]:
    app = "bench.peers.tutorial.app"
    serves, works = TUTORIALS[name]
    with _stores(folder) as (redis, uri, roots), ExitStack() as stack:
        port, log = pick_port(0), folder / "log"
        settings = {
            "PYTHONPATH": environment(FOLDER)["PYTHONPATH"],
            "REDIS_URL": f"redis://127.0.0.1:{_port_of(redis)}/0",
            "MONGODB_URI": uri,
        }
        web, worker = [
            stack.enter_context(running_alone(line, log, **settings))
            for line in (
                f"gunicorn --workers 2 --bind 127.0.0.1:{port} --worker-class {serves} {app}:app",
                f"celery --quiet --app {app}:celery worker --pool {works}",
            )
        ]
        yield _ready(name, port, redis, uri, roots | {"ingestion": [web], "worker": [worker]})


@contextmanager
def _stores(folder: Path) -> Iterator[tuple[Redis, str, dict[str, list[psutil.Process]]]]:
    redis, mongodb = redis_server(folder / "redis", pick_port(0)), mongo_server(folder / "mongodb", pick_port(0))
    with running(redis) as first, running(mongodb) as second:
        roots = {"redis": [psutil.Process(first.pid)], "mongodb": [psutil.Process(second.pid)]}
        yield Redis.from_url(redis.url, protocol=2), f"{mongodb.url}&w=majority&journal=true", roots


def _report_of_days(client: httpx.Client, site: str) -> Days:
    today = datetime.now(UTC).date()
    query = {
        "site_id": site, "metrics": ["visitors", "visits"], "dimensions": ["time:day"],
        "date_range": [f"{today - timedelta(_DAYS - 1)}", f"{today}"],
    }  # fmt: skip
    answer = client.post("/api/v2/query", json=query).raise_for_status()
    return [(*row["dimensions"], *row["metrics"]) for row in answer.json()["results"]]


def _aggregated_days(events: Collection[dict[str, Any]], site: str) -> Days:
    tomorrow = as_ms(datetime.now(UTC)) // DAY * DAY + DAY
    rows = events.aggregate(pipeline_of_timeseries(site, Interval(tomorrow - _DAYS * DAY, tomorrow)))
    return [(f"{row['_id'].date()}", row["visitors"], row["visits"]) for row in rows]


def _port_of(redis: Redis) -> str:
    return str(redis.get_connection_kwargs()["port"])


def _ready(name: str, port: int, redis: Redis, uri: str, roots: dict[str, list[psutil.Process]]) -> Contender:
    events = MongoClient[dict[str, Any]](uri)["footfall"]["events"]
    for index, keys in INDEXES.items():
        events.create_index(keys, name=index)
    wait_for(lambda: answers(port), name)
    return Contender(name, port, redis, events, roots)
