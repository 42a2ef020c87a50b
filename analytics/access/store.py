"""Stores API keys in MongoDB. The collector reads the copy in Redis (analytics/access/key_ring.py).

A revoked or expired key stops working within `COPY_KEPT_FOR` seconds. Callers must handle Unavailable, raised if
MongoDB is not reachable.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from pymongo import ReturnDocument, UpdateOne
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.access.api_key import (
    ApiKey,
    FoundKey,
    KeyFinder,
    Secret,
    dump_entry,
    new_secret,
)
from analytics.digest import digest_of
from analytics.interval import whole_milliseconds
from analytics.mongodb import reading, writing
from analytics.published_copy import COPY_KEPT_FOR, MOST_COPIED
from analytics.timed_cache import TimedCache
from analytics.unavailable import raising_unavailable


class ApiKeyStore(KeyFinder):
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
        super().__init__(now, clock)
        self._database = database
        self._keys = database["api_keys"]
        self._changed = changed
        self._ids_of = ids_of
        self._remembered: TimedCache[str, FoundKey] = TimedCache(MOST_COPIED, COPY_KEPT_FOR, clock)

    def create(
        self, name: str, scopes: Iterable[str], sites: Sequence[str] | None, expires_at: datetime | None
    ) -> tuple[ApiKey, str]:
        """Create a key. Returns the key and its secret, which cannot be read again. Raises UnknownSite, and
        Unavailable; the key may then exist, and its secret is lost.
        """
        secret, now = new_secret(), whole_milliseconds(self._now())
        limited = None if sites is None else frozenset(self._ids_of(sites))
        key = ApiKey(uuid4(), name, frozenset(scopes), limited, now, expires_at and whole_milliseconds(expires_at))
        with writing(self._database):
            self._keys.create_index("secrets.digest", unique=True)
            self._keys.insert_one(_document(key, [Secret(digest_of(secret))]))
        self._tell()
        return key, secret

    def rotate(self, key_id: UUID, grace: timedelta) -> tuple[ApiKey, str] | None:
        """Give the key a new secret. The old secrets stay valid for `grace`. Returns None if the key does not exist, or
        is revoked or expired. Raises Unavailable.
        """
        secret, now = new_secret(), whole_milliseconds(self._now())
        end = now + grace
        ends = {"$cond": [{"$lt": [{"$ifNull": ["$$each.until", end]}, end]}, "$$each.until", end]}
        old: dict[str, Any] = {"$filter": {"input": "$secrets", "as": "each", "cond": {"$or": [
            {"$eq": [{"$ifNull": ["$$each.until", None]}, None]}, {"$gt": ["$$each.until", now]}]}}}  # fmt: skip
        old = {"$map": {"input": old, "as": "each", "in": {"digest": "$$each.digest", "until": ends}}}
        if not grace:
            old = {"$literal": []}
        change = {"$set": {"secrets": {"$concatArrays": [[{"digest": digest_of(secret), "until": None}], old]}}}
        living = {"_id": key_id, "revoked_at": None, "$or": [{"expires_at": None}, {"expires_at": {"$gt": now}}]}
        with writing(self._database):
            found = self._keys.find_one_and_update(living, [change], return_document=ReturnDocument.AFTER)
        self._tell()
        return (_key(found), secret) if found else None

    def revoke(self, key_id: UUID) -> ApiKey | None:
        """Revoke the key permanently. Repeating the call changes nothing. Returns None if the key does not exist.
        Raises Unavailable.
        """
        change = [{"$set": {"revoked_at": {"$ifNull": ["$revoked_at", whole_milliseconds(self._now())]}}}]
        with writing(self._database):
            found = self._keys.find_one_and_update({"_id": key_id}, change, return_document=ReturnDocument.AFTER)
        self._tell()
        return _key(found) if found else None

    def has(self, key_id: UUID) -> bool:
        """Whether the key exists, valid or not. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            return self._keys.find_one({"_id": key_id}, {"_id": 1}) is not None

    def list(self) -> Sequence[ApiKey]:
        """Return all keys that were ever created, the newest first. Raises Unavailable."""
        with reading(self._database):
            return [_key(x) for x in self._keys.find({}, {"secrets": 0}).sort([("created_at", -1), ("_id", 1)])]

    def published(self) -> Mapping[str, object]:
        """Return the content of the copy: the valid keys, by the hash of each secret. Raises Unavailable."""
        with reading(self._database):
            return {
                secret.digest: dump_entry(_key(document), secret)
                for document in self._keys.find({"revoked_at": None})
                for secret in map(_secret, document["secrets"])
                if secret.is_good(_key(document), self._now())
            }

    def carry(self, uses: Mapping[UUID, datetime]) -> None:
        """Store when keys were last used with other stores. Raises Unavailable."""
        if not uses:
            return
        with writing(self._database):
            self._keys.bulk_write([UpdateOne({"_id": k}, {"$max": {"last_used_at": at}}) for k, at in uses.items()])

    def _look_up(self, digest: str) -> FoundKey:
        return self._remembered.get(digest, lambda: self._read(digest))

    def _read(self, digest: str) -> FoundKey:
        with reading(self._database):
            document = self._keys.find_one({"secrets.digest": digest})
        if document is None:
            return None
        (secret,) = (each for each in map(_secret, document["secrets"]) if each.digest == digest)
        return _key(document), secret

    def _note(self, key: ApiKey, at: datetime) -> None:
        self.carry({key.id: at})

    def _tell(self) -> None:
        self._remembered.clear()
        self._changed(self)


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
