"""The books: of every site and day, how many events came in and what became of each.

Every entry of the journal is counted twice, once where it goes in (`accepted`) and once where it goes out (`stored`,
`duplicate`, `dead` or `dropped-later`), each time in the very Lua script that appends or settles it: Redis does both or
neither, whatever dies. A rejected event is counted like an accepted one, before the client gets its 400; so is one that
the collector drops (`dropped`), which never is in the journal. So by site and day,

    received = accepted + rejected + dropped
    accepted = stored + duplicate + dead + dropped-later + waiting

The first is how `received` is derived; the second is checked by analytics/journal/audit.py, against the stores
themselves.

Today's and yesterday's counts are in Redis; those of closed days are carried to MongoDB, so that Redis's memory stays
free for what waits. Wrong can go: a store that is away is `Unavailable`.
"""

import re
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pymongo
from pymongo import ReplaceOne
from pymongo.database import Database
from pymongo.errors import PyMongoError
from redis import Redis
from redis.exceptions import RedisError

from analytics.events.account import Account
from analytics.mongodb import WRITE_LIMIT
from analytics.unavailable import raising_unavailable

_OPEN, _CLOSED = "footfall:books:", "footfall:closed-books:"
LAST_RECEIVED = "footfall:last-received"  # by site, the Unix time in milliseconds of its last accepted event
MOST_SITES_RECEIVED = 100_000  # of them; in development, anybody's word makes a site
_MOST_FIELDS = 10_000  # of a day's hash: a larger one is carried before its day is over
GLOB = re.compile(r"[*?\[\]\\^-]")  # what has a meaning in a pattern of Redis's
REPLICA_WAIT = 400  # milliseconds for replicas to confirm: half of Redis's own time-out of 0.8 s

# A hash for each day, `<name> <site>` -> count, and a set of the names of those hashes.
COUNT_LUA = """
local function count(account, name, n)
  local day = 'footfall:books:' .. string.sub(account, 1, 10)
  redis.call('HINCRBY', day, name .. ' ' .. string.sub(account, 12), n)
  redis.call('SADD', 'footfall:books', day)
end
"""
RECEIVED = f"""
local function received(account, entry)
  local site = string.sub(account, 12)
  local key = '{LAST_RECEIVED}'
  if redis.call('HLEN', key) < {MOST_SITES_RECEIVED} or redis.call('HEXISTS', key, site) == 1 then
    redis.call('HSET', key, site, string.match(entry, '^%d+'))
  end
end
"""
# What is counted from now on goes to a new hash of that day, so a closed one does not change any more.
CLOSE = """
if redis.call('SREM', 'footfall:books', KEYS[1]) == 1 then
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('SADD', 'footfall:books', KEYS[2])
end
"""
FORGET = "redis.call('DEL', KEYS[1]) redis.call('SREM', 'footfall:books', KEYS[1])"


