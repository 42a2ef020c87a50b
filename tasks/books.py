"""Every minute, moves the ledger of past days, and of days that became large, from Redis to MongoDB."""

from datetime import UTC, datetime, timedelta

from tasks.app import app, services
from tasks.outcome import Result, zeros_if_unavailable


@app.task(name="tasks.books.carry_books")
@zeros_if_unavailable("books_not_carried", carried=0)
def carry_books() -> Result:
    """Moves the ledger. Yesterday stays in Redis: events received before midnight may be settled after it."""
    return {"carried": services().ledger.carry(before=datetime.now(UTC).date() - timedelta(days=1))}
