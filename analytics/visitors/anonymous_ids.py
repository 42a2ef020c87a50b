"""Anonymous visitor ids for events without a user_id, so that a visit continues after midnight.

An id is valid for one day in the site's time zone (analytics/visitors/salts.py). A visitor with an event in the 30
minutes before midnight keeps the id of the day before until the visit ends. Redis holds these ids for 30 minutes after
the visitor's last event, and a mark for each site that has any. A process that saw no mark does not ask again on that
day, so at noon this costs nothing. Before midnight nothing is asked, and the caller keeps the ids of many hits alive
together.

    event of yesterday, or 30 minutes before midnight    yesterday's salt, or today's salt; the id is kept alive
    event after midnight, yesterday's id is alive        that id, which is kept alive
    event older than yesterday                           today's salt: the older salts are destroyed

Callers must handle Unavailable, raised if Redis is not reachable.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct
from redis import Redis
from redis.exceptions import RedisError

from analytics.interval import VISIT_GAP
from analytics.journal.loop_redis import executing_on_loop
from analytics.redis import Command, execute_now
from analytics.sites.site import Site
from analytics.unavailable import Breaker
from analytics.visitors.client import Client
from analytics.visitors.salts import SALT_DAY, Salts, visitor_id

_VISIT_GAP = timedelta(milliseconds=VISIT_GAP)
SETTLES = timedelta(minutes=1)  # after midnight, until the visits that continue over midnight are marked
_CLEAR = timedelta(hours=2)  # before midnight; longer than _VISIT_GAP also if a clock is changed
_MOST_SITES = 10_000  # sites that a process remembers to have no mark; in development, any client can create sites

_ALIVE, _MARK = "footfall:alive:", "footfall:carried:"

# KEYS: mark, id, mark, id, ... ARGV: for each pair the seconds that the id stays alive, and what to do; last, the
# seconds of a mark. The answer for each pair: 2 if the visit continues, 1 if it does not, 0 if no visit of the site
# continues.
GOES_ON, _NO_VISIT = 2, 0
CARRY = """
local answer = {}
for i = 1, #KEYS, 2 do
  local mark, id, seconds = KEYS[i], KEYS[i + 1], ARGV[i]
  if ARGV[i + 1] == 'mark' then
    redis.call('SET', id, '', 'EX', seconds)
    redis.call('SET', mark, '', 'EX', ARGV[#ARGV])
    answer[#answer + 1] = 2
  elseif redis.call('EXISTS', mark) == 0 then
    answer[#answer + 1] = 0
  elseif redis.call('EXISTS', id) == 0 then
    answer[#answer + 1] = 1
  else
    redis.call('EXPIRE', id, seconds)
    redis.call('EXPIRE', mark, ARGV[#ARGV])
    answer[#answer + 1] = 2
  end
end
return answer
"""


class Act(Struct, frozen=True):
    """One event without a user_id."""

    site: Site
    client: Client
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class Carried:
    """A visit that may continue over midnight. Event number `index` belongs to `visitor` if that visitor's visit
    continues from `day` into today. With `is_marked`, it belongs to it in any case, and the visit may continue from
    `day` into the next day.
    """

    index: int
    site: Site
    day: date
    visitor: str
    seconds: int
    is_marked: bool

    @property
    def keys(self) -> tuple[str, str]:
        return f"{_MARK}{self.day} {self.site.site_id}", f"{_ALIVE}{self.visitor}"


class _LocalDay(Struct, frozen=True):
    """A day of a time zone. Before `calm_until`, no visit that continues into the next day begins."""

    day: date
    start: datetime
    calm_until: datetime
    end: datetime

    @classmethod
    def of(cls, zone: ZoneInfo, now: datetime) -> "_LocalDay":
        today = now.astimezone(zone).date()
        start, end = (datetime.combine(x, datetime.min.time(), zone).astimezone(UTC) for x in (today, today + SALT_DAY))
        return cls(today, start, end - _CLEAR, end)


def end_visit(redis: Redis, visitor: str) -> None:
    """End the visit of this visitor, so that it does not continue after midnight. Raises RedisError."""
    redis.delete(f"{_ALIVE}{visitor}")


class Visitors:
    def __init__(self, redis: Redis, salts: Salts) -> None:
        self._redis = redis
        self._salts = salts
        self._carry = redis.register_script(CARRY)
        self._breaker = Breaker("redis", RedisError)
        self._no_visit_since: dict[str, date] = {}  # by site: since which of its days no visit continues over midnight
        self._today: dict[ZoneInfo, _LocalDay] = {}

    def identify(self, acts: Sequence[Act], now: datetime) -> tuple[list[str], list[Carried]]:
        """Return the visitor id of each event, and what the caller must pass to `mark` before it says that the events
        are accepted. Asks Redis at most once, and only around midnight. Raises Unavailable.
        """
        ids: list[str] = []
        questions: list[Carried] = []
        known: dict[tuple[str, date, int], str] = {}  # by the client object, because most events of a hit share it
        for index, act in enumerate(acts):
            local = self._local_day(act.site.zone, now)
            # At most times, which saves the 3 µs of what follows.
            is_calm = (
                local.start <= act.occurred_at < local.calm_until
                and self._no_visit_since.get(act.site.site_id) == local.day
            )
            day = local.day if is_calm else _day_of(act, local)
            key = act.site.site_id, day, id(act.client)
            visitor = known.get(key) or known.setdefault(key, self._id(act, act.site.zone, day))
            ids.append(visitor)
            if not is_calm and (question := self._question(index, act, visitor, local, now)):
                questions.append(question)
        if all(each.is_marked for each in questions):
            return ids, questions
        self._ask(questions, ids, now)
        return ids, []

    def mark(self, visits: Sequence[Carried]) -> None:
        """Keep the ids of these visits alive. Raises Unavailable."""
        with self._breaker.closed():
            execute_now(self._redis, _marking(visits))

    @asynccontextmanager
    async def marking_on_loop(self) -> AsyncIterator[Callable[[Sequence[Carried]], Awaitable[None]]]:
        """A function like `mark` that does not block the running loop. One call at a time."""

        async def mark(visits: Sequence[Carried]) -> None:
            with self._breaker.closed():
                await execute(_marking(visits), 0)

        async with executing_on_loop(self._redis) as execute:
            yield mark

    def _local_day(self, zone: ZoneInfo, now: datetime) -> _LocalDay:
        known = self._today.get(zone)
        if known is None or not known.start <= now < known.end:
            known = self._today[zone] = _LocalDay.of(zone, now)
        return known

    def _question(self, index: int, act: Act, visitor: str, local: _LocalDay, now: datetime) -> Carried | None:
        day = _day_of(act, local)
        occurred = act.occurred_at.astimezone(act.site.zone)
        seconds = int((_VISIT_GAP - (now - act.occurred_at)).total_seconds())
        if seconds < 1 or occurred.date() != day:
            return None
        if (occurred + _VISIT_GAP).date() != day:
            return Carried(index, act.site, day, visitor, seconds, is_marked=True)
        if day != local.day or self._no_visit_since.get(act.site.site_id) == local.day:
            return None
        yesterday = day - SALT_DAY
        kept = self._id(act, act.site.zone, yesterday)
        return Carried(index, act.site, yesterday, kept, seconds, is_marked=False)

    def _ask(self, questions: Sequence[Carried], ids: list[str], now: datetime) -> None:
        keys = [key for each in questions for key in each.keys]
        args: list[Any] = [arg for x in questions for arg in (x.seconds, "mark" if x.is_marked else "ask")]
        with self._breaker.closed():
            answers: Any = self._carry(keys=keys, args=[*args, int(_VISIT_GAP.total_seconds())])
        for question, answer in zip(questions, answers, strict=True):
            if answer == GOES_ON:
                ids[question.index] = question.visitor
            elif answer == _NO_VISIT:
                self._remember_no_visit(question.site, now)

    def _remember_no_visit(self, site: Site, now: datetime) -> None:
        local = now.astimezone(site.zone)
        if (local - SETTLES).date() == local.date():
            if len(self._no_visit_since) >= _MOST_SITES:
                self._no_visit_since.clear()
            self._no_visit_since[site.site_id] = local.date()

    def _id(self, act: Act, zone: ZoneInfo, day: date) -> str:
        return visitor_id(self._salts.of(zone, day), act.site.site_id, act.client)


def _day_of(act: Act, local: _LocalDay) -> date:
    """The day whose salt names the visitor."""
    yesterday = local.day - SALT_DAY
    return yesterday if act.occurred_at.astimezone(act.site.zone).date() == yesterday else local.day


def _marking(visits: Iterable[Carried]) -> list[Command]:
    gap = int(_VISIT_GAP.total_seconds())
    seconds = {key: n for each in visits for key, n in zip(each.keys, (gap, each.seconds), strict=True)}
    return [("SET", key, "", "EX", n) for key, n in seconds.items()]
