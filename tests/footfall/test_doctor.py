"""`python -m footfall doctor` on real servers: a good deployment passes, and each fault is named with its remedy."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from celery import Celery
from click.testing import CliRunner
from redis import Redis

from analytics.diagnostics.finding import Finding, without_password
from analytics.diagnostics.redis import read_redis
from config.celery import celery_settings
from config.clients import make_redis
from config.running_servers import RunningServer, published
from config.settings import Settings
from footfall.__main__ import footfall
from footfall.doctor import CHECKS, DOCTOR_LIMIT
from footfall.process_checks import (
    flower_open_pages,
    flower_password,
    read_flower,
    read_workers,
    settings_bind_host,
    settings_claim_idle,
    settings_data_dir,
    settings_encryption,
    settings_redis_timeout,
)
from tests.support.running_system import System, frozen, own_environment, pick_ports, wait_for

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


def test_a_start_waits_until_a_worker_answers(system: System):
    def ping() -> int:
        command = [sys.executable, "-m", "footfall.worker_ping"]
        environment = own_environment() | system.environment | {"REDIS_URL": system.redis_url}
        return subprocess.run(command, env=environment, check=False, timeout=30).returncode

    assert ping() == 0
    with frozen(system.part("tasks worker")):
        assert ping() == 1


def test_a_queue_without_a_worker_is_named(system: System):
    with Celery("test", set_as_current=False) as app:
        app.conf.update(celery_settings(Settings(redis_url=system.redis_url)))
        app.control.cancel_consumer("events", reply=True, limit=1, timeout=10)
        found = judge("celery", read_workers(app))
        app.control.add_consumer("events", reply=True, limit=1, timeout=10)
        assert found["workers"].state == found["worker_limits"].state == "ok"
        assert found["worker_queues"].state == "problem"
        assert "--queues events" in found["worker_queues"].remedy


@pytest.fixture
def guarded(redis: Redis) -> Iterator[int]:
    """The port of a Redis that needs the password SECRET."""
    redis.config_set("requirepass", SECRET)
    yield redis.connection_pool.connection_kwargs["port"]
    redis.config_set("requirepass", "")


def test_no_password_is_ever_printed(system: System, guarded: int):
    urls = [
        (
            f"redis://:{SECRET}@127.0.0.1:{guarded}/0",
            f"mongodb://me:{SECRET}@127.0.0.1:{system.ports['MONGODB_PORT']}/x",
        ),
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


def test_another_system_in_the_data_folder_is_named(tmp_path: Path):
    urls = {"redis": "redis://127.0.0.1:6379/0", "mongodb": "mongodb://127.0.0.1:27018/footfall?replicaSet=footfall"}
    settings = Settings(
        data_dir=str(tmp_path), redis_url="redis://localhost:6379/0", mongodb_uri="mongodb://db:27018/x"
    )
    same = replace(settings, mongodb_uri=urls["mongodb"])
    with published(tmp_path, [RunningServer(name, 1, url) for name, url in urls.items()]):
        found = settings_data_dir(settings)
        assert (found.state, "It has its stores at 127.0.0.1:27018." in found.what) == ("warning", True)
        assert settings_data_dir(same).state == "ok"
    assert settings_data_dir(settings).state == "ok"


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


def test_the_connection_to_a_further_journal_is_checked_too():
    settings = Settings(redis_url="redis://127.0.0.1/0", journal_urls="b=redis://:secret@10.0.0.8/0")
    assert "the journal b at 10.0.0.8 are not encrypted" in settings_encryption(settings).what
    settings = replace(settings, journal_urls="b=rediss://:secret@10.0.0.8/0?ssl_cert_reqs=none")
    assert "certificate of the journal b is not checked" in settings_encryption(settings).what
    settings = replace(settings, journal_urls="b=rediss://:secret@10.0.0.8/0")
    assert settings_encryption(settings).state == "ok"


def test_sentinels_are_reached_without_tls():
    settings = Settings(redis_url="redis://127.0.0.1/0", redis_sentinels="10.0.0.8:26379,127.0.0.1:26379")
    assert "Redis at 10.0.0.8 are not encrypted" in settings_encryption(settings).what


def test_in_production_the_apps_may_listen_anywhere():
    assert settings_bind_host(Settings(app_env="production", bind_host="0.0.0.0")).state == "ok"
