"""Time limits, the ping, and the errors for all stores in MongoDB."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymongo
from pymongo.database import Database
from pymongo.errors import PyMongoError
from pymongo.write_concern import WriteConcern

from analytics.unavailable import raising_unavailable

PING_LIMIT = 1.0  # seconds
LOOK_LIMIT = 0.5  # seconds for beat's queries, because beat also has wake-ups to send
# Seconds for one write, including the driver's own retry. Two writes fit into a task's soft time limit. Without this
# limit, a frozen server costs twice its socket time-out (measured: 20.0 s).
WRITE_LIMIT = 10.0
# For a write that does no harm if it is lost together with the server that acknowledged it. It takes 0.5 ms instead of
# the 5 ms of a write that a majority has on disk.
UNREPLICATED = WriteConcern(1)


def ping(database: Database[dict[str, Any]]) -> None:
    """Raises Unavailable if no primary answers within a second."""
    with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(PING_LIMIT):
        database.command("ping")


@contextmanager
def looking() -> Iterator[None]:
    """Run a block of reads within LOOK_LIMIT. Raises Unavailable."""
    with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(LOOK_LIMIT):
        yield


@contextmanager
def reading(database: Database[dict[str, Any]]) -> Iterator[None]:
    """Run a block that reads. Raises Unavailable, also if no primary answers within a second."""
    ping(database)
    with raising_unavailable("mongodb", PyMongoError):
        yield


@contextmanager
def writing(database: Database[dict[str, Any]]) -> Iterator[None]:
    """Run a block that writes, within WRITE_LIMIT. Raises Unavailable; the block may then have written."""
    ping(database)
    with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
        yield
