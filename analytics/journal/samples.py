"""Samples of the journal over time: how many events wait, how long the oldest waits, and how many there were so far.

A task takes a sample each minute (tasks/samples.py). They are in one Redis stream with a limit of a week, about 2 MB.
Redis holds them because they show what happens while MongoDB is down. Callers must handle Unavailable, raised if Redis
is not reachable.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import structlog
from redis import Redis
from redis.exceptions import RedisError

from analytics.journal.journal import Journal
from analytics.journal.ledger import Ledger
from analytics.journal.totals import Totals, totals_of
from analytics.unavailable import Unavailable, raising_unavailable

log = structlog.get_logger()

SAMPLES_KEY = "footfall:samples"
MOST_SAMPLES = 7 * 24 * 60
LENGTHS = {
    "hour": (timedelta(minutes=2), 30),
    "day": (timedelta(minutes=15), 96),
    "week": (timedelta(hours=2), 84),
}  # the length and the number of the parts
GAP = timedelta(minutes=5)  # between two samples; after a longer time, the numbers in between are not known


@dataclass(frozen=True, slots=True)
class Sample:
    """`at`: when it was taken. `waiting`: events in the journal. `lag`: seconds since the oldest of them was received.
    `totals`: the totals of that day and the day before, by day; None if MongoDB did not answer.
    """

    at: datetime
    waiting: int
    lag: float
    totals: dict[date, Totals] | None


@dataclass(frozen=True, slots=True)
class Rate:
    """A part of the time from `start` on. `events`: those of the part, and the `seconds` in which they were counted.
    `waiting` and `lag` are the highest of the part. A value is None if there is no sample of it.
    """

    start: datetime
    events: Totals | None
    seconds: float
    waiting: int | None
    lag: float | None

    def per_minute(self, name: str) -> float | None:
        """The rate of one of the fields of Totals."""
        return 60 * getattr(self.events, name) / self.seconds if self.events and self.seconds else None


class Samples:
    """Takes samples and keeps them. `now` returns aware UTC times."""

    def __init__(self, redis: Redis, journal: Journal, ledger: Ledger, now: Callable[[], datetime]) -> None:
        self._redis = redis
        self._journal = journal
        self._ledger = ledger
        self._now = now

    def take(self) -> int:
        """Take a sample and keep it. Returns how many events wait. Raises Unavailable."""
        now, waiting, oldest = self._now(), self._journal.waiting(), self._journal.oldest()
        lag = max(0.0, (now - oldest).total_seconds()) if oldest else 0.0
        totals = {day.isoformat(): asdict(each) for day, each in self._totals(now.date()).items()}
        fields: dict[Any, Any] = {"waiting": waiting, "lag": round(lag, 1), "totals": json.dumps(totals)}
        with raising_unavailable("redis", RedisError):
            self._redis.xadd(SAMPLES_KEY, fields, maxlen=MOST_SAMPLES, approximate=False)
        return waiting

    def since(self, moment: datetime) -> list[Sample]:
        """Return the samples that were taken then or later, by Redis's clock, the oldest first. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            found: Any = self._redis.xrange(SAMPLES_KEY, str(int(moment.timestamp() * 1000)))
        return [_sample(entry_id, fields) for entry_id, fields in found]

    def recent(self, length: str) -> list[Rate]:
        """Return the rates of the last hour, day or week, which end now: see LENGTHS. Raises Unavailable."""
        step, parts = LENGTHS[length]
        start = self._now() - parts * step
        return rates(self.since(start), start, step, parts)

    def _totals(self, today: date) -> dict[date, Totals]:
        """The totals of today and yesterday, or {} if the ledger is not reachable: journal and lag are known anyway."""
        counts: defaultdict[date, list[Counter[str]]] = defaultdict(list)
        try:
            for account, names in self._ledger.of_days(today - timedelta(days=1), today).items():
                counts[account.day].append(names)
        except Unavailable as error:
            log.warning("ledger_not_sampled", error=str(error))
            return {}
        return {day: totals_of(each) for day, each in counts.items()} or {today: Totals()}


def rates(samples: Sequence[Sample], start: datetime, step: timedelta, parts: int) -> list[Rate]:
    """The rates in each of the parts of length `step` from `start` on. Pure."""
    counted: defaultdict[int, list[tuple[Totals, float]]] = defaultdict(list)
    seen: defaultdict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        seen[(sample.at - start) // step].append(sample)
    for earlier, later in pairwise(samples):
        if more := _between(earlier, later):
            counted[(later.at - start) // step].append((more, (later.at - earlier.at).total_seconds()))
    return [_rate(start + i * step, counted[i], seen[i]) for i in range(parts)]


def _between(earlier: Sample, later: Sample) -> Totals | None:
    """The events between two samples. None if it is not known."""
    if earlier.totals is None or later.totals is None or not timedelta(0) < later.at - earlier.at <= GAP:
        return None
    more = (totals.since(earlier.totals.get(day, Totals())) for day, totals in later.totals.items())
    return sum(more, Totals())


def _rate(start: datetime, counted: Sequence[tuple[Totals, float]], seen: Iterable[Sample]) -> Rate:
    events = sum((more for more, _ in counted), Totals()) if counted else None
    held = list(seen)
    waiting = max((sample.waiting for sample in held), default=None)
    return Rate(start, events, sum(s for _, s in counted), waiting, max((each.lag for each in held), default=None))


def _sample(entry_id: bytes, fields: dict[bytes, bytes]) -> Sample:
    at = datetime.fromtimestamp(int(entry_id.split(b"-")[0]) / 1000, UTC)
    totals = {date.fromisoformat(day): Totals(**each) for day, each in json.loads(fields[b"totals"]).items()}
    return Sample(at, int(fields[b"waiting"]), float(fields[b"lag"]), totals or None)
