"""`make run`: the whole system in the foreground, from the Procfile, with embedded servers if none are set.

Prints the output of each process with its name. When everything answers, it prints the URLs and the first commands. A
process that dies is restarted. Ctrl-C, SIGTERM and a closed terminal stop the apps first, so that the worker finishes
its tasks, and then the servers. A second Ctrl-C kills what has not stopped yet. A start that fails stops what was
started, says why on stderr, and exits with 1.
"""

import asyncio
import os
import shlex
import shutil
import signal
import sys
import time
import traceback
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from analytics.suggestion import closest
from config.running_servers import RunningServer, published
from config.settings import Settings, SettingsError, load_settings, name_warnings
from footfall.embedded_servers import Server, mongo_server, pick_port, redis_server
from footfall.folder_lock import FolderLock
from footfall.start_error import StartError
from footfall.supervised_process import (
    SupervisedProcess,
    can_end_with_parent,
    module_succeeds,
    run_module,
    write,
    write_line,
)

STORE_STEPS = "footfall.store_steps"
_START_LIMIT = 60  # seconds until everything answers
_STOPS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
PREDECESSOR_LIMIT = 10.0  # seconds that servers of a killed supervisor may still need to stop
_OURS = ("redis", "mongodb", "segments")  # folders in DATA_DIR
LEAST_FREE = 100_000_000  # bytes; MongoDB's journal alone takes that much
AGAIN = 1.0  # seconds after which a second Ctrl-C counts: some wrappers send two at once

BANNER = """
Footfall is up.  ingest {ingest}  report {report}  Flower {flower}

{owner}{first_steps}
The celery CLI, in another terminal in this folder:  .venv/bin/celery -A tasks inspect active
Ctrl-C stops everything; the data stays in {data}.
"""
IN_DEVELOPMENT = """\
  curl -X POST {ingest}/event -H 'Content-Type: application/json' \\
    -d '{{"site_id": "site-abc-123", "event_type": "page_view", "path": "/pricing", "user_id": "user-xyz-789"}}'
  curl '{report}/stats?site_id=site-abc-123'
"""
# In production, sites must be set up and reports need a key. `keys create` writes only the key to stdout.
IN_PRODUCTION = """\
In another terminal, in this folder: set up a site, make an API key for its reports, send an event, and query a report.

  .venv/bin/python -m footfall sites set site-abc-123 domains=shop.example timezone=UTC
  FOOTFALL_KEY=$(.venv/bin/python -m footfall keys create mine --scope stats:read --site site-abc-123)
  curl -X POST {ingest}/event -H 'Content-Type: application/json' \\
    -d '{{"site_id": "site-abc-123", "event_type": "page_view", "url": "https://shop.example/", "user_id": "ann"}}'
  curl -H "Authorization: Bearer $FOOTFALL_KEY" '{report}/stats?site_id=site-abc-123'
"""


class Supervisor:
    """Keeps the servers and the apps running. The apps stop before the servers that they write to."""

    def __init__(self, servers: Iterable[SupervisedProcess], apps: Iterable[SupervisedProcess]) -> None:
        self.servers = list(servers)
        self.apps = list(apps)
        self._tasks: dict[SupervisedProcess, asyncio.Task[None]] = {}
        self._over: asyncio.Future[None]  # done when everything must stop; an exception is the reason
        self._told_at = 0.0
        self._stopping: list[SupervisedProcess] = []

    async def run(self, bring_up: Callable[[], Awaitable[None]]) -> None:
        """Calls `bring_up`, which starts the processes, and waits for a stop signal.

        Returns when all processes have ended.

        Raises what `bring_up` raised, after all processes have ended.
        """
        loop = asyncio.get_running_loop()
        self._over = loop.create_future()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        for number in _STOPS:
            if signal.getsignal(number) != signal.SIG_IGN or number == signal.SIGINT:  # nohup ignores SIGHUP
                loop.add_signal_handler(number, self._stop_on, number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        bringing_up = self._watch(bring_up())
        try:
            await self._over
        finally:
            write_line("run", "stopping")
            bringing_up.cancel()
            for stage in (self.apps, self.servers):
                self._stopping = [process for process in stage if process in self._tasks]
                await asyncio.gather(*(process.stop() for process in self._stopping))
                await asyncio.gather(*(self._tasks[process] for process in self._stopping), return_exceptions=True)
            write_line("run", "everything has stopped")

    def start(self, processes: Iterable[SupervisedProcess]) -> None:
        for process in processes:
            self._tasks[process] = self._watch(process.run())

    def has_died(self) -> SupervisedProcess | None:
        """A process that died at least once. None if there is none."""
        return next((process for process in self._tasks if process.deaths), None)

    def _watch(self, work: Awaitable[None]) -> asyncio.Task[None]:
        """Runs `work`. If it fails, everything stops."""
        task = asyncio.ensure_future(work)
        task.add_done_callback(self._stop_if_failed)
        return task

    def _stop_if_failed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) and not self._over.done():
            self._over.set_exception(error)

    def _stop_on(self, number: signal.Signals) -> None:
        if not self._over.done():
            self._told_at = time.monotonic()
            self._over.set_result(None)
        elif number == signal.SIGINT and time.monotonic() - self._told_at > AGAIN:
            for process in self._stopping:
                process.kill()

    def _reap(self) -> None:
        for process in self._tasks:
            process.reap()


