"""The journal: acknowledged events on their way to MongoDB, in one Redis stream.

It takes events as bytes (analytics/events/event.py). A 200 is sent only after `append` has returned: under
`appendfsync always`, Redis answers after the event is on disk. It returns entries, and one consumer holds each entry
until it settles it. The scripts that append and settle entries update the ledger in the same step
(analytics/journal/ledger.py).

A consumer is one task, named by its id. A task that runs again, after a retry or after its process died, finds the
entries it held under its own name. Entries that a vanished task held for `claim_idle` seconds are taken over by the
next task that claims.

Callers must handle Unavailable, raised if Redis refuses a command or does not answer. An append that timed out may have
been applied. Appending the same event again is harmless, because it has the same id.
"""

import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from hashlib import sha1
from typing import Any, TypeVar
from uuid import UUID

import structlog
from msgspec import Struct, structs
from redis import Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from analytics.events.account import ACCEPTED, Account
from analytics.events.event import Event, id_from_entry, packed
from analytics.events.schema import dump_event
from analytics.journal.ledger import COUNT_LUA, RECEIVED
from analytics.journal.loop_redis import Execute, executing_on_loop
from analytics.journal.site_shares import HELD, HOLD, Held, Room, Shares
from analytics.redis import Command, execute_now, rewrite_file
from analytics.store_notes import PACKED_ENTRIES, READ_FORMAT, format_in
from analytics.unavailable import Breaker, raising_unavailable

log = structlog.get_logger()

T = TypeVar("T")

JOURNAL_KEY = "footfall:journal"
GROUP = "workers"
FIELD = b"event"
ORIGIN = b"entry_id_before"  # the field of a restored entry with its `entry_id`
REFUSES_ABOVE = 0.85  # of Redis's maxmemory: the collector refuses events, and workers drain the journal
_NO_ROOM_ABOVE = 0.95  # of Redis's maxmemory: Redis may refuse what a Celery worker needs
# Bytes of a batch, if its events are as large as those of the batch before. Larger events make smaller batches.
CLAIMED_BYTES = 8_000_000
# How many batches one wake-up is for, because a task stores several (analytics/pipeline.py).
BATCHES_OF_A_TASK = 4
# seconds between two checks; events admitted in between are small compared with the rest of maxmemory
ROOM_CHECK = 0.25

# How many wake-ups are owed: one for ARGV[1] waiting entries, minus those in Celery's queue.
OWED = "return math.ceil(redis.call('XLEN', KEYS[1]) / ARGV[1]) - redis.call('LLEN', KEYS[2])"
APPEND = (
    COUNT_LUA
    + RECEIVED
    + HOLD
    + """
local reply, i = {0}, 2
while i <= #ARGV do
  local account, name, n, events = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
  local bytes, entry = 0, nil
  for j = i + 4, i + 3 + events do
    entry = redis.call('XADD', KEYS[1], '*', 'event', ARGV[j], 'account', account)
    bytes = bytes + #ARGV[j]
  end
  count(account, name, n)
  if entry then
    received(account, entry)
    for _, value in ipairs({hold(KEYS[3], account, bytes, events)}) do table.insert(reply, value) end
  end
  i = i + 4 + events
end
reply[1] = math.ceil(redis.call('XLEN', KEYS[1]) / ARGV[1]) - redis.call('LLEN', KEYS[2])
return reply
"""
)
_APPEND_SHA = sha1(APPEND.encode(), usedforsecurity=False).hexdigest()
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

# If no entry is held, deliver those that are there again. Usually none is. A Redis of version 6 that is killed while it
# writes the end of SETTLE, and then again, executes only the beginning of it when it reads its file (measured). Such an
# entry is acked and not deleted, and no consumer would ever get it.
DELIVER_AGAIN = """
if redis.call('XLEN', KEYS[1]) > 0 and redis.call('XPENDING', KEYS[1], ARGV[1])[1] == 0 then
  redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], '0')
end
"""
# Ack and delete in one script: Redis refuses MULTI when it is full, but not these commands, nor the counting once they
# have begun. An entry that another task settled is not acked again, and so not counted again. Consumers that hold
# nothing are deleted too: this one and those of vanished tasks. This happens in the same call, so that no entry is
# delivered to them in between (deleting a consumer forgets what it holds). If another task settled some of the entries,
# the bytes of the others are an estimate. It ends when no entry waits.
SETTLE = (
    COUNT_LUA
    + HOLD
    + """
local i = 2
while i <= #ARGV do
  local account, outcome, uncounted, n, bytes = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3]), ARGV[i + 4]
  local settled = 0
  for first = i + 5, i + 4 + n, 500 do
    local last = math.min(first + 499, i + 4 + n)
    settled = settled + redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, first, last))
    redis.call('XDEL', KEYS[1], unpack(ARGV, first, last))
  end
  bytes = math.floor(bytes * settled / n)
  if settled > 0 then
    count(account, outcome, settled)
    if uncounted == '1' then count(account, 'accepted', settled) else hold(KEYS[2], account, 0 - bytes, -settled) end
  end
  i = i + 5 + n
end
if redis.call('XLEN', KEYS[1]) == 0 then redis.call('DEL', KEYS[2]) end
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  if consumer[4] == 0 then redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer[2]) end
end
"""
)


