"""The copy of the API keys in Redis, which the collector and the workers' metrics read.

A revoked or expired key stops working within `COPY_KEPT_FOR` seconds. Callers must handle Unavailable, raised if Redis
is not reachable, or if keys are required and were never published.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from redis import Redis
from redis.exceptions import RedisError

from analytics.access.api_key import ApiKey, FoundKey, KeyFinder, Secret, load_entry
from analytics.access.store import ApiKeyStore
from analytics.published_copy import Published
from analytics.unavailable import raising_unavailable

# the second holds the last uses by key since they were last moved to MongoDB
COPY, USES = "footfall:api-keys", "footfall:api-keys:used"


class KeyRing(KeyFinder):
    """The keys in Redis. `required`: it is an error if no keys are published."""

    def __init__(
        self,
        redis: Redis,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        required: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(now, clock)
        self._redis = redis
        self._published = Published[tuple[ApiKey, Secret]](redis, COPY, load_entry, required=required, clock=clock)

    def publish(self, keys: ApiKeyStore) -> bool:
        """Publish the keys; see Published.publish."""
        return self._published.publish(keys.published)

    def publish_change(self, keys: ApiKeyStore) -> None:
        """Publish the keys after a change; see Published.publish_change."""
        self._published.publish_change(keys.published, "api_keys_not_published")

    def carry_uses(self, keys: ApiKeyStore) -> int:
        """Move the recorded uses to MongoDB, and return their number. Raises Unavailable; the next call then moves
        them.
        """
        with raising_unavailable("redis", RedisError):
            noted: Any = self._redis.hgetall(USES)
        keys.carry({UUID(key.decode()): datetime.fromisoformat(at.decode()) for key, at in noted.items()})
        if noted:
            with raising_unavailable("redis", RedisError):
                self._redis.hdel(USES, *noted)  # a use recorded in between is recorded again a minute later
        return len(noted)

    def _look_up(self, digest: str) -> FoundKey:
        return self._published.get(digest)

    def _note(self, key: ApiKey, at: datetime) -> None:
        with raising_unavailable("redis", RedisError):
            self._redis.hset(USES, str(key.id), at.isoformat())
