"""From the journal to MongoDB: claim what waits, enrich and store the good, keep the bad as dead letters, and only then
settle.

Every step may be repeated, so this may die anywhere: before settling, everything is still in the journal; after the
stores have written, writing the same again changes nothing.

What goes wrong, and what becomes of the events:
    enrichment says that it is none    dropped, and counted by its reason
    a store is away, stalled, full     they are handed back and wait, as long as it takes (Unavailable)
    an event does not fit the schema   a dead letter, `invalid_event` or `not_json`; its neighbours are stored
    MongoDB refuses an event           a dead letter, `refused`; its neighbours are stored
    the process dies                   they are delivered again, in smaller and smaller company
    four tasks died or failed with it  a dead letter, `poison`
    its visitor was erased meanwhile   it is removed again before it is settled (analytics/privacy/eraser.py)
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import groupby, islice
from operator import attrgetter
from typing import Any
from uuid import UUID

import structlog

from analytics.enrichment.steps import Enrichment
from analytics.events.account import DEAD, DROPPED_LATER, DUPLICATE, STORED, Account
from analytics.events.drop import Drop
from analytics.events.event import Event
from analytics.events.schema import InvalidEvent, load_journal_event
from analytics.events.store import EventStore
from analytics.journal.dead_letters import DeadLetterStore, Death
from analytics.journal.journal import Delivery, Entry, Journal, Settlement
from analytics.privacy.late_arrivals import LateArrivals
from analytics.unavailable import Unavailable
from config.metrics import EVENT_OUTCOMES, STORE_LAG

log = structlog.get_logger()

# How many are delivered together, by how many processes died with them: what kills is alone at the third delivery,
# while a batch of a thousand innocents costs 32 writes and not a thousand. After the fourth death there is no fifth.
GROUP_SIZES = {0: 1000, 1: 32}
MOST_DEATHS = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many events ended as what. `waiting` names the store that is away, where nothing was claimed for that."""

    stored: int = 0
    duplicate: int = 0
    deaths: tuple[Death, ...] = ()
    waiting: str | None = None
    dropped: tuple[str, ...] = ()  # the reason of each

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(
            self.stored + other.stored,
            self.duplicate + other.duplicate,
            self.deaths + other.deaths,
            dropped=self.dropped + other.dropped,
        )

    def is_some(self) -> bool:
        """Whether any event came to an end."""
        return bool(self.stored or self.duplicate or self.deaths or self.dropped)

    def as_result(self) -> dict[str, int | str]:
        result: dict[str, int | str] = {"stored": self.stored, "duplicate": self.duplicate, "dead": len(self.deaths)}
        result |= {"dropped": len(self.dropped)} if self.dropped else {}
        return result | ({"waiting": self.waiting} if self.waiting else {})


@dataclass(frozen=True)
class Stores:
    """Without `enrichment`, events are stored as they came."""

    journal: Journal
    events: EventStore
    dead_letters: DeadLetterStore
    now: Callable[[], datetime]
    removed: LateArrivals
    enrichment: Enrichment | None = None


def store_waiting(stores: Stores, consumer: str, *, is_retry: bool = False) -> Outcome:
    """Store what an earlier run under this name left, or what somebody else left, or one batch of what is new.

    `is_retry`: the run before ended by raising Unavailable, so nobody died with what it held, even where Redis was away
    and could not be told. Raises Unavailable: run it again, under the same name.
    """
    held = stores.journal.held(consumer)
    if is_retry:
        held = stores.journal.forgive(consumer, held)
    if left := held or stores.journal.abandoned():
        outcome = _store_again(stores, consumer, left)
    elif stores.journal.somebody_retries():
        return Outcome(waiting="mongodb")  # claim nothing that cannot be stored; the journal keeps it
    else:
        outcome = _store(stores, consumer, stores.journal.claim(consumer))
    if outcome.is_some():
        _count(outcome)
        log.info("events_stored", **outcome.as_result())
    return outcome


def _count(outcome: Outcome) -> None:
    EVENT_OUTCOMES.labels(STORED, "").inc(outcome.stored)
    EVENT_OUTCOMES.labels(DUPLICATE, "").inc(outcome.duplicate)
    for death in outcome.deaths:
        EVENT_OUTCOMES.labels(DEAD, death.reason).inc()
    for reason in outcome.dropped:
        EVENT_OUTCOMES.labels("dropped", reason).inc()


def _store_again(stores: Stores, consumer: str, deliveries: Sequence[Delivery]) -> Outcome:
    """What was handed out before. Those that somebody died with are taken in small groups, then alone: one of them may
    be what killed him. What killed four is a dead letter, and nobody looks into it again.
    """
    outcome = Outcome()
    for deaths, group in groupby(sorted(deliveries, key=attrgetter("deaths")), key=attrgetter("deaths")):
        for few in _batched(group, GROUP_SIZES.get(deaths, 1)):
            entries = stores.journal.take(consumer, few)
            is_poison = deaths >= MOST_DEATHS
            outcome += _bury(stores, few, entries) if is_poison else _store(stores, consumer, entries, is_again=True)
    return outcome


