"""The records of imports in MongoDB, and the events or the daily totals that an import brought.

A record holds how far the import has come. The process that imports replaces the counts, so a repeated write changes
nothing. Events carry the id of their import. Callers must handle Unavailable, raised if MongoDB is unreachable or slow.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pymongo.database import Database

from analytics.aggregates.store import AggregateStore
from analytics.events.removal import PURGED, Removals
from analytics.events.selection import Selection, of_import
from analytics.interval import whole_milliseconds
from analytics.mongodb import looking, reading, writing

_SALT = 32  # bytes


class ImportRemoved(Exception):
    """The import is being removed, so it cannot continue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRecord:
    """One import, by the site, the format and the content of its files.

    `owner` is the site in the other system. `rows` counts the rows that were read, and `events` those of their events
    that were sent to the journal, or of their daily totals that were stored. `skipped` counts rows, or parts of rows,
    by reason. `first` and `last` are the times of the first and the last event. `salt` hides the visitors of access
    logs; it is deleted when the import is finished.
    """

    id: str
    site_id: str
    format: str
    files: tuple[str, ...]
    owner: str = ""
    started_at: datetime
    updated_at: datetime
    is_finished: bool = False
    rows: int = 0
    events: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    first: datetime | None = None
    last: datetime | None = None
    salt: bytes = field(default=b"", repr=False)


class ImportStore:
    def __init__(
        self,
        database: Database[dict[str, Any]],
        removals: Removals,
        aggregates: AggregateStore,
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._imports = database["imports"]
        self._removals = removals
        self._aggregates = aggregates
        self._now = now

    def begin(self, record_id: str, site_id: str, format_name: str, files: Sequence[str]) -> ImportRecord:
        """Return the record of an import that was interrupted, or a new one. Raises ImportRemoved and Unavailable."""
        now = whole_milliseconds(self._now())
        new = ImportRecord(
            id=record_id,
            site_id=site_id,
            format=format_name,
            files=tuple(files),
            started_at=now,
            updated_at=now,
            salt=os.urandom(_SALT),
        )
        with writing(self._database):
            self._imports.delete_one({"_id": record_id, "is_finished": True, "removing_since": None})
            self._imports.update_one({"_id": record_id}, {"$setOnInsert": _to_document(new)}, upsert=True)
            document = self._imports.find_one({"_id": record_id})
        if document is None or "removing_since" in document:
            raise ImportRemoved
        return _from_document(document)

    def save(self, record: ImportRecord) -> ImportRecord:
        """Store how far the import has come, and return the record. Raises ImportRemoved and Unavailable."""
        saved = replace(record, updated_at=whole_milliseconds(self._now()))
        with writing(self._database):
            changes = {name: value for name, value in _to_document(saved).items() if name != "_id"}
            change = {"$set": changes, **({"$unset": {"salt": ""}} if not saved.salt else {})}
            found = self._imports.update_one({"_id": record.id, "removing_since": None}, change)
        if not found.matched_count:
            raise ImportRemoved
        return saved

    def get(self, record_id: str) -> ImportRecord | None:
        """Raises Unavailable."""
        with reading(self._database):
            document = self._imports.find_one({"_id": record_id})
        return _from_document(document) if document else None

    def list(self, site_id: str | None = None) -> Sequence[ImportRecord]:
        """Return the imports, the latest first. Raises Unavailable."""
        which = {} if site_id is None else {"site_id": site_id}
        with reading(self._database):
            return [_from_document(each) for each in self._imports.find(which).sort([("started_at", -1), ("_id", 1)])]

    def stop(self, record_id: str) -> datetime:
        """Mark the import as being removed, so that no process continues it. Returns since when it is marked. Raises
        Unavailable.
        """
        with writing(self._database):
            first = {"_id": record_id, "removing_since": None}
            self._imports.update_one(first, {"$set": {"removing_since": whole_milliseconds(self._now())}})
            document = self._imports.find_one({"_id": record_id}) or {}
        moment: datetime = document.get("removing_since") or self._now()
        return moment

    def is_any_removed(self) -> bool:
        """Whether an import is marked as being removed, answered quickly. Raises Unavailable."""
        with looking():
            return self._imports.find_one({"removing_since": {"$type": "date"}}, {"_id": 1}) is not None

    def being_removed(self) -> Sequence[tuple[ImportRecord, datetime]]:
        """Return the imports that are marked as being removed, each with since when. Raises Unavailable."""
        with reading(self._database):
            found = list(self._imports.find({"removing_since": {"$type": "date"}}))
        return [(_from_document(each), each["removing_since"]) for each in found]

    def count(self, record: ImportRecord) -> int:
        """Count the stored events, or daily totals, that the import brought. Raises Unavailable."""
        return self._removals.count(_events_of(record)) + self._aggregates.count(record.id)

    def remove_all_of(self, record: ImportRecord, waiting_since: datetime | None) -> Iterator[int]:
        """Remove the stored events, or daily totals, that the import brought, and yield the number of each group.
        `waiting_since`: see Removals.remove. Raises Unavailable; repeating the call is harmless.
        """
        yield from self._aggregates.remove(record.id)
        yield from self._removals.remove_all(_events_of(record), PURGED, self._now, waiting_since)

    def forget(self, record_id: str) -> None:
        """Remove the record. Raises Unavailable."""
        with writing(self._database):
            self._imports.delete_one({"_id": record_id})


def _events_of(record: ImportRecord) -> Selection:
    """An import sends events before it saves its counts, so times are only known of a finished one."""
    times = (record.first, record.last) if record.is_finished and record.first and record.last else None
    return of_import(record.site_id, record.id, times)


def _to_document(record: ImportRecord) -> dict[str, Any]:
    document = {name: getattr(record, name) for name in ImportRecord.__dataclass_fields__ if name != "id"}
    document |= {"_id": record.id, "files": list(record.files), "skipped": dict(record.skipped)}
    return {name: value for name, value in document.items() if value not in (None, b"")}


def _from_document(document: Mapping[str, Any]) -> ImportRecord:
    known = {name: document[name] for name in ImportRecord.__dataclass_fields__ if name in document}
    return ImportRecord(**known | {"id": document["_id"], "files": tuple(document["files"])})
