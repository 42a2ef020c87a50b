"""The ledger: for every site and day, how many events were received and what happened to each.

Every entry of the journal is counted twice: when it is appended (`accepted`) and when it is settled (`stored`,
`duplicate`, `dead` or `dropped-later`). The Lua script that appends or settles the entry also counts it, so Redis does
both or neither, even if a process dies. A rejected event is counted before the client gets its 400. An event that the
collector drops (`dropped`) is counted in the same way and never enters the journal. By site and day:

    received = accepted + rejected + dropped
    accepted = stored + duplicate + dead + dropped-later + waiting

The first equation defines `received`. analytics/journal/audit.py checks the second against the stores.

The counts of today and yesterday are in Redis. The counts of closed days are moved to MongoDB, so that Redis's memory
stays free for waiting events. Callers must handle Unavailable, raised if a store is not reachable.
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

from analytics.batched import batched
from analytics.events.account import Account
from analytics.mongodb import WRITE_LIMIT, reading
from analytics.redis import execute_confirmed
from analytics.unavailable import raising_unavailable

_OPEN, _CLOSED = "footfall:books:", "footfall:closed-books:"
LEDGER_KEYS = "footfall:books"  # a set: the keys of the hashes
CLOSINGS = "footfall:ledger-closings"  # how many hashes were closed, so that a backup knows if one was in the meantime
LAST_RECEIVED = "footfall:last-received"  # by site, the Unix time in milliseconds of its last accepted event
MOST_SITES_RECEIVED = 100_000  # of these times; in development, any client can create a site
_MOST_FIELDS = 10_000  # of a day's hash; a larger hash is moved before its day is over
GLOB = re.compile(r"[*?\[\]\\^-]")  # characters with a meaning in a Redis pattern

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
# Later counts go to a new hash of that day, so a closed hash never changes.
CLOSE = f"""
if redis.call('SREM', 'footfall:books', KEYS[1]) == 1 then
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('SADD', 'footfall:books', KEYS[2])
  redis.call('INCR', '{CLOSINGS}')
end
"""
FORGET = "redis.call('DEL', KEYS[1]) redis.call('SREM', 'footfall:books', KEYS[1])"


def stored_by_day(database: Database[dict[str, Any]], first: date, last: date) -> list[int]:
    """Return how many events were stored on each day of the ledger in MongoDB, of the days with events. It has the days
    that are over. Raises Unavailable.
    """
    days = {"$gte": first.isoformat(), "$lte": last.isoformat()}
    each = {"_id": "$day", "stored": {"$sum": "$counts.stored"}}
    with raising_unavailable("mongodb", PyMongoError):
        rows = database["books"].aggregate([{"$match": {"day": days}}, {"$group": each}])
        return [row["stored"] for row in rows]


class Ledger:
    """The ledger in Redis and MongoDB. `replicas` is how many Redis replicas must know that a hash is closed before it
    is moved.
    """

    def __init__(self, redis: Redis, database: Database[dict[str, Any]], replicas: int = 0) -> None:
        self._redis = redis
        self._database = database
        self._carried = database["books"]
        self._replicas = replicas
        self._close_hash = redis.register_script(CLOSE)
        self._forget = redis.register_script(FORGET)

    def read(self) -> dict[Account, Counter[str]]:
        """Return all counts by account and name. Raises Unavailable.

        It reads hash by hash, so that Redis can serve the collector in between. Counts that are added, closed or moved
        during the read may be included or missing. Two reads with the same result are correct.
        """
        counts: defaultdict[Account, Counter[str]] = defaultdict(Counter)
        keys = self._keys()
        for key in keys:
            for account, name, n in self._counts(key):
                counts[account][name] += n
        with raising_unavailable("mongodb", PyMongoError):
            # A hash that is being moved is in both stores. Redis was read first, so skip its copy in MongoDB.
            for row in self._carried.find({"carry": {"$nin": keys}}):
                counts[Account(row["site_id"], date.fromisoformat(row["day"]))].update(row["counts"])
        return dict(counts)

    def of_site(self, site_id: str, first: date, last: date) -> dict[date, Counter[str]]:
        """Return one site's counts by day and name, for the days from `first` to `last`. It reads up to _MOST_FIELDS
        counts for each day in Redis, and a few documents for each other day. Raises Unavailable.
        """
        found = self._between(first, last, f"* {GLOB.sub(_escaped, site_id)}", {"site_id": site_id})
        return {account.day: counts for account, counts in found.items() if account.site_id == site_id}

    def of_days(self, first: date, last: date) -> dict[Account, Counter[str]]:
        """Return the counts of all sites, for the days from `first` to `last`. Raises Unavailable."""
        return self._between(first, last, None, {})

    def _between(
        self, first: date, last: date, match: str | None, which: dict[str, Any]
    ) -> dict[Account, Counter[str]]:
        """`match` selects the fields in Redis, and `which` the documents in MongoDB."""
        counts: defaultdict[Account, Counter[str]] = defaultdict(Counter)
        keys = self._keys()
        for key in keys:
            if first <= _day(key) <= last:
                for account, name, n in self._counts(key, match):
                    counts[account][name] += n
        days = {"day": {"$gte": first.isoformat(), "$lte": last.isoformat()}, "carry": {"$nin": keys}}
        with reading(self._database):
            for row in self._carried.find(which | days):
                counts[Account(row["site_id"], date.fromisoformat(row["day"]))].update(row["counts"])
        return dict(counts)

    def last_received(self, site_id: str) -> datetime | None:
        """Return when ingestion last accepted an event of this site. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            at: Any = self._redis.hget(LAST_RECEIVED, site_id)
        return datetime.fromtimestamp(int(at) / 1000, UTC) if at else None

    def carry(self, before: date) -> int:
        """Move the days before `before`, and large hashes, to MongoDB, and return the number of hashes. Raises
        Unavailable.

        It may die at any point and run several times at once: a closed hash never changes, is written under ids of its
        own, and is deleted only after MongoDB holds it.
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
            keys: Any = self._redis.smembers(LEDGER_KEYS)
        return sorted(key.decode() for key in keys)

    def _is_large(self, key: str) -> bool:
        with raising_unavailable("redis", RedisError):
            return bool(self._redis.hlen(key) > _MOST_FIELDS)

    def _close(self, key: str) -> None:
        with raising_unavailable("redis", RedisError):
            self._close_hash(keys=[key, f"{_CLOSED}{key.removeprefix(_OPEN)}:{uuid.uuid4().hex}"])

    def _closed(self) -> list[str]:
        """The closed hashes, once the replicas know of them: a replica that becomes master without knowing would count
        them twice.
        """
        with raising_unavailable("redis", RedisError):
            line = self._redis.pipeline(transaction=False)
            line.smembers(LEDGER_KEYS)
            (keys,) = execute_confirmed(line, self._replicas)
        return [key.decode() for key in keys if key.startswith(_CLOSED.encode())]

    def _counts(self, key: str, match: str | None = None) -> Iterator[tuple[Account, str, int]]:
        """`match` selects the fields, as a Redis pattern."""
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
            self._carried.create_index([("day", 1)], name="day")
        for some in batched(documents, 1000):
            with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
                self._carried.bulk_write([ReplaceOne({"_id": x["_id"]}, x, upsert=True) for x in some])


def _escaped(found: re.Match[str]) -> str:
    return f"\\{found[0]}"


def _day(key: str) -> date:
    return date.fromisoformat(key.removeprefix(_OPEN).removeprefix(_CLOSED)[:10])
