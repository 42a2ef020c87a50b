"""What MongoDB keeps, copied to where the collector reads it: a Redis hash for each kind, replaced as a whole or not at
all.

In: fields and texts, whatever they stand for. Out: what a field stands for, remembered for `REMEMBERED` seconds. The
copy may be lost at any time: beat has it published again each minute (tasks/sites.py).

Whoever publishes takes a ticket before reading MongoDB, and Redis takes the copy of the latest ticket only: whoever
came later has read later. So no copy replaces a newer one, and what is set is in the copy of whoever was last.

Wrong can go: Redis away, or nothing published where something must have been, is `Unavailable`.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from itertools import chain
from threading import Lock
from typing import Any, Generic, TypeVar

from cachetools import TTLCache
from redis import Redis
from redis.exceptions import RedisError

from analytics.unavailable import Unavailable, raising_unavailable

COPY_KEPT_FOR = 5.0  # seconds
MOST_COPIED = 10_000  # whoever asks makes up the names
_LONGEST = 300  # characters of a field; nothing that is published is longer
_MARK = ""  # the field that says what was published; there, even where that is nothing

# 1 where the copy is now this one. A copy that is there already is not written again: beat publishes each minute, and
# with appendfsync always every byte goes to the disk.
REPLACE = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
for first = 2, #ARGV, 500 do
  redis.call('HSET', KEYS[1], unpack(ARGV, first, math.min(first + 499, #ARGV)))
end
return 1
"""

T = TypeVar("T")


class NeverPublished(Exception):
    """Redis answers, and knows of no copy."""


class Published(Generic[T]):
    """`name`: the hash's key. `read`: what a field's text stands for. `required`: whether it is our trouble where
    nothing was ever published; else there is nothing of that name. `clock`: seconds that only go up.
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
        self._replace = redis.register_script(REPLACE)
        self._lock = Lock()
        self._remembered: TTLCache[str, T | None] = TTLCache(MOST_COPIED, COPY_KEPT_FOR, clock)

    def get(self, field: str) -> T | None:
        """Raises Unavailable."""
        if len(field) > _LONGEST:
            return None
        with self._lock:
            if field in self._remembered:
                return self._remembered[field]
        with raising_unavailable("redis", RedisError):
            mark, text = self._redis.hmget(self._key, [_MARK, field.encode(errors="surrogatepass")])
        if mark is None and self._required:
            raise Unavailable("redis", NeverPublished(f"{self._key} is not published yet"))
        found = None if text is None else self._read(json.loads(text))
        with self._lock:
            self._remembered[field] = found
        return found

    def publish(self, collect: Callable[[], Mapping[str, object]]) -> bool:
        """What `collect` reads from MongoDB; False where it was there already, or somebody later publishes later.

        Raises Unavailable, and what `collect` raises.
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
            flat = chain([_MARK, mark], *fields.items())
            return bool(self._replace(keys=[self._key, self._tickets], args=[ticket, *flat]))
