"""Outages of Redis and MongoDB, provoked for real.

Every way in which Redis can refuse, under gunicorn: all clients get a 503 within 2 s, and the system recovers by
itself. MongoDB unreachable under a steady load: no event is lost, and the backlog drains at full speed.
"""

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo.database import Database
from redis import Redis
from redis.exceptions import BusyLoadingError, RedisError

from analytics.journal.journal import JOURNAL_KEY
from bench.outage import run_outage
from config.settings import Settings
from footfall.embedded_servers import Server, mongo_server, pick_port, redis_server
from tests.support.running_system import System, running, running_alone, wait_for
from tests.system.test_deployment import PROCFILE

EVENT = json.dumps({"site_id": "outages", "event_type": "page_view"})
CONCURRENCY = Settings().web_concurrency
THREADS = CONCURRENCY * Settings().web_threads
LOADED_AGAIN = 3_000_000  # commands in an AOF: read at about a million per second (redis-server 6.2, November 2026)


@dataclass
class OwnRedis:
    """A Redis that tests may break, always on the same port and in the same folder."""

    server: Server
    folder: Path
    stack: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        self.process = self.stack.enter_context(running(self.server))

    def start_without_waiting(self) -> None:
        self.process = self.stack.enter_context(running(replace(self.server, is_ready=lambda: True)))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def client(self) -> Redis:
        return Redis(host="127.0.0.1", port=self.server.port, socket_timeout=5, protocol=2, retry=None)

    def is_well(self) -> bool:
        return self.server.is_ready()


@contextmanager
def setting(redis: OwnRedis, name: str, value: object, back_to: object) -> Iterator[None]:
    with redis.client() as client:
        client.config_set(name, value)
        yield
        client.config_set(name, back_to)


def full(redis: OwnRedis) -> AbstractContextManager[None]:
    return setting(redis, "maxmemory", 1, back_to=0)


def without_replicas(redis: OwnRedis) -> AbstractContextManager[None]:
    return setting(redis, "min-replicas-to-write", 1, back_to=0)


@contextmanager
def read_only(redis: OwnRedis) -> Iterator[None]:
    with redis.client() as client:
        client.replicaof("127.0.0.1", pick_port(0))
        yield
        client.replicaof("NO", "ONE")


@contextmanager
def unable_to_save(redis: OwnRedis) -> Iterator[None]:
    """MISCONF: a snapshot is due and cannot be written, because its name is that of a folder."""
    (redis.folder / "folder").mkdir()
    with redis.client() as client, setting(redis, "dbfilename", "folder", back_to="dump.rdb"):
        client.config_set("save", "3600 1")
        client.bgsave()
        wait_for(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "a failed snapshot")
        yield
        client.config_set("save", "")


@contextmanager
def frozen(redis: OwnRedis) -> Iterator[None]:
    redis.process.send_signal(signal.SIGSTOP)
    yield
    redis.process.send_signal(signal.SIGCONT)


@contextmanager
def dead(redis: OwnRedis) -> Iterator[None]:
    redis.kill()
    yield
    redis.start()


@contextmanager
def unreachable(redis: OwnRedis) -> Iterator[None]:
    """No answer to a SYN: the port's connection queue is full, and no process accepts."""
    redis.kill()
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", redis.server.port))
        listener.listen(0)
        with suppress(TimeoutError):
            while True:
                stack.enter_context(socket.create_connection(listener.getsockname(), timeout=0.2))
        yield
    redis.start()


@contextmanager
def loading(redis: OwnRedis) -> Iterator[None]:
    """Restarts with a large AOF. Redis answers only that it is not ready."""
    redis.kill()
    with (redis.folder / "appendonly.aof").open("ab") as aof:
        aof.write(b"*3\r\n$3\r\nSET\r\n$4\r\nload\r\n$1\r\nx\r\n" * LOADED_AGAIN)
    redis.start_without_waiting()
    wait_for(lambda: is_loading(redis), "a Redis that loads")
    yield
    assert is_loading(redis), "it was ready too soon to prove anything"
    wait_for(redis.is_well, "the end of loading")


def is_loading(redis: OwnRedis) -> bool:
    try:
        with redis.client() as client:
            client.ping()
    except BusyLoadingError:
        return True
    except RedisError:
        pass
    return False


OUTAGES = [full, without_replicas, read_only, unable_to_save, frozen, dead, unreachable, loading]


@dataclass(frozen=True)
class Answer:
    status: int
    took: float
    retry_after: str
    body: dict[str, Any]


def post(port: int) -> Answer:
    start = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/event", EVENT)
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    return Answer(answer.status, time.monotonic() - start, answer.headers.get("Retry-After", ""), body)


def post_at_once(port: int, count: int) -> list[Answer]:
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda: answers.append(post(port))) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == count
    return answers


def all_accepted(port: int) -> bool:
    return {answer.status for answer in post_at_once(port, 2 * THREADS)} == {200}


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    folder = tmp_path_factory.mktemp("redis")
    redis = OwnRedis(redis_server(folder, pick_port(0)), folder)
    with redis.stack:
        redis.start()
        yield redis


