"""Describes the state of a system that did not do what a run waited for. Never fails.

The text contains processes, journal, queues, the Python stacks of Footfall's processes, and the last lines of each log.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from analytics.journal.journal import GROUP, JOURNAL_KEY
from config.celery import QUEUES
from config.stacks import STACKS_SIGNAL
from tests.support.running_system import System

LAST_LINES = 15  # of each log
PYTHON = ("gunicorn", "tasks worker", "tasks beat")  # the processes that call config.stacks.write_stacks_on_signal


def post_mortem(system: System) -> str:
    """A text of several hundred lines. If a part is not available, the text says so."""
    output = system.output()
    parts = {
        "processes": _attempt(lambda: "\n".join(_processes(system))),
        "journal and queues": _attempt(lambda: "\n".join(_waiting(system))),
        "stacks": _attempt(lambda: _stacks(system)),
        "last lines of each process": _last_lines(output),
        **{f"last lines of {log}": _tail(log.read_text(errors="replace")) for log in _server_logs(system)},
    }
    return "\n".join(f"\n== {title} ==\n{text}" for title, text in parts.items())


def _attempt(part: Callable[[], str]) -> str:
    try:
        return part()
    except Exception as error:  # the other parts are needed all the more
        return f"not to be had: {error!r}"


def _processes(system: System) -> Iterator[str]:
    yield f"{'pid':>7} {'parent':>7} {'state':10} {'seconds':>8}  command"
    for process in [system.process, *system.process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            age = time.time() - process.create_time()
            command = " ".join(process.cmdline())[:150]
            yield f"{process.pid:7} {process.ppid():7} {process.status():10} {age:8.1f}  {command}"


def _waiting(system: System) -> Iterator[str]:
    with system.redis() as redis:
        yield f"journal: {redis.xlen(JOURNAL_KEY)} events"
        yield f"pending: {_attempt(lambda: str(redis.xpending(JOURNAL_KEY, GROUP)))}"
        yield f"the first 20 of them: {_attempt(lambda: str(redis.xpending_range(JOURNAL_KEY, GROUP, '-', '+', 20)))}"
        for queue in QUEUES:
            yield f"Celery's queue {queue}: {redis.llen(queue)} tasks"
        yield f"Celery's unacked tasks: {redis.hlen('unacked')}"
        yield f"memory: {redis.info('memory')['used_memory_human']}"


def _stacks(system: System) -> str:
    """The stacks of one process after the other, because a stack does not name its process."""
    return "\n".join(f"pid {p.pid}:\n{_stack(system, p)}" for words in PYTHON for p in system.part(words))


def _stack(system: System, process: psutil.Process) -> str:
    before = length = len(system.output())
    with suppress(psutil.NoSuchProcess):
        process.send_signal(STACKS_SIGNAL)
    end = time.monotonic() + 2  # a frozen process writes nothing
    while time.monotonic() < end and (length == before or length != len(system.output())):
        length = len(system.output())
        time.sleep(0.1)
    return system.output()[before:]


def _last_lines(output: str) -> str:
    by_process: dict[str, list[str]] = defaultdict(list)
    for line in output.splitlines():
        by_process[line.partition(" |")[0]].append(line)
    return "\n".join(_tail("\n".join(lines)) for _, lines in sorted(by_process.items()))


def _tail(text: str) -> str:
    return "\n".join(line[:500] for line in text.splitlines()[-LAST_LINES:])


def _server_logs(system: System) -> list[Path]:
    return sorted(Path(system.environment["DATA_DIR"]).glob("*/*.log"))
