"""Salts: 32 random bytes for every day of a time zone, which live two days and are then destroyed.

Two things are made with them that nobody can undo or make again afterwards: an anonymous visitor's id, and the seal
around what a hit's sender was (address, user agent), as the journal and dead letters hold it.

    visitor    HMAC-SHA256 under the salt of the day in the site's time zone, 16 hexadecimal digits
    seal       AES-256-GCM under a key derived from the salt of the UTC day; "<day>.<base64 of nonce and ciphertext>"

Redis has them, nobody else: whoever needs one first makes it, and whoever remembers one gives it back to a Redis that
lost it, so that a failover makes no visitor twice. What Redis has is of no use without the SECRET_KEY, with which it is
mixed before it is used: a stolen copy of Redis's files opens no seal, though journal and salts are both in it.

Redis's append-only file is rewritten after a salt is over (tasks/salts.py). Wrong can go: a Redis that is away is
`Unavailable`.
"""

import json
import os
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from hmac import digest
from typing import Any
from zoneinfo import ZoneInfo

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from redis import Redis
from redis.exceptions import RedisError

from analytics.unavailable import Breaker, raising_unavailable
from analytics.visitors.client import Client
from config.clients import make_redis
from config.settings import Settings

SALT_DAY = timedelta(days=1)
SALT_ZONE = ZoneInfo("UTC")
_PREFIX = "footfall:salt:"
SALTS = "footfall:salts"  # the keys of all salts made, by when they are over
REWRITE = "footfall:salts:rewrite"  # which Redis was asked to rewrite its file, and when
_REMEMBERED = 60.0  # seconds, then Redis is asked whether it still has it
SIZE = 32  # bytes of a salt; in Redis the name of the key that it is mixed with stands behind it
NONCE = 12  # bytes, random: NIST SP 800-38D allows 2^32 of them a key, here a day

# The one that is there, or else this one. In seconds from now and not until a time: so the clock is the caller's.
OFFER = """
redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2])
redis.call('ZADD', KEYS[2], 'NX', ARGV[3], KEYS[1])
return redis.call('GET', KEYS[1])
"""


