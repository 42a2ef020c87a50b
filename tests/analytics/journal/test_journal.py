"""The journal on a real Redis: one consumer holds an entry until it is settled, and no entry is lost before."""

from datetime import date
from typing import Any

import pytest
from pymongo.database import Database
from redis import Redis

from analytics.events.account import STORED, Account
from analytics.events.event import packed
from analytics.events.schema import dump_event, load_event
from analytics.journal.journal import GROUP, JOURNAL_KEY, Entry, Journal, Line, Settlement
from analytics.store_notes import PACKED_ENTRIES, StoreNotes
from analytics.unavailable import Unavailable
from tests.support.running_system import wait_for
from tests.support.services import NOW

ACCOUNT = Account("site", date(2026, 11, 22))


def append(journal: Journal, raws: list[bytes]) -> int:
    return journal.append([Line(ACCOUNT, event=raw) for raw in raws])


def settle(journal: Journal, entries: list[Entry]) -> None:
    journal.settle([Settlement(entry, STORED, ACCOUNT) for entry in entries])


def raws(entries: list) -> list[bytes]:
    return [entry.raw for entry in entries]


@pytest.fixture
def held(journal: Journal):
    """The journal with its consumer group: a task always asks what it held before it claims."""
    assert journal.held("first") == []
    return journal


def test_entries_come_out_in_the_order_they_went_in(held: Journal):
    append(held, [b"1", b"2"])
    append(held, [b"3"])
    assert raws(held.claim("a")) == [b"1", b"2", b"3"]


def test_events_are_packed_after_the_upgrade_to_a_format_that_says_so(
    journal: Journal, redis: Redis, database: Database[dict[str, Any]]
):
    """Workers of version 0.1 read JSON only."""
    notes, event = StoreNotes(redis, database), load_event({"site_id": "site", "event_type": "pageview"}, NOW)
    assert journal.dump(event) == dump_event(event)
    append(journal, [b"1"])
    assert journal.dump(event) == dump_event(event)
    notes.note_format(PACKED_ENTRIES)
    wait_for(lambda: append(journal, [b"1"]) and journal.dump(event) == packed(event), "packed events")


def test_entries_written_before_the_first_worker_ever_ran_are_found(journal: Journal):
    append(journal, [b"1"])
    journal.held("a")
    assert raws(journal.claim("a")) == [b"1"]


def test_entries_that_a_consumer_holds_are_not_given_to_others(held: Journal):
    append(held, [b"1"])
    held.claim("a")
    assert held.claim("b") == []


def test_a_consumer_that_returns_finds_the_entries_that_it_held(held: Journal):
    append(held, [b"1"])
    held.claim("a")
    assert raws(held.take("a", held.held("a"))) == [b"1"]
    assert held.held("b") == []


def test_the_entries_of_a_vanished_consumer_are_taken_over_by_one_other(held: Journal):
    append(held, [b"1"])
    held.claim("vanished")
    abandoned = wait_for(held.abandoned, "the end of patience")
    assert raws(held.take("b", abandoned)) == [b"1"]
    assert held.take("c", abandoned) == []
    assert held.held("vanished") == []


def test_a_delivery_that_ends_without_a_message_counts_as_a_death(held: Journal):
    append(held, [b"1"])
    held.claim("a")
    assert [delivery.crashes for delivery in held.held("a")] == [1]
    held.take("a", held.held("a"))
    assert [delivery.crashes for delivery in held.held("a")] == [2]


def test_a_delivery_that_is_handed_back_does_not_count(held: Journal):
    append(held, [b"1"])
    held.hand_back("a", held.claim("a"))
    assert [delivery.crashes for delivery in held.held("a")] == [0]


def test_settled_entries_are_removed_from_redis(held: Journal, redis: Redis):
    append(held, [b"%d" % n for n in range(1300)])
    entries = held.claim("a")
    settle(held, entries)
    assert len(entries) == 1000
    assert held.waiting() == 300
    assert redis.xpending(JOURNAL_KEY, GROUP)["pending"] == 0


def test_consumers_that_hold_nothing_are_deleted(held: Journal, redis: Redis):
    append(held, [b"1"])
    held.claim("vanished")
    settle(held, held.take("b", wait_for(held.abandoned, "the end of patience")))
    assert redis.xinfo_consumers(JOURNAL_KEY, GROUP) == []


def test_settling_keeps_the_consumers_that_hold_something(held: Journal):
    append(held, [b"1"])
    held.claim("a")
    append(held, [b"2"])
    settle(held, held.claim("b"))
    assert raws(held.take("a", held.held("a"))) == [b"1"]


