"""A checkpoint: the journal and the ledger in Redis at one moment, for a backup; and how a restore writes them.

One script copies the journal to a key of its own and reads the ledger. So every entry of the copy is waiting in the
ledger, and every other entry is settled in it. The copy takes as much memory in Redis as the journal. It is deleted at
the end, or expires.

Callers must handle Unavailable, raised if Redis is not reachable or has no room for the copy.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import chain
from operator import itemgetter
from typing import Any
from uuid import uuid4

from redis import Redis
from redis.exceptions import RedisError

from analytics.batched import batched
from analytics.events.account import Account
from analytics.journal.journal import FIELD, GROUP, JOURNAL_KEY, ORIGIN, REFUSES_ABOVE, Full
from analytics.journal.ledger import CLOSINGS, LAST_RECEIVED, LEDGER_KEYS
from analytics.journal.site_shares import HELD
from analytics.unavailable import raising_unavailable

_COPY = "footfall:journal:checkpoint:"
_KEPT_FOR = 600  # seconds that the copy outlives the last read of it
_AT_ONCE = 500  # entries or counts read or written in one command
_CONSUMER = "restore"  # holds the restored entries until a task takes them
_LONG_IDLE = 10 * 86_400_000  # milliseconds; longer than any CLAIM_IDLE, so that a task takes the entries at once

TAKE = f"""
local last, entries, counts = '0-0', 0, {{}}
if redis.call('COPY', KEYS[1], KEYS[2]) == 1 then
  redis.call('EXPIRE', KEYS[2], ARGV[1])
  entries = redis.call('XLEN', KEYS[1])
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = info[i + 1] end
  end
end
for _, key in ipairs(redis.call('SMEMBERS', '{LEDGER_KEYS}')) do
  table.insert(counts, {{key, redis.call('HGETALL', key)}})
end
return {{last, entries, redis.call('GET', KEYS[3]) or '', counts}}
"""

RawFields = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`last_id` is the id of the last entry that the journal ever had, and `entries` is how many wait. `counts` has the
    fields of each hash of the ledger. `closings` changes when a hash of the ledger is closed.
    """

    copy: str
    last_id: str
    entries: int
    closings: bytes
    counts: Mapping[bytes, RawFields]
    parts: Mapping[str, "Checkpoint"] = field(default_factory=dict)  # by the name of the journal, if there are several


