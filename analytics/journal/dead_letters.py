"""Dead letters: events that failed because of their own content. They are kept unchanged, with the reason, until an
operator replays or purges them.

A dead letter is one event. `attempts` lists each of its failures by the journal entry that failed. A second delivery of
the same entry changes nothing. A replay that fails again adds an attempt to the same dead letter. A dead letter is
removed in one transaction with a note of its number of attempts, so that the ledger still adds up
(analytics/journal/audit.py).

Callers must handle Unavailable, raised if MongoDB is not reachable.
"""

from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, NotRequired, TypedDict
from uuid import UUID

import pymongo
from bson import Binary
from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.events.account import Account
from analytics.events.event import sequence_of
from analytics.events.removal import GONE_FOR
from analytics.events.schema import readable
from analytics.journal.journal import Entry
from analytics.json_schema import Count, IdText, MomentText
from analytics.mongodb import WRITE_LIMIT, reading
from analytics.unavailable import raising_unavailable

# The most bytes of a payload that a dead letter keeps: MongoDB's documents have at most 16 MB.
MOST_RAW = 1_000_000
DEATH_REASONS = ("not_json", "invalid_event", "refused", "poison")  # analytics/pipeline.py says what they mean
_AT_ONCE = 500  # dead letters removed in one transaction


@dataclass(frozen=True, slots=True)
class Death:
    """A permanent failure of an entry. `reason` is one of DEATH_REASONS. `detail` describes the failure.
    `letter` is the id of the dead letter that keeps it.
    """

    letter: UUID
    entry: Entry
    account: Account
    received_at: datetime
    reason: str
    detail: dict[str, Any]


class DeadLetterJson(TypedDict):
    """The payload is `raw` if it is text, and `raw_base64` if it is not."""

    id: IdText
    site_id: str
    reason: str
    detail: dict[str, Any]
    attempts: Count
    received_at: MomentText
    dead_at: MomentText
    raw_bytes: Count
    raw: NotRequired[str]
    raw_base64: NotRequired[str]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that failed permanently. `raw` is the journal's payload, as JSON if it is an event, and cut after the
    first million of its `raw_bytes`. `sequence` is its place in the order of arrival, which is the place of its first
    attempt.
    """

    id: UUID
    account: Account
    reason: str
    detail: dict[str, Any]
    raw: bytes
    raw_bytes: int
    received_at: datetime
    dead_at: datetime
    attempts: int
    sequence: str

    def as_json(self) -> DeadLetterJson:
        letter: DeadLetterJson = {
            "id": str(self.id),
            "site_id": self.account.site_id,
            "reason": self.reason,
            "detail": self.detail,
            "attempts": self.attempts,
            "received_at": self.received_at.isoformat(),
            "dead_at": self.dead_at.isoformat(),
            "raw_bytes": self.raw_bytes,
        }
        try:
            letter["raw"] = self.raw.decode()
        except UnicodeDecodeError:
            letter["raw_base64"] = b64encode(self.raw).decode()
        return letter


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters to select. None matches all. `site_id` "" matches those whose site is unknown."""

    site_id: str | None = None
    reason: str | None = None
    dead_before: datetime | None = None

    def until(self, moment: datetime) -> "LetterFilter":
        """The same filter without dead letters that fail later, so that the number counted is the number removed."""
        return replace(self, dead_before=min(moment, self.dead_before or moment))

    def as_query(self) -> dict[str, Any]:
        query: dict[str, Any] = {"site_id": self.site_id, "reason": self.reason}
        query = {name: value for name, value in query.items() if value is not None}
        return query | ({"dead_at": {"$lt": self.dead_before}} if self.dead_before else {})


@dataclass(frozen=True, slots=True)
class LetterCount:
    site_id: str
    reason: str
    count: Count


