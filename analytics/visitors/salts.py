"""Salts: 32 random bytes for each day of a time zone. They are destroyed after two days.

Two values are made with them, which cannot be reversed or repeated afterwards: an anonymous visitor's id, and the seal
around the sender of a hit (address, user agent) in the journal and in dead letters.

    visitor    HMAC-SHA256 under the salt of the day in the site's time zone, 16 hexadecimal digits
    seal       AES-256-GCM under a key derived from the salt of the UTC day; "<day>.<base64 of nonce and ciphertext>"

Only Redis holds the salts. The first process that needs a salt creates it. A process that remembers a salt returns it
to a Redis that lost it, so that a failover does not give a visitor two ids. The value in Redis is useless without the
SECRET_KEY, with which it is mixed before use. A stolen copy of Redis's files therefore opens no seal, although it
contains the journal and the salts.

Redis's append-only file is rewritten after a salt has expired (tasks/salts.py). Callers must handle Unavailable, raised
if Redis is not reachable.
"""

import json
import os
import time
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from hmac import digest
from threading import Lock
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from redis import Redis
from redis.exceptions import RedisError

from analytics.redis import is_rewriting
from analytics.unavailable import Breaker, raising_unavailable
from analytics.visitors.client import Client

SALT_DAY = timedelta(days=1)
SALT_ZONE = ZoneInfo("UTC")
_PREFIX = "footfall:salt:"
SALTS = "footfall:salts"  # the keys of all created salts, by when they expire
REWRITE = "footfall:salts:rewrite"  # which Redis was asked to rewrite its file, and when
_encode, _decode_list = msgspec.json.Encoder().encode, msgspec.json.Decoder(list[Any]).decode
# The alphabet of base64 without + and /. The functions of Python's base64 take twice as long.
_TO_URLSAFE, _FROM_URLSAFE = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")
_REMEMBERED = 60.0  # seconds; afterwards, Redis is asked whether it still has the salt
SIZE = 32  # bytes of a salt; in Redis, the name of the key with which it is mixed follows
NONCE = 12  # bytes, random: NIST SP 800-38D allows 2^32 nonces for each key, which here lasts a day

# Returns the existing salt, or stores this one. The expiry is in seconds from now instead of a time, so that the
# caller's clock applies.
OFFER = """
redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2])
redis.call('ZADD', KEYS[2], 'NX', ARGV[3], KEYS[1])
return redis.call('GET', KEYS[1])
"""


def visitor_id(salt: bytes, site_id: str, client: Client) -> str:
    """Return the visitor's id for one day. With the salt, equal visitors can be recognised, but not identified."""
    text = f"{site_id}\0{client.address}\0{client.user_agent}"
    return digest(salt, text.encode(errors="surrogatepass"), "sha256")[:8].hex()


def is_over_at(zone: ZoneInfo, day: date) -> datetime:
    """Return when this day's salt is destroyed: the midnight that ends the next day, in its time zone."""
    return datetime.combine(day + 2 * SALT_DAY, datetime.min.time(), zone).astimezone(UTC)


@dataclass(slots=True)
class _Salt:
    """A salt in memory. `stored` is its form in Redis. `day` is the day's text, with which its seals begin."""

    stored: bytes = field(repr=False)
    value: bytes = field(repr=False)
    day: str
    over_at: datetime
    ask_again: float
    cipher: AESGCM = field(repr=False)


class _Nonces:
    """Random nonces, fetched many at a time. os.urandom lets other threads run, and getting the interpreter back took
    40 µs in a busy collector. A forked process fetches its own.
    """

    _AT_ONCE = 256

    def __init__(self) -> None:
        self._lock = Lock()
        self._pid = 0
        self._left: list[bytes] = []

    def next(self) -> bytes:
        with self._lock:
            if not self._left or self._pid != os.getpid():
                self._pid = os.getpid()
                drawn = os.urandom(self._AT_ONCE * NONCE)
                self._left = [drawn[n : n + NONCE] for n in range(0, len(drawn), NONCE)]
            return self._left.pop()


