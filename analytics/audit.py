"""The audit: do the books agree with themselves, with the journal and with MongoDB, for every site and day?

In: the stores. Out: a page of counts and, account by account, what does not add up. Everything is counted anew from the
entries, events and dead letters themselves, which reads all of them. Wrong can go: a store that is away is
`Unavailable`; while events still move, two looks differ, and the audit says so instead of guessing.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from analytics.books import ACCEPTED, DEAD, DROPPED, DUPLICATE, REJECTED, REPLAYED, STORED, Account, Books
from analytics.dead_letters import DeadLetterStore
from analytics.event_store import EventStore
from analytics.journal import Journal


@dataclass(frozen=True, slots=True)
class Line:
    """One account's counts, of events. `rejected` and `dropped` by reason; `faults`: sentences, none where all is well.

    `replayed` are among `accepted`; `accepted` = `stored` + `duplicate` + `dead` + `waiting`.
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
    waiting: int
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Audit:
    """`uncounted`: waiting entries that came past the door, counted when they are settled; `at_rest`: nothing moved."""

    lines: list[Line]
    uncounted: int
    at_rest: bool

    @property
    def faults(self) -> list[str]:
        return [
            f"{line.account.day} {line.account.site_id or '(no site)'}: {x}" for line in self.lines for x in line.faults
        ]


@dataclass(frozen=True)
class Audited:
    """The four places that an audit compares."""

    books: Books
    journal: Journal
    events: EventStore
    dead_letters: DeadLetterStore


def audit(stores: Audited) -> Audit:
    """Raises Unavailable."""
    before = stores.books.read(), stores.journal.waiting_by_account()
    events = stores.events.count_by_account()
    deaths = stores.dead_letters.count_attempts_by_account()
    after = stores.books.read(), stores.journal.waiting_by_account()
    books, waiting = after
    accounts = sorted({*books, *events, *deaths, *(account for account in waiting if account)})
    lines = [
        line_of(account, books.get(account, Counter()), waiting[account], events[account], deaths[account])
        for account in accounts
    ]
    return Audit(lines, waiting[None], before == after)


def line_of(account: Account, counts: Counter[str], waiting: int, events: int, deaths: int) -> Line:
    """`events` and `deaths`: what MongoDB holds of this account. Pure."""
    rejected, dropped = _by_reason(counts, REJECTED), _by_reason(counts, DROPPED)
    line = Line(
        account=account,
        received=counts[ACCEPTED] - counts[REPLAYED] + sum(rejected.values()) + sum(dropped.values()),
        rejected=rejected,
        dropped=dropped,
        accepted=counts[ACCEPTED],
        replayed=counts[REPLAYED],
        stored=counts[STORED],
        duplicate=counts[DUPLICATE],
        dead=counts[DEAD],
        waiting=waiting,
    )
    line.faults.extend(_faults(line, events, deaths))
    return line


def _faults(line: Line, events: int, deaths: int) -> Iterator[str]:
    ends = line.stored + line.duplicate + line.dead + line.waiting
    if line.accepted != ends:
        yield (
            f"accepted {line.accepted}, but stored {line.stored} + duplicate {line.duplicate} + dead {line.dead}"
            f" + waiting {line.waiting} = {ends}"
        )
    if line.stored != events:
        yield f"stored {line.stored}, but MongoDB has {events} events"
    if line.dead != deaths:
        yield f"dead {line.dead}, but the dead letters tell of {deaths}"


def _by_reason(counts: Counter[str], kind: str) -> dict[str, int]:
    return {name.removeprefix(kind): n for name, n in sorted(counts.items()) if name.startswith(kind)}
