"""`python -m footfall workers`: the Celery workers, what they run, and how many tasks wait in each queue.

Exits with 0 if a worker answers, with 1 if none does, and with 2 if Redis does not answer.
"""

import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

import click
from celery import Celery

from config.celery import QUEUES
from config.services import Services
from config.settings import Settings
from footfall.command_group import stores_of
from footfall.store_checks import check_store
from tasks import app

ANSWER_WITHIN = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class RunningTask:
    name: str
    id: str
    started: float | None  # Unix time, by the worker's clock


@dataclass(frozen=True, slots=True)
class WorkerState:
    """`processes`: how many tasks the worker runs at once. `done`: how many it has run by their names."""

    name: str
    queues: list[str]
    processes: int
    running: list[RunningTask]
    done: dict[str, int]


@click.command("workers")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
@click.pass_obj
def workers_command(settings: Settings, as_json: bool) -> None:
    """Show the workers, their running tasks, and how many tasks wait in each queue."""
    with stores_of(settings, code=2):
        check_store(settings, "redis")
        services = Services(settings)
        waiting = {queue: services.journal.tasks_waiting(queue) for queue in QUEUES}
        services.close()
        found = read_states(app)
    if as_json:
        click.echo(json.dumps({"queues": waiting, "workers": [asdict(each) for each in found]}, indent=2))
    else:
        _print(waiting, found)
    sys.exit(not found)


def read_states(celery: Celery) -> list[WorkerState]:
    """The workers that answer in time, by name. Raises the exceptions of Celery if the broker is not reachable."""
    stats = celery.control.inspect(timeout=ANSWER_WITHIN).stats() or {}
    if not stats:
        return []
    same = celery.control.inspect(list(stats), timeout=ANSWER_WITHIN, limit=len(stats))
    queues, active = same.active_queues() or {}, same.active() or {}
    return [_state(name, stats[name], queues.get(name, []), active.get(name, [])) for name in sorted(stats)]


def _state(name: str, stats: Any, queues: list[Any], active: list[Any]) -> WorkerState:
    running = [RunningTask(_short(task["name"]), task["id"], task["time_start"]) for task in active]
    done = {_short(task): count for task, count in stats["total"].items()}
    return WorkerState(name, sorted(queue["name"] for queue in queues), stats["pool"]["max-concurrency"], running, done)


def _short(task: str) -> str:
    return task.rpartition(".")[2]


def _print(waiting: dict[str, int], found: list[WorkerState]) -> None:
    for queue, count in waiting.items():
        click.echo(f"{count:8,}  tasks wait in {queue}")
    for worker in found:
        running = ", ".join(task.name for task in worker.running) or "nothing"
        click.echo(f"{worker.name}: {worker.processes} processes, reads {','.join(worker.queues)}, runs {running}")
    if not found:
        click.secho("No worker answers.", fg="red")
