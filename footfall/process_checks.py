"""Checks the workers and Flower: whether workers take tasks, and who can read Flower.

The `read_...` functions ask the running processes. The checks need no connection. Callers must handle Unanswered.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import celery
from celery import Celery

from analytics.diagnostics.encryption import hosts_without_tls, trusts_any_certificate
from analytics.diagnostics.finding import Finding, Unanswered, ok, problem, warning
from analytics.diagnostics.geoip import check_file
from analytics.segments.storage import SegmentStorage
from analytics.suggestion import closest
from analytics.unavailable import Unavailable
from analytics.wording import counted
from config.celery import QUEUES, celery_settings
from config.running_servers import find_servers
from config.settings import Settings, name_warnings

ANSWER_LIMIT = 2.0  # seconds. The number of workers is unknown, so the first question always takes the whole limit.
START_ONE = "`.venv/bin/celery -A tasks worker --hostname {name}@%h --queues {queues}`"
NO_WORKER = Finding("unchecked", "Needs a worker.")
FLOWER_LIMIT = 1.0  # seconds per page
PROTECT_IT = "Set FLOWER_BASIC_AUTH=user:password, or BIND_HOST=127.0.0.1, and restart Flower."


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """By worker name: the queues that it takes from, the result of `inspect stats`, and its version of Celery."""

    queues: Mapping[str, set[str]]
    stats: Mapping[str, dict[str, Any]]
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FlowerFacts:
    """The HTTP status of each page for a request without a password."""

    host: str
    pages: Mapping[str, int]
    in_container: bool

    @property
    def on_loopback(self) -> bool:
        return ip_address(self.host).is_loopback


def read_workers(app: Celery) -> WorkerFacts:
    """Raises the exceptions of Celery if the broker is not reachable."""
    queues = app.control.inspect(timeout=ANSWER_LIMIT).active_queues() or {}
    if not queues:
        return WorkerFacts({}, {}, {})
    same = app.control.inspect(list(queues), timeout=ANSWER_LIMIT, limit=len(queues))
    versions = {name: _version(report.get("ok", "")) for name, report in (same.report() or {}).items()}
    taken = {name: {queue["name"] for queue in of_worker} for name, of_worker in queues.items()}
    return WorkerFacts(taken, same.stats() or {}, versions)


def workers(workers: WorkerFacts) -> Finding:
    if not workers.queues:
        remedy = f"Start one: {START_ONE.format(name='worker', queues=','.join(QUEUES))}."
        return problem(f"No worker answers within {ANSWER_LIMIT:.0f} s. Events wait in the journal.", remedy)
    return ok(f"{counted(len(workers.queues), 'worker')}: {', '.join(sorted(workers.queues))}.")


def worker_queues(workers: WorkerFacts) -> Finding:
    if not workers.queues:
        return NO_WORKER
    alone = [queue for queue in QUEUES if not any(queue in taken for taken in workers.queues.values())]
    if alone:
        remedy = f"Start one: {START_ONE.format(name='more', queues=','.join(alone))}."
        return problem(f"No worker reads the queues {', '.join(alone)}. Their tasks wait.", remedy)
    return ok(f"Every queue has a worker: {', '.join(QUEUES)}.")


def worker_versions(workers: WorkerFacts) -> Finding:
    if not workers.queues:
        return NO_WORKER
    others = {name: version for name, version in workers.versions.items() if version != celery.__version__}
    if others:
        what = ", ".join(f"{name} runs {version or 'an unknown one'}" for name, version in sorted(others.items()))
        remedy = "Install requirements.txt there and restart it. Celery 5.7.0 crashes when its broker disconnects."
        return warning(f"This process runs Celery {celery.__version__}, but {what}.", remedy)
    return ok(f"Every worker and this process run Celery {celery.__version__}.")


def worker_limits(workers: WorkerFacts) -> Finding:
    """Only the prefork pool restores what a killed process held. Other time limits do not fit CLAIM_IDLE."""
    if not workers.queues:
        return NO_WORKER
    ours = celery_settings(Settings())
    limits = [ours["task_soft_time_limit"], ours["task_time_limit"]]
    remedy = "Start it without --pool and --time-limit: config/celery.py sets them."
    for name, stats in sorted(workers.stats.items()):
        pool = stats["pool"]
        if ".prefork:" not in pool["implementation"]:
            return problem(f"{name} does not use prefork. The tasks of a killed process are not restored.", remedy)
        if list(pool["timeouts"]) != limits:
            return warning(f"{name} has the time limits {pool['timeouts']} instead of {limits}.", remedy)
    return ok(f"Every worker uses prefork and ends a task after {limits[1]} s.")


def read_flower(settings: Settings) -> FlowerFacts:
    """Raises Unanswered if Flower does not answer."""
    host = settings.reached_at
    in_container = any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv"))
    try:
        pages = {page: _status(host, settings.flower_port, page) for page in ("/", "/metrics", "/healthcheck")}
    except (OSError, HTTPException) as error:
        where = f"{host}:{settings.flower_port}"
        remedy = "Start it, or correct FLOWER_PORT. With Docker Compose, run the doctor in Flower's container."
        raise Unanswered(warning(f"Flower does not answer at {where}: {type(error).__name__}.", remedy)) from error
    return FlowerFacts(settings.bind_host, pages, in_container)


def flower_password(flower: FlowerFacts) -> Finding:
    if flower.pages["/"] != 200:
        return ok("Flower requires a password.")
    if flower.on_loopback:
        return ok("Flower requires no password, and listens on loopback only.")
    what = f"Flower requires no password and listens on {flower.host}"
    if flower.in_container:
        return warning(f"{what} in a container.", "Publish its port on 127.0.0.1 only, or set FLOWER_BASIC_AUTH.")
    return problem(f"{what}. Anyone who reaches it can stop workers.", PROTECT_IT)


def flower_open_pages(flower: FlowerFacts) -> Finding:
    """Checks the pages that Flower's password does not protect."""
    bare = [page for page in ("/metrics", "/healthcheck") if flower.pages[page] == 200]
    if bare and not flower.on_loopback:
        remedy = "Set BIND_HOST=127.0.0.1, or put a proxy in front of Flower that blocks them."
        return warning(f"Flower serves {' and '.join(bare)} without a password, even if one is set.", remedy)
    return ok("Flower's /metrics cannot be read from outside.")


