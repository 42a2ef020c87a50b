"""Rate limits: how much one address, one API key and one site may ask for, counted in Redis.

By `limits`, the part of flask-limiter that counts; what else it does took 0.14 ms of CPU a request, a tenth of the
door's.

Fixed windows, by the clock. Each process counts by itself up to a tenth of a limit, and only what goes beyond it in
Redis, a tenth at a time: the many who send little cost nothing (a count in Redis is a round trip and an fsync), and a
limit may be passed by a tenth for each process. Who is over it is told so without asking Redis again.

Failure policy: where Redis does not answer, everybody is admitted, which is counted.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from cachetools import TTLCache
from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter
from werkzeug.exceptions import TooManyRequests

from config.clients import make_redis
from config.metrics import RATE_LIMITED, RATE_UNCHECKED
from config.settings import Settings

ADDRESS, KEY, SITE = "address", "key", "site"
PATIENCE = 0.2  # seconds for Redis: what comes after it has its own, and all of them together stay below 2
PAUSE = 1.0  # seconds without asking, after Redis did not answer
MOST_REMEMBERED = 100_000  # who sent something in the last window; beyond, the oldest start anew


@dataclass(slots=True)
class _Account:
    """`untold`: what was spent and Redis was not told; `over_until`: until when nothing more is to be had."""

    untold: int = 0
    over_until: float = 0.0


class RateLimits:
    """`limits`: by their names, as `1000/minute`; "" for none. `clock`: seconds that only go up."""

    def __init__(self, settings: Settings, limits: dict[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        pool = make_redis(settings, timeout=PATIENCE).connection_pool
        storage = RedisStorage("redis://", pool, key_prefix="footfall:rate", wrap_exceptions=True)
        self._limiter = FixedWindowRateLimiter(storage)
        self._clock = clock
        self._away_until = 0.0
        self._limits = {name: _Limit(parse(text), clock) for name, text in limits.items() if text}

    def holds(self, name: str) -> bool:
        """Whether there is such a limit."""
        return name in self._limits

    def spend(self, name: str, who: str, cost: int = 1) -> None:
        """Raises TooManyRequests, with the seconds until there is more."""
        limit = self._limits.get(name)
        if limit is None:
            return
        if self._clock() < self._away_until:
            RATE_UNCHECKED.labels(name).inc()
            return
        try:
            seconds = limit.spend(self._limiter, who, cost)
        except StorageError:
            self._away_until = self._clock() + PAUSE
            RATE_UNCHECKED.labels(name).inc()
            return
        if seconds:
            RATE_LIMITED.labels(name).inc()
            raise TooManyRequests(f"More than {limit.item.amount} {UNITS[name]}.", retry_after=seconds)


UNITS = {ADDRESS: "requests from one address", KEY: "requests with one API key", SITE: "events of one site"}


class _Limit:
    def __init__(self, item: RateLimitItem, clock: Callable[[], float]) -> None:
        self.item = item
        self._clock = clock
        self._own = item.amount // 10
        self._lock = Lock()
        self._accounts: TTLCache[str, _Account] = TTLCache(MOST_REMEMBERED, item.get_expiry(), clock)

    def spend(self, limiter: FixedWindowRateLimiter, who: str, cost: int) -> int:
        """The seconds to wait, 0 where it may be spent. Raises StorageError."""
        with self._lock:
            account = self._accounts.get(who)
            if account is None:
                account = self._accounts[who] = _Account()
            if self._clock() < account.over_until:
                return math.ceil(account.over_until - self._clock())
            account.untold += cost
            if account.untold <= self._own:
                return 0
            told, account.untold = account.untold, 0
        if limiter.hit(self.item, who, cost=told):
            return 0
        seconds = max(math.ceil(limiter.get_window_stats(self.item, who).reset_time - time.time()), 1)
        account.over_until = self._clock() + seconds
        return seconds
