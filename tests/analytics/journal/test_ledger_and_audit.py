"""The ledger: every event is counted at its arrival and at its outcome, and an audit finds differences."""

import json
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from pymongo.database import Database
from redis import Redis

from analytics.events.account import Account
from analytics.events.schema import load_event
from analytics.events.store import EventStore
from analytics.journal.audit import Audit, Audited, audit
from analytics.journal.dead_letters import LetterFilter
from analytics.journal.journal import JOURNAL_KEY, Journal, Line
from analytics.journal.ledger import Ledger
from analytics.journal.replay import replay_all, replay_edited
from analytics.pipeline import Outcome, Stores, store_waiting
from analytics.sites.site import Site
from analytics.sites.store import SiteStore
from config.settings import Settings
from footfall.audit import audit_command
from footfall.embedded_servers import pick_port
from tests.support.services import NOW

TODAY = Account("site", NOW.date())
GOOD = {"site_id": "site", "event_type": "page_view"}


@pytest.fixture
def ledger(redis: Redis, database: Database[dict[str, Any]]) -> Ledger:
    return Ledger(redis, database)


@pytest.fixture
def audited(ledger: Ledger, stores: Stores) -> Audited:
    return Audited(ledger, stores.journal, stores.events, stores.dead_letters)


def append(journal: Journal, *bodies: dict[str, Any]) -> None:
    journal.append([Line.of(load_event(GOOD | body, NOW)) for body in bodies])


def drain(stores: Stores) -> None:
    while stores.journal.waiting():
        store_waiting(stores, "task")


def balance_of(found: Audit, account: Account) -> dict[str, Any]:
    """The counts that are not 0."""
    (line,) = [line for line in found.balances if line.account == account]
    names = ("received", "rejected", "accepted", "replayed", "stored", "duplicate", "dead", "dropped_later", "waiting")
    return {name: value for name in names if (value := getattr(line, name))}


def test_each_event_is_counted_by_its_outcome(ingest: FlaskClient, stores: Stores, audited: Audited):
    for body in (GOOD | {"event_id": "1"}, GOOD | {"event_id": "1"}, GOOD | {"site_id": "other"}, GOOD):
        assert ingest.post("/event", json=body).status_code == 200
    store_waiting(stores, "task")
    ingest.post("/event", json=GOOD)
    found = audit(audited)
    assert found.faults == []
    assert balance_of(found, TODAY) == {"received": 4, "accepted": 4, "stored": 2, "duplicate": 1, "waiting": 1}
    assert balance_of(found, Account("other", NOW.date())) == {"received": 1, "accepted": 1, "stored": 1}


def test_rejected_events_are_counted_by_reason_and_site_before_the_answer(ingest: FlaskClient, audited: Audited):
    bad = GOOD | {"timestamp": "yesterday"}
    assert ingest.post("/event", json=bad).status_code == 400
    assert ingest.post("/event", data=b"{").status_code == 400
    assert ingest.post("/event", json={"site_id": "x" * 129}).status_code == 400
    assert ingest.post("/events", json=[GOOD, bad, bad, 17]).status_code == 200
    found = audit(audited)
    assert found.faults == []
    assert balance_of(found, TODAY) == {
        "received": 4, "rejected": {"invalid_event": 3}, "accepted": 1, "waiting": 1
    }  # fmt: skip
    assert balance_of(found, Account("", NOW.date())) == {
        "received": 3,
        "rejected": {"invalid_event": 2, "not_json": 1},
    }


def test_a_redelivery_of_a_stored_event_counts_as_stored_and_another_entry_as_duplicate(
    stores: Stores, audited: Audited
):
    append(stores.journal, {"event_id": "1"}, {"event_id": "2"}, {"event_id": "1"})
    settle, stores.journal.settle = stores.journal.settle, _die
    with pytest.raises(KeyboardInterrupt):
        store_waiting(stores, "task")
    stores.journal.settle = settle
    store_waiting(stores, "task")
    found = audit(audited)
    assert found.faults == []
    assert balance_of(found, TODAY) == {"received": 3, "accepted": 3, "stored": 2, "duplicate": 1}


