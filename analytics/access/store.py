"""API keys: what people and programs that send `Authorization: Bearer footfall_...` may do.

A key's secret is shown once, when it is created or rotated. Only its SHA-256 is stored, and look-ups use it. The secret
has 190 random bits, so its hash needs no salt, and the time of a look-up reveals nothing about a secret.

MongoDB stores the keys (`ApiKeyStore`). The collector reads the copy in Redis (`KeyRing`), as it does with sites. A
revoked or expired key stops working within `COPY_KEPT_FOR` seconds. Callers must handle Unavailable, raised if a store
is not reachable.
"""

import hashlib
import secrets
import string
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any
from uuid import UUID, uuid4

import pymongo
import structlog
from cachetools import TTLCache
from pymongo import ReturnDocument, UpdateOne
from pymongo.database import Database
from pymongo.errors import PyMongoError
from redis import Redis
from redis.exceptions import RedisError

from analytics.mongodb import WRITE_LIMIT, ping
from analytics.published_copy import COPY_KEPT_FOR, MOST_COPIED, Published
from analytics.unavailable import Unavailable, raising_unavailable

log = structlog.get_logger()

_PREFIX = "footfall_"  # identifies a key of Footfall, also to tools that scan code for secrets
_LENGTH = 32
ALPHABET = string.ascii_letters + string.digits

WRITE_SCOPE = "events:write"
READ_SCOPE = "stats:read"
PERSONS_SCOPE = "stats:persons"
SITES_SCOPE = "sites:manage"
DEAD_LETTERS_SCOPE = "dead_letters"
METRICS_SCOPE = "metrics"
ADMIN_SCOPE = "admin"
SCOPES = {
    WRITE_SCOPE: "send events of any age and from any origin, as a server does",
    READ_SCOPE: "read reports",
    PERSONS_SCOPE: "read the history of individual visitors, and raw events",
    SITES_SCOPE: "manage the settings of sites",
    DEAD_LETTERS_SCOPE: "read, replay and purge dead letters",
    METRICS_SCOPE: "read /metrics",
    ADMIN_SCOPE: "everything, including API keys",
}