def settings_bind_host(settings: Settings) -> Finding:
    if settings.is_production:
        return ok(f"The apps listen on {settings.bind_host}, in production. They check keys and sites.")
    if not ip_address(settings.bind_host).is_loopback:
        what = f"The apps listen on {settings.bind_host} in development. The collector accepts events of any site."
        return warning(what, "Set APP_ENV=production, or BIND_HOST=127.0.0.1.")
    return ok(f"The apps listen on {settings.bind_host}, loopback only.")


def settings_encryption(settings: Settings) -> Finding:
    urls = {"Redis": settings.redis_url} | {f"the journal {each.name}": each.url for each in settings.journals}
    if settings.sentinels:  # which name the servers
        urls = {"Redis": f"redis://{settings.redis_sentinels}"}
    urls["MongoDB"] = settings.mongodb_uri
    clear = [f"{store} at {host}" for store, url in urls.items() for host in hosts_without_tls(url)]
    if clear:
        what = f"The connections to {', '.join(clear)} are not encrypted."
        return warning(what, "Use TLS (docs/stores.md), unless no one else can read this network.")
    trusting = [store for store, url in urls.items() if trusts_any_certificate(url)]
    if trusting:
        what = f"The certificate of {' and '.join(trusting)} is not checked. Another server could take its place."
        return warning(what, "Name the file of the authority instead (docs/stores.md).")
    return ok("The connections to the stores are encrypted, or do not leave this machine.")


def settings_claim_idle(settings: Settings) -> Finding:
    limit = celery_settings(settings)["task_time_limit"]
    if settings.claim_idle <= limit:
        what = (
            f"CLAIM_IDLE is {settings.claim_idle:g} s, and a task may take {limit} s. A worker may take over events "
            "that another worker still processes."
        )
        return warning(what, f"Set CLAIM_IDLE={limit + 5}.")
    return ok(f"CLAIM_IDLE is {settings.claim_idle:g} s, above a task's limit of {limit} s.")


def settings_redis_timeout(settings: Settings) -> Finding:
    if settings.redis_timeout >= 1:
        what = f"REDIS_TIMEOUT is {settings.redis_timeout:g} s. A refused event may wait longer than 2 s for its 503."
        return warning(what, "Set REDIS_TIMEOUT=0.8.")
    return ok(f"REDIS_TIMEOUT is {settings.redis_timeout:g} s.")


def settings_geoip_db(settings: Settings) -> Finding:
    return check_file(settings.geoip_db)


def settings_segments(settings: Settings) -> Finding:
    """Check that this host can write, read and remove a file, if segments are outside MongoDB."""
    if not settings.segment_storage:
        return ok("SEGMENT_STORAGE is not set. MongoDB holds the segments.")
    try:
        SegmentStorage(settings.segment_storage).probe()
    except Unavailable as error:
        return problem(f"{error}.", "Correct SEGMENT_STORAGE. Reports can read only the segments copied to this host.")
    return ok("SEGMENT_STORAGE can be written and read.")


def settings_data_dir(settings: Settings) -> Finding:
    """Check that no other system, with stores of its own, runs in the data folder."""
    ours = {"redis": settings.redis_url, "mongodb": settings.mongodb_uri}
    servers = find_servers(Path(settings.data_dir))
    others = [
        urlsplit(server.url).netloc
        for name, url in ours.items()
        if (server := servers.get(name)) and urlsplit(server.url).netloc not in url.replace("localhost", "127.0.0.1")
    ]
    if others:
        what = f"Another system runs in DATA_DIR, {settings.data_dir}. It has its stores at {' and '.join(others)}."
        return warning(what, "Set DATA_DIR to another folder for one of the two.")
    return ok("No other system runs in DATA_DIR.")


def settings_names(_settings: Settings) -> Finding:
    wrong = name_warnings(closest)
    if wrong:
        return warning(f"{'; '.join(wrong)}.", "Correct or remove each name.")
    return ok("Every name in .env is a setting.")


def _status(host: str, port: int, page: str) -> int:
    connection = HTTPConnection(host, port, timeout=FLOWER_LIMIT)
    try:
        connection.request("GET", page)
        return connection.getresponse().status
    finally:
        connection.close()


def _version(report: str) -> str:
    found = re.search(r"celery:(\S+)", report)
    return found[1] if found else ""
