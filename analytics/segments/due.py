"""When a dirty hour is due, so that a segment is built of it. Pure; nothing is raised."""

from datetime import datetime, timedelta

from analytics.events.dirty_hours import Due
from analytics.interval import HOUR

_MANY = 5_000  # marks of an hour that is not over; above it, reports should not read the whole hour from raw events
MANY_AFTER = timedelta(seconds=30)  # between two builds of such an hour; 1,000 events a second are 30,000 by then
SETTLED = timedelta(seconds=90)  # after the end of an hour; by then its last events have arrived, except late ones
QUIET = timedelta(seconds=5)  # late events usually arrive in batches
_LONGEST_WAIT = timedelta(minutes=5)  # an hour that is marked repeatedly is built after this time


def due_at(now: datetime) -> Due:
    over = now - timedelta(milliseconds=HOUR) - SETTLED
    return Due(over, now - QUIET, now - _LONGEST_WAIT, _MANY, now - MANY_AFTER)
