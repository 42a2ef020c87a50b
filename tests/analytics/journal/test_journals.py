"""Several journals as one: where a site's events go, a move at any moment, and servers that do not answer.

Each journal is a database of its own in the tests' Redis. tests/system/test_several_journals.py has several servers.
"""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from pymongo.database import Database
from redis import Redis

from analytics.events.account import Account
from analytics.events.event import id_from_client, new_id, sequence_of
from analytics.events.removal import ERASED
from analytics.events.schema import load_event, load_journal_event
from analytics.events.selection import older_than
from analytics.journal.audit import Audit, Audited, Balance, audit
from analytics.journal.dead_letters import LetterFilter
from analytics.journal.journal import GROUP, JOURNAL_KEY, Journal, Line
from analytics.journal.journals import Journals, journal_state
from analytics.journal.ledger import Ledger, move_last_received
from analytics.journal.replay import replay_letter
from analytics.pipeline import store_waiting
from analytics.store_notes import PACKED_ENTRIES, StoreNotes, StoresNotReady
from analytics.unavailable import Unavailable
from config.services import Services
from config.settings import Settings
from footfall.embedded_servers import pick_port
from ingest_app import create_app
from tests.support.described_client import described_client
from tests.support.services import NOW, WakeUps, make_services

SITES = [f"site {n}" for n in range(300)]
TODAY = NOW.date()


@pytest.fixture
def several(settings: Settings) -> Settings:
    base = settings.redis_url.removesuffix("/0")
    return replace(settings, journal_urls=f"b={base}/1,c={base}/2")


@pytest.fixture
def ours(several: Settings, redis: Redis, database: Database[dict[str, Any]]) -> Iterator[Services]:
    with closing(make_services(several, redis=redis, database=database)) as services:
        yield services


@pytest.fixture
def away(settings: Settings, redis: Redis, database: Database[dict[str, Any]]) -> Iterator[Services]:
    """The services of a system whose further journal does not answer."""
    url = f"b=redis://127.0.0.1:{pick_port(0)}/0"
    with closing(make_services(replace(settings, journal_urls=url), redis=redis, database=database)) as services:
        yield services


def site_of(journal: Journal, name: str) -> str:
    """A site whose events the journal of this name takes."""
    return next(site for site in SITES if journal.part_of(site).name == name)


def line(site_id: str, event_id: str) -> Line:
    return Line.of(load_event({"site_id": site_id, "event_type": "pageview", "event_id": event_id}, NOW))


def drain(services: Services) -> None:
    while services.journal.waiting():
        store_waiting(services.stores, "task")


def audited(services: Services) -> Audit:
    return audit(Audited(services.ledger, services.journal, services.events, services.dead_letters))


def balance_of(services: Services, site_id: str) -> Balance:
    (found,) = [x for x in audited(services).balances if x.account.site_id == site_id]
    return found


def test_a_further_journal_takes_its_share_of_each_and_no_site_moves_between_the_others(redis: Redis):
    def placed(*names: str) -> dict[str, str]:
        journals = Journals([Journal(redis, queue="events", batch=1, claim_idle=1, name=name) for name in names])
        return {site: journals.part_of(site).name for site in SITES}

    before, after = placed("", "b"), placed("", "b", "c")
    assert placed("", "b") == before
    moved = {site for site in SITES if before[site] != after[site]}
    assert {after[site] for site in moved} == {"c"}
    assert 70 < len(moved) < 130
    assert {before[site] for site in moved} == {"", "b"}


def test_a_journal_that_closes_gets_no_new_events_and_is_drained(ours: Services, several: Settings):
    journal = ours.journal
    site = site_of(journal, "b")
    journal.append([line(site, "1")])
    closed = replace(several, journal_urls=several.journal_urls.replace("b=", "-b="))
    with closing(make_services(closed)) as later:
        assert {later.journal.part_of(x).name for x in SITES} == {"", "c"}
        later.journal.append([line(site, "2")])
        (b,) = [part for part in later.journal.parts if part.name == "b"]
        assert (b.waiting(), journal_state(b, later.journal).of_others) == (1, 1)
        drain(later)
        assert journal_state(b, later.journal).of_others == 0
        assert balance_of(later, site).stored == 2
        assert audited(later).faults == []


