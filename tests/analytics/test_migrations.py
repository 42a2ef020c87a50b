"""Migrations run in order, once, and again if they were killed."""

from typing import Any

import pytest
from pymongo.database import Database
from pymongo.errors import AutoReconnect
from redis import Redis

from analytics.migrations import MIGRATIONS, Migration, migrate, pending
from analytics.store_notes import STORE_FORMAT, StoreNotes
from analytics.unavailable import Unavailable


def test_each_format_has_its_migration():
    assert [migration.format for migration in MIGRATIONS] == list(range(2, STORE_FORMAT + 1))


def test_migrations_run_once_and_in_order(redis: Redis, database: Database[dict[str, Any]]):
    state, runs = StoreNotes(redis, database), []
    migrations = [Migration(n, f"step {n}", lambda _, n=n: runs.append(n)) for n in (2, 3, 4)]
    state.note_format(2)
    assert [migration.format for migration in pending(state, migrations)] == [3, 4]
    for migration in pending(state, migrations):
        migrate(state, database, migration)
    assert (runs, state.format(), pending(state, migrations)) == ([3, 4], 4, [])


def test_a_migration_that_fails_is_still_to_do(redis: Redis, database: Database[dict[str, Any]]):
    def fail(_: object) -> None:
        raise AutoReconnect("connection closed")

    state, broken = StoreNotes(redis, database), Migration(2, "fails", fail)
    with pytest.raises(Unavailable, match="connection closed"):
        migrate(state, database, broken)
    assert pending(state, [broken]) == [broken]
