"""The journal: acknowledged events on their way to MongoDB, in one Redis stream.

In: events as bytes (analytics/event_schema.py). `append` returning is the promise behind a 200: under `appendfsync
always` Redis answers after the disk has it. Out: entries, each held by one consumer until it is settled.

A consumer is one task, by its id. A task that runs again, after a retry or after its process died, finds what it held
under its own name; what a vanished task held is taken over by whoever claims after `claim_idle` seconds.

Wrong can go: anything Redis says no to, or does not answer, is `Unavailable`. A timed-out append may still have been
applied; the same event appended again has the same id.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from redis import Redis
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from analytics.event import id_from_entry
from analytics.unavailable import Unavailable, trouble_with

log = structlog.get_logger()

JOURNAL_KEY = "footfall:journal"
GROUP = "workers"
FIELD = b"event"
FULL = 0.85  # of Redis's maxmemory: above it the door refuses, and workers drain what is there
ROOM_CHECK = 0.25  # seconds between two looks; what is admitted meanwhile is small against the rest of maxmemory

# How many wake-ups are owed: one for every batch waiting, less those that wait in Celery's queue.
OWED = "return math.ceil(redis.call('XLEN', KEYS[1]) / ARGV[1]) - redis.call('LLEN', KEYS[2])"
APPEND = "for i = 2, #ARGV do redis.call('XADD', KEYS[1], '*', 'event', ARGV[i]) end " + OWED

# Ack and delete together: MULTI is refused when Redis is full, these are not. Consumers that hold nothing go too, this
# one and those of vanished tasks; in the same call, so that nothing is handed to one in between (deleting a consumer
# forgets what it holds).
SETTLE = """
for i = 2, #ARGV, 500 do
  local ids = {unpack(ARGV, i, math.min(i + 499, #ARGV))}
  redis.call('XACK', KEYS[1], ARGV[1], unpack(ids))
  redis.call('XDEL', KEYS[1], unpack(ids))
end
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  if consumer[4] == 0 then redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer[2]) end
end
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the journal. `raw` is an event's bytes, or whatever else somebody put there."""

    entry_id: str
    raw: bytes

    @property
    def event_id(self) -> UUID:
        """The id of an event that brings none: the same at every delivery."""
        return id_from_entry(JOURNAL_KEY, self.entry_id)

    @property
    def written_at(self) -> datetime | None:
        """When Redis took it, by Redis's clock. None where whoever wrote it chose an id that is no time."""
        try:
            return datetime.fromtimestamp(int(self.entry_id.split("-")[0]) / 1000, UTC)
        except (ValueError, OverflowError, OSError):
            return None


@dataclass(frozen=True, slots=True)
class Delivery:
    """An entry that was handed out and not settled.

    `deaths`: how many of its deliveries ended without a word, that is with the death of the process that had it.
    `not_before_ms`: for how long its holder must have been silent for it to be taken over.
    """

    entry_id: str
    deaths: int
    not_before_ms: int


class Journal:
    """`batch`: the most entries one claim takes; `queue`: the Redis key of Celery's queue of wake-ups.

    `retry_pause`: after a failure every append within so many seconds fails at once, so that requests do not queue up
    behind a Redis that accepts and does not answer.
    """

    def __init__(self, redis: Redis, *, queue: str, batch: int, claim_idle: float, retry_pause: float = 0.5) -> None:
        self._redis = redis
        self._queue = queue
        self._batch = batch
        self._claim_idle_ms = int(claim_idle * 1000)
        self._retry_pause = retry_pause
        self._away_until = 0.0
        self._room_until = 0.0
        self._handed_back = False
        self._append = redis.register_script(APPEND)
        self._owed = redis.register_script(OWED)
        self._settle = redis.register_script(SETTLE)

    def append(self, events: Sequence[bytes]) -> int:
        """Durable when it returns. Returns how many wake-ups are owed. Raises Unavailable."""
        if time.monotonic() < self._away_until:
            raise Unavailable("redis", ConnectionError("no answer a moment ago"))
        try:
            self._look_for_room()
            owed = self._append(keys=[JOURNAL_KEY, self._queue], args=[self._batch, *events])
        except RedisError as error:
            if time.monotonic() > self._away_until:  # one line for all threads that found out together
                log.warning("journal_unavailable", error=f"{type(error).__name__}: {error}")
            self._away_until = time.monotonic() + self._retry_pause
            raise Unavailable("redis", error) from error
        return int(owed)

    def wake_ups_owed(self) -> int:
        """How many more tasks should be on their way, 0 or less for none. Raises Unavailable."""
        with trouble_with("redis", RedisError):
            return int(self._owed(keys=[JOURNAL_KEY, self._queue], args=[self._batch]))

    def held(self, consumer: str) -> list[Delivery]:
        """What this consumer claimed in an earlier run and did not settle. Raises Unavailable."""
        with trouble_with("redis", RedisError):
            try:
                return self._pending(consumer=consumer)
            except ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                self._make_group()
                return []

    def abandoned(self) -> list[Delivery]:
        """What consumers have held for so long that they must have vanished. Raises Unavailable."""
        with trouble_with("redis", RedisError):
            return self._pending(idle=self._claim_idle_ms)

    def claim(self, consumer: str) -> list[Entry]:
        """The new, a batch at most. Raises Unavailable."""
        with trouble_with("redis", RedisError):
            reply: Any = self._redis.xreadgroup(GROUP, consumer, {JOURNAL_KEY: ">"}, count=self._batch)
        return list(_entries(reply[0][1] if reply else []))

    def take(self, consumer: str, deliveries: Sequence[Delivery]) -> list[Entry]:
        """Deliver these again, to this consumer; those that meanwhile another took are not among them.

        Counts as one more delivery of each. Raises Unavailable.
        """
        ids: list[Any] = [delivery.entry_id for delivery in deliveries]
        idle = max((delivery.not_before_ms for delivery in deliveries), default=0)
        if not ids:
            return []
        with trouble_with("redis", RedisError):
            reply: Any = self._redis.xclaim(JOURNAL_KEY, GROUP, consumer, idle, ids)
        return list(_entries(reply))

    def hand_back(self, consumer: str, entries: Sequence[Entry]) -> None:
        """This delivery ended in good order: it does not count against its entries. Raises Unavailable."""
        if entries:
            self._handed_back = True
            ids: list[Any] = [entry.entry_id for entry in entries]
            with trouble_with("redis", RedisError):
                self._redis.xclaim(JOURNAL_KEY, GROUP, consumer, 0, ids, retrycount=0, justid=True)

    def somebody_retries(self) -> bool:
        """Whether events wait that were handed back, so that claiming more would only make more of them wait.

        Asks Redis only in a process that itself handed some back. Raises Unavailable.
        """
        if self._handed_back:
            with trouble_with("redis", RedisError):
                self._handed_back = any(delivery.deaths == 0 for delivery in self._pending())
        return self._handed_back

    def settle_deleted(self, deliveries: Sequence[Delivery]) -> None:
        """Forget those that somebody deleted by hand: they can never be taken. What is still there, and perhaps with
        another task, is left alone. Raises Unavailable.
        """
        with trouble_with("redis", RedisError):
            for delivery in deliveries:
                if not self._redis.xrange(JOURNAL_KEY, delivery.entry_id, delivery.entry_id):
                    self._redis.xack(JOURNAL_KEY, GROUP, delivery.entry_id)

    def settle(self, entries: Iterable[Entry]) -> None:
        """Done with these: acked and deleted. Call it after MongoDB has them. Raises Unavailable."""
        ids = [entry.entry_id for entry in entries]
        with trouble_with("redis", RedisError):
            self._settle(keys=[JOURNAL_KEY], args=[GROUP, *ids])

    def waiting(self) -> int:
        """Entries not yet settled, held ones included. Raises Unavailable."""
        with trouble_with("redis", RedisError):
            return int(self._redis.xlen(JOURNAL_KEY))

    def check(self) -> None:
        """Raises Unavailable where Redis does not answer."""
        with trouble_with("redis", RedisError):
            self._redis.ping()

    def _look_for_room(self) -> None:
        """Refuses before Redis does: a Celery worker needs room in Redis too, to take and to ack its tasks."""
        if time.monotonic() > self._room_until:
            memory: Any = self._redis.info("memory")
            if memory["maxmemory"] and memory["used_memory"] > memory["maxmemory"] * FULL:
                raise OutOfMemoryError(f"above {FULL:.0%} of its maxmemory")
            self._room_until = time.monotonic() + ROOM_CHECK

    def _pending(self, *, consumer: str | None = None, idle: int | None = None) -> list[Delivery]:
        rows: Any = self._redis.xpending_range(JOURNAL_KEY, GROUP, "-", "+", self._batch, consumer, idle)
        return [Delivery(row["message_id"].decode(), row["times_delivered"], idle or 0) for row in rows]

    def _make_group(self) -> None:
        try:
            self._redis.xgroup_create(JOURNAL_KEY, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):  # another worker was first
                raise


def _entries(pairs: Iterable[tuple[bytes | None, dict[bytes, bytes] | None]]) -> Iterable[Entry]:
    for entry_id, fields in pairs:
        if entry_id and fields:  # else somebody deleted it by hand while it was held
            # What is not ours has other fields; the dead letter shows them.
            yield Entry(entry_id.decode(), fields[FIELD] if FIELD in fields else repr(fields).encode())