class Full(RedisError):
    """The journal has no room for more events. The workers must drain it first."""


class Line(Struct, frozen=True, gc=False):
    """What the collector writes to the journal: an event, or, without an event, `count` events counted under `name`."""

    account: Account
    name: str = ACCEPTED
    event: bytes = b""
    count: int = 1

    @classmethod
    def of(
        cls,
        event: Event,
        *,
        visitor_id: str | None = None,
        client: str | None = None,
        dump: Callable[[Event], bytes] = packed,
    ) -> "Line":
        """The line of this event, with this visitor and sealed client if they are given. `dump` makes its bytes."""
        whole = structs.replace(event, visitor_id=visitor_id or event.visitor_id, client=client or event.client)
        return cls(Account(event.site_id, event.received_at.date()), event=dump(whole))


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay keeps of a dead letter's event: its id, when it was first received, and its place in the order of
    arrival.
    """

    letter: UUID
    received_at: datetime
    sequence: str | None = None


class Entry(Struct, frozen=True, gc=False):
    """One entry of the journal. `raw` is an event's bytes, or any content that another program wrote.

    `account` is where the entry was counted when it was appended. It is None if the entry bypassed the collector and is
    not counted. `stream_id` is its id in the stream. Two servers give the same id to two entries, so `entry_id` of a
    further journal ends with the journal's name. No two entries have the same `entry_id`.
    """

    entry_id: str
    stream_id: str
    raw: bytes
    account: Account | None = None
    replay: Replay | None = None

    def event_id(self) -> UUID:
        """The id of an event without an id. Every delivery gives the same id."""
        return self.replay.letter if self.replay else id_from_entry(JOURNAL_KEY, self.entry_id)

    def written_at(self) -> datetime | None:
        """When Redis received the entry, by Redis's clock. None if another program chose an entry id that is not a
        time.
        """
        if self.replay:
            return self.replay.received_at
        try:
            return datetime.fromtimestamp(int(self.entry_id.split("-")[0]) / 1000, UTC)
        except (ValueError, OverflowError, OSError):
            return None


class Settlement(Struct, frozen=True, gc=False):
    """The outcome of an entry (`stored`, `duplicate`, `dead`, or `dropped-later:` and a reason), and the account in
    which it is counted.
    """

    entry: Entry
    outcome: str
    account: Account


@dataclass(frozen=True, slots=True)
class Delivery:
    """An entry that was delivered and not settled.

    `crashes` is how many of its deliveries ended without a message, because the process that held it died.
    `not_before_ms` is how long its holder must have been silent before another consumer may take it.
    """

    entry_id: str
    crashes: int
    not_before_ms: int


def check_access(redis: Redis) -> None:
    """Raises RedisError if Redis does not answer, or does not let this user read the journal."""
    redis.xlen(JOURNAL_KEY)


class Journal:
    """The journal in Redis. `batch` is the most entries that one claim takes. A task holds up to two batches. `queue`
    is the Redis key of Celery's queue of wake-ups. If `most_waiting` entries wait, the collector refuses more.

    After a failure, every append fails at once for `retry_pause` seconds, so that requests do not queue for a Redis
    that accepts connections and does not answer. `replicas` is how many replicas must hold an append before it returns,
    because one of them may become the master.

    `name` is that of a further journal (analytics/journal/journals.py), and "" for the journal in REDIS_URL.

    `dump` makes an event's bytes, in the form that all workers read: JSON, or packed once `footfall upgrade` has noted
    that no worker of version 0.1 is left. It is known after the first append.
    """

    dump: Callable[[Event], bytes] = staticmethod(dump_event)

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
        name: str = "",
    ) -> None:
        self.name = name
        self._suffix = f"-{name}" if name else ""
        self._redis = redis
        self._most_waiting = most_waiting
        self._queue = queue
        self._batch = self._next_batch = batch
        self.has_more = True  # whether entries may be left after the last claim
        self._events_of_a_task = batch * BATCHES_OF_A_TASK
        self._claim_idle_ms = int(claim_idle * 1000)
        self._replicas = replicas
        self._breaker = Breaker("redis", RedisError, retry_pause, opened=_log_failure)
        self._room_until = 0.0
        self._room = Room(None, most_waiting)
        self._shares = Shares(redis)
        self._handed_back = False
        self._owed = redis.register_script(OWED)
        self._replay = redis.register_script(REPLAY)
        self._settle = redis.register_script(SETTLE)
        self._deliver_again = redis.register_script(DELIVER_AGAIN)

    @property
    def parts(self) -> Sequence["Journal"]:
        """The journals on the single servers: this one."""
        return (self,)

    def reachable(self) -> Sequence["Journal"]:
        """The parts from which a worker takes events now."""
        return self.parts

    def part_of(self, _site_id: str) -> "Journal":
        """The part that takes the site's events."""
        return self

    def append(self, lines: Sequence[Line]) -> int:
        """Write these lines. They are durable and counted when it returns. Returns how many wake-ups are owed. Raises
        Unavailable.
        """
        return _run(self._append(self._execute, lines))

    @asynccontextmanager
    async def appending_on_loop(self) -> AsyncIterator[Callable[[Sequence[Line]], Awaitable[int]]]:
        """A function like `append` that does not block the running loop. One call at a time."""
        async with executing_on_loop(self._redis) as execute:
            yield partial(self._append, execute)

    async def _append(self, execute: Execute, lines: Sequence[Line]) -> int:
        groups: defaultdict[tuple[Account, str], list[Line]] = defaultdict(list)
        for line in lines:
            groups[line.account, line.name].append(line)
        args: list[Any] = [self._events_of_a_task]
        for (account, name), some in groups.items():
            events = [x.event for x in some if x.event]
            args += [str(account), name, sum(x.count for x in some), len(events), *events]
        with self._breaker.closed():
            await self._look_for_room(execute)
            owed, *held = await self._write(execute, args)
        self._shares.note(held)
        self._room = self._room.less(sum(len(x.event) for x in lines), sum(bool(x.event) for x in lines))
        return int(owed)

    def over_its_share(self, site_ids: Iterable[str]) -> str | None:
        """Return the first of these sites whose share of the journal is used up, or None. It asks Redis only about
        sites that held too much when this process last wrote their events. Raises Unavailable.
        """
        suspects = self._shares.over(site_ids, self._room)
        if not suspects:
            return None
        self._breaker.check()
        with raising_unavailable("redis", RedisError):
            _run(self._look_for_room(self._execute))
            return next((site_id for site_id in suspects if self._shares.is_over(site_id, self._room)), None)

    def held_by(self, site_id: str) -> Held:
        """Return how many events, and bytes of them, of this site wait. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            return self._shares.read(site_id)

    def held_by_site(self) -> dict[str, int]:
        """Return how many events of each site wait. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            return self._shares.events_by_site()

    def replay(self, account: Account, raw: bytes, replay: Replay) -> None:
        """Append a dead letter's event again. Raises Unavailable."""
        mark = f"{replay.letter.hex} {replay.received_at.isoformat()} {replay.sequence or ''}"
        with raising_unavailable("redis", RedisError):
            _run(self._look_for_room(self._execute))
            self._replay(keys=[JOURNAL_KEY, HELD], args=[str(account), raw, mark])

    def wake_ups_owed(self) -> int:
        """Return how many more tasks should be queued; none if it is 0 or less. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            return int(self._owed(keys=[JOURNAL_KEY, self._queue], args=[self._events_of_a_task]))

    def tasks_waiting(self, queue: str) -> int:
        """Return how many tasks wait for a worker in this Celery queue. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            length: Any = self._redis.llen(queue)
        return int(length)

    def held(self, consumer: str) -> list[Delivery]:
        """Return the entries that this consumer claimed in an earlier run and did not settle. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            try:
                return self._pending(consumer=consumer)
            except ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                self._make_group()
                return []

    def abandoned(self) -> list[Delivery]:
        """Return the entries that consumers have held for so long that the consumers must have vanished. Raises
        Unavailable.
        """
        with raising_unavailable("redis", RedisError):
            return self._pending(idle=self._claim_idle_ms)

    def claim(self, consumer: str) -> list[Entry]:
        """Claim new entries, at most one batch. `has_more` then says whether more may wait. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            reply: Any = self._redis.xreadgroup(GROUP, consumer, {JOURNAL_KEY: ">"}, count=self._next_batch)
            if not reply:
                self._deliver_again(keys=[JOURNAL_KEY], args=[GROUP])
        found = reply[0][1] if reply else []
        self.has_more = len(found) == self._next_batch
        entries = list(self._entries(found))
        if size := sum(len(entry.raw) for entry in entries):
            self._next_batch = max(1, min(self._batch, CLAIMED_BYTES * len(entries) // size))
        return entries

    def take(self, consumer: str, deliveries: Sequence[Delivery]) -> list[Entry]:
        """Deliver these entries again, to this consumer. Entries that another consumer has taken in the meantime are
        omitted.

        It counts as one more delivery of each entry. Raises Unavailable.
        """
        ids: list[Any] = [delivery.entry_id for delivery in deliveries]
        idle = max((delivery.not_before_ms for delivery in deliveries), default=0)
        if not ids:
            return []
        with raising_unavailable("redis", RedisError):
            reply: Any = self._redis.xclaim(JOURNAL_KEY, GROUP, consumer, idle, ids)
        return list(self._entries(reply))

    def hand_back(self, consumer: str, entries: Sequence[Entry]) -> None:
        """End this delivery without counting it against its entries. Raises Unavailable."""
        if entries:
            self._handed_back = True
            self.forgive(consumer, [Delivery(entry.stream_id, 1, 0) for entry in entries])

    def forgive(self, consumer: str, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Set the crashes of these entries to 0, because no process died with them. Raises Unavailable."""
        if deliveries:
            ids: list[Any] = [delivery.entry_id for delivery in deliveries]
            with raising_unavailable("redis", RedisError):
                self._redis.xclaim(JOURNAL_KEY, GROUP, consumer, 0, ids, retrycount=0, justid=True)
        return [replace(delivery, crashes=0) for delivery in deliveries]

    def is_retry_waiting(self) -> bool:
        """Whether entries wait that were handed back. Claiming more entries would then only make more of them wait.

        It asks Redis only in a process that itself handed entries back. Raises Unavailable.
        """
        if self._handed_back:
            with raising_unavailable("redis", RedisError):
                self._handed_back = any(delivery.crashes == 0 for delivery in self._pending())
        return self._handed_back

    def settle_deleted(self, deliveries: Sequence[Delivery]) -> None:
        """Forget entries that an operator deleted by hand, because no consumer can take them. Entries that still exist,
        and may be held by another task, stay. Raises Unavailable.
        """
        with raising_unavailable("redis", RedisError):
            for delivery in deliveries:
                if not self._redis.xrange(JOURNAL_KEY, delivery.entry_id, delivery.entry_id):
                    self._redis.xack(JOURNAL_KEY, GROUP, delivery.entry_id)

    def settle(self, settlements: Iterable[Settlement]) -> None:
        """Ack, delete and count these entries. Call it after MongoDB holds their events. Raises Unavailable."""
        groups: defaultdict[tuple[Account, str, bool], list[Entry]] = defaultdict(list)
        for settlement in settlements:
            uncounted = settlement.entry.account is None
            groups[settlement.account, settlement.outcome, uncounted].append(settlement.entry)
        args: list[Any] = [GROUP]
        for (account, outcome, uncounted), entries in groups.items():
            args += [str(account), outcome, int(uncounted), len(entries), sum(len(x.raw) for x in entries)]
            args += [x.stream_id for x in entries]
        with raising_unavailable("redis", RedisError):
            self._settle(keys=[JOURNAL_KEY, HELD], args=args)

    def waiting(self) -> int:
        """Return the number of unsettled entries, including held entries. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            return int(self._redis.xlen(JOURNAL_KEY))

    def is_behind(self) -> bool:
        """Whether more events wait than one task stores. Raises Unavailable."""
        return self.waiting() > self._events_of_a_task

    def lacks_room_for_tasks(self) -> bool:
        """Whether Redis has no room for Celery to publish, take and ack tasks. Raises Unavailable."""
        used, most = self.memory()
        return bool(most) and used > _NO_ROOM_ABOVE * most

    def memory(self) -> tuple[int, int]:
        """Return the bytes that Redis uses, and those that it may use, or 0 if there is no limit. Raises
        Unavailable.
        """
        with raising_unavailable("redis", RedisError):
            memory: Any = self._redis.info("memory")
        return memory["used_memory"], memory["maxmemory"]

    def is_held(self) -> bool:
        """Whether tasks hold entries, whose events may be in MongoDB and not settled yet. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            try:
                summary: Any = self._redis.xpending(JOURNAL_KEY, GROUP)
            except ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                return False
        return bool(summary["pending"])

    def oldest(self) -> datetime | None:
        """Return when the oldest waiting entry was written, or None if no entry waits. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            page: Any = self._redis.xrange(JOURNAL_KEY, count=1)
        return next((entry.written_at() for entry in self._entries(page)), None)

    def waiting_by_account(self) -> Counter[Account | None]:
        """Count the waiting entries by account, reading each entry. None counts entries that bypassed the collector.
        Raises Unavailable.
        """
        return Counter(entry.account for entry in self.entries())

    def rewrite_file(self) -> bool:
        """Make Redis rewrite its append-only file without the entries that were deleted, and return whether it did; see
        analytics/redis.py. Raises Unavailable.
        """
        with raising_unavailable("redis", RedisError):
            return rewrite_file(self._redis)

    def check(self) -> None:
        """Raises Unavailable if Redis does not answer, or has no room for events."""
        with raising_unavailable("redis", RedisError):
            _run(self._look_for_room(self._execute))
        self.ping()

    def ping(self) -> None:
        """Raises Unavailable if Redis does not answer."""
        with raising_unavailable("redis", RedisError):
            self._redis.ping()

    async def _write(self, execute: Execute, args: Sequence[Any]) -> Any:
        given = (3, JOURNAL_KEY, self._queue, HELD, *args)
        try:
            (reply,) = await execute([("EVALSHA", _APPEND_SHA, *given)], self._replicas)
        except NoScriptError:  # Redis was restarted, or another one is master
            (reply,) = await execute([("EVAL", APPEND, *given)], self._replicas)
        return reply

    async def _execute(self, commands: Sequence[Command], replicas: int) -> list[Any]:
        """Blocks. See execute_now."""
        return execute_now(self._redis, commands, replicas)

    def entries(self) -> Iterator[Entry]:
        """Yield all waiting entries, the oldest first, read as the caller consumes them. Raises Unavailable."""
        start = "-"
        while True:
            with raising_unavailable("redis", RedisError):
                page: Any = self._redis.xrange(JOURNAL_KEY, start, count=self._batch)
            if not page:
                return
            yield from self._entries(page)
            start = f"({page[-1][0].decode()}"

    async def _look_for_room(self, execute: Execute) -> None:
        """Raise Full before Redis is full: a Celery worker also needs room in Redis to take and ack its tasks."""
        if time.monotonic() > self._room_until:
            memory, waiting, form = await execute([("INFO", "memory"), ("XLEN", JOURNAL_KEY), READ_FORMAT], 0)
            self.dump = packed if format_in(form) >= PACKED_ENTRIES else dump_event
            used, most = memory["used_memory"], memory["maxmemory"]
            if most and used > REFUSES_ABOVE * most:
                raise Full(f"above {REFUSES_ABOVE:.0%} of its maxmemory")
            if waiting >= self._most_waiting:
                raise Full(f"{self._most_waiting} events wait already, which is MOST_WAITING")
            self._room = Room(REFUSES_ABOVE * most - used if most else None, self._most_waiting - waiting)
            self._room_until = time.monotonic() + ROOM_CHECK

    def _entries(self, pairs: Iterable[tuple[bytes | None, dict[bytes, bytes] | None]]) -> Iterator[Entry]:
        for found, fields in pairs:
            if found and fields:  # otherwise an operator deleted the entry by hand while it was held
                # An entry of another program has other fields. The dead letter shows them.
                raw = fields[FIELD] if FIELD in fields else repr(fields).encode()
                replay = _replay(fields) if b"replay" in fields else None
                stream_id = found.decode()
                entry_id = fields[ORIGIN].decode() if ORIGIN in fields else stream_id + self._suffix
                yield Entry(entry_id, stream_id, raw, _account(fields.get(b"account", b"")), replay)

    def _pending(self, *, consumer: str | None = None, idle: int | None = None) -> list[Delivery]:
        held = 2 * self._batch  # of a task that writes a batch and prepares the next one
        rows: Any = self._redis.xpending_range(JOURNAL_KEY, GROUP, "-", "+", held, consumer, idle)
        return [Delivery(row["message_id"].decode(), row["times_delivered"], idle or 0) for row in rows]

    def _make_group(self) -> None:
        try:
            self._redis.xgroup_create(JOURNAL_KEY, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):  # another worker created it first
                raise


def _run(steps: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits for a loop."""
    try:
        steps.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise RuntimeError("it waits for a loop")


def _log_failure(error: Exception) -> None:
    log.warning("events_not_appended", error=f"{type(error).__name__}: {error}")


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
