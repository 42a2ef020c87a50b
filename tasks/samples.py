"""Every minute, takes a sample of the journal for the console (analytics/journal/samples.py)."""

from tasks.app import app, services
from tasks.outcome import Result, zeros_if_unavailable


@app.task(name="tasks.samples.take_sample")
@zeros_if_unavailable("sample_not_taken", waiting=0)
def take_sample() -> Result:
    return {"waiting": services().samples.take()}
