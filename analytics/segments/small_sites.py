"""Builds the segments of many small sites together. They share one read of raw events, one derivation of visits, and
one write of each kind to MongoDB: each of these takes almost as long for one small site as for dozens.

A segment becomes visible with its site's manifest, as every segment does (analytics/segments/builder.py). If the
process dies in between, some sites have their new segment and the others are built again. Callers must handle
Unavailable, raised if MongoDB is not reachable.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import structlog

from analytics.events.columns import EventsOfSites, RawEvents, with_pages
from analytics.events.dirty_hours import DirtyHours
from analytics.interval import Interval
from analytics.segments.segment_rows import small_files
from analytics.segments.store import Manifest, SegmentStore, in_order
from analytics.segments.wide_props import is_wide

log = structlog.get_logger()

SITES_AT_ONCE = 64  # sites
MOST_TOGETHER = 16_000_000  # of their events in MongoDB; what one more reply has is read in addition


@dataclass(frozen=True)
class SmallSites:
    segments: SegmentStore
    dirty: DirtyHours
    raw: RawEvents
    now: Callable[[], datetime]

    def build(self, site_ids: Sequence[str], month: Interval, most_held: int, most: int) -> set[str]:
        """Build the segment of the month from raw events, for those sites of which that is fast: existing segments of
        the month hold up to `most_held` events, there are up to `most` events, and the events of all these sites fit
        into memory. Returns the sites that were built.
        """
        with self.segments.leases(site_ids, self.now) as ours:
            try:
                return self._build(ours, month, most_held, most)
            except pa.ArrowException:  # each is built alone, and only the one that is the cause fails again
                log.exception("segments_not_built_together", sites=len(ours))
                return set()

    def _build(self, site_ids: Sequence[str], month: Interval, most_held: int, most: int) -> set[str]:
        dirty = self.dirty.all_of(site_ids, month)
        manifests = {each.site_id: each for each in self.segments.manifests(site_ids) if _holds(each, month, most_held)}
        if not manifests:
            return set()
        found = self.raw.read_sites([*manifests], month, MOST_TOGETHER)
        small = {site_id: part for site_id, part in _parts(found) if len(part) <= most and not is_wide(part["props"])}
        if not small:
            return set()
        parts = [with_pages(part, manifests[site_id].paths) for site_id, part in small.items()]
        files = small_files(pa.Table.from_batches(parts), [*map(len, parts)], month)
        kept = [(manifests[site_id], *file) for site_id, file in zip(small, files, strict=True)]
        segments = self.segments.keep_all(kept, "month", month)
        changes = [
            (before, in_order([*(s for s in before.segments if not s.interval.within(month)), segment]))
            for (before, *_), segment in zip(kept, segments, strict=True)
        ]
        built = self.segments.replace_all(changes, self.now())
        self.dirty.clear(hour for hour in dirty if hour.site_id in built)
        log.info("segments_built_together", sites=len(built), rows=sum(map(len, parts)))
        return built


def _parts(found: EventsOfSites) -> Iterator[tuple[str, pa.RecordBatch]]:
    first = 0
    for site_id, count in found.counts.items():
        yield site_id, found.events.slice(first, count)
        first += count


def _holds(manifest: Manifest, month: Interval, most: int) -> bool:
    held = [segment for segment in manifest.segments if segment.interval.within(month)]
    return sum(segment.rows for segment in held) <= most and not any(segment.is_wide for segment in held)
