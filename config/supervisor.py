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
import subprocess
import sys
import time
import urllib.error
import urllib.request
from asyncio import to_thread
from collections.abc import Callable
from pathlib import Path
from typing import Any

from circus.arbiter import Arbiter
from circus.watcher import Watcher
from tornado import gen
from tornado.ioloop import IOLoop

from config.embedded import EmbeddedError, Server, mongo_server, pick_port, redis_server
from config.settings import Settings, SettingsError, load_settings

GRACE = 60  # seconds to stop in; a warm shutdown of a Celery worker under load took 36 s
START_LIMIT = 60  # seconds until everything answers
NO_CHILD_LEFT = ["setpriv", "--pdeathsig", "TERM"]  # the kernel tells the children when this process is killed
APPS, SERVERS = 1, 0  # what stops first, and last

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
        settings = load_settings()
        data = Path(settings.data_dir).resolve()
        data.mkdir(parents=True, exist_ok=True)
        with (data / "lock").open("w") as lock:
            _lock(lock, data)
            _check_ports(settings)
            run(settings, data)
    except (SettingsError, EmbeddedError) as error:
        sys.exit(f"footfall: {error}")


def run(settings: Settings, data: Path) -> None:
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
    supervisor = Supervisor(watchers + apps, "inproc://control", "inproc://events", check_delay=0.5)

    async def bring_up() -> None:
        supervisor.ctrl.sys_hdl.handle_hup = supervisor.ctrl.sys_hdl.quit  # a closed terminal; circus would reload
        try:
            for server in servers:
                await to_thread(server.wait_until_ready)
                print(f"run      | {server.name} is ready on 127.0.0.1:{server.port}, data in {data}", flush=True)
            for app in apps:
                await app.start()
            await to_thread(_wait_until_up, settings, list(processes))
            print(_banner(settings, servers, data), flush=True)
        except EmbeddedError as error:
            print(f"run      | {error}; stopping", flush=True)
            supervisor.ctrl.sys_hdl.quit()

    IOLoop.current().add_callback(bring_up)
    supervisor.start()
    print("run      | everything has stopped", flush=True)


def _embedded_servers(settings: Settings, data: Path) -> list[Server]:
    servers = []
    if not (os.environ.get("REDIS_URL") or os.environ.get("REDIS_HOST")):
        servers.append(_on_free_port(redis_server, data / "redis", settings.redis_port))
    if not os.environ.get("MONGODB_URI"):
        servers.append(_on_free_port(mongo_server, data / "mongodb", settings.mongodb_port))
    return servers


def _on_free_port(make: Callable[[Path, int], Server], folder: Path, wanted: int) -> Server:
    server = make(folder, pick_port(wanted))
    if server.port != wanted:
        print(f"run      | port {wanted} is taken; {server.name} goes to {server.port}", flush=True)
    return server


def _watcher(name: str, command: list[str], kind: int) -> Watcher:
    prefix = NO_CHILD_LEFT if shutil.which(NO_CHILD_LEFT[0]) else []
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
    for name in ("ingestion_port", "reporting_port", "flower_port"):
        port = getattr(settings, name)
        if pick_port(port) != port:
            raise EmbeddedError(f"port {port} is taken; free it, or set {name.upper()}")


def _urls(settings: Settings) -> dict[str, str]:
    host = "127.0.0.1" if settings.bind_host == "0.0.0.0" else settings.bind_host
    ports = {"ingest": settings.ingestion_port, "report": settings.reporting_port, "flower": settings.flower_port}
    return {name: f"http://{host}:{port}" for name, port in ports.items()}


def _wait_until_up(settings: Settings, names: list[str]) -> None:
    urls = _urls(settings)
    checks = {name: f"{urls[name]}{path}" for name, path in _HEALTH.items() if name in names}
    end = time.monotonic() + START_LIMIT
    down = set(checks)
    while down and time.monotonic() < end:
        down = {name for name in down if not _answers(checks[name])}
        time.sleep(0.1)
    while "worker" in names and not _workers_answer() and time.monotonic() < end:
        pass
    if down:
        raise EmbeddedError(f"{', '.join(sorted(down))} did not answer within {START_LIMIT} s; see the log above")


_HEALTH = {"ingest": "/readyz", "report": "/readyz", "flower": "/healthcheck"}


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
