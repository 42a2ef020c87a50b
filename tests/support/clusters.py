"""Stores that fail over, as real processes.

They are a replica set of three mongod, and a Redis with its replica and three sentinels. They are on loopback, or each
at a place of its own.
"""

import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from redis import Redis
from redis.exceptions import RedisError

from footfall.embedded_servers import REPLICA_SET, mongo_server, pick_port, redis_binary, redis_server
from footfall.supervised_process import end_with_parent
from tests.support.running_system import Place, kill_if_there, wait_for

PRIMARY, SECONDARY = 1, 2  # values of myState in replSetGetStatus


class Member:
    """A process of a cluster. A test may kill, freeze, thaw and restart it.

    `command`: listens on 127.0.0.1. It is started with the address of `place` instead.
    """

    def __init__(self, place: Place, port: int, command: list[str]) -> None:
        self.address = place.address
        self.port = port
        self._command = [*place.words, *(place.address if word == "127.0.0.1" else word for word in command)]
        self.start()

    @property
    def host(self) -> str:
        return f"{self.address}:{self.port}"

    def start(self) -> None:
        command = [*end_with_parent(signal.SIGKILL), *self._command]
        self._process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        """Kills the process, also if it is frozen. Does nothing if it is dead."""
        kill_if_there(self._process)
        self._process.wait()

    def freeze(self) -> None:
        self._process.suspend()

    def thaw(self) -> None:
        self._process.resume()


class MongoSet:
    """Three mongod. `election`: seconds without an answer of the primary after which the set elects another one."""

    def __init__(self, folder: Path, election: float, places: Sequence[Place] = (Place(),) * 3) -> None:
        self._folder = folder
        self._election = election
        self._places = places
        self.members: list[Member] = []

    def start(self) -> None:
        for place in self._places:
            port = pick_port(0)
            self.members.append(Member(place, port, mongo_server(self._folder / str(port), port).command))
        self.url = f"mongodb://{','.join(member.host for member in self.members)}/footfall?replicaSet={REPLICA_SET}"
        self._initiate()

    def _initiate(self) -> None:
        hosts = [{"_id": n, "host": member.host} for n, member in enumerate(self.members)]
        config = {"_id": REPLICA_SET, "members": hosts, "settings": _settings(self._election)}
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
        """The current primary. Waits for one."""
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
        """Whether there are a primary and two secondaries with a sync source.

        A secondary that still looks for a source may choose the member that is frozen next, and wait for it for 20 s,
        as MongoDB does. Meanwhile no write reaches a majority.
        """
        states = [_ask(member, "replSetGetStatus") for member in self.members]
        copying = [state for state in states if state.get("myState") == SECONDARY and state["syncSourceHost"]]
        return len(copying) == 2 and any(state.get("myState") == PRIMARY for state in states)


class RedisPair:
    """A Redis that writes to its replica, and three sentinels that watch both. `members` begins with these two.

    `down_after`: seconds without an answer after which a majority of the sentinels promotes the replica. `places`: in
    the order of `members`.
    """

    def __init__(
        self, folder: Path, down_after: float, name: str = "mymaster", places: Sequence[Place] = (Place(),) * 5
    ) -> None:
        self._folder = folder
        self._down_after = down_after
        self._name = name
        self._places = places
        self.members: list[Member] = []

    def start(self) -> None:
        folder, name = self._folder, self._name
        first = self._redis(self._places[0])
        self.pair = [first, self._redis(self._places[1], "--replicaof", first.address, str(first.port))]
        wait_for(lambda: _replication(self.pair[1]).get("master_link_status") == "up", "a replica in step")
        binary = redis_binary()
        for place in self._places[2:]:
            port = pick_port(0)
            file = folder / f"sentinel-{port}.conf"
            file.write_text(
                f"port {port}\nbind {place.address}\nlogfile {file}.log\n"
                f"sentinel monitor {name} {first.address} {first.port} 2\n"
                f"sentinel down-after-milliseconds {name} {int(self._down_after * 1000)}\n"
                f"sentinel failover-timeout {name} 5000\n"
            )
            self.members.append(Member(place, port, [binary, str(file), "--sentinel"]))
        self.sentinels = self.members[2:]
        self.addresses = ",".join(member.host for member in self.sentinels)
        wait_for(self._is_watched, "three sentinels that know each other and the replica")

    def master(self) -> Member | None:
        """The server that most sentinels name as master."""
        named = [(state["ip"], state["port"]) for state in self._states()]
        return next((member for member in self.pair if named.count((member.address, member.port)) > 1), None)

    def replica(self) -> Member:
        return next(member for member in self.pair if member is not self.master())

    def is_whole(self) -> bool:
        return _replication(self.replica()).get("master_link_status") == "up" and self._is_watched()

    def _is_watched(self) -> bool:
        states = self._states()
        return len(states) == 3 and all(
            state["num-slaves"] == 1 and state["num-other-sentinels"] == 2 and state["flags"] == "master"
            for state in states
        )

    def _states(self) -> list[dict[str, Any]]:
        states = []
        for sentinel in self.sentinels:
            with suppress(RedisError), _client(sentinel) as client:
                states.append(client.sentinel_master(self._name))
        return states

    def _redis(self, place: Place, *more: str) -> Member:
        port = pick_port(0)
        # Redis 7 lets only loopback in if it has no password.
        settings = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "2", "--protected-mode", "no"]
        command = redis_server(self._folder / str(port), port).command
        self.members.append(Member(place, port, [*command, *settings, *more]))
        return self.members[-1]


def _client(member: Member) -> Redis:
    return Redis(member.address, member.port, socket_timeout=0.5, retry=None, protocol=2)


def _replication(member: Member) -> dict[str, Any]:
    try:
        with _client(member) as client:
            return client.info("replication")
    except RedisError:
        return {}


def _settings(election: float) -> dict[str, Any]:
    # Copy from the primary only. In a new set, a secondary may find another one too young to copy from, not look again
    # for 60 s, and leave it without a majority if it is elected meanwhile (this happened).
    return {
        "electionTimeoutMillis": int(election * 1000),
        "heartbeatIntervalMillis": 500,
        "chainingAllowed": False,
    }


@contextmanager
def _connection(member: Member) -> Iterator[MongoClient[dict[str, Any]]]:
    with MongoClient(member.address, member.port, directConnection=True, serverSelectionTimeoutMS=2_000) as client:
        yield client


def _hello(member: Member) -> dict[str, Any]:
    return _ask(member, "hello")


def _ask(member: Member, command: str) -> dict[str, Any]:
    """The answer of the member. Empty if it does not answer."""
    try:
        with MongoClient(
            member.address, member.port, directConnection=True, serverSelectionTimeoutMS=500, socketTimeoutMS=500
        ) as client:
            return client.admin.command(command)
    except PyMongoError:
        return {}


@contextmanager
def cluster_running(cluster: Any) -> Iterator[Any]:
    """Starts the cluster, and stops all of its processes at the end, also if the test fails."""
    try:
        cluster.start()
        yield cluster
    finally:
        for member in cluster.members:
            member.kill()
