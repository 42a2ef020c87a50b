"""The ledger: for every site and day, how many events were received and what happened to each.

Every entry of the journal is counted twice: when it is appended (`accepted`) and when it is settled (`stored`,
`duplicate`, `dead` or `dropped-later`). The Lua script that appends or settles the entry also counts it, so Redis does
both or neither, even if a process dies. A rejected event is counted before the client gets its 400. An event that the
collector drops (`dropped`) is counted in the same way and never enters the journal. By site and day:

    received = accepted + rejected + dropped
    accepted = stored + duplicate + dead + dropped-later + waiting

The first equation defines `received`. analytics/journal/audit.py checks the second against the stores.

The counts of today and yesterday are in Redis, each in the Redis of its entry's journal. The counts of closed days are
moved to MongoDB, so that Redis's memory stays free for waiting events. Callers must handle Unavailable, raised if a
store is not reachable.
"""

import re
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from analytics.unavailable import Unavailable, raising_unavailable

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
_KEEP_LATEST = """
if tonumber(ARGV[2]) > tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
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
    """The ledger in Redis and MongoDB. Each journal's Redis holds the counts of its entries: `others` are the further
    ones. `replicas` is how many Redis replicas must know that a hash is closed before it is moved.
    """

    def __init__(
        self, redis: Redis, database: Database[dict[str, Any]], replicas: int = 0, others: Sequence[Redis] = ()
    ) -> None:
        self._servers = [_Hashes(each, replicas) for each in (redis, *others)]
        self._database = database
        self._carried = database["books"]

    def read(self) -> dict[Account, Counter[str]]:
        """Return all counts by account and name. Raises Unavailable.

        It reads hash by hash, so that Redis can serve the collector in between. Counts that are added, closed or moved
        during the read may be included or missing. Two reads with the same result are correct.
        """
        return self._sum(None, {}, lambda _day: True)

    def of_site(self, site_id: str, first: date, last: date) -> dict[date, Counter[str]]:
        """Return one site's counts by day and name, for the days from `first` to `last`. It reads up to _MOST_FIELDS
        counts for each day in Redis, and a few documents for each other day. Raises Unavailable.
        """
        found = self._between(first, last, f"* {GLOB.sub(_escaped, site_id)}", {"site_id": site_id})
        return {account.day: counts for account, counts in found.items() if account.site_id == site_id}

    def of_days(self, first: date, last: date) -> dict[Account, Counter[str]]:
        """Return the counts of all sites, for the days from `first` to `last`. Raises Unavailable."""
        return self._between(first, last, None, {})

    def last_received(self, site_id: str) -> datetime | None:
        """Return when ingestion last accepted an event of this site. Raises Unavailable."""
        return max(filter(None, (server.last_received(site_id) for server in self._servers)), default=None)

    def carry(self, before: date) -> int:
        """Move the days before `before`, and large hashes, to MongoDB, and return the number of hashes. Raises
        Unavailable, after it has done so for each Redis that is reachable.

        It may die at any point and run several times at once: a closed hash never changes, is written under ids of its
        own, and is deleted only after MongoDB holds it.
        """
        carried, failure = 0, None
        for server in self._servers:
            try:
                carried += self._carry(server, before)
            except Unavailable as error:
                failure = error
        if failure:
            raise failure
        return carried

    def _between(
        self, first: date, last: date, match: str | None, which: dict[str, Any]
    ) -> dict[Account, Counter[str]]:
        """`match` selects the fields in Redis, and `which` the documents in MongoDB."""
        days = {"day": {"$gte": first.isoformat(), "$lte": last.isoformat()}}
        return self._sum(match, which | days, lambda day: first <= day <= last)

    def _sum(
        self, match: str | None, which: dict[str, Any], is_chosen: Callable[[date], bool]
    ) -> dict[Account, Counter[str]]:
        counts: defaultdict[Account, Counter[str]] = defaultdict(Counter)
        keys = []
        for server in self._servers:
            for key in server.names():
                keys.append(key)
                if is_chosen(_day(key)):
                    for account, name, n in server.counts(key, match):
                        counts[account][name] += n
        # A hash that is being moved is in both stores. Redis was read first, so skip its copy in MongoDB.
        with reading(self._database):
            for row in self._carried.find(which | {"carry": {"$nin": keys}}):
                counts[Account(row["site_id"], date.fromisoformat(row["day"]))].update(row["counts"])
        return dict(counts)

    def _carry(self, server: "_Hashes", before: date) -> int:
        for key in server.names():
            if key.startswith(_OPEN) and (_day(key) < before or server.is_large(key)):
                server.close(key)
        closed = server.closed()
        for key in closed:
            self._write(key, server.counts(key))
            server.forget(key)
        return len(closed)

    def _write(self, key: str, found: Iterable[tuple[Account, str, int]]) -> None:
        rows: defaultdict[Account, Counter[str]] = defaultdict(Counter)
        for account, name, n in found:
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


def move_last_received(source: Redis, target: Redis) -> None:
    """Move the times of the sites' last events, where `target` has none that is later. Raises Unavailable."""
    keep = target.register_script(_KEEP_LATEST)
    with raising_unavailable("redis", RedisError):
        for site_id, at in source.hscan_iter(LAST_RECEIVED, count=1000):
            keep(keys=[LAST_RECEIVED], args=[site_id, at])
        source.delete(LAST_RECEIVED)


