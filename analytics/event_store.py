"""Events in MongoDB, the system of record. MongoDB's names of an event's fields stand here and in stats.py.

Storing is safe to repeat: a duplicate `_id` is the same event again. Wrong can go: MongoDB away, slow or changing its
primary is `Unavailable`; an event that MongoDB will not have, for its own fault, comes back as a `Refusal`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pymongo
from bson.errors import BSONError
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError

from analytics.event import Event
from analytics.mongodb import WRITE_LIMIT
from analytics.unavailable import trouble_with

DUPLICATE_KEY = 11000
DOCUMENT_TOO_LARGE = 10334  # said by the server of a whole batch
# The codes with which MongoDB refuses a document for what it is: duplicate key, bad value, type mismatch, invalid id,
# failed validation, too large. Any other is trouble of the deployment, and waits.
OWN_FAULTS = {DUPLICATE_KEY, 2, 14, 53, 121, DOCUMENT_TOO_LARGE}
# What the driver raises before it sends anything of the batch: an int over 64 bits, half a surrogate pair, NUL in a
# key, a document over 16 MB.
UNSENDABLE = (BSONError, OverflowError, ValueError)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the event of this index will not be stored, in the words of MongoDB or its driver."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a batch: every event is one of the three."""

    stored: int
    duplicate: int
    refused: list[Refusal]


class EventStore:
    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._events: Collection[dict[str, Any]] = database["events"]
        self._indexed = False

    def store(self, events: Sequence[Event], created_at: datetime) -> Stored:
        """Write all of them, in no order, acknowledged by a majority and on disk. Raises Unavailable."""
        if not events:
            return Stored(0, 0, [])
        with trouble_with("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
            self._make_indexes()
            return self._insert([_document(event, created_at) for event in events])

    def _insert(self, documents: Sequence[dict[str, Any]], first: int = 0) -> Stored:
        """`first`: the index of the first document among all. What cannot even be sent is found by halving."""
        try:
            self._events.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            faults = error.details["writeErrors"]
            if error.details["writeConcernErrors"] or any(fault["code"] not in OWN_FAULTS for fault in faults):
                raise  # stored perhaps, proven not; or trouble that is no event's fault
            return _sort_out(len(documents), first, faults)
        except (*UNSENDABLE, OperationFailure) as error:
            if isinstance(error, OperationFailure) and error.code != DOCUMENT_TOO_LARGE:
                raise
            if len(documents) == 1:
                return Stored(0, 0, [Refusal(first, f"{type(error).__name__}: {error}"[:500])])
            half = len(documents) // 2
            left, right = self._insert(documents[:half], first), self._insert(documents[half:], first + half)
            return Stored(left.stored + right.stored, left.duplicate + right.duplicate, [*left.refused, *right.refused])
        return Stored(len(documents), 0, [])

    def _make_indexes(self) -> None:
        if not self._indexed:
            # One secondary index: each costs about a third of the insert rate. This one keeps a day's report on the
            # day's documents.
            self._events.create_index([("site_id", 1), ("timestamp", 1)], name="site_time")
            self._indexed = True


def _document(event: Event, created_at: datetime) -> dict[str, Any]:
    document: dict[str, Any] = {
        "_id": event.id,
        "site_id": event.site_id,
        "event_type": event.event_type,
        "path": event.path,
        "user_id": event.user_id,
        "props": event.props,
        "timestamp": event.occurred_at,
        "received_at": event.received_at,
        "created_at": created_at,
    }
    return {name: value for name, value in document.items() if value is not None}


def _sort_out(count: int, first: int, faults: Sequence[dict[str, Any]]) -> Stored:
    duplicate = 0
    refused = []
    for fault in faults:
        if fault["code"] == DUPLICATE_KEY and "_id" in fault.get("keyPattern", {"_id": 1}):
            duplicate += 1
        else:
            refused.append(Refusal(first + fault["index"], f"{fault['code']}: {fault['errmsg']}"[:500]))
    return Stored(count - duplicate - len(refused), duplicate, refused)
