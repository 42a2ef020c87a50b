"""The books: of every site and day, how many events came in and what became of each.

Every entry of the journal is counted twice, once where it goes in (`accepted`) and once where it goes out (`stored`,
`duplicate` or `dead`), each time in the very Lua script that appends or settles it: Redis does both or neither,
whatever dies. A rejected event is counted like an accepted one, before the client gets its 400. So by site and day,

    received = accepted + rejected + dropped
    accepted = stored + duplicate + dead + waiting

The first is how `received` is derived; the second is checked by analytics/audit.py, against the stores themselves.

Today's and yesterday's counts are in Redis; those of closed days are carried to MongoDB, so that Redis's memory stays
free for what waits. Wrong can go: a store that is away is `Unavailable`.
"""

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import pymongo
from pymongo import ReplaceOne
from pymongo.database import Database
from pymongo.errors import PyMongoError
from redis import Redis
from redis.exceptions import RedisError

from analytics.mongodb import WRITE_LIMIT
from analytics.unavailable import trouble_with

ACCEPTED, REPLAYED, STORED, DUPLICATE, DEAD = "accepted", "replayed", "stored", "duplicate", "dead"
REJECTED, DROPPED = "rejected:", "dropped:"  # each with its reason

# A hash for each day, `<name> <site>` -> count, and a set of the names of those hashes.
COUNT = """
local function count(account, name, n)
  local day = 'footfall:books:' .. string.sub(account, 1, 10)
  redis.call('HINCRBY', day, name .. ' ' .. string.sub(account, 12), n)
  redis.call('SADD', 'footfall:books', day)
end
"""
READ = """
local days = {}
for _, key in ipairs(redis.call('SMEMBERS', 'footfall:books')) do
  table.insert(days, {key, redis.call('HGETALL', key)})
end
return days
"""
# What is counted from now on goes to a new hash of that day, so a closed one does not change any more.
CLOSE = """
if redis.call('SREM', 'footfall:books', KEYS[1]) == 1 then
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('SADD', 'footfall:books', KEYS[2])
end
"""
FORGET = "redis.call('DEL', KEYS[1]) redis.call('SREM', 'footfall:books', KEYS[1])"

DAY_KEY = "footfall:books:YYYY-MM-DD"


@dataclass(frozen=True, slots=True, order=True)
class Account:
    """Where an event is counted: its site, "" where that cannot be known, and the UTC day on which it was received."""

    site_id: str
    day: date

    def __str__(self) -> str:
        return f"{self.day.isoformat()} {self.site_id}"

    @classmethod
    def from_text(cls, text: str) -> "Account":
        """Raises ValueError."""
        return cls(text[11:], date.fromisoformat(text[:10]))


class Books:
    def __init__(self, redis: Redis, database: Database[dict[str, Any]]) -> None:
        self._redis = redis
        self._carried = database["books"]
        self._read = redis.register_script(READ)
        self._close = redis.register_script(CLOSE)
        self._forget = redis.register_script(FORGET)

    def read(self) -> dict[Account, Counter[str]]:
        """All counts, by account and name. Raises Unavailable."""
        counts: defaultdict[Account, Counter[str]] = defaultdict(Counter)
        here = self._in_redis()
        for key, fields in here.items():
            for account, name, n in _counts(key, fields):
                counts[account][name] += n
        with trouble_with("mongodb", PyMongoError):
            # What is carried just now is in both; Redis was asked first.
            for row in self._carried.find({"carry": {"$nin": list(here)}}):
                counts[Account(row["site_id"], date.fromisoformat(row["day"]))].update(row["counts"])
        return dict(counts)

    def carry(self, before: date) -> int:
        """Move the days before this one to MongoDB; how many hashes were moved. Raises Unavailable.

        It may die anywhere and run any number of times at once: a closed hash never changes, is written under ids of
        its own, and goes only after MongoDB has it.
        """
        for key in self._in_redis():
            if len(key) == len(DAY_KEY) and date.fromisoformat(key[-10:]) < before:
                with trouble_with("redis", RedisError):
                    self._close(keys=[key, f"{key}:{uuid.uuid4().hex}"])
        closed = {key: fields for key, fields in self._in_redis().items() if len(key) > len(DAY_KEY) and fields}
        for key, fields in closed.items():
            self._write(key, fields)
            with trouble_with("redis", RedisError):
                self._forget(keys=[key])
        return len(closed)

    def _in_redis(self) -> dict[str, dict[str, int]]:
        with trouble_with("redis", RedisError):
            reply: Any = self._read()
        return {
            key.decode(): {name.decode(): int(n) for name, n in zip(flat[::2], flat[1::2], strict=True)}
            for key, flat in reply
        }

    def _write(self, key: str, fields: Mapping[str, int]) -> None:
        rows: defaultdict[Account, Counter[str]] = defaultdict(Counter)
        for account, name, n in _counts(key, fields):
            rows[account][name] = n
        documents = [
            {
                "_id": f"{key} {account.site_id}",
                "carry": key,
                "site_id": account.site_id,
                "day": account.day.isoformat(),
                "counts": dict(counts),
            }
            for account, counts in rows.items()
        ]
        with trouble_with("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
            self._carried.bulk_write([ReplaceOne({"_id": x["_id"]}, x, upsert=True) for x in documents])


def _counts(key: str, fields: Mapping[str, int]) -> Iterator[tuple[Account, str, int]]:
    day = date.fromisoformat(key[len("footfall:books:") : len(DAY_KEY)])
    for field, n in fields.items():
        name, _, site_id = field.partition(" ")
        yield Account(site_id, day), name, n
