"""The journal: acknowledged events on their way to MongoDB, in one Redis stream.

In: events as bytes (analytics/events/schema.py). `append` returning is the promise behind a 200: under `appendfsync
always` Redis answers after the disk has it. Out: entries, each held by one consumer until it is settled.

Both scripts that move entries keep the books in the same step (analytics/journal/ledger.py).

A consumer is one task, by its id. A task that runs again, after a retry or after its process died, finds what it held
under its own name; what a vanished task held is taken over by whoever claims after `claim_idle` seconds.

Wrong can go: anything Redis says no to, or does not answer, is `Unavailable`. A timed-out append may still have been
applied; the same event appended again has the same id.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import structlog
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from analytics.events.account import ACCEPTED, Account
from analytics.events.event import Event, id_from_entry
from analytics.events.schema import dump_journal_event
from analytics.journal.ledger import COUNT_LUA, RECEIVED, REPLICA_WAIT
from analytics.journal.site_shares import HELD, HOLD, Room, Shares
from analytics.unavailable import Unavailable, raising_unavailable
from config.celery import EVENTS_QUEUE
from config.clients import make_redis
from config.settings import Settings

log = structlog.get_logger()

JOURNAL_KEY = "footfall:journal"
GROUP = "workers"
FIELD = b"event"
FULL = 0.85  # of Redis's maxmemory: above it the collector refuses, and workers drain what is there
NO_ROOM = 0.95  # of it: what a Celery worker needs may be refused from here on
REWRITE_LIMIT = 20.0  # seconds to wait for Redis to write its file anew
ROOM_CHECK = 0.25  # seconds between two looks; what is admitted meanwhile is small against the rest of maxmemory

# How many wake-ups are owed: one for every batch waiting, less those that wait in Celery's queue.
OWED = "return math.ceil(redis.call('XLEN', KEYS[1]) / ARGV[1]) - redis.call('LLEN', KEYS[2])"
APPEND = (
    COUNT_LUA
    + RECEIVED
    + HOLD
    + """
