"""Opens snapshots (snapshot.py) of a site's events over a period, from segments and from raw events that no segment
contains yet.

Visits between segments are derived once. After new events have arrived or a segment was replaced, only the visits of
visitors with events there are derived again.

Callers must handle two exceptions. Unavailable is raised if MongoDB is not reachable, or if more events need a backfill
than may be read from raw events. SegmentLost is raised if a segment's file is missing or damaged.
"""

from __future__ import annotations  # evaluated, they would keep DuckDB's types beyond the interpreter's end

import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from operator import itemgetter
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from bson import ObjectId
from cachetools import LRUCache

from analytics.events.backfill import Backfill
from analytics.events.columns import RAW, RawEvents, with_pages
from analytics.events.dirty_hours import DirtyHour, DirtyHours
from analytics.events.page_patterns import PathRules
from analytics.interval import DAY, SLOT, VISIT_GAP, Interval, joined
from analytics.segments.derived_rows import IN_MEMORY, DerivedRows, derive_rows
from analytics.segments.scratch import Workplace
from analytics.segments.seams import NO_VISITS, Seams, SeamVisits, fetch, valid_at_ends
from analytics.segments.snapshot import (
    SegmentSource,
    SiteSnapshot,
    as_raw,
    files_of,
    of_other_visitors,
    of_visitors,
    outside,
    rows_near_fresh,
    source_of,
)
from analytics.segments.store import Manifest, SegmentStore
from analytics.segments.visit_sql import Detail, raw_columns
from analytics.sql import Sql, joined_by, put, select
from analytics.unavailable import SEGMENTS_STORE, Unavailable

FEW = 2_000  # events; up to this number, reading them is faster than counting parts of them
# the longest segment; a query reads the segments that it overlaps, those that these overlap, and no more
_LONGEST = 31 * DAY
MOST_FRESH_BYTES = 32_000_000  # of raw events, as columns, that one query reads
MOST_CACHED = 32_000_000  # bytes of raw events kept between two queries
_GROUP = 100_000  # bytes of the events of adjacent slots that are copied at once
MOST_AT_SEAMS = 64_000_000  # bytes of visits at seams kept between two queries
# The limit for larger ones, on disk. A month of ten million events has 200 MB of them in memory while it consists of
# days. If they did not fit, each query would derive them again, which takes several seconds.
MOST_ON_DISK = 1_000_000_000
MOST_SOURCES = 10_000  # of which the last visits between segments are known, about 5 MB


@dataclass(frozen=True)
class _Gathered:
    """What a snapshot reads. `events` are the raw events of the `fresh` intervals. `outside` holds the intervals beyond
    the scope in which the site has events. The months of `past` may also have events there. `paths` are the rules by
    which pages are read. `key_lately` is the cache key of the visits in slots, beside that of the visits between
    segments; None means unknown, so these are not cached.
    """

    scope: Interval
    sources: tuple[SegmentSource, ...]
    fresh: tuple[Interval, ...]
    events: pa.Table
    as_of: datetime | None
    outside: Sequence[Interval]
    past: Sequence[Interval]
    paths: PathRules
    key_lately: object | None

    def settled(self) -> tuple[SegmentSource, ...]:
        """The sources without raw events."""
        return tuple(replace(source, fresh=()) for source in self.sources)

    def extent(self) -> Interval:
        """Return an interval that holds all events of the sources and `events`, and up to a day more at both ends."""
        times = [Interval(source.segment.first, source.segment.last + 1) for source in self.sources]
        if self.events.num_rows:
            found = pc.min_max(self.events["occurred"]).as_py()
            times.append(Interval(found["min"], found["max"] + 1))
        if not times:
            return Interval(self.scope.start, self.scope.start)
        return Interval(min(each.start for each in times), max(each.end for each in times)).widened(DAY)


@dataclass(frozen=True, slots=True)
class Share:
    """One of `of` snapshots that a query has open at the same time, on one connection. They share the limits of the
    query equally.
    """

    number: int = 0
    of: int = 1

    def part(self, most: int) -> int:
        return most // self.of

    def relation(self, name: str) -> str:
        """Return the name of this snapshot's relation."""
        return f"{name}_{self.number}"


ALONE = Share()


class NotBuiltYet(Exception):
    """Events still need a backfill. A worker builds their segments, which takes minutes for millions of events."""

    def __init__(self, most: str) -> None:
        super().__init__(
            f"Workers are still building segments, and more than {most} are in no segment. Send the request again in a"
            " few minutes."
        )


