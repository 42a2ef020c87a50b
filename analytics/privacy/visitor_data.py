"""Finds all data of one visitor in all stores: to export it, to erase it, or to prove that nothing is left.

No index contains visitors, so all events of the site are read (analytics/events/search.py). Segments identify a visitor
by a hash. Every file of the site is read, including files that no manifest names any more. Callers must handle
Unavailable, raised if a store is not reachable.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from typing import Any

from analytics.events.columns import visitor_of
from analytics.events.schema import readable
from analytics.events.search import EventSearch
from analytics.events.selection import of_visitor
from analytics.journal.dead_letters import DeadLetter, DeadLetterStore, LetterFilter
from analytics.journal.journal import Entry, Journal
from analytics.privacy.visitor import Visitor
from analytics.segments.engine import Segments
from analytics.segments.store import SegmentLost


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
    stored: EventSearch
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
            events=sum(1 for _ in self.event_keys(visitor)),
            segments=sum(1 for _ in self.files(visitor)),
        )

    def export(self, visitor: Visitor) -> Iterator[bytes]:
        """Yield NDJSON: every event as it is stored, then the dead letters, then the waiting entries. Raises
        Unavailable.
        """
        for event in self.stored.find(visitor.site_id, of_visitor(visitor.site_id, visitor.name, visitor.id)):
            yield _line("event", event)
        for letter in self.letters(visitor):
            yield _line("dead_letter", letter.as_json())
        for entry in self.waiting(visitor):
            yield _line("waiting", {"entry_id": entry.entry_id, "raw": readable(entry.raw).decode(errors="replace")})

    def event_keys(self, visitor: Visitor) -> Iterator[Any]:
        """Yield the `_id`s of the visitor's stored events. Raises Unavailable."""
        return self.stored.keys(visitor.site_id, of_visitor(visitor.site_id, visitor.name, visitor.id))

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


def _line(kind: str, data: Mapping[str, Any]) -> bytes:
    return json.dumps({"kind": kind, **data}, ensure_ascii=False).encode(errors="replace") + b"\n"
