"""Data retention: purges events, dead letters and imported daily totals that are older than a site's setting allows.

Events are purged by the time at which they happened, from the site's oldest event on, a few at a time. The hours of
purged events are marked as dirty, so segments are rebuilt. A late event that is already too old is stored and counted,
and the next run purges it. A run may die at any point, and the next run continues. Callers must handle Unavailable,
raised if MongoDB is not reachable.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

import structlog

from analytics.aggregates.store import AggregateStore
from analytics.events.removal import PURGED, Removals
from analytics.events.selection import older_than
from analytics.journal.dead_letters import DeadLetterStore
from analytics.journal.journal import Journal
from analytics.sites.site import Site

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Purged:
    """How many were purged, or would be purged. `is_done` is true if nothing that old is left. `daily_totals` are
    imported.
    """

    events: int
    dead_letters: int
    is_done: bool = True
    daily_totals: int = 0


def kept_since(site: Site, now: datetime) -> datetime | None:
    """Return the first moment of which the site keeps events, which is a midnight in its zone. None means that it keeps
    all events.
    """
    if site.retention_days is None:
        return None
    day = now.astimezone(site.zone).date() - timedelta(days=site.retention_days)
    return datetime.combine(day, time(), site.zone).astimezone(UTC)


@dataclass(frozen=True)
class Purger:
    removals: Removals
    journal: Journal
    dead_letters: DeadLetterStore
    aggregates: AggregateStore
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def count(self, site_id: str, before: datetime) -> Purged:
        """Count what `purge` would remove. Raises Unavailable."""
        events = self.removals.count(older_than(site_id, before))
        totals = self.aggregates.count_old(site_id, before)
        return Purged(events, self.dead_letters.count_old(site_id, before), daily_totals=totals)

    def purge(
        self,
        site_id: str,
        before: datetime,
        until: datetime | None = None,
        each: Callable[[int], object] = lambda _: None,
    ) -> Purged:
        """Purge events that happened, dead letters that were received, and imported days that began, before `before`.
        `until` is when to stop, even if it is not done. `each` is called with the number of events purged together.
        Raises Unavailable; some may be purged by then.
        """

        def is_late() -> bool:
            return until is not None and self.now() >= until

        events = 0
        which = older_than(site_id, before)
        for removed in self.removals.remove_oldest(which, PURGED, self.now, self.journal.oldest):
            events += removed
            each(removed)
            if is_late():
                return Purged(events, 0, is_done=False)
        letters, totals = self.dead_letters.purge_old(site_id, before, self.now(), is_late), 0
        for removed in self.aggregates.remove_old(site_id, before):
            totals += removed
            if is_late():
                break
        if events or letters or totals:
            log.info(
                "events_purged", site_id=site_id, events=events, dead_letters=letters, daily_totals=totals,
                before=before.isoformat(),
            )  # fmt: skip
        return Purged(events, letters, not is_late(), totals)

    def purge_expired(self, sites: Iterable[Site], until: datetime | None = None) -> Purged:
        """Purge what the sites do not keep. For most sites, one look into the index of events shows that there is
        nothing. Raises Unavailable.
        """
        events = letters = totals = 0
        with_others = {*self.dead_letters.site_ids(), *self.aggregates.site_ids()}
        for site in sites:
            before = kept_since(site, self.now())
            if before is None:
                continue
            if site.site_id not in with_others and not self.removals.is_any(older_than(site.site_id, before)):
                continue
            done = self.purge(site.site_id, before, until)
            events, letters = events + done.events, letters + done.dead_letters
            totals += done.daily_totals
            if not done.is_done:
                return Purged(events, letters, False, totals)
        return Purged(events, letters, daily_totals=totals)
