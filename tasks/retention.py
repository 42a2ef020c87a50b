"""What must not be kept goes: every hour what sites keep no longer, at once what is left of visitors who are erased.

On the queue of segments, as both make work for those. Beat asks for `finish_erasures` where one is owed
(tasks/beat.py). Either may run any number of times at once, and die anywhere.
"""

from datetime import UTC, datetime, timedelta
from functools import cache

import structlog
from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import worker_ready

from analytics.journal.dead_letters import DeadLetterStore
from analytics.journal.journal import make_journal
from analytics.privacy.eraser import Eraser, make_eraser
from analytics.privacy.local_copies import Forgetter
from analytics.privacy.retention import Purger, all_sites
from analytics.segments.engine import make_segments
from analytics.segments.scratch import alone
from analytics.sites.store import SiteStore
from analytics.unavailable import Unavailable
from config.clients import make_database
from tasks.app import app, settings
from tasks.segments import BUILD_FOR, LIMITS, segments

log = structlog.get_logger()

PURGE_FOR = timedelta(seconds=60)  # then segments have their turn, and another task goes on


@cache
def eraser() -> Eraser:
    return make_eraser(settings, make_database(settings), segments())


@cache
def purger() -> tuple[Purger, SiteStore]:
    database = make_database(settings)
    return Purger(database, make_journal(settings), DeadLetterStore(database)), SiteStore(database)


@app.task(name="tasks.retention.finish_erasures", acks_late=False, **LIMITS)
def finish_erasures() -> dict[str, int]:
    """Segments anew without them, and Redis's file. One builder at a time on a machine."""
    try:
        with alone(settings.segment_folder / "building.lock") as is_ours:
            return {"built": eraser().finish(until=datetime.now(UTC) + BUILD_FOR) if is_ours else 0}
    except Unavailable as error:
        log.warning("erasures_not_finished", error=str(error))  # the next one will
    except SoftTimeLimitExceeded:
        log.warning("erasures_not_finished", error="out of time")
    return {"built": 0}


@app.task(name="tasks.retention.purge_expired", acks_late=False, **LIMITS)
def purge_expired() -> dict[str, int]:
    try:
        ours, sites = purger()
        done = ours.purge_expired(all_sites(sites), until=datetime.now(UTC) + PURGE_FOR)
        if not done.is_done:
            purge_expired.apply_async()
        return {"events": done.events, "dead_letters": done.dead_letters}
    except Unavailable as error:
        log.warning("not_purged", error=str(error))  # the next hour will
        return {"events": 0, "dead_letters": 0}


@worker_ready.connect
def forget_copies(**_: object) -> None:
    """Of the worker's first process, for its machine: its pool's processes come and go."""
    Forgetter(make_segments(settings, make_database(settings)).store).start()
