"""An unreachable store is reported in one sentence, for every command and `make run`.

The sentence says which store, where, why, and what to do.
"""

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from redis import Redis

from config.settings import Settings
from footfall.embedded_servers import Server, pick_port, redis_server
from footfall.store_checks import StoreUnreachable, check_store
from tests.support.running_system import ROOT, frozen, own_environment, pick_ports, running

SECRET = "g3heim"
LIMIT = 30  # seconds: a command that waits longer hangs; on an idle machine it takes 2
COMMANDS = {
    "audit": 2,
    "dead-letters list": 1,
    "dead-letters count": 1,
    "doctor": 1,
    "keys list": 1,
    "keys create ci --scope admin": 1,
    "keys create ci --scope stats:read --site shop": 1,
    "purge --site shop --before 2026-01-01": 2,
    "segments list": 2,
    "segments verify": 2,
    "sites list": 1,
    "sites set shop timezone=UTC": 1,
    "sites show shop": 1,
    "visitors search --site shop --user ann": 2,
}


@contextmanager
def silent() -> Iterator[int]:
    """The port of a listener that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextmanager
def web_server() -> Iterator[int]:
    class Quiet(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@contextmanager
def nothing() -> Iterator[int]:
    yield pick_port(0)


def trouble(store: str, url: str) -> str:
    settings = Settings(**{"redis": {"redis_url": url}, "mongodb": {"mongodb_uri": url}}[store])
    start = time.monotonic()
    with pytest.raises(StoreUnreachable) as caught:
        check_store(settings, store)
    assert time.monotonic() - start < LIMIT
    said = str(caught.value)
    assert SECRET not in said
    assert "Topology" not in said
    return said


@pytest.mark.parametrize(
    ("listener", "reason"),
    [
        (
            nothing,
            "Redis does not answer at 127.0.0.1:{port}: the connection was refused. Start it, or correct REDIS_URL",
        ),
        (silent, "Redis does not answer at 127.0.0.1:{port}: no answer within 0.8 s. Start it, or correct REDIS_URL"),
        (web_server, "The server at 127.0.0.1:{port} is a web server, not Redis. Correct REDIS_URL"),
    ],
)
def test_the_reason_why_redis_cannot_be_reached_is_named(listener: Callable[[], Iterator[int]], reason: str):
    with listener() as port:
        assert reason.format(port=port) in trouble("redis", f"redis://me:{SECRET}@127.0.0.1:{port}/0")


@pytest.mark.parametrize(
    ("listener", "reason"),
    [
        (nothing, "MongoDB does not answer at 127.0.0.1:{port}: the connection was refused. Start it, or correct MO"),
        (silent, "MongoDB does not answer at 127.0.0.1:{port}: no answer in time. Start it, or correct MONGODB_URI"),
        (web_server, "The server at 127.0.0.1:{port} is a web server, not MongoDB. Correct MONGODB_URI"),
    ],
)  # fmt: skip
def test_the_reason_why_mongodb_cannot_be_reached_is_named(listener: Callable[[], Iterator[int]], reason: str):
    with listener() as port:
        assert reason.format(port=port) in trouble("mongodb", f"mongodb://me:{SECRET}@127.0.0.1:{port}/x")


def test_exchanged_addresses_and_refused_logins_are_named(tmp_path: Path, redis_running: Server, mongo_running: Server):
    at_redis, at_mongodb = f"127.0.0.1:{redis_running.port}", f"127.0.0.1:{mongo_running.port}"
    assert f"The server at {at_redis} is Redis, not MongoDB." in trouble("mongodb", f"mongodb://{at_redis}/x")
    assert f"The server at {at_mongodb} is MongoDB, not Redis." in trouble("redis", f"redis://{at_mongodb}/0")
    login = f"me:{SECRET}@"
    refused = " refuses the user or the password: "
    assert f"MongoDB at {at_mongodb}{refused}" in trouble("mongodb", f"mongodb://{login}{at_mongodb}/x")
    assert f"Redis at {at_redis}{refused}" in trouble("redis", f"redis://{login}{at_redis}/0")
    other_set = trouble("mongodb", f"mongodb://{at_mongodb}/x?replicaSet=other")
    assert f"MongoDB at {at_mongodb} is not a member of the replica set other." in other_set
    locked = redis_server(tmp_path, pick_port(0))
    with running(locked), Redis(port=locked.port) as redis:
        redis.config_set("requirepass", SECRET)
        said = trouble("redis", f"redis://127.0.0.1:{locked.port}/0")
        assert f"Redis at 127.0.0.1:{locked.port}{refused}" in said
        assert "The server at 127.0.0.1" in trouble("mongodb", f"mongodb://127.0.0.1:{locked.port}/x"), (
            "a locked Redis is one, too"
        )


def test_a_host_that_does_not_exist_is_named():
    assert "no.such.host.invalid:6379: there is no host of this name" in trouble(
        "redis", "redis://no.such.host.invalid"
    )
    uri = f"mongodb://me:{SECRET}@no.such.host.invalid/x"
    assert "no.such.host.invalid:27017: there is no host of this name" in trouble("mongodb", uri)


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    start = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=own_environment() | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert time.monotonic() - start < LIMIT
    assert "Traceback" not in ran.stdout + ran.stderr
    assert "Topology" not in ran.stdout + ran.stderr
    assert SECRET not in ran.stdout + ran.stderr
    return ran


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_says_in_one_sentence_which_store_does_not_answer(line: str, tmp_path: Path):
    redis, mongodb = pick_ports(2)
    ran = run(
        "footfall",
        *line.split(),
        REDIS_URL=f"redis://me:{SECRET}@127.0.0.1:{redis}/0",
        MONGODB_URI=f"mongodb://me:{SECRET}@127.0.0.1:{mongodb}/x",
        DATA_DIR=str(tmp_path),
    )
    assert ran.returncode == COMMANDS[line]
    if line == "doctor":
        assert f"problem   redis                   Redis does not answer at 127.0.0.1:{redis}: " in ran.stdout
        assert f"problem   mongodb                 MongoDB does not answer at 127.0.0.1:{mongodb}: " in ran.stdout
        return
    sentence = (
        rf"footfall: (Redis|MongoDB) does not answer at 127\.0\.0\.1:({redis}|{mongodb}): the connection was refused\. "
    )
    (said,) = ran.stderr.splitlines()
    assert re.match(sentence, said), said
    assert ran.stdout == ""


def test_help_works_without_stores():
    away = {"REDIS_URL": "redis://127.0.0.1:1/0", "MONGODB_URI": "mongodb://127.0.0.1:1"}
    ran = run("footfall", "keys", "create", "--help", **away)
    assert (ran.returncode, "--scope" in ran.stdout) == (0, True)


@pytest.mark.parametrize("away", ["redis", "mongodb"])
def test_make_run_does_not_start_without_the_stores_that_are_set(
    away: str, tmp_path: Path, redis_running: Server, mongo_running: Server
):
    names = ["INGESTION_PORT", "REPORTING_PORT", "WORKER_METRICS_PORT", "FLOWER_PORT"]
    ports = {name: str(port) for name, port in zip(names, pick_ports(4), strict=True)}
    urls = {"REDIS_URL": redis_running.url, "MONGODB_URI": mongo_running.url}
    port = pick_port(0)
    urls |= {
        "redis": {"REDIS_URL": f"redis://me:{SECRET}@127.0.0.1:{port}/0"},
        "mongodb": {"MONGODB_URI": f"mongodb://me:{SECRET}@127.0.0.1:{port}/x"},
    }[away]
    ran = run("footfall.supervisor", DATA_DIR=str(tmp_path), **ports, **urls)
    name = {"redis": "Redis", "mongodb": "MongoDB"}[away]
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"footfall: {name} does not answer at 127.0.0.1:{port}: the connection was refused. ")
    assert ran.stderr.count("\n") == 1


def test_a_frozen_redis_is_named_within_seconds(tmp_path: Path, mongo_running: Server):
    server = redis_server(tmp_path, pick_port(0))
    with running(server) as process, frozen([psutil.Process(process.pid)]):
        ran = run("footfall", "dead-letters", "list", REDIS_URL=server.url, MONGODB_URI=mongo_running.url)
        assert ran.returncode in (0, 1)
        ran = run("footfall", "audit", REDIS_URL=server.url, MONGODB_URI=mongo_running.url)
    assert ran.returncode == 2
    assert f"footfall: Redis does not answer at 127.0.0.1:{server.port}: no answer within 0.8 s. " in ran.stderr