local counts, entries, held = {}, {}, {}
for i = 2, #ARGV, 4 do
  local account, name, event, n = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
  if event ~= '' then
    entries[account] = redis.call('XADD', KEYS[1], '*', 'event', event, 'account', account)
    held[account] = held[account] or {0, 0}
    held[account] = {held[account][1] + #event, held[account][2] + 1}
  end
  counts[account] = counts[account] or {}
  counts[account][name] = (counts[account][name] or 0) + n
end
for account, names in pairs(counts) do
  for name, n in pairs(names) do count(account, name, n) end
end
for account, entry in pairs(entries) do received(account, entry) end
local reply = {math.ceil(redis.call('XLEN', KEYS[1]) / ARGV[1]) - redis.call('LLEN', KEYS[2])}
for account, more in pairs(held) do
  for _, value in ipairs({hold(KEYS[3], account, more[1], more[2])}) do table.insert(reply, value) end
end
return reply
"""
)
REPLAY = (
    COUNT_LUA
    + HOLD
    + """
redis.call('XADD', KEYS[1], '*', 'event', ARGV[2], 'account', ARGV[1], 'replay', ARGV[3])
count(ARGV[1], 'accepted', 1)
count(ARGV[1], 'replayed', 1)
hold(KEYS[2], ARGV[1], #ARGV[2], 1)
"""
)

# Ack and delete together: MULTI is refused when Redis is full, these are not, nor is the counting once they have begun.
# An entry that another task settled before is acked by nobody a second time, and so not counted. Consumers that hold
# nothing go too, this one and those of vanished tasks; in the same call, so that nothing is handed to one in between
# (deleting a consumer forgets what it holds).
SETTLE = (
    COUNT_LUA
    + HOLD
    + """
local i = 2
while i <= #ARGV do
  local account, outcome, uncounted, n = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
  local settled, bytes = 0, 0
  for j = i + 4, i + 3 + n do
    if redis.call('XACK', KEYS[1], ARGV[1], ARGV[j]) == 1 then settled, bytes = settled + 1, bytes + ARGV[j + n] end
  end
  for first = i + 4, i + 3 + n, 500 do
    redis.call('XDEL', KEYS[1], unpack(ARGV, first, math.min(first + 499, i + 3 + n)))
  end
  if settled > 0 then
    count(account, outcome, settled)
    if uncounted == '1' then count(account, 'accepted', settled) else hold(KEYS[2], account, -bytes, -settled) end
  end
  i = i + 4 + 2 * n
end
if redis.call('XLEN', KEYS[1]) == 0 then redis.call('DEL', KEYS[2]) end
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  if consumer[4] == 0 then redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer[2]) end
end
"""
)


def make_journal(settings: Settings, name: str | None = None) -> "Journal":
    """The journal that the settings say. `name`: as which this client shows in Redis's CLIENT LIST."""
    return Journal(
        make_redis(settings, name),
        queue=EVENTS_QUEUE,
        batch=settings.store_batch,
        claim_idle=settings.claim_idle,
        most_waiting=settings.most_waiting,
        replicas=settings.replicas,
    )


class Full(RedisError):
    """No room for more events: the workers have to drain some first."""


@dataclass(frozen=True, slots=True)
class Line:
    """What the collector has to write down: an event, or with none that so many were counted under this name."""

    account: Account
    name: str = ACCEPTED
    event: bytes = b""
    count: int = 1

    @classmethod
    def of(cls, event: Event, **more: str | None) -> "Line":
        """`more`: see dump_journal_event."""
        return cls(Account(event.site_id, event.received_at.date()), event=dump_journal_event(event, **more))


@dataclass(frozen=True, slots=True)
class Replay:
    """What a dead letter's event keeps: its id, when it was first received, and its place in the order of arrival."""

    letter: UUID
    received_at: datetime
    sequence: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the journal. `raw` is an event's bytes, or whatever else somebody put there.

    `account`: where it was counted when it was appended; None where it came past the collector, uncounted.
    """

    entry_id: str
    raw: bytes
    account: Account | None = None
    replay: Replay | None = None

    def event_id(self) -> UUID:
        """The id of an event that brings none: the same at every delivery."""
        return self.replay.letter if self.replay else id_from_entry(JOURNAL_KEY, self.entry_id)

    def written_at(self) -> datetime | None:
        """When Redis took it, by Redis's clock. None where whoever wrote it chose an id that is no time."""
        if self.replay:
            return self.replay.received_at
        try:
            return datetime.fromtimestamp(int(self.entry_id.split("-")[0]) / 1000, UTC)
        except (ValueError, OverflowError, OSError):
            return None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of an entry (`stored`, `duplicate`, `dead`), and the account to count it in."""

    entry: Entry
    outcome: str
    account: Account


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
    """`batch`: the most entries one claim takes; `queue`: the Redis key of Celery's queue of wake-ups; `most_waiting`:
    with so many entries waiting the collector refuses more.

    `retry_pause`: after a failure every append within so many seconds fails at once, so that requests do not queue up
    behind a Redis that accepts and does not answer. `replicas`: how many must have what `append` wrote when it returns;
    one of them may be the next master.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        queue: str,
        batch: int,
        claim_idle: float,
        most_waiting: int = 2_000_000,
        retry_pause: float = 0.5,
        replicas: int = 0,
    ) -> None:
        self._redis = redis
        self._most_waiting = most_waiting
        self._queue = queue
        self._batch = batch
        self._claim_idle_ms = int(claim_idle * 1000)
        self._retry_pause = retry_pause
        self._replicas = replicas
        self._away_until = 0.0
        self._room_until = 0.0
        self._room = Room(None, most_waiting)
        self._shares = Shares(redis)
        self._handed_back = False
        self._append = redis.register_script(APPEND)
        self._owed = redis.register_script(OWED)
        self._replay = redis.register_script(REPLAY)
        self._settle = redis.register_script(SETTLE)

    def append(self, lines: Sequence[Line]) -> int:
        """Durable and counted when it returns. Returns how many wake-ups are owed. Raises Unavailable."""
        if time.monotonic() < self._away_until:
            raise Unavailable("redis", ConnectionError("no answer a moment ago"))
        args: list[Any] = [part for x in lines for part in (str(x.account), x.name, x.event, x.count)]
        try:
            self._look_for_room()
            owed, *held = self._write([JOURNAL_KEY, self._queue, HELD], [self._batch, *args])
        except RedisError as error:
            if time.monotonic() > self._away_until:  # one line for all threads that found out together
                log.warning("journal_unavailable", error=f"{type(error).__name__}: {error}")
            self._away_until = time.monotonic() + self._retry_pause
            raise Unavailable("redis", error) from error
        self._shares.note(held)
        self._room = self._room.less(sum(len(x.event) for x in lines), sum(bool(x.event) for x in lines))
        return int(owed)

    def over_its_share(self, site_ids: Iterable[str]) -> str | None:
        """The first of these sites that holds so much of the journal that it gets no more. Asks Redis only about those
        that held too much when this process last wrote events of theirs. Raises Unavailable.
        """
        suspects = self._shares.over(site_ids, self._room)
        if not suspects:
            return None
        if time.monotonic() < self._away_until:
            raise Unavailable("redis", ConnectionError("no answer a moment ago"))
        with raising_unavailable("redis", RedisError):
            self._look_for_room()
            return next((site_id for site_id in suspects if self._shares.is_over(site_id, self._room)), None)

    def replay(self, account: Account, raw: bytes, replay: Replay) -> None:
        """Append a dead letter's event once more. Raises Unavailable."""
        mark = f"{replay.letter.hex} {replay.received_at.isoformat()} {replay.sequence or ''}"
        with raising_unavailable("redis", RedisError):
            self._look_for_room()
            self._replay(keys=[JOURNAL_KEY, HELD], args=[str(account), raw, mark])

    def wake_ups_owed(self) -> int:
        """How many more tasks should be on their way, 0 or less for none. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            return int(self._owed(keys=[JOURNAL_KEY, self._queue], args=[self._batch]))

    def tasks_waiting(self, queue: str) -> int:
        """In one of Celery's queues, for a worker. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            length: Any = self._redis.llen(queue)
        return int(length)

    def held(self, consumer: str) -> list[Delivery]:
        """What this consumer claimed in an earlier run and did not settle. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            try:
                return self._pending(consumer=consumer)
            except ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                self._make_group()
                return []

    def abandoned(self) -> list[Delivery]:
        """What consumers have held for so long that they must have vanished. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            return self._pending(idle=self._claim_idle_ms)

    def claim(self, consumer: str) -> list[Entry]:
        """The new, a batch at most. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
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
        with raising_unavailable("redis", RedisError):
            reply: Any = self._redis.xclaim(JOURNAL_KEY, GROUP, consumer, idle, ids)
        return list(_entries(reply))

    def hand_back(self, consumer: str, entries: Sequence[Entry]) -> None:
        """This delivery ended in good order: it does not count against its entries. Raises Unavailable."""
        if entries:
            self._handed_back = True
            self.forgive(consumer, [Delivery(entry.entry_id, 1, 0) for entry in entries])

    def forgive(self, consumer: str, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Nobody died with these: they count as handed back. Raises Unavailable."""
        if deliveries:
            ids: list[Any] = [delivery.entry_id for delivery in deliveries]
            with raising_unavailable("redis", RedisError):
                self._redis.xclaim(JOURNAL_KEY, GROUP, consumer, 0, ids, retrycount=0, justid=True)
        return [replace(delivery, deaths=0) for delivery in deliveries]

    def somebody_retries(self) -> bool:
        """Whether events wait that were handed back, so that claiming more would only make more of them wait.

        Asks Redis only in a process that itself handed some back. Raises Unavailable.
        """
        if self._handed_back:
            with raising_unavailable("redis", RedisError):
                self._handed_back = any(delivery.deaths == 0 for delivery in self._pending())
        return self._handed_back

    def settle_deleted(self, deliveries: Sequence[Delivery]) -> None:
        """Forget those that somebody deleted by hand: they can never be taken. What is still there, and perhaps with
        another task, is left alone. Raises Unavailable.
        """
        with raising_unavailable("redis", RedisError):
            for delivery in deliveries:
                if not self._redis.xrange(JOURNAL_KEY, delivery.entry_id, delivery.entry_id):
                    self._redis.xack(JOURNAL_KEY, GROUP, delivery.entry_id)

    def settle(self, settlements: Iterable[Settlement]) -> None:
        """Done with these: acked, deleted, counted. Call it after MongoDB has them. Raises Unavailable."""
        groups: defaultdict[tuple[str, str, int], list[Entry]] = defaultdict(list)
        for settlement in settlements:
            uncounted = settlement.entry.account is None
            groups[str(settlement.account), settlement.outcome, int(uncounted)].append(settlement.entry)
        args: list[Any] = [GROUP]
        for group, entries in groups.items():
            args += [*group, len(entries), *(x.entry_id for x in entries), *(len(x.raw) for x in entries)]
        with raising_unavailable("redis", RedisError):
            self._settle(keys=[JOURNAL_KEY, HELD], args=args)

    def waiting(self) -> int:
        """Entries not yet settled, held ones included. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            return int(self._redis.xlen(JOURNAL_KEY))

    def is_full(self) -> bool:
        """Whether Redis has no room for Celery to publish, take and ack tasks. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            used, most = self._memory()
            return bool(most) and used > NO_ROOM * most

    def is_held(self) -> bool:
        """Whether tasks hold entries: written to MongoDB, perhaps, and not settled yet. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            try:
                summary: Any = self._redis.xpending(JOURNAL_KEY, GROUP)
            except ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                return False
        return bool(summary["pending"])

    def oldest(self) -> datetime | None:
        """When the first of them was written, None where none waits. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            page: Any = self._redis.xrange(JOURNAL_KEY, count=1)
        return next((entry.written_at() for entry in _entries(page)), None)

    def waiting_by_account(self) -> Counter[Account | None]:
        """The same by account, read entry by entry; None for those that came past the collector. Raises Unavailable."""
        return Counter(entry.account for entry in self.entries())

    def rewrite_file(self) -> bool:
        """Have Redis write its append-only file anew, without the entries that left; whether it has. False where it
        takes too long, or was being written already, which may have begun too early. Raises Unavailable.
        """
        with raising_unavailable("redis", RedisError):
            info: Any = self._redis.info("persistence")
            if not info["aof_enabled"]:
                return True
            if info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"]:
                return False
            try:
                self._redis.bgrewriteaof()
            except ResponseError as error:
                log.warning("redis_file_not_rewritten", error=str(error))  # a service that forbids it; its operator's
                return True
            end = time.monotonic() + REWRITE_LIMIT
            while time.monotonic() < end:
                time.sleep(0.05)
                info = self._redis.info("persistence")
                if not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]:
                    return bool(info["aof_last_bgrewrite_status"] == "ok")
        return False

    def check(self) -> None:
        """Raises Unavailable where Redis does not answer, or has no room for events."""
        with raising_unavailable("redis", RedisError):
            self._look_for_room()
            self._redis.ping()

    def _write(self, keys: Sequence[str], args: Sequence[Any]) -> Any:
        if not self._replicas:
            return self._append(keys=keys, args=args)
        # One round trip for both. EVAL sends the script along: a new master has not heard of it.
        line = self._redis.pipeline(transaction=False).eval(APPEND, len(keys), *keys, *args)
        reply, confirmed = line.wait(self._replicas, REPLICA_WAIT).execute()
        if confirmed < self._replicas:
            # Perhaps another is master by now, and this one cannot know: the next connection asks the sentinels.
            self._redis.connection_pool.disconnect(inuse_connections=False)
            raise RedisError(f"{confirmed} of {self._replicas} replicas confirmed")
        return reply

    def entries(self) -> Iterator[Entry]:
        """All that wait, oldest first, read as they are asked for. Raises Unavailable."""
        start = "-"
        while True:
            with raising_unavailable("redis", RedisError):
                page: Any = self._redis.xrange(JOURNAL_KEY, start, count=self._batch)
            if not page:
                return
            yield from _entries(page)
            start = f"({page[-1][0].decode()}"

    def _look_for_room(self) -> None:
        """Refuses before Redis does: a Celery worker needs room in Redis too, to take and to ack its tasks."""
        if time.monotonic() > self._room_until:
            used, most = self._memory()
            if most and used > FULL * most:
                raise Full(f"above {FULL:.0%} of its maxmemory")
            waiting: Any = self._redis.xlen(JOURNAL_KEY)
            if waiting >= self._most_waiting:
                raise Full(f"{self._most_waiting} events wait already, which is MOST_WAITING")
            self._room = Room(FULL * most - used if most else None, self._most_waiting - waiting)
            self._room_until = time.monotonic() + ROOM_CHECK

    def _memory(self) -> tuple[int, int]:
        """The bytes that Redis uses, and its maxmemory, 0 where it has none."""
        memory: Any = self._redis.info("memory")
        return memory["used_memory"], memory["maxmemory"]

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
            raw = fields[FIELD] if FIELD in fields else repr(fields).encode()
            replay = _replay(fields) if b"replay" in fields else None
            yield Entry(entry_id.decode(), raw, _account(fields.get(b"account", b"")), replay)


@lru_cache(maxsize=1024)
def _account(text: bytes) -> Account | None:
    try:
        return Account.from_text(text.decode())
    except ValueError:
        return None


def _replay(fields: dict[bytes, bytes]) -> Replay | None:
    try:
        letter, received_at, *sequence = fields[b"replay"].decode().split()
        return Replay(UUID(letter), datetime.fromisoformat(received_at), *sequence[:1])
    except ValueError:
        return None