class SnapshotReader:
    """Opens snapshots, and caches between two of them what has not changed. Create one for each process; threads may
    share it.
    """

    def __init__(self, segments: SegmentStore, dirty: DirtyHours, backfill: Backfill, raw: RawEvents) -> None:
        self.segments = segments
        self.dirty = dirty
        self.backfill = backfill
        self.raw = raw
        self._slots = SizedCache(MOST_CACHED)  # (token, slot) by (site, start of the slot)
        self._seams = SizedCache(MOST_AT_SEAMS)  # rows by the sources from which they were derived
        self._seams_on_disk = SizedCache(MOST_ON_DISK)
        self._last_sources = SizedCache(MOST_SOURCES)  # of which visits between segments were derived

    def open(
        self,
        connection: duckdb.DuckDBPyConnection,
        site_id: str,
        period: Interval,
        most_fresh: int,
        *,
        visits: bool = True,
        detail: Detail = Detail.ALL,
        share: Share = ALONE,
    ) -> SiteSnapshot:
        """Open a snapshot of the site's events in the period. It reads its share of `most_fresh` raw events and
        MOST_FRESH_BYTES of them. If there are more, the oldest dirty slots stay as they were when their segment was
        built, and `as_of` gives that time. Without `visits`, no visit is derived again, which costs no time if a query
        needs only events. Columns beyond `detail` may be missing. Raises Unavailable and SegmentLost.
        """
        reach = period
        while True:
            found = self._gather(site_id, reach, most_fresh, visits, share)
            if not visits:
                fresh = share.relation("fresh_events")
                connection.register(fresh, found.events)
                is_some = found.events.num_rows or not found.sources
                extra = Sql(fresh) if is_some else None
                return SiteSnapshot(found.sources, found.fresh, extra, visits, found.as_of, extent=found.extent())
            between = self._visits_between(connection, site_id, found, detail, share)
            lately = self._visits_lately(connection, site_id, found, between, detail=detail, share=share)
            wider = _within_reach((between.rows, lately.rows), period, found)
            if not wider:
                break
            reach = Interval(min(wider).start, max(each.end for each in wider))
        active = share.relation("active")
        connection.register(active, lately.whose)
        parts = []
        if between.rows.count:
            not_fresh = [of_other_visitors(active), *map(outside, found.fresh)] if found.fresh else []
            settled = between.rows.relation(connection, share.relation("between_segments"))
            parts.append(select("*", settled, not_fresh))
        if lately.rows.count or not found.sources:
            parts.append(select("*", lately.rows.relation(connection, share.relation("lately")), []))
        extra = put("({})", joined_by(" UNION ALL BY NAME ", parts)) if parts else None
        return SiteSnapshot(
            found.sources, found.fresh, extra, visits, found.as_of, active=active,
            at_ends=valid_at_ends(connection, between, share.relation("crossing")),
            extent=found.extent(), files=(between, lately),
        )  # fmt: skip

    def _gather(self, site_id: str, reach: Interval, most_fresh: int, visits: bool, share: Share) -> _Gathered:
        # Keep this order: data that leaves one source is in the next.
        past = self.backfill.left(site_id)
        hours = self.dirty.of_site(site_id, reach.widened(3 * _LONGEST) if visits else reach)
        dirty = [hour for hour in hours if not any(month.start <= hour.start < month.end for month in past)]
        manifest = self.segments.manifest(site_id)
        scope = _around(reach, manifest) if visits else reach
        old = [month.intersection(scope) for month in past if month.overlaps(scope)]
        most, most_bytes = share.part(most_fresh), share.part(MOST_FRESH_BYTES)
        old_events = self._read_past(site_id, old, _Room(most, most_bytes))
        room = _Room(most - old_events.num_rows, most_bytes)
        slots, events, as_of = self._read_fresh(site_id, dirty, scope, room)
        fresh = tuple(joined([*old, *slots]))
        met = [segment for segment in manifest.segments if segment.interval.overlaps(scope)]
        sources = tuple(
            source_of(segment, str(path), manifest, fresh, scope)
            for segment, path in zip(met, self.segments.fetch_all(met), strict=True)
        )
        unread = [s.interval for s in manifest.segments]
        unread += [Interval(slot, slot + SLOT) for hour in dirty for slot in hour.slots]
        tokens = None if old else _tokens(dirty, slots)
        outside = [each for each in unread if not each.overlaps(scope)]
        events = with_pages(pa.concat_tables([old_events, events]), manifest.paths)
        return _Gathered(scope, sources, fresh, events, as_of, outside, past, manifest.paths, tokens)

    def _visits_between(
        self, connection: duckdb.DuckDBPyConnection, site_id: str, found: _Gathered, detail: Detail, share: Share
    ) -> SeamVisits:
        """Return the visits at seams between segments."""
        if not found.sources:
            return NO_VISITS
        settled = found.settled()
        key = _key_between(site_id, found, settled)
        visits = self._kept(key, detail)
        if visits is None:
            seams = Seams(settled, found.scope, detail, self.segments.workplace, share.part(IN_MEMORY))
            visits = self._renewed(connection, site_id, found, seams) or seams.derive(connection)
            self._keep((key, detail), visits)
            self._last_sources.put((site_id, found.scope, detail), settled, len(settled))
        return visits

    def _renewed(
        self, connection: duckdb.DuckDBPyConnection, site_id: str, found: _Gathered, seams: Seams
    ) -> SeamVisits | None:
        """Return the visits at these seams from those of before, if they are kept and little has changed."""
        details = (each for each in Detail if each >= seams.detail)
        kept = (self._last_sources.get((site_id, found.scope, each)) for each in details)
        before: tuple[SegmentSource, ...] = next(filter(None, kept), ())
        visits = self._kept(_key_between(site_id, found, before), seams.detail)
        return visits and seams.renew(connection, before, visits)

    def _visits_lately(
        self,
        connection: duckdb.DuckDBPyConnection,
        site_id: str,
        found: _Gathered,
        between: SeamVisits,
        *,
        detail: Detail,
        share: Share,
    ) -> SeamVisits:
        if not found.fresh and found.sources:
            return NO_VISITS
        key = _key_between(site_id, found, found.sources), found.key_lately
        visits = self._kept(key, detail)
        if visits is None:
            visits = _derive_lately(connection, self.segments.workplace, found, between, detail=detail, share=share)
            if found.key_lately is not None:
                self._keep((key, detail), visits)
        return visits

    def _kept(self, key: object, detail: Detail) -> SeamVisits | None:
        """What was derived for this key. What has more detail serves, too."""
        kept = ((key, each) for each in Detail if each >= detail)
        return next((found for each in kept if (found := self._seams.get(each) or self._seams_on_disk.get(each))), None)

    def _keep(self, key: object, visits: SeamVisits) -> None:
        kept = self._seams if visits.rows.is_in_memory else self._seams_on_disk
        kept.put(key, visits, visits.size)

    def discard_damaged(self, site_id: str) -> bool:
        """Remove this node's damaged copies of the site's segments; the next snapshot fetches them again. Returns
        whether there were any. Raises Unavailable.
        """
        return self.segments.discard_damaged(self.segments.manifest(site_id).segments)

    def clear(self) -> None:
        """Clear the caches, so that the next snapshot reads everything again."""
        self._slots.clear()
        self._seams.clear()
        self._seams_on_disk.clear()
        self._last_sources.clear()

    def check(self) -> None:
        """Raises Unavailable if MongoDB does not answer within a second."""
        self.raw.check()

    def _read_past(self, site_id: str, old: Sequence[Interval], room: _Room) -> pa.Table:
        """Return all raw events of these intervals, never a part of them, because no segment holds them."""
        most, most_bytes = room.rows, room.bytes
        if sum(self.raw.count(site_id, interval, most + 1) for interval in old) > most:
            raise Unavailable(SEGMENTS_STORE, NotBuiltYet(f"{most:,} events"))
        tables = [self._read_within(site_id, interval, room) for interval in old]
        if None in tables:
            raise Unavailable(SEGMENTS_STORE, NotBuiltYet(f"{most_bytes:,} bytes of events"))
        return pa.concat_tables([_NO_EVENTS, *tables])

    def _read_fresh(
        self, site_id: str, dirty: Sequence[DirtyHour], scope: Interval, room: _Room
    ) -> tuple[list[Interval], pa.Table, datetime | None]:
        """Return the dirty slots that were read, the newest first up to the limits, and their events. The third value
        is since when the oldest unread slot waits.
        """
        tokens = {slot: (token, hour.since) for hour in dirty for slot, token in hour.slots.items()}
        wanted = sorted(slot for slot in tokens if Interval(slot, slot + SLOT).overlaps(scope))
        found: dict[int, _Slot] = {}
        for slot in wanted:
            kept = self._slots.get((site_id, slot))
            if kept is not None and kept[0] == tokens[slot][0]:
                found[slot] = kept[1]
        for each in found.values():
            room.take(each.events.num_rows, each.size)
        missing = [slot for slot in wanted if slot not in found]
        if missing:
            self._read_slots(site_id, missing, room, found)
        for slot in missing:
            if slot in found:
                self._slots.put((site_id, slot), (tokens[slot][0], found[slot]), found[slot].size)
        left = [tokens[slot][1] for slot in wanted if slot not in found]
        events = pa.concat_tables([found[slot].events for slot in sorted(found)] or [_NO_EVENTS])
        return joined(Interval(slot, slot + SLOT) for slot in found), events, min(left, default=None)

    def _read_slots(self, site_id: str, slots: Sequence[int], room: _Room, found: dict[int, _Slot]) -> bool:
        """The same as _read_run for slots that may lie apart. Slots with few events between them are read together,
        because each separate read costs two round trips.
        """
        whole = Interval(slots[0], slots[-1] + SLOT)
        if whole.end - whole.start == len(slots) * SLOT:
            return self._read_run(site_id, whole, room, found)
        if self.raw.count(site_id, whole, FEW + 1) <= min(FEW, room.rows):
            table = self._read_within(site_id, whole, room)
            if table is not None:
                times = table["occurred"].to_pylist()
                for slot in slots:
                    first = bisect_left(times, slot)
                    found[slot] = _copied(table, first, bisect_left(times, slot + SLOT))
                return True
        middle = len(slots) // 2
        newer, older = slots[middle:], slots[:middle]
        return self._read_slots(site_id, newer, room, found) and self._read_slots(site_id, older, room, found)

    def _read_run(self, site_id: str, run: Interval, room: _Room, found: dict[int, _Slot]) -> bool:
        """Read the run's slots into `found`. If they are too many to read at once, the newer half is read before the
        older half. Returns False if there was no room for all slots.
        """
        if self.raw.count(site_id, run, room.rows + 1) <= room.rows:
            table = self._read_within(site_id, run, room)
            if table is not None:
                found.update(_by_slot(table, run))
                return True
        if run.end - run.start <= SLOT:
            return False
        middle = run.start + (run.end - run.start) // SLOT // 2 * SLOT
        newer, older = Interval(middle, run.end), Interval(run.start, middle)
        return self._read_run(site_id, newer, room, found) and self._read_run(site_id, older, room, found)

    def _read_within(self, site_id: str, interval: Interval, room: _Room) -> pa.Table | None:
        """Return the interval's events if there is room for their bytes. If not, return None and limit the room to as
        many rows of their size as fit.
        """
        batches: list[pa.RecordBatch] = []
        rows = size = 0
        for batch in self.raw.read(site_id, [interval]):
            batches.append(batch)
            rows += batch.num_rows
            size += batch.nbytes
            if size > room.bytes:
                room.rows = min(room.rows, rows * room.bytes // size)
                return None
        table = pa.Table.from_batches(batches, RAW)
        room.take(table.num_rows, table.nbytes)
        return table


@dataclass
class _Room:
    """The limits for raw events that a query may still read."""

    rows: int
    bytes: int

    def take(self, rows: int, size: int) -> None:
        self.rows -= rows
        self.bytes -= size


@dataclass(frozen=True)
class _Slot:
    """The raw events of a slot. `size` is their bytes: pyarrow takes 90 µs to add them up, and a dirty hour has 360
    slots.
    """

    events: pa.Table
    size: int


_NO_EVENTS = RAW.empty_table()
_EMPTY = _Slot(_NO_EVENTS, 0)


def _derive_lately(
    connection: duckdb.DuckDBPyConnection,
    workplace: Workplace,
    found: _Gathered,
    between: SeamVisits,
    *,
    detail: Detail,
    share: Share,
) -> SeamVisits:
    """Derive the visits of the visitors who have fresh events, or events that fresh events replace."""
    connection.register("fresh", found.events)
    stale = (select("visitor", files_of([x]), [replace(x, finer=()).in_holes()]) for x in found.sources if x.fresh)
    active = joined_by(" UNION ALL ", [Sql("SELECT visitor FROM fresh"), *stale])
    visitors = fetch(connection, put("SELECT DISTINCT visitor FROM ({}) WHERE visitor IS NOT NULL", active))
    connection.register("active", visitors)
    at_ends = valid_at_ends(connection, between, "crossing")
    parts = [Sql(f"SELECT {raw_columns(detail, of_row=False)}, NULL::INTEGER AS seen FROM fresh")]
    if between.rows.count:
        settled = between.rows.relation(connection, "between_segments")
        parts.append(as_raw(settled, found.fresh, [of_visitors("active"), *map(outside, found.fresh)], detail))
    parts += [rows_near_fresh(source, "active", at_ends, detail=detail) for source in found.sources if source.fresh]
    rows = derive_rows(connection, workplace, joined_by(" UNION ALL BY NAME ", parts), share.part(IN_MEMORY))
    for name in ("fresh", "active", "crossing"):
        connection.unregister(name)
    return SeamVisits(visitors, rows)


def _key_between(site_id: str, found: _Gathered, sources: Iterable[SegmentSource]) -> object:
    return site_id, found.scope, found.paths, tuple((s.segment.version, s.finer) for s in sources)


def _around(reach: Interval, manifest: Manifest) -> Interval:
    """Return the interval of all segments that overlap `reach`, because any hole in them may change their visits, plus
    the time around them that a visit may reach. It consists of whole slots, because raw events are read in slots.
    """
    met = [segment.interval for segment in manifest.segments if segment.interval.overlaps(reach)]
    around = Interval(min([reach, *met]).start, max(each.end for each in (reach, *met))).widened(VISIT_GAP)
    return Interval(around.start // SLOT * SLOT, -(-around.end // SLOT) * SLOT)


def _within_reach(visits: Iterable[DerivedRows], period: Interval, found: _Gathered) -> list[Interval]:
    """Return the scope and the unread intervals that may belong to a visit of the period; the caller widens its reach
    by them. Return an empty list if there are none.
    """
    if not (found.outside or found.past):
        return []
    reached = [reach for rows in visits if (reach := rows.reach(period)) is not None]
    if not reached:
        return []
    reach = Interval(min(reached).start, max(each.end for each in reached)).widened(VISIT_GAP)
    missed = [each for each in found.outside if each.overlaps(reach)]
    for side in (Interval(reach.start, found.scope.start), Interval(found.scope.end, reach.end)):
        if side.start < side.end:
            missed += [month.intersection(side) for month in found.past if month.overlaps(side)]
    return [found.scope, *missed] if missed else []


def _by_slot(table: pa.Table, run: Interval) -> Iterator[tuple[int, _Slot]]:
    """Yield the slots of the run. They are copied in groups, because a copy takes 100 µs and a slot may hold one event.
    A cached slot keeps its group in memory.
    """
    times = table["occurred"].to_pylist()
    most = max(_GROUP * len(times) // max(table.nbytes, 1), 1)
    group: list[tuple[int, int, int]] = []
    first = 0
    for slot in range(run.start, run.end, SLOT):
        last = bisect_left(times, slot + SLOT, first)
        group.append((slot, first, last))
        first = last
        if last - group[0][1] >= most:
            yield from _of_group(table, group)
            group = []
    yield from _of_group(table, group)


def _of_group(table: pa.Table, group: Sequence[tuple[int, int, int]]) -> Iterator[tuple[int, _Slot]]:
    """`group` holds each slot's start, and its first and last rows."""
    start, end = (group[0][1], group[-1][2]) if group else (0, 0)
    whole = _copied(table, start, end)
    for slot, first, last in group:
        count = last - first
        part = _Slot(whole.events.slice(first - start, count), whole.size * count // (end - start)) if count else _EMPTY
        yield slot, part


def _copied(table: pa.Table, first: int, end: int) -> _Slot:
    """Copy these rows into their own buffers: a cached slice would keep the whole table in memory."""
    part = table.slice(first, end - first)
    if not part.num_rows:
        return _EMPTY
    if part.num_rows < table.num_rows:
        copies = (pa.ipc.read_record_batch(batch.serialize(), RAW) for batch in part.to_batches())
        part = pa.Table.from_batches(copies, RAW)
    return _Slot(part, part.nbytes)


def _tokens(dirty: Iterable[DirtyHour], fresh: Sequence[Interval]) -> frozenset[tuple[int, ObjectId]]:
    return frozenset(
        (slot, token)
        for hour in dirty
        for slot, token in hour.slots.items()
        if any(interval.start <= slot < interval.end for interval in fresh)
    )


class SizedCache:
    """A thread-safe cache of the most recently used values, limited by the sum of their sizes."""

    def __init__(self, most: int) -> None:
        self._values: LRUCache[Any, tuple[Any, int]] = LRUCache(most, getsizeof=itemgetter(1))
        self._lock = threading.Lock()

    def get(self, key: object) -> Any:
        with self._lock:
            return self._values.get(key, (None, 0))[0]

    def put(self, key: object, value: object, size: int) -> None:
        with self._lock, suppress(ValueError):  # larger than the whole cache
            self._values[key] = (value, size + 1)

    def clear(self) -> None:
        with self._lock:
            self._values.clear()
