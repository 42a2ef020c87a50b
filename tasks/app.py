"""The Celery app, and the services that its tasks use.

A setting that cannot be used ends the start with one line. An unreachable store does not: the first task of each worker
process connects, after the fork.
"""

import os
from functools import cache
from typing import Any

import billiard.pool
import structlog
from celery import Celery
from celery.signals import setup_logging, task_retry

from config.celery import celery_settings
from config.logs import configure_logging
from config.services import Services
from config.settings import load_settings_or_exit
from config.stacks import write_stacks_on_signal

log = structlog.get_logger()

# A pool process that stops waits until its parent has read its last result, by default 300 times 0.1 s. A parent that
# is itself stopping may never read it: 8 of 18 stops took 33 s. The process waits for an ack, and running a wake-up
# twice is harmless.
billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 20

settings = load_settings_or_exit()

_PARTS = ("dead_letters", "events", "ledger", "metrics", "retention", "salts", "segments", "sites")
app = Celery("footfall", include=[f"tasks.{name}" for name in _PARTS])
app.conf.update(celery_settings(settings))


@setup_logging.connect
def set_up_logging(**_: object) -> None:
    configure_logging(settings)
    write_stacks_on_signal()


@task_retry.connect
def log_retry(request: Any, reason: object = None, **_: object) -> None:
    log.warning("task_retried", task=request.task.rpartition(".")[2], retries=request.retries, reason=str(reason))


def services() -> Services:
    """What the tasks of this process use.

    A client that is made before a fork does not work in the child, so each process makes its own.
    """
    return _services_of(os.getpid())


@cache
def _services_of(_process: int) -> Services:
    return Services(settings, "footfall-worker")