# in Redis; the second holds the last uses by key since they were last moved to MongoDB
COPY, USES = "footfall:api-keys", "footfall:api-keys:used"
NOTED_EVERY = 60.0  # seconds between two records of a key's use, in each process


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key. `sites` are the sites for which it is valid; None means all. Times are aware. `expires_at` is None if
    it never expires. `last_used_at` is accurate to a minute or two.
    """

    id: UUID
    name: str
    scopes: frozenset[str]
    sites: frozenset[str] | None
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def has(self, scope: str) -> bool:
        return not self.scopes.isdisjoint((scope, ADMIN_SCOPE))

    def may(self, scope: str, *sites: str) -> bool:
        """Whether the key is valid for this scope on all of these sites. A key for some sites may not do anything that
        belongs to no site.
        """
        return self.has(scope) and (self.sites is None or (bool(sites) and self.sites.issuperset(sites)))

    def state(self, now: datetime) -> str:
        if self.revoked_at:
            return "revoked"
        return "expired" if self.expires_at and self.expires_at <= now else "active"


@dataclass(frozen=True, slots=True)
class Secret:
    """One of a key's secrets, of which only the hash is known. `until` is when it expires, if that is before its key
    does.
    """

    digest: str
    until: datetime | None = None


def new_secret() -> str:
    return _PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(_LENGTH))


def digest_of(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def is_ours(secret: str) -> bool:
    """Whether the text looks like an API key of Footfall, valid or not."""
    return secret.startswith(_PREFIX)


class ApiKeyStore:
    """Stores API keys. `changed` is called after each change, to publish it. `now` returns aware times. `clock` returns
    seconds and must be monotonic. `ids_of` returns the ids of sites by their names, and raises UnknownSite.
    """

    def __init__(
        self,
        database: Database[dict[str, Any]],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
        changed: "Callable[[ApiKeyStore], None]" = lambda _: None,
        ids_of: Callable[[Sequence[str]], Sequence[str]] = lambda names: names,
    ) -> None:
        self._database = database
        self._keys = database["api_keys"]
        self._now = now
        self._changed = changed
        self._ids_of = ids_of
        self._lock = Lock()
        self._remembered: TTLCache[str, tuple[ApiKey, Secret] | None] = TTLCache(MOST_COPIED, COPY_KEPT_FOR, clock)
        self._uses = Uses(clock)

    def create(
        self, name: str, scopes: Iterable[str], sites: Sequence[str] | None, expires_at: datetime | None
    ) -> tuple[ApiKey, str]:
        """Create a key. Returns the key and its secret, which cannot be read again. Raises UnknownSite, and
        Unavailable; the key may then exist, and its secret is lost.
        """
        secret, now = new_secret(), _milliseconds(self._now())
        limited = None if sites is None else frozenset(self._ids_of(sites))
        key = ApiKey(uuid4(), name, frozenset(scopes), limited, now, expires_at and _milliseconds(expires_at))
        with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
            self._keys.create_index("secrets.digest", unique=True)
            self._keys.insert_one(_document(key, [Secret(digest_of(secret))]))
        self._tell()
        return key, secret

    def rotate(self, key_id: UUID, grace: timedelta) -> tuple[ApiKey, str] | None:
        """Give the key a new secret. The old secrets stay valid for `grace`. Returns None if the key does not exist, or
        is revoked or expired. Raises Unavailable.
        """
        secret, now = new_secret(), _milliseconds(self._now())
        end = now + grace
        ends = {"$cond": [{"$lt": [{"$ifNull": ["$$each.until", end]}, end]}, "$$each.until", end]}
        old: dict[str, Any] = {"$filter": {"input": "$secrets", "as": "each", "cond": {"$or": [
            {"$eq": [{"$ifNull": ["$$each.until", None]}, None]}, {"$gt": ["$$each.until", now]}]}}}  # fmt: skip
        old = {"$map": {"input": old, "as": "each", "in": {"digest": "$$each.digest", "until": ends}}}
        if not grace:
            old = {"$literal": []}
        change = {"$set": {"secrets": {"$concatArrays": [[{"digest": digest_of(secret), "until": None}], old]}}}
        living = {"_id": key_id, "revoked_at": None, "$or": [{"expires_at": None}, {"expires_at": {"$gt": now}}]}
        with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
            found = self._keys.find_one_and_update(living, [change], return_document=ReturnDocument.AFTER)
        self._tell()
        return (_key(found), secret) if found else None

    def revoke(self, key_id: UUID) -> ApiKey | None:
        """Revoke the key permanently. Repeating the call changes nothing. Returns None if the key does not exist.
        Raises Unavailable.
        """
        change = [{"$set": {"revoked_at": {"$ifNull": ["$revoked_at", _milliseconds(self._now())]}}}]
        with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
            found = self._keys.find_one_and_update({"_id": key_id}, change, return_document=ReturnDocument.AFTER)
        self._tell()
        return _key(found) if found else None

    def has(self, key_id: UUID) -> bool:
        """Whether the key exists, valid or not. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            return self._keys.find_one({"_id": key_id}, {"_id": 1}) is not None

    def list(self) -> Sequence[ApiKey]:
        """Return all keys that were ever created, the newest first. Raises Unavailable."""
        ping(self._database)
        with raising_unavailable("mongodb", PyMongoError):
            return [_key(x) for x in self._keys.find({}, {"secrets": 0}).sort([("created_at", -1), ("_id", 1)])]

    def find(self, secret: str) -> ApiKey | None:
        """Return the key of this secret if it is valid now, and record its use. Raises Unavailable."""
        if not is_ours(secret):
            return None
        digest = digest_of(secret)
        with self._lock:
            is_known, found = digest in self._remembered, self._remembered.get(digest)
        if not is_known:
            found = self._look_up(digest)
            with self._lock:
                self._remembered[digest] = found
        if not found or not _is_good(*found, self._now()):
            return None
        key = found[0]
        if self._uses.is_to_be_noted(key):
            self._note(key)
        return key

    def published(self) -> Mapping[str, object]:
        """Return the content of the copy: the valid keys, by the hash of each secret. Raises Unavailable."""
        ping(self._database)
        with raising_unavailable("mongodb", PyMongoError):
            return {
                secret.digest: _entry(_key(document), secret)
                for document in self._keys.find({"revoked_at": None})
                for secret in map(_secret, document["secrets"])
                if _is_good(_key(document), secret, self._now())
            }

    def carry(self, uses: Mapping[UUID, datetime]) -> None:
        """Store when keys were last used with other stores. Raises Unavailable."""
        if not uses:
            return
        with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
            self._keys.bulk_write([UpdateOne({"_id": k}, {"$max": {"last_used_at": at}}) for k, at in uses.items()])

    def _look_up(self, digest: str) -> tuple[ApiKey, Secret] | None:
        ping(self._database)
        with raising_unavailable("mongodb", PyMongoError):
            document = self._keys.find_one({"secrets.digest": digest})
        if document is None:
            return None
        (secret,) = (each for each in map(_secret, document["secrets"]) if each.digest == digest)
        return _key(document), secret

    def _note(self, key: ApiKey) -> None:
        try:
            self.carry({key.id: _milliseconds(self._now())})
        except Unavailable as error:
            log.warning("use_not_noted", key=str(key.id), error=str(error))

    def _tell(self) -> None:
        with self._lock:
            self._remembered.clear()
        self._changed(self)


