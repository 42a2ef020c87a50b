"""Three real mongod in a replica set, whose primary dies, freezes and steps down while events come in."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pymongo
import pytest
from pymongo import WriteConcern
from pymongo.database import Database
from pymongo.errors import BulkWriteError, PyMongoError

from analytics.events.event import Event
from analytics.events.schema import load_event
from analytics.events.store import DUPLICATE_KEY, EventStore, Stored
from analytics.unavailable import Unavailable
from bench.chaos import Tally, drain, producing
from config.clients import make_database
from config.settings import Settings
from tests.support.clusters import Member, MongoSet, cluster_running
from tests.support.running_system import System, system_running, wait_for
from tests.support.services import NOW

ELECTION = 1.5  # seconds; MongoDB's default is 10


@pytest.fixture(scope="module")
def mongo_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoSet]:
    with cluster_running(MongoSet(tmp_path_factory.mktemp("set"), ELECTION)) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def system(mongo_set: MongoSet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with system_running(tmp_path_factory.mktemp("system"), MONGODB_URI=mongo_set.url, CLAIM_IDLE="5") as system:
        yield system


def kill(_: MongoSet, primary: Member) -> Callable[[], None]:
    primary.kill()
    return primary.start


def freeze(_: MongoSet, primary: Member) -> Callable[[], None]:
    primary.freeze()
    return primary.thaw


def step_down(mongo_set: MongoSet, _: Member) -> Callable[[], None]:
    mongo_set.step_down()
    return lambda: None


@pytest.mark.parametrize("fail", [kill, freeze, step_down])
def test_if_the_primary_fails_another_takes_over_and_every_event_is_stored_once(
    system: System, mongo_set: MongoSet, fail: Callable
):
    tally = Tally(site=fail.__name__)
    primary = mongo_set.primary()
    with producing(system, tally):
        wait_for(lambda: stored(system, tally) > 100, "a hundred events stored")
        start = time.monotonic()
        mend = fail(mongo_set, primary)
        wait_for(lambda: mongo_set.primary() is not primary, "another primary")
        elected = time.monotonic() - start
        before = wait_for(lambda: stored(system, tally), "a count by the new primary")
        wait_for(lambda: stored(system, tally) > before + 100, "events stored by the new primary")
        flowing = time.monotonic() - start
        mend()
        wait_for(mongo_set.is_whole, "a primary and two secondaries")
    drain(system, tally)
    print(f"{fail.__name__}: another primary after {elected:.1f} s, it stores after {flowing:.1f} s")
    assert (tally.lost, tally.doubled, tally.dead, tally.ledger) == (set(), 0, 0, [])
    assert not tally.refused, "the collector does not notice"


def stored(system: System, tally: Tally) -> int:
    try:
        with system.database() as database, pymongo.timeout(1):
            return database["events"].count_documents({"site_id": tally.site})
    except PyMongoError:
        return 0  # there is no primary at this moment


@pytest.fixture
def database(mongo_set: MongoSet) -> Iterator[Database[dict[str, Any]]]:
    database = make_database(Settings(mongodb_uri=mongo_set.url))
    yield database
    database.client.close()


@pytest.fixture
def store(database: Database) -> EventStore:
    """A store that has written before, so that the tests wait for events and not for indexes."""
    store = EventStore(database)
    store.store([("0-1", an_event("first"))], NOW)
    return store


@pytest.fixture
def rejoin(mongo_set: MongoSet, store: EventStore) -> Iterator[Callable[[], None]]:
    """Isolates the primary: it writes, and no majority has the write. Yields a function that brings the others back."""
    secondaries = mongo_set.secondaries()
    mongo_set.elect_after(60)  # otherwise it would step down

    def thaw() -> None:
        for member in secondaries:
            member.thaw()

    for member in secondaries:
        member.freeze()
    yield thaw
    thaw()
    wait_for(mongo_set.is_whole, "a primary and two secondaries")
    mongo_set.elect_after(ELECTION)


def an_event(event_id: str) -> Event:
    return load_event({"site_id": "alone", "event_type": "page_view", "event_id": event_id}, NOW)


def test_an_event_that_only_the_primary_has_does_not_count_as_stored(
    store: EventStore, database: Database, rejoin: Callable
):
    event = an_event("ours")
    with pytest.raises(Unavailable), pymongo.timeout(1.5):
        store.store([("0-2", event)], NOW)
    assert database["events"].find_one(event.id), "it was written, and may yet be rolled back"
    rejoin()
    assert store.store([("0-2", event)], NOW) == Stored()


def test_a_duplicate_of_an_event_that_only_the_primary_has_does_not_count_as_stored(
    store: EventStore, database: Database, rejoin: Callable
):
    """MongoDB waits for the majority also if it had nothing to write."""
    event, events = an_event("theirs"), database["events"]
    events.with_options(write_concern=WriteConcern(w=1)).insert_one({"_id": event.id, "site_id": "alone"})
    impatient = events.with_options(write_concern=WriteConcern("majority", wtimeout=200))
    with pytest.raises(BulkWriteError) as refusal:
        impatient.insert_many([{"_id": event.id}])
    assert [error["code"] for error in refusal.value.details["writeErrors"]] == [DUPLICATE_KEY]
    assert refusal.value.details["writeConcernErrors"]
    with pytest.raises(Unavailable), pymongo.timeout(1.5):
        store.store([("0-2", event)], NOW)
    rejoin()
    assert store.store([("0-2", event)], NOW) == Stored(duplicate=frozenset({0}))
