"""Anonymous visitor ids for events without a user_id, so that a visit continues after midnight.

An id is valid for one day in the site's time zone (analytics/visitors/salts.py). A visitor with an event in the 30
minutes before midnight keeps the id of the day before until the visit ends. Redis holds these ids for 30 minutes after
the visitor's last event, and a mark for each site that has any. A process that saw no mark does not ask again on that
day, so at noon this costs nothing.

    event of yesterday, or 30 minutes before midnight    yesterday's salt, or today's salt; the id is kept alive
    event after midnight, yesterday's id is alive        that id, which is kept alive
    event older than yesterday                           today's salt: the older salts are destroyed

Callers must handle Unavailable, raised if Redis is not reachable.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct
from redis import Redis
from redis.exceptions import RedisError

from analytics.interval import VISIT_GAP
from analytics.sites.site import Site
from analytics.unavailable import Breaker
from analytics.visitors.client import Client
from analytics.visitors.salts import SALT_DAY, Salts, visitor_id

_VISIT_GAP = timedelta(milliseconds=VISIT_GAP)
SETTLES = timedelta(minutes=1)  # after midnight, until the visits that continue over midnight are marked
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
class _Question:
    """The question whether event number `index` belongs to `visitor`, whose visit continues from the day before into
    today. With `is_marked`, it does, and the visit may continue from `day` into the next day.
    """

    index: int
    site: Site
    day: date
    visitor: str
    seconds: int
    is_marked: bool


def end_visit(redis: Redis, visitor: str) -> None:
    """End the visit of this visitor, so that it does not continue after midnight. Raises RedisError."""
    redis.delete(f"{_ALIVE}{visitor}")


class Visitors:
    def __init__(self, redis: Redis, salts: Salts) -> None:
        self._salts = salts
        self._carry = redis.register_script(CARRY)
        self._breaker = Breaker("redis", RedisError)
        self._no_visit_since: dict[str, date] = {}  # by site: since which of its days no visit continues over midnight

    def identify(self, acts: Sequence[Act], now: datetime) -> list[str]:
        """Return the visitor id of each event. Asks Redis at most once, and only around midnight. Raises
        Unavailable.
        """
        ids: list[str] = []
        questions = []
        known: dict[tuple[str, date, int], str] = {}  # by the client object, because most events of a hit share it
        for index, act in enumerate(acts):
            zone = act.site.zone
            today, occurred = now.astimezone(zone).date(), act.occurred_at.astimezone(zone)
            yesterday, occurred_on = today - SALT_DAY, occurred.date()
            day = yesterday if occurred_on == yesterday else today
            key = act.site.site_id, day, id(act.client)
            visitor = known.get(key) or known.setdefault(key, self._id(act, zone, day))
            ids.append(visitor)
            seconds = int((_VISIT_GAP - (now - act.occurred_at)).total_seconds())
            if seconds < 1 or occurred_on != day:
                continue
            if (occurred + _VISIT_GAP).date() != day:
                questions.append(_Question(index, act.site, day, visitor, seconds, is_marked=True))
            elif day == today and self._no_visit_since.get(act.site.site_id) != today:
                kept = self._id(act, zone, yesterday)
                questions.append(_Question(index, act.site, yesterday, kept, seconds, is_marked=False))
        if questions:
            self._ask(questions, ids, now)
        return ids

    def _ask(self, questions: Sequence[_Question], ids: list[str], now: datetime) -> None:
        keys = [key for x in questions for key in (f"{_MARK}{x.day} {x.site.site_id}", f"{_ALIVE}{x.visitor}")]
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
