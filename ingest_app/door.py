"""The door: where an event becomes our responsibility.

In: a hit. Out: what of it was admitted; returning means that this is durable in the journal, and that
what was rejected is counted. Raises InvalidEvent (the caller's mistake) and Unavailable (our trouble: nothing was
promised, and the same event_ids may come again).
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import Metric

from analytics.books import REJECTED, Account
from analytics.event import Event
from analytics.event_schema import InvalidEvent, load_event
from analytics.journal import Journal, Line
from analytics.unavailable import Unavailable
from config.metrics import COMMIT_EVENTS, COMMIT_SECONDS, EVENTS, journal_gauges
from ingest_app.group_commit import GroupCommit
from ingest_app.hit import Hit
from tasks.events import WakeUps

# Rejected events of a hit that names more sites than this count for none of them: each name takes 98 bytes of Redis,
# and it costs nothing to make up thousands.
MOST_SITES = 10


@dataclass(frozen=True, slots=True)
class Admitted:
    """How many events of a hit were accepted, and which were not, by their index; those dropped with the reason."""

    accepted: int
    rejected: dict[int, InvalidEvent]
    dropped: dict[int, str] = field(default_factory=dict)


class Door:
    def __init__(
        self,
        journal: Journal,
        wake_ups: WakeUps,
        now: Callable[[], datetime],
        commits: type[GroupCommit[Line]] = GroupCommit,
    ) -> None:
        self._journal = journal
        self._wake_ups = wake_ups
        self._now = now
        self._commits = commits(self._commit)

    @contextmanager
    def counting_what_cannot_be_read(self) -> Iterator[None]:
        """Reading a body; where that is an InvalidEvent, it is counted before the caller hears of it."""
        try:
            yield
        except InvalidEvent as error:
            self._commits.append([_rejection(error, self._now())])
            raise

    def admit(self, hit: Hit) -> Admitted:
        """None of a hit's events suffers from its neighbours."""
        now = self._now()
        lines = []
        rejected = {}
        for index, body in enumerate(hit.bodies):
            try:
                lines.append(Line.of(_load(body, now)))
            except InvalidEvent as error:
                rejected[index] = error
        knows_sites = len({error.site_id for error in rejected.values()}) <= MOST_SITES
        lines += [_rejection(error, now, error.site_id if knows_sites else "") for error in rejected.values()]
        if lines:
            self._commits.append(lines)
        return Admitted(len(hit.bodies) - len(rejected), rejected)

    def _commit(self, lines: Sequence[Line]) -> None:
        start = time.perf_counter()
        try:
            owed = self._journal.append(lines)
        except Unavailable as error:
            EVENTS.labels("refused", error.store).inc(len(lines))
            raise
        COMMIT_SECONDS.observe(time.perf_counter() - start)
        COMMIT_EVENTS.observe(len(lines))
        for name, count in Counter(line.name for line in lines).items():
            outcome, _, reason = name.partition(":")
            EVENTS.labels(outcome, reason).inc(count)
        if owed > 0:
            self._wake_ups.ask()

    def check(self) -> None:
        self._journal.check()

    def gauges(self) -> Iterable[Metric]:
        """Raises Unavailable."""
        oldest = self._journal.oldest()
        age = (self._now() - oldest).total_seconds() if oldest else 0.0
        return journal_gauges(self._journal.waiting(), max(age, 0.0))


def _load(body: object, now: datetime) -> Event:
    if isinstance(body, InvalidEvent):
        raise body
    return load_event(body, now)


def _rejection(error: InvalidEvent, now: datetime, site_id: str = "") -> Line:
    return Line(Account(site_id, now.date()), f"{REJECTED}{error.code}")
