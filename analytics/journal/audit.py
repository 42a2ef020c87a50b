"""The audit: compares the ledger with itself, the journal and MongoDB, for every site and day.

It counts the entries, events and dead letters themselves, which reads all of them. It returns counts and, for each
account, what does not add up. It does not judge an account whose events are moving: two reads of the account differ, or
a task holds some of its entries. MongoDB is then ahead of the ledger.

Callers must handle Unavailable, raised if a store is not reachable.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from analytics.events.account import (
    ACCEPTED,
    DEAD,
    DROPPED,
    DROPPED_LATER,
    DUPLICATE,
    IMPORTED,
    REFUSED,
    REJECTED,
    REPLAYED,
    STORED,
    Account,
)
from analytics.events.store import EventStore
from analytics.journal.dead_letters import DeadLetterStore
from analytics.journal.journal import Journal
from analytics.journal.ledger import Ledger
from analytics.wording import printable


@dataclass(frozen=True, slots=True)
class Balance:
    """One account's counts of events. `rejected`, `dropped` (at the collector) and `dropped_later` (in a worker) are by
    reason. `faults` holds sentences; it is empty if everything adds up, and while `is_moving` is true.

    `accepted` includes `replayed` and `imported`. `accepted` = `stored` + `duplicate` + `dead` + `dropped_later` +
    `waiting`.
    """

    account: Account
    received: int
    rejected: dict[str, int]
    dropped: dict[str, int]
    accepted: int
    replayed: int
    stored: int
    duplicate: int
    dead: int
    dropped_later: dict[str, int]
    waiting: int
    refused: dict[str, int] = field(default_factory=dict)
    imported: int = 0
    is_moving: bool = False
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Audit:
    """The balances of all accounts. `uncounted` is the number of waiting entries that bypassed the collector; they are
    counted when they are settled.
    """

    balances: list[Balance]
    uncounted: int

    @property
    def faults(self) -> list[str]:
        return [f"{x.account.day} {printable(x.account.site_id)}: {fault}" for x in self.balances for fault in x.faults]

    def only(self, is_chosen: Callable[[Balance], bool]) -> "Audit":
        return Audit([balance for balance in self.balances if is_chosen(balance)], self.uncounted)

    @property
    def at_rest(self) -> bool:
        return not any(balance.is_moving for balance in self.balances)


@dataclass(frozen=True)
class Audited:
    """The four stores that an audit compares."""

    ledger: Ledger
    journal: Journal
    events: EventStore
    dead_letters: DeadLetterStore


def audit(stores: Audited) -> Audit:
    """Compare the stores. Raises Unavailable."""
    before, waiting_before = stores.ledger.read(), stores.journal.waiting_by_account()
    is_held = stores.journal.is_held()
    events = stores.events.count_by_account()
    deaths = stores.dead_letters.count_attempts_by_account()
    is_held = stores.journal.is_held() or is_held
    ledger, waiting = stores.ledger.read(), stores.journal.waiting_by_account()

    def is_moving(account: Account) -> bool:
        changed = before.get(account) != ledger.get(account) or waiting_before[account] != waiting[account]
        return changed or (is_held and bool(waiting[account] or waiting[None]))

    accounts = {*before, *ledger, *events, *deaths, *(account for account in waiting if account)}
    return Audit(
        [
            balance_of(
                account,
                ledger.get(account, Counter()),
                waiting=waiting[account],
                events=events[account],
                deaths=deaths[account],
                is_moving=is_moving(account),
            )
            for account in sorted(accounts)
        ],
        waiting[None],
    )


def balance_of(
    account: Account, counts: Counter[str], *, waiting: int, events: int, deaths: int, is_moving: bool = False
) -> Balance:
    """Return one account's balance. `events` and `deaths` are the counts in MongoDB for this account. Pure."""
    rejected, dropped = _by_reason(counts, REJECTED), _by_reason(counts, DROPPED)
    balance = Balance(
        account=account,
        received=counts[ACCEPTED] - counts[REPLAYED] + sum(rejected.values()) + sum(dropped.values()),
        rejected=rejected,
        dropped=dropped,
        accepted=counts[ACCEPTED],
        replayed=counts[REPLAYED],
        stored=counts[STORED],
        duplicate=counts[DUPLICATE],
        dead=counts[DEAD],
        dropped_later=_by_reason(counts, DROPPED_LATER),
        waiting=waiting,
        refused=_by_reason(counts, REFUSED),
        imported=counts[IMPORTED],
        is_moving=is_moving,
    )
    if not is_moving:
        balance.faults.extend(_faults(balance, events, deaths))
    return balance


def balance_of_ledger(account: Account, counts: Counter[str]) -> Balance:
    """Return the balance from the ledger alone. Accepted events without an outcome count as waiting. Pure."""
    ends = counts[STORED] + counts[DUPLICATE] + counts[DEAD] + sum(_by_reason(counts, DROPPED_LATER).values())
    waiting = max(counts[ACCEPTED] - ends, 0)  # counts are read one by one, and an event may be settled in between
    return balance_of(account, counts, waiting=waiting, events=counts[STORED], deaths=counts[DEAD], is_moving=True)


def _faults(of: Balance, events: int, deaths: int) -> Iterator[str]:
    dropped_later = sum(of.dropped_later.values())
    ends = of.stored + of.duplicate + of.dead + dropped_later + of.waiting
    if of.accepted != ends:
        yield (
            f"accepted {of.accepted}, but stored {of.stored} + duplicate {of.duplicate} + dead {of.dead}"
            f" + dropped later {dropped_later} + waiting {of.waiting} = {ends}"
        )
    if of.stored != events:
        yield f"stored {of.stored}, but MongoDB has {events} events"
    if of.dead != deaths:
        yield f"dead {of.dead}, but the dead letters tell of {deaths}"


def _by_reason(counts: Counter[str], kind: str) -> dict[str, int]:
    return {name.removeprefix(kind): n for name, n in sorted(counts.items()) if name.startswith(kind)}
