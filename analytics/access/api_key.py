"""An API key: what people and programs that send `Authorization: Bearer footfall_...` may do.

A key's secret is shown once, when it is created or rotated. Only its SHA-256 is stored, and look-ups use it. The secret
has 190 random bits, so its hash needs no salt, and the time of a look-up reveals nothing about a secret.
"""

import secrets
import string
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any, Literal
from uuid import UUID

import structlog
from cachetools import TTLCache

from analytics.digest import digest_of
from analytics.interval import whole_milliseconds
from analytics.languages import translatable
from analytics.published_copy import MOST_COPIED
from analytics.unavailable import Unavailable

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
    WRITE_SCOPE: translatable("send events of any age and from any origin, as a server does"),
    READ_SCOPE: translatable("read reports"),
    PERSONS_SCOPE: translatable("read the history of individual visitors, and raw events"),
    SITES_SCOPE: translatable("manage the settings of sites"),
    DEAD_LETTERS_SCOPE: translatable("read, replay and purge dead letters"),
    METRICS_SCOPE: translatable("read /metrics"),
    ADMIN_SCOPE: translatable("everything, including API keys"),
}

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

    def state(self, now: datetime) -> Literal["active", "expired", "revoked"]:
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

    def is_good(self, key: ApiKey, now: datetime) -> bool:
        """Whether this secret of `key` is valid now."""
        ends = [end for end in (key.expires_at, self.until) if end is not None]
        return key.revoked_at is None and all(now < end for end in ends)


FoundKey = tuple[ApiKey, Secret] | None  # a key and the secret by which it was found


def new_secret() -> str:
    return _PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(_LENGTH))


def is_ours(secret: str) -> bool:
    """Whether the text looks like an API key of Footfall, valid or not."""
    return secret.startswith(_PREFIX)


class KeyFinder(ABC):
    """Finds keys by their secrets, and records when they are used: once a minute for each key, so that not every
    request writes. `now` returns aware times. `clock` returns seconds and must be monotonic.
    """

    def __init__(self, now: Callable[[], datetime], clock: Callable[[], float]) -> None:
        self._now = now
        self._noted: TTLCache[UUID, bool] = TTLCache(MOST_COPIED, NOTED_EVERY, clock)
        self._noting = Lock()

    def find(self, secret: str) -> ApiKey | None:
        """Return the key of this secret if it is valid now, and record its use. Raises Unavailable."""
        found = self._look_up(digest_of(secret)) if is_ours(secret) else None
        if found is None:
            return None
        key, its_secret = found
        if not its_secret.is_good(key, self._now()):
            return None
        if self.is_to_be_noted(key):
            try:
                self._note(key, whole_milliseconds(self._now()))
            except Unavailable as error:
                log.warning("api_key_use_not_recorded", key=str(key.id), error=str(error))
        return key

    def is_to_be_noted(self, key: ApiKey) -> bool:
        """Whether this process has not recorded a use of the key in the last minute. It is asked once for each use."""
        with self._noting:
            if key.id in self._noted:
                return False
            self._noted[key.id] = True
            return True

    @abstractmethod
    def _look_up(self, digest: str) -> FoundKey:
        """Return the key with this secret, valid or not, or None. Raises Unavailable."""

    @abstractmethod
    def _note(self, key: ApiKey, at: datetime) -> None:
        """Record when the key was used. Raises Unavailable."""


def dump_entry(key: ApiKey, secret: Secret) -> dict[str, Any]:
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


def load_entry(entry: Mapping[str, Any]) -> tuple[ApiKey, Secret]:
    """Read what dump_entry returned."""
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