def test_events_that_a_worker_drops_count_as_accepted_and_by_reason(
    ingest: FlaskClient, stores: Stores, audited: Audited, database: Database[dict[str, Any]], ledger: Ledger
):
    SiteStore(database).put(Site("site", domains=("shop.example",), excluded_paths=("/admin/**",)))
    told = [
        {},
        {"path": "/admin/a"},
        {"path": "/admin/b"},
        {"hostname": "copy.example"},
        {"referrer": "http://semalt.com"},
    ]
    for body in told:
        assert ingest.post("/event", json=GOOD | body).status_code == 200
    store_waiting(stores, "task")
    found = audit(audited)
    assert found.faults == []
    assert balance_of(found, TODAY) == {
        "received": 5, "accepted": 5, "stored": 1,
        "dropped_later": {"excluded_path": 2, "foreign_hostname": 1, "spam_referrer": 1},
    }  # fmt: skip
    ledger.carry(TODAY.day + timedelta(days=1))
    assert audit(audited).faults == []


def test_an_event_stored_before_a_setting_would_drop_it_counts_as_stored(
    stores: Stores, audited: Audited, database: Database[dict[str, Any]]
):
    append(stores.journal, {"path": "/a"}, {"path": "/b"})
    settle, stores.journal.settle = stores.journal.settle, _die
    with pytest.raises(KeyboardInterrupt):
        store_waiting(stores, "task")
    stores.journal.settle = settle
    excluding = Site("site", excluded_paths=("/a",))
    sites = SiteStore(database)
    sites.put(excluding)
    append(stores.journal, {"path": "/a"})
    assert stores.enrichment
    later = replace(stores, enrichment=replace(stores.enrichment, sites=sites))
    assert store_waiting(later, "task") == Outcome(stored=2)
    assert store_waiting(later, "task") == Outcome(dropped=("excluded_path",))
    found = audit(audited)
    assert found.faults == []
    assert balance_of(found, TODAY) == {
        "received": 3, "accepted": 3, "stored": 2, "dropped_later": {"excluded_path": 1}
    }  # fmt: skip


def test_a_dead_letter_that_is_replayed_and_dropped_is_removed(stores: Stores, audited: Audited, redis: Redis):
    redis.xadd(JOURNAL_KEY, {"event": '{"site_id": "site", "event_type": ""}'})
    store_waiting(stores, "task")
    (letter,) = stores.dead_letters.find(LetterFilter())
    replay_edited(stores.journal, letter, GOOD | {"referrer": "http://semalt.com"})
    assert store_waiting(stores, "task") == Outcome(dropped=("spam_referrer",))
    assert list(stores.dead_letters.find(LetterFilter())) == []
    assert audit(audited).faults == []


def test_entries_that_two_tasks_settle_are_counted_once(stores: Stores, audited: Audited):
    append(stores.journal, {})
    settle, settled = stores.journal.settle, []
    stores.journal.settle = settled.append
    store_waiting(stores, "task")
    stores.journal.settle = settle
    for _ in range(3):
        settle(settled[0])
    assert balance_of(audit(audited), TODAY) == {"received": 1, "accepted": 1, "stored": 1}


def test_entries_that_bypassed_the_collector_are_counted_when_they_are_settled(
    stores: Stores, audited: Audited, redis: Redis
):
    redis.xadd(JOURNAL_KEY, {"event": '{"site_id": "site", "event_type": "a", "received_at": "2026-11-20T23:59:59Z"}'})
    redis.xadd(JOURNAL_KEY, {"what": "is this"})
    redis.xadd(JOURNAL_KEY, {"event": '{"site_id": "site"}'})
    assert audit(audited).uncounted == 3
    assert audit(audited).faults == []
    drain(stores)
    found = audit(audited)
    assert found.faults == []
    assert balance_of(found, Account("site", date(2026, 11, 20))) == {"received": 1, "accepted": 1, "stored": 1}
    assert sum(line.dead for line in found.balances) == sum(line.accepted for line in found.balances) - 1 == 2
    assert {line.account.site_id for line in found.balances if line.dead} == {"", "site"}


def test_a_replay_counts_as_accepted_once_more_and_removed_letters_still_count(
    stores: Stores, audited: Audited, database: Database, redis: Redis
):
    database.command("collMod", "events", validator={"path": {"$ne": "/refused"}})
    try:
        append(stores.journal, {"path": "/refused", "event_id": "1"})
        drain(stores)
        replay_all(stores.journal, stores.dead_letters, LetterFilter())
        drain(stores)
    finally:
        database.command("collMod", "events", validator={})
    found = audit(audited)
    assert found.faults == []
    assert balance_of(found, TODAY) == {"received": 1, "accepted": 2, "replayed": 1, "dead": 2}
    for _ in range(2):
        replay_all(stores.journal, stores.dead_letters, LetterFilter())
    drain(stores)
    append(stores.journal, {"event_id": "1"})
    drain(stores)
    found = audit(audited)
    assert found.faults == []
    assert balance_of(found, TODAY) == {
        "received": 2, "accepted": 5, "replayed": 3, "stored": 1, "duplicate": 2, "dead": 2
    }  # fmt: skip