class Salts:
    """Creates and reads salts. `clock` returns seconds and must be monotonic. `keys` holds the SECRET_KEY and the
    previous one, with which existing salts are still used. It is empty in development.
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
        self._nonces = _Nonces()

    def of(self, zone: ZoneInfo, day: date) -> bytes:
        """Return the salt of this day, which must be today or yesterday in its zone. Raises Unavailable."""
        return self._of(zone, day).value

    def seal(self, client: Client, day: date) -> str:
        """Encrypt the client. `day` is the UTC day on which it was seen. Raises Unavailable."""
        salt = self._of(SALT_ZONE, day)
        known = [client.address, client.user_agent, client.languages, *client.place]
        nonce = self._nonces.next()
        sealed = salt.cipher.encrypt(nonce, _written(known), None)
        written = b2a_base64(nonce + sealed, newline=False).translate(_TO_URLSAFE)
        return f"{salt.day}.{written.decode()}"

    def unseal(self, text: str) -> Client | None:
        """Decrypt the client. Returns None after the salt is destroyed, and for text that seal() did not make. Raises
        Unavailable.
        """
        written, _, sealed = text.partition(".")
        try:
            salt = self._find(date.fromisoformat(written))
            raw = a2b_base64(sealed.encode().translate(_FROM_URLSAFE))
            if salt is None:
                return None
            address, user_agent, languages, *place = _read_client(salt.cipher.decrypt(raw[:NONCE], raw[NONCE:], None))
        except (ValueError, InvalidTag):
            return None
        return Client(address, user_agent, languages, tuple([(name, value) for name, value in place]))

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
        """Return the salt of the UTC day if it exists. It creates none."""
        if (SALT_ZONE.key, day) in self._remembered:
            return self._of(SALT_ZONE, day)
        # the clock of the process that sealed it may be ahead
        if not -2 * SALT_DAY < self._now().date() - day < 2 * SALT_DAY:
            return None
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
        cipher = AESGCM(digest(value, b"seal", "sha256"))
        salt = _Salt(stored, value, day.isoformat(), over_at, ask_again, cipher)
        self._remembered[zone.key, day] = salt
        return salt


def _written(known: list[Any]) -> bytes:
    """The JSON of a client. json takes ten times as long as msgspec, which rejects half of a surrogate pair."""
    try:
        return _encode(known)
    except UnicodeEncodeError:
        return json.dumps(known).encode()


def _read_client(raw: bytes) -> list[Any]:
    """Read the JSON of a client. msgspec takes a sixth of the time, but rejects half of a surrogate pair. Raises
    ValueError.
    """
    try:
        return _decode_list(raw)
    except msgspec.DecodeError:
        return list(json.loads(raw))


def _name_of(key: bytes) -> bytes:
    return digest(key, b"name", "sha256")[:8]


class SaltKeeper:
    """Ensures that an expired salt is also removed from Redis's append-only file."""

    def __init__(self, redis: Redis, now: Callable[[], datetime]) -> None:
        self._redis = redis
        self._now = now

    def destroy(self) -> int:
        """Make Redis rewrite its file if it may contain expired salts, and return their number. Raises Unavailable.

        Salts leave the list only after a later call finds that the file was rewritten after they expired, by the same
        Redis that was asked. That Redis may have died before it finished. An extra call is harmless, and no salt is
        missed.
        """
        with raising_unavailable("redis", RedisError):
            info: Any = self._redis.info()
            if not info["aof_enabled"]:
                return self._forget(self._now().timestamp())
            if is_rewriting(info):
                return 0
            self._take_off_the_list(info)
            over: Any = self._redis.zrangebyscore(SALTS, "-inf", self._now().timestamp())
            if over:
                self._redis.delete(*over)  # an expired key stays in the file until a command touches it
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
