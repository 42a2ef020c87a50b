"""Builds segments: from raw events, and coarse segments from fine ones. Both work the same way.

To build the segment of an interval, the builder reads the interval's current content: dirty slots from raw events, all
else from the existing segments. It writes this content as one file. One write then replaces the covered segments by the
new segment in the manifest. Last, the builder clears the slots that it read, unless they were marked again in the
meantime. A builder that dies in between leaves a file that no manifest names, or slots that are read again.

An error in one site's segments is logged, and the other sites are built. Callers must handle Unavailable, raised if
MongoDB is not reachable.
"""

from __future__ import annotations  # evaluated, they would keep DuckDB's types beyond the interpreter's end

import os
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from itertools import groupby
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import structlog
from pymongo.client_session import ClientSession

from analytics.batched import batched
from analytics.events.backfill import Backfill, Past
from analytics.events.columns import RawEvents
from analytics.events.dirty_hours import DirtyHours
from analytics.interval import (
    DAY,
    HOUR,
    SEGMENT_GRAINS,
    SLOT,
    Interval,
    SegmentGrain,
    as_datetime,
    as_ms,
    interval_of,
    joined,
)
from analytics.segments.derivation import derive, gathered
from analytics.segments.due import SETTLED, due_at
from analytics.segments.segment_rows import LARGE_ROW_GROUP, MANY_ROWS, ROW_GROUP, LongVisits, write_segment
from analytics.segments.small_sites import SITES_AT_ONCE, SmallSites
from analytics.segments.snapshot import SegmentSource, SiteSnapshot, seam_rows, source_of
from analytics.segments.store import Content, Manifest, Segment, SegmentLost, SegmentStore, in_order
from analytics.segments.visit_sql import EARLIER, FORMAT, OF_DAYS, VISIT_ROW_COLUMNS, WIDE_FORMAT, WRITTEN
from analytics.segments.wide_props import WideProps
from analytics.sites.site import Site
from analytics.sql import Sql

log = structlog.get_logger()

_AS_PARQUET = "(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {})"
SMALL = 50_000  # events; a segment up to this size is rebuilt within a second and needs no finer segments
# Up to so many events are read again instead of joined with a segment. DuckDB takes longer than 40 ms, in which 5,000
# are read, to plan the statements. Up to 80,000 events, a join took twice as much CPU for each. Those of an hour are
# still in MongoDB's cache, which may not hold those of a month.
FEW_EVENTS: Mapping[SegmentGrain, int] = {"hour": 50_000, "day": 5_000, "month": 5_000}
FEW_BETWEEN = 300  # events; they are read faster than another interval
SMALL_WIDE = 1_000  # the same for events of up to 72 kB
MONTH_RESTS = timedelta(minutes=30)  # between two rebuilds of a large segment for late events
TURN = timedelta(seconds=5)  # for one site; otherwise a site with months to build would keep all other sites waiting