def test_entries_of_two_servers_with_the_same_id_are_two_events(ours: Services):
    """Redis numbers entries by the millisecond, so servers often give the same id."""
    same = "1763632801000-0"
    for redis in (ours.redis, *ours.further_redis.values()):
        redis.xadd(JOURNAL_KEY, {"event": '{"site_id": "shop", "event_type": "pageview", "user_id": "ann"}'}, id=same)
        redis.xadd(JOURNAL_KEY, {"event": "not JSON"}, id=f"{same[:-1]}1")
    assert len({entry.entry_id for entry in ours.journal.entries()}) == 6
    assert {sequence_of(entry.entry_id) for entry in ours.journal.entries()} == {
        "1763632801000-000000",
        "1763632801000-000001",
    }
    drain(ours)
    assert ours.database["events"].distinct("entry_id") == [same, f"{same}-b", f"{same}-c"]
    assert len(list(ours.dead_letters.find(LetterFilter()))) == 3
    keys = ours.database["events"].distinct("_id")
    assert ours.removals.remove(keys, older_than("shop", NOW), ERASED, NOW, NOW - timedelta(days=400)) == 3
    assert audited(ours).faults == []


def test_a_site_moves_between_any_two_steps_of_a_worker(ours: Services, settings: Settings):
    """A worker dies when it has stored events of the old journal. The site has moved, and its events come again."""
    with closing(make_services(settings)) as old:
        site = site_of(ours.journal, "c")
        old.journal.append([line(site, f"{n}") for n in range(10)])
        old.journal.held("dies")
        entries = old.journal.claim("dies")
        old.events.store([(x.entry_id, load_journal_event(x.raw, new_id, lambda: NOW)) for x in entries[:5]], NOW)
        ours.journal.append([line(site, f"{n}") for n in range(20)])
        old.journal.append([line(site, "20")])
    (c,) = [part for part in ours.journal.parts if part.name == "c"]
    assert (ours.journal.waiting(), c.waiting()) == (31, 20)
    store_waiting(ours.stores, "dies")
    drain(ours)
    balance = balance_of(ours, site)
    assert (balance.accepted, balance.stored, balance.duplicate, balance.faults) == (31, 21, 10, [])
    assert set(ours.database["events"].distinct("_id")) == {id_from_client(site, f"{n}") for n in range(21)}


def test_the_ledger_is_the_sum_and_the_last_event_is_the_latest(ours: Services, settings: Settings):
    site = site_of(ours.journal, "b")
    with closing(make_services(settings)) as old:
        old.journal.append([line(site, "1")])
        first = old.ledger.last_received(site)
        ours.journal.append([line(site, "1"), line(site, "2")])
        assert first is not None
        assert (latest := ours.ledger.last_received(site)) is not None
        assert latest >= first
        assert ours.ledger.of_site(site, TODAY, TODAY)[TODAY]["accepted"] == 3
        drain(ours)
        assert ours.ledger.carry(date.max) == 2, "both servers have counts of today"
        assert ours.ledger.carry(date.max) == 0
        assert ours.ledger.read() == old.ledger.read(), "everything is in MongoDB"
        balance = balance_of(ours, site)
        assert (balance.accepted, balance.stored, balance.duplicate, balance.faults) == (3, 2, 1, [])
        move_last_received(ours.further_redis["b"], ours.redis)
        assert old.ledger.last_received(site) == latest


def test_a_hit_of_several_sites_is_in_one_journal(ours: Services, several: Settings):
    ingest = described_client(create_app(several, ours, WakeUps()))
    sites = [site_of(ours.journal, name) for name in ("b", "", "c")]
    events = [{"site_id": site, "event_type": "pageview"} for site in sites]
    assert ingest.post("/events", json=events).json["accepted"] == 3
    assert [part.waiting() for part in ours.journal.parts] == [0, 0, 3]
    assert ingest.post("/events", json=[events[2], {"site_id": sites[0]}]).json["accepted"] == 1
    drain(ours)
    found = audited(ours)
    assert (found.faults, sum(x.stored for x in found.balances)) == ([], 4)


