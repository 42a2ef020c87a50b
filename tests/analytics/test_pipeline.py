"""From the journal to MongoDB: the plain function of the task on real stores. It may run twice and crash anywhere."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from bson import Decimal128
from celery.exceptions import SoftTimeLimitExceeded
from msgspec import structs
from pymongo import MongoClient
from pymongo.database import Database
from redis import Redis

from analytics.enrichment.steps import enrich
from analytics.events.event import Event, id_from_client
from analytics.events.schema import load_event, readable
from analytics.events.store import EventStore, Stored
from analytics.journal.journal import GROUP, JOURNAL_KEY, Journal, Line
from analytics.pipeline import MOST_CRASHES, Outcome, Stores, store_waiting
from analytics.unavailable import Unavailable
from analytics.visitors.client import Client
from analytics.visitors.salts import Salts
from config.services import Services
from footfall.embedded_servers import pick_port
from tasks import events
from tests.support.running_system import wait_for
from tests.support.services import NOW

TIMES = ("timestamp", "received_at", "created_at")
CHROME = (
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36"
)
type_of = {"site_id": "site", "event_type": "page_view"}


def append(journal: Journal, *bodies: dict[str, Any]) -> None:
    journal.append([Line.of(load_event(type_of | body, NOW)) for body in bodies])


def ends(outcome: Outcome) -> tuple[int, int, int]:
    return outcome.stored, outcome.duplicate, len(outcome.deaths)


def test_an_event_becomes_a_document(stores: Stores, database: Database):
    body = {"event_id": "1", "path": "/a", "user_id": "u", "timestamp": "2026-11-22T10:00:00Z", "props": {"a.b": 1}}
    append(stores.journal, body)
    assert store_waiting(stores, "task") == Outcome(stored=1)
    (document,) = database["events"].find()
    assert document == {
        "_id": id_from_client("site", "1"),
        "entry_id": document["entry_id"],
        "site_id": "site",
        "event_type": "page_view",
        "path": "/a",
        "user_id": "u",
        "props": {"a.b": 1},
        "timestamp": datetime(2026, 11, 22, 10, tzinfo=UTC),
        "received_at": NOW,
        "created_at": NOW,
    }
    assert stores.journal.waiting() == 0


def test_optional_fields_of_an_event_are_stored(stores: Stores, database: Database):
    said = {
        "hostname": "shop.example",
        "source": "Google",
        "country": "US",
        "engagement_time": 0,
        "scroll_depth": 40,
        "interactive": False,
    }
    append(stores.journal, said | {"revenue": {"amount": 10.1, "currency": "USD"}, "city": ""})
    append(stores.journal, {"interactive": True, "region": None})
    store_waiting(stores, "task")
    first, second = (
        database["events"].find({}, dict.fromkeys(["_id", *type_of, "entry_id", *TIMES], 0)).sort("entry_id")
    )
    revenue = {"amount": Decimal128("10.100"), "currency": "USD"}
    assert first == said | {"channel": "Organic Search", "revenue": revenue}
    assert second == {}


def test_fields_derived_from_url_and_sender_are_stored_and_neither_url_nor_sender_is(
    stores: Stores, database: Database, redis: Redis
):
    sealed = Salts(redis, lambda: NOW).seal(Client("192.0.2.1", CHROME, "de-DE,de;q=0.9"), NOW.date())
    event = load_event(type_of | {"url": "https://www.shop.example/a?utm_source=ig&x=1", "screen": "390x844"}, NOW)
    stores.journal.append([Line.of(structs.replace(event, client=sealed))])
    assert store_waiting(stores, "task") == Outcome(stored=1)
    (document,) = database["events"].find({}, dict.fromkeys(["_id", "entry_id", *TIMES], 0))
    assert document == type_of | {
        "hostname": "shop.example", "path": "/a", "utm_source": "ig", "source": "Instagram",
        "channel": "Organic Social", "browser": "Chrome", "browser_version": "142.0", "os": "Android",
        "os_version": "10", "device": "Mobile", "language": "de-DE", "screen": "Mobile",
    }  # fmt: skip


def test_events_without_a_sender_are_enriched_as_if_each_were_alone(stores: Stores):
    assert stores.enrichment
    enrichment, names = stores.enrichment, ("hostname", "path", "url", "referrer")
    said = [(None, "WWW.Shop.Example"), (None, "/a?q=1", "/b"), (None, "/a?utm_source=ig", "https://shop.example/#/b"),
            (None, "https://www.google.com/", "https://semalt.com/")]  # fmt: skip
    bodies = [type_of | dict(zip(names, values, strict=True)) for values in product(*said)] * 2
    events = [load_event(body, NOW) for body in bodies]
    events += [structs.replace(event, exported_id=event.id) for event in events]
    site = enrichment.sites.get("site")
    assert enrichment.apply(events) == [enrich(event, None, site, enrichment.lookups) for event in events]


def test_an_event_whose_sender_cannot_be_unsealed_is_stored_without_it(stores: Stores, database: Database):
    stores.journal.append(
        [Line.of(structs.replace(load_event(type_of | {"path": "/a"}, NOW), client="2026-11-01.AAAA"))]
    )
    assert store_waiting(stores, "task") == Outcome(stored=1)
    (document,) = database["events"].find({}, dict.fromkeys(["_id", "entry_id", *TIMES], 0))
    assert document == type_of | {"path": "/a"}


def test_an_event_of_a_bot_is_dropped_and_the_others_are_stored(stores: Stores, database: Database, redis: Redis):
    bot = Salts(redis, lambda: NOW).seal(
        Client(user_agent="Googlebot/2.1 (+http://www.google.com/bot.html)"), NOW.date()
    )
    event = load_event(type_of | {"path": "/bot"}, NOW)
    append(stores.journal, {"path": "/a"}, {"path": "/b", "referrer": "https://semalt.com/"})
    stores.journal.append([Line.of(structs.replace(event, client=bot))])
    outcome = store_waiting(stores, "task")
    assert outcome == Outcome(stored=1, dropped=("spam_referrer", "bot"))
    assert outcome.as_result() == {"stored": 1, "duplicate": 0, "dead": 0, "dropped": 2}
    assert [x["path"] for x in database["events"].find()] == ["/a"]
    assert stores.journal.waiting() == 0
    assert database["dead_letters"].count_documents({}) == 0


def test_without_waiting_entries_nothing_is_done(stores: Stores):
    assert store_waiting(stores, "task") == Outcome()


def test_the_same_event_twice_is_stored_once_within_a_batch_and_across_batches(stores: Stores, database: Database):
    append(stores.journal, {"event_id": "1"}, {"event_id": "1"})
    assert store_waiting(stores, "task") == Outcome(stored=1, duplicate=1)
    append(stores.journal, {"event_id": "1"})
    assert store_waiting(stores, "task") == Outcome(duplicate=1)
    assert database["events"].count_documents({}) == 1


def test_an_invalid_entry_becomes_a_dead_letter_and_the_others_are_stored(
    stores: Stores, database: Database, redis: Redis
):
    append(stores.journal, {"event_id": "1"})
    redis.xadd(JOURNAL_KEY, {"event": '{"event_type": "page_view"}'})
    redis.xadd(JOURNAL_KEY, {"event": b"\xff\xfe\x00"})
    redis.xadd(JOURNAL_KEY, {"not": "ours"})
    append(stores.journal, {"event_id": "2"})
    assert ends(store_waiting(stores, "task")) == (2, 0, 3)
    missing, broken, foreign = database["dead_letters"].find().sort("attempts.entry_id")
    assert missing["raw"] == '{"event_type": "page_view"}'
    assert missing["reason"] == "invalid_event"
    assert missing["detail"] == {"site_id": ["Missing data for required field."]}
    assert missing["dead_at"] == NOW
    assert broken["raw"] == b"\xff\xfe\x00"
    assert foreign["raw"] == "{b'not': b'ours'}"
    assert stores.journal.waiting() == 0


def test_an_event_that_mongodb_refuses_becomes_a_dead_letter_and_the_others_are_stored(
    stores: Stores, database: Database
):
    database.command("collMod", "events", validator={"path": {"$ne": "/refused"}})
    try:
        append(stores.journal, {"path": "/a"}, {"path": "/refused"}, {"path": "/b"})
        assert ends(store_waiting(stores, "task")) == (2, 0, 1)
    finally:
        database.command("collMod", "events", validator={})
    letter = database["dead_letters"].find_one({})
    assert letter["reason"] == "refused"
    assert json.loads(readable(letter["raw"]))["path"] == "/refused"


def test_a_crash_between_storing_and_settling_stores_nothing_twice(stores: Stores, database: Database, redis: Redis):
    append(stores.journal, {"event_id": "1"}, {})
    redis.xadd(JOURNAL_KEY, {"event": "bad"})
    stores.journal.held("task")
    settle, stores.journal.settle = stores.journal.settle, _die
    with pytest.raises(KeyboardInterrupt):
        store_waiting(stores, "task")
    stores.journal.settle = settle
    assert ends(store_waiting(stores, "task")) == (2, 0, 1)
    assert database["events"].count_documents({}) == 2
    assert database["dead_letters"].count_documents({}) == 1


def test_an_entry_that_redis_acked_and_did_not_delete_is_delivered_again(
    stores: Stores, database: Database, redis: Redis
):
    """A Redis of version 6 that is killed twice leaves such entries."""
    append(stores.journal, {"event_id": "1"}, {"event_id": "2"})
    assert store_waiting(stores, "held") == Outcome(stored=2)
    append(stores.journal, {"event_id": "3"}, {"event_id": "4"})
    entries = stores.journal.claim("killed")
    for entry in entries:
        redis.xack(JOURNAL_KEY, GROUP, entry.entry_id)
    store_waiting(stores, "finds nothing")
    assert store_waiting(stores, "task") == Outcome(stored=2)
    assert (stores.journal.waiting(), database["events"].count_documents({})) == (0, 4)


def test_an_event_that_kills_its_worker_becomes_a_dead_letter_after_four_deaths_and_the_others_are_stored(
    stores: Stores, database: Database
):
    append(stores.journal, *[{"event_id": f"{n}", "path": "/kills" if n == 70 else "/"} for n in range(100)])
    store, stores.events.store = stores.events.store, _die_of("/kills", stores.events.store)
    deaths = 0
    while stores.journal.waiting():
        try:
            outcome = store_waiting(stores, "task")
        except KeyboardInterrupt:
            deaths += 1
    stores.events.store = store
    assert deaths == 4
    assert ends(outcome) == (0, 0, 1)
    assert database["events"].count_documents({}) == 99
    (letter,) = database["dead_letters"].find()
    assert letter["reason"] == "poison"
    assert json.loads(readable(letter["raw"]))["path"] == "/kills"


def test_the_entries_of_a_vanished_worker_are_stored_by_another(stores: Stores, database: Database):
    append(stores.journal, *[{"event_id": f"{n}"} for n in range(100)])
    stores.journal.held("vanished")
    stores.journal.claim("vanished")

    def taken_over() -> bool:
        store_waiting(stores, "task")
        return stores.journal.waiting() == 0

    wait_for(taken_over, "the take-over")
    assert database["events"].count_documents({}) == 100


def test_an_hour_without_mongodb_makes_no_dead_letter(stores: Stores, database: Database):
    append(stores.journal, {"event_id": "1"})
    for _ in range(20):
        store, stores.events.store = stores.events.store, _be_away
        with pytest.raises(Unavailable):
            store_waiting(stores, "task")
        stores.events.store = store
    assert store_waiting(stores, "task") == Outcome(stored=1)


@pytest.mark.parametrize(
    "props",
    [{"a": 2**63}, {"a": "\ud800"}, {"a\0b": 1}, {"a": "x" * 17_000_000}],
    ids=["int over 64 bits", "half a surrogate pair", "NUL in a key", "over 16 MB"],
)
def test_an_event_that_the_driver_cannot_send_is_refused_alone(database: Database, props: dict[str, Any]):
    """The schema rejects all of these. For a value that it lets through, the driver raises for the whole batch."""
    events = [load_event(type_of | {"event_id": f"{n}"}, NOW) for n in range(10)]
    events[7] = structs.replace(events[7], props=props)
    stored = EventStore(database).store([(f"0-{n}", event) for n, event in enumerate(events)], NOW)
    assert stored.duplicate == frozenset()
    assert [refusal.index for refusal in stored.refused] == [7]
    assert database["events"].count_documents({}) == 9


def _die_of(path: str, store: Callable) -> Callable:
    def store_or_die(events: list[tuple[str, Event]], at: datetime) -> Stored:
        if any(event.path == path for _, event in events):
            raise KeyboardInterrupt
        return store(events, at)

    return store_or_die


def _be_away(*_: object) -> None:
    raise Unavailable("mongodb", OSError("away"))


def _die(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("usual_limits")
def test_while_mongodb_is_unreachable_events_wait_and_no_more_are_claimed(stores: Stores, journal: Journal):
    nobody = MongoClient(f"mongodb://127.0.0.1:{pick_port(0)}", serverSelectionTimeoutMS=100)
    away = replace(stores, events=EventStore(nobody["footfall"]))
    append(journal, {"event_id": "1"})
    with pytest.raises(Unavailable, match="mongodb"):
        store_waiting(away, "first")
    append(journal, {"event_id": "2"})
    assert store_waiting(away, "second") == Outcome(unreachable="mongodb")
    nobody.close()
    assert store_waiting(stores, "first") == Outcome(stored=1)
    assert store_waiting(stores, "second") == Outcome(stored=1)


def test_a_retry_stores_the_entries_that_it_held_and_no_others(stores: Stores, journal: Journal):
    append(journal, {"event_id": "1"})
    journal.held("retried")
    journal.claim("retried")
    append(journal, {"event_id": "2"})
    assert store_waiting(stores, "retried") == Outcome(stored=1)
    assert journal.waiting() == 1


@pytest.mark.parametrize("entry_id", ["253402300800000-0", "18446744073709551-0"])
def test_an_entry_whose_id_is_not_a_time_does_not_affect_the_others(
    stores: Stores, database: Database, redis: Redis, entry_id: str
):
    redis.xadd(JOURNAL_KEY, {"event": json.dumps(type_of)}, id=entry_id)
    append(stores.journal, {"event_id": "after"})
    assert store_waiting(stores, "task") == Outcome(stored=2)
    assert {document["received_at"] for document in database["events"].find()} == {NOW}


def test_a_held_entry_that_is_deleted_by_hand_is_forgotten(stores: Stores, redis: Redis):
    append(stores.journal, {}, {})
    stores.journal.held("task")
    first, _ = stores.journal.claim("task")
    redis.xdel(JOURNAL_KEY, first.entry_id)
    stored = sum(store_waiting(stores, "task").stored for _ in range(MOST_CRASHES + 1))
    assert stored == 1
    assert redis.xpending(JOURNAL_KEY, GROUP)["pending"] == 0


@pytest.fixture
def small(stores: Stores, redis: Redis) -> Stores:
    """Stores with batches of five events, and twelve events that wait."""
    journal = Journal(redis, queue="events", batch=5, claim_idle=0)
    append(journal, *[{"event_id": f"{n}"} for n in range(12)])
    return replace(stores, journal=journal)


def test_a_task_stores_several_batches_and_claims_the_next_one_while_it_writes(small: Stores, database: Database):
    waiting: list[int] = []
    store = small.events.store

    def store_late(events: list[tuple[str, Event]], at: datetime) -> Stored:
        wait_for(lambda: len(small.journal.held("task")) > 5 or len(events) < 5, "the next batch")
        waiting.append(len(small.journal.held("task")))
        return store(events, at)

    small.events.store = store_late
    assert store_waiting(small, "task") == Outcome(stored=12)
    assert waiting == [10, 7, 2]
    assert database["events"].count_documents({}) == 12
    assert small.journal.waiting() == 0


@pytest.mark.parametrize("dies_after", [0, 1], ids=["before the write", "after the write"])
def test_a_process_that_dies_with_two_batches_loses_and_doubles_nothing(
    small: Stores, database: Database, dies_after: int
):
    store, small.events.store = small.events.store, _die_after(small.events.store, dies_after)
    with pytest.raises(KeyboardInterrupt):
        store_waiting(small, "task")
    small.events.store = store
    left = small.journal.held("task")
    assert {delivery.crashes for delivery in left} == {1}
    assert store_waiting(small, "task").stored == len(left)
    store_waiting(small, "another task")
    assert database["events"].count_documents({}) == 12
    assert small.journal.waiting() == 0


def test_two_batches_that_cannot_be_written_are_handed_back(small: Stores, database: Database):
    store, small.events.store = small.events.store, _be_away
    with pytest.raises(Unavailable):
        store_waiting(small, "task")
    small.events.store = store
    assert [delivery.crashes for delivery in small.journal.held("task")] == [0] * 10
    assert store_waiting(small, "task", is_retry=True) == Outcome(stored=10)
    assert store_waiting(small, "task") == Outcome(stored=2)
    assert database["events"].count_documents({}) == 12


def test_if_the_next_batch_cannot_be_claimed_the_first_one_is_stored_once(small: Stores, database: Database):
    claim, claimed = small.journal.claim, iter([small.journal.claim])
    small.journal.claim = lambda consumer: next(claimed, _be_away)(consumer)  # noqa: PLW0108 another function each time
    with pytest.raises(Unavailable):
        store_waiting(small, "task")
    small.journal.claim = claim
    wait_for(lambda: small.journal.waiting() == 7, "the end of the write")
    assert store_waiting(small, "task", is_retry=True) == Outcome(stored=7)
    assert database["events"].count_documents({}) == 12
    assert small.journal.waiting() == 0


def _die_after(store: Callable, times: int) -> Callable:
    calls = iter(range(times))

    def store_or_die(events: list[tuple[str, Event]], at: datetime) -> Stored:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return store(events, at)

    return store_or_die


def test_a_failure_of_the_deployment_counts_against_no_event(stores: Stores, database: Database):
    append(stores.journal, {})
    admin = database.client.admin
    admin.command({"setUserWriteBlockMode": 1, "global": True})
    try:
        with pytest.raises(Unavailable):
            store_waiting(stores, "task")
    finally:
        admin.command({"setUserWriteBlockMode": 1, "global": False})
    assert store_waiting(stores, "task") == Outcome(stored=1)


def test_an_entry_without_an_id_is_one_event_at_every_delivery(stores: Stores, database: Database, redis: Redis):
    entry_id = redis.xadd(JOURNAL_KEY, {"event": json.dumps(type_of)})
    store_waiting(stores, "task")
    redis.xadd(JOURNAL_KEY, {"event": json.dumps(type_of)}, id=_after(entry_id))
    store_waiting(stores, "task")
    first, second = database["events"].find().sort("received_at")
    written = datetime.fromtimestamp(int(entry_id.split(b"-")[0]) / 1000, UTC)
    assert abs(first["received_at"] - written) < timedelta(milliseconds=1)
    assert first["_id"] != second["_id"]


def _after(entry_id: bytes) -> str:
    milliseconds, _ = entry_id.split(b"-")
    return f"{int(milliseconds) + 1}-0"


def test_entries_that_were_handed_back_and_not_retried_are_taken_over(stores: Stores, journal: Journal):
    """Celery sometimes loses a message: the retry of "lost" never comes."""
    append(journal, {"event_id": "1"})
    store, stores.events.store = stores.events.store, _be_away
    with pytest.raises(Unavailable):
        store_waiting(stores, "lost")
    stores.events.store = store
    append(journal, {"event_id": "2"})
    assert store_waiting(stores, "next") == Outcome(unreachable="mongodb")
    wait_for(journal.abandoned, "the end of patience")
    assert store_waiting(stores, "next") == Outcome(stored=1)
    assert store_waiting(stores, "next") == Outcome(stored=1)


def test_a_failure_of_redis_counts_against_no_event(stores: Stores, journal: Journal, database: Database):
    """Five times MongoDB has stored the event, and Redis takes neither the settlement nor the hand-back."""
    append(journal, {"event_id": "1"})
    settle, hand_back = journal.settle, journal.hand_back
    journal.settle = journal.hand_back = _be_away
    for attempt in range(MOST_CRASHES + 1):
        with pytest.raises(Unavailable):
            store_waiting(stores, "task", is_retry=attempt > 0)
    journal.settle, journal.hand_back = settle, hand_back
    assert store_waiting(stores, "task", is_retry=True) == Outcome(stored=1)
    assert database["dead_letters"].count_documents({}) == 0


def test_an_event_whose_task_repeatedly_takes_too_long_becomes_a_dead_letter(
    services: Services, journal: Journal, database: Database, monkeypatch: pytest.MonkeyPatch
):
    """Celery runs the task and its retries in this process. A retry after the soft time limit counts as a crash."""
    monkeypatch.setattr(events, "services", lambda: services)
    monkeypatch.setattr(events, "announce", lambda _: None)  # there is no broker
    append(journal, {"event_id": "1"})
    runs: list[object] = []

    def take_too_long(batch: object, _: object) -> Stored:
        if not batch:
            return Stored()
        runs.append(batch)
        raise SoftTimeLimitExceeded

    monkeypatch.setattr(services.events, "store", take_too_long)
    done = events.store_events.apply(task_id="slow")
    assert done.result == {"stored": 0, "duplicate": 0, "dead": 1}
    assert len(runs) == MOST_CRASHES
    assert database["dead_letters"].find_one({})["reason"] == "poison"
