"""Opens a snapshot: a consistent view of a site's events over a period, from segments and from raw events that no
segment contains yet.

Each moment has exactly one source: a dirty slot is read from raw events, and all else from the finest segment that
holds it. Rows of visits that cannot have changed come directly from the files. Visits near a seam (the end of a
segment, a dirty slot, a finer segment) are derived again from all their events, by the same SQL that derives segments.
Visits between segments are derived once. After new events have arrived, only the visits of the visitors with new events
are derived again.

A `Snapshot` has `rows`, which gives SQL for a relation. Callers must handle two exceptions. Unavailable is raised if
MongoDB is not reachable, or if more events need a backfill than may be read from raw events. SegmentLost is raised if a
segment's file is missing or damaged.
"""

from __future__ import annotations  # evaluated, they would keep DuckDB's types beyond the interpreter's end

import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from bson import ObjectId
from cachetools import LRUCache

from analytics.events.backfill import Backfill
from analytics.events.columns import RAW, RawEvents
from analytics.events.dirty_hours import DirtyHour, DirtyHours
from analytics.interval import DAY, QUARTER, SEGMENT_GRAINS, SLOT, VISIT_GAP, Interval, joined
from analytics.segments.derived_rows import DerivedRows, derive_rows
from analytics.segments.scratch import Workplace
from analytics.segments.store import Manifest, Segment, SegmentStore
from analytics.segments.visit_sql import FILES, RAW_OF_ROW, RAW_WITHOUT_PROPS, WITHOUT_PROPS
from analytics.sql import Sql, any_of, joined_by, negated, select
from analytics.unavailable import Unavailable

FEW = 2_000  # events; up to this number, reading them is faster than counting parts of them
# the longest segment; a query reads the segments that it overlaps, those that these overlap, and no more
_LONGEST = 31 * DAY
MOST_FRESH_BYTES = 32_000_000  # of raw events, as columns, that one query reads
MOST_CACHED = 32_000_000  # bytes of raw events kept between two queries
MOST_AT_SEAMS = 64_000_000  # bytes of visits at seams kept between two queries
# The limit for larger ones, on disk. A month of ten million events has 200 MB of them in memory while it consists of
# days. If they did not fit, each query would derive them again, which takes several seconds.
MOST_ON_DISK = 1_000_000_000


@dataclass(frozen=True, slots=True)
class SegmentSource:
    """One segment's part of a snapshot. Other sources replace it in two kinds of intervals: finer segments in `finer`,
    and raw events in `fresh`.
    """

    segment: Segment
    path: str
    finer: tuple[Interval, ...] = ()
    fresh: tuple[Interval, ...] = ()

    @property
    def holes(self) -> list[Interval]:
        return joined([*self.finer, *self.fresh])

    def in_holes(self) -> Sql:
        return any_of(map(_inside, self.holes))

    def outside_holes(self) -> list[Sql]:
        return [*map(_outside, self.holes)]

    def seams(self, reach: Interval | None = None) -> list[Sql]:
        """Conditions for rows whose visits may change when they are joined with rows of other segments. Of the
        segment's ends, only those within `reach` count.
        """
        ends = Sql("(edge AND span_end >= ? AND span_start < ?)", (reach.start, reach.end)) if reach else Sql("edge")
        return [ends, *map(_touching, joined(hole.widened(VISIT_GAP) for hole in self.finer))]

    def fresh_seams(self) -> list[Sql]:
        """Conditions for rows whose visits may change when they are joined with raw events."""
        return [*map(_touching, joined(hole.widened(VISIT_GAP) for hole in self.fresh))]


