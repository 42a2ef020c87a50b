"""The erasure log: which visitors were erased, and when. Workers check it for events that were in the journal at that
time.

A record holds the site, the time, and a hash of the visitor's id with a key that only Redis holds. Neither store alone
identifies the visitor. A Redis that lost the key has also lost the journal, so no event is waiting. A record is deleted
after GONE_FOR. Callers must handle Unavailable, raised if a store is not reachable.
"""

import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pymongo.database import Database
from pymongo.errors import PyMongoError
from redis import Redis
from redis.exceptions import RedisError

from analytics.events.removal import GONE_FOR
from analytics.mongodb import writing
from analytics.privacy.visitor import Visitor
from analytics.redis import execute_confirmed
from analytics.unavailable import raising_unavailable
from analytics.visitors.anonymous_ids import end_visit

_KEY = "footfall:erasures:key"
# between the collector's clock and this process's clock; `footfall doctor` warns above one second
_CLOCKS_APART = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Erasure:
    """An erasure that is not finished. `name` is the hash."""

    name: str
    site_id: str
    at: datetime


class Erasures:
    """The records of erasures. `replicas` is how many Redis replicas must hold the key before it is used."""

    def __init__(self, redis: Redis, database: Database[dict[str, Any]], replicas: int = 0) -> None:
        self._redis = redis
        self._database = database
        self._erasures = database["erasures"]
        self._replicas = replicas

    def note(self, visitor: Visitor, now: datetime) -> str:
        """Note that all events of this visitor received until now are erased, no matter when they are stored. Returns
        the record's name. Raises Unavailable.
        """
        name = self.namer()(visitor)
        if visitor.visitor_id:
            with raising_unavailable("redis", RedisError):
                end_visit(self._redis, visitor.visitor_id)
        with writing(self._database):
            self._erasures.create_index("at", expireAfterSeconds=GONE_FOR)
            record = {"site_id": visitor.site_id, "at": now + _CLOCKS_APART, "is_done": False}
            self._erasures.update_one({"_id": name}, {"$set": record}, upsert=True)
        return name

    def since(self, moment: datetime) -> Mapping[str, datetime]:
        """Return the erasures of events received at `moment` or later, by name. There are usually none, because workers
        store events shortly after they are received. Raises Unavailable.
        """
        with raising_unavailable("mongodb", PyMongoError):
            return {found["_id"]: found["at"] for found in self._erasures.find({"at": {"$gte": moment}})}

    def namer(self) -> Callable[[Visitor], str]:
        """Return the function that gives the name of a visitor's record. Raises Unavailable."""
        key = self.key()

        def name_of(visitor: Visitor) -> str:
            said = "\0".join((visitor.name, str(len(visitor.site_id)), visitor.site_id, visitor.id))
            return hmac.digest(key, said.encode(errors="surrogatepass"), "sha256").hex()

        return name_of

    def unfinished(self) -> list[Erasure]:
        with raising_unavailable("mongodb", PyMongoError):
            return [Erasure(x["_id"], x["site_id"], x["at"]) for x in self._erasures.find({"is_done": False})]

    def is_any_unfinished(self) -> bool:
        with raising_unavailable("mongodb", PyMongoError):
            return self._erasures.find_one({"is_done": False}, {"_id": 1}) is not None

    def is_finished(self, name: str) -> bool:
        with raising_unavailable("mongodb", PyMongoError):
            return self._erasures.find_one({"_id": name, "is_done": False}, {"_id": 1}) is None

    def finish(self, erasure: Erasure) -> None:
        """Mark the erasure as finished, unless it was requested again in the meantime. Raises Unavailable."""
        with writing(self._database):
            self._erasures.update_one({"_id": erasure.name, "at": erasure.at}, {"$set": {"is_done": True}})

    def latest(self) -> datetime | None:
        """Return when the latest erasure was noted, or None. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            found = self._erasures.find_one({}, {"at": 1}, sort=[("at", -1)])
        return found["at"] if found else None

    def put_key(self, key: bytes) -> None:
        """Set the key of the hashes, when a backup with its records is restored. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            self._redis.set(_KEY, key)

    def key(self) -> bytes:
        """Return the key of the hashes. The first process that needs it creates it. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            line = self._redis.pipeline(transaction=False)
            line.set(_KEY, secrets.token_bytes(32), nx=True)
            line.get(_KEY)
            _, key = execute_confirmed(line, self._replicas)
        return bytes(key)
