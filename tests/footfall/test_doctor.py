"""`python -m footfall doctor` on real servers: a good deployment passes, and each fault is named with its remedy."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import rmtree
from typing import Any

import httpx
import psutil
import pytest
from celery import Celery
from click.testing import CliRunner
from pymongo.database import Database
from redis import Redis
from redis.exceptions import RedisError

from analytics.diagnostics.finding import ClockReading, Finding, Unanswered, without_password
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
from analytics.store_notes import StoreNotes
from config.celery import celery_settings
from config.clients import make_database, make_redis
from config.settings import Settings
from footfall.__main__ import footfall
from footfall.doctor import CHECKS, DOCTOR_LIMIT
from footfall.embedded_servers import Server, mongo_server, pick_port, redis_server
from footfall.process_checks import (
    flower_open_pages,
    flower_password,
    read_flower,
    read_workers,
    settings_bind_host,
    settings_claim_idle,
    settings_encryption,
    settings_redis_timeout,
)
from tests.support.running_system import System, frozen, pick_ports, running, wait_for

SECRET = "g3heim"


def judge(part: str, facts: Any) -> dict[str, Finding]:
    return {check.__name__: check(facts) for check in CHECKS[part]}


# The command, on a whole system


def test_a_correct_deployment_has_no_problem(system: System):
    ran = system.run_footfall("doctor", "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    found = json.loads(ran.stdout)
    assert {"problems": 0, "warnings": 2, "unchecked": 0}.items() <= found.items()
    assert all(set(check) == {"check", "state", "what", "remedy"} for check in found["checks"])
    warned = {check["check"] for check in found["checks"] if check["state"] != "ok"}
    assert warned == {"mongodb failover", "settings claim idle"}  # one member; and tests claim events after 5 s
    assert {check["check"] for check in found["checks"]} == {"redis", "mongodb"} | {
        check.__name__.replace("_", " ") for checks in CHECKS.values() for check in checks
    }


def test_strict_fails_for_a_warning_and_a_pipe_gets_one_plain_line_for_each_check(system: System):
    ran = system.run_footfall("doctor", "--strict")
    assert ran.returncode == 1
    assert "\x1b" not in ran.stdout
    *lines, summary = ran.stdout.splitlines()
    assert len(lines) == 2 + sum(len(checks) for checks in CHECKS.values())
    assert summary == f"{len(lines)} checks. Problems: 0, warnings: 2, not checked: 0."


def test_a_frozen_system_is_reported_within_ten_seconds_and_then_the_silence_of_beat(system: System):
    def beat_is() -> str:
        with make_redis(Settings(redis_url=system.redis_url)) as redis:
            return judge("redis", read_redis(redis, time.time))["beat"].state

    wait_for(lambda: beat_is() == "ok", "beat")
    beats = system.part("tasks beat")
    others = [p for words in ("redis-server", "mongod", "flower", "worker") for p in system.part(words)]
    with frozen(beats):
        with frozen(others):
            start = time.monotonic()
            ran = system.run_footfall("doctor")
            assert time.monotonic() - start < DOCTOR_LIMIT + 2
        wait_for(lambda: beat_is() == "problem", "beat's silence to be noticed", 15)
    assert ran.returncode == 1
    assert "problem   redis                   Redis does not answer" in ran.stdout
    assert "problem   mongodb                 MongoDB does not answer" in ran.stdout
    assert "unchecked worker queues           Needs Redis." in ran.stdout
    assert "warning   flower                  Flower does not answer" in ran.stdout
    assert "Traceback" not in ran.stdout + ran.stderr


def test_a_queue_without_a_worker_is_named(system: System):
    with Celery("test", set_as_current=False) as app:
        app.conf.update(celery_settings(Settings(redis_url=system.redis_url)))
        app.control.cancel_consumer("events", reply=True, limit=1, timeout=10)
        found = judge("celery", read_workers(app))
        app.control.add_consumer("events", reply=True, limit=1, timeout=10)
        assert found["workers"].state == found["worker_limits"].state == "ok"
        assert found["worker_queues"].state == "problem"
        assert "--queues events" in found["worker_queues"].remedy


def test_no_password_is_ever_printed(system: System, own_redis: Redis):
    port = own_redis.connection_pool.connection_kwargs["port"]
    own_redis.config_set("requirepass", SECRET)
    urls = [
        (f"redis://:{SECRET}@127.0.0.1:{port}/0", f"mongodb://me:{SECRET}@127.0.0.1:{system.ports['MONGODB_PORT']}/x"),
        (f"redis://:a/{SECRET}@127.0.0.1/0", f"mongodb://me:a:{SECRET}@127.0.0.1/x"),
    ]
    for redis_url, mongodb_uri in urls:
        ran = system.run_footfall("doctor", "--json", REDIS_URL=redis_url, MONGODB_URI=mongodb_uri)
        assert ran.returncode == 1
        assert SECRET not in ran.stdout + ran.stderr
        assert "Set MONGODB_URI=" in ran.stdout or "REDIS_URL must be" in ran.stderr
    assert without_password(f"redis://:{SECRET}@a:1/0?password={SECRET}@x") == "redis://a:1/0"


def test_an_invalid_setting_is_named_and_help_lists_every_command(system: System):
    ran = system.run_footfall("doctor", LOG_LEVEL="LOUD")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "footfall: " in ran.stderr
    assert "LOG_LEVEL" in ran.stderr
    assert "Check this deployment, and say what to change." in CliRunner().invoke(footfall, ["--help"]).stdout


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


# Flower and the settings


@contextmanager
def flower(settings: Settings, **environment: str) -> Iterator[None]:
    command = [str(Path(sys.executable).parent / "celery"), "-A", "tasks", "flower", "--conf=config/flower.py"]
    process = psutil.Popen(
        command,
        env=os.environ | settings.as_environment() | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_a_flower_without_a_password_is_named(settings: Settings):
    bare, guarded = (replace(settings, bind_host="0.0.0.0", flower_port=port) for port in pick_ports(2))
    with flower(bare), flower(guarded, FLOWER_BASIC_AUTH=f"me:{SECRET}"):
        for one in (bare, guarded):
            wait_for(lambda port=one.flower_port: answers(f"http://127.0.0.1:{port}/healthcheck"), "Flower")
        open_to_all = replace(read_flower(bare), in_container=False)
        protected = read_flower(guarded)
    assert flower_password(open_to_all).state == "problem"
    assert "FLOWER_BASIC_AUTH" in flower_password(open_to_all).remedy
    assert flower_password(replace(open_to_all, in_container=True)).state == "warning"
    assert flower_password(replace(open_to_all, host="127.0.0.1")).state == "ok"
    assert flower_password(protected).state == "ok"
    assert flower_open_pages(protected).state == "warning"
    assert "/metrics" in flower_open_pages(protected).what


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize(
    ("check", "setting", "right", "wrong"),
    [
        (settings_bind_host, "bind_host", "127.0.0.1", "0.0.0.0"),
        (settings_claim_idle, "claim_idle", 35, 30),
        (settings_redis_timeout, "redis_timeout", 0.8, 1),
    ],
)
def test_a_dangerous_setting_is_named(check: Any, setting: str, right: Any, wrong: Any):
    assert check(Settings(**{setting: right})).state == "ok"
    finding = check(Settings(**{setting: wrong}))
    assert (finding.state, setting.upper() in finding.remedy) == ("warning", True)


@pytest.mark.parametrize(
    ("redis_url", "mongodb_uri", "named"),
    [
        ("redis://localhost/0", "mongodb://127.0.0.1,[::1]:27018/x", ""),
        ("unix:///run/redis.sock", "mongodb://%2Frun%2Fmongodb-27017.sock/x", ""),
        ("rediss://me:a@redis.internal/0", "mongodb://me:a@db.internal/x?TLS=true", ""),
        ("rediss://redis.internal/0", "mongodb+srv://db.internal/x", ""),
        ("redis://me:a%40b@10.0.0.7:6380/0", "mongodb://me:a@db-a,db-b:27018/x?replicaSet=y",
         "Redis at 10.0.0.7, MongoDB at db-a, MongoDB at db-b are not encrypted"),
        ("rediss://redis.internal/0", "mongodb+srv://db.internal/x?tls=false", "MongoDB at db.internal are not encr"),
        ("rediss://redis.internal/0?ssl_cert_reqs=none", "mongodb://127.0.0.1/x", "certificate of Redis is not che"),
        ("rediss://redis.internal/0?ssl_check_hostname=False", "mongodb://db/x?tls=true&tlsInsecure=true",
         "certificate of Redis and MongoDB is not checked"),
    ],
)  # fmt: skip
def test_a_connection_that_others_can_read_is_named(redis_url: str, mongodb_uri: str, named: str):
    finding = settings_encryption(Settings(redis_url=redis_url, mongodb_uri=mongodb_uri))
    assert (finding.state, named in finding.what) == ("warning" if named else "ok", True)
    assert "a%40b" not in finding.what


def test_sentinels_are_reached_without_tls():
    settings = Settings(redis_url="redis://127.0.0.1/0", redis_sentinels="10.0.0.8:26379,127.0.0.1:26379")
    assert "Redis at 10.0.0.8 are not encrypted" in settings_encryption(settings).what


def test_in_production_the_apps_may_listen_anywhere():
    assert settings_bind_host(Settings(app_env="production", bind_host="0.0.0.0")).state == "ok"


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