def test_an_audit_names_what_does_not_add_up(stores: Stores, audited: Audited, database: Database, redis: Redis):
    append(stores.journal, {"event_id": "1"}, {"event_id": "2"})
    drain(stores)
    redis.xadd(JOURNAL_KEY, {"event": "{}"})
    drain(stores)
    append(stores.journal, {})
    redis.delete(JOURNAL_KEY)
    database["events"].delete_one({})
    database["dead_letters"].delete_one({})
    assert audit(audited).faults == [
        f"{line.account.day} (no site): dead 1, but the dead letters tell of 0"
        for line in audit(audited).balances
        if line.account.site_id == ""
    ] + [
        "2026-11-22 site: accepted 3, but stored 2 + duplicate 0 + dead 0 + dropped later 0 + waiting 0 = 2",
        "2026-11-22 site: stored 2, but MongoDB has 1 events",
    ]


def test_the_ledger_of_closed_days_moves_to_mongodb_and_stays_the_same(
    stores: Stores, audited: Audited, ledger: Ledger, redis: Redis
):
    append(stores.journal, {}, {"site_id": "a.b$c d"})
    drain(stores)
    before = audit(audited)
    assert ledger.carry(before=NOW.date()) == 0
    assert ledger.carry(before=NOW.date() + timedelta(days=1)) == 1
    assert redis.keys("footfall:books*") == []
    assert audit(audited) == before
    append(stores.journal, {})
    drain(stores)
    assert balance_of(audit(audited), TODAY) == {"received": 2, "accepted": 2, "stored": 2}
    assert ledger.carry(before=NOW.date() + timedelta(days=1)) == 1
    assert balance_of(audit(audited), TODAY) == {"received": 2, "accepted": 2, "stored": 2}
    assert audit(audited).faults == []


def test_moving_the_ledger_may_crash_anywhere_and_run_twice_at_once(
    stores: Stores, audited: Audited, ledger: Ledger, redis: Redis, database: Database
):
    append(stores.journal, {}, {})
    drain(stores)
    before = audit(audited)
    (server,) = ledger._servers
    forget, server._forget = server._forget, _die
    with pytest.raises(KeyboardInterrupt):
        ledger.carry(before=NOW.date() + timedelta(days=1))
    assert audit(audited) == before, "counts that are in both stores are counted once"
    server._forget = forget
    another = Ledger(redis, database)
    write, another._write = another._write, lambda *given: (ledger.carry(NOW.date()), write(*given))
    another.carry(before=NOW.date())
    assert redis.keys("footfall:books*") == []
    assert audit(audited) == before


def test_a_full_redis_still_counts_in_the_ledger(stores: Stores, audited: Audited, redis: Redis):
    stores.journal.held("a task that came before")
    append(stores.journal, {})
    redis.config_set("maxmemory", 1)
    try:
        store_waiting(stores, "task")
    finally:
        redis.config_set("maxmemory", 0)
    assert balance_of(audit(audited), TODAY) == {"received": 1, "accepted": 1, "stored": 1}


def test_counts_add_up_over_a_hit_of_five_hundred(ingest: FlaskClient, stores: Stores, audited: Audited):
    sites = Counter({"a": 200, "b": 300})
    hit = [{"site_id": site, "event_type": "x"} for site in sites.elements()]
    assert ingest.post("/events", json={"events": hit}).json == {
        "success": True, "accepted": 500, "dropped": 0, "rejected": []
    }  # fmt: skip
    drain(stores)
    found = audit(audited)
    assert found.faults == []
    assert {line.account.site_id: line.stored for line in found.balances} == sites


