"""Reads and imports the files that people uploaded, and removes imports, if any is due (tasks/beat.py)."""

from functools import partial

from analytics.events.event import new_id
from tasks.app import app, services
from tasks.events import WakeUps, store_batch
from tasks.outcome import Result, built_alone, zeros_if_unavailable


@app.task(name="tasks.imports.work_uploads", acks_late=False, soft_time_limit=600, time_limit=630)
@zeros_if_unavailable("uploads_not_imported", done=0)
def work_uploads() -> Result:
    """It may crash at any point. One process per machine imports or builds at a time, and the others store events. If
    the journal is full of the site's events, this one stores them too, because there may be no other.
    """
    ours = services()
    wake, make_room = WakeUps(ours.journal).ask, partial(store_batch, f"imports-{new_id()}", is_retry=True)
    return built_alone(lambda: ours.upload_worker.work(wake, make_room), "done")
