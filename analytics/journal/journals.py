"""Several journals as one: each site's events go to the server that a hash of the site chooses.

To the code that appends, counts or searches events, `Journals` is a journal. A worker takes events from each of its
`parts`, and settles them there. docs/decisions/0021-several-journals.md explains the choice, and how a site moves.

Callers must handle Unavailable. What counts or searches all events raises it if one server does not answer.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b

import structlog

from analytics.events.account import Account
from analytics.events.event import Event, packed
from analytics.events.schema import dump_event
from analytics.journal.journal import Entry, Journal, Line, Replay
from analytics.journal.site_shares import Held
from analytics.store_notes import FIRST_JOURNAL
from analytics.unavailable import Breaker, Unavailable

log = structlog.get_logger()

MOST_PLACED = 10_000  # sites whose server a process remembers
ASKED_AGAIN = 5.0  # seconds for which a server that did not answer is left out


class Journals(Journal):
    """The first of `parts` is the journal in REDIS_URL, which also has Celery's queue. `closing` holds the names of
    those that get no new events.

    It has no entries of its own: `held`, `claim`, `take`, `settle` and the like are methods of a part.
    """

    def __init__(self, parts: Sequence[Journal], closing: Iterable[str] = ()) -> None:
        self._parts = tuple(parts)
        left_out = frozenset(closing)
        self._open = [part for part in parts if part.name not in left_out]
        self._breakers = {part.name: Breaker("redis", Unavailable, ASKED_AGAIN) for part in parts}
        self.part_of = lru_cache(MOST_PLACED)(self._choose)  # type: ignore[method-assign]

    @property
    def parts(self) -> Sequence[Journal]:
        return self._parts

    @property
    def dump(self) -> Callable[[Event], bytes]:  # type: ignore[override]
        """Each server says what all workers read (Journal). One that was empty lately may not know it yet."""
        return packed if any(part.dump is packed for part in self._open) else dump_event

    def reachable(self) -> Sequence[Journal]:
        """The parts that answer; all of them if none does, so that the caller learns why."""
        return [part for part in self._parts if self._answers(part)] or self._parts

    def append(self, lines: Sequence[Line]) -> int:
        """All lines go to the server of the last one, so that all of them are written or none. Raises Unavailable."""
        return self.part_of(lines[-1].account.site_id).append(lines)

    def over_its_share(self, site_ids: Iterable[str]) -> str | None:
        return next((site_id for site_id in site_ids if self.part_of(site_id).over_its_share((site_id,))), None)

    def held_by(self, site_id: str) -> Held:
        """Return what waits where new events of the site go. Raises Unavailable."""
        return self.part_of(site_id).held_by(site_id)

    def replay(self, account: Account, raw: bytes, replay: Replay) -> None:
        self.part_of(account.site_id).replay(account, raw, replay)

    def wake_ups_owed(self) -> int:
        """Return how many more tasks should be queued, of which each takes events from all parts. Raises Unavailable if
        the first part does not answer, because it has the queue.
        """
        first, waiting = self._parts[0], sum(part.waiting() for part in self.reachable())
        return math.ceil(waiting / first._events_of_a_task) - first.tasks_waiting(first._queue)

    def tasks_waiting(self, queue: str) -> int:
        return self._parts[0].tasks_waiting(queue)

    def waiting(self) -> int:
        return sum(part.waiting() for part in self._parts)

    def is_behind(self) -> bool:
        return any(part.is_behind() for part in self.reachable())

    def lacks_room_for_tasks(self) -> bool:
        return self._parts[0].lacks_room_for_tasks()

    def is_held(self) -> bool:
        return any(part.is_held() for part in self._parts)

    def oldest(self) -> datetime | None:
        return min(filter(None, (part.oldest() for part in self._parts)), default=None)

    def entries(self) -> Iterator[Entry]:
        """Yield all waiting entries, those of one server after those of another. Raises Unavailable."""
        for part in self._parts:
            yield from part.entries()

    def rewrite_file(self) -> bool:
        return all(part.rewrite_file() for part in self._parts)

    def check(self) -> None:
        """Raises Unavailable if no server answers and has room for events."""
        failure = None
        for part in self._open:
            try:
                part.check()
            except Unavailable as error:
                failure = error
            else:
                return
        if failure:
            raise failure

    def _choose(self, site_id: str) -> Journal:
        """The open part with the highest hash, so that a further server takes sites from all others, and only those."""
        return max(self._open, key=lambda part: blake2b(f"{part.name} {site_id}".encode(), digest_size=8).digest())

    def _answers(self, part: Journal) -> bool:
        try:
            with self._breakers[part.name].closed():
                part.ping()
        except Unavailable as error:
            log.warning("journal_left_out", journal=part.name or FIRST_JOURNAL, error=str(error))
            return False
        return True


@dataclass(frozen=True, slots=True)
class JournalState:
    """What one journal holds. `oldest`: when its oldest event was received. `of_others`: waiting events of sites whose
    new events go to another journal. `used` and `most`: bytes of its Redis; 0 if there is no limit.
    """

    waiting: int
    oldest: datetime | None
    of_others: int
    used: int
    most: int


def journal_state(part: Journal, journal: Journal) -> JournalState:
    """The state of one of the parts of `journal`. Raises Unavailable."""
    of_others = sum(n for site_id, n in part.held_by_site().items() if journal.part_of(site_id) is not part)
    return JournalState(part.waiting(), part.oldest(), of_others, *part.memory())
