"""Data that a site no longer keeps is purged: events, segments and dead letters. The ledger still balances."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner, Result
from pymongo.database import Database
from redis import Redis

from analytics.aggregates.day_total import DayTotal
from analytics.aggregates.store import AggregateStore
from analytics.events.removal import REMOVED_AT_ONCE, Removals
from analytics.events.schema import load_event
from analytics.interval import Interval, as_ms
from analytics.journal.audit import Audited, audit
from analytics.journal.journal import JOURNAL_KEY, Line
from analytics.journal.ledger import Ledger
from analytics.pipeline import Stores, store_waiting
from analytics.privacy.retention import Purged, Purger, kept_since
from analytics.segments.engine import Segments
from analytics.segments.verification import months_of, verify
from analytics.sites.site import Site
from analytics.sites.store import SiteStore
from config.settings import Settings
from footfall.privacy import purge_command
from report_app import Services
from tests.support.services import NOW

BEFORE = datetime(2026, 11, 10, tzinfo=UTC)
ALL = Interval(0, as_ms(NOW))


@pytest.fixture
def purger(stores: Stores, database: Database) -> Purger:
    return Purger(Removals(database), stores.journal, stores.dead_letters, AggregateStore(database), lambda: NOW)


@pytest.fixture
def segments(services: Services) -> Segments:
    return services.eraser.data.segments


@pytest.fixture
def audited(redis: Redis, database: Database, stores: Stores) -> Audited:
    return Audited(Ledger(redis, database), stores.journal, stores.events, stores.dead_letters)


def send(stores: Stores, *moments: datetime, site_id: str = "shop", received_at: datetime = NOW) -> None:
    body = {"site_id": site_id, "event_type": "pageview", "user_id": "ann"}
    events = [load_event(body | {"timestamp": moment.isoformat()}, received_at) for moment in moments]
    stores.journal.append([Line.of(event) for event in events])
    while stores.journal.waiting():
        store_waiting(stores, "task")


def days(*numbers: int) -> list[datetime]:
    return [datetime(2026, 11, number, 12, tzinfo=UTC) for number in numbers]


def left(database: Database, site_id: str = "shop") -> list[int]:
    return sorted(document["timestamp"].day for document in database["events"].find({"site_id": site_id}))


@pytest.mark.parametrize(
    ("zone", "first"),
    [
        ("UTC", datetime(2026, 11, 20, tzinfo=UTC)),
        ("America/New_York", datetime(2026, 11, 20, 5, tzinfo=UTC)),
        ("Pacific/Auckland", datetime(2026, 11, 20, 11, tzinfo=UTC)),
        ("Asia/Kathmandu", datetime(2026, 11, 19, 18, 15, tzinfo=UTC)),
    ],
)
def test_a_site_keeps_whole_days_of_its_own_zone(zone: str, first: datetime):
    site = Site("shop", ZoneInfo(zone), retention_days=2)
    assert kept_since(site, NOW) == first
    assert kept_since(replace(site, retention_days=None), NOW) is None


def test_older_events_are_purged_and_the_others_stay(
    purger: Purger, stores: Stores, database: Database, audited: Audited
):
    send(stores, *days(1, 9, 10, 21), BEFORE, BEFORE - timedelta(milliseconds=1))
    send(stores, *days(1), site_id="other")
    assert purger.count("shop", BEFORE) == Purged(3, 0)
    assert purger.purge("shop", BEFORE) == Purged(3, 0)
    assert left(database) == [10, 10, 21]
    assert left(database, "other") == [1]
    assert purger.purge("shop", BEFORE) == Purged(0, 0)
    assert audit(audited).faults == []


def test_imported_days_are_purged_too(purger: Purger, database: Database):
    aggregates = AggregateStore(database)
    for site_id in ("shop", "other"):
        totals = [DayTotal("total", date(2026, 11, day), "", {}, {"visitors": day}) for day in (8, 9, 10, 21)]
        aggregates.add("import", site_id, ZoneInfo("UTC"), totals)
    assert purger.count("shop", BEFORE) == Purged(0, 0, daily_totals=2)
    assert purger.purge("shop", BEFORE, until=NOW) == Purged(0, 0, is_done=False, daily_totals=2)
    assert purger.purge_expired([Site("other", retention_days=3)]) == Purged(0, 0, daily_totals=3)
    assert [aggregates.count_old(site_id, NOW) for site_id in ("shop", "other")] == [2, 1]
    assert purger.purge_expired([Site("shop", retention_days=0)]).daily_totals == 2


def test_each_site_is_purged_by_its_own_setting_and_none_without_it(
    purger: Purger, stores: Stores, database: Database, audited: Audited
):
    for site_id in ("shop", "other", "all"):
        send(stores, *days(1, 15, 21), site_id=site_id)
    sites = SiteStore(database)
    for site in (Site("shop", retention_days=3), Site("other", retention_days=10), Site("all")):
        sites.put(site)
    assert purger.purge_expired(sites.all()) == Purged(3, 0)
    assert (left(database), left(database, "other"), left(database, "all")) == ([21], [15, 21], [1, 15, 21])
    send(stores, *days(2))
    assert left(database) == [2, 21], "a late event counts"
    assert purger.purge_expired(sites.all()) == Purged(1, 0), "until the next run"
    assert audit(audited).faults == []


def test_segments_are_rebuilt_after_a_purge(purger: Purger, stores: Stores, segments: Segments):
    send(stores, *days(1, 2, 21))
    segments.builder.build_site("shop", everything=True)
    purger.purge("shop", BEFORE)
    assert list(segments.dirty.of_site("shop", ALL)), "known at once"
    segments.builder.build_site("shop", everything=True)
    (segment,) = segments.store.manifest("shop").segments
    assert (segment.rows, segment.first) == (1, as_ms(days(21)[0]))
    assert all(found.is_right for found in verify(segments, "shop", months_of(segments, "shop"), 1000))


def test_many_events_are_purged_in_groups_and_a_stop_in_between_loses_no_work(
    purger: Purger, stores: Stores, database: Database, audited: Audited
):
    send(stores, *(BEFORE - timedelta(minutes=n + 1) for n in range(2 * REMOVED_AT_ONCE + 10)))
    stopped = purger.purge("shop", BEFORE, until=NOW)
    assert stopped == Purged(REMOVED_AT_ONCE, 0, is_done=False)
    assert audit(audited).faults == []
    assert purger.purge("shop", BEFORE).events == REMOVED_AT_ONCE + 10
    assert audit(audited).faults == []


def test_dead_letters_are_purged_by_the_time_they_were_received(
    purger: Purger, stores: Stores, database: Database, audited: Audited, redis: Redis
):
    for day in (1, 20):
        ms = as_ms(datetime(2026, 11, day, tzinfo=UTC))
        redis.xadd(JOURNAL_KEY, {"event": json.dumps({"site_id": "shop", "event_type": day})}, id=f"{ms}-1")
        while stores.journal.waiting():
            store_waiting(stores, "task")
    assert database["dead_letters"].count_documents({}) == 2
    assert purger.count("shop", BEFORE) == Purged(0, 1)
    assert purger.purge("shop", BEFORE) == Purged(0, 1)
    assert [letter["received_at"].day for letter in database["dead_letters"].find()] == [20]
    assert audit(audited).faults == []
    assert purger.purge_expired([Site("shop", retention_days=0)]) == Purged(0, 1), "of a site without old events"


def test_a_site_without_old_data_costs_one_query(purger: Purger, database: Database):
    sites = [Site(f"site-{number}", retention_days=3) for number in range(100)]
    database.command("profile", 2)
    try:
        assert purger.purge_expired(sites) == Purged(0, 0)
        asked = database["system.profile"].count_documents({"op": {"$ne": "getmore"}})
    finally:
        database.command("profile", 0)
        database["system.profile"].drop()
    assert 100 <= asked < 110


@pytest.fixture
def run(settings: Settings) -> Callable[..., Result]:
    return lambda *words, stdin="": CliRunner().invoke(purge_command, words, obj=settings, input=stdin)


def test_a_purge_by_hand_counts_first(run: Callable[..., Result], stores: Stores, database: Database, audited: Audited):
    send(stores, *days(1, 9, 10, 21))
    what: Any = ("--site", "shop", "--before", "2026-11-10")
    dry = run(*what, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "2 events and 0 dead letters are from before 2026-11-10 00:00 UTC." in dry.output
    assert "Remove them permanently? [y/N]" in run(*what, stdin="n\n").output
    assert left(database) == [1, 9, 10, 21]
    assert "2 events and 0 dead letters are purged." in run(*what, "--yes").output
    assert left(database) == [10, 21]
    assert run(*what, "--yes").exit_code == 0
    assert run("--site", "shop").exit_code == 2
    assert audit(audited).faults == []


def test_in_a_purge_by_hand_a_day_begins_at_midnight_of_the_site(run: Callable[..., Result], database: Database):
    SiteStore(database).put(Site("shop", ZoneInfo("America/New_York")))
    assert "before 2026-11-10 05:00 UTC" in run("--site", "shop", "--before", "2026-11-10", "--dry-run").output
