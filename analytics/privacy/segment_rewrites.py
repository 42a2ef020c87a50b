"""Rebuilds at once the segments that hold erased events, and removes their old files as soon as no query can be reading
them. Segments of events that are stored late or purged are rebuilt later (analytics/segments/builder.py).

analytics/events/removal.py notes the hours in the transaction that removes the events, and marks them as dirty. A
segment built later therefore holds none of the events, and only existing files may hold them. The site's lease keeps
two builders apart. A builder that lost its lease without noticing is refused by the manifest's generation, which is
increased first.

It may die at any point, and another process continues. A note is deleted after its files are removed. Callers must
handle Unavailable, raised if MongoDB is not reachable.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa
import structlog

from analytics.events.rewrite_notes import RewriteNotes
from analytics.interval import SEGMENT_GRAINS, Interval
from analytics.segments.engine import Segments
from analytics.segments.store import Manifest, Segment, SegmentLost

log = structlog.get_logger()

MARGIN = 10.0  # seconds that files stay longer than a query may take


@dataclass(frozen=True)
class Rewriter:
    """Rebuilds the segments. `kept_for` is how long the old files stay for queries that began earlier."""

    notes: RewriteNotes
    segments: Segments
    kept_for: timedelta
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def is_done(self, site_id: str) -> bool:
        """Whether the site's segments are rebuilt and their old files removed. Raises Unavailable."""
        return self.notes.is_done(site_id)

    def rewrite_due(self, until: datetime | None = None) -> int:
        """Rebuild the segments of all sites, beginning no site after `until`, and return the number of segments. Raises
        Unavailable.
        """
        built = 0
        for site_id in self.notes.sites():
            if until is not None and self.now() >= until:
                break
            try:
                built += self.rewrite(site_id)
            # an error of one site must not stop the others; it is tried again
            except (SegmentLost, duckdb.Error, pa.ArrowException):
                log.exception("segments_not_rewritten", site_id=site_id)
        return built

    def rewrite(self, site_id: str) -> int:
        """Rebuild as far as possible now: files stay for a while, and another process may be building. Raises
        Unavailable.
        """
        built = 0
        if new := [note for note in self.notes.of_site(site_id) if note.rewritten_at is None]:
            with self.segments.store.lease(site_id, self.now) as is_ours:
                if not is_ours:
                    return 0
                built = self._rewrite(site_id, [hour for note in new for hour in note.hours])
            self.notes.mark_rewritten(new, self.now(), has_files=self._has_files(site_id))
        self._remove_files(site_id)
        return built

    def _rewrite(self, site_id: str, hours: Sequence[Interval]) -> int:
        manifest = self._fenced(site_id)
        old = [s for s in manifest.segments if any(hour.overlaps(s.interval) for hour in hours)]
        # The coarsest first, because it includes the finer ones.
        for segment in sorted(old, key=lambda s: -SEGMENT_GRAINS.index(s.grain)):
            while self._has(site_id, segment):
                try:
                    self.segments.builder.build(site_id, segment.grain, segment.interval)
                except SegmentLost:
                    self.segments.builder.build(site_id, segment.grain, segment.interval, from_raw=True)
        return len(old)

    def _has_files(self, site_id: str) -> bool:
        """Whether there are files that no manifest names. If there are none, no segment held the events, and nothing
        has to expire.
        """
        store = self.segments.store
        return bool(set(store.versions(site_id)) - {s.version for s in store.manifest(site_id).segments})

    def _fenced(self, site_id: str) -> Manifest:
        """Return the manifest after increasing its generation, so that no process that read it before can
        replace it.
        """
        store = self.segments.store
        while True:
            manifest = store.manifest(site_id)
            if store.replace(manifest, manifest.segments, self.now()):
                return manifest

    def _has(self, site_id: str, segment: Segment) -> bool:
        return any(s.version == segment.version for s in self.segments.store.manifest(site_id).segments)

    def _remove_files(self, site_id: str) -> None:
        now = self.now()
        done = [(note, note.rewritten_at) for note in self.notes.of_site(site_id) if note.rewritten_at is not None]
        ripe = [note for note, at in done if not note.has_files or at <= now - self.kept_for]
        if any(note.has_files for note in ripe):
            self.segments.store.collect(now, site_id=site_id, kept_after=self.kept_for)
        if ripe:
            self.notes.remove(ripe)
