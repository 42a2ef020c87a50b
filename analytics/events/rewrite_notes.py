"""Notes of the hours whose segments hold erased events, until these segments are rebuilt and their old files removed
(analytics/privacy/segment_rewrites.py). Callers must handle Unavailable, raised if MongoDB is not reachable.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pymongo
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.interval import HOUR, Interval, as_datetime, as_ms
from analytics.mongodb import WRITE_LIMIT, looking
from analytics.unavailable import raising_unavailable


@dataclass(frozen=True, slots=True)
class RewriteNote:
    """`hours` hold erased events. `rewritten_at` is when their segments were rebuilt, and `has_files` whether old files
    were left then.
    """

    id: Any
    hours: Sequence[Interval]
    rewritten_at: datetime | None
    has_files: bool


class RewriteNotes:
    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._notes = database["segment_rewrites"]

    def make_index(self) -> None:
        """Raises PyMongoError. A transaction cannot write to a collection that was created after it began."""
        self._notes.create_index("site_id")

    def add(self, session: ClientSession, site_id: str, starts: Sequence[int], now: datetime) -> None:
        """Note the hours that begin at `starts`, in a transaction. Raises PyMongoError."""
        hours = [as_datetime(start) for start in starts]
        self._notes.insert_one({"site_id": site_id, "hours": hours, "at": now}, session=session)

    def is_any_left(self) -> bool:
        """Whether there is a note, answered quickly. Raises Unavailable."""
        with looking():
            return self._notes.find_one({}, {"_id": 1}) is not None

    def is_done(self, site_id: str) -> bool:
        """Whether the site has no note. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            return self._notes.find_one({"site_id": site_id}, {"_id": 1}) is None

    def sites(self) -> list[str]:
        """Return the sites with notes. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            return self._notes.distinct("site_id")

    def of_site(self, site_id: str) -> list[RewriteNote]:
        """Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            return [_from_document(document) for document in self._notes.find({"site_id": site_id})]

    def mark_rewritten(self, notes: Sequence[RewriteNote], now: datetime, *, has_files: bool) -> None:
        """Raises Unavailable."""
        which = {"_id": {"$in": [note.id for note in notes]}}
        with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
            self._notes.update_many(which, {"$set": {"rewritten_at": now, "has_files": has_files}})

    def remove(self, notes: Sequence[RewriteNote]) -> None:
        """Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
            self._notes.delete_many({"_id": {"$in": [note.id for note in notes]}})


def _from_document(document: dict[str, Any]) -> RewriteNote:
    hours = [Interval(as_ms(hour), as_ms(hour) + HOUR) for hour in document["hours"]]
    return RewriteNote(document["_id"], hours, document.get("rewritten_at"), document.get("has_files", False))