def make_salts(settings: Settings, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> "Salts":
    keys = [key.encode() for key in (settings.secret_key, settings.secret_key_old) if key]
    return Salts(make_redis(settings), now, keys=keys)


def visitor_id(salt: bytes, site_id: str, client: Client) -> str:
    """Of one day: whoever has the salt can tell that it is the same visitor, and nobody can tell who."""
    text = f"{site_id}\0{client.address}\0{client.user_agent}"
    return digest(salt, text.encode(errors="surrogatepass"), "sha256")[:8].hex()


def is_over_at(zone: ZoneInfo, day: date) -> datetime:
    """When this day's salt is destroyed: the midnight that ends the day after it, in its time zone."""
    return datetime.combine(day + 2 * SALT_DAY, datetime.min.time(), zone).astimezone(UTC)


@dataclass(slots=True)
class _Salt:
    """`stored`: as Redis has it."""

    stored: bytes = field(repr=False)
    value: bytes = field(repr=False)
    over_at: datetime
    ask_again: float
    cipher: AESGCM = field(repr=False)


class Salts:
    """`clock`: seconds that only go up. `keys`: the SECRET_KEY, and the one before, of which salts that are there go on
    being used; none in development.
    """

    def __init__(
        self,
        redis: Redis,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
        keys: Sequence[bytes] = (),
    ) -> None:
        self._redis = redis
        self._key = keys[0] if keys else b""
        self._keys = {_name_of(key): key for key in keys}
        self._now = now
        self._clock = clock
        self._offer = redis.register_script(OFFER)
        self._breaker = Breaker("redis", RedisError)
        self._remembered: dict[tuple[str, date], _Salt] = {}

    def of(self, zone: ZoneInfo, day: date) -> bytes:
        """The salt of this day, today or yesterday in its zone. Raises Unavailable."""
        return self._of(zone, day).value

    def seal(self, client: Client, day: date) -> str:
        """`day`: the UTC day on which the client was seen. Raises Unavailable."""
        salt = self._of(SALT_ZONE, day)
        known = [client.address, client.user_agent, client.languages, *client.place]
        nonce = os.urandom(NONCE)
        sealed = salt.cipher.encrypt(nonce, json.dumps(known).encode(), None)
        return f"{day.isoformat()}.{urlsafe_b64encode(nonce + sealed).decode()}"

    def unseal(self, text: str) -> Client | None:
        """None once the salt is destroyed, and for what seal() did not make. Raises Unavailable."""
        written, _, sealed = text.partition(".")
        try:
            salt = self._find(date.fromisoformat(written))
            raw = urlsafe_b64decode(sealed)
            if salt is None:
                return None
            address, user_agent, languages, *place = json.loads(salt.cipher.decrypt(raw[:NONCE], raw[NONCE:], None))
        except (ValueError, InvalidTag):
            return None
        return Client(address, user_agent, languages, tuple((name, value) for name, value in place))

    def _of(self, zone: ZoneInfo, day: date) -> _Salt:
        remembered = self._remembered.get((zone.key, day))
        if remembered is not None and self._clock() < remembered.ask_again:
            return remembered
        over_at = is_over_at(zone, day)
        seconds = int((over_at - self._now()).total_seconds())
        if seconds <= 0:
            raise ValueError(f"the salt of {day} is destroyed")
        mine = remembered.stored if remembered else os.urandom(SIZE) + _name_of(self._key)
        key = f"{_PREFIX}{day.isoformat()}:{zone.key}"
        with self._breaker.closed():
            value: Any = self._offer(keys=[key, SALTS], args=[mine, seconds, over_at.timestamp()])
        return self._remember(zone, day, bytes(value))

    def _find(self, day: date) -> _Salt | None:
        """The UTC day's, where there is one; none is made."""
        if not -2 * SALT_DAY < self._now().date() - day < 2 * SALT_DAY:  # who sealed it may have a clock that is ahead
            return None
        if (SALT_ZONE.key, day) in self._remembered:
            return self._of(SALT_ZONE, day)
        with self._breaker.closed():
            value: Any = self._redis.get(f"{_PREFIX}{day.isoformat()}:{SALT_ZONE.key}")
        return self._remember(SALT_ZONE, day, value) if value else None

    def _remember(self, zone: ZoneInfo, day: date, stored: bytes) -> _Salt:
        now = self._now()
        value = digest(self._keys.get(stored[SIZE:], self._key), stored[:SIZE], "sha256")
        for key, salt in list(self._remembered.items()):
            if salt.over_at <= now:
                self._remembered.pop(key, None)
        over_at = is_over_at(zone, day)
        ask_again = self._clock() + min((over_at - now).total_seconds(), _REMEMBERED)
        salt = _Salt(stored, value, over_at, ask_again, AESGCM(digest(value, b"seal", "sha256")))
        self._remembered[zone.key, day] = salt
        return salt


def _name_of(key: bytes) -> bytes:
    return digest(key, b"name", "sha256")[:8]


class SaltKeeper:
    """Sees to it that a salt that is over is not in Redis's append-only file either."""

    def __init__(self, redis: Redis, now: Callable[[], datetime]) -> None:
        self._redis = redis
        self._now = now

    def destroy(self) -> int:
        """Has Redis rewrite its file where salts are over that may be in it; how many. Raises Unavailable.

        They are off the list only once a later call sees that the file was rewritten after they were over, by the same
        Redis that was asked: it may have died over it. So a call too many is harmless, and none is lost.
        """
        with raising_unavailable("redis", RedisError):
            info: Any = self._redis.info()
            if not info["aof_enabled"]:
                return self._forget(self._now().timestamp())
            if info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"]:
                return 0
            self._take_off_the_list(info)
            over: Any = self._redis.zrangebyscore(SALTS, "-inf", self._now().timestamp())
            if over:
                self._redis.delete(*over)  # a key that expired is written until somebody touches it
                asked = f"{self._now().timestamp()} {info['run_id']}"
                self._redis.bgrewriteaof()
                self._redis.set(REWRITE, asked)
            return len(over)

    def _take_off_the_list(self, info: dict[str, Any]) -> None:
        asked: Any = self._redis.get(REWRITE)
        if asked:
            at, run_id = asked.decode().split(" ")
            if run_id == info["run_id"] and info["aof_last_bgrewrite_status"] == "ok":
                self._forget(float(at))
            self._redis.delete(REWRITE)

    def _forget(self, at: float) -> int:
        return int(self._redis.zremrangebyscore(SALTS, "-inf", at))
