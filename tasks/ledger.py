"""Every minute, moves the ledger of days before yesterday, and of days that became large, from Redis to MongoDB."""

from datetime import UTC, datetime, timedelta

from tasks.app import app, services
from tasks.outcome import Result, zeros_if_unavailable


@app.task(name="tasks.ledger.carry_ledger")
@zeros_if_unavailable("ledger_not_carried", carried=0)
def carry_ledger() -> Result:
    """Moves the ledger. Yesterday stays in Redis: events received before midnight may be settled after it."""
    return {"carried": services().ledger.carry(before=datetime.now(UTC).date() - timedelta(days=1))}
