"""Events in MongoDB, the system of record. Only this module, analytics/events/documents.py,
analytics/events/columns.py and analytics/events/bson_columns.py know MongoDB's names of an event's fields.

Storing may be repeated: a duplicate `_id` is the same event again. If MongoDB refuses an event because of the event
itself, `store` returns a `Refusal`. Callers must handle Unavailable, raised if MongoDB is unreachable, slow or changing
its primary.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import groupby
from operator import itemgetter
from typing import Any
from uuid import UUID

import pymongo
from bson.raw_bson import RawBSONDocument
from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, PyMongoError

from analytics.batched import batched
from analytics.events.account import Account
from analytics.events.arrival import arrival_of, place_of
from analytics.events.backfill import Backfill
from analytics.events.dirty_hours import DirtyHours
from analytics.events.documents import UNSENDABLE, DocumentWriter, event_of
from analytics.events.event import Event, sequence_of
from analytics.interval import as_ms
from analytics.mongodb import WRITE_LIMIT, reading
from analytics.unavailable import raising_unavailable

DUPLICATE_KEY = 11000
# The codes with which MongoDB refuses a document because of its content: duplicate key, bad value, type mismatch,
# invalid id, failed validation, too large. Any other code is a problem of the deployment, and the event waits.
OWN_FAULTS = {DUPLICATE_KEY, 2, 14, 53, 121, 10334}
# One secondary index, because each costs about a third of the insert rate. It lets a day's report read only that day's
# documents.
INDEXES = {"site_time": [("site_id", 1), ("timestamp", 1)]}
COUNT_LIMIT = 10_000  # ms for one count; a million events take 260 ms
READ_AT_ONCE = 200  # events; a reader holds no more of MongoDB's data in memory, 16 MB of BSON at most


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the event at this index is not stored, in the words of MongoDB or its driver."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class Stored:
    """The outcome of a batch, by index. An event that is neither a duplicate nor refused is stored."""

    duplicate: frozenset[int] = frozenset()
    refused: list[Refusal] = field(default_factory=list)

    def at(self, places: Sequence[int]) -> "Stored":
        """The same outcome by other indexes: `places` holds the new index for each old one."""
        refused = [Refusal(places[refusal.index], refusal.reason) for refusal in self.refused]
        return Stored(frozenset(places[n] for n in self.duplicate), refused)

    def __add__(self, other: "Stored") -> "Stored":
        return Stored(self.duplicate | other.duplicate, self.refused + other.refused)


class EventStore:
    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._client = database.client
        self._events: Collection[dict[str, Any]] = database["events"]
        self._removed = database["events_removed"]
        self._dirty = DirtyHours(database)
        self._backfill = Backfill(database)
        self._indexed = False

    def store(self, events: Sequence[tuple[str, Event]], created_at: datetime) -> Stored:
        """Write all events, in no order, acknowledged by a majority and on disk. Then mark their hours as dirty, so
        that reports include the events at once. Raises Unavailable.

        Each event comes with the id of its journal entry. The id tells whether an existing event was written by an
        earlier delivery of this entry or by another entry. In the second case, this event is a duplicate.
        """
        if not events:
            return Stored()
        with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
            self._make_indexes()
            is_there = self._imported_already([event for _, event in events])
            left = [n for n in range(len(events)) if n not in is_there]
            stored = self._insert([events[n] for n in left], created_at).at(left) + Stored(is_there)
            refused = {refusal.index for refusal in stored.refused}
            # Mark duplicates too: an earlier delivery may have inserted them and died before it marked them.
            unmarked = refused | is_there
            marked = (event for n, (_, event) in enumerate(events) if n not in unmarked)
            self._dirty.mark([(event.site_id, as_ms(event.occurred_at)) for event in marked], created_at)
            return stored

    def written_by(self, entries: Iterable[tuple[str, UUID]]) -> set[str]:
        """Return the entries that have written their event. Each entry comes with its event's id. Raises
        Unavailable.
        """
        ids = [event_id for _, event_id in entries]
        with raising_unavailable("mongodb", PyMongoError):
            found = self._events.find({"_id": {"$in": ids}}, {"entry_id": 1})
            return {x["entry_id"] for x in found if "entry_id" in x}

    def with_events(self, site_ids: Sequence[str] | None = None) -> list[str]:
        """Return the sites that have events, out of these sites or of all. Raises Unavailable."""
        if site_ids is not None and not site_ids:
            return []
        which = {"site_id": {"$type": "string"} if site_ids is None else {"$in": list(site_ids)}}
        with raising_unavailable("mongodb", PyMongoError):
            return list(self._events.distinct("site_id", which))

    def count_by_account(self) -> Counter[Account]:
        """Count the stored events by account: the events that exist, which takes seconds for millions, plus the events
        that were removed since (analytics/events/removal.py). Raises Unavailable.
        """
        day = {"$dateToString": {"date": "$received_at", "format": "%Y-%m-%d"}}
        counts: Counter[Account] = Counter()
        with raising_unavailable("mongodb", PyMongoError), self._client.start_session(snapshot=True) as session:
            # other programs may write other documents
            ours = {"site_id": {"$type": "string"}, "received_at": {"$type": "date"}}
            each = {"_id": {"site_id": "$site_id", "day": day}, "n": {"$sum": 1}}
            rows = self._events.aggregate([{"$match": ours}, {"$group": each}], allowDiskUse=True, session=session)
            for row in [*rows, *self._removed.find({}, session=session)]:
                account = Account(row["_id"]["site_id"], date.fromisoformat(row["_id"]["day"]))
                counts[account] += sum(n for name, n in row.items() if name != "_id")
        return counts

    def count(self, site_id: str, start: datetime, end: datetime, most: int | None = None) -> int:
        """Count the site's events from `start` up to, but not including, `end`, and no further than `most`. It reads
        only the index. Raises Unavailable.
        """
        which = {"site_id": site_id, "timestamp": {"$gte": start, "$lt": end}}
        limit: dict[str, Any] = {} if most is None else {"limit": most}
        with reading(self._events.database):
            return self._events.count_documents(which, maxTimeMS=COUNT_LIMIT, **limit)

    def find(self, site_id: str, start: datetime, end: datetime) -> Iterator[Event]:
        """Yield the site's events from `start` up to, but not including, `end`, by time and then by arrival.

        Events are read as the caller consumes them, so their number is not limited. A value of another type than the
        worker writes counts as missing.

        Raises Unavailable, at the first event or later.
        """
        which = {"site_id": site_id, "timestamp": {"$gte": start, "$lt": end}}
        order = [("site_id", 1), ("timestamp", 1)]  # the order of the index
        with reading(self._events.database), self._events.find(which, batch_size=READ_AT_ONCE) as cursor:
            for _, alike in groupby(cursor.sort(order), key=itemgetter("timestamp")):
                # Thousands of events with one timestamp are sorted in pieces of READ_AT_ONCE, so memory is bounded.
                for some in batched(alike, READ_AT_ONCE):
                    yield from map(event_of, sorted(some, key=place_of))

    def get(self, ids: Iterable[Any]) -> Iterator[Event]:
        """Yield the events with these `_id`s that still exist, in this order. Raises Unavailable."""
        for some in batched(ids, READ_AT_ONCE):
            with raising_unavailable("mongodb", PyMongoError):
                found = {document["_id"]: document for document in self._events.find({"_id": {"$in": some}})}
            yield from (event_of(found[key]) for key in some if key in found)

    def _imported_already(self, events: Sequence[Event]) -> frozenset[int]:
        """The indexes of events that return to the site from which they were exported, and that still exist there."""
        imported = {n: event for n, event in enumerate(events) if event.exported_id}
        if not imported:
            return frozenset()
        found = self._events.find({"_id": {"$in": [x.exported_id for x in imported.values()]}}, {"site_id": 1})
        there = {(document["_id"], document.get("site_id")) for document in found}
        return frozenset(n for n, event in imported.items() if (event.exported_id, event.site_id) in there)

    def _insert(self, events: Sequence[tuple[str, Event]], created_at: datetime) -> Stored:
        writer = DocumentWriter(created_at)
        documents: list[Any] = []
        sent: list[int] = []
        refused: list[Refusal] = []
        for n, (entry_id, event) in enumerate(events):
            try:
                documents.append(RawBSONDocument(writer.write(entry_id, event)))
                sent.append(n)
            except UNSENDABLE as error:
                refused.append(Refusal(n, f"{type(error).__name__}: {error}"[:500]))
        try:
            if documents:
                self._events.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            faults = error.details["writeErrors"]
            if error.details["writeConcernErrors"] or any(fault["code"] not in OWN_FAULTS for fault in faults):
                raise  # the documents may be stored, but this is not proven; or no event is the cause
            return self._sort_out([events[n] for n in sent], faults).at(sent) + Stored(refused=refused)
        return Stored(refused=refused)

    def _sort_out(self, events: Sequence[tuple[str, Event]], faults: Sequence[dict[str, Any]]) -> Stored:
        """Tell the events that MongoDB refused from those that exist already, by the errors of their documents."""
        there: list[int] = []
        refused = []
        for fault in faults:
            if fault["code"] == DUPLICATE_KEY and "_id" in fault.get("keyPattern", {"_id": 1}):
                there.append(fault["index"])
            else:
                refused.append(Refusal(fault["index"], f"{fault['code']}: {fault['errmsg']}"[:500]))
        which = {"_id": {"$in": [events[n][1].id for n in there]}}
        found = self._events.find(which, {"entry_id": 1, "sequence": 1}) if there else ()
        stored = {document["_id"]: document for document in found}
        others = [n for n in there if stored.get(events[n][1].id, {}).get("entry_id") != events[n][0]]
        there_still = (events[n] for n in others if events[n][1].id in stored)
        self._keep_first_arrival([(stored[event.id], event.sequence or sequence_of(x)) for x, event in there_still])
        return Stored(frozenset(others), refused)

    def _keep_first_arrival(self, duplicates: Iterable[tuple[dict[str, Any], str]]) -> None:
        """Give an event that was sent twice the place of its first arrival, no matter which was stored first.
        `duplicates` pairs each stored document with the sequence of the event that came again.
        """
        earlier = [
            UpdateOne({"_id": stored["_id"]}, {"$min": {"sequence": sequence}})
            for stored, sequence in duplicates
            if sequence < arrival_of(stored)
        ]
        if earlier:
            self._events.bulk_write(earlier, ordered=False)

    def _make_indexes(self) -> None:
        if not self._indexed:
            for name, keys in INDEXES.items():
                self._events.create_index(keys, name=name)
            self._backfill.note_if_there_is_none()
            self._indexed = True
