"""Every hour purges the data that sites no longer keep, and finishes erasures of visitors as soon as one is owed.

The tasks are on the queue of segments, because they cause segments to be rebuilt. Beat sends `finish_erasures` if an
erasure is owed (tasks/beat.py). Both tasks may run several times at once, and may crash at any point.
"""

from datetime import UTC, datetime, timedelta

from celery.signals import worker_ready

from analytics.privacy.local_copies import Forgetter
from tasks.app import app, services
from tasks.outcome import Result, built_alone, zeros_if_unavailable
from tasks.segments import BUILD_FOR, LIMITS

PURGE_FOR = timedelta(seconds=60)  # then segments are built, and another task continues the purge


@app.task(name="tasks.retention.finish_erasures", acks_late=False, **LIMITS)
@zeros_if_unavailable("erasures_not_finished", built=0)
def finish_erasures() -> Result:
    """Rebuilds segments without erased visitors, and rewrites Redis's file."""
    return built_alone(lambda: services().eraser.finish(until=datetime.now(UTC) + BUILD_FOR))


@app.task(name="tasks.retention.purge_expired", acks_late=False, **LIMITS)
@zeros_if_unavailable("events_not_purged", events=0, dead_letters=0)
def purge_expired() -> Result:
    ours = services()
    done = ours.purger.purge_expired(ours.sites.all(), until=datetime.now(UTC) + PURGE_FOR)
    if not done.is_done:
        purge_expired.apply_async()
    return {"events": done.events, "dead_letters": done.dead_letters}


@worker_ready.connect
def forget_copies(**_: object) -> None:
    """Runs in the worker's main process, once per machine, because pool processes start and end."""
    Forgetter(services().segments.store).start()
