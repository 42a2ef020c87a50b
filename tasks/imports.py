"""Reads and imports the files that people uploaded, and removes imports, if any is due (tasks/beat.py)."""

from tasks.app import app, services
from tasks.events import WakeUps
from tasks.outcome import Result, zeros_if_unavailable


@app.task(name="tasks.imports.work_uploads", acks_late=False, soft_time_limit=600, time_limit=630)
@zeros_if_unavailable("uploads_not_imported", done=0)
def work_uploads() -> Result:
    """It may run several times at once, and may crash at any point."""
    ours = services()
    return {"done": ours.upload_worker.work(WakeUps(ours.journal).ask)}
