"""Removes events that were erased while they were in the journal.

A worker calls it after it has stored events and before it settles their entries. An erasure writes its record before it
searches events, and a worker searches records after it has stored events. The later of the two therefore finds the
event. If no visitor was erased lately, this costs two index queries for each batch. Callers must handle Unavailable,
raised if a store is not reachable.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from analytics.events.event import Event
from analytics.events.removal import ERASED, Gone, Removals
from analytics.events.selection import of_entries
from analytics.journal.dead_letters import DeadLetterStore, Death
from analytics.privacy.erasure_log import Erasures
from analytics.privacy.visitor import Visitor, visitors_in, visitors_named

log = structlog.get_logger()


@dataclass(frozen=True)
class LateArrivals:
    erasures: Erasures
    removals: Removals
    dead_letters: DeadLetterStore

    def gone(self, stored: Sequence[tuple[str, Event]]) -> Gone:
        """Return which of these events were removed. Each event comes with its journal entry. Raises Unavailable."""
        return self.removals.gone(stored)

    def catch(self, stored: Sequence[tuple[str, Event]], deaths: Sequence[Death], now: datetime) -> Gone:
        """Remove the events and dead letters of visitors who were erased after these were received. Each event comes
        with its journal entry. The events still count as stored, or dead, and then as removed. Also remove, and return,
        events that were removed before and are stored again, because a worker died or was slow, or because the same
        event was sent again. Raises Unavailable.
        """
        moments = [event.received_at for _, event in stored] + [death.received_at for death in deaths]
        if not moments:
            return Gone()
        erased = self.erasures.since(min(moments))
        gone = self.gone(stored)
        back = gone.originals | gone.duplicates
        if back:
            self.removals.take_back([event.id for entry_id, event in stored if entry_id in back], sorted(back), now)
        if erased:
            self._erase([(x, event) for x, event in stored if x not in back], deaths, erased, now)
        return gone

    def _erase(
        self,
        stored: Sequence[tuple[str, Event]],
        deaths: Sequence[Death],
        erased: Mapping[str, datetime],
        now: datetime,
    ) -> None:
        is_erased = _asking(erased, self.erasures.namer())
        events = [(x, event) for x, event in stored if is_erased(_visitors_of(event), event.received_at)]
        if events:
            which = of_entries(entry_id for entry_id, _ in events)
            since = min(event.received_at for _, event in events)
            self.removals.remove([event.id for _, event in events], which, ERASED, now, since)
        letters = [x.letter for x in deaths if is_erased(visitors_in(x.entry.raw, x.account.site_id), x.received_at)]
        self.dead_letters.erase(letters, now)
        if events or letters:
            log.info("late_events_erased", events=len(events), dead_letters=len(letters))


IsErased = Callable[[Sequence[Visitor], datetime], bool]


def _asking(erased: Mapping[str, datetime], name_of: Callable[[Visitor], str]) -> IsErased:
    def is_erased(visitors: Sequence[Visitor], received_at: datetime) -> bool:
        return any((until := erased.get(name_of(x))) and received_at <= until for x in visitors)

    return is_erased


def _visitors_of(event: Event) -> list[Visitor]:
    return visitors_named(event.site_id, event.user_id, event.visitor_id)
