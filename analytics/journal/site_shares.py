"""Limits how much of the journal each site may hold, so that one site cannot fill it and block all others.

A site may hold SHARE times as much as is free, in bytes and in events. A single active site gets 8/9 of the room. When
other sites send events, less is free, so each site may hold less. The first site is refused until workers have stored
some of its events. Sites that hold much never take all of the free room. Source: the dynamic thresholds of Choudhury
and Hahne, 1998.

The scripts that append, replay and settle (analytics/journal/journal.py) count in Redis what a site holds. They count
in the same step, so the count is right across processes, deaths and redelivery. Entries written before these counts
existed make the count too low until they are settled.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from cachetools import FIFOCache
from redis import Redis

HELD = "footfall:journal:held"  # a hash: `bytes <site>` and `events <site>` -> how much
SHARE = 8
MOST_SHARES = 10_000  # sites
ASKED_EVERY = 0.25  # seconds

# Returns what the site holds now. A count of 0 is deleted and takes no memory.
HOLD = """
local function hold(key, account, bytes, events)
  local site, held = string.sub(account, 12), {}
  for n, change in ipairs({bytes, events}) do
    local field = ({'bytes ', 'events '})[n] .. site
    held[n] = redis.call('HINCRBY', key, field, change)
    if held[n] <= 0 then redis.call('HDEL', key, field) end
  end
  return site, held[1], held[2]
end
"""


@dataclass(frozen=True, slots=True)
class Room:
    """The free room in the journal. `bytes` is None if Redis has no limit."""

    bytes: float | None
    events: int

    def less(self, size: int, events: int) -> "Room":
        return Room(None if self.bytes is None else self.bytes - size, self.events - events)

    def is_short_for(self, held: "Held") -> bool:
        return held.events > SHARE * self.events or (self.bytes is not None and held.bytes > SHARE * self.bytes)


@dataclass(frozen=True, slots=True)
class Held:
    """What a site holds. `at` is when it was read, by the monotonic clock."""

    bytes: int
    events: int
    at: float


class Shares:
    """What this process knows about at most `most` sites: from each of its own appends, and from a query if a site
    held too much.
    """

    def __init__(self, redis: Redis, most: int = MOST_SHARES) -> None:
        self._redis = redis
        self._known: FIFOCache[str, Held] = FIFOCache(most)
        self._lock = Lock()  # for changes

    def note(self, reply: Sequence[Any]) -> None:
        """Note an append's reply: the site, bytes and events of each site."""
        now = time.monotonic()
        with self._lock:
            for site_id, size, events in zip(*[iter(reply)] * 3, strict=True):
                self._known[site_id.decode()] = Held(size, events, now)

    def over(self, site_ids: Iterable[str], room: Room) -> list[str]:
        """Return those of these sites that held too much when this process last read their counts."""
        return [x for x in site_ids if (held := self._noted(x)) and room.is_short_for(held)]

    def is_over(self, site_id: str, room: Room) -> bool:
        """Whether the site holds too much. It reads the counts again if they are older than ASKED_EVERY. Raises
        RedisError.
        """
        held = self._noted(site_id)
        if held is None or time.monotonic() - held.at > ASKED_EVERY:
            held = self.read(site_id)
        return room.is_short_for(held)

    def read(self, site_id: str) -> Held:
        """Read what the site holds. Raises RedisError."""
        fields = [f"{name} {site_id}".encode() for name in ("bytes", "events")]
        size, events = (int(n or 0) for n in self._redis.hmget(HELD, fields))
        held = Held(size, events, time.monotonic())
        with self._lock:
            self._known[site_id] = held
        return held

    def _noted(self, site_id: str) -> Held | None:
        try:
            return self._known[site_id]  # `get` looks twice, and another thread may change the cache between
        except KeyError:
            return None

    def events_by_site(self) -> dict[str, int]:
        """Read how many events each site holds. Raises RedisError."""
        found = ((field.decode(), int(n)) for field, n in self._redis.hscan_iter(HELD, "events *", count=1000))
        return {field.removeprefix("events "): n for field, n in found}
