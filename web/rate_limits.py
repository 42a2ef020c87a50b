"""Rate limits for addresses, API keys and sites: the numbers of requests, events and bytes, counted in Redis.

The counting is done by `limits`, a part of flask-limiter. The rest of flask-limiter took 0.14 ms of CPU per request, a
tenth of the collector's CPU.

Windows are fixed, by the clock. Each process counts up to a tenth of a limit by itself. It counts more than that in
Redis, a tenth at a time. So senders of little cost no round trip and fsync, and a limit may be exceeded by a tenth per
process. A process refuses a sender over the limit without asking Redis again.

For an address or an API key, everything that it sends counts, whatever the outcome. For a site, only accepted events
count.

Callers must handle TooManyRequests. Failure policy: if Redis is unreachable, admit every request and count it.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from cachetools import TTLCache
from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter
from werkzeug.exceptions import TooManyRequests

from analytics.event_loop import WouldWait
from analytics.unavailable import Breaker, Unavailable
from config.metrics import RATE_LIMITED, RATE_UNCHECKED

ADDRESS, ADDRESS_EVENTS, ADDRESS_BYTES = "address", "address_events", "address_bytes"
KEY_REQUESTS, KEY_EVENTS, KEY_BYTES = "key", "key_events", "key_bytes"
SITE = "site"
SIGN_IN_ACCOUNT, SIGN_IN_ADDRESS = "sign_in_account", "sign_in_address"
_PAUSE = 1.0  # seconds without a request to Redis after a failed one
_MOST_REMEMBERED = 100_000  # senders in the last window. Beyond that, the counts of the oldest are forgotten.


@dataclass(slots=True)
class _Account:
    """`untold`: what was spent and is not counted in Redis yet, less what was given back. `over_until`: until then, a
    cost of `over_cost` or more is refused.
    """

    untold: int = 0
    over_until: float = 0.0
    over_cost: int = 0


class RateLimits:
    """`limits`: by name, such as `1000/minute`, "" for none. `clock`: monotonic seconds."""

    def __init__(self, storage: Storage, limits: dict[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        self._limiter = FixedWindowRateLimiter(storage)
        self._breaker = Breaker("redis", StorageError, _PAUSE, clock=clock)
        self._limits = {name: _Limit(parse(text), clock) for name, text in limits.items() if text}

    def holds(self, name: str) -> bool:
        """Whether this limit is set."""
        return name in self._limits

    def check(self, name: str, who: str) -> None:
        """Spends nothing. Raises TooManyRequests if this process knows that the limit is exhausted."""
        limit = self._limits.get(name)
        if limit and (seconds := limit.wait(who)):
            raise self._refusal(limit, name, seconds)

    def spend(self, name: str, who: str, cost: int = 1, charged: set[str] | None = None) -> None:
        """Spends `cost`, also if it exceeds the limit. Raises TooManyRequests with the seconds until there is more.

        `charged`: the limits that this request was charged for. It is not charged again for them.
        """
        if charged is None:
            self._spend(name, who, cost, keeps=True)
        elif name not in charged:
            self._spend(name, who, cost, keeps=True)
            charged.add(name)

    def take(self, name: str, who: str, cost: int) -> None:
        """Spends all of `cost` or nothing. Raises TooManyRequests with the seconds until there is more."""
        self._spend(name, who, cost, keeps=False)

    def give_back(self, name: str, who: str, cost: int) -> None:
        """Returns what was taken and not used. This process may spend it again."""
        if limit := self._limits.get(name):
            limit.give_back(who, cost)

    def _spend(self, name: str, who: str, cost: int, *, keeps: bool) -> None:
        limit = self._limits.get(name)
        if limit is None:
            return
        try:
            with self._breaker.closed():
                seconds = limit.spend(self._limiter, who, cost, keeps)
        except Unavailable:
            RATE_UNCHECKED.labels(name).inc()
            return
        if seconds:
            raise self._refusal(limit, name, seconds)

    def _refusal(self, limit: "_Limit", name: str, seconds: int) -> TooManyRequests:
        RATE_LIMITED.labels(name).inc()
        item = limit.item
        window = f"a {item.GRANULARITY.name}" if item.multiples == 1 else f"{item.multiples} {item.GRANULARITY.name}s"
        return TooManyRequests(
            f"More than {item.amount} {_UNITS[name]} in {window}. Send the request again later.",
            retry_after=seconds,
        )


_UNITS = {
    ADDRESS: "requests from one address",
    ADDRESS_EVENTS: "events from one address",
    ADDRESS_BYTES: "inflated bytes from one address",
    KEY_REQUESTS: "requests with one API key",
    KEY_EVENTS: "events with one API key",
    KEY_BYTES: "inflated bytes with one API key",
    SITE: "events of one site",
    SIGN_IN_ACCOUNT: "attempts to sign in to one account",
    SIGN_IN_ADDRESS: "attempts to sign in from one address",
}


class _Limit:
    def __init__(self, item: RateLimitItem, clock: Callable[[], float]) -> None:
        self.item = item
        self._clock = clock
        self._own = item.amount // 10
        self._lock = Lock()
        self._accounts: TTLCache[str, _Account] = TTLCache(_MOST_REMEMBERED, item.get_expiry(), clock)

    def wait(self, who: str) -> int:
        """The seconds until there is more. 0 if this process does not know that the limit is exhausted."""
        with self._lock:
            account = self._accounts.get(who)
            return self._seconds(account, 0) if account else 0

    def spend(self, limiter: FixedWindowRateLimiter, who: str, cost: int, keeps: bool) -> int:
        """The seconds to wait, 0 if `cost` is within the limit.

        `keeps`: it is spent in any case. Raises StorageError, and WouldWait with nothing spent.
        """
        with self._lock:
            account = self._accounts.get(who)
            if account is None:
                account = self._accounts[who] = _Account()
            if seconds := self._seconds(account, cost):
                return seconds
            account.untold += cost
            if account.untold <= self._own:
                return 0
            told, account.untold = account.untold, 0
        try:
            if limiter.hit(self.item, who, cost=told):
                return 0
        except WouldWait:
            with self._lock:
                account.untold += told - cost
            raise
        seconds = max(math.ceil(limiter.get_window_stats(self.item, who).reset_time - time.time()), 1)
        if not keeps:
            limiter.storage.incr(self.item.key_for(who), self.item.get_expiry(), -cost)
        account.over_cost = 0 if keeps else cost
        account.over_until = self._clock() + seconds
        return seconds

    def give_back(self, who: str, cost: int) -> None:
        with self._lock:
            if account := self._accounts.get(who):
                account.untold -= cost

    def _seconds(self, account: _Account, cost: int) -> int:
        seconds = account.over_until - self._clock()
        return math.ceil(seconds) if seconds > 0 and cost >= account.over_cost else 0
