"""Erases one visitor. Dead letters and events are removed at once. Events still in the journal are removed when a
worker stores them (analytics/privacy/late_arrivals.py).

After `erase`, no event and no report holds data of the visitor. Segments are then rebuilt and their old files removed
(analytics/privacy/segment_rewrites.py), and Redis's append-only file is rewritten. `finish` does this soon after, in a
worker or in the process that waits for it.

Every step may be repeated. After a kill -9 at any point, the operator requests the erasure again. Callers must handle
Unavailable, raised if a store is not reachable. Repeating the call is harmless.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from analytics.batched import batched
from analytics.events.removal import ERASED, REMOVED_AT_ONCE, Removals
from analytics.events.selection import of_visitor
from analytics.events.sign_ins import SignIns
from analytics.privacy.erasure_log import Erasures
from analytics.privacy.segment_rewrites import Rewriter
from analytics.privacy.visitor import Visitor
from analytics.privacy.visitor_data import VisitorData

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Erased:
    """How many were erased now. `waiting` is how many of the visitor's entries are still in the journal; they are
    removed when a worker takes them.

    `name` is the name of the record, for `is_finished`.
    """

    name: str
    events: int
    dead_letters: int
    waiting: int


@dataclass(frozen=True)
class Eraser:
    data: VisitorData
    erasures: Erasures
    removals: Removals
    rewriter: Rewriter
    sign_ins: SignIns
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def erase(self, visitor: Visitor) -> Erased:
        """Erase the visitor. Raises Unavailable; some data may be erased by then, and repeating the call is
        harmless.
        """
        name = self.note(visitor)
        letters, events = self.erase_letters(visitor), self.erase_events(visitor)
        waiting = sum(1 for _ in self.data.waiting(visitor))
        log.info("visitor_erased", site_id=visitor.site_id, events=events, dead_letters=letters, waiting=waiting)
        return Erased(name, events, letters, waiting)

    def note(self, visitor: Visitor) -> str:
        """Note the erasure. This is the first step; without it, events still in the journal would stay."""
        return self.erasures.note(visitor, self.now())

    def erase_letters(self, visitor: Visitor) -> int:
        erased = 0
        for some in batched(self.data.letters(visitor), REMOVED_AT_ONCE):
            erased += self.data.dead_letters.erase([letter.id for letter in some], self.now())
        return erased

    def erase_events(self, visitor: Visitor) -> int:
        self.sign_ins.forget(visitor.site_id, user_id=visitor.user_id, visitor_id=visitor.visitor_id)
        since = self.data.journal.oldest()  # before the events are searched
        whose = of_visitor(visitor.site_id, visitor.name, visitor.id)
        erased = 0
        for some in batched(self.data.event_keys(visitor), REMOVED_AT_ONCE):
            erased += self.removals.remove(some, whose, ERASED, self.now(), since)
        return erased

    def finish(self, until: datetime | None = None) -> int:
        """Rebuild segments, then rewrite Redis's file, as far as possible now. Returns how many segments were rebuilt.
        Raises Unavailable.
        """
        built = self.rewriter.rewrite_due(until)
        ripe = [
            erasure
            for erasure in self.erasures.unfinished()
            if self._is_drained(erasure.at) and self.rewriter.is_done(erasure.site_id)
        ]
        if ripe and self.data.journal.rewrite_file():
            for erasure in ripe:
                self.erasures.finish(erasure)
        return built

    def _is_drained(self, at: datetime) -> bool:
        """Whether all events received until then have left the journal."""
        oldest = self.data.journal.oldest()
        return self.now() > at and (oldest is None or oldest > at)