@dataclass(frozen=True)
class Builder:
    """Builds the segments of all sites. `connect` makes a DuckDB connection with limits, for a segment that is joined
    from others or has very long visits; the builder closes it after the segment. All segments of one call share a
    DuckDB, because a new one takes 15 ms. `count_built` is called with the grain of each segment.
    """

    segments: SegmentStore
    dirty: DirtyHours
    backfill: Backfill
    raw: RawEvents
    connect: Callable[[], duckdb.DuckDBPyConnection]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    count_built: Callable[[SegmentGrain], None] = lambda _: None

    def build_due(self, until: datetime | None = None) -> int:
        """Build the segments that are due, for the sites that have waited longest. It begins no segment after `until`.
        Returns how many segments were built. Raises Unavailable.
        """
        with self._sharing() as one:
            return one._build_hours(until) + one._build_backfill(until)

    @contextmanager
    def _sharing(self) -> Iterator[Builder]:
        """Yield the same builder with one DuckDB for all segments. It is opened for the first that needs it: a worker
        without work would hold 35 MB for it.
        """
        with ExitStack() as opened:
            shared = cache(lambda: opened.enter_context(self.connect()))
            yield replace(self, connect=lambda: shared().cursor())

    def _build_hours(self, until: datetime | None) -> int:
        months: defaultdict[Interval, list[str]] = defaultdict(list)
        for site_id, hour in self.dirty.sites_due(due_at(self.now())).items():
            months[interval_of("month", hour)].append(site_id)
        built = 0
        for month, site_ids in months.items():
            for some in batched(site_ids, SITES_AT_ONCE):
                if until is not None and self.now() >= until:
                    return built
                together = self._build_together(some, month, FEW_EVENTS["month"])
                left = (site_id for site_id in some if site_id not in together)
                built += len(together) + self._build_sites(left, until)
        return built

    def _build_backfill(self, until: datetime | None) -> int:
        """Build months of the backfill. It builds at least one, because the months might otherwise never be built."""
        built = 0
        for done in self._backfilled():
            built += done
            if until is not None and self.now() >= until:
                break
        return built

    def _backfilled(self) -> Iterator[int]:
        """Build the months of the backfill, and yield for each step how many it built."""
        for month, months in groupby(self.backfill.all_left(), lambda past: past.month):
            for some in batched(months, SITES_AT_ONCE):
                if together := self._build_together([past.site_id for past in some], month, SMALL):
                    self.backfill.finish(*(past for past in some if past.site_id in together))
                    yield len(together)
                yield from (self._build_past(past) for past in some if past.site_id not in together)

    def _build_past(self, past: Past) -> bool:
        with self._edge(past.site_id):
            return _rebuild_month(self, past)
        return False

    def _build_together(self, site_ids: Sequence[str], month: Interval, most_held: int) -> set[str]:
        """Build the month of those sites that have few events. `most_held`: the most that are in segments."""
        small = SmallSites(self.segments, self.dirty, self.raw, self.now)
        built = small.build(site_ids, month, most_held, SMALL)
        for _ in built:
            self.count_built("month")
        return built

    @contextmanager
    def _edge(self, site_id: str) -> Iterator[None]:
        """Keep an error of one site from stopping the other sites. The site is tried again when its lease has
        expired.
        """
        try:
            yield
        except (SegmentLost, duckdb.Error, pa.ArrowException):
            log.exception("segments_not_built", site_id=site_id)

    def merge_rested(self, until: datetime | None = None) -> int:
        """Merge the segments of past months, for sites that receive no more events. `until` and result as in
        `build_due`.
        """
        month = interval_of("month", as_ms(self.now()) - HOUR)
        with self._sharing() as one:
            return one._build_sites(self.segments.sites_to_merge(month.start), until)

    def _build_sites(self, sites: Iterable[str], until: datetime | None) -> int:
        built = 0
        for site_id in sites:
            if until is not None and self.now() >= until:
                break
            with self._edge(site_id):
                built += self.build_site(site_id, until=until and min(until, self.now() + TURN))
        return built

    def build_site(self, site_id: str, *, everything: bool = False, until: datetime | None = None) -> int:
        """Build the due segments of one site. `everything` also builds hours that are not over, and does all merges at
        once.
        """
        built = 0
        with self.segments.lease(site_id, self.now) as is_ours:
            while is_ours and (until is None or self.now() < until) and (interval := self._next(site_id, everything)):
                if not self.build(site_id, *interval):
                    break  # another process is building the site
                built += 1
        return built

    def build(self, site_id: str, grain: SegmentGrain, interval: Interval, *, from_raw: bool = False) -> bool:
        """Build one segment. `from_raw` reads only raw events, no matter which segments exist. Returns False if another
        builder was faster.
        """
        dirty = self.dirty.of_site(site_id, interval)
        manifest = self.segments.manifest(site_id)
        from_raw = from_raw or self._is_read_again(manifest, grain, interval)
        slots = (Interval(slot, slot + SLOT) for hour in dirty for slot in hour.slots)
        fresh = [interval] if from_raw else joined(slots)
        covered = [s for s in manifest.segments if s.interval.within(interval) and _no_coarser(s.grain, grain)]
        with self.segments.workplace.folder() as folder:
            sources = self._sources(manifest, interval, fresh, folder)
            read = partial(self._read, manifest, fresh, interval)
            file, content, form = self._write(sources, read, interval, folder)
            new = [self.segments.keep(file, manifest, grain, interval, content, form=form)] if content.rows else []
        if not new and any(s.interval.overlaps(interval) and s not in covered for s in manifest.segments):
            # No event is left in the interval, but a coarser segment still shows its old events. Build the coarser
            # segment instead.
            return self._build_coarser(site_id, grain, interval)
        kept = [s for s in manifest.segments if s not in covered]
        if not self.segments.replace(manifest, in_order([*kept, *new]), self.now()):
            return False
        self.count_built(grain)
        self.dirty.clear(dirty)
        start = as_datetime(interval.start).isoformat()
        log.info("segment_built", site_id=site_id, grain=grain, start=start, rows=content.rows)
        return True

    def _is_read_again(self, manifest: Manifest, grain: SegmentGrain, interval: Interval) -> bool:
        """Whether it is faster to read all events again than to read the segments that hold some of them."""
        held = [segment for segment in manifest.segments if segment.interval.overlaps(interval)]
        most = FEW_EVENTS[grain]
        few = bool(held) and self.raw.count(manifest.site_id, interval, most + 1) <= most
        return few or any(segment.is_wide for segment in held)

    def _read(self, manifest: Manifest, fresh: Sequence[Interval], interval: Interval) -> Iterator[pa.RecordBatch]:
        """Yield the raw events of these intervals. Intervals with few events between them are read together, because
        a read takes as long as that of several hundred events.
        """
        rows = sum(s.rows for s in manifest.segments if s.interval.overlaps(interval))
        near = FEW_BETWEEN * (interval.end - interval.start) // max(rows, 1)
        runs: list[list[Interval]] = []
        for each in fresh:
            if runs and each.start - runs[-1][-1].end <= near:
                runs[-1].append(each)
            else:
                runs.append([each])
        for run in runs:
            for batch in self.raw.read(manifest.site_id, [Interval(run[0].start, run[-1].end)], manifest.paths):
                yield batch if len(run) == 1 else batch.filter(_are_within(batch["occurred"], run))

    def _write(
        self,
        sources: Sequence[SegmentSource],
        read: Callable[[], Iterator[pa.RecordBatch]],
        interval: Interval,
        folder: Path,
        *,
        by_duckdb: bool = False,
    ) -> tuple[Path, Content, int]:
        """Write the segment into the folder. Returns its file, content and format."""
        wide, file = WideProps(folder), folder / "segment.parquet"
        events = wide.aside(read())
        if sources or by_duckdb:
            content = self._write_joined(sources, gathered(folder, events), interval, file)
        else:
            try:
                content = write_segment(events, interval, file)
            except LongVisits:  # DuckDB writes to disk what does not fit into memory
                return self._write(sources, read, interval, folder, by_duckdb=True)
        return (wide.restore(file), content, WIDE_FORMAT) if wide.is_some else (file, content, FORMAT)

    def _write_joined(
        self, sources: Sequence[SegmentSource], events: pa.Table | Path, interval: Interval, file: Path
    ) -> Content:
        """Write the rows of the sources and the raw events that replace some of them."""
        with self.connect() as connection:
            try:
                at_seams = seam_rows(sources, interval, cut=interval) if sources else None
                derived = derive(connection, file.parent, events, at_seams)
                rows = derived + sum(source.segment.rows for source in sources)
                snapshot = SiteSnapshot(tuple(sources), (), Sql("derived"), cut=interval)
                return write(connection, snapshot, interval, rows, file)
            except duckdb.Error:
                # The next build fetches again the copies on this node that were damaged after they were fetched.
                self.segments.discard_damaged(source.segment for source in sources)
                raise

    def _build_coarser(self, site_id: str, grain: SegmentGrain, interval: Interval) -> bool:
        coarser = SEGMENT_GRAINS[SEGMENT_GRAINS.index(grain) + 1]
        return self.build(site_id, coarser, interval_of(coarser, interval.start))

    def _sources(
        self, manifest: Manifest, interval: Interval, fresh: Sequence[Interval], folder: Path
    ) -> tuple[SegmentSource, ...]:
        sources = []
        for segment in manifest.segments:
            if segment.interval.overlaps(interval):
                path = folder / segment.version
                source = source_of(segment, str(path), manifest, fresh, interval)
                if not any(segment.interval.within(hole) for hole in source.holes):
                    os.link(self.segments.fetch(segment), path)  # another process may remove the copy to make room
                    sources.append(source)
        return tuple(sources)

    def _next(self, site_id: str, everything: bool) -> tuple[SegmentGrain, Interval] | None:
        """Return what to build next: the coarsest segment with few events, or the dirty hour itself. Without a dirty
        hour, return what may be merged.
        """
        manifest = self.segments.manifest(site_id)
        hour = self.dirty.first(site_id) if everything else self.dirty.next_due(site_id, due_at(self.now()))
        return self._merge(manifest, everything) if hour is None else self._for_hour(site_id, manifest, hour)

    def _for_hour(self, site_id: str, manifest: Manifest, ms: int) -> tuple[SegmentGrain, Interval]:
        for grain in reversed(SEGMENT_GRAINS):
            interval = interval_of(grain, ms)
            finer = [s for s in manifest.segments if s.interval.within(interval) and _no_coarser(s.grain, grain)]
            known = sum(segment.rows for segment in finer)
            small = SMALL_WIDE if any(segment.is_wide for segment in finer) else SMALL
            if known <= small and self.raw.count(site_id, interval, small + 1) <= small:
                return grain, interval
        return "hour", interval_of("hour", ms)

    def _merge(self, manifest: Manifest, everything: bool) -> tuple[SegmentGrain, Interval] | None:
        """Merge the hours of a day into the day, and the days of a past month into the month."""
        groups: defaultdict[tuple[SegmentGrain, Interval], list[Segment]] = defaultdict(list)
        for segment in manifest.segments:
            if segment.grain != "month":
                coarser = SEGMENT_GRAINS[SEGMENT_GRAINS.index(segment.grain) + 1]
                groups[coarser, interval_of(coarser, segment.start)].append(segment)
        for (grain, interval), finer in sorted(groups.items(), key=lambda item: (item[0][1], item[0][0])):
            if everything or self._may_merge(manifest, grain, interval, finer):
                return grain, interval
        return None

    def _may_merge(self, manifest: Manifest, grain: SegmentGrain, interval: Interval, finer: Sequence[Segment]) -> bool:
        now = as_ms(self.now())
        settled = int(SETTLED.total_seconds() * 1000)
        if grain == "month":
            if any(s.grain == "hour" and s.interval.within(interval) for s in manifest.segments):
                return False  # hours are merged into their day first
            large = [s for s in manifest.segments if s.interval == interval and s.rows > SMALL]
            rested = all(s.built_at + MONTH_RESTS <= self.now() for s in large)
            return rested and interval.end + HOUR <= now
        return min(segment.end for segment in finer) + settled <= now