def test_one_wake_up_is_owed_for_four_waiting_batches(held: Journal, redis: Redis):
    assert held.wake_ups_owed() == 0
    assert append(held, [b"1"]) == 1
    assert append(held, [b"x"] * 4000) == 2
    redis.rpush("events", "a wake-up in Celery's queue")
    assert held.wake_ups_owed() == 1


def test_large_events_make_small_batches_until_they_are_over(held: Journal):
    append(held, [b"x" * 1_000_000] * 9)
    assert (len(held.claim("a")), held.has_more) == (9, False)
    append(held, [b"x" * 1_000_000] * 9)
    assert (len(held.claim("a")), held.has_more) == (8, True)
    append(held, [b"x"] * 20)
    assert (len(held.claim("a")), held.has_more) == (8, True)
    assert (len(held.claim("a")), held.has_more) == (13, False)


def test_an_entry_of_another_program_keeps_its_fields(held: Journal, redis: Redis):
    redis.xadd(JOURNAL_KEY, {"what": "is this"})
    assert raws(held.claim("a")) == [b"{b'what': b'is this'}"]


def test_an_entry_deleted_by_hand_is_passed_over(held: Journal, redis: Redis):
    append(held, [b"1", b"2"])
    first, _ = held.claim("a")
    redis.xdel(JOURNAL_KEY, first.entry_id)
    assert raws(held.take("a", held.held("a"))) == [b"2"]


def test_an_entry_that_another_consumer_took_is_not_forgotten(held: Journal, redis: Redis):
    append(held, [b"deleted", b"taken"])
    deleted, _ = held.claim("vanished")
    abandoned = wait_for(held.abandoned, "the end of patience")
    assert raws(held.take("other", abandoned)) == [b"deleted", b"taken"]
    redis.xdel(JOURNAL_KEY, deleted.entry_id)
    held.settle_deleted(abandoned)
    assert raws(held.take("other", held.held("other"))) == [b"taken"]
    assert redis.xpending(JOURNAL_KEY, GROUP)["pending"] == 1


def test_a_journal_that_was_flushed_is_created_again(held: Journal, redis: Redis):
    redis.flushall()
    assert held.held("a") == []
    append(held, [b"1"])
    assert raws(held.claim("a")) == [b"1"]


def test_a_full_redis_refuses_new_events_and_delivers_the_old_ones(held: Journal, redis: Redis):
    append(held, [b"1"])
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(Unavailable, match="redis"):
            append(held, [b"2"])
        entries = held.claim("a")
        settle(held, entries)
    finally:
        redis.config_set("maxmemory", 0)
    assert raws(entries) == [b"1"]
    assert held.waiting() == 0


def test_the_journal_refuses_events_before_redis_is_full(held: Journal, redis: Redis):
    used = redis.info("memory")["used_memory"]
    redis.config_set("maxmemory", int(used * 1.1))
    try:
        with pytest.raises(Unavailable, match="above 85% of its maxmemory"):
            append(held, [b"1"])
        redis.config_set("maxmemory", int(used * 2))
        wait_for(lambda: _appends(held), "room again", 2)
    finally:
        redis.config_set("maxmemory", 0)
    assert held.waiting() == 1


def _appends(journal: Journal) -> bool:
    try:
        return append(journal, [b"1"]) > 0
    except Unavailable:
        return False


def test_after_a_failure_appends_fail_at_once_for_a_moment_and_then_succeed(redis: Redis):
    journal = Journal(redis, queue="events", batch=1000, claim_idle=1, retry_pause=0.3)
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(Unavailable):
            append(journal, [b"1"])
    finally:
        redis.config_set("maxmemory", 0)
    with pytest.raises(Unavailable):
        append(journal, [b"2"])

    wait_for(lambda: _appends(journal), "the end of the pause")
    assert journal.waiting() == 1


def test_a_backlog_at_its_limit_is_refused_and_room_is_found_again(redis: Redis):
    journal = Journal(redis, queue="events", batch=1000, claim_idle=1, most_waiting=3, retry_pause=0)
    journal.held("a")
    append(journal, [b"1", b"2", b"3"])
    wait_for(lambda: _is_full(journal), "the limit", 2)
    with pytest.raises(Unavailable, match="3 events wait already"):
        append(journal, [b"4"])
    settle(journal, journal.claim("a"))
    wait_for(lambda: not _is_full(journal), "room again", 2)
    append(journal, [b"4"])
    assert journal.waiting() == 1


def _is_full(journal: Journal) -> bool:
    try:
        journal.check()
    except Unavailable:
        return True
    return False
