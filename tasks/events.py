"""The wake-up: `store_events` moves events from the journal to MongoDB, batch by batch. `WakeUps` sends it.

The task carries no events: they are in the journal. So a wake-up that is lost, repeated or late does no harm. Celery
loses some (measured: 57 of 21,272 when workers are killed), therefore beat also sends those that are owed.
"""

import threading
from dataclasses import replace

import structlog
from celery import Task
from celery.exceptions import SoftTimeLimitExceeded
from kombu.exceptions import OperationalError

from analytics.events.account import DEAD, DUPLICATE, STORED
from analytics.journal.journal import Journal
from analytics.pipeline import Outcome, store_waiting
from analytics.unavailable import Unavailable
from config.metrics import EVENT_OUTCOMES
from tasks.app import app, services
from tasks.dead_letters import announce

log = structlog.get_logger()


@app.task(
    name="tasks.events.store_events",
    bind=True,
    autoretry_for=(Unavailable,),  # never caused by an event, so it retries without end
    max_retries=None,
    retry_backoff=1,
    retry_backoff_max=5,  # the backlog waits for a retrying task, and should continue soon after MongoDB is back
    retry_jitter=True,
)
def store_events(self: Task, timed_out: bool = False) -> dict[str, int | str]:
    """Stores what waits, for about a second. A retry and a redelivery keep the task's id, which identifies the events
    that it had taken.

    `timed_out`: an earlier run took too long. An event may be the cause, so that run counts as a crash.
    """
    # The process of an earlier run may have crashed.
    redelivered = (self.request.delivery_info or {}).get("redelivered")
    is_retry = self.request.retries > 0 and not redelivered and not timed_out
    try:
        return store_batch(self.request.id, is_retry=is_retry).as_result()
    except SoftTimeLimitExceeded as error:
        raise self.retry(exc=error, countdown=1, kwargs={"timed_out": True}) from error


def store_batch(consumer: str, *, is_retry: bool) -> Outcome:
    """Store what waits, for about a second. Dead letters are announced and events counted as soon as their batch is
    settled. See store_waiting. Raises Unavailable.
    """
    return store_waiting(replace(services().stores, settled=_report), consumer, is_retry=is_retry)


def _report(outcome: Outcome) -> None:
    announce(outcome.deaths)
    EVENT_OUTCOMES.labels(STORED, "").inc(outcome.stored)
    EVENT_OUTCOMES.labels(DUPLICATE, "").inc(outcome.duplicate)
    for death in outcome.deaths:
        EVENT_OUTCOMES.labels(DEAD, death.reason).inc()
    for reason in outcome.dropped:
        EVENT_OUTCOMES.labels("dropped", reason.partition(":")[0]).inc()  # the names of AI crawlers are many


class WakeUps:
    """Sends wake-ups from its own thread.

    Publishing blocks for up to 6 s when the broker crashes (measured), and no request should wait for that. It sends at
    most once in `pause` seconds: the events of that time share a task.
    """

    def __init__(self, journal: Journal, pause: float = 0.05) -> None:
        self._journal = journal
        self._pause = pause
        self._asked = threading.Event()
        self._started = threading.Lock()

    def ask(self) -> None:
        """Requests that the owed wake-ups are sent soon.

        Returns at once. The first call starts the thread, so after the fork.
        """
        self._asked.set()
        if self._started.acquire(blocking=False):
            threading.Thread(target=self._run, name="wake-ups", daemon=True).start()

    def _run(self) -> None:
        pause = threading.Event()
        while self._asked.wait():
            self._asked.clear()
            self._send()
            pause.wait(self._pause)

    def _send(self) -> None:
        try:
            for _ in range(self._journal.wake_ups_owed()):
                store_events.apply_async()
        except (Unavailable, OperationalError) as error:
            log.warning("wake_up_not_sent", error=str(error))  # beat sends it when the broker is back
        except Exception:  # a bug must not end this thread
            log.exception("wake_up_not_sent")