def write(
    connection: duckdb.DuckDBPyConnection, snapshot: SiteSnapshot, interval: Interval, rows: int, file: Path
) -> Content:
    """Write a segment's file from the snapshot's rows in the interval. `rows` is their approximate number. Many rows
    are sorted one day at a time: a million take 600 MB, and ten million do not fit into the default limit of 1 GB.
    """
    days = [interval]
    if rows > MANY_ROWS and interval.end - interval.start > DAY:
        days = [Interval(start, start + DAY) for start in range(interval.start, interval.end, DAY)]
    parts = [file] if len(days) == 1 else [file.with_name(f"day-{number}.parquet") for number in range(len(days))]
    connection.execute(EARLIER)
    for day, part in zip(days, parts, strict=True):
        found = snapshot.rows(day, VISIT_ROW_COLUMNS)
        connection.execute(
            f"COPY (WITH found AS ({found.text}) {WRITTEN}) TO '{part}' {_AS_PARQUET.format(ROW_GROUP)}",
            (*found.values, interval.start, interval.end),
        )
        if part is not file:
            seen = "SELECT visitor, max(quarter) FROM read_parquet(?) WHERE visitor IS NOT NULL GROUP BY visitor"
            connection.execute(f"INSERT INTO earlier {seen}", [[str(part)]])
    if len(parts) > 1:
        in_order = _AS_PARQUET.format(f"{LARGE_ROW_GROUP}, PRESERVE_ORDER")
        connection.execute(f"COPY ({OF_DAYS}) TO '{file}' {in_order}", {"days": [*map(str, parts)]})
    text = "SELECT count(*), min(occurred), max(occurred) FROM read_parquet(?)"
    return Content(*connection.execute(text, [[str(file)]]).fetchall()[0])


