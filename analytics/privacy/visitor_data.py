"""Finds all data of one visitor in all stores: to export it, to erase it, or to prove that nothing is left.

No index contains visitors, so all events of the site are read, by time, in intervals of at most _MOST_AT_ONCE events.
Segments identify a visitor by a hash. Every file of the site is read, including files that no manifest names any more.
Callers must handle Unavailable, raised if a store is not reachable.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from bson import Decimal128
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.events.columns import RawEvents, visitor_of
from analytics.events.schema import readable
from analytics.events.stored_props import as_sent
from analytics.interval import LATEST, Interval, as_datetime
from analytics.journal.dead_letters import DeadLetter, DeadLetterStore, LetterFilter
from analytics.journal.journal import Entry, Journal
from analytics.privacy.visitor import Visitor
from analytics.segments.engine import Segments
from analytics.segments.store import SegmentLost
from analytics.unavailable import raising_unavailable

_MOST_AT_ONCE = 100_000  # of the site's events, which one query reads


@dataclass(frozen=True, slots=True)
class Found:
    """How many of each there are. `segments` counts files, in MongoDB and on this machine's disk."""

    events: int
    segments: int
    dead_letters: int
    journal: int

    @property
    def is_nothing(self) -> bool:
        return not any(asdict(self).values())


@dataclass(frozen=True)
class VisitorData:
    database: Database[dict[str, Any]]
    journal: Journal
    dead_letters: DeadLetterStore
    segments: Segments

    def search(self, visitor: Visitor) -> Found:
        """Count the visitor's data. The journal is searched first, because entries that leave it are then found in the
        other stores. Raises Unavailable.
        """
        return Found(
            journal=sum(1 for _ in self.waiting(visitor)),
            dead_letters=sum(1 for _ in self.letters(visitor)),
            events=sum(1 for _ in self.events(visitor)),
            segments=sum(1 for _ in self.files(visitor)),
        )

    def export(self, visitor: Visitor) -> Iterator[bytes]:
        """Yield NDJSON: every event as it is stored, then the dead letters, then the waiting entries. Raises
        Unavailable.
        """
        for event in self.events(visitor):
            props = {"props": as_sent(event["props"])} if "props" in event else {}
            yield _line("event", {name: _as_json(value) for name, value in (event | props).items()})
        for letter in self.letters(visitor):
            yield _line("dead_letter", letter.as_json())
        for entry in self.waiting(visitor):
            yield _line("waiting", {"entry_id": entry.entry_id, "raw": readable(entry.raw).decode(errors="replace")})

    def events(self, visitor: Visitor, fields: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Yield the visitor's events as MongoDB documents. Raises Unavailable."""
        events, whose = self.database["events"], {"site_id": visitor.site_id, visitor.name: visitor.id}
        months = self.segments.raw.months(visitor.site_id)
        with raising_unavailable("mongodb", PyMongoError):
            for month in months:
                for part in _parts(self.segments.raw, visitor.site_id, month):
                    when = {"$gte": as_datetime(part.start), "$lt": as_datetime(part.end)}
                    yield from events.find(whose | {"timestamp": when}, fields)
            # Documents of other programs.
            odd = [{"timestamp": {"$lt": as_datetime(0)}}, {"timestamp": {"$gte": LATEST}}]
            yield from events.find(whose | {"$or": [*odd, {"timestamp": {"$not": {"$type": "date"}}}]}, fields)

    def letters(self, visitor: Visitor) -> Iterator[DeadLetter]:
        for letter in self.dead_letters.find(LetterFilter()):
            if visitor.is_in(letter.raw, letter.account.site_id):
                yield letter

    def waiting(self, visitor: Visitor) -> Iterator[Entry]:
        """Yield the visitor's entries in the journal, including those that a worker holds now. Raises Unavailable."""
        for entry in self.journal.entries():
            if visitor.is_in(entry.raw, entry.account.site_id if entry.account else ""):
                yield entry

    def files(self, visitor: Visitor) -> Iterator[str]:
        """Yield the versions of the site's segments that hold the visitor. First remove copies on this disk whose file
        is deleted. Raises Unavailable.
        """
        store = self.segments.store
        store.remove_orphans()
        with closing(self.segments.connect()) as connection, store.workplace.folder() as folder:
            for version in store.versions(visitor.site_id):
                path = folder / f"{version}.parquet"
                with suppress(SegmentLost):  # removed in the meantime
                    store.download(version, path)
                    asked = "SELECT count(*) FROM read_parquet(?) WHERE visitor = ?"
                    ((rows,),) = connection.execute(asked, [[str(path)], visitor_of(visitor.id)]).fetchall()
                    if rows:
                        yield version
                path.unlink(missing_ok=True)


def _parts(raw: RawEvents, site_id: str, interval: Interval) -> Iterator[Interval]:
    """Yield the interval in parts of few events."""
    count = raw.count(site_id, interval, _MOST_AT_ONCE + 1)
    middle = (interval.start + interval.end) // 2
    if count <= _MOST_AT_ONCE or middle == interval.start:
        if count:
            yield interval
    else:
        yield from _parts(raw, site_id, Interval(interval.start, middle))
        yield from _parts(raw, site_id, Interval(middle, interval.end))


def _line(kind: str, data: Mapping[str, Any]) -> bytes:
    return json.dumps({"kind": kind, **data}, ensure_ascii=False).encode(errors="replace") + b"\n"


def _as_json(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat()
        case UUID() | Decimal128():
            return str(value)
        case dict():
            return {name: _as_json(item) for name, item in value.items()}
        case list():
            return [_as_json(item) for item in value]
        case str() | int() | float() | None:
            return value
        case _:
            return repr(value)
