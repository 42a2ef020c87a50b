"""Ends with 0 if a Celery worker answers, and else with 1: `python -m footfall.worker_ping`.

`celery --app tasks inspect ping` does the same, and needs three times the CPU time: it loads the tasks and all commands
of Celery.
"""

import signal
import sys
import time

from celery import Celery

from config.celery import celery_settings
from config.settings import load_settings

_LIMIT, _ANSWER_WITHIN = 2.0, 0.5  # seconds; a worker that is not connected yet does not receive a ping
_END = 10  # seconds until the kernel ends this process; kombu waits much longer for a broker that is away


def worker_answers() -> bool:
    app = Celery("footfall")
    app.conf.update(celery_settings(load_settings()))
    end = time.monotonic() + _LIMIT
    while time.monotonic() < end:
        if app.control.ping(timeout=_ANSWER_WITHIN, limit=1):
            return True
    return False


if __name__ == "__main__":
    signal.alarm(_END)
    sys.exit(not worker_answers())
