"""What the stores note about their data."""

from datetime import timedelta
from typing import Any

import pytest
from pymongo.database import Database
from redis import Redis

from analytics.events.event_index import EventIndex
from analytics.store_notes import META, READ_FORMAT, STORE_FORMAT, StoreNotes, StoresNotReady, format_in
from tests.support.services import NOW, tell


@pytest.fixture
def state(redis: Redis, database: Database[dict[str, Any]]) -> StoreNotes:
    return StoreNotes(redis, database)


def test_stores_without_a_note_are_usable(state: StoreNotes):
    state.check_redis()
    state.check_mongodb()
    assert state.format() == 1


def test_a_later_format_is_refused_in_each_store(state: StoreNotes):
    state.note_format(STORE_FORMAT + 1)
    for check in (state.check_redis, state.check_mongodb):
        with pytest.raises(StoresNotReady, match=rf"has format {STORE_FORMAT + 1}.*reads {STORE_FORMAT} at most"):
            check()
    state.note_format(STORE_FORMAT)
    state.check_redis()
    state.check_mongodb()


def test_new_stores_have_the_format_of_this_version_and_older_stores_keep_theirs(
    state: StoreNotes, redis: Redis, database: Database[dict[str, Any]]
):
    state.note_first_start(NOW, EventIndex(database).total)
    noted = database[META].find_one()
    assert noted == {"_id": "stores", "format": STORE_FORMAT, "since": NOW.replace(microsecond=123000)}
    redis.flushdb()
    state.note_first_start(NOW + timedelta(days=1), EventIndex(database).total)
    assert database[META].find_one() == noted
    assert format_in(redis.execute_command(*READ_FORMAT)) == STORE_FORMAT, "an emptied Redis has the note again"
    database[META].delete_many({})
    tell(database, {"at": "21 10:00:00"})
    state.note_first_start(NOW, EventIndex(database).total)
    assert state.format() == 1


def test_a_further_journal_is_noted_until_it_is_forgotten(redis: Redis, database: Database[dict[str, Any]]):
    def left_out(*names: str) -> list[str]:
        return StoreNotes(redis, database, dict.fromkeys(names, redis)).journals_left_out()

    state = StoreNotes(redis, database)
    state.note_journals([])
    assert database[META].find_one() is None
    for _ in range(2):
        state.note_journals(["c", "b"])
    assert (left_out(), left_out("b"), left_out("b", "c", "d")) == (["b", "c"], ["c"], [])
    for _ in range(2):
        state.forget_journal("c")
    assert (left_out(), left_out("b")) == (["b"], [])


def test_a_restore_is_noted_in_redis_first_and_forgotten_there_last(
    state: StoreNotes, redis: Redis, database: Database[dict[str, Any]]
):
    """So ingestion, which reads Redis only, never starts with an incomplete journal."""
    state.begin_restore("one")
    database[META].delete_many({})
    assert state.restoring() == "one"
    state.begin_restore("one")
    redis.flushdb()
    assert state.restoring() == "one"
    with pytest.raises(StoresNotReady, match="the restore of backup one did not finish"):
        state.check_mongodb()
    state.end_restore()
    assert state.restoring() is None