def main() -> None:
    os.umask(0o077)  # for child processes too: only the operator may read data, logs and copies
    # A stop signal waits until Supervisor.run handles it: Python drops an exception that it raises within a finalizer.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        settings = load_settings(with_flower=True)
        for sentence in name_warnings(closest):
            write_line("run", f"warning: {sentence}")
        data = Path(settings.data_dir).resolve()
        lock = FolderLock(data, "another `make run`")  # held until this process ends
        for name in _OURS:
            _make_private(data / name)
        _check_disk(data)
        _check_ports(settings)
        _check_stores(settings)
        run(settings, data)
        del lock
    except (SettingsError, StartError) as error:
        sys.exit(f"footfall: {error}")
    except OSError as error:
        sys.exit(f"footfall: {error.strerror or error}: {error.filename}" if error.filename else f"footfall: {error}")
    except Exception as error:  # a bug; everything that was started has stopped
        *_, place = traceback.extract_tb(error.__traceback__)
        sys.exit(f"footfall: unexpected {type(error).__name__}: {error} ({place.filename}:{place.lineno})")


def run(settings: Settings, data: Path) -> None:
    programs = _read_procfile(Path("Procfile"))
    servers = embedded_servers(settings, data)
    os.environ |= settings.as_environment() | {server.setting: server.url for server, _ in servers}
    if settings.log_format == "auto" and sys.stdout.isatty():
        os.environ["LOG_FORMAT"] = "console"  # the processes write to this process, not to a terminal
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    os.environ["PYTHONUNBUFFERED"] = "1"
    if not can_end_with_parent():
        write_line(
            "run", "setpriv (util-linux) is not installed: kill -9 of this process would leave the others running"
        )
    # SIGTERM for servers, so that they close their files. SIGKILL for apps: a Celery worker that cannot write its last
    # line to the broken pipe assumes a lost broker, and runs for ever.
    supervisor = Supervisor(
        (
            SupervisedProcess(s.name, s.command, parent_death_signal=signal.SIGTERM, lock=lock, explain=s.last_error)
            for s, lock in servers
        ),
        (SupervisedProcess(name, command) for name, command in programs.items()),
    )
    with ExitStack() as until_stopped:
        bring_up = partial(_bring_up, supervisor, [server for server, _ in servers], settings, data, until_stopped)
        asyncio.run(supervisor.run(bring_up))


async def _bring_up(
    supervisor: Supervisor, servers: list[Server], settings: Settings, data: Path, until_stopped: ExitStack
) -> None:
    """Starts everything in order. Raises StartError if a process dies meanwhile or is not ready in time."""
    supervisor.start(supervisor.servers)
    for server in servers:
        await _until_ready(supervisor, server.name, server.is_ready)
        write_line("run", f"{server.name} is ready on 127.0.0.1:{server.port}, data in {data}")
    running = [RunningServer(s.name, getattr(settings, f"{s.name}_port"), s.url) for s in servers]
    until_stopped.enter_context(published(data, running))
    owner = await asyncio.to_thread(run_module, STORE_STEPS, "prepare", urls_of(settings)["report"])
    supervisor.start(supervisor.apps)
    checks = _checks(settings)
    for app in supervisor.apps:
        await _until_ready(supervisor, app.name, checks.get(app.name, lambda: True))
    write(_banner(settings, data, owner) + "\n")


async def _until_ready(supervisor: Supervisor, name: str, is_ready: Callable[[], bool]) -> None:
    end = time.monotonic() + _START_LIMIT
    while True:
        ready = await asyncio.to_thread(is_ready)
        if died := supervisor.has_died():
            raise StartError(f"{died.name} did not start: it {died.last_death}. Its log is above, or in DATA_DIR.")
        if ready:
            return
        if time.monotonic() > end:
            raise StartError(f"{name} did not answer within {_START_LIMIT} s. Its log is above, or in DATA_DIR.")
        await asyncio.sleep(0.1)


