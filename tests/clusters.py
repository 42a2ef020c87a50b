"""Stores that fail over, of real processes on loopback: three mongod in a replica set."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from config.embedded import REPLICA_SET, mongo_server, pick_port
from tests.system import wait_for


class Member:
    """One process of a cluster, which a test may kill, freeze, thaw and start again."""

    def __init__(self, port: int, command: list[str]) -> None:
        self.port = port
        self._command = command
        self.start()

    def start(self) -> None:
        self._process = psutil.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        self._process.suspend()

    def thaw(self) -> None:
        self._process.resume()


class MongoSet:
    """`election`: after so many seconds without a word from its primary, the set elects another."""

    def __init__(self, folder: Path, election: float) -> None:
        ports = [pick_port(0) for _ in range(3)]
        self.members = [Member(port, mongo_server(folder / str(port), port).command) for port in ports]
        self.url = f"mongodb://{','.join(f'127.0.0.1:{port}' for port in ports)}/footfall?replicaSet={REPLICA_SET}"
        self._initiate(election)

    def _initiate(self, election: float) -> None:
        hosts = [{"_id": n, "host": f"127.0.0.1:{member.port}"} for n, member in enumerate(self.members)]
        config = {"_id": REPLICA_SET, "members": hosts, "settings": _settings(election)}
        first = self.members[0]
        wait_for(lambda: all(_hello(member) for member in self.members), "three mongod")
        with _connection(first) as client:
            client.admin.command("replSetInitiate", config)
        wait_for(self.is_whole, "a primary and two secondaries")

    def elect_after(self, election: float) -> None:
        with _connection(self.primary()) as client:
            config = client.admin.command("replSetGetConfig")["config"]
            config |= {"version": config["version"] + 1, "settings": _settings(election)}
            client.admin.command("replSetReconfig", config)

    def primary(self) -> Member:
        """Whoever takes writes now; waits for one."""
        return wait_for(
            lambda: next((m for m in self.members if _hello(m).get("isWritablePrimary")), None), "a primary"
        )

    def secondaries(self) -> list[Member]:
        primary = self.primary()
        return [member for member in self.members if member is not primary]

    def step_down(self) -> None:
        with _connection(self.primary()) as client:
            client.admin.command("replSetStepDown", 10, secondaryCatchUpPeriodSecs=5)

    def is_whole(self) -> bool:
        roles = [_hello(member) for member in self.members]
        return (
            sum(bool(role.get("isWritablePrimary")) for role in roles) == 1
            and sum(bool(role.get("secondary")) for role in roles) == 2
        )


def _settings(election: float) -> dict[str, int]:
    return {"electionTimeoutMillis": int(election * 1000), "heartbeatIntervalMillis": 500}


@contextmanager
def _connection(member: Member) -> Iterator[MongoClient[dict[str, Any]]]:
    with MongoClient("127.0.0.1", member.port, directConnection=True, serverSelectionTimeoutMS=2_000) as client:
        yield client


def _hello(member: Member) -> dict[str, Any]:
    """What it says of itself; nothing where it does not answer."""
    try:
        with MongoClient(
            "127.0.0.1", member.port, directConnection=True, serverSelectionTimeoutMS=500, socketTimeoutMS=500
        ) as client:
            return client.admin.command("hello")
    except PyMongoError:
        return {}


@contextmanager
def cluster_running(cluster: Any) -> Iterator[Any]:
    """Ends whatever runs of it, however the test went."""
    try:
        yield cluster
    finally:
        for member in cluster.members:
            member.thaw()
            member.kill()