def test_without_one_server_the_sites_of_the_others_are_accepted_and_stored(away: Services):
    journal = away.journal
    theirs, others = site_of(journal, "b"), site_of(journal, "")
    ingest: FlaskClient = described_client(create_app(away._settings, away, WakeUps()))
    for _ in range(3):
        answer = ingest.post("/event", json={"site_id": theirs, "event_type": "pageview"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert ingest.post("/event", json={"site_id": others, "event_type": "pageview"}).status_code == 200
    assert ingest.get("/readyz").status_code == 200
    assert journal.wake_ups_owed() == 1
    assert not journal.is_behind()
    assert store_waiting(away.stores, "task").stored == 3
    with pytest.raises(Unavailable):  # an earlier run may hold events there
        store_waiting(away.stores, "task", is_retry=True)
    for exact in (
        journal.waiting,
        journal.oldest,
        journal.is_held,
        lambda: audited(away),
        lambda: list(journal.entries()),
    ):
        with pytest.raises(Unavailable):
            exact()


def test_counts_of_the_other_servers_are_carried_while_one_is_away(away: Services):
    away.journal.append([line(site_of(away.journal, ""), "1")])
    with pytest.raises(Unavailable):
        away.ledger.carry(date.max)
    assert away.database["books"].count_documents({}) == 1


def test_a_dead_letter_is_replayed_to_the_journal_of_its_site(ours: Services):
    site = site_of(ours.journal, "c")
    ours.redis.xadd(JOURNAL_KEY, {"event": json.dumps({"site_id": site, "event_type": 7})})
    drain(ours)
    (letter,) = ours.dead_letters.find(LetterFilter())
    assert replay_letter(ours.journal, letter)
    assert [part.waiting() for part in ours.journal.parts] == [0, 0, 1]
    drain(ours)
    assert audited(ours).faults == []


def test_events_are_packed_when_any_server_knows_that_all_workers_read_them(ours: Services):
    notes, journal = StoreNotes(ours.redis, ours.database), ours.journal
    notes.note_format(PACKED_ENTRIES)
    for name in ("", "b"):
        journal.append([line(site_of(journal, name), "1")])
    as_json, as_array = [part.dump for part in reversed(journal.parts[:2])]
    assert as_json is not as_array
    assert journal.dump is as_array
    ours.store_notes.note_format(PACKED_ENTRIES)
    assert [redis.hget("footfall:stores", "format") for redis in ours.further_redis.values()] == [b"2", b"2"]


def test_a_server_keeps_its_name(ours: Services, several: Settings, settings: Settings):
    ours.store_notes.check_redis()
    ours.store_notes.check_redis()
    a, b = several.journal_urls.split(",")
    urls = [
        f"b={b[2:]},c={a[2:]}",  # exchanged
        f"d={a[2:]}",
        f"d={settings.redis_url.replace('127.0.0.1', 'localhost')}",
    ]
    for url in urls:
        with (
            closing(make_services(replace(settings, journal_urls=url))) as wrong,
            pytest.raises(StoresNotReady, match=r"is that of the journal (b|c|main)\. Each server needs one name"),
        ):
            wrong.store_notes.check_redis()


def test_consumers_of_each_journal_are_found_by_their_name(ours: Services):
    """A process died with entries of two journals. Its task runs again and finds both."""
    sites = [site_of(ours.journal, name) for name in ("", "b")]
    for site in sites:
        ours.journal.append([line(site, "1")])
    for part in ours.journal.parts[:2]:
        part.held("task")
        part.claim("task")
    assert store_waiting(ours.stores, "task").stored == 2
    for redis in (ours.redis, ours.further_redis["b"]):
        assert redis.xpending(JOURNAL_KEY, GROUP)["pending"] == 0
    assert {x.account: x.stored for x in audited(ours).balances} == {Account(site, TODAY): 1 for site in sites}
    assert Ledger(ours.redis, ours.database).read() != ours.ledger.read()