def embedded_servers(settings: Settings, data: Path) -> list[tuple[Server, FolderLock]]:
    """The servers that are not set, each with the lock of its folder. Raises StartError."""
    servers = []
    if settings.starts_redis:
        make_redis = partial(redis_server, maxmemory=settings.redis_maxmemory)
        servers.append(_locked(make_redis, data / "redis", settings.redis_port))
    if settings.starts_mongodb:
        servers.append(_locked(mongo_server, data / "mongodb", settings.mongodb_port))
    return servers


def _locked(make: Callable[[Path, int], Server], folder: Path, port: int) -> tuple[Server, FolderLock]:
    lock = FolderLock(folder, "a server that was not stopped", PREDECESSOR_LIMIT)
    return _on_free_port(make, folder, port), lock


def _on_free_port(make: Callable[[Path, int], Server], folder: Path, wanted: int) -> Server:
    server = make(folder, pick_port(wanted))
    if server.port != wanted:
        write_line("run", f"port {wanted} is in use; {server.name} uses port {server.port} instead")
    return server


def _read_procfile(path: Path) -> dict[str, list[str]]:
    """The commands by name. Raises StartError if the Procfile cannot be read."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise StartError(f"there is no Procfile in {Path.cwd()}. Start Footfall in its own folder") from None
    programs: dict[str, list[str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, command = (part.strip() for part in line.partition(":"))
        if not (name and colon and command) or name in programs:
            raise StartError(f"line {number} of the Procfile is not `name: command` with a name of its own. Correct it")
        try:
            programs[name] = shlex.split(command)
        except ValueError as error:
            raise StartError(f"line {number} of the Procfile cannot be read: {error}. Correct it") from None
    return programs


def _make_private(folder: Path) -> None:
    """Restricts a folder to its owner, for data of earlier versions.

    DATA_DIR and SEGMENT_DIR may hold other programs' files.
    """
    if not folder.exists() or not folder.stat().st_mode & 0o077:
        return
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink():
            path.chmod(0o700 if path.is_dir() else 0o600)


def _check_disk(data: Path) -> None:
    free = shutil.disk_usage(data).free
    if free < LEAST_FREE:
        raise StartError(
            f"the disk of DATA_DIR ({data}) has {free / 1e6:.0f} MB left, and Footfall needs {LEAST_FREE / 1e6:.0f} MB"
            " to start. Free some space, or set DATA_DIR to another disk"
        )


def _check_ports(settings: Settings) -> None:
    names = ["ingestion_port", "reporting_port", "worker_metrics_port", "flower_port"]
    ours = Counter(getattr(settings, name) for name in [*names, "redis_port", "mongodb_port"])
    for name in names:
        port = getattr(settings, name)
        if ours[port] > 1:
            raise StartError(f"port {port} is set twice. Change {name.upper()}")
        if pick_port(port) != port:
            raise StartError(f"port {port} is in use. Free it, or set {name.upper()}")


def _check_stores(settings: Settings) -> None:
    """Raises StartError if a store that is not started here does not answer."""
    for store, is_started in (("redis", settings.starts_redis), ("mongodb", settings.starts_mongodb)):
        if not is_started:
            run_module(STORE_STEPS, "reach", store)


def urls_of(settings: Settings) -> dict[str, str]:
    """Where the apps and Flower are, by name."""
    ports = {"ingest": settings.ingestion_port, "report": settings.reporting_port, "flower": settings.flower_port}
    return {name: f"http://{settings.reached_at}:{port}" for name, port in ports.items()}


def _checks(settings: Settings) -> dict[str, Callable[[], bool]]:
    """By the name in the Procfile, a function that tells whether a process works."""
    urls = urls_of(settings)
    return {
        "ingest": lambda: answers(f"{urls['ingest']}/readyz"),
        "report": lambda: answers(f"{urls['report']}/readyz"),
        "flower": lambda: answers(f"{urls['flower']}/healthcheck"),
        "worker": lambda: module_succeeds("footfall.worker_ping"),
    }


def answers(url: str) -> bool:
    """Whether the URL answers with 200 within 2 seconds."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _banner(settings: Settings, data: Path, owner: str) -> str:
    """`owner`: what the first owner has to do, or ""."""
    urls = urls_of(settings)
    first_steps = (IN_PRODUCTION if settings.is_production else IN_DEVELOPMENT).format(**urls)
    return BANNER.format(**urls, owner=f"{owner}\n\n" if owner else "", first_steps=first_steps, data=data)


if __name__ == "__main__":
    main()
