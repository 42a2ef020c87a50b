"""Assigns visits to the users who signed in during them, if any sign-in is noted (tasks/beat.py)."""

from datetime import UTC, datetime, timedelta

from tasks.app import app, services
from tasks.outcome import Result, built_alone, zeros_if_unavailable

ASSIGN_FOR = timedelta(seconds=20)  # then the next task continues


@app.task(name="tasks.visitors.assign_visits", acks_late=False, soft_time_limit=120, time_limit=150)
@zeros_if_unavailable("visits_not_assigned", changed=0)
def assign_visits() -> Result:
    """It may crash at any point. It does nothing while another process of this machine builds segments."""
    ours, until = services(), datetime.now(UTC) + ASSIGN_FOR
    return built_alone(lambda: ours.sign_ins.assign_due(ours.now, until=until), "changed")