@dataclass(frozen=True)
class Snapshot:
    """A consistent view of a site's events. It includes everything stored until `as_of`, and only some later events. If
    `as_of` is None, it includes all events. `fresh` holds the dirty slots that are read from raw events.

    `beside` is a relation with the events that are not read from segments. With `visits`, these are the events at
    seams; without, the events of dirty slots. It is None if there are only segments, because an empty relation costs a
    millisecond. `others`: for visits that touch dirty slots and no end of a segment, `beside` holds only those of the
    visitors in the relation `active`. The segment's rows are valid for the other visitors. `cut`: visits of this
    interval end at its ends, no matter which events lie beyond. `extent` holds all existing events, if it is known.
    `held` must live as long as the snapshot, because its files are removed with it.
    """

    sources: tuple[SegmentSource, ...]
    fresh: tuple[Interval, ...]
    beside: Sql | None
    visits: bool = True
    as_of: datetime | None = None
    cut: Interval | None = None
    others: bool = False
    extent: Interval | None = None
    held: tuple[object, ...] = ()

    def rows(self, period: Interval, columns: Iterable[str], *, openings: bool = False) -> Sql:
        """Return the events of the period. `columns` are columns of VISIT_ROW_COLUMNS and `prior`. Without visits, they
        are columns of EVENT_COLUMNS.

        With `openings`, return fewer rows, which stand for all of them: the openings (analytics/segments/visit_sql.py)
        whose quarters overlap the period, with their `last_quarter`. The period must begin and end with a quarter. If
        an opening is not known, each event stands for itself.
        """
        names = list(dict.fromkeys([*columns, "last_quarter"] if openings else columns)) or ["name"]
        whole = sorted((s for s in self.sources if not s.holes and s.segment.interval.within(period)), key=_format)
        within = _of_openings(period) if openings else []
        parts = []
        for _, alike in groupby(whole, _format):
            sources = list(alike)
            parts += [self._part(sources, names, [*limits, *within]) for limits in self._limits(sources[0])]
        for source in self.sources:
            if source.segment.interval.overlaps(period) and source not in whole:
                known = openings and (self.visits or not source.holes)
                within = _of_openings(period) if known else _within(source.segment, period)
                what = [*map(_by_itself, names)] if openings and not known else names
                parts += [self._part([source], what, [*limits, *within]) for limits in self._limits(source)]
        if self.beside is not None:
            found = ", ".join(names if self.visits else map(_freshly, names))
            limits = [Sql("occurred >= ?", (period.start,)), Sql("occurred < ?", (period.end,))]
            parts.append(select(found, self.beside, _of_openings(period) if openings and self.visits else limits))
        if not parts:
            parts.append(self._part(self.sources[:1], names, [Sql("false")]))
        return joined_by(" UNION ALL ", parts)

    def holds_whole(self, interval: Interval) -> bool:
        """Whether one segment holds all events of the interval. If so, the first event of each visitor in it has a
        `seen` outside the interval, and no other event has.
        """
        holders = [s for s in self.sources if s.segment.interval.overlaps(interval) and not _filled(interval, s.holes)]
        return len(holders) == 1 and not any(hole.overlaps(interval) for hole in [*holders[0].holes, *self.fresh])

    def _part(self, sources: Sequence[SegmentSource], names: Sequence[str], limits: Sequence[Sql]) -> Sql:
        """Select columns from sources of one format."""
        what, values = [], []
        holes = [hole for source in sources for hole in source.holes]
        for name in names:
            if name == "prior":
                what.append("CASE WHEN NOT entry AND visit_bounce IS NOT NULL THEN seen END AS prior")
            elif name == "seen" and holes:
                what.append(_seen(holes))
                values += _quarters(holes)
            else:
                what.append(name)
        part = select(", ".join(what), _files(sources), limits)
        return Sql(part.text, (*values, *part.values))

    def _limits(self, source: SegmentSource) -> list[list[Sql]]:
        """Return the conditions of each part of the source that is valid, considering all its holes."""
        if not self.visits:
            return [source.outside_holes()]
        away, at_fresh = [*map(negated, source.seams())], source.fresh_seams()
        if self.cut is not None:
            away.append(Sql("span_start >= ? AND span_end < ?", (self.cut.start, self.cut.end)))
        parts = [[*away, *map(negated, at_fresh)]]
        if at_fresh and self.others:
            parts.append([*away, any_of(at_fresh), _NOT_ACTIVE, *source.outside_holes()])
        return parts


def _format(source: SegmentSource) -> int:
    return source.segment.format


_NOT_ACTIVE = Sql("(visitor IS NULL OR visitor NOT IN (SELECT visitor FROM active))")


def _seen(holes: Sequence[Interval]) -> str:
    """If the previous event was in a hole, its quarter is unknown, and the event counts as the visitor's first."""
    replaced = "".join(" WHEN seen >= ? AND seen < ? THEN NULL" for _ in holes)
    return f"CASE{replaced} ELSE seen END AS seen" if replaced else "seen"


