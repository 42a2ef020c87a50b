"""Creates clients of Redis and MongoDB. They connect at the first command, which must be after the fork.

Every wait has a limit: `REDIS_TIMEOUT` for a Redis that accepts and does not answer, 2 s for an unreachable MongoDB.
Callers of the clients must handle STORE_ERRORS.
"""

from typing import Any

from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError
from redis import BlockingConnectionPool, Redis
from redis.connection import parse_url
from redis.exceptions import RedisError
from redis.sentinel import Sentinel, SentinelConnectionPool

from analytics.event_loop import may_wait
from config.settings import Settings, threads_of_large_bodies

DEFAULT_DATABASE = "footfall"
STORE_ERRORS = (PyMongoError, RedisError)  # the exceptions that the clients raise


class _Watched:
    """A pool of connections that the thread of an event loop may not use."""

    def get_connection(self, *args: Any, **options: Any) -> Any:
        may_wait()
        return super().get_connection(*args, **options)  # type: ignore[misc]


class WatchedPool(_Watched, BlockingConnectionPool): ...


class WatchedSentinelPool(_Watched, SentinelConnectionPool): ...


def make_redis(settings: Settings, name: str | None = None, timeout: float | None = None, url: str = "") -> Redis:
    """A Redis client that never retries: redis-py's default of ten tries would exceed the collector's 2 s.

    With sentinels, every new connection asks them for the primary, which takes writes. `name`: shown by CLIENT LIST.
    `timeout`: seconds, if another limit than `REDIS_TIMEOUT` is needed. `url`: of another Redis than `REDIS_URL`. With
    sentinels, its host is the name of the primary.
    """
    patience = timeout or settings.redis_timeout
    options: dict[str, Any] = {
        # one for each thread that waits: those of requests, of commits and of wake-ups
        "max_connections": settings.web_threads + threads_of_large_bodies(settings.web_threads) + 2,
        "socket_timeout": patience,
        "socket_connect_timeout": patience,
        "retry": None,
        "client_name": name,
        "protocol": 2,  # the reply shapes of streams differ between servers with RESP3
    }
    if not settings.sentinels:
        pool = WatchedPool.from_url(url or settings.redis_url, timeout=patience, **options)
        return Redis.from_pool(pool)
    given = parse_url(url or settings.redis_url)  # type: ignore[no-untyped-call]
    options |= {name: value for name, value in given.items() if name not in ("host", "port")}
    asked = Sentinel(settings.sentinels, sentinel_kwargs=settings.sentinel_options, **options)  # type: ignore[no-untyped-call]
    primary = given["host"] if url else settings.redis_master_name
    client: Redis = asked.master_for(primary, connection_pool_class=WatchedSentinelPool)  # type: ignore[no-untyped-call]
    return client


def make_database(settings: Settings, name: str = "footfall", patience: float = 10.0) -> Database[dict[str, Any]]:
    """The database that `MONGODB_URI` names. Writes are acknowledged by a majority, and journaled to disk.

    `name`: shown by `db.currentOp()` and in the server's log. `patience`: seconds to wait for a server that does not
    answer.
    """
    client: MongoClient[dict[str, Any]] = MongoClient(
        settings.mongodb_uri,
        connect=False,
        tz_aware=True,
        uuidRepresentation="standard",
        w="majority",
        journal=True,
        serverSelectionTimeoutMS=2_000,
        connectTimeoutMS=2_000,
        socketTimeoutMS=int(patience * 1000),  # for a frozen server; writes and reports have limits of their own
        appname=name,
    )
    return client.get_default_database(DEFAULT_DATABASE)
