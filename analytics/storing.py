"""From the journal to MongoDB: claim what waits, store the good, keep the bad as dead letters, and only then settle.

Every step may be repeated, so this may die anywhere: before settling, everything is still in the journal; after the
stores have written, writing the same again changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from analytics.dead_letters import DeadLetter, DeadLetterStore
from analytics.event import Event
from analytics.event_schema import InvalidEvent, load_journal_event
from analytics.event_store import EventStore, Refusal
from analytics.journal import Entry, Journal

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many events ended as what. `waiting` names the store that is away, where nothing was claimed for that."""

    stored: int = 0
    duplicate: int = 0
    dead: int = 0
    waiting: str | None = None

    def as_result(self) -> dict[str, int | str]:
        result: dict[str, int | str] = {"stored": self.stored, "duplicate": self.duplicate, "dead": self.dead}
        return result | ({"waiting": self.waiting} if self.waiting else {})


@dataclass(frozen=True)
class Stores:
    journal: Journal
    events: EventStore
    dead_letters: DeadLetterStore
    now: Callable[[], datetime]


def store_waiting(stores: Stores, consumer: str) -> Outcome:
    """Store one batch of what waits, or what an earlier run under this name left. Raises Unavailable: run it again."""
    entries = stores.journal.held(consumer)
    if not entries:
        if stores.events.is_away():
            return Outcome(waiting="mongodb")  # claim nothing that cannot be stored; the journal keeps it
        entries = stores.journal.claim(consumer)
    outcome = _store(stores, entries)
    stores.journal.settle(entries)
    if entries:
        log.info("events_stored", stored=outcome.stored, duplicate=outcome.duplicate, dead=outcome.dead)
    return outcome


def _store(stores: Stores, entries: list[Entry]) -> Outcome:
    good: list[tuple[Entry, Event]] = []
    dead: list[DeadLetter] = []
    for entry in entries:
        try:
            good.append((entry, load_journal_event(entry.raw, entry.event_id, entry.written_at)))
        except InvalidEvent as error:
            dead.append(DeadLetter(entry.event_id, entry.entry_id, "invalid_event", error.fields, entry.raw))
    now = stores.now()
    result = stores.events.store([event for _, event in good], now)
    dead += [_dead_for_refusal(good, refusal) for refusal in result.refused]
    stores.dead_letters.keep(dead, now)
    return Outcome(result.stored, result.duplicate, len(dead))


def _dead_for_refusal(good: list[tuple[Entry, Event]], refusal: Refusal) -> DeadLetter:
    entry = next(entry for entry, event in good if event is refusal.event)
    return DeadLetter(refusal.event.id, entry.entry_id, "refused", {"mongodb": refusal.reason}, entry.raw)