def _die(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def run_audit(settings: Settings, *words: str) -> Result:
    return CliRunner().invoke(audit_command, words, obj=settings)


def test_the_audit_prints_the_ledger_and_exits_with_0_if_it_is_correct(
    ingest: FlaskClient, stores: Stores, settings: Settings
):
    ingest.post("/events", json=[GOOD, GOOD, {"site_id": "site"}])
    drain(stores)
    ran = run_audit(settings)
    assert ran.exit_code == 0
    head, row, verdict = ran.output.splitlines()
    assert row.endswith("  1 invalid_event")
    assert dict(zip(head.split()[:13], row.split()[:13], strict=True)) == {
        "day": "2026-11-22", "site": "site", "received": "3", "rejected": "1", "dropped": "0", "accepted": "2",
        "replayed": "0", "imported": "0", "stored": "2", "duplicate": "0", "dead": "0", "dropped_later": "0",
        "waiting": "0",
    }  # fmt: skip
    assert "The ledger is correct" in verdict
    assert json.loads(run_audit(settings, "--json").output)["balances"][0]["rejected"] == {"invalid_event": 1}
    assert len(run_audit(settings, "--site", "another").output.splitlines()) == 2


def test_the_audit_exits_with_1_and_names_the_account_if_the_ledger_is_wrong(
    stores: Stores, settings: Settings, database: Database
):
    append(stores.journal, {})
    drain(stores)
    database["events"].delete_one({})
    assert run_audit(settings, "--site", "another").exit_code == 0
    ran = run_audit(settings, "--site", "site")
    assert ran.exit_code == 1
    assert "2026-11-22 site: stored 1, but MongoDB has 0 events" in ran.output


def test_the_audit_exits_with_2_if_a_store_is_unreachable_or_events_keep_moving(
    settings: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
):
    away = run_audit(replace(settings, redis_url=f"redis://127.0.0.1:{pick_port(0)}/0"))
    assert away.exit_code == 2
    assert "footfall: Redis does not answer at 127.0.0.1:" in away.output
    count = EventStore.count_by_account
    monkeypatch.setattr(EventStore, "count_by_account", lambda self: append(stores.journal, {}) or count(self))
    moving = run_audit(settings, "--wait", "0")
    assert moving.exit_code == 2
    assert "events are still arriving" in moving.output


def test_events_that_are_stored_and_not_settled_yet_are_no_fault(stores: Stores, audited: Audited, settings: Settings):
    append(stores.journal, {}, {"site_id": "other"})
    settle, stores.journal.settle = stores.journal.settle, _die
    with pytest.raises(KeyboardInterrupt):
        store_waiting(stores, "task")
    stores.journal.settle = settle
    found = audit(audited)
    assert (found.faults, found.at_rest) == ([], False)
    assert run_audit(settings, "--wait", "0").exit_code == 2
    assert run_audit(settings, "--wait", "0", "--day", "2026-11-21").exit_code == 0, "another day is at rest"
    store_waiting(stores, "task")
    assert run_audit(settings).exit_code == 0


def test_a_purge_between_a_death_and_its_settlement_leaves_the_ledger_correct(
    stores: Stores, audited: Audited, redis: Redis
):
    redis.xadd(JOURNAL_KEY, {"event": "no json"})
    settle, stores.journal.settle = stores.journal.settle, _die
    with pytest.raises(KeyboardInterrupt):
        store_waiting(stores, "task")
    stores.journal.settle = settle
    assert stores.dead_letters.purge(LetterFilter(), NOW) == 1
    store_waiting(stores, "task")
    assert audit(audited).faults == []
    assert stores.dead_letters.count(LetterFilter()) == [], "purged is purged"


def test_made_up_sites_do_not_fill_redis(
    ingest: FlaskClient, journal: Journal, ledger: Ledger, redis: Redis, audited: Audited
):
    ingest.post("/events", json=[{"site_id": f"made up {n}"} for n in range(1000)])
    assert redis.hlen(f"footfall:books:{NOW:%Y-%m-%d}") == 1
    append(journal, *[{"site_id": f"site {n}"} for n in range(10_001)])
    assert ledger.carry(before=NOW.date()) == 1, "large, though its day is not over"
    assert redis.keys("footfall:*books*") == []
    assert sum(balance.accepted for balance in audit(audited).balances) == 10_001


def test_documents_of_other_programs_in_the_collection_are_not_audited(audited: Audited, database: Database):
    database["events"].insert_one({"what": "is this"})
    assert audit(audited).balances == []


def test_control_characters_in_a_site_id_do_not_reach_the_terminal(ingest: FlaskClient, settings: Settings):
    ingest.post("/event", json=GOOD | {"site_id": "x\n\x1b[2J"})
    ran = run_audit(settings)
    assert "\x1b[2J" not in ran.output
    assert r"x\n\x1b[2J" in ran.output
