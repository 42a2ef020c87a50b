"""Time limits and the ping for all stores in MongoDB."""

from typing import Any

import pymongo
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.unavailable import raising_unavailable

PING_LIMIT = 1.0  # seconds
LOOK_LIMIT = 0.5  # seconds for beat's queries, because beat also has wake-ups to send
# Seconds for one write, including the driver's own retry. Two writes fit into a task's soft time limit. Without this
# limit, a frozen server costs twice its socket time-out (measured: 20.0 s).
WRITE_LIMIT = 10.0


def ping(database: Database[dict[str, Any]]) -> None:
    """Raises Unavailable if no primary answers within a second."""
    with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(PING_LIMIT):
        database.command("ping")