class KeyRing:
    """The same keys, read from Redis. `required`: it is an error if no keys are published."""

    def __init__(
        self,
        redis: Redis,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        required: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._now = now
        self._published = Published[tuple[ApiKey, Secret]](redis, COPY, _read, required=required, clock=clock)
        self._uses = Uses(clock)

    def find(self, secret: str) -> ApiKey | None:
        """Return the key of this secret if it is valid now, and record its use. Raises Unavailable."""
        found = self._published.get(digest_of(secret)) if is_ours(secret) else None
        if not found or not _is_good(*found, self._now()):
            return None
        key = found[0]
        if self._uses.is_to_be_noted(key):
            self._note(key)
        return key

    def publish(self, keys: ApiKeyStore) -> bool:
        """Publish the keys; see Published.publish."""
        return self._published.publish(keys.published)

    def publish_change(self, keys: ApiKeyStore) -> None:
        """Publish the keys after a change. If Redis is not reachable, beat publishes them within a minute of its
        return.
        """
        try:
            self.publish(keys)
        except Unavailable as error:
            log.warning("api_keys_not_published", error=str(error))

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

    def _note(self, key: ApiKey) -> None:
        try:
            self._redis.hset(USES, str(key.id), _milliseconds(self._now()).isoformat())
        except RedisError as error:
            log.warning("use_not_noted", key=str(key.id), error=type(error).__name__)


class Uses:
    """Decides whether a key's use must be recorded: once a minute for each key, so that not every request writes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._noted: TTLCache[UUID, bool] = TTLCache(MOST_COPIED, NOTED_EVERY, clock)
        self._lock = Lock()

    def is_to_be_noted(self, key: ApiKey) -> bool:
        with self._lock:
            if key.id in self._noted:
                return False
            self._noted[key.id] = True
            return True


def _is_good(key: ApiKey, secret: Secret, now: datetime) -> bool:
    ends = [end for end in (key.expires_at, secret.until) if end is not None]
    return key.revoked_at is None and all(now < end for end in ends)


def _milliseconds(moment: datetime) -> datetime:
    """The precision that MongoDB stores."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _document(key: ApiKey, its: Sequence[Secret]) -> dict[str, Any]:
    return {
        "_id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "sites": None if key.sites is None else sorted(key.sites),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
        "secrets": [{"digest": secret.digest, "until": secret.until} for secret in its],
    }


def _key(document: Mapping[str, Any]) -> ApiKey:
    sites = document["sites"]
    return ApiKey(
        document["_id"],
        document["name"],
        frozenset(document["scopes"]),
        None if sites is None else frozenset(sites),
        document["created_at"],
        document["expires_at"],
        document["revoked_at"],
        document["last_used_at"],
    )


def _secret(of_document: Mapping[str, Any]) -> Secret:
    return Secret(of_document["digest"], of_document["until"])


def _entry(key: ApiKey, secret: Secret) -> dict[str, Any]:
    """Return what the collector needs to know about a key. The last use is omitted, because the copy would otherwise
    change with every use.
    """
    return {
        "id": str(key.id),
        "name": key.name,
        "scopes": sorted(key.scopes),
        "sites": None if key.sites is None else sorted(key.sites),
        "created_at": key.created_at.isoformat(),
        "expires_at": key.expires_at and key.expires_at.isoformat(),
        "digest": secret.digest,
        "until": secret.until and secret.until.isoformat(),
    }


def _read(entry: Mapping[str, Any]) -> tuple[ApiKey, Secret]:
    times = {name: datetime.fromisoformat(entry[name]) if entry[name] else None for name in ("expires_at", "until")}
    key = ApiKey(
        UUID(entry["id"]),
        entry["name"],
        frozenset(entry["scopes"]),
        None if entry["sites"] is None else frozenset(entry["sites"]),
        datetime.fromisoformat(entry["created_at"]),
        times["expires_at"],
    )
    return key, Secret(entry["digest"], times["until"])
