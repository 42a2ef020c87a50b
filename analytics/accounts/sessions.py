"""Stores sessions in Redis, so that each can be ended at once.

The browser's cookie holds a token of 256 random bits. Only its SHA-256 is a key in Redis, so a copy of Redis's files
contains no valid token. A session ends after `IDLE_LIFE` without a request, and in any case `SESSION_LIFE` after
its start.

Callers must handle Unavailable, raised if Redis is not reachable.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from redis import Redis
from redis.exceptions import RedisError

from analytics.accounts.invitation import new_token
from analytics.digest import digest_of
from analytics.unavailable import raising_unavailable

IDLE_LIFE = timedelta(days=7)
SESSION_LIFE = timedelta(days=30)
_PREFIX = "footfall:sessions:"
_EXTENDED_EVERY = timedelta(minutes=10)  # not at each request: with appendfsync always, each write goes to the disk


@dataclass(frozen=True, slots=True)
class SignIn:
    """Who signed in, in which epoch of the user (analytics/accounts/user.py), and when."""

    user_id: UUID
    epoch: int
    at: datetime


class SessionStore:
    """`now` returns aware times."""

    def __init__(self, redis: Redis, now: Callable[[], datetime]) -> None:
        self._redis = redis
        self._now = now

    def start(self, user_id: UUID, epoch: int) -> str:
        """Start a session, and return its token. Raises Unavailable."""
        token, now = new_token(), self._now()
        value = json.dumps({"user_id": str(user_id), "epoch": epoch, "at": now.isoformat()})
        with raising_unavailable("redis", RedisError):
            self._redis.set(_key(token), value, ex=IDLE_LIFE)
        return token

    def find(self, token: str) -> SignIn | None:
        """Return the session if it has not ended, and extend it. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            line = self._redis.pipeline(transaction=False)
            line.get(_key(token))
            line.ttl(_key(token))
            value, seconds = line.execute()
        if value is None:
            return None
        found = _read(json.loads(value))
        left = found.at + SESSION_LIFE - self._now()
        if left <= timedelta(0):
            return None
        life = min(IDLE_LIFE, left)
        if timedelta(seconds=seconds) < life - _EXTENDED_EVERY:
            with raising_unavailable("redis", RedisError):
                self._redis.expire(_key(token), life)
        return found

    def end(self, token: str) -> None:
        """End the session, if there is one. Raises Unavailable."""
        with raising_unavailable("redis", RedisError):
            self._redis.delete(_key(token))

    def check(self) -> None:
        """Raises Unavailable if Redis does not answer."""
        with raising_unavailable("redis", RedisError):
            self._redis.ping()


def _key(token: str) -> str:
    return _PREFIX + digest_of(token)


def _read(value: dict[str, Any]) -> SignIn:
    return SignIn(UUID(value["user_id"]), value["epoch"], datetime.fromisoformat(value["at"]))
