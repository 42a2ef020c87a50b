"""Every hour brings the archive of past days up to date, if ARCHIVE is set. The task is on the queue of segments. It
may run several times at once, and may crash at any point.
"""

from dataclasses import asdict
from datetime import UTC, datetime

from tasks.app import app, services
from tasks.outcome import Result, zeros_if_unavailable
from tasks.segments import BUILD_FOR, LIMITS


@app.task(name="tasks.archive.archive_days", acks_late=False, **LIMITS)
@zeros_if_unavailable("days_not_archived", written=0, removed=0)
def archive_days() -> Result:
    done = services().archiver.run(until=datetime.now(UTC) + BUILD_FOR)
    if not done.is_done:
        archive_days.apply_async()
    return asdict(done)
