"""Copies data from MongoDB to where the collector reads it: one Redis hash for each kind of data, which is replaced
completely or not at all.

The copy maps fields to JSON values. A process remembers the value of a field for `COPY_KEPT_FOR` seconds. The copy may
be lost at any time: beat publishes it again each minute (tasks/sites.py).

A process takes a ticket before it reads MongoDB, and Redis accepts only the copy with the latest ticket. A later ticket
means a later read, so no copy replaces a newer one, and each change is in the copy of the last publisher.

Callers must handle Unavailable, raised if Redis is not reachable, or if required data were never published.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, Generic, TypeVar

import structlog
from redis import Redis
from redis.exceptions import RedisError

from analytics.timed_cache import TimedCache
from analytics.unavailable import Unavailable, raising_unavailable

log = structlog.get_logger()

COPY_KEPT_FOR = 5.0  # seconds
MOST_COPIED = 10_000  # names come from callers, so their number must be limited
_LONGEST = 300  # characters of a field; no published field is longer
_MARK = ""  # the field that identifies the published data; it exists even if no data are published

# Returns 1 if the copy was changed. ARGV: the ticket, the mark of the copy that was read, or '' if there was none; the
# number of fields that are gone; these fields; and the fields to set, with their values. Only changed fields are
# written: with appendfsync always, every byte goes to the disk, and Redis serves no client while a script runs.
CHANGE = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
if (redis.call('HGET', KEYS[1], '') or '') ~= ARGV[2] then return 0 end
local gone = 3 + tonumber(ARGV[3])
for first = 4, gone, 500 do
  redis.call('HDEL', KEYS[1], unpack(ARGV, first, math.min(first + 499, gone)))
end
for first = gone + 1, #ARGV, 500 do
  redis.call('HSET', KEYS[1], unpack(ARGV, first, math.min(first + 499, #ARGV)))
end
return 1
"""

T = TypeVar("T")


class NeverPublished(Exception):
    """Redis answers, but has no copy."""


class Published(Generic[T]):
    """A published copy. `name` is the key of the hash. `read` converts a field's JSON value. `required`: it is an error
    if nothing was ever published. Otherwise, fields then have no value. `clock` returns seconds and must be monotonic.
    """

    def __init__(
        self,
        redis: Redis,
        name: str,
        read: Callable[[Any], T],
        *,
        required: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._key, self._tickets = name, f"{name}:tickets"
        self._read = read
        self._required = required
        self._change = redis.register_script(CHANGE)
        self._remembered: TimedCache[str, T | None] = TimedCache(MOST_COPIED, COPY_KEPT_FOR, clock)

    def get(self, field: str) -> T | None:
        """Return the value of a field, or None. Raises Unavailable."""
        return None if len(field) > _LONGEST else self._remembered.get(field, lambda: self._get(field))

    def _get(self, field: str) -> T | None:
        with raising_unavailable("redis", RedisError):
            mark, text = self._redis.hmget(self._key, [_MARK, field.encode(errors="surrogatepass")])
        if mark is None and self._required:
            raise Unavailable("redis", NeverPublished(f"{self._key} is not published yet"))
        return None if text is None else self._read(json.loads(text))

    def publish(self, collect: Callable[[], Mapping[str, object]]) -> bool:
        """Publish what `collect` reads from MongoDB. Returns False if it was already published, or if a later process
        publishes.

        Raises Unavailable, and the exceptions of `collect`.
        """
        with raising_unavailable("redis", RedisError):
            ticket: Any = self._redis.incr(self._tickets)
        fields = {name: json.dumps(value, separators=(",", ":")) for name, value in collect().items()}
        digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
        mark = f"{len(fields)} {digest}"
        with raising_unavailable("redis", RedisError):
            line = self._redis.pipeline(transaction=False)
            line.hget(self._key, _MARK)
            line.hlen(self._key)
            there, length = line.execute()
            if (there or b"").decode() == mark and length == len(fields) + 1:
                return False
            # No other copy is written meanwhile, unless it has a later ticket.
            old = dict(self._redis.hscan_iter(self._key, count=1000))
            now = {name.encode(): text.encode() for name, text in {_MARK: mark, **fields}.items()}
            gone = [name for name in old if name not in now]
            new = ((name, text) for name, text in now.items() if old.get(name) != text)
            flat = chain(gone, *new)
            return bool(self._change(keys=[self._key, self._tickets], args=[ticket, there or "", len(gone), *flat]))

    def publish_change(self, collect: Callable[[], Mapping[str, object]], failed: str) -> None:
        """Publish after a change. If a store is not reachable, `failed` is logged, and beat publishes within a minute
        of the store's return. Raises the exceptions of `collect` other than Unavailable.
        """
        try:
            self.publish(collect)
        except Unavailable as error:
            log.warning(failed, error=str(error))