class Ledger:
    """`replicas`: how many of Redis's must know that a hash is closed before it is carried."""

    def __init__(self, redis: Redis, database: Database[dict[str, Any]], replicas: int = 0) -> None:
        self._redis = redis
        self._carried = database["books"]
        self._replicas = replicas
        self._close_hash = redis.register_script(CLOSE)
        self._forget = redis.register_script(FORGET)

    def read(self) -> dict[Account, Counter[str]]:
        """All counts, by account and name. Raises Unavailable.

        Hash by hash, so that Redis goes on serving the collector: what is counted, closed or carried meanwhile may be
        in or not. Two reads that agree are right.
        """
        counts: defaultdict[Account, Counter[str]] = defaultdict(Counter)
        keys = self._keys()
        for key in keys:
            for account, name, n in self._counts(key):
                counts[account][name] += n
        with raising_unavailable("mongodb", PyMongoError):
            # What is carried just now is in both; Redis was asked first.
            for row in self._carried.find({"carry": {"$nin": keys}}):
                counts[Account(row["site_id"], date.fromisoformat(row["day"]))].update(row["counts"])
        return dict(counts)

    def of_site(self, site_id: str, first: date, last: date) -> dict[date, Counter[str]]:
        """One site's counts by day and name, of the days from `first` to `last`. Reads up to MOST_FIELDS counts of each
        day that is in Redis, and a few documents of each other day. Raises Unavailable.
        """
        counts: defaultdict[date, Counter[str]] = defaultdict(Counter)
        keys = self._keys()
        for key in keys:
            if first <= _day(key) <= last:
                for account, name, n in self._counts(key, f"* {GLOB.sub(_escaped, site_id)}"):
                    if account.site_id == site_id:
                        counts[account.day][name] += n
        days = {"$gte": first.isoformat(), "$lte": last.isoformat()}
        with raising_unavailable("mongodb", PyMongoError):
            for row in self._carried.find({"site_id": site_id, "day": days, "carry": {"$nin": keys}}):
                counts[date.fromisoformat(row["day"])].update(row["counts"])
        return dict(counts)

    def last_received(self, site_id: str) -> datetime | None:
        """When ingestion last accepted an event of this site. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            at: Any = self._redis.hget(LAST_RECEIVED, site_id)
        return datetime.fromtimestamp(int(at) / 1000, UTC) if at else None

    def carry(self, before: date) -> int:
        """Move the days before this one to MongoDB, and what is large; how many hashes. Raises Unavailable.

        It may die anywhere and run any number of times at once: a closed hash never changes, is written under ids of
        its own, and goes only after MongoDB has it.
        """
        for key in self._keys():
            if key.startswith(_OPEN) and (_day(key) < before or self._is_large(key)):
                self._close(key)
        closed = self._closed()
        for key in closed:
            self._write(key)
            with raising_unavailable("redis", RedisError):
                self._forget(keys=[key])
        return len(closed)

    def _keys(self) -> list[str]:
        with raising_unavailable("redis", RedisError):
            keys: Any = self._redis.smembers("footfall:books")
        return sorted(key.decode() for key in keys)

    def _is_large(self, key: str) -> bool:
        with raising_unavailable("redis", RedisError):
            return bool(self._redis.hlen(key) > _MOST_FIELDS)

    def _close(self, key: str) -> None:
        with raising_unavailable("redis", RedisError):
            self._close_hash(keys=[key, f"{_CLOSED}{key.removeprefix(_OPEN)}:{uuid.uuid4().hex}"])

    def _closed(self) -> list[str]:
        """With replicas, only when they know: one that becomes master and does not would count them twice."""
        with raising_unavailable("redis", RedisError):
            line = self._redis.pipeline(transaction=False)
            line.smembers("footfall:books")
            line.wait(self._replicas, REPLICA_WAIT)
            keys, confirmed = line.execute()
            if confirmed < self._replicas:
                raise RedisError(f"{confirmed} of {self._replicas} replicas confirmed")
        return [key.decode() for key in keys if key.startswith(_CLOSED.encode())]

    def _counts(self, key: str, match: str | None = None) -> Iterator[tuple[Account, str, int]]:
        """`match`: the fields, as a pattern of Redis's."""
        day = _day(key)
        with raising_unavailable("redis", RedisError):
            for field, n in self._redis.hscan_iter(key, match, count=1000):
                name, _, site_id = field.decode().partition(" ")
                yield Account(site_id, day), name, int(n)

    def _write(self, key: str) -> None:
        rows: defaultdict[Account, Counter[str]] = defaultdict(Counter)
        for account, name, n in self._counts(key):
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
        with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
            self._carried.create_index([("site_id", 1), ("day", 1)], name="site_day")
        for first in range(0, len(documents), 1000):
            some = documents[first : first + 1000]
            with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
                self._carried.bulk_write([ReplaceOne({"_id": x["_id"]}, x, upsert=True) for x in some])


def _escaped(found: re.Match[str]) -> str:
    return f"\\{found[0]}"


def _day(key: str) -> date:
    return date.fromisoformat(key.removeprefix(_OPEN).removeprefix(_CLOSED)[:10])
