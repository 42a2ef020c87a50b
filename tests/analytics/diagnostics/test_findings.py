"""The checks of `footfall doctor` on real servers: each fault is named with its remedy."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
from pymongo.database import Database
from redis import Redis
from redis.exceptions import RedisError

from analytics.diagnostics.finding import ClockReading, Finding, Unanswered
from analytics.diagnostics.mongodb import MongoFacts, mongodb_failover, mongodb_journal, mongodb_majority, read_mongodb
from analytics.diagnostics.redis import RedisFacts, read_redis, redis_memory, redis_version
from analytics.diagnostics.upkeep import read_upkeep
from analytics.events.dirty_hours import DirtyHours
from analytics.events.schema import load_event
from analytics.events.store import INDEXES, EventStore
from analytics.interval import as_ms
from analytics.journal.journal import Journal, Line
from analytics.journal.ledger import Ledger
from analytics.pipeline import Stores, store_waiting
from analytics.sites.site import Site
from analytics.sites.store import SiteStore
from analytics.store_notes import STORE_FORMAT, StoreNotes
from config.clients import make_database, make_redis
from config.settings import Settings
from footfall.doctor import CHECKS
from footfall.embedded_servers import Server, mongo_server, pick_port, redis_server
from footfall.store_checks import read_mongodb_of
from tests.support.running_system import running, wait_for

SECRET = "g3heim"


def judge(part: str, facts: Any) -> dict[str, Finding]:
    return {check.__name__: check(facts) for check in CHECKS[part]}


# Redis


@pytest.fixture(scope="module")
def redis_to_break(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = redis_server(tmp_path_factory.mktemp("redis"), pick_port(0))
    with running(server):
        yield server


@pytest.fixture
def own_redis(redis_to_break: Server) -> Iterator[Redis]:
    """A Redis that a test may set wrong. Its settings are restored."""
    asked = ["appendonly", "appendfsync", "maxmemory", "maxmemory-policy", "requirepass"]
    with make_redis(Settings(redis_url=redis_to_break.url)) as redis:
        before: dict[str, Any] = {name: redis.config_get(name)[name] for name in asked}
        yield redis
        redis.replicaof("no", "one")
        for name, value in before.items():
            redis.config_set(name, value)


def read(redis: Redis, ahead: float = 0) -> RedisFacts:
    return read_redis(redis, lambda: time.time() + ahead)


@pytest.mark.parametrize(
    ("name", "value", "check"),
    [
        ("appendfsync", "everysec", "redis_appendfsync"),
        ("appendonly", "no", "redis_append_only"),
        ("maxmemory-policy", "allkeys-lru", "redis_eviction"),
        ("maxmemory", "0", "redis_memory"),
    ],
)
def test_a_redis_that_may_lose_events_is_named_with_the_command_that_fixes_it(
    own_redis: Redis, name: str, value: str, check: str
):
    right: Any = own_redis.config_get(name)[name]
    own_redis.config_set(name, value)
    finding = judge("redis", read(own_redis))[check]
    assert finding.state == "problem"
    command = finding.remedy.split("`")[1].split()
    assert command[:3] == ["redis-cli", "config", "set"]
    own_redis.config_set(*command[3:])
    assert judge("redis", read(own_redis))[check].state == "ok"
    assert own_redis.config_get(name)[name] == right


def test_a_redis_that_is_a_replica_is_named(own_redis: Redis):
    own_redis.replicaof("127.0.0.1", "1")
    finding = judge("redis", read(own_redis))["redis_role"]
    assert (finding.state, "replicaof no one" in finding.remedy) == ("problem", True)


def test_a_filling_redis_is_a_warning_and_a_full_one_a_problem(own_redis: Redis):
    facts = read(own_redis)
    for share, state in ((0.4, "ok"), (0.5, "warning"), (0.9, "problem")):
        own_redis.config_set("maxmemory", int(facts.info["used_memory"] / share))
        asked = redis_memory(replace(facts, info=own_redis.info() | {"used_memory": facts.info["used_memory"]}))
        assert asked.state == state


def test_a_redis_that_cannot_write_to_its_disk_is_named(tmp_path: Path):
    server = redis_server(tmp_path / "redis", pick_port(0))
    with running(server), make_redis(Settings(redis_url=server.url)) as redis:
        rmtree(tmp_path / "redis")
        redis.bgrewriteaof()
        wait_for(lambda: judge("redis", read(redis))["redis_last_writes"].state == "problem", "the failed rewrite")
        assert "aof_last_bgrewrite_status" in judge("redis", read(redis))["redis_last_writes"].what


def test_a_redis_that_forbids_some_commands_is_a_warning(redis_to_break: Server, own_redis: Redis):
    own_redis.execute_command("ACL", "SETUSER", "limited", "on", ">pw", "~*", "+@all", "-config", "-client")
    url = redis_to_break.url.replace("://", "://limited:pw@")
    with make_redis(Settings(redis_url=url)) as redis:
        found = judge("redis", read(redis))
    assert {name for name, finding in found.items() if finding.state != "ok"} == {"redis_appendfsync", "beat"}
    assert found["redis_appendfsync"].state == found["beat"].state == "warning"


def test_an_old_redis_is_named(own_redis: Redis):
    facts = read(own_redis)
    assert redis_version(facts).state == "ok"
    assert redis_version(replace(facts, info={"redis_version": "6.0.16"})).state == "problem"


@pytest.mark.parametrize("ahead", [-5, 5])
def test_a_wrong_clock_is_a_warning(own_redis: Redis, database: Database[dict[str, Any]], ahead: float):
    assert judge("redis", read(own_redis, ahead))["redis_clock"].state == "warning"
    mongodb = read_mongodb(database, lambda: time.time() + ahead)
    assert judge("mongodb", mongodb)["mongodb_clock"].state == "warning"


def test_the_duration_of_an_answer_does_not_count_as_a_wrong_clock():
    assert ClockReading(asked=100, theirs=104, answered=105).check("x").state == "ok"
    assert ClockReading(asked=100, theirs=104, answered=101).check("x").state == "warning"


def test_an_unreachable_redis_and_a_refused_password_are_named(own_redis: Redis, redis_to_break: Server):
    own_redis.config_set("requirepass", SECRET)
    with make_redis(Settings(redis_url=redis_to_break.url)) as redis, pytest.raises(Unanswered) as refused:
        read(redis)
    assert "REDIS_URL=redis://user:password@" in refused.value.finding.remedy
    nobody = Settings(redis_url=f"redis://127.0.0.1:{pick_port(0)}/0")
    with make_redis(nobody) as redis, pytest.raises(Unanswered, match="does not answer") as gone:
        read(redis)
    assert isinstance(gone.value.__cause__, RedisError)


# MongoDB


@pytest.fixture
def mongodb_facts(database: Database[dict[str, Any]]) -> MongoFacts:
    return read_mongodb(database, time.time)


def mongod(folder: Path, *options: str) -> Server:
    """A mongod that is not in a replica set."""
    server = mongo_server(folder, pick_port(0))
    without_set = server.command[: server.command.index("--replSet")]

    def is_ready() -> bool:
        return "Waiting for connections" in (folder / "mongod.log").read_text(errors="replace")

    return replace(server, command=[*without_set, *options], is_ready=is_ready)


@contextmanager
def opened(uri: str) -> Iterator[Database[dict[str, Any]]]:
    database = make_database(Settings(mongodb_uri=uri))
    with database.client:
        yield database


def test_events_that_wait_too_long_for_a_segment_are_named(database: Database[dict[str, Any]]):
    dirty, now = DirtyHours(database), datetime.now(UTC)

    def lag() -> Finding:
        return judge("mongodb", read_mongodb(database, time.time))["segments_lag"]

    dirty.mark([("site", as_ms(now)), ("site", as_ms(now - timedelta(hours=5)))], now - timedelta(minutes=10))
    assert lag().state == "ok"
    dirty.mark([("site", as_ms(now - timedelta(hours=6)))], now - timedelta(hours=2))
    assert lag().state == "warning"
    assert "1 hours of events" in lag().what


def test_a_standalone_mongodb_is_named(tmp_path: Path):
    server = mongod(tmp_path)
    (tmp_path / "mongod.log").touch()
    with running(server):
        with opened(server.url.partition("?")[0]) as database:
            found = judge("mongodb", read_mongodb(database, time.time))
        with opened(server.url) as database, pytest.raises(Unanswered, match="not a member") as unanswered:
            read_mongodb(database, time.time)
    assert found["mongodb_replica_set"].state == "problem"
    assert found["mongodb_majority"].state == found["mongodb_failover"].state == "unchecked"
    for remedy in (found["mongodb_replica_set"].remedy, unanswered.value.finding.remedy):
        assert "--replSet footfall" in remedy


def test_a_replica_set_that_was_never_initiated_is_named(tmp_path: Path):
    server = mongod(tmp_path, "--replSet", "footfall")
    (tmp_path / "mongod.log").touch()
    with running(server), opened(server.url) as database:
        with pytest.raises(Unanswered, match="not initiated") as unanswered:
            read_mongodb(database, time.time)
        assert "rs.initiate()" in unanswered.value.finding.remedy


def test_a_missing_index_is_named(database: Database[dict[str, Any]]):
    database.drop_collection("events")
    assert judge("mongodb", read_mongodb(database, time.time))["mongodb_indexes"].state == "ok"
    database["events"].insert_one({})
    missing = judge("mongodb", read_mongodb(database, time.time))["mongodb_indexes"]
    for name, keys in INDEXES.items():
        database["events"].create_index(keys, name=name)
    assert missing.state == "problem"
    assert "createIndex({site_id: 1, timestamp: 1}" in missing.remedy
    assert judge("mongodb", read_mongodb(database, time.time))["mongodb_indexes"].state == "ok"


def test_members_that_acknowledge_before_they_write_to_disk_are_named(mongodb_facts: MongoFacts):
    assert mongodb_journal(mongodb_facts).state == "ok"
    unsafe = dict(mongodb_facts.config or {}) | {"writeConcernMajorityJournalDefault": False}
    assert mongodb_journal(replace(mongodb_facts, config=unsafe)).state == "problem"


PRIMARY, SECONDARY, ARBITER, DOWN = 1, 2, 7, 8


@pytest.mark.parametrize(
    ("states", "arbiters", "majority", "failover"),
    [
        ([PRIMARY], [], "ok", "warning"),
        ([PRIMARY, SECONDARY], [], "ok", "warning"),
        ([PRIMARY, SECONDARY, SECONDARY], [], "ok", "ok"),
        ([PRIMARY, SECONDARY, DOWN], [], "warning", "ok"),
        ([SECONDARY, DOWN, DOWN], [], "problem", "ok"),
        ([PRIMARY, SECONDARY, ARBITER], [2], "ok", "warning"),
        ([PRIMARY, DOWN, ARBITER], [2], "problem", "warning"),
    ],
)
def test_a_write_needs_a_majority_of_the_voters_that_keep_data(
    mongodb_facts: MongoFacts, states: list[int], arbiters: list[int], majority: str, failover: str
):
    hosts = range(len(states))
    members = [{"_id": n, "host": f"m{n}:27017", "votes": 1, "arbiterOnly": n in arbiters} for n in hosts]
    facts = replace(
        mongodb_facts,
        status={"members": [{"_id": n, "state": states[n]} for n in hosts]},
        config={"members": members},
    )
    assert (mongodb_majority(facts).state, mongodb_failover(facts).state) == (majority, failover)


# What needs attention over weeks


def upkeep_of(database: Database[dict[str, Any]], **facts: Any) -> dict[str, Finding]:
    read = read_mongodb(database, time.time)
    assert read.upkeep is not None
    return judge("mongodb", replace(read, upkeep=replace(read.upkeep, **facts)))


def test_a_backup_that_is_missing_or_old_is_named(database: Database[dict[str, Any]], redis: Redis):
    state, now = StoreNotes(redis, database), datetime.now(UTC)
    state.note_first_start(now, lambda: 0)
    assert upkeep_of(database)["last_backup"].state == "ok"
    later = {"now": now + timedelta(days=8)}
    assert "There is no backup." in upkeep_of(database, **later)["last_backup"].what
    state.note_backup(now)
    assert upkeep_of(database)["last_backup"].what.startswith("The last backup is of")
    old = upkeep_of(database, **later)["last_backup"]
    assert (old.state, old.what) == ("warning", "The last backup is 8 days old.")
    assert "footfall backup" in old.remedy


@pytest.mark.parametrize(
    ("change", "state", "said"),
    [(-1, "warning", "footfall upgrade"), (0, "ok", ""), (1, "problem", "Start the later version.")],
)
def test_data_of_another_format_is_named(database: Database[dict[str, Any]], change: int, state: str, said: str):
    found = upkeep_of(database, state={"format": STORE_FORMAT + change})["data_format"]
    assert (found.state, said in found.remedy) == (state, True)


def test_an_archive_that_is_late_or_cannot_be_written_is_named(
    database: Database[dict[str, Any]], redis: Redis, settings: Settings
):
    notes, now = StoreNotes(redis, database), datetime.now(UTC)
    archiving = replace(settings, archive="/srv/archive")

    def found(given: Settings = archiving) -> tuple[str, str]:
        finding = judge("mongodb", read_mongodb_of(given))["archive"]
        return finding.state, finding.what

    assert found(settings) == ("ok", "ARCHIVE is not set.")
    notes.note_first_start(now, lambda: 0)
    assert found() == ("ok", "Nothing is archived yet.")
    notes.note_archive(now - timedelta(hours=1), "")
    assert found()[1].startswith("The archive is up to date.")
    notes.note_archive(now - timedelta(hours=4), "")
    assert found()[0] == "warning"
    notes.note_archive(now, "")
    notes.note_archive(now, "archive is unavailable: OSError")
    assert found() == ("warning", f"archive is unavailable: OSError. It was up to date at {now:%Y-%m-%d %H:%M} UTC.")


@pytest.mark.parametrize(("days", "state"), [(3, "problem"), (20, "warning"), (400, "ok")])
def test_a_disk_that_will_be_full_soon_is_named(database: Database[dict[str, Any]], days: int, state: str):
    found = upkeep_of(database, free=days * 1_000_000_000, growth=1e9)["disk_space"]
    assert (found.state, f"for {days} days at 1,000.0 MB a day" in found.what) == (state, True)


def test_the_rate_of_the_disk_is_the_ledgers_rate_times_the_size_of_an_event(
    database: Database[dict[str, Any]], redis: Redis, journal: Journal, stores: Stores
):
    now = datetime.now(UTC)
    assert read_upkeep(database, now).growth is None
    ago = [now - timedelta(days=days) for days in (3, 3, 3, 4)]
    events = [load_event({"site_id": "shop", "event_type": "pageview"}, received_at) for received_at in ago]
    journal.append([Line.of(event) for event in events])
    store_waiting(stores, "task")
    Ledger(redis, database).carry(now.date() - timedelta(days=1))
    space = database.command("dbStats")
    found = read_upkeep(database, now)
    assert found.growth == pytest.approx(2 * (space["storageSize"] + space["indexSize"]) / 4, rel=0.5)
    assert 0 < found.free < 2**60


def test_a_site_that_sent_each_day_and_stopped_is_named(database: Database[dict[str, Any]]):
    now = datetime.now(UTC)
    last_seen = {"stopped": 2, "sends": 0, "rarely sends": 2, "gone": 40}
    for site, days in last_seen.items():
        SiteStore(database).put(Site(site))
        step = 3 if site == "rarely sends" else 1
        moments = [now - timedelta(days=days + step * n, minutes=5) for n in range(10)]
        bodies = [{"site_id": site, "event_type": "pageview", "timestamp": m.isoformat()} for m in moments]
        EventStore(database).store([("0-1", load_event(body, now)) for body in bodies], now)
    found = judge("mongodb", read_mongodb(database, time.time))["silent_sites"]
    assert found.state == "warning"
    assert [site for site in last_seen if site in found.what] == ["stopped"]
    SiteStore(database).remove("stopped")
    assert judge("mongodb", read_mongodb(database, time.time))["silent_sites"].state == "ok"
