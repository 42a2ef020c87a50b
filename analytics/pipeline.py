"""Moves events from the journal to MongoDB: claims entries, enriches and stores the events, keeps failed events as dead
letters, then settles the entries.

Every step may run again, so the process may die at any point. Before it settles, all entries are still in the journal.
After the stores have written, writing the same events again changes nothing.

Each outcome and what happens to the events:
    enrichment returns a Drop             dropped, and counted by reason
    a store is unreachable, slow or full  handed back; they wait until the store answers (Unavailable)
    an event does not fit the schema      a dead letter, `invalid_event` or `not_json`; the other events are stored
    MongoDB refuses an event              a dead letter, `refused`; the other events are stored
    the process dies                      delivered again, in smaller and smaller groups
    four tasks died or failed with it     a dead letter, `poison`
    its visitor was erased in between     removed again before it is settled (analytics/privacy/eraser.py)

Callers must handle Unavailable: run the task again under the same consumer name.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from msgspec.structs import replace

from analytics.batched import batched
from analytics.events.account import DEAD, DROPPED_LATER, DUPLICATE, STORED, Account
from analytics.events.drop import Drop
from analytics.events.event import Event
from analytics.events.schema import InvalidEvent, load_journal_event
from analytics.journal.dead_letters import DeadLetterStore, Death
from analytics.journal.journal import Delivery, Entry, Journal, Settlement
from analytics.unavailable import Unavailable

if TYPE_CHECKING:  # beat, Flower and the ingestion app import this module for its tasks, and do not need these
    from analytics.enrichment.steps import Enrichment
    from analytics.events.sign_ins import SignIns
    from analytics.events.store import EventStore
    from analytics.privacy.late_arrivals import LateArrivals

log = structlog.get_logger()

# How many entries are delivered together, by the number of processes that died with them. An event that kills its
# process is alone at its third delivery. A batch of 1,000 events costs 32 writes instead of 1,000. An entry with four
# crashes is not delivered a fifth time.
GROUP_SIZES = {0: 1000, 1: 32}
MOST_CRASHES = 4
# Seconds after which a task begins no further batch, because other tasks wait. Celery stops a task after 25 s.
LONGEST_RUN = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many events had each outcome. `unreachable` names a store, if nothing was claimed because of it."""

    stored: int = 0
    duplicate: int = 0
    deaths: tuple[Death, ...] = ()
    unreachable: str | None = None
    dropped: tuple[str, ...] = ()  # the reason of each event

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.stored + other.stored,
            self.duplicate + other.duplicate,
            self.deaths + other.deaths,
            self.unreachable or other.unreachable,
            self.dropped + other.dropped,
        )

    def is_some(self) -> bool:
        """Whether any event reached an outcome."""
        return bool(self.stored or self.duplicate or self.deaths or self.dropped)

    def as_result(self) -> dict[str, int | str]:
        result: dict[str, int | str] = {"stored": self.stored, "duplicate": self.duplicate, "dead": len(self.deaths)}
        result |= {"dropped": len(self.dropped)} if self.dropped else {}
        return result | ({"unreachable": self.unreachable} if self.unreachable else {})


@dataclass(frozen=True)
class Stores:
    """The stores that the pipeline uses. Without `enrichment`, events are stored unchanged. `observe_lag` is called
    after each write with the seconds since its oldest event was received, and `settled` with the outcome of each batch,
    both in any thread. Without `sign_ins`, none are noted.
    """

    journal: Journal
    events: EventStore
    dead_letters: DeadLetterStore
    now: Callable[[], datetime]
    removed: LateArrivals
    enrichment: Enrichment | None = None
    observe_lag: Callable[[float], None] = lambda _: None
    settled: Callable[[Outcome], None] = lambda _: None
    sign_ins: SignIns | None = None


def store_waiting(stores: Stores, consumer: str, *, is_retry: bool = False) -> Outcome:
    """For each journal that answers, store the entries that an earlier run under this name left, or abandoned entries,
    or new entries until none wait or LONGEST_RUN is over.

    Set `is_retry` if the previous run raised Unavailable. Its entries then count no death, even if Redis was
    unreachable and the previous run could not hand them back. So a retry asks all journals. Raises Unavailable: run
    again under the same name.
    """
    reachable = stores.journal.reachable()
    others = [part for part in stores.journal.parts if part not in reachable] if is_retry else []
    outcome = Outcome()
    for part in (*reachable, *others):
        outcome += _store_waiting_in(dataclasses.replace(stores, journal=part), consumer, is_retry=is_retry)
    return outcome


def _store_waiting_in(stores: Stores, consumer: str, *, is_retry: bool) -> Outcome:
    held = stores.journal.held(consumer)
    if is_retry:
        held = stores.journal.forgive(consumer, held)
    if left := held or stores.journal.abandoned():
        outcome = _store_redelivered(stores, consumer, left)
    elif stores.journal.is_retry_waiting():
        return Outcome(unreachable="mongodb")  # do not claim what cannot be stored; the journal keeps it
    else:
        outcome = _store_new(stores, consumer)
    if outcome.is_some():
        log.info("events_stored", **outcome.as_result())
    return outcome


def _store_redelivered(stores: Stores, consumer: str, deliveries: Sequence[Delivery]) -> Outcome:
    """Store entries that were delivered before. Entries whose process died are taken in small groups and then alone,
    because one of them may have killed the process. An entry with four crashes becomes a dead letter without being read
    again.
    """
    outcome = Outcome()
    for crashes, group in groupby(sorted(deliveries, key=attrgetter("crashes")), key=attrgetter("crashes")):
        for few in batched(group, GROUP_SIZES.get(crashes, 1)):
            entries = stores.journal.take(consumer, few)
            is_poison = crashes >= MOST_CRASHES
            outcome += (
                _settle_poison(stores, few, entries)
                if is_poison
                else _store(stores, consumer, entries, is_redelivery=True)
            )
    return outcome


