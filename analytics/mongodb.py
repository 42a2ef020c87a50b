"""What all stores in MongoDB ask of it."""

from typing import Any

import pymongo
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.unavailable import raising_unavailable

PING_LIMIT = 1.0  # seconds
LOOK_LIMIT = 0.5  # seconds for what beat asks, who has wake-ups to send meanwhile
# Seconds for one write, the driver's own retry included: two of them fit into a task's soft time limit. Without it, a
# frozen server costs twice its socket time-out (measured: 20.0 s).
WRITE_LIMIT = 10.0


def ping(database: Database[dict[str, Any]]) -> None:
    """Raises Unavailable where no primary answers within a second."""
    with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(PING_LIMIT):
        database.command("ping")