class _Hashes:
    """The counts in one Redis: a hash for each day, and closed hashes. All methods raise Unavailable."""

    def __init__(self, redis: Redis, replicas: int) -> None:
        self._redis = redis
        self._replicas = replicas
        self._close_hash = redis.register_script(CLOSE)
        self._forget = redis.register_script(FORGET)

    def names(self) -> list[str]:
        with raising_unavailable("redis", RedisError):
            keys: Any = self._redis.smembers(LEDGER_KEYS)
        return sorted(key.decode() for key in keys)

    def last_received(self, site_id: str) -> datetime | None:
        with raising_unavailable("redis", RedisError):
            at: Any = self._redis.hget(LAST_RECEIVED, site_id)
        return datetime.fromtimestamp(int(at) / 1000, UTC) if at else None

    def is_large(self, key: str) -> bool:
        with raising_unavailable("redis", RedisError):
            return bool(self._redis.hlen(key) > _MOST_FIELDS)

    def close(self, key: str) -> None:
        with raising_unavailable("redis", RedisError):
            self._close_hash(keys=[key, f"{_CLOSED}{key.removeprefix(_OPEN)}:{uuid.uuid4().hex}"])

    def closed(self) -> list[str]:
        """The closed hashes, once the replicas know of them: a replica that becomes master without knowing would count
        them twice.
        """
        with raising_unavailable("redis", RedisError):
            line = self._redis.pipeline(transaction=False)
            line.smembers(LEDGER_KEYS)
            (keys,) = execute_confirmed(line, self._replicas)
        return [key.decode() for key in keys if key.startswith(_CLOSED.encode())]

    def counts(self, key: str, match: str | None = None) -> Iterator[tuple[Account, str, int]]:
        """`match` selects the fields, as a Redis pattern."""
        day = _day(key)
        with raising_unavailable("redis", RedisError):
            for field, n in self._redis.hscan_iter(key, match, count=1000):
                name, _, site_id = field.decode().partition(" ")
                yield Account(site_id, day), name, int(n)

    def forget(self, key: str) -> None:
        with raising_unavailable("redis", RedisError):
            self._forget(keys=[key])


def _escaped(found: re.Match[str]) -> str:
    return f"\\{found[0]}"


def _day(key: str) -> date:
    return date.fromisoformat(key.removeprefix(_OPEN).removeprefix(_CLOSED)[:10])