def _store_new(stores: Stores, consumer: str) -> Outcome:
    """While a thread writes a batch and settles it, the next batch is claimed and prepared. A process that dies then
    held two batches, and both are delivered again.
    """
    end = time.monotonic() + LONGEST_RUN
    entries = stores.journal.claim(consumer)
    if not stores.journal.has_more:
        return _store(stores, consumer, entries)
    outcome, following = Outcome(), list[Entry]()
    writer = ThreadPoolExecutor(1, "write")
    try:
        prepared = _prepare(stores, entries)
        while entries:
            writing = writer.submit(_finish, stores, prepared)
            following = stores.journal.claim(consumer) if stores.journal.has_more and time.monotonic() < end else []
            prepared = _prepare(stores, following)
            outcome += writing.result()
            entries, following = following, []
    except Unavailable:
        _hand_back(stores, consumer, [*entries, *following])
        raise
    finally:
        writer.shutdown(wait=False)  # a task that is out of time does not wait for MongoDB
    return outcome


def _store(stores: Stores, consumer: str, entries: Sequence[Entry], *, is_redelivery: bool = False) -> Outcome:
    try:
        return _finish(stores, _prepare(stores, entries, is_redelivery=is_redelivery))
    except Unavailable:
        _hand_back(stores, consumer, entries)
        raise


def _hand_back(stores: Stores, consumer: str, entries: Sequence[Entry]) -> None:
    """An unreachable store must not count against an event."""
    with suppress(Unavailable):
        stores.journal.hand_back(consumer, entries)


@dataclass(slots=True)
class _Batch:
    """Entries that were read and enriched: the events to store, and what became of the others."""

    now: datetime
    good: list[tuple[Entry, Event]]
    settlements: list[Settlement]
    deaths: list[Death]


def _prepare(stores: Stores, entries: Sequence[Entry], *, is_redelivery: bool = False) -> _Batch:
    """Read and enrich the events. `is_redelivery`: an earlier delivery may have stored some of them."""
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
    return _Batch(now, *_enrich(stores, valid, is_redelivery), deaths)


def _finish(stores: Stores, batch: _Batch) -> Outcome:
    """Write the events and the dead letters, and settle the entries."""
    now, good, deaths = batch.now, batch.good, batch.deaths
    written = [(entry.entry_id, event) for entry, event in good]
    result = stores.events.store(written, now)
    if received := [event.received_at for _, event in good if event.exported_id is None]:
        stores.observe_lag((stores.now() - min(received)).total_seconds())
    refused = {refusal.index: refusal.reason for refusal in result.refused}
    for index, (entry, event) in enumerate(good):
        if index in refused:
            deaths.append(
                _death(entry, "refused", {"mongodb": refused[index]}, now, event_id=event.id, site_id=event.site_id)
            )
    stores.dead_letters.keep(deaths, now)
    gone = stores.removed.catch(written, deaths, now)
    if stores.sign_ins:
        back = gone.originals | gone.duplicates
        stores.sign_ins.note([event for entry_id, event in written if entry_id not in back], now)
    # An event that an earlier delivery stored counts as stored, even if it was removed and sent again since.
    duplicate = {good[index][0].entry_id for index in result.duplicate} - gone.originals | gone.duplicates
    settlements = batch.settlements + [
        Settlement(entry, DUPLICATE if entry.entry_id in duplicate else STORED, _account(entry, event))
        for index, (entry, event) in enumerate(good)
        if index not in refused
    ]
    stores.dead_letters.resolve([settled.entry.replay.letter for settled in settlements if settled.entry.replay], now)
    return _settle(stores, settlements, deaths)


def _enrich(
    stores: Stores, valid: Sequence[tuple[Entry, Event]], is_redelivery: bool
) -> tuple[list[tuple[Entry, Event]], list[Settlement]]:
    """Return the entries to store, and the settlements of the dropped entries. An event that an earlier delivery
    stored, before the site's settings changed, stays and counts as stored: the ledger must match MongoDB.
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
    if is_redelivery and dropped:
        there |= set(stores.events.written_by((x.entry_id, event.id) for x, event, _ in dropped))
        there |= stores.removed.gone([(x.entry_id, event) for x, event, _ in dropped]).originals
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


def _settle_poison(stores: Stores, deliveries: Sequence[Delivery], entries: Sequence[Entry]) -> Outcome:
    detail = {"crashes": f"{MOST_CRASHES} tasks crashed or failed while they held it"}
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
    """`event_id` and `site_id` keep their defaults if the event cannot be read. A replay keeps its dead letter's id; an
    entry keeps its account.
    """
    letter = entry.replay.letter if entry.replay else event_id or entry.event_id()
    received_at = _written_at(entry, now)
    return Death(letter, entry, entry.account or Account(site_id, received_at.date()), received_at, reason, detail)


def _written_at(entry: Entry, now: datetime) -> datetime:
    return entry.written_at() or now


def _settle(stores: Stores, settlements: Sequence[Settlement], deaths: Sequence[Death]) -> Outcome:
    stores.journal.settle([*settlements, *(Settlement(x.entry, DEAD, x.account) for x in deaths)])
    ends = Counter(settlement.outcome for settlement in settlements)
    dropped = (x.outcome.removeprefix(DROPPED_LATER) for x in settlements if x.outcome.startswith(DROPPED_LATER))
    outcome = Outcome(ends[STORED], ends[DUPLICATE], tuple(deaths), dropped=tuple(dropped))
    stores.settled(outcome)
    return outcome
