"""Clients of Redis and MongoDB. Nothing here connects: the first command does, so make them after the fork.

Every wait has an end: a Redis that accepts and does not answer costs `REDIS_TIMEOUT`, a MongoDB that is away 2 s.
"""

from typing import Any

from pymongo import MongoClient
from pymongo.database import Database
from redis import BlockingConnectionPool, Redis

from config.settings import Settings

DEFAULT_DATABASE = "footfall"
BEAT = "footfall-beat"  # the name of beat's connection to Redis, by which `footfall doctor` sees it


def make_redis(settings: Settings, name: str | None = None) -> Redis:
    """A client that never retries by itself: redis-py's default of ten tries would outlast the door's 2 s.

    `name`: what CLIENT LIST shows.
    """
    pool = BlockingConnectionPool.from_url(
        settings.redis_url,
        max_connections=settings.web_threads + 4,  # never fewer than threads, so that none waits for another
        timeout=settings.redis_timeout,
        socket_timeout=settings.redis_timeout,
        socket_connect_timeout=settings.redis_timeout,
        retry=None,
        client_name=name,
        protocol=2,  # RESP3 shapes stream replies differently from server to server
    )
    return Redis(connection_pool=pool)


def make_database(settings: Settings) -> Database[dict[str, Any]]:
    """The database that `MONGODB_URI` names. Writes are acknowledged by a majority, and journaled to disk."""
    client: MongoClient[dict[str, Any]] = MongoClient(
        settings.mongodb_uri,
        connect=False,
        tz_aware=True,
        uuidRepresentation="standard",
        w="majority",
        journal=True,
        serverSelectionTimeoutMS=2_000,
        connectTimeoutMS=2_000,
        socketTimeoutMS=10_000,  # a frozen server; writes and reports have limits of their own
        appname="footfall",
    )
    return client.get_default_database(DEFAULT_DATABASE)