def _are_within(times: pa.Array, intervals: Sequence[Interval]) -> pa.Array:
    """Whether each time is in one of the intervals, which are in order and do not overlap."""
    bounds = np.array([bound for each in intervals for bound in (each.start, each.end)])
    return pa.array(np.searchsorted(bounds, times.to_numpy(), "right") % 2 == 1)


def _no_coarser(grain: SegmentGrain, than: SegmentGrain) -> bool:
    return SEGMENT_GRAINS.index(grain) <= SEGMENT_GRAINS.index(than)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A rebuilt month. If `rows` is 0, no event is left in the month, and the month has no segment."""

    month: Interval
    rows: int
    seconds: float


def apply_path_rules(builder: Builder, site: Site, months: Collection[Interval]) -> None:
    """Let the pages of stored events follow the site's rules for paths: those of events in no segment at once, those of
    each month when it is built again. Without rules, pages are as they are stored. Months of segments that were built
    since `months` were found are built again too. It may be repeated. Raises Unavailable.
    """

    def list_months(session: ClientSession, segments: Sequence[Segment]) -> None:
        held = (interval_of("month", segment.start) for segment in segments)
        builder.backfill.add_within(session, site.site_id, {*months, *held})

    builder.segments.set_paths(site.site_id, site.rules_for_paths(), list_months)


def rebuild(builder: Builder, site_id: str, months: Iterable[Interval]) -> Iterator[Rebuilt]:
    """Rebuild the months from raw events. The old segments serve queries in the meantime. It waits while another
    process builds the site.
    """
    for month in months:
        start = time.monotonic()
        while not _rebuild_month(builder, builder.backfill.past(site_id, month)):
            time.sleep(1)
        held = (s.rows for s in builder.segments.manifest(site_id).segments if s.interval == month)
        yield Rebuilt(month, sum(held), time.monotonic() - start)


def _rebuild_month(builder: Builder, past: Past) -> bool:
    """Returns False if another process builds the site."""
    with builder.segments.lease(past.site_id, builder.now) as is_ours:
        is_built = is_ours and builder.build(past.site_id, "month", past.month, from_raw=True)
        if is_built:
            builder.backfill.finish(past)
    return is_built
