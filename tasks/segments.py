"""Segments of what was stored: built every few seconds where one is due, and their old files removed.

Any number of workers may do this at once: a site is built by one of them, and whoever is overtaken has changed nothing
(analytics/segments/builder.py). A kill -9 at any point costs a minute.
"""

import os
import signal
from datetime import UTC, datetime, timedelta
from functools import cache

from celery.signals import worker_shutting_down
from celery.worker import state

from analytics.segments.engine import Segments, make_segments
from config.clients import make_database
from tasks.app import app, settings
from tasks.outcome import Result, one_builder, zeros_if_unavailable

BUILD_FOR = timedelta(seconds=20)  # then the next task goes on: a worker that stops should not wait for all sites
# A month of ten million events takes minutes, on a busy machine a quarter of an hour. Nobody waits for it: others store
# events, and a worker that stops ends it. What did not end is begun anew.
LIMITS = {"soft_time_limit": 1800, "time_limit": 1830}


@cache
def segments() -> Segments:
    """This process's, as tasks.app.stores."""
    return make_segments(settings, make_database(settings))


# Acked at once: whether one is owed is in MongoDB, and Redis would restore what is held longer than its
# visibility_timeout of 120 s.
@app.task(name="tasks.segments.build_segments", acks_late=False, **LIMITS)
@zeros_if_unavailable("segments_not_built", built=0)
def build_segments() -> Result:
    """One at a time on a machine: the others of its processes store events."""
    return {"built": one_builder(lambda: segments().builder.build_due(until=datetime.now(UTC) + BUILD_FOR))}


@app.task(name="tasks.segments.collect_segments", acks_late=False, **LIMITS)
@zeros_if_unavailable("segments_not_collected", merged=0, collected=0)
def collect_segments() -> Result:
    """And months that are over, of sites to which nothing comes any more, into one segment."""
    now = datetime.now(UTC)
    merged = one_builder(lambda: segments().builder.merge_rested(until=now + BUILD_FOR))
    return {"merged": merged, "collected": segments().store.collect(now)}


@worker_shutting_down.connect
def stop_building(**_: object) -> None:
    """A worker that stops waits for its tasks, but a build may take minutes, and is begun anew anyway."""
    for request in tuple(state.active_requests):
        if request.name == build_segments.name and request.worker_pid:
            os.kill(request.worker_pid, signal.SIGUSR1)  # as Celery does at the soft limit
