"""The whole system as `make run` starts it, on its own ports and in its own folder."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from pymongo import MongoClient
from pymongo.database import Database
from redis import Redis

from config.clients import make_redis
from config.settings import Settings
from footfall.embedded_servers import Server, pick_port
from footfall.supervised_process import end_with_parent
from tests.support.operator_environment import operator_environment

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]
UP = "Footfall is up."


def wait_for(condition: Callable[[], Any], what: str, limit: float = 30) -> Any:
    """The first true value of `condition`. Fails after `limit` seconds with a message that names `what`.

    Between two looks, it sleeps three times as long as a look takes, so that looking keeps no core busy.
    """
    end = time.monotonic() + limit
    while True:
        began = time.monotonic()
        if value := condition():
            return value
        now = time.monotonic()
        if now > end:
            raise AssertionError(f"{what}: not within {limit} s")
        time.sleep(min(max(0.02, 3 * (now - began)), 0.2))


@contextmanager
def frozen(processes: Iterable[psutil.Process]) -> Iterator[None]:
    """Freezes processes for the block: they exist and do not answer. A process that is just ending may end.

    A signal takes time to reach each running thread.
    """
    found = list(processes)
    try:
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        wait_for(lambda: all(map(_stands_still, found)), "processes that stand still")
        yield
    finally:
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def _stands_still(process: psutil.Process) -> bool:
    for file in Path(f"/proc/{process.pid}/task").glob("*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if file.read_text().rpartition(")")[2].split()[0] not in "TZ":
                return False
    return True


# Of the environment of the tests. Each started process creates its own folder of metrics, and without compiled modules,
# it would compile 400 of them: 0.5 s of CPU in each of ten processes of a system.
_NOT_PASSED_ON = ("PROMETHEUS_MULTIPROC_DIR", "PYTHONDONTWRITEBYTECODE")


def own_environment() -> dict[str, str]:
    """The environment of a process that a test starts."""
    given = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
    return given | operator_environment()


@dataclass(frozen=True)
class Place:
    """Where processes run: the address that they listen on, and the words that their commands begin with."""

    address: str = "127.0.0.1"
    words: tuple[str, ...] = ()


def make_project(folder: Path, env_file: str | bytes, source: Path = ROOT) -> Path:
    """A folder like a clone of this project, or of another one at `source`, with its own `.env`."""
    folder.mkdir(exist_ok=True)
    for name in ("Procfile", "analytics", "config", "footfall", "ingest_app", "report_app", "tasks", "web"):
        (folder / name).symlink_to(source / name)
    (folder / ".env").write_bytes(env_file if isinstance(env_file, bytes) else env_file.encode())
    return folder


def pick_ports(count: int) -> list[int]:
    """`count` different free ports."""
    found: set[int] = set()
    while len(found) < count:
        found.add(pick_port(0))
    return list(found)


@contextmanager
def running(server: Server) -> Iterator[subprocess.Popen[bytes]]:
    """Runs an embedded server. It is ready at the start of the block, and killed at the end, or with this process."""
    command = [*end_with_parent(signal.SIGKILL), *server.command]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        server.wait_until_ready()
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


@contextmanager
def running_alone(line: str, log: Path, *, words: tuple[str, ...] = (), **environment: str) -> Iterator[psutil.Popen]:
    """Runs a line of the Procfile without a supervisor, so that nothing is restarted. It is killed at the end.

    `words`: what its command begins with.
    """
    environment = own_environment() | {"LOG_FORMAT": "json", "PATH": f"{BIN}:{os.environ['PATH']}"} | environment
    with log.open("ab") as output:
        process = psutil.Popen(
            [*end_with_parent(signal.SIGKILL), *words, *shlex.split(line)],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its group outlives it if it left a child behind
        process.wait()


class System:
    """`make run` in a folder. `settings`: environment names to set in addition to ports and folder.

    `project`: the current folder, if it is not this project's (see make_project). `place`: where it runs.
    """

    def __init__(self, folder: Path, *, project: Path | None = None, place: Place = Place(), **settings: str) -> None:
        self.folder = folder
        self.project = project or ROOT
        self._words = place.words
        self.log = folder / "run.log"
        names = ["INGESTION_PORT", "REPORTING_PORT", "WORKER_METRICS_PORT", "FLOWER_PORT", "REDIS_PORT", "MONGODB_PORT"]
        self.ports = dict(zip(names, pick_ports(len(names)), strict=True))
        self.environment = {name: str(port) for name, port in self.ports.items()}
        # Empty, not missing, so that a developer's .env has no effect.
        self.environment |= {"DATA_DIR": str(folder / "var"), "MONGODB_URI": "", "REDIS_URL": "", "REDIS_HOST": ""}
        self.environment |= {"REDIS_SENTINELS": "", "JOURNAL_URLS": ""}
        self.environment |= {"LOG_FORMAT": "json", "TMPDIR": str(folder), "BIND_HOST": place.address} | settings
        self.ingest = f"http://{place.address}:{self.ports['INGESTION_PORT']}"
        self.report = f"http://{place.address}:{self.ports['REPORTING_PORT']}"
        self.flower = f"http://{place.address}:{self.ports['FLOWER_PORT']}"
        own = f"mongodb://127.0.0.1:{self.ports['MONGODB_PORT']}/footfall?replicaSet=footfall"
        self.redis_url = settings.get("REDIS_URL", f"redis://127.0.0.1:{self.ports['REDIS_PORT']}/0")
        self.mongodb_uri = self.environment["MONGODB_URI"] or own
        self._process: psutil.Popen | None = None
        self._family: list[psutil.Process] = []

    def start(self) -> "System":
        self.launch()
        self.wait_until_up()
        return self

    def launch(self) -> None:
        """Starts the system without waiting."""
        with self.log.open("wb") as log:
            self._process = psutil.Popen(
                [*end_with_parent(signal.SIGTERM), *self._words, sys.executable, "-m", "footfall.supervisor"],
                cwd=self.project,
                env=own_environment() | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until_up(self) -> None:
        """Returns when a launched system is up. Fails with its output if it is not."""
        wait_for(lambda: UP in self.output() or not self.process.is_running(), "the system's start", 90)
        assert UP in self.output(), self.output()
        self._family = self.process.children(recursive=True)

    def stop(self, how: signal.Signals = signal.SIGINT) -> list[psutil.Process]:
        """Stops the system as Ctrl-C does. Returns the processes that it left behind, which should be none.

        A process that has ended does not count, also if its parent has not waited for it yet.
        """
        family = self.process.children(recursive=True)
        self.process.send_signal(how)
        self.process.wait(timeout=90)
        _, left = psutil.wait_procs(family, timeout=0.5)
        return [process for process in left if not has_ended(process)]

    def kill(self) -> None:
        """Kills all processes of the system that still run."""
        if self._process is None:
            return
        running = self._process.is_running()
        family = [self._process, *self._process.children(recursive=True)] if running else self._family
        for process in family:
            kill_if_there(process)
        psutil.wait_procs(family, timeout=10)

    @property
    def process(self) -> psutil.Popen:
        assert self._process is not None, "not started"
        return self._process

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def part(self, *words: str) -> list[psutil.Process]:
        """The system's processes whose command line holds all the words, parents before children."""
        return [p for p in self.process.children(recursive=True) if all(w in command_of(p) for w in words)]

    def redis(self) -> Redis:
        if sentinels := self.environment["REDIS_SENTINELS"]:
            return make_redis(Settings(redis_url=self.redis_url, redis_sentinels=sentinels))
        return Redis.from_url(self.redis_url, protocol=2)

    @contextmanager
    def database(self) -> Iterator[Database[dict[str, Any]]]:
        with MongoClient[dict[str, Any]](self.mongodb_uri, tz_aware=True, uuidRepresentation="standard") as client:
            yield client.get_default_database()

    def run_celery(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs the celery CLI as an operator does."""
        return self._run(str(BIN / "celery"), "-A", "tasks", *arguments)

    def run_footfall(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Runs Footfall's CLI as an operator does. `settings`: environment names that differ from the system's."""
        return self._run(sys.executable, "-m", "footfall", *arguments, **settings)

    def _run(self, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = self.environment | {"REDIS_URL": self.redis_url, "MONGODB_URI": self.mongodb_uri} | settings
        return subprocess.run(
            command,
            cwd=self.project,
            env=own_environment() | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@contextmanager
def system_running(folder: Path, **settings: str) -> Iterator[System]:
    """A system that runs during the block. It must leave no process behind."""
    system = System(folder, **settings)
    try:
        yield system.start()
        assert system.stop() == [], "the system left processes behind"
    finally:
        system.kill()


def has_ended(process: psutil.Process) -> bool:
    """Also if it is a zombie: init reaps it late on a busy machine."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill_if_there(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
