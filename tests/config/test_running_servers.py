"""The command line finds the servers of a `make run` in the same folder, also on other ports than configured."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from config.running_servers import NAME, RunningServer, find_servers, published
from config.settings import load_settings
from tests.support.running_system import BIN, System, make_project, own_environment, wait_for

SERVERS = [
    RunningServer("redis", 6379, "redis://127.0.0.1:41001/0"),
    RunningServer("mongodb", 27017, "mongodb://127.0.0.1:41002/footfall?replicaSet=footfall"),
]
URLS = [server.url for server in SERVERS]
SETTINGS = ("DATA_DIR", "REDIS_URL", "REDIS_HOST", "REDIS_SENTINELS", "MONGODB_URI", "REDIS_PORT", "MONGODB_PORT")


def test_servers_are_found_while_they_are_published(tmp_path: Path):
    assert find_servers(tmp_path) == {}
    with published(tmp_path, SERVERS):
        assert find_servers(tmp_path) == {server.name: server for server in SERVERS}
        assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    assert find_servers(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_and_a_file_that_no_process_holds_are_ignored(tmp_path: Path):
    with published(tmp_path, SERVERS):
        left = (tmp_path / NAME).read_text()
        (tmp_path / "other").mkdir()
        for text in ("", "{", "{}", "[1]", "[{}]", '[{"name": "redis"}]', "[" * 20_000):
            (tmp_path / NAME).write_text(text)  # the file that is locked
            assert find_servers(tmp_path) == {}
    (tmp_path / NAME).write_text(left)  # as after kill -9
    assert json.loads(left)
    assert find_servers(tmp_path) == {}


@pytest.mark.parametrize(
    ("given", "redis", "mongodb"),
    [
        ({}, *URLS),
        ({"REDIS_URL": "redis://a:1/0"}, "redis://a:1/0", URLS[1]),
        ({"REDIS_HOST": "a"}, "redis://a:6379/0", URLS[1]),
        ({"REDIS_PORT": "1"}, "redis://127.0.0.1:1/0", URLS[1]),
        ({"REDIS_PORT": "6379", "MONGODB_PORT": "27017"}, *URLS),
        ({"MONGODB_URI": "mongodb://a/b"}, URLS[0], "mongodb://a/b"),
        ({"MONGODB_PORT": "1"}, URLS[0], "mongodb://127.0.0.1:1/footfall?replicaSet=footfall"),
    ],
)
def test_explicit_settings_override_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], redis: str, mongodb: str
):
    for name, value in (dict.fromkeys(SETTINGS, "") | {"DATA_DIR": str(tmp_path)} | given).items():
        monkeypatch.setenv(name, value)
    with published(tmp_path, SERVERS):
        settings = load_settings()
    assert (settings.redis_url, settings.mongodb_uri) == (redis, mongodb)


def test_without_make_run_the_ports_in_the_settings_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    given = {"REDIS_PORT": "1", "MONGODB_PORT": "2", "DATA_DIR": str(tmp_path)}
    for name, value in (dict.fromkeys(SETTINGS, "") | given).items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.redis_url == "redis://127.0.0.1:1/0"
    assert settings.mongodb_uri == "mongodb://127.0.0.1:2/footfall?replicaSet=footfall"


def test_the_command_line_beside_make_run_finds_its_servers_on_other_ports(tmp_path: Path):
    system = System(tmp_path)
    ports = {name: system.ports[name] for name in ("REDIS_PORT", "MONGODB_PORT")}
    env_file = "".join(f"{name}={port}\n" for name, port in ports.items()) + f"DATA_DIR={tmp_path / 'var'}\n"
    system.project = make_project(tmp_path / "project", env_file)
    outside = {name: value for name, value in own_environment().items() if name not in SETTINGS}
    outside["PATH"] = f"{BIN}:{os.environ['PATH']}"

    def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=system.project,
            env=outside | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    footfall = (sys.executable, "-m", "footfall")
    try:
        with ExitStack() as taken:
            for port in ports.values():
                taken.enter_context(socket.create_server(("127.0.0.1", port)))
            system.start()
            for name, port in ports.items():
                assert f"port {port} is in use; {name.removesuffix('_PORT').lower()} uses port " in system.output()
            assert run(*footfall, "sites", "set", "shop", "timezone=Europe/Berlin").returncode == 0
            shown = run(*footfall, "sites", "show", "shop")
            assert "Europe/Berlin" in shown.stdout
            balance = run(*footfall, "audit")
            assert balance.returncode == 0, balance.stderr
            assert "pong" in run("celery", "-A", "tasks", "inspect", "ping").stdout
            other = run(*footfall, "sites", "list", MONGODB_PORT="1")
            assert (other.returncode, "127.0.0.1:1" in other.stderr) == (1, True)
            family = system.process.children(recursive=True)
            system.process.kill()
            psutil.wait_procs(family, timeout=30)
        wait_for(lambda: not any(process.is_running() for process in family), "the end of all processes")
        away = run(*footfall, "sites", "list")
        assert away.returncode == 1
        assert away.stderr.startswith(f"footfall: MongoDB does not answer at 127.0.0.1:{ports['MONGODB_PORT']}: ")
    finally:
        system.kill()
