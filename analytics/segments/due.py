"""When a dirty hour is due, so that a segment is built of it. Pure; nothing is raised."""

from datetime import datetime, timedelta

from analytics.events.dirty_hours import Due
from analytics.interval import HOUR

_MANY = 5_000  # marks of an hour that is still going on, above which reports should not read it all from raw events
MANY_AFTER = timedelta(seconds=30)  # but not all the time: 1,000 events a second are 30,000 by then
SETTLED = timedelta(seconds=90)  # after the end of an hour its last events have come, but for the late ones
QUIET = timedelta(seconds=5)  # late events mostly come in batches
_LONGEST_WAIT = timedelta(minutes=5)  # an hour that is marked again and again is built nevertheless


def due_at(now: datetime) -> Due:
    over = now - timedelta(milliseconds=HOUR) - SETTLED
    return Due(over, now - QUIET, now - _LONGEST_WAIT, _MANY, now - MANY_AFTER)
