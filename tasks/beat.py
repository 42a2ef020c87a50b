"""beat's scheduler: every second it sends the wake-ups that are owed, and none where nothing waits.

Owed: one for each batch of events in the journal, less those already in Celery's queue; and every five seconds one to
build segments, where one is due and no such task waits, and one to finish erasures, where any is not. So an idle system
runs no tasks, but for the books and the sites each minute, old files and salts each ten and the purge of old events
each hour, and beat does not fill the queues while no worker runs. Any number of beats may run; a spare task finds
nothing to do. A wall clock that is set back or forward changes nothing.

Where Redis is full no wake-up can be sent, taken or acked, and a Celery worker dies at every start. Then beat does
itself what makes room: it stores what waits. The collector refuses meanwhile.
"""

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from celery.beat import ScheduleEntry, Scheduler
from celery.schedules import schedule
from celery.signals import beat_init

from analytics.events.event import new_id
from analytics.journal.journal import make_journal
from analytics.pipeline import store_waiting
from analytics.suggestion import closest
from analytics.unavailable import Unavailable
from config.celery import SEGMENTS_QUEUE
from config.clients import BEAT
from config.settings import name_warnings
from tasks.app import settings, stores
from tasks.events import store_events
from tasks.retention import eraser, finish_erasures
from tasks.segments import build_segments, segments

log = structlog.get_logger()

_MOST_AT_ONCE = 50  # a second: more than any worker's speed, and little enough to publish within it

# Touched at least every second (beat_max_loop_interval): how docker-compose.yml sees that beat does not hang.
BEAT_ALIVE = Path(tempfile.gettempdir()) / "footfall-beat-alive"


class MonotonicSchedule(schedule):  # type: ignore[misc]
    """Every so many seconds of a clock that only goes forward. By the wall clock, beat would send nothing for an hour
    after that clock goes back by an hour, and everything at once after it goes forward. Celery compares `now` with
    earlier values of `now` only, so that it need not be today.
    """

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.monotonic(), UTC)


class MonotonicEntry(ScheduleEntry):  # type: ignore[misc]
    def __init__(self, *, schedule: float | MonotonicSchedule, **kwargs: Any) -> None:
        """`schedule`: seconds, as in config/celery.py, or the schedule of an entry that Celery copies."""
        if isinstance(schedule, float):
            schedule = MonotonicSchedule(schedule, app=kwargs["app"])
        super().__init__(schedule=schedule, **kwargs)


@beat_init.connect
def warn_about_names(**_: object) -> None:
    """Only beat does: a deployment has one, and several of the other processes."""
    for sentence in name_warnings(closest):
        log.warning("not_a_setting", what=sentence)


class OwedScheduler(Scheduler):  # type: ignore[misc]
    Entry = MonotonicEntry

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._journal = make_journal(settings, name=BEAT)
        self._consumer = f"beat-{new_id()}"
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
            while self._journal.is_full() and store_waiting(stores(), self._consumer, is_retry=True).is_some():
                BEAT_ALIVE.touch()
                log.warning("stored_by_beat", reason="no room in Redis for Celery")
        except Unavailable as error:
            log.warning("no_room_made", error=str(error))

    def _owed(self, task: str) -> int:
        try:
            if task == store_events.name:
                return min(self._journal.wake_ups_owed(), _MOST_AT_ONCE)
            if task == build_segments.name:
                return int(self._journal.tasks_waiting(SEGMENTS_QUEUE) == 0 and segments().builder.is_owed())
            if task == finish_erasures.name:
                return int(eraser().is_owed())
        except Unavailable as error:
            log.warning("wake_up_not_sent", task=task, error=str(error))
            return 0
        return 1
