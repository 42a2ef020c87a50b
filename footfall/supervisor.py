"""`make run`: the whole system in the foreground, from the Procfile, with servers of its own where none are set.

In: the settings and the Procfile. Out: prefixed logs, and once everything answers the URLs and what to type. A process
that dies is started again. Ctrl-C, SIGTERM and a closed terminal stop the apps first and let the worker finish what it
holds, then stop the servers; nothing stays behind, not even after a kill -9 of this process.
"""

import fcntl
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from asyncio import sleep, to_thread
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from circus.arbiter import Arbiter
from circus.watcher import Watcher
from tornado import gen
from tornado.ioloop import IOLoop

from config.settings import Settings, SettingsError, load_settings
from footfall.embedded_servers import EmbeddedError, Server, mongo_server, pick_port, redis_server

GRACE = 60  # seconds to stop in; a warm shutdown of a Celery worker under load took 36 s
START_LIMIT = 60  # seconds until everything answers
STOPS = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
APPS, SERVERS = 1, 0  # what stops first, and last
# The kernel ends the children when this process is killed. KILL, not TERM, for the apps: a Celery worker that cannot
# write its farewell into our broken pipe takes that for a lost broker and goes on for ever. They can be killed.
NO_CHILD_LEFT = {kind: ["setpriv", "--pdeathsig", signal] for kind, signal in ((APPS, "KILL"), (SERVERS, "TERM"))}

BANNER = """
Footfall is up.  ingest {ingest}  report {report}  Flower {flower}

  curl -X POST {ingest}/event -H 'Content-Type: application/json' \\
    -d '{{"site_id": "site-abc-123", "event_type": "page_view", "path": "/pricing", "user_id": "user-xyz-789"}}'
  curl '{report}/stats?site_id=site-abc-123'

The celery CLI, in another terminal:  {environment}.venv/bin/celery -A tasks inspect active
Ctrl-C stops everything; the data stays in {data}.
"""


class Supervisor(Arbiter):  # type: ignore[misc]
    """circus, but that the servers stop after the processes that write to them, and that stopping is quiet."""

    def manage_watchers(self) -> Any:
        if self._exclusive_running_command is None:  # else circus logs a traceback twice a second while it stops
            return super().manage_watchers()
        return None

    def __init__(self, watchers: list[Watcher], told_to_stop: threading.Event) -> None:
        self.told_to_stop = told_to_stop
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # circus listens from here on, and forgets what it hears
        super().__init__(watchers, "inproc://control", "inproc://events", check_delay=0.5)
        self._listen_to_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)

    def is_stopping(self) -> bool:
        return bool(self._stopping)

    def _listen_to_signals(self) -> None:
        """What ends us ends also what waits in `told_to_stop`. A closed terminal (HUP) stops; circus would reload."""
        signals = self.ctrl.sys_hdl

        def stop() -> None:
            self.told_to_stop.set()
            signals.quit()

        signals.handle_int = signals.handle_term = signals.handle_quit = signals.handle_hup = stop

    @gen.coroutine
    def _stop_watchers(self, close_output_streams: bool = False, watcher_iter_func: Any = None) -> Any:
        for kind in (APPS, SERVERS):
            yield gen.multi([w._stop(close_output_streams) for w in self.watchers if w.priority == kind])


class PrefixedLines:
    """Writes whole lines, each with the name of the process it came from."""

    def __init__(self, name: str) -> None:
        self._prefix = f"{name:8s} | "
        self._rest = ""

    def __call__(self, data: dict[str, Any]) -> None:
        *lines, self._rest = (self._rest + data["data"].decode(errors="replace")).split("\n")
        sys.stdout.write("".join(f"{self._prefix}{line}\n" for line in lines))
        sys.stdout.flush()

    def close(self) -> None:
        if self._rest:
            self({"data": b"\n"})


def main() -> None:
    try:
        settings = load_settings(with_flower=True)
        data = Path(settings.data_dir).resolve()
        data.mkdir(parents=True, exist_ok=True)
        with (data / "lock").open("w") as lock:
            _lock(lock, data)
            _check_ports(settings)
            run(settings, data)
    except (SettingsError, EmbeddedError) as error:
        sys.exit(f"footfall: {error}")
    except KeyboardInterrupt:  # before anything was started
        sys.exit(130)
    except (FileExistsError, FileNotFoundError, PermissionError, NotADirectoryError) as error:
        sys.exit(f"footfall: DATA_DIR cannot be used: {error}")