class Checkpoints:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._take = redis.register_script(TAKE)

    def take(self) -> Checkpoint:
        """Take a checkpoint. Raises Unavailable."""
        copy = f"{_COPY}{uuid4().hex}"
        with raising_unavailable("redis", RedisError):
            self._look_for_room()
            last, entries, closings, counts = self._take(keys=[JOURNAL_KEY, copy, CLOSINGS], args=[_KEPT_FOR])
        hashes = {key: dict(zip(flat[::2], flat[1::2], strict=True)) for key, flat in counts}
        return Checkpoint(copy, last.decode(), entries, closings, hashes)

    def is_current(self, checkpoint: Checkpoint) -> bool:
        """Whether MongoDB has nothing that came after the checkpoint: no task has claimed a later entry, and no count
        was moved to MongoDB. Raises Unavailable.
        """
        with raising_unavailable("redis", RedisError):
            closings: Any = self._redis.get(CLOSINGS)
            if (closings or b"") != checkpoint.closings:
                return False
            if not self._redis.exists(JOURNAL_KEY):
                return True
            groups: Any = self._redis.xinfo_groups(JOURNAL_KEY)
        claimed = (_order(group["last-delivered-id"].decode()) for group in groups if group["name"] == GROUP.encode())
        return all(order <= _order(checkpoint.last_id) for order in claimed)

    def entries(self, checkpoint: Checkpoint) -> Iterator[tuple[bytes, RawFields]]:
        """Yield the waiting entries with their ids, the oldest first. Raises Unavailable, also if the copy is lost."""
        start, left = "-", checkpoint.entries
        while left:
            with raising_unavailable("redis", RedisError):
                page: Any = self._redis.xrange(checkpoint.copy, start, count=_AT_ONCE)
                if not page:
                    raise RedisError(f"the copy of the journal is lost; {left} entries of it were not read")
                self._redis.expire(checkpoint.copy, _KEPT_FOR)
            yield from page
            start, left = f"({page[-1][0].decode()}", left - len(page)

    def discard(self, checkpoint: Checkpoint) -> None:
        """Delete the copy. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            self._redis.unlink(checkpoint.copy)

    def last_received(self) -> RawFields:
        """Return when ingestion last accepted an event, by site. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            return dict(self._redis.hscan_iter(LAST_RECEIVED, count=1000))

    def what_is_there(self) -> list[str]:
        """Return the keys of the journal and the ledger that exist. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            return [key for key in (JOURNAL_KEY, LEDGER_KEYS) if self._redis.exists(key)]

    def write(
        self,
        last_id: str,
        entries: Iterable[tuple[bytes, RawFields]],
        counts: Iterable[tuple[bytes, RawFields]],
        received: RawFields,
    ) -> None:
        """Write a checkpoint into this Redis, in place of the journal and the ledger. Repeating the call is harmless.

        Tasks take the entries as entries that a vanished task held, because MongoDB may have their events already.
        Raises Unavailable.
        """
        with raising_unavailable("redis", RedisError):
            self._redis.delete(JOURNAL_KEY, HELD, LAST_RECEIVED, *self._redis.smembers(LEDGER_KEYS), LEDGER_KEYS)
            self._redis.xgroup_create(JOURNAL_KEY, GROUP, id="0", mkstream=True)
            for some in batched(entries, _AT_ONCE):
                self._write_entries(some)
            # Later entries have later ids, even if the clock of this Redis is behind.
            self._redis.execute_command("XSETID", JOURNAL_KEY, last_id)  # type: ignore[no-untyped-call]
            self._redis.xgroup_setid(JOURNAL_KEY, GROUP, last_id)
            for key, fields in counts:
                self._write_hash(key, fields)
                self._redis.sadd(LEDGER_KEYS, key)
            self._write_hash(LAST_RECEIVED, received)

    def _write_entries(self, entries: Sequence[tuple[bytes, RawFields]]) -> None:
        line = self._redis.pipeline(transaction=False)
        held: Counter[str] = Counter()
        for entry_id, fields in entries:
            line.xadd(JOURNAL_KEY, dict(fields), id=entry_id)  # type: ignore[arg-type]
            if (site_id := _counted_site(fields)) is not None:
                held.update({f"bytes {site_id}": len(fields[FIELD]), f"events {site_id}": 1})
        ids: list[Any] = [entry_id for entry_id, _ in entries]
        line.xclaim(JOURNAL_KEY, GROUP, _CONSUMER, 0, ids, idle=_LONG_IDLE, retrycount=0, force=True, justid=True)
        for name, n in held.items():
            line.hincrby(HELD, name, n)
        line.execute()

    def _write_hash(self, key: bytes | str, fields: RawFields) -> None:
        for some in batched(fields.items(), _AT_ONCE):
            self._redis.hset(key, mapping=dict(some))

    def _look_for_room(self) -> None:
        memory: Any = self._redis.info("memory")
        size: Any = self._redis.memory_usage(JOURNAL_KEY)
        if memory["maxmemory"] and memory["used_memory"] + (size or 0) > REFUSES_ABOVE * memory["maxmemory"]:
            raise Full(f"no room for a copy of the journal, which takes {size:,} bytes; wait until workers drain it")


class JointCheckpoints(Checkpoints):
    """Checkpoints of all journals. Each is taken at its own moment, because each journal and its counts are complete in
    themselves (docs/decisions/0017-backup.md). A restore writes them into the first one: entries keep their `entry_id`,
    and counts are added up. `others` are the Redis servers of further journals, by name.
    """

    def __init__(self, redis: Redis, others: Mapping[str, Redis]) -> None:
        super().__init__(redis)
        self._parts = {name: Checkpoints(each) for name, each in {"": redis, **others}.items()}

    def take(self) -> Checkpoint:
        parts = {name: part.take() for name, part in self._parts.items()}
        counts: defaultdict[bytes, Counter[bytes]] = defaultdict(Counter)
        for key, fields in chain.from_iterable(part.counts.items() for part in parts.values()):
            counts[key].update({name: int(n) for name, n in fields.items()})
        ms = max(_order(part.last_id)[0] for part in parts.values())
        return Checkpoint(
            copy="",
            last_id=f"{ms + 1}-0",  # above the ids that `entries` gives
            entries=sum(part.entries for part in parts.values()),
            closings=b"",
            counts={key: {name: b"%d" % n for name, n in found.items()} for key, found in counts.items()},
            parts=parts,
        )

    def is_current(self, checkpoint: Checkpoint) -> bool:
        return all(self._parts[name].is_current(part) for name, part in checkpoint.parts.items())

    def entries(self, checkpoint: Checkpoint) -> Iterator[tuple[bytes, RawFields]]:
        """Yield the waiting entries of all journals, the oldest first. Each gets an id above the one before."""
        each = [self._entries_of(name, part) for name, part in checkpoint.parts.items()]
        last = (0, 0)
        for order, fields in merge(*each, key=itemgetter(0)):
            last = max(order, (last[0], last[1] + 1))
            yield b"%d-%d" % last, fields

    def discard(self, checkpoint: Checkpoint) -> None:
        for name, part in checkpoint.parts.items():
            self._parts[name].discard(part)

    def last_received(self) -> RawFields:
        latest: dict[bytes, bytes] = {}
        for part in self._parts.values():
            for site, at in part.last_received().items():
                latest[site] = max(latest.get(site, b"0"), at, key=int)
        return latest

    def what_is_there(self) -> list[str]:
        return sorted({key for part in self._parts.values() for key in part.what_is_there()})

    def _entries_of(self, name: str, part: Checkpoint) -> Iterator[tuple[tuple[int, int], RawFields]]:
        suffix = f"-{name}".encode() if name else b""
        for stream_id, fields in self._parts[name].entries(part):
            yield _order(stream_id.decode()), {ORIGIN: stream_id + suffix, **fields}


def _counted_site(fields: RawFields) -> str | None:
    """The site that holds the entry. None for an entry that bypassed the collector."""
    try:
        return Account.from_text(fields[b"account"].decode()).site_id if FIELD in fields else None
    except (KeyError, ValueError):
        return None


def _order(entry_id: str) -> tuple[int, int]:
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number)
