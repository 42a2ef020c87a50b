"""Stores who may read a site's reports without an account: anyone if the site is public, and holders of a shared link.
Also stores which pages may show the reports in a frame.

Only this module knows MongoDB's names of them. Callers must handle Unavailable, raised if MongoDB is unreachable or
slow.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from pymongo.database import Database

from analytics.accounts.invitation import new_token
from analytics.digest import digest_of
from analytics.interval import whole_milliseconds
from analytics.mongodb import reading, writing
from analytics.urls import plain_origin

LONGEST_LINK_NAME = 100  # characters
MOST_LINKS = 100  # of a site, also expired ones
SHORTEST_LINK_PASSWORD = 8
MOST_FRAMING_ORIGINS = 20  # of a site; a Content-Security-Policy holds all of them
# What a source of frame-ancestors may be: it has no IPv6 address, and no character that ends a directive.
_FRAMING_ORIGIN = re.compile(r"https?://[a-z0-9_.-]+(:[0-9]+)?")


@dataclass(frozen=True, slots=True)
class SharedLink:
    """A link to read the reports of a site. `digest` is the SHA-256 of its token, and identifies it. `password_hash` is
    None if the link needs no password, and `expires_at` is None if it never expires. `filter_id` is that of the saved
    filter with which the link opens, or None. It is no limit: a reader may remove it. Times are aware.
    """

    digest: str
    site_id: str
    name: str
    password_hash: str | None = field(repr=False)
    expires_at: datetime | None
    created_at: datetime
    filter_id: int | None = None


class SharingStore:
    """`now` returns aware times."""

    def __init__(self, database: Database[dict[str, Any]], now: Callable[[], datetime]) -> None:
        self._database = database
        self._links = database["shared_links"]
        self._public = database["public_sites"]
        self._framing = database["framing_origins"]
        self._now = now

    def create(
        self,
        site_id: str,
        name: str,
        password_hash: str | None,
        expires_at: datetime | None,
        filter_id: int | None = None,
    ) -> tuple[SharedLink, str]:
        """Create a link. Returns it and its token, which cannot be read again. Raises Unavailable."""
        token = new_token()
        end = expires_at and whole_milliseconds(expires_at)
        now = whole_milliseconds(self._now())
        link = SharedLink(digest_of(token), site_id, name, password_hash, end, now, filter_id)
        with writing(self._database):
            self._links.insert_one(_link_document(link))
        return link, token

    def find(self, token: str) -> SharedLink | None:
        """Return the link of this token if it is valid now. Raises Unavailable."""
        with reading(self._database):
            found = self._links.find_one({"_id": digest_of(token)} | self._unexpired())
        return _link(found) if found else None

    def list(self, site_id: str) -> Sequence[SharedLink]:
        """Return the links of a site, also those that have expired, the newest first. Raises Unavailable."""
        with reading(self._database):
            return [
                _link(each) for each in self._links.find({"site_id": site_id}).sort([("created_at", -1), ("_id", 1)])
            ]

    def revoke(self, site_id: str, digest: str) -> None:
        """Remove the link of this site, if there is one. Raises Unavailable."""
        with writing(self._database):
            self._links.delete_one({"_id": digest, "site_id": site_id})

    def is_public(self, site_id: str) -> bool:
        """Raises Unavailable."""
        with reading(self._database):
            return self._public.find_one({"_id": site_id}) is not None

    def set_public(self, site_id: str, is_public: bool) -> None:
        """Open the site's reports to everyone, or close them. Raises Unavailable."""
        with writing(self._database):
            if is_public:
                self._public.replace_one({"_id": site_id}, {"_id": site_id}, upsert=True)
            else:
                self._public.delete_one({"_id": site_id})

    def opens(self, site_id: str, digests: Sequence[str]) -> bool:
        """Whether the site is public, or one of these links is valid for it now. Raises Unavailable."""
        mine = {"_id": {"$in": list(digests)}, "site_id": site_id} | self._unexpired()
        with reading(self._database):
            is_public = self._public.find_one({"_id": site_id}) is not None
            return is_public or (bool(digests) and self._links.find_one(mine, {"_id": 1}) is not None)

    def framing_origins(self, site_id: str) -> Sequence[str]:
        """Return the origins whose pages may show the site's reports in a frame. Raises Unavailable."""
        with reading(self._database):
            found = self._framing.find_one({"_id": site_id})
        return found["origins"] if found else []

    def set_framing_origins(self, site_id: str, origins: Sequence[str]) -> None:
        """Replace the origins, each of them a result of framing_origin. Raises Unavailable."""
        with writing(self._database):
            self._framing.replace_one({"_id": site_id}, {"_id": site_id, "origins": list(origins)}, upsert=True)

    def framers(self, site_id: str, token: str) -> Sequence[str]:
        """Return the origins whose pages may show the site in a frame that has this token in its URL. There is none if
        the token opens nothing: the site is not public, and no valid link without a password has the token. Raises
        Unavailable.
        """
        mine = {"_id": digest_of(token), "site_id": site_id, "password_hash": None} | self._unexpired()
        with reading(self._database):
            is_open = self._public.find_one({"_id": site_id}) or self._links.find_one(mine, {"_id": 1})
        return self.framing_origins(site_id) if is_open else []

    def _unexpired(self) -> dict[str, Any]:
        return {"$or": [{"expires_at": None}, {"expires_at": {"$gt": self._now()}}]}


def framing_origin(text: str) -> str | None:
    """Return the origin as browsers and a Content-Security-Policy write it, or None if the text is not one."""
    origin = plain_origin(text)
    return origin if origin and _FRAMING_ORIGIN.fullmatch(origin) else None


def _link(document: dict[str, Any]) -> SharedLink:
    """Links of earlier versions have no filter_id."""
    given = {"filter_id": None} | document
    names = ("site_id", "name", "password_hash", "expires_at", "created_at", "filter_id")
    return SharedLink(given["_id"], *(given[name] for name in names))


def _link_document(link: SharedLink) -> dict[str, Any]:
    return {"_id" if name == "digest" else name: value for name, value in asdict(link).items()}
