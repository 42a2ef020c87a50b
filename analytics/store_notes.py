"""What the stores note about themselves: the format of their data, a restore that is not complete, the last backup, the
last run of the archive, and the further journals that may hold events.

Both stores hold the format and the restore, because ingestion uses Redis only. A process reads them when it starts, and
does not start if this version cannot use the stores. Callers must handle StoresNotReady, and Unavailable, raised if a
store is not reachable.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from types import MappingProxyType
from typing import Any

from pymongo.database import Database
from redis import Redis
from redis.exceptions import RedisError

from analytics.mongodb import reading, writing
from analytics.unavailable import raising_unavailable

# The format that this version writes. It also works with the format before, so that versions can be replaced one
# process at a time. Each later format has a migration (analytics/migrations.py).
STORE_FORMAT = 2
PACKED_ENTRIES = 2  # the first format in which waiting events are packed; workers of version 0.1 read JSON only
_UNMARKED = 1  # the format of stores without a note: the first versions wrote none
META = "meta"  # the collection
_KEY = "footfall:stores"
READ_FORMAT = ("HGET", _KEY, "format")  # for a caller that has a connection of its own; format_in reads the reply
FIRST_JOURNAL = "main"  # the name of the journal in REDIS_URL
_STATE_ID = {"_id": "stores"}  # of the document in META


class StoresNotReady(Exception):
    """This version cannot use the stores. The message says why and what to do."""


def state_of(database: Database[dict[str, Any]]) -> Mapping[str, Any]:
    """Return what MongoDB notes. Raises PyMongoError."""
    return database[META].find_one(_STATE_ID) or {}


def format_of(state: Mapping[str, Any]) -> int:
    """Return the format in what a store notes."""
    return int(state.get("format", _UNMARKED))


def journals_left_out(state: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Return the further journals that may hold events, by what MongoDB notes, and are not among these names."""
    return sorted({*state.get("journals", ())}.difference(names))


def format_in(reply: bytes | None) -> int:
    """Return the format in Redis's reply to READ_FORMAT."""
    return int(reply or _UNMARKED)


class StoreNotes:
    """`others` are the Redis servers of further journals, by name."""

    def __init__(
        self, redis: Redis, database: Database[dict[str, Any]], others: Mapping[str, Redis] = MappingProxyType({})
    ) -> None:
        self._redis = redis
        self._others = others
        self._database = database
        self._meta = database[META]

    def check_redis(self) -> None:
        """Raises StoresNotReady and Unavailable."""
        with raising_unavailable("redis", RedisError):
            found: Any = self._redis.hgetall(_KEY)
        _check("Redis", {name.decode(): text.decode() for name, text in found.items()})
        if self._others:
            _check_names({FIRST_JOURNAL: self._redis} | dict(self._others))

    def check_mongodb(self) -> None:
        """Raises StoresNotReady and Unavailable."""
        _check("MongoDB", self._read())

    def format(self) -> int:
        """Return the format of the data. Raises Unavailable."""
        return format_of(self._read())

    def note_format(self, form: int) -> None:
        """Note that the data has this format. Raises Unavailable."""
        self._set_in_mongodb({"format": form})
        with raising_unavailable("redis", RedisError):
            for redis in self._each_redis():
                redis.hset(_KEY, "format", str(form))

    def note_first_start(self, now: datetime, count_events: Callable[[], int]) -> None:
        """Note the format of new stores, and since when they are used. Later it only repeats the note for a Redis that
        was emptied. Raises Unavailable.
        """
        if "since" in self._read():
            with raising_unavailable("redis", RedisError):
                for redis in self._each_redis():
                    redis.hsetnx(_KEY, "format", str(self.format()))
            return
        is_new = count_events() == 0
        self._set_in_mongodb({"since": now})
        self.note_format(STORE_FORMAT if is_new else self.format())

    def note_backup(self, at: datetime) -> None:
        """Note that a backup of this time is complete. Raises Unavailable."""
        self._set_in_mongodb({"backed_up_at": at})

    def note_archive(self, at: datetime, failure: str) -> None:
        """Note when the archive was brought up to date, or, with a `failure`, why it was not. Raises Unavailable."""
        self._set_in_mongodb({"archive_failure": failure} | ({} if failure else {"archived_at": at}))

    def note_journals(self, names: Iterable[str]) -> None:
        """Note that these further journals take events, and so may hold some. Raises Unavailable."""
        if found := [*names]:
            self._update_in_mongodb({"$addToSet": {"journals": {"$each": found}}})

    def forget_journal(self, name: str) -> None:
        """Note that the journal holds no events and gets none. Raises Unavailable."""
        self._update_in_mongodb({"$pull": {"journals": name}})

    def journals_left_out(self) -> list[str]:
        """Return the further journals that may hold events and are not among `others`. Raises Unavailable."""
        return journals_left_out(self._read(), self._others)

    def restoring(self) -> str | None:
        """Return the id of the backup whose restore is not complete, or None. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            in_redis: Any = self._redis.hget(_KEY, "restoring")
        return in_redis.decode() if in_redis else self._read().get("restoring")

    def begin_restore(self, backup_id: str) -> None:
        """Note in both stores that their data is not complete. Redis is first here and last in `end_restore`, so that
        ingestion never accepts an event into a journal that a restore may still replace. Raises Unavailable.
        """
        with raising_unavailable("redis", RedisError):
            self._redis.hset(_KEY, "restoring", backup_id)
        self._set_in_mongodb({"restoring": backup_id})

    def end_restore(self) -> None:
        """Note that the data is complete. Raises Unavailable."""
        with writing(self._database):
            self._meta.update_one(_STATE_ID, {"$unset": {"restoring": ""}})
        with raising_unavailable("redis", RedisError):
            self._redis.hdel(_KEY, "restoring")

    def _each_redis(self) -> list[Redis]:
        return [self._redis, *self._others.values()]

    def _read(self) -> Mapping[str, Any]:
        with reading(self._database):
            return state_of(self._database)

    def _set_in_mongodb(self, fields: Mapping[str, Any]) -> None:
        self._update_in_mongodb({"$set": fields})

    def _update_in_mongodb(self, change: Mapping[str, Any]) -> None:
        with writing(self._database):
            self._meta.update_one(_STATE_ID, change, upsert=True)


def _check(store: str, found: Mapping[str, Any]) -> None:
    if backup_id := found.get("restoring"):
        raise StoresNotReady(
            f"The data in {store} is not complete: the restore of backup {backup_id} did not finish. Run the same"
            " `footfall restore` again to continue it, or empty MongoDB and Redis."
        )
    form = format_of(found)
    if form > STORE_FORMAT:
        raise StoresNotReady(
            f"The data in {store} has format {form}, and this version of Footfall reads {STORE_FORMAT} at most."
            " Start the later version."
        )


def _check_names(servers: Mapping[str, Redis]) -> None:
    """Note the name of each journal in its server. Raises StoresNotReady if a server has another name: two names of one
    server would count its events twice. A server that is not reachable is left out.
    """
    for name, redis in servers.items():
        with suppress(RedisError):
            redis.hsetnx(_KEY, "journal", name)
            found: Any = redis.hget(_KEY, "journal")
            if found.decode() != name:
                raise StoresNotReady(
                    f"The Redis of the journal {name} is that of the journal {found.decode()}. Each server needs one"
                    " name in JOURNAL_URLS, and keeps it."
                )
