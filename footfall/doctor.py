"""`python -m footfall doctor`: checks the setup of this deployment, and says what to change.

Prints a line per check, or JSON. Exits with 0 if there is no problem, otherwise with 1. Writes nothing to any store.
Never fails: an unreachable service becomes a finding, and checks that depend on it are reported as unchecked.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Any

import click

from analytics.diagnostics import mongodb, redis, upkeep
from analytics.diagnostics.finding import Finding, ok, problem, warning, without_password
from analytics.diagnostics.redis import RedisFacts
from config.settings import Settings
from footfall import process_checks as processes
from footfall.store_checks import NAMES, read_mongodb_of, read_redis_of, why_unanswered
from tasks import app

# Seconds for everything. Each question has a shorter limit, but the look-up of a host name has none.
DOCTOR_LIMIT = 8.0
COLOURS = {"ok": "green", "warning": "yellow", "problem": "red", "unchecked": "bright_black"}

# All checks. A check takes the facts about its part and returns a Finding. Its name is printed.
CHECKS: dict[str, list[Callable[[Any], Finding]]] = {
    "redis": [
        redis.redis_version,
        redis.redis_role,
        redis.redis_append_only,
        redis.redis_appendfsync,
        redis.redis_last_writes,
        redis.redis_eviction,
        redis.redis_memory,
        redis.redis_clock,
        redis.beat,
        redis.client_addresses,
    ],
    "mongodb": [
        mongodb.mongodb_version,
        mongodb.mongodb_replica_set,
        mongodb.mongodb_primary,
        mongodb.mongodb_majority,
        mongodb.mongodb_failover,
        mongodb.mongodb_journal,
        mongodb.mongodb_indexes,
        mongodb.segments_lag,
        mongodb.site_names,
        mongodb.mongodb_clock,
        upkeep.data_format,
        upkeep.last_backup,
        upkeep.archive,
        upkeep.disk_space,
        upkeep.left_out_journals,
        upkeep.silent_sites,
    ],
    "celery": [
        processes.workers,
        processes.worker_queues,
        processes.worker_versions,
        processes.worker_limits,
    ],
    "flower": [
        processes.flower_password,
        processes.flower_open_pages,
    ],
    "settings": [
        processes.settings_bind_host,
        processes.settings_encryption,
        processes.settings_claim_idle,
        processes.settings_redis_timeout,
        processes.settings_geoip_db,
        processes.settings_segments,
        processes.settings_data_dir,
        processes.settings_names,
    ],
}


# The checks that also apply to the Redis of a further journal.
OF_EACH_JOURNAL = [check for check in CHECKS["redis"] if check not in (redis.beat, redis.client_addresses)]


class BrokerAway(Exception):
    """Redis did not answer, and workers are asked through Redis."""


@dataclass(frozen=True, slots=True)
class Checked:
    name: str
    finding: Finding

    @classmethod
    def of(cls, check: Callable[[Any], Finding], finding: Finding, journal: str = "") -> "Checked":
        """`journal`: the name of the further journal that was checked."""
        return cls(check.__name__.replace("_", " ") + (f" of {journal}" if journal else ""), finding)

    def as_line(self) -> str:
        state = click.style(f"{self.finding.state:9}", fg=COLOURS[self.finding.state])
        return f"{state} {self.name:22}  {self.finding.what} {self.finding.remedy}".rstrip()

    def as_json(self) -> dict[str, str]:
        return {
            "check": self.name,
            "state": self.finding.state,
            "what": self.finding.what,
            "remedy": self.finding.remedy,
        }


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
@click.option("--strict", is_flag=True, help="Also exit with 1 if there is a warning.")
@click.pass_obj
def doctor(settings: Settings, as_json: bool, strict: bool) -> None:
    """Check this deployment, and say what to change."""
    results = list(examine(settings))
    states = [result.finding.state for result in results]
    problems, warnings, unchecked = (states.count(state) for state in ("problem", "warning", "unchecked"))
    if as_json:
        counts = {"problems": problems, "warnings": warnings, "unchecked": unchecked}
        click.echo(json.dumps(counts | {"checks": [result.as_json() for result in results]}, indent=2))
    else:
        for result in results:
            click.echo(result.as_line())
        click.echo(f"{len(results)} checks. Problems: {problems}, warnings: {warnings}, not checked: {unchecked}.")
    sys.exit(bool(problems or (strict and warnings)))


def examine(settings: Settings) -> Iterator[Checked]:
    """The results of all checks.

    All services are asked at the same time. Celery's workers are asked after Redis, their broker.
    """
    end = time.monotonic() + DOCTOR_LIMIT
    broker = begin(lambda: read_redis_of(settings))
    readings = {
        "redis": broker,
        "mongodb": begin(lambda: read_mongodb_of(settings)),
        "celery": begin(lambda: _workers(broker)),
        "flower": begin(lambda: processes.read_flower(settings)),
        "settings": begin(lambda: settings),
    }
    journals = {each.name: begin(partial(read_redis_of, settings, each.url)) for each in settings.journals}
    urls = {"redis": settings.redis_url, "mongodb": settings.mongodb_uri}
    for part, checks in CHECKS.items():
        try:
            facts = readings[part].result(max(0.0, end - time.monotonic()))
        except BrokerAway:
            yield from (Checked.of(check, Finding("unchecked", "Needs Redis.")) for check in checks)
        except Exception as error:
            yield Checked(part, why_unanswered(part, error))
            yield from (Checked.of(check, Finding("unchecked", f"Needs {NAMES[part]}.")) for check in checks)
        else:
            if part in urls:
                yield Checked(part, ok(f"{without_password(urls[part])} answers."))
            yield from (Checked.of(check, _judge(check, facts)) for check in checks)
    for name, reading in journals.items():
        yield from _of_journal(name, reading, end)


def _of_journal(name: str, reading: Future[RedisFacts], end: float) -> Iterator[Checked]:
    try:
        facts = reading.result(max(0.0, end - time.monotonic()))
    except Exception as error:
        finding = why_unanswered("redis", error)
        yield Checked(f"journal {name}", problem(finding.what, "Start it, or correct JOURNAL_URLS."))
    else:
        yield Checked(f"journal {name}", ok(f"The journal {name} answers."))
        yield from (Checked.of(check, _judge(check, facts), name) for check in OF_EACH_JOURNAL)


def begin(read: Callable[[], Any]) -> Future[Any]:
    """Starts a read in a daemon thread, which does not keep the process alive."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(read())
        except Exception as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


def _workers(broker: Future[Any]) -> processes.WorkerFacts:
    if broker.exception():
        raise BrokerAway
    return processes.read_workers(app)


def _judge(check: Callable[[Any], Finding], facts: Any) -> Finding:
    """The finding of a check. A different product than expected may leave out what the check reads."""
    try:
        return check(facts)
    except (KeyError, TypeError, ValueError) as error:
        return warning(f"This check failed: {type(error).__name__} {error}.", "Check it by hand: docs/reliability.md.")