class DeadLetterStore:
    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._client = database.client
        self._database = database
        self._letters = database["dead_letters"]
        self._removed = database["dead_letters_removed"]
        self._gone = database["dead_letters_gone"]
        self._has_index = False

    def keep(self, deaths: Sequence[Death], at: datetime) -> None:
        """Keep all of these failures. Repeating the call is harmless. Raises Unavailable."""
        if not deaths:
            return
        with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
            if not self._has_index:
                self._letters.create_index([("dead_at", -1), ("_id", -1)], name="newest_first")
                self._has_index = True
            gone = {x["_id"] for x in self._gone.find({"_id": {"$in": [x.entry.entry_id for x in deaths]}})}
            new = [x for x in deaths if x.entry.entry_id not in gone]
            if new:
                self._letters.bulk_write([UpdateOne({"_id": x.letter}, _entered(x, at), upsert=True) for x in new])

    def count(self, which: LetterFilter) -> list[LetterCount]:
        """Count by site and reason, the largest count first. Raises Unavailable."""
        group = {"_id": {"site": "$site_id", "reason": "$reason"}, "n": {"$sum": 1}}
        order = {"n": -1, "_id": 1}
        with reading(self._database):
            rows = self._letters.aggregate([{"$match": which.as_query()}, {"$group": group}, {"$sort": order}])
            return [LetterCount(row["_id"]["site"], row["_id"]["reason"], row["n"]) for row in rows]

    def find(self, which: LetterFilter, *, after: UUID | None = None, limit: int = 0) -> Iterator[DeadLetter]:
        """Yield the newest first, read one at a time from MongoDB. `after`: only those that follow this one. Raises
        Unavailable.
        """
        query = which.as_query()
        with reading(self._database):
            if after and (last := self._letters.find_one(after, {"dead_at": 1})):
                moment = last["dead_at"]
                older = [{"dead_at": {"$lt": moment}}, {"dead_at": moment, "_id": {"$lt": after}}]
                query = {"$and": [query, {"$or": older}]}
            for document in self._letters.find(query).sort([("dead_at", -1), ("_id", -1)]).limit(limit):
                yield _letter(document)

    def get(self, letter: UUID) -> DeadLetter | None:
        """Return the dead letter, or None if it does not exist. Raises Unavailable."""
        with reading(self._database):
            document = self._letters.find_one(letter)
        return _letter(document) if document else None

    def resolve(self, letters: Sequence[UUID], now: datetime) -> None:
        """Remove dead letters whose events were replayed and stored. Raises Unavailable."""
        if letters:
            self._remove({"_id": {"$in": list(letters)}}, "replayed", now)

    def purge(self, which: LetterFilter, now: datetime) -> int:
        """Remove the selected dead letters permanently, and return their number. Raises Unavailable."""
        return self._remove(which.as_query(), "purged", now)

    def purge_old(
        self, site_id: str, before: datetime, now: datetime, until: Callable[[], bool] = lambda: False
    ) -> int:
        """Purge the site's dead letters received before `before`, until `until` returns true, and return their number.
        Raises Unavailable.
        """
        return self._remove({"site_id": site_id, "received_at": {"$lt": before}}, "purged", now, until)

    def site_ids(self) -> list[str]:
        """Return the sites that have dead letters. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            return list(self._letters.distinct("site_id"))

    def count_old(self, site_id: str, before: datetime) -> int:
        """Count the site's dead letters received before `before`. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            return self._letters.count_documents({"site_id": site_id, "received_at": {"$lt": before}})

    def erase(self, letters: Sequence[UUID], now: datetime) -> int:
        """Remove the dead letters of a visitor who is erased, and return their number. Raises Unavailable."""
        return self._remove({"_id": {"$in": list(letters)}}, "erased", now) if letters else 0

    def count_attempts_by_account(self) -> Counter[Account]:
        """Count the entries that became dead letters, including removed dead letters. Raises Unavailable."""
        each = {"_id": {"site_id": "$attempts.site_id", "day": "$attempts.day"}, "n": {"$sum": 1}}
        counts: Counter[Account] = Counter()
        with raising_unavailable("mongodb", PyMongoError), self._client.start_session(snapshot=True) as session:
            kept = self._letters.aggregate([{"$unwind": "$attempts"}, {"$group": each}], session=session)
            for row in [*kept, *self._removed.find({}, session=session)]:
                counts[_account(row["_id"])] += sum(n for name, n in row.items() if name != "_id")
        return counts

    def _remove(self, query: dict[str, Any], why: str, now: datetime, until: Callable[[], bool] = lambda: False) -> int:
        def remove_some(session: ClientSession) -> int:
            some = list(self._letters.find(query, {"attempts": 1}, session=session, limit=_AT_ONCE))
            if not some:
                return 0
            attempts = Counter((x["site_id"], x["day"]) for letter in some for x in letter["attempts"])
            notes = [
                UpdateOne({"_id": {"site_id": site_id, "day": day}}, {"$inc": {why: n}}, upsert=True)
                for (site_id, day), n in attempts.items()
            ]
            # If a worker kept one of these and died before it settled the entry, the entry is delivered again.
            gone = [
                UpdateOne({"_id": x["entry_id"]}, {"$set": {"at": now}}, upsert=True)
                for letter in some
                for x in letter["attempts"]
            ]
            self._gone.bulk_write(gone, session=session)
            self._removed.bulk_write(notes, session=session)
            return self._letters.delete_many({"_id": {"$in": [x["_id"] for x in some]}}, session=session).deleted_count

        removed = 0
        with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
            self._gone.create_index("at", expireAfterSeconds=GONE_FOR)
        while True:
            with (
                raising_unavailable("mongodb", PyMongoError),
                pymongo.timeout(WRITE_LIMIT),
                self._client.start_session() as session,
            ):
                some = session.with_transaction(remove_some)
            removed += some
            if some < _AT_ONCE or until():
                return removed


def _entered(death: Death, at: datetime) -> list[dict[str, Any]]:
    """The update that adds this attempt unless it exists. It is a pipeline, so that it is one atomic step."""
    account = {"site_id": death.account.site_id, "day": death.account.day.isoformat()}
    attempt = account | {"entry_id": death.entry.entry_id, "reason": death.reason, "dead_at": at}
    attempts = {"$ifNull": ["$attempts", []]}
    known = {"$in": [death.entry.entry_id, {"$ifNull": ["$attempts.entry_id", []]}]}
    document = account | {
        "reason": death.reason,
        "detail": death.detail,
        "raw": _readable(death.entry.raw[:MOST_RAW]),
        "raw_bytes": len(death.entry.raw),
        "received_at": death.received_at,
        "dead_at": at,
    }
    literals: dict[str, Any] = {name: {"$literal": value} for name, value in document.items()}
    added = {"$concatArrays": [attempts, [{"$literal": attempt}]]}
    return [{"$set": literals | {"attempts": {"$cond": [known, attempts, added]}}}]


def _letter(document: dict[str, Any]) -> DeadLetter:
    kept = document["raw"].encode() if isinstance(document["raw"], str) else bytes(document["raw"])
    raw = readable(kept)
    return DeadLetter(
        id=document["_id"],
        account=_account(document),
        reason=document["reason"],
        detail=document["detail"],
        raw=raw,
        raw_bytes=document["raw_bytes"] + len(raw) - len(kept),
        received_at=document["received_at"],
        dead_at=document["dead_at"],
        attempts=len(document["attempts"]),
        sequence=sequence_of(document["attempts"][0]["entry_id"]),
    )


def _account(document: dict[str, Any]) -> Account:
    return Account(document["site_id"], date.fromisoformat(document["day"]))


def _readable(raw: bytes) -> str | Binary:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return Binary(raw)
