"""When a dirty hour is due, so that a segment is built of it, and whether any is. Callers of DueBuilds must handle
Unavailable, raised if MongoDB is not reachable.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from analytics.events.backfill import Backfill
from analytics.events.dirty_hours import DirtyHours, Due, Waiting
from analytics.interval import HOUR
from analytics.mongodb import looking

_MANY = 5_000  # marks of an hour that is not over; above it, reports should not read the whole hour from raw events
MANY_AFTER = timedelta(seconds=30)  # between two builds of such an hour; 1,000 events a second are 30,000 by then
SETTLED = timedelta(seconds=90)  # after the end of an hour; by then its last events have arrived, except late ones
QUIET = timedelta(seconds=5)  # late events usually arrive in batches
_LONGEST_WAIT = timedelta(minutes=5)  # an hour that is marked repeatedly is built after this time


def due_at(now: datetime) -> Due:
    over = now - timedelta(milliseconds=HOUR) - SETTLED
    return Due(over, now - QUIET, now - _LONGEST_WAIT, _MANY, now - MANY_AFTER)


@dataclass(frozen=True)
class DueBuilds:
    """Looks what there is to build, quickly. It does not load DuckDB, so beat can use it."""

    dirty: DirtyHours
    backfill: Backfill
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def is_any(self) -> bool:
        """Whether `Builder.build_due` would find something to build. Raises Unavailable."""
        with looking():
            return self.dirty.is_any_due(due_at(self.now())) or not self.backfill.is_done()

    def waiting(self) -> tuple[Waiting, Waiting]:
        """Return all dirty hours, and the dirty hours that are due. Raises Unavailable."""
        with looking():
            return self.dirty.waiting(), self.dirty.waiting(due_at(self.now()))
