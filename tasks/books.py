"""Every minute, the books of days that are over, or that got large, go from Redis to MongoDB."""

from datetime import UTC, datetime, timedelta
from functools import cache

import structlog

from analytics.journal.ledger import Ledger
from analytics.unavailable import Unavailable
from config.clients import make_database, make_redis
from tasks.app import app, settings

log = structlog.get_logger()


@cache
def books() -> Ledger:
    return Ledger(make_redis(settings), make_database(settings), settings.replicas)


@app.task(name="tasks.books.carry_books")
def carry_books() -> dict[str, int]:
    """Yesterday stays: what was received before midnight may be settled after it."""
    try:
        return {"carried": books().carry(before=datetime.now(UTC).date() - timedelta(days=1))}
    except Unavailable as error:
        log.warning("books_not_carried", error=str(error))  # the next minute will
        return {"carried": 0}
