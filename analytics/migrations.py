"""Migrations: each changes the stores from one format to the next.

A migration may be killed at any point and runs again, so it must be harmless to repeat. The version that brings a
migration must also work with the format before it, so that processes can be replaced one at a time. Callers must handle
Unavailable.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.store_notes import PACKED_ENTRIES, StoreNotes
from analytics.unavailable import raising_unavailable


@dataclass(frozen=True, slots=True)
class Migration:
    """`format` is the format after it. `what` says what it does, for the operator. Without `run`, only what processes
    write from now on changes: they read the noted format.
    """

    format: int
    what: str
    run: Callable[[Database[dict[str, Any]]], None] = lambda _: None


# The first entry leads to format 2.
MIGRATIONS: Sequence[Migration] = (
    Migration(PACKED_ENTRIES, "from now on, waiting events are packed, which workers of version 0.1 cannot read"),
)


def pending(notes: StoreNotes, migrations: Sequence[Migration] = MIGRATIONS) -> list[Migration]:
    """Return the migrations that have not run. Raises Unavailable."""
    form = notes.format()
    return [migration for migration in migrations if migration.format > form]


def migrate(notes: StoreNotes, database: Database[dict[str, Any]], migration: Migration) -> None:
    """Run a migration, and note the new format. Raises Unavailable."""
    with raising_unavailable("mongodb", PyMongoError):
        migration.run(database)
    notes.note_format(migration.format)