def _quarters(holes: Iterable[Interval]) -> list[int]:
    return [quarter for hole in holes for quarter in (hole.start // QUARTER, -(-hole.end // QUARTER))]


_SEEN_FRESH = f"CASE WHEN visitor IS NULL THEN (occurred // {QUARTER})::INTEGER END AS seen"


def _freshly(name: str) -> str:
    """Return a segment's column computed from raw events."""
    quarter = f"(occurred // {QUARTER})::INTEGER AS "
    made = {"quarter": f"{quarter}quarter", "last_quarter": f"{quarter}last_quarter", "seen": _SEEN_FRESH}
    return made.get(name, name)


def _by_itself(name: str) -> str:
    return "quarter AS last_quarter" if name == "last_quarter" else name


def _within(segment: Segment, period: Interval) -> list[Sql]:
    limits = [_since(period.start)] if segment.start < period.start else []
    return [*limits, _until(period.end)] if period.end < segment.end else limits


def _of_openings(period: Interval) -> list[Sql]:
    start = max(period.start, 0)  # in a time zone east of UTC, 1970 began earlier; no opening has -1
    return [Sql("last_quarter >= ?", (start // QUARTER,)), Sql("quarter < ?", (period.end // QUARTER,))]


def _inside(interval: Interval) -> Sql:
    return Sql("(occurred >= ? AND occurred < ?)", (interval.start, interval.end))


def _outside(interval: Interval) -> Sql:
    return negated(_inside(interval))


def _touching(seam: Interval) -> Sql:
    return Sql("(span_end >= ? AND span_start < ?)", (seam.start, seam.end))


def _since(ms: int) -> Sql:
    """Use the quarter if it is exact: it is read in a fifth of the time."""
    return Sql("occurred >= ?", (ms,)) if ms % QUARTER else Sql("quarter >= ?", (ms // QUARTER,))


def _until(ms: int) -> Sql:
    return Sql("occurred < ?", (ms,)) if ms % QUARTER else Sql("quarter < ?", (ms // QUARTER,))


def _filled(interval: Interval, holes: Sequence[Interval]) -> bool:
    return any(interval.within(hole) for hole in holes)


@dataclass(frozen=True)
class _Gathered:
    """What a snapshot reads. `events` are the raw events of the `fresh` intervals. `outside` holds the intervals beyond
    the scope in which the site has events. The months of `past` may also have events there. `segments` is the cache key
    of the visits between segments. `slots` is the cache key of the visits in slots; None means unknown, so these are
    not cached.
    """

    scope: Interval
    sources: tuple[SegmentSource, ...]
    fresh: tuple[Interval, ...]
    events: pa.Table
    as_of: datetime | None
    outside: Sequence[Interval]
    past: Sequence[Interval]
    segments: object
    slots: object | None

    def extent(self) -> Interval:
        """Return an interval that holds all events of the sources and `events`, and up to a day more at both ends."""
        times = [Interval(source.segment.first, source.segment.last + 1) for source in self.sources]
        if self.events.num_rows:
            found = pc.min_max(self.events["occurred"]).as_py()
            times.append(Interval(found["min"], found["max"] + 1))
        if not times:
            return Interval(self.scope.start, self.scope.start)
        return Interval(min(each.start for each in times), max(each.end for each in times)).widened(DAY)


class NotBuiltYet(Exception):
    """Events still need a backfill. A worker builds their segments, which takes minutes for millions of events."""


class SnapshotReader:
    """Opens snapshots, and caches between two of them what has not changed. Create one for each process; threads may
    share it.
    """

    def __init__(self, segments: SegmentStore, dirty: DirtyHours, backfill: Backfill, raw: RawEvents) -> None:
        self.segments = segments
        self.dirty = dirty
        self.backfill = backfill
        self.raw = raw
        self._slots = SizedCache(MOST_CACHED)  # (token, events) by (site, slot)
        self._seams = SizedCache(MOST_AT_SEAMS)  # rows by the sources from which they were derived
        self._seams_on_disk = SizedCache(MOST_ON_DISK)

    def open(
        self,
        connection: duckdb.DuckDBPyConnection,
        site_id: str,
        period: Interval,
        most_fresh: int,
        *,
        visits: bool = True,
        props: bool = True,
    ) -> Snapshot:
        """Open a snapshot of the site's events in the period. It reads at most `most_fresh` raw events and
        MOST_FRESH_BYTES of them. If there are more, the oldest dirty slots stay as they were when their segment was
        built, and `as_of` gives that time. Without `visits`, no visit is derived again, which costs no time if a query
        needs only events. Without `props`, properties may be missing; they may be most of the data. Raises Unavailable
        and SegmentLost.
        """
        reach = period
        while True:
            found = self._gather(site_id, reach, most_fresh, visits)
            if not visits:
                connection.register("beside", found.events)
                is_some = found.events.num_rows or not found.sources
                beside_them = Sql("beside") if is_some else None
                return Snapshot(found.sources, found.fresh, beside_them, visits, found.as_of, extent=found.extent())
            between = self._between(connection, site_id, found, props)
            lately = self._lately(connection, site_id, found, between, props)
            wider = _within_reach((between, lately.rows), period, found)
            if not wider:
                break
            reach = Interval(min(wider).start, max(each.end for each in wider))
        connection.register("active", lately.visitors)
        beside = []
        if between.count:
            not_fresh = [_NOT_ACTIVE, *map(_outside, found.fresh)] if found.fresh else []
            beside.append(select("*", between.relation(connection, "between_segments"), not_fresh))
        if lately.rows.count or not found.sources:
            beside.append(select("*", lately.rows.relation(connection, "lately"), []))
        union = joined_by(" UNION ALL BY NAME ", beside)
        relation = Sql(f"({union.text})", union.values) if beside else None
        held = (between, lately)
        return Snapshot(
            found.sources, found.fresh, relation, visits, found.as_of, others=True, extent=found.extent(), held=held
        )

    def _gather(self, site_id: str, reach: Interval, most_fresh: int, visits: bool) -> _Gathered:
        # Keep this order: data that leaves one source is in the next.
        past = self.backfill.left(site_id)
        hours = self.dirty.of_site(site_id, reach.widened(3 * _LONGEST) if visits else reach)
        dirty = [hour for hour in hours if not any(month.start <= hour.start < month.end for month in past)]
        manifest = self.segments.manifest(site_id)
        scope = _around(reach, manifest) if visits else reach
        old = [month.intersection(scope) for month in past if month.overlaps(scope)]
        old_events = self._read_past(site_id, old, most_fresh)
        slots, events, as_of = self._read_fresh(site_id, dirty, scope, most_fresh - old_events.num_rows)
        fresh = tuple(joined([*old, *slots]))
        sources = tuple(
            source_of(segment, str(self.segments.fetch(segment)), manifest, fresh, scope)
            for segment in manifest.segments
            if segment.interval.overlaps(scope)
        )
        unread = [s.interval for s in manifest.segments]
        unread += [Interval(slot, slot + SLOT) for hour in dirty for slot in hour.slots]
        made_of = scope, tuple((s.segment.version, s.finer) for s in sources)
        tokens = None if old else _tokens(dirty, slots)
        outside = [each for each in unread if not each.overlaps(scope)]
        events = pa.concat_tables([old_events, events])
        return _Gathered(scope, sources, fresh, events, as_of, outside, past, made_of, tokens)

    def _between(
        self, connection: duckdb.DuckDBPyConnection, site_id: str, found: _Gathered, props: bool
    ) -> DerivedRows:
        """Return the events of visits at seams between segments."""
        if not found.sources:
            return NO_VISITS.rows
        key = site_id, found.segments
        rows: DerivedRows | None = self._kept(key, props)
        if rows is None:
            settled = [replace(source, fresh=()) for source in found.sources]
            rows = derive_rows(connection, self.segments.workplace, seam_rows(settled, found.scope, props=props))
            self._cache_of(rows).put((key, props), rows, rows.size)
        return rows

    def _lately(
        self,
        connection: duckdb.DuckDBPyConnection,
        site_id: str,
        found: _Gathered,
        between: DerivedRows,
        props: bool,
    ) -> _Visits:
        if not found.fresh and found.sources:
            return NO_VISITS
        key = site_id, found.segments, found.slots
        visits: _Visits | None = self._kept(key, props)
        if visits is None:
            visits = _visits_lately(connection, self.segments.workplace, found, between, props)
            if found.slots is not None:
                self._cache_of(visits.rows).put((key, props), visits, visits.rows.size + visits.visitors.nbytes)
        return visits

    def _kept(self, key: tuple[Any, ...], props: bool) -> Any:
        """What was derived for this key. What has properties serves a query that needs none, too."""
        kept = ((key, has_props) for has_props in {props, True})
        return next((found for each in kept if (found := self._seams.get(each) or self._seams_on_disk.get(each))), None)

    def _cache_of(self, rows: DerivedRows) -> SizedCache:
        return self._seams if rows.is_in_memory else self._seams_on_disk

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

    def check(self) -> None:
        """Raises Unavailable if MongoDB does not answer within a second."""
        self.raw.check()

    def _read_past(self, site_id: str, old: Sequence[Interval], most: int) -> pa.Table:
        """Return all raw events of these intervals, never a part of them, because no segment holds them."""
        if sum(self.raw.count(site_id, interval, most + 1) for interval in old) > most:
            raise Unavailable("segments", NotBuiltYet(f"more than {most} events from before there were segments"))
        room = _Room(most, MOST_FRESH_BYTES)
        tables = [self._read_within(site_id, interval, room) for interval in old]
        if None in tables:
            large = NotBuiltYet(f"more than {MOST_FRESH_BYTES:,} bytes of events from before there were segments")
            raise Unavailable("segments", large)
        return pa.concat_tables([RAW.empty_table(), *tables])

    def _read_fresh(
        self, site_id: str, dirty: Sequence[DirtyHour], scope: Interval, most: int
    ) -> tuple[list[Interval], pa.Table, datetime | None]:
        """Return the dirty slots that were read, the newest first up to the limits, and their events. The third value
        is since when the oldest unread slot waits.
        """
        tokens = {slot: (token, hour.since) for hour in dirty for slot, token in hour.slots.items()}
        wanted = sorted(slot for slot in tokens if Interval(slot, slot + SLOT).overlaps(scope))
        tables: dict[int, pa.Table] = {}
        for slot in wanted:
            kept = self._slots.get((site_id, slot))
            if kept is not None and kept[0] == tokens[slot][0]:
                tables[slot] = kept[1]
        room = _Room(most, MOST_FRESH_BYTES)
        for table in tables.values():
            room.take(table)
        missing = [slot for slot in wanted if slot not in tables]
        if missing:
            self._read_slots(site_id, missing, room, tables)
        for slot in missing:
            if slot in tables:
                self._slots.put((site_id, slot), (tokens[slot][0], tables[slot]), tables[slot].nbytes)
        left = [tokens[slot][1] for slot in wanted if slot not in tables]
        events = pa.concat_tables([tables[slot] for slot in sorted(tables)]) if tables else RAW.empty_table()
        return joined(Interval(slot, slot + SLOT) for slot in tables), events, min(left, default=None)

    def _read_slots(self, site_id: str, slots: Sequence[int], room: _Room, tables: dict[int, pa.Table]) -> bool:
        """The same as _read_run for slots that may lie apart. Slots with few events between them are read together,
        because each separate read costs two round trips.
        """
        whole = Interval(slots[0], slots[-1] + SLOT)
        if whole.end - whole.start == len(slots) * SLOT:
            return self._read_run(site_id, whole, room, tables)
        if self.raw.count(site_id, whole, FEW + 1) <= min(FEW, room.rows):
            table = self._read_within(site_id, whole, room)
            if table is not None:
                times = table["occurred"].to_pylist()
                for slot in slots:
                    first = bisect_left(times, slot)
                    tables[slot] = _owned(table, first, bisect_left(times, slot + SLOT))
                return True
        middle = len(slots) // 2
        newer, older = slots[middle:], slots[:middle]
        return self._read_slots(site_id, newer, room, tables) and self._read_slots(site_id, older, room, tables)

    def _read_run(self, site_id: str, run: Interval, room: _Room, tables: dict[int, pa.Table]) -> bool:
        """Read the run's slots into `tables`. If they are too many to read at once, the newer half is read before the
        older half. Returns False if there was no room for all slots.
        """
        if self.raw.count(site_id, run, room.rows + 1) <= room.rows:
            table = self._read_within(site_id, run, room)
            if table is not None:
                tables.update(_by_slot(table, run))
                return True
        if run.end - run.start <= SLOT:
            return False
        middle = run.start + (run.end - run.start) // SLOT // 2 * SLOT
        newer, older = Interval(middle, run.end), Interval(run.start, middle)
        return self._read_run(site_id, newer, room, tables) and self._read_run(site_id, older, room, tables)

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
        room.take(table)
        return table


@dataclass
class _Room:
    """The limits for raw events that a query may still read."""

    rows: int
    bytes: int

    def take(self, table: pa.Table) -> None:
        self.rows -= table.num_rows
        self.bytes -= table.nbytes


def source_of(
    segment: Segment, path: str, manifest: Manifest, fresh: Sequence[Interval], scope: Interval
) -> SegmentSource:
    """Return the part of the segment that is valid within the scope. `path` is the segment's file."""
    finer = [
        other.interval
        for other in manifest.segments
        if SEGMENT_GRAINS.index(other.grain) < SEGMENT_GRAINS.index(segment.grain)
        and other.interval.within(segment.interval)
    ]

    def met(holes: Iterable[Interval]) -> tuple[Interval, ...]:
        return tuple(hole for hole in joined(holes) if hole.overlaps(segment.interval) and hole.overlaps(scope))

    return SegmentSource(segment, path, met(finer), met(fresh))


def seam_rows(
    sources: Sequence[SegmentSource], scope: Interval, cut: Interval | None = None, *, props: bool = True
) -> Sql:
    """Return the rows of visits at seams, as raw columns and `seen`."""
    reach = scope.widened(VISIT_GAP)
    parts = []
    for alike in _alike(sources):
        source = alike[0]
        seams = [*source.seams(reach), *source.fresh_seams()]
        limits = source.outside_holes()
        if cut is not None:
            seams.append(Sql("span_start < ? OR span_end >= ?", (cut.start, cut.end)))
            limits.append(_inside(cut))
        parts.append(_as_raw(_files(alike), source.holes, [any_of(seams), *limits], props))
    return joined_by(" UNION ALL BY NAME ", parts)


def _as_raw(rows: Sql, holes: Sequence[Interval], limits: Sequence[Sql], props: bool) -> Sql:
    part = select(f"{RAW_OF_ROW if props else RAW_WITHOUT_PROPS}, {_seen(holes)}", rows, limits)
    return Sql(part.text, (*_quarters(holes), *part.values))


def _alike(sources: Sequence[SegmentSource]) -> Iterator[list[SegmentSource]]:
    """Group the sources of one format without holes, because they are read under the same conditions."""
    for _, found in groupby(sorted((s for s in sources if not s.holes), key=_format), _format):
        yield list(found)
    yield from ([source] for source in sources if source.holes)


def _files(sources: Sequence[SegmentSource]) -> Sql:
    """The files of sources of one format."""
    return Sql(FILES[_format(sources[0])], ([source.path for source in sources],))


@dataclass(frozen=True)
class _Visits:
    """All events at seams of `visitors`, and the fresh events without a visitor."""

    visitors: pa.Table
    rows: DerivedRows


NO_VISITS = _Visits(pa.schema([("visitor", pa.uint64())]).empty_table(), DerivedRows(pa.table({})))


def _visits_lately(
    connection: duckdb.DuckDBPyConnection, workplace: Workplace, found: _Gathered, between: DerivedRows, props: bool
) -> _Visits:
    """Derive the visits of the visitors who have fresh events, or events that fresh events replace."""
    connection.register("fresh", found.events)
    with_fresh = [source for source in found.sources if source.fresh]
    stale = (select("visitor", _files([x]), [replace(x, finer=()).in_holes()]) for x in with_fresh)
    active = joined_by(" UNION ALL ", [Sql("SELECT visitor FROM fresh"), *stale])
    visitors = connection.sql(
        f"SELECT DISTINCT visitor FROM ({active.text}) WHERE visitor IS NOT NULL", params=active.values
    ).to_arrow_table()
    connection.register("active", visitors)
    is_active, parts = (
        Sql("visitor IN (SELECT visitor FROM active)"),
        [Sql(f"SELECT * {'' if props else WITHOUT_PROPS}, NULL::INTEGER AS seen FROM fresh")],
    )
    if between.count:
        settled = between.relation(connection, "between_segments")
        parts.append(_as_raw(settled, found.fresh, [is_active, *map(_outside, found.fresh)], props))
    for source in with_fresh:
        at_fresh = [*map(negated, source.seams()), any_of(source.fresh_seams())]
        parts.append(_as_raw(_files([source]), source.holes, [*at_fresh, is_active, *source.outside_holes()], props))
    rows = derive_rows(connection, workplace, joined_by(" UNION ALL BY NAME ", parts))
    connection.unregister("fresh")
    return _Visits(visitors, rows)


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


def _by_slot(table: pa.Table, run: Interval) -> Iterator[tuple[int, pa.Table]]:
    times = table["occurred"].to_pylist()
    first = 0
    for slot in range(run.start, run.end, SLOT):
        last = first
        while last < len(times) and times[last] < slot + SLOT:
            last += 1
        yield slot, _owned(table, first, last)
        first = last


def _owned(table: pa.Table, first: int, end: int) -> pa.Table:
    """Copy these rows into their own buffers: a cached slice would keep the whole table in memory."""
    part = table.slice(first, end - first)
    if part.num_rows in (0, table.num_rows):
        return part if part.num_rows else RAW.empty_table()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, part.schema) as stream:
        stream.write_table(part)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


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
