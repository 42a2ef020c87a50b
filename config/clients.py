"""Clients of Redis and MongoDB. Nothing here connects: the first command does, so make them after the fork.

Every wait has an end: a Redis that accepts and does not answer costs `REDIS_TIMEOUT`, a MongoDB that is away 2 s.
"""

from typing import Any

from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError
from redis import BlockingConnectionPool, Redis
from redis.connection import parse_url
from redis.exceptions import RedisError
from redis.sentinel import Sentinel

from config.settings import Settings

DEFAULT_DATABASE = "footfall"
STORE_ERRORS = (PyMongoError, RedisError)  # what the clients raise
BEAT = "footfall-beat"  # the name of beat's connection to Redis, by which `footfall doctor` sees it


def make_redis(settings: Settings, name: str | None = None, timeout: float | None = None) -> Redis:
    """A client that never retries by itself: redis-py's default of ten tries would outlast the collector's 2 s.

    With sentinels, every new connection asks them where to go, and goes to the server that takes writes. `name`: what
    CLIENT LIST shows. `timeout`: for whoever has less patience than `REDIS_TIMEOUT`.
    """
    patience = timeout or settings.redis_timeout
    options: dict[str, Any] = {
        "max_connections": settings.web_threads + 4,  # never fewer than threads, so that none waits for another
        "socket_timeout": patience,
        "socket_connect_timeout": patience,
        "retry": None,
        "client_name": name,
        "protocol": 2,  # RESP3 shapes stream replies differently from server to server
    }
    if not settings.sentinels:
        pool = BlockingConnectionPool.from_url(settings.redis_url, timeout=patience, **options)
        return Redis(connection_pool=pool)
    given = parse_url(settings.redis_url)  # type: ignore[no-untyped-call]
    options |= {name: value for name, value in given.items() if name not in ("host", "port")}
    asked = Sentinel(settings.sentinels, sentinel_kwargs=sentinel_options(settings), **options)  # type: ignore[no-untyped-call]
    client: Redis = asked.master_for(settings.redis_master_name)  # type: ignore[no-untyped-call]
    return client


def sentinel_options(settings: Settings) -> dict[str, Any]:
    """How to connect to a sentinel. They are asked one after the other, so that all of them together take no longer
    than Redis itself may.
    """
    patience = settings.redis_timeout / max(len(settings.sentinels), 1)
    return {"socket_timeout": patience, "socket_connect_timeout": patience, "retry": None, "protocol": 2}


def make_database(settings: Settings, patience: float = 10.0) -> Database[dict[str, Any]]:
    """The database that `MONGODB_URI` names. Writes are acknowledged by a majority, and journaled to disk.

    `patience`: seconds to wait for a server that has a question and is silent.
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
        socketTimeoutMS=int(patience * 1000),  # a frozen server; writes and reports have limits of their own
        appname="footfall",
    )
    return client.get_default_database(DEFAULT_DATABASE)
