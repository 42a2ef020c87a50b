"""Builds segments of stored events every few seconds if one is due, and removes old segment files.

Any number of workers may run these tasks at once. One of them builds a site, and the work of a worker that is too late
changes nothing (analytics/segments/builder.py). A kill -9 at any point delays the build by a minute.
"""

import os
import signal
from datetime import UTC, datetime, timedelta

from celery.signals import worker_shutting_down
from celery.worker import state

from tasks.app import app, services
from tasks.outcome import Result, built_alone, zeros_if_unavailable

# Then the next task continues: a worker that stops should not wait for all sites.
BUILD_FOR = timedelta(seconds=20)
# A month of ten million events takes minutes, on a busy machine a quarter of an hour. It delays nothing else: other
# processes store events, and a worker that stops ends the build. An unfinished build is started again.
LIMITS = {"soft_time_limit": 1800, "time_limit": 1830}


# Acked at once: MongoDB knows whether a build is owed, and Redis would restore a task that is held longer than its
# visibility_timeout of 120 s.
@app.task(name="tasks.segments.build_segments", acks_late=False, **LIMITS)
@zeros_if_unavailable("segments_not_built", built=0)
def build_segments() -> Result:
    """Builds due segments. One process per machine builds at a time, and the others store events."""
    return built_alone(lambda: services().segments.builder.build_due(until=datetime.now(UTC) + BUILD_FOR))


@app.task(name="tasks.segments.collect_segments", acks_late=False, **LIMITS)
@zeros_if_unavailable("segments_not_collected", merged=0, collected=0)
def collect_segments() -> Result:
    """Removes old files, and merges past months of sites without new events into one segment."""
    now = datetime.now(UTC)
    merged = built_alone(lambda: services().segments.builder.merge_rested(until=now + BUILD_FOR))
    return {"merged": merged["built"], "collected": services().segments.store.collect(now)}


@worker_shutting_down.connect
def stop_building(**_: object) -> None:
    """Interrupts builds and imports.

    A worker that stops waits for its tasks, but these may take minutes, and are started again anyway.
    """
    for request in tuple(state.active_requests):
        if request.name in (build_segments.name, "tasks.imports.work_uploads") and request.worker_pid:
            os.kill(request.worker_pid, signal.SIGUSR1)  # as Celery does at the soft limit
