"""Segments that hold events which are erased are made anew at once, and their old files go as soon as no query can be
reading them. (What is merely stored late, or purged, waits for its turn: analytics/segments/builder.py.)

analytics/events/removal.py notes the hours in the same transaction that removes the events, and marks them as dirty; so
whoever builds a segment later reads none of them, and only files that were there before can hold one. Two builders are
kept apart by the site's lease; one that has lost its lease and does not know is refused by the generation, which goes
up first.

It may die anywhere, and another goes on: a note goes when the files are gone. Wrong can go: MongoDB away is
Unavailable.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pymongo
import structlog
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.interval import HOUR, SEGMENT_GRAINS, Interval, as_ms
from analytics.mongodb import LOOK_LIMIT, WRITE_LIMIT
from analytics.segments.engine import Segments
from analytics.segments.store import Manifest, Segment, SegmentLost
from analytics.unavailable import raising_unavailable

log = structlog.get_logger()

MARGIN = 10.0  # seconds that files stay longer than a query may take


@dataclass(frozen=True)
class Rewriter:
    """`kept_for`: how long the old files stay for queries that began before."""

    database: Database[dict[str, Any]]
    segments: Segments
    kept_for: timedelta
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def is_owed(self) -> bool:
        """Told quickly. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(LOOK_LIMIT):
            return self._notes.find_one({}, {"_id": 1}) is not None

    def is_done(self, site_id: str) -> bool:
        """Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            return self._notes.find_one({"site_id": site_id}, {"_id": 1}) is None

    def rewrite_due(self, until: datetime | None = None) -> int:
        """Of all sites, beginning nothing after `until`; how many segments were made. Raises Unavailable."""
        built = 0
        with raising_unavailable("mongodb", PyMongoError):
            sites = self._notes.distinct("site_id")
        for site_id in sites:
            if until is not None and self.now() >= until:
                break
            try:
                built += self.rewrite(site_id)
            except (SegmentLost, duckdb.Error, pa.ArrowException):  # keeps no other site from it; tried again
                log.exception("segments_not_rewritten", site_id=site_id)
        return built

    def rewrite(self, site_id: str) -> int:
        """As far as it goes now: files stay for a while, and somebody else may be building. Raises Unavailable."""
        built = 0
        with raising_unavailable("mongodb", PyMongoError):
            new = list(self._notes.find({"site_id": site_id, "rewritten_at": None}))
        if new:
            with self.segments.store.lease(site_id, self.now) as is_ours:
                if not is_ours:
                    return 0
                hours = [Interval(as_ms(h), as_ms(h) + HOUR) for note in new for h in note["hours"]]
                built = self._rewrite(site_id, hours)
            self._update(new, {"$set": {"rewritten_at": self.now(), "has_files": self._has_files(site_id)}})
        self._remove_files(site_id)
        return built

    def _rewrite(self, site_id: str, hours: Sequence[Interval]) -> int:
        manifest = self._fenced(site_id)
        old = [s for s in manifest.segments if any(hour.overlaps(s.interval) for hour in hours)]
        # The coarsest first: it takes the finer ones in.
        for segment in sorted(old, key=lambda s: -SEGMENT_GRAINS.index(s.grain)):
            while self._has(site_id, segment):
                try:
                    self.segments.builder.build(site_id, segment.grain, segment.interval)
                except SegmentLost:
                    self.segments.builder.build(site_id, segment.grain, segment.interval, from_raw=True)
        return len(old)

    def _has_files(self, site_id: str) -> bool:
        """Some that no manifest names: where no segment ever had any of it, there is none to wait for."""
        store = self.segments.store
        return bool(set(store.versions(site_id)) - {s.version for s in store.manifest(site_id).segments})

    def _fenced(self, site_id: str) -> Manifest:
        """The manifest, which nobody can replace any more who had read it before."""
        store = self.segments.store
        while True:
            manifest = store.manifest(site_id)
            if store.replace(manifest, manifest.segments):
                return manifest

    def _has(self, site_id: str, segment: Segment) -> bool:
        return any(s.version == segment.version for s in self.segments.store.manifest(site_id).segments)

    def _remove_files(self, site_id: str) -> None:
        now = self.now()
        with raising_unavailable("mongodb", PyMongoError):
            done = [x for x in self._notes.find({"site_id": site_id}) if x.get("rewritten_at") is not None]
        ripe = [x for x in done if not x["has_files"] or x["rewritten_at"] <= now - self.kept_for]
        if any(x["has_files"] for x in ripe):
            self.segments.store.collect(now, site_id=site_id, kept_after=self.kept_for)
        if ripe:
            with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
                self._notes.delete_many({"_id": {"$in": [x["_id"] for x in ripe]}})

    def _update(self, notes: Iterable[dict[str, Any]], change: dict[str, Any]) -> None:
        with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
            self._notes.update_many({"_id": {"$in": [note["_id"] for note in notes]}}, change)

    @property
    def _notes(self) -> Any:
        return self.database["segment_rewrites"]
