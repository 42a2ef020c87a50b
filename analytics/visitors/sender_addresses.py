"""Counts how many hits came from a private address. Behind a proxy that hides the addresses of visitors, nearly all do:
all visitors then seem to be one, and no country is found. No address is kept, only two numbers for each day.

The counts are in Redis for two days. They are a sign for operators and not exact: if Redis does not answer, a batch is
not counted, and a batch that is stored again counts twice.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from analytics.visitors.client import Client

_KEPT_FOR = 2 * 86_400  # seconds
# The first numbers of IPv4 addresses of which some are private. Only for these, ipaddress has to search, for 12 µs.
_WITH_PRIVATE = frozenset(map(str, (0, 10, 127, 169, 172, 192, 198, 203, *range(224, 256))))


@dataclass(frozen=True, slots=True)
class SenderCounts:
    """The hits of yesterday and today whose sender's address is known, and those of them with a private address."""

    known: int
    private: int


class SenderAddresses:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def count(self, clients: Iterable[Client | None], now: datetime) -> None:
        """Count the senders of a batch."""
        private = [is_private(client.address) for client in clients if client and client.address]
        if not private:
            return
        key = _key(now.astimezone(UTC).date())
        with suppress(RedisError), self._redis.pipeline(transaction=False) as commands:
            commands.hincrby(key, "known", len(private))
            commands.hincrby(key, "private", sum(private))
            commands.expire(key, _KEPT_FOR)
            commands.execute()

    def read(self, now: datetime) -> SenderCounts:
        """Raises RedisError."""
        today = now.astimezone(UTC).date()
        found: Any = [self._redis.hgetall(_key(day)) for day in (today - timedelta(days=1), today)]
        return SenderCounts(*(sum(int(each.get(name, 0)) for each in found) for name in (b"known", b"private")))


def is_private(address: str) -> bool:
    """Whether no visitor can have this address on the internet. False if it is not an address."""
    first = address.partition(".")[0]
    return (first in _WITH_PRIVATE or not first.isdecimal()) and _is_private(address)


@lru_cache(4096)
def _is_private(address: str) -> bool:
    try:
        return ip_address(address).is_private
    except ValueError:
        return False


def _key(day: date) -> str:
    return f"footfall:senders:{day.isoformat()}"