def _store(stores: Stores, consumer: str, entries: Sequence[Entry], *, is_again: bool = False) -> Outcome:
    try:
        return _settle(stores, *_write(stores, entries, is_again))
    except Unavailable:
        with suppress(Unavailable):
            stores.journal.hand_back(consumer, entries)  # our trouble is not held against an event
        raise


def _write(stores: Stores, entries: Sequence[Entry], is_again: bool) -> tuple[list[Settlement], list[Death]]:
    """`is_again`: an earlier delivery may have stored some of them."""
    valid: list[tuple[Entry, Event]] = []
    deaths: list[Death] = []
    now = stores.now()
    for entry in entries:
        try:
            event = load_journal_event(entry.raw, entry.event_id, partial(_written_at, entry, now))
        except InvalidEvent as error:
            deaths.append(_death(entry, error.code, error.fields, now, site_id=error.site_id))
        else:
            if entry.replay and event.sequence is None:
                event = replace(event, sequence=entry.replay.sequence)
            valid.append((entry, event))
    good, settlements = _enrich(stores, valid, is_again)
    result = stores.events.store([(entry.entry_id, event) for entry, event in good], now)
    if received := [event.received_at for _, event in good if event.exported_id is None]:
        STORE_LAG.observe((stores.now() - min(received)).total_seconds())
    refused = {refusal.index: refusal.reason for refusal in result.refused}
    for index, (entry, event) in enumerate(good):
        if index in refused:
            deaths.append(
                _death(entry, "refused", {"mongodb": refused[index]}, now, event_id=event.id, site_id=event.site_id)
            )
    stores.dead_letters.keep(deaths, now)
    gone = stores.removed.catch([(entry.entry_id, event) for entry, event in good], deaths, now)
    # What an earlier delivery stored counts as stored, also where it was removed and the same was sent again.
    duplicate = {good[index][0].entry_id for index in result.duplicate} - gone.own | gone.again
    for index, (entry, event) in enumerate(good):
        if index not in refused:
            outcome = DUPLICATE if entry.entry_id in duplicate else STORED
            settlements.append(Settlement(entry, outcome, _account(entry, event)))
    stores.dead_letters.resolve([settled.entry.replay.letter for settled in settlements if settled.entry.replay])
    return settlements, deaths


def _enrich(
    stores: Stores, valid: Sequence[tuple[Entry, Event]], is_again: bool
) -> tuple[list[tuple[Entry, Event]], list[Settlement]]:
    """Those to store, and those that are dropped. What an earlier delivery stored already, before the site's settings
    were others, stays, and counts as stored: the books say what MongoDB has.
    """
    if stores.enrichment is None:
        return list(valid), []
    good: list[tuple[Entry, Event]] = []
    dropped: list[tuple[Entry, Event, Drop]] = []
    enriched = stores.enrichment.apply([event for _, event in valid])
    for (entry, event), outcome in zip(valid, enriched, strict=True):
        if isinstance(outcome, Drop):
            dropped.append((entry, event, outcome))
        else:
            good.append((entry, outcome))
    there: set[str] = set()
    if is_again and dropped:
        there |= set(stores.events.written_by((x.entry_id, event.id) for x, event, _ in dropped))
        there |= stores.removed.gone([(x.entry_id, event) for x, event, _ in dropped]).own
    return good, [
        Settlement(
            entry,
            STORED if entry.entry_id in there else f"{DROPPED_LATER}{drop.reason}",
            _account(entry, event),
        )
        for entry, event, drop in dropped
    ]


def _account(entry: Entry, event: Event) -> Account:
    return entry.account or Account(event.site_id, event.received_at.date())


def _bury(stores: Stores, deliveries: Sequence[Delivery], entries: Sequence[Entry]) -> Outcome:
    detail = {"deaths": f"{MOST_DEATHS} tasks died or failed while they had it"}
    now = stores.now()
    deaths = [_death(entry, "poison", detail, now) for entry in entries]
    stores.dead_letters.keep(deaths, now)
    stores.removed.catch([], deaths, now)
    outcome = _settle(stores, [], deaths)
    stores.journal.settle_deleted(deliveries)
    return outcome


def _death(
    entry: Entry, reason: str, detail: dict[str, Any], now: datetime, *, event_id: UUID | None = None, site_id: str = ""
) -> Death:
    """`event_id`, `site_id`: what could be read of the event. A replay keeps its letter, and an entry its account."""
    letter = entry.replay.letter if entry.replay else event_id or entry.event_id()
    received_at = _written_at(entry, now)
    return Death(letter, entry, entry.account or Account(site_id, received_at.date()), received_at, reason, detail)


def _written_at(entry: Entry, now: datetime) -> datetime:
    return entry.written_at() or now


def _settle(stores: Stores, settlements: Sequence[Settlement], deaths: Sequence[Death]) -> Outcome:
    stores.journal.settle([*settlements, *(Settlement(x.entry, DEAD, x.account) for x in deaths)])
    ends = Counter(settlement.outcome for settlement in settlements)
    dropped = (x.outcome.removeprefix(DROPPED_LATER) for x in settlements if x.outcome.startswith(DROPPED_LATER))
    return Outcome(ends[STORED], ends[DUPLICATE], tuple(deaths), dropped=tuple(dropped))


def _batched(items: Iterable[Delivery], size: int) -> Iterator[list[Delivery]]:
    """itertools.batched, which Python 3.11 has not yet."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