@pytest.fixture(scope="module")
def ingest(own_redis: OwnRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, psutil.Popen]]:
    """The port and the process of a gunicorn that runs during all outages."""
    port, log = pick_port(0), tmp_path_factory.mktemp("ingest") / "log"
    with running_alone(PROCFILE["ingest"], log, REDIS_URL=own_redis.server.url, INGESTION_PORT=str(port)) as process:
        wait_for(lambda: accepts(port) and len(process.children()) == CONCURRENCY, "gunicorn and all its processes")
        yield port, process


def accepts(port: int) -> bool:
    try:
        return post(port).status == 200
    except OSError:
        return False


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda outage: outage.__name__)
def test_a_failing_redis_is_a_503_within_two_seconds_until_it_recovers(
    own_redis: OwnRedis,
    ingest: tuple[int, psutil.Popen],
    outage: Callable[[OwnRedis], AbstractContextManager[None]],
):
    """There are twice as many clients as threads, twice: no client waits for another client's time-out either."""
    port, gunicorn = ingest
    before = set(gunicorn.children())
    with outage(own_redis):
        answers = post_at_once(port, 2 * THREADS) + post_at_once(port, 2 * THREADS)
    assert {answer.status for answer in answers} == {503}
    assert max(answer.took for answer in answers) < 2
    assert all(answer.retry_after.isdigit() for answer in answers)
    assert {answer.body["error"]["code"] for answer in answers} == {"unavailable"}
    wait_for(lambda: all_accepted(port), "200 for everyone when Redis is well again", 2)
    assert set(gunicorn.children()) == before, "the same processes"


@pytest.fixture
def alone(own_redis: OwnRedis, settings: Settings, tmp_path: Path) -> Callable:
    """Runs a line of the Procfile on this Redis."""
    urls = {"REDIS_URL": own_redis.server.url, "MONGODB_URI": settings.mongodb_uri}
    return partial(running_alone, log=tmp_path / "log", **urls)


@pytest.mark.parametrize("used", [0.9, 1.2], ids=["at the collector's limit", "full"])
def test_a_redis_at_its_limit_is_drained_and_events_are_accepted_again(
    own_redis: OwnRedis, ingest: tuple[int, psutil.Popen], alone: Callable, database: Database, used: float
):
    """A worker that ran before, which may end, and one that starts now. The padding makes room for their buffers."""
    port, _ = ingest
    with own_redis.client() as redis, ExitStack() as stack:
        worker = stack.enter_context(alone(PROCFILE["worker"]))
        redis.flushall()
        redis.set("padding", b"x" * 50_000_000)
        wait_for(lambda: accepts(port), "the collector")
        wait_for(lambda: redis.xlen(JOURNAL_KEY) == 0, "a worker that works")
        for process in worker.children():
            process.suspend()
        fill(redis, 40_000)
        with setting(own_redis, "maxmemory", int(redis.info("memory")["used_memory"] / used), back_to=0):
            wait_for(lambda: post(port).status == 503, "a collector that refuses", 2)
            for process in worker.children():
                process.resume()
            with alone(PROCFILE["beat"]), alone(PROCFILE["worker"].replace("worker@", "two@")):
                wait_for(lambda: redis.xlen(JOURNAL_KEY) == 0, "an empty journal")
                redis.delete("padding")
                wait_for(lambda: accepts(port), "a collector that opens by itself", 2)
                if not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE:
                    worker = stack.enter_context(alone(PROCFILE["worker"]))  # as a supervisor does
                wait_for(lambda: redis.xlen(JOURNAL_KEY) == 0, "a worker that goes on")
    assert database["events"].count_documents({"site_id": "outages"}) > 40_000


def fill(redis: Redis, count: int) -> None:
    line = redis.pipeline(transaction=False)
    for _ in range(count):
        line.xadd(JOURNAL_KEY, {"event": EVENT})
    line.execute()


def test_events_of_an_outage_of_mongodb_are_stored_at_full_speed_afterwards(tmp_path: Path):
    """OUTAGE_SECONDS makes it longer. `make outage MINUTES=60` also prints its results."""
    mongodb = mongo_server(tmp_path / "mongodb", pick_port(0))
    system = System(tmp_path, MONGODB_URI=mongodb.url)
    seconds = float(os.environ.get("OUTAGE_SECONDS", "5"))
    try:
        outage = run_outage(system, mongodb, seconds, rate=300, reference=5_000)
    finally:
        system.kill()
    assert set(outage.load.statuses) == {200}
    assert outage.load.dropped == 0
    assert outage.backlog >= len(outage.load.answered) > 50 * seconds
    assert (outage.lost, outage.doubled, outage.dead) == (0, 0, 0)
    assert outage.seconds_to_drain < 15, "a retry may pause for 5 s before it finds MongoDB again"
