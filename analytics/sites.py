"""What is set for each site, in MongoDB. MongoDB's names of a site's settings stand here and nowhere else.

Every report asks for its site's settings, so they are remembered for a few seconds. What this process sets itself it
knows at once; what another one sets, after `REMEMBERED` seconds. Wrong can go: MongoDB away or slow is `Unavailable`.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from threading import Lock
from typing import Any
from zoneinfo import ZoneInfo

import pymongo
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.mongodb import WRITE_LIMIT, ping
from analytics.site import Goal, Site
from analytics.unavailable import trouble_with

REMEMBERED = 5.0  # seconds
MOST_REMEMBERED = 1000  # whoever asks makes up the names


class SiteStore:
    """`clock`: seconds that only go up."""

    def __init__(self, database: Database[dict[str, Any]], clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._sites = database["sites"]
        self._clock = clock
        self._lock = Lock()
        self._remembered: dict[str, tuple[Site, float]] = {}
        self._changes = 0

    def get(self, site_id: str) -> Site:
        """Also of a site that nobody set anything for. Raises Unavailable."""
        if remembered := self._remembered.get(site_id):
            site, until = remembered
            if self._clock() < until:
                return site
        changes, until = self._changes, self._clock() + REMEMBERED
        site = self._find(site_id)
        with self._lock:
            if changes == self._changes:  # else what was found may be what was there before
                if len(self._remembered) >= MOST_REMEMBERED:
                    self._remembered.clear()
                self._remembered[site_id] = site, until
        return site

    def put(self, site: Site) -> None:
        """Instead of whatever was set before. Raises Unavailable: perhaps it is set, perhaps not."""
        with self._changing(site.site_id):
            self._sites.replace_one({"_id": site.site_id}, _document(site), upsert=True)

    def remove(self, site_id: str) -> bool:
        """Whether there was anything to remove. The site's events stay. Raises Unavailable."""
        with self._changing(site_id):
            return self._sites.delete_one({"_id": site_id}).deleted_count > 0

    def list(self, after: str = "", limit: int = 100) -> Sequence[Site]:
        """Those that something is set for, by site_id; `after`: those that follow this one. Raises Unavailable."""
        ping(self._database)
        with trouble_with("mongodb", PyMongoError):
            return [_site(x) for x in self._sites.find({"_id": {"$gt": after}}).sort("_id").limit(limit)]

    def _find(self, site_id: str) -> Site:
        ping(self._database)
        with trouble_with("mongodb", PyMongoError):
            document = self._sites.find_one(site_id)
        return _site(document) if document else Site(site_id)

    @contextmanager
    def _changing(self, site_id: str) -> Iterator[None]:
        try:
            with trouble_with("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
                yield
        finally:
            with self._lock:
                self._changes += 1
                self._remembered.pop(site_id, None)


def _document(site: Site) -> dict[str, Any]:
    return {
        "_id": site.site_id,
        "timezone": site.zone.key,
        "goals": [asdict(goal) for goal in site.goals],
        "shows_visitors": site.shows_visitors,
    }


def _site(document: dict[str, Any]) -> Site:
    goals = tuple(Goal(**goal) for goal in document["goals"])
    return Site(document["_id"], ZoneInfo(document["timezone"]), goals, document["shows_visitors"])