def run(settings: Settings, data: Path) -> None:
    stop = threading.Event()
    for number in STOPS:  # no KeyboardInterrupt, which whoever is busy just then may swallow
        signal.signal(number, lambda *_: stop.set())
    servers = _embedded_servers(settings, data)
    os.environ |= settings.as_environment() | {server.setting: server.url for server in servers}
    if settings.log_format == "auto" and sys.stdout.isatty():
        os.environ["LOG_FORMAT"] = "console"  # the processes write to us, not to a terminal
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    os.environ["PYTHONUNBUFFERED"] = "1"
    logging.basicConfig(format="run      | %(message)s", level=logging.WARNING, stream=sys.stdout)

    watchers = [_watcher(server.name, server.command, SERVERS) for server in servers]
    processes = _read_procfile(Path("Procfile"))
    apps = [_watcher(name, shlex.split(command), APPS) for name, command in processes.items()]
    supervisor = Supervisor(watchers + apps, stop)

    async def bring_up() -> None:
        try:
            for server in servers:
                await to_thread(server.wait_until_ready, stop)
                print(f"run      | {server.name} is ready on 127.0.0.1:{server.port}, data in {data}", flush=True)
            for app in apps if not stop.is_set() else []:
                await app.start()
            await to_thread(_wait_until_up, settings, list(processes), stop)
            if not stop.is_set():
                print(_banner(settings, servers, data), flush=True)
        except EmbeddedError as error:
            print(f"run      | {error}; stopping", flush=True)
            stop.set()
        while stop.is_set() and not supervisor.is_stopping():
            supervisor.ctrl.sys_hdl.quit()  # again: circus forgets a signal that comes while it starts something
            await sleep(0.1)

    IOLoop.current().add_callback(bring_up)
    supervisor.start()
    print("run      | everything has stopped", flush=True)


def _embedded_servers(settings: Settings, data: Path) -> list[Server]:
    servers = []
    if settings.starts_redis:
        make_redis = partial(redis_server, maxmemory=settings.redis_maxmemory)
        servers.append(_on_free_port(make_redis, data / "redis", settings.redis_port))
    if settings.starts_mongodb:
        servers.append(_on_free_port(mongo_server, data / "mongodb", settings.mongodb_port))
    return servers


def _on_free_port(make: Callable[[Path, int], Server], folder: Path, wanted: int) -> Server:
    server = make(folder, pick_port(wanted))
    if server.port != wanted:
        print(f"run      | port {wanted} is taken; {server.name} goes to {server.port}", flush=True)
    return server


def _watcher(name: str, command: list[str], kind: int) -> Watcher:
    prefix = NO_CHILD_LEFT[kind] if shutil.which("setpriv") else []
    lines = PrefixedLines(name)
    return Watcher(
        name,
        shlex.join([*prefix, *command]),
        priority=kind,
        autostart=kind == SERVERS,
        graceful_timeout=GRACE,
        max_retry=-1,
        copy_env=True,
        stdout_stream={"stream": lines},
        stderr_stream={"stream": lines},
        hooks={"before_reap": (_say_died, True)},
    )


def _say_died(watcher: Watcher, **_: object) -> bool:
    if not watcher.is_stopping():
        print(f"run      | {watcher.name} died; starting it again", flush=True)
    return True


def _read_procfile(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return {name.strip(): command.strip() for name, _, command in (line.partition(":") for line in lines)}


def _lock(lock: Any, data: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise EmbeddedError(f"another `make run` works in {data}; stop it, or set DATA_DIR") from None


def _check_ports(settings: Settings) -> None:
    names = ["ingestion_port", "reporting_port", "worker_metrics_port", "flower_port"]
    ours = Counter(getattr(settings, name) for name in [*names, "redis_port", "mongodb_port"])
    for name in names:
        port = getattr(settings, name)
        if ours[port] > 1:
            raise EmbeddedError(f"port {port} is set for two things; change {name.upper()}")
        if pick_port(port) != port:
            raise EmbeddedError(f"port {port} is taken; free it, or set {name.upper()}")


def _urls(settings: Settings) -> dict[str, str]:
    host = "127.0.0.1" if settings.bind_host == "0.0.0.0" else settings.bind_host
    ports = {"ingest": settings.ingestion_port, "report": settings.reporting_port, "flower": settings.flower_port}
    return {name: f"http://{host}:{port}" for name, port in ports.items()}


def _wait_until_up(settings: Settings, names: list[str], stop: threading.Event) -> None:
    urls = _urls(settings)
    checks: dict[str, Callable[[], bool]] = {
        "ingest": lambda: _answers(f"{urls['ingest']}/readyz"),
        "report": lambda: _answers(f"{urls['report']}/readyz"),
        "flower": lambda: _answers(f"{urls['flower']}/healthcheck"),
        "worker": _workers_answer,
    }
    end = time.monotonic() + START_LIMIT
    for name in (name for name in names if name in checks):
        while not stop.is_set() and not checks[name]():
            if time.monotonic() > end:
                raise EmbeddedError(f"{name} did not answer within {START_LIMIT} s; see the log above")
            stop.wait(0.1)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _workers_answer() -> bool:
    ping = ["celery", "--app", "tasks", "inspect", "ping", "--timeout", "1"]
    return subprocess.run(ping, check=False, capture_output=True).returncode == 0


def _banner(settings: Settings, servers: list[Server], data: Path) -> str:
    moved = [f"{s.setting}={shlex.quote(s.url)} " for s in servers if s.url != getattr(_defaults(), s.setting.lower())]
    return BANNER.format(**_urls(settings), environment="".join(moved), data=data)


def _defaults() -> Settings:
    return Settings(redis_url="redis://127.0.0.1:6379/0")


if __name__ == "__main__":
    main()
