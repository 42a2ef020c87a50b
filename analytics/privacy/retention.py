"""How long a site's events are kept, where it says so: what is older is purged, events and dead letters alike.

In: a site, or a site and a moment. Events go by when they happened, from the site's oldest on, a few at a time; the
hours that they leave are marked, so segments follow by themselves. A late event that is older already is stored,
counts, and is purged by the next run. It may die anywhere: the next run goes on. Wrong can go: MongoDB away is
Unavailable.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

import structlog
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.events.removal import PURGED, REMOVED_AT_ONCE, Removals
from analytics.journal.dead_letters import DeadLetterStore
from analytics.journal.journal import Journal
from analytics.sites.site import Site
from analytics.sites.store import SiteStore
from analytics.unavailable import raising_unavailable

log = structlog.get_logger()

_BY_TIME = [("site_id", 1), ("timestamp", 1)]  # the index site_time
_PAGE = 1000  # sites


@dataclass(frozen=True, slots=True)
class Purged:
    """How many went, or would go. `is_done`: nothing that old is left."""

    events: int
    dead_letters: int
    is_done: bool = True


def kept_since(site: Site, now: datetime) -> datetime | None:
    """The first moment of which the site keeps events: a midnight of its zone. None: it keeps all."""
    if site.retention_days is None:
        return None
    day = now.astimezone(site.zone).date() - timedelta(days=site.retention_days)
    return datetime.combine(day, time(), site.zone).astimezone(UTC)


@dataclass(frozen=True)
class Purger:
    database: Database[dict[str, Any]]
    journal: Journal
    dead_letters: DeadLetterStore
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def count(self, site_id: str, before: datetime) -> Purged:
        """What `purge` would remove. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            events = self.database["events"].count_documents(_older(site_id, before))
        return Purged(events, self.dead_letters.count_old(site_id, before))

    def purge(
        self,
        site_id: str,
        before: datetime,
        until: datetime | None = None,
        each: Callable[[int], object] = lambda _: None,
    ) -> Purged:
        """What happened, or for dead letters was received, before. `until`: when to stop, done or not; `each`: called
        with how many events went together. Raises Unavailable, some of it being purged by then.
        """
        removals = Removals(self.database)

        def is_late() -> bool:
            return until is not None and self.now() >= until

        events = 0
        for keys in self._oldest(site_id, before):
            removed = removals.remove(keys, _older(site_id, before), PURGED, self.now(), self.journal.oldest())
            events += removed
            each(removed)
            if is_late():
                return Purged(events, 0, is_done=False)
        letters = self.dead_letters.purge_old(site_id, before, is_late)
        if events or letters:
            log.info("events_purged", site_id=site_id, events=events, dead_letters=letters, before=before.isoformat())
        return Purged(events, letters, is_done=not is_late())

    def purge_expired(self, sites: Iterable[Site], until: datetime | None = None) -> Purged:
        """What each of the sites does not keep. Raises Unavailable."""
        events = letters = 0
        for site in sites:
            before = kept_since(site, self.now())
            if before is None:
                continue
            done = self.purge(site.site_id, before, until)
            events, letters = events + done.events, letters + done.dead_letters
            if not done.is_done:
                return Purged(events, letters, is_done=False)
        return Purged(events, letters)

    def _oldest(self, site_id: str, before: datetime) -> Iterator[list[Any]]:
        """Keys, some at a time, until there are none; each time those that are left."""
        asked = _older(site_id, before)
        while True:
            with raising_unavailable("mongodb", PyMongoError):
                found = self.database["events"].find(asked, {"_id": 1}).sort(_BY_TIME).limit(REMOVED_AT_ONCE)
                keys = [document["_id"] for document in found]
            if not keys:
                return
            yield keys


def all_sites(sites: SiteStore) -> Iterator[Site]:
    """Those that something is set for."""
    after = ""
    while page := sites.list(after, _PAGE):
        yield from page
        after = page[-1].site_id


def _older(site_id: str, before: datetime) -> dict[str, Any]:
    return {"site_id": site_id, "timestamp": {"$lt": before}}
