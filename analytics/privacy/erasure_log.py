"""Which visitors were erased, and when: what a worker asks about events that were on their way meanwhile.

A record says which site, when, and a hash of whose name with a key that only Redis has: neither store alone tells who
it was, and a Redis that lost the key has lost the journal too, so that nothing is on its way any more. After GONE_FOR
the record goes. Wrong can go: a store that is away is Unavailable.
"""

import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pymongo
from pymongo.database import Database
from pymongo.errors import PyMongoError
from redis import Redis
from redis.exceptions import RedisError

from analytics.events.removal import GONE_FOR
from analytics.journal.ledger import REPLICA_WAIT
from analytics.mongodb import WRITE_LIMIT
from analytics.privacy.visitor import Visitor
from analytics.unavailable import raising_unavailable
from analytics.visitors.anonymous_ids import ALIVE_VISITOR

_KEY = "footfall:erasures:key"
_CLOCKS_APART = timedelta(seconds=2)  # between the collector's and ours; `footfall doctor` warns of one second


@dataclass(frozen=True, slots=True)
class Erasure:
    """One that is not finished: `name` is the hash."""

    name: str
    site_id: str
    at: datetime


class Erasures:
    """`replicas`: how many of Redis's must have the key before anything is hashed with it."""

    def __init__(self, redis: Redis, database: Database[dict[str, Any]], replicas: int = 0) -> None:
        self._redis = redis
        self._erasures = database["erasures"]
        self._replicas = replicas

    def note(self, visitor: Visitor, now: datetime) -> str:
        """What of this visitor was received until now is erased, whenever it is stored. Returns the record's name."""
        name = self.namer()(visitor)
        if visitor.visitor_id:
            with raising_unavailable("redis", RedisError):
                self._redis.delete(f"{ALIVE_VISITOR}{visitor.visitor_id}")
        with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
            self._erasures.create_index("at", expireAfterSeconds=GONE_FOR)
            record = {"site_id": visitor.site_id, "at": now + _CLOCKS_APART, "is_done": False}
            self._erasures.update_one({"_id": name}, {"$set": record}, upsert=True)
        return name

    def since(self, moment: datetime) -> Mapping[str, datetime]:
        """By name, those of what was received then or later. None as a rule: what a worker stores was received a moment
        ago.
        """
        with raising_unavailable("mongodb", PyMongoError):
            return {found["_id"]: found["at"] for found in self._erasures.find({"at": {"$gte": moment}})}

    def namer(self) -> Callable[[Visitor], str]:
        """What gives a visitor's record its name."""
        key = self._key()

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
        """Unless it was begun anew meanwhile."""
        with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
            self._erasures.update_one({"_id": erasure.name, "at": erasure.at}, {"$set": {"is_done": True}})

    def latest(self) -> datetime | None:
        """When the last one was noted."""
        with raising_unavailable("mongodb", PyMongoError):
            found = self._erasures.find_one({}, {"at": 1}, sort=[("at", -1)])
        return found["at"] if found else None

    def _key(self) -> bytes:
        """Made by whoever is first."""
        with raising_unavailable("redis", RedisError):
            line = self._redis.pipeline(transaction=False)
            line.set(_KEY, secrets.token_bytes(32), nx=True)
            line.wait(self._replicas, REPLICA_WAIT)
            line.get(_KEY)
            _, confirmed, key = line.execute()
            if confirmed < self._replicas:
                raise RedisError(f"{confirmed} of {self._replicas} replicas confirmed")
        return bytes(key)
