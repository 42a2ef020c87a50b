"""The Celery app, and the services that its tasks use.

A setting that cannot be used ends the start with one line. An unreachable store does not: the first task of each worker
process connects, after the fork.
"""

import os
import sys
from contextlib import closing, suppress
from importlib import import_module
from threading import Lock
from typing import Any

import billiard.pool
import structlog
from celery import Celery
from celery.signals import beat_init, setup_logging, task_retry, worker_init

from analytics.events.event_index import EventIndex
from analytics.unavailable import Unavailable
from config.celery import celery_settings
from config.logs import configure_logging
from config.services import Services
from config.settings import load_settings_or_exit
from config.shared_memory import share_memory_with_children
from config.stacks import write_stacks_on_signal
from config.start_check import exit_if_stores_are_not_ready

log = structlog.get_logger()

# A pool process that stops waits until its parent has read its last result, by default 300 times 0.1 s. A parent that
# is itself stopping may never read it: 8 of 18 stops took 33 s. The process waits for an ack, and running a wake-up
# twice is harmless.
billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 20

settings = load_settings_or_exit()
_ours: tuple[int, Services] | None = None  # the process that made them, and its services
_making = Lock()
# A pool process that is forked while the page of metrics takes the lock would otherwise never get it.
os.register_at_fork(before=_making.acquire, after_in_parent=_making.release, after_in_child=_making.release)

_PARTS = (
    "archive", "dead_letters", "events", "imports", "ledger", "metrics", "notifications",
    "retention", "salts", "samples", "segments", "sites", "visitors",
)  # fmt: skip
_OF_TASKS = "analytics.privacy.eraser", "analytics.privacy.late_arrivals"
_OF_THE_POOL = "billiard.popen_fork", "billiard.sharedctypes", "celery.worker.consumer", "cffi.cparser"
app = Celery("footfall", include=[f"tasks.{name}" for name in _PARTS])
app.conf.update(celery_settings(settings))


@setup_logging.connect
def set_up_logging(**_: object) -> None:
    configure_logging(settings)
    write_stacks_on_signal()


@worker_init.connect
@beat_init.connect
def check_stores(**_: object) -> None:
    exit_if_stores_are_not_ready(settings, "redis", "mongodb")
    with suppress(Unavailable), closing(Services(settings)) as own:
        own.store_notes.note_first_start(own.now(), EventIndex(own.database).total)
        own.store_notes.note_journals(each.name for each in settings.journals if each.takes_events)


@beat_init.connect  # a worker has not set up its logs when it sends worker_init
def name_missing_journals(**_: object) -> None:
    with suppress(Unavailable), closing(Services(settings)) as own:
        for name in own.store_notes.journals_left_out():
            log.warning("journal_not_set", journal=name)


@worker_init.connect
def load_before_fork(**_: object) -> None:
    """Imports what tasks, and Celery's own parts of a pool, use before the pool forks. Otherwise each process has 3 MB
    of its own for Celery's parts alone. Beat and Flower import less.
    """
    for module in (*_OF_TASKS, *_OF_THE_POOL):
        import_module(module)
    import_module("analytics.enrichment.user_agents").agent_of("Mozilla/5.0")  # compiles its tables, 25 MB
    # By default, the thread that writes a batch (analytics/pipeline.py) waits for 5 ms after each reply of a store,
    # until the thread that prepares the next batch lets it continue.
    sys.setswitchinterval(0.0005)
    share_memory_with_children()


@task_retry.connect
def log_retry(request: Any, reason: object = None, **_: object) -> None:
    log.warning("task_retried", task=request.task.rpartition(".")[2], retries=request.retries, reason=str(reason))


def services() -> Services:
    """What the tasks of this process use.

    A client that is made before a fork does not work in the child, so each process makes its own.
    """
    global _ours  # noqa: PLW0603 one for each process, behind a lock
    with _making:
        if _ours is None or _ours[0] != os.getpid():
            _ours = os.getpid(), Services(settings, "footfall-worker")
        return _ours[1]
