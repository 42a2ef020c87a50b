"""The scheduler of beat. Every second it sends the wake-ups that are owed, and none if nothing waits.

One wake-up is owed for four batches of events in the journal, less those that are already in Celery's queue. Every five
seconds beat also sends a task to build segments, if one is due and no such task waits, a task to finish erasures, if
one is unfinished, and tasks to send notifications, to assign visits and to import uploads, if any are due. So an idle
system runs only the tasks of the ledger, the samples, the sites and the rules (each minute), of rules that count events
(every five minutes), of old files and salts (every ten minutes) and of the purge (each hour). Beat does not fill the
queues while no worker runs. Any number of beats may run: a superfluous task finds nothing to do. Changes of the wall
clock have no effect.

If Redis is full, no wake-up can be sent, taken or acked, and a Celery worker ends at every start. Then beat itself
stores the waiting events, which makes room. The collector refuses events meanwhile.
"""

import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from celery.beat import ScheduleEntry, Scheduler
from celery.schedules import schedule
from celery.signals import beat_init

from analytics.diagnostics.redis import BEAT
from analytics.events.event import new_id
from analytics.pipeline import Outcome, store_waiting
from analytics.suggestion import closest
from analytics.unavailable import Unavailable
from config.celery import SEGMENTS_QUEUE
from config.services import Services
from config.settings import name_warnings
from tasks.app import settings
from tasks.events import store_events
from tasks.imports import work_uploads
from tasks.notifications import send_notifications
from tasks.retention import finish_erasures
from tasks.segments import build_segments
from tasks.visitors import assign_visits

log = structlog.get_logger()

# Seconds for which builds of segments wait while many events wait: a build occupies a process that could store them.
BUILDS_WAIT = 30.0
_MOST_AT_ONCE = 50  # per second. It is above any worker's speed, and few enough to publish within a second.

# Touched at least every second (beat_max_loop_interval). docker-compose.yml checks it to see that beat does not hang.
BEAT_ALIVE = Path(tempfile.gettempdir()) / "footfall-beat-alive"


class MonotonicSchedule(schedule):  # type: ignore[misc]
    """A fixed interval in seconds of a monotonic clock.

    With the wall clock, beat would send nothing for an hour after that clock goes back by an hour, and everything at
    once after it goes forward. Celery compares `now` only with earlier values of `now`, so it need not be the current
    date.
    """

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.monotonic(), UTC)


class MonotonicEntry(ScheduleEntry):  # type: ignore[misc]
    def __init__(self, *, schedule: float | MonotonicSchedule, **kwargs: Any) -> None:
        """`schedule`: seconds, as in config/celery.py, or the schedule of an entry that Celery copies."""
        if not isinstance(schedule, MonotonicSchedule):
            schedule = MonotonicSchedule(schedule, app=kwargs["app"])
        super().__init__(schedule=schedule, **kwargs)


@beat_init.connect
def warn_about_names(**_: object) -> None:
    """Logs names that look like settings.

    Only beat does: a deployment has one beat, and several of the other processes.
    """
    for sentence in name_warnings(closest):
        log.warning("unknown_setting_found", what=sentence)


class OwedScheduler(Scheduler):  # type: ignore[misc]
    Entry = MonotonicEntry

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._services = Services(settings, BEAT)
        self._consumer = f"beat-{new_id()}"
        self._caught_up = time.monotonic()  # when the workers were last not behind
        super().__init__(*args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        BEAT_ALIVE.touch()
        seconds: float = super().tick(*args, **kwargs)
        return seconds

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
        if entry.task == store_events.name:
            self._make_room()
        for _ in range(self._owed(entry.task)):
            super().apply_entry(entry, producer)

    def _make_room(self) -> None:
        try:
            while self._services.journal.lacks_room_for_tasks() and self._store_batch().is_some():
                BEAT_ALIVE.touch()
                log.warning("events_stored_by_beat", reason="no room in Redis for Celery")
        except Unavailable as error:
            log.warning("journal_not_drained", error=str(error))

    def _store_batch(self) -> Outcome:
        return store_waiting(self._services.stores, self._consumer, is_retry=True)

    def _owed(self, task: str) -> int:
        ours = self._services
        owed: dict[str, Callable[[], int]] = {
            store_events.name: lambda: min(ours.journal.wake_ups_owed(), _MOST_AT_ONCE),
            build_segments.name: lambda: self._is_free_to_build() and ours.due_builds.is_any(),
            send_notifications.name: lambda: ours.notifications.is_any_due(ours.now()),
            assign_visits.name: lambda: ours.sign_ins.is_any_due(ours.now()),
            work_uploads.name: lambda: ours.uploads.is_any_due() or ours.imports.is_any_removed(),
            finish_erasures.name: lambda: ours.removals.is_rewrite_owed() or ours.erasures.is_any_unfinished(),
        }
        try:
            return int(owed[task]()) if task in owed else 1
        except Unavailable as error:
            log.warning("wake_up_not_sent", task=task, error=str(error))
            return 0

    def _is_free_to_build(self) -> bool:
        """Whether a task to build segments may be sent. Raises Unavailable."""
        return not self._must_catch_up() and self._services.journal.tasks_waiting(SEGMENTS_QUEUE) == 0

    def _must_catch_up(self) -> bool:
        """Whether all processes should store events. Raises Unavailable."""
        if not self._services.journal.is_behind():
            self._caught_up = time.monotonic()
            return False
        return time.monotonic() - self._caught_up < BUILDS_WAIT
