"""Events in MongoDB, the system of record. Only this module, analytics/events/columns.py and
analytics/events/bson_columns.py know MongoDB's names of an event's fields.

Storing may be repeated: a duplicate `_id` is the same event again. If MongoDB refuses an event because of the event
itself, `store` returns a `Refusal`. Callers must handle Unavailable, raised if MongoDB is unreachable, slow or changing
its primary.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any, TypeVar
from uuid import UUID

import pymongo
from bson import Decimal128
from bson.errors import BSONError
from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError

from analytics.batched import batched
from analytics.events.account import Account
from analytics.events.arrival import arrival_of, id_of, place_of
from analytics.events.backfill import Backfill
from analytics.events.dirty_hours import DirtyHours
from analytics.events.event import DESCRIBED, Event, Revenue
from analytics.events.stored_props import as_sent, stored_form
from analytics.interval import as_ms
from analytics.mongodb import WRITE_LIMIT, reading
from analytics.unavailable import raising_unavailable

DUPLICATE_KEY = 11000
DOCUMENT_TOO_LARGE = 10334  # reported by the server for a whole batch
# The codes with which MongoDB refuses a document because of its content: duplicate key, bad value, type mismatch,
# invalid id, failed validation, too large. Any other code is a problem of the deployment, and the event waits.
OWN_FAULTS = {DUPLICATE_KEY, 2, 14, 53, 121, DOCUMENT_TOO_LARGE}
# One secondary index, because each costs about a third of the insert rate. It lets a day's report read only that day's
# documents.
INDEXES = {"site_time": [("site_id", 1), ("timestamp", 1)]}
# Exceptions that the driver raises before it sends the batch: an int over 64 bits, half a surrogate pair, NUL in a key,
# a document over 16 MB.
UNSENDABLE = (BSONError, OverflowError, ValueError)
COUNT_LIMIT = 10_000  # ms for one count; a million events take 260 ms
READ_AT_ONCE = 200  # events; a reader holds no more of MongoDB's data in memory, 16 MB of BSON at most

# The fields that MongoDB holds under the same name, if the event has them.
_OPTIONAL = ("sequence", "exported_id", "import_id", "hostname", "path", "user_id", "visitor_id", "engagement_time",
             "scroll_depth")  # fmt: skip
_optional_of = attrgetter(*_OPTIONAL)

T = TypeVar("T")


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
            stored = self._insert([_document(*events[n], created_at) for n in left]).at(left) + Stored(is_there)
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
                    yield from map(_event, sorted(some, key=place_of))

    def get(self, ids: Iterable[Any]) -> Iterator[Event]:
        """Yield the events with these `_id`s that still exist, in this order. Raises Unavailable."""
        for some in batched(ids, READ_AT_ONCE):
            with raising_unavailable("mongodb", PyMongoError):
                found = {document["_id"]: document for document in self._events.find({"_id": {"$in": some}})}
            yield from (_event(found[key]) for key in some if key in found)

    def _imported_already(self, events: Sequence[Event]) -> frozenset[int]:
        """The indexes of events that return to the site from which they were exported, and that still exist there."""
        imported = {n: event for n, event in enumerate(events) if event.exported_id}
        if not imported:
            return frozenset()
        found = self._events.find({"_id": {"$in": [x.exported_id for x in imported.values()]}}, {"site_id": 1})
        there = {(document["_id"], document.get("site_id")) for document in found}
        return frozenset(n for n, event in imported.items() if (event.exported_id, event.site_id) in there)

    def _insert(self, documents: Sequence[dict[str, Any]], first: int = 0) -> Stored:
        """`first` is the index of the first document in the whole batch. A document that cannot be sent is found by
        halving.
        """
        if not documents:
            return Stored()
        try:
            self._events.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            faults = error.details["writeErrors"]
            if error.details["writeConcernErrors"] or any(fault["code"] not in OWN_FAULTS for fault in faults):
                raise  # the documents may be stored, but this is not proven; or no event is the cause
            return self._sort_out(documents, first, faults)
        except (*UNSENDABLE, OperationFailure) as error:
            if isinstance(error, OperationFailure) and error.code != DOCUMENT_TOO_LARGE:
                raise
            if len(documents) == 1:
                return Stored(refused=[Refusal(first, f"{type(error).__name__}: {error}"[:500])])
            half = len(documents) // 2
            return self._insert(documents[:half], first) + self._insert(documents[half:], first + half)
        return Stored()

    def _sort_out(self, documents: Sequence[dict[str, Any]], first: int, faults: Sequence[dict[str, Any]]) -> Stored:
        there: list[int] = []
        refused = []
        for fault in faults:
            if fault["code"] == DUPLICATE_KEY and "_id" in fault.get("keyPattern", {"_id": 1}):
                there.append(fault["index"])
            else:
                refused.append(Refusal(first + fault["index"], f"{fault['code']}: {fault['errmsg']}"[:500]))
        ids = [documents[index]["_id"] for index in there]
        which = {"_id": {"$in": ids}}
        found = self._events.find(which, {"entry_id": 1, "sequence": 1}) if ids else ()
        stored = {document["_id"]: document for document in found}
        others = [n for n in there if stored.get(documents[n]["_id"], {}).get("entry_id") != documents[n]["entry_id"]]
        there_still = (n for n in others if documents[n]["_id"] in stored)
        self._keep_first_arrival([(stored[documents[n]["_id"]], documents[n]) for n in there_still])
        return Stored(frozenset(first + n for n in others), refused)

    def _keep_first_arrival(self, duplicates: Iterable[tuple[dict[str, Any], dict[str, Any]]]) -> None:
        """Give an event that was sent twice the place of its first arrival, no matter which was stored first.
        `duplicates` pairs each stored document with the document that came again.
        """
        earlier = [
            UpdateOne({"_id": stored["_id"]}, {"$min": {"sequence": sequence}})
            for stored, document in duplicates
            if (sequence := arrival_of(document)) < arrival_of(stored)
        ]
        if earlier:
            self._events.bulk_write(earlier, ordered=False)

    def _make_indexes(self) -> None:
        if not self._indexed:
            for name, keys in INDEXES.items():
                self._events.create_index(keys, name=name)
            self._backfill.note_if_there_is_none()
            self._indexed = True


def _document(entry_id: str, event: Event, created_at: datetime) -> dict[str, Any]:
    document: dict[str, Any] = {
        "_id": event.id,
        "entry_id": entry_id,
        "site_id": event.site_id,
        "event_type": event.event_type,
        "timestamp": event.occurred_at,
        "received_at": event.received_at,
        "created_at": created_at,
    }
    optional = zip(_OPTIONAL, _optional_of(event), strict=True)
    document |= {name: value for name, value in optional if value is not None}
    if event.described:
        document |= event.described
    if not event.interactive:
        document["interactive"] = False
    if event.revenue:
        document["revenue"] = _revenue(event.revenue)
    if event.props is not None:
        document["props"] = stored_form(event.props)
    if event.clamped:
        document["clamped"] = True
    return document


def _event(document: Mapping[str, Any]) -> Event:
    moment = document["timestamp"]
    described = {name: text for name in DESCRIBED if (text := _of_type(document, name, str))}
    return Event(
        id=id_of(document["_id"]),
        site_id=document["site_id"],
        event_type=_of_type(document, "event_type", str) or "",
        occurred_at=moment,
        received_at=_of_type(document, "received_at", datetime) or moment,
        hostname=_of_type(document, "hostname", str),
        path=_of_type(document, "path", str),
        user_id=_of_type(document, "user_id", str),
        visitor_id=_of_type(document, "visitor_id", str),
        described=described or None,
        interactive=_of_type(document, "interactive", bool) is not False,
        engagement_time=_of_type(document, "engagement_time", int),
        scroll_depth=_of_type(document, "scroll_depth", int),
        revenue=_read_revenue(document.get("revenue")),
        props=as_sent(document.get("props")),
        clamped=_of_type(document, "clamped", bool) is True,
        sequence=arrival_of(document),
        exported_id=_of_type(document, "exported_id", UUID),
    )


def _of_type(document: Mapping[str, Any], name: str, kind: type[T]) -> T | None:
    value = document.get(name)
    if isinstance(value, bool) and kind is int:
        return None
    return value if isinstance(value, kind) else None


def _read_revenue(value: object) -> Revenue | None:
    match value:
        case {"amount": Decimal128() as amount, "currency": str(currency)} if amount.to_decimal().is_finite():
            return Revenue(amount.to_decimal(), currency)
    return None


def _revenue(revenue: Revenue) -> dict[str, Any]:
    return {"amount": Decimal128(revenue.amount), "currency": revenue.currency}
