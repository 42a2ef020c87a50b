"""One consistent sight of a site's events over a period: what is in segments, and what is not there yet.

For every moment exactly one source counts: a dirty slot is read from raw events, anything else from the finest segment
that holds it. Rows of visits that cannot have changed come straight from the files. Visits near a seam (a segment's
end, a dirty slot, a finer segment) are put together again from all their events, by the same SQL that made segments:
those between segments once, and when new events have come, those of the visitors who did something meanwhile.

In: a DuckDB connection, a site, a period. Out: a `Snapshot`, whose `rows` is SQL for a relation. Wrong can go: MongoDB
away is Unavailable, and so are events from before there were segments, where they are too many to be read without them;
a segment's file that is gone or damaged is SegmentLost.
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
from analytics.sql import Sql
from analytics.unavailable import Unavailable

FEW = 2_000  # events that are sooner read than looked around
_LONGEST = 31 * DAY  # a segment; a question reads those that it meets, those that these meet, and no more
MOST_FRESH_BYTES = 32_000_000  # of raw events, as columns, that one question reads
MOST_CACHED = 32_000_000  # bytes of raw events kept between two questions
MOST_AT_SEAMS = 64_000_000  # bytes of visits at seams, likewise
# Of those that are larger, on the disk. A month of ten million events has 200 MB of them in memory while it is in days;
# if they did not fit, each question would put them together again (several seconds).
MOST_ON_DISK = 1_000_000_000


@dataclass(frozen=True, slots=True)
class SegmentSource:
    """One segment's part of a reading. Something else counts in its stead in `finer`, which are segments, and in
    `fresh`, which are raw events.
    """

    segment: Segment
    path: str
    finer: tuple[Interval, ...] = ()
    fresh: tuple[Interval, ...] = ()

    @property
    def holes(self) -> list[Interval]:
        return joined([*self.finer, *self.fresh])

    def in_holes(self) -> Sql:
        return _any_of(map(_inside, self.holes))

    def outside_holes(self) -> list[Sql]:
        return [*map(_outside, self.holes)]

    def seams(self, reach: Interval | None = None) -> list[Sql]:
        """Conditions of rows whose visits may be others together with other segments'. `reach`: of the segment's ends,
        those within it.
        """
        ends = Sql("(edge AND span_end >= ? AND span_start < ?)", (reach.start, reach.end)) if reach else Sql("edge")
        return [ends, *map(_touching, joined(hole.widened(VISIT_GAP) for hole in self.finer))]

    def fresh_seams(self) -> list[Sql]:
        """The same together with raw events."""
        return [*map(_touching, joined(hole.widened(VISIT_GAP) for hole in self.fresh))]


@dataclass(frozen=True)
class Snapshot:
    """`as_of`: everything stored until then is in it, and not all that came later; None: all is. `fresh`: dirty slots,
    read from raw events.

    `beside`: a relation with what is not read from segments: where `visits` were asked for, the events at seams, and
    else those of dirty slots; None where there are segments and nothing else, as an empty relation costs a millisecond.
    `others`: of visits that touch dirty slots and no end of a segment it has those of the visitors in the relation
    `active`; the others' are as their segment says. `cut`: the visits of this interval end at its ends, whatever lies
    beyond. `extent`: holds all events that there are, if that is known. `held`: has to live as long as the
    reading, as its files go with it.
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
        """The events of the period. `columns`: of segment_sql.COLUMNS, and `prior`; without visits, those of
        EVENT_COLUMNS.

        With `openings`, fewer rows, which stand for all of them: the openings (analytics/segments/visit_sql.py) whose
        quarters meet the period, which begins and ends with one; in addition their `last_quarter`. Where an opening is
        not known, each event stands for itself.
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
            parts.append(_select(found, self.beside, _of_openings(period) if openings and self.visits else limits))
        if not parts:
            parts.append(self._part(self.sources[:1], names, [Sql("false")]))
        return _all_of(" UNION ALL ", parts)

    def holds_whole(self, interval: Interval) -> bool:
        """Whether one segment holds all that there is in it: then a visitor's first event there has a `seen` outside
        it, and no other event has.
        """
        holders = [s for s in self.sources if s.segment.interval.overlaps(interval) and not _filled(interval, s.holes)]
        return len(holders) == 1 and not any(hole.overlaps(interval) for hole in [*holders[0].holes, *self.fresh])

    def _part(self, sources: Sequence[SegmentSource], names: Sequence[str], limits: Sequence[Sql]) -> Sql:
        """`sources`: of one format."""
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
        part = _select(", ".join(what), _files(sources), limits)
        return Sql(part.text, (*values, *part.values))

    def _limits(self, source: SegmentSource) -> list[list[Sql]]:
        """What of the source counts, for all its holes: the conditions of each part of it."""
        if not self.visits:
            return [source.outside_holes()]
        away, at_fresh = [*map(_not, source.seams())], source.fresh_seams()
        if self.cut is not None:
            away.append(Sql("span_start >= ? AND span_end < ?", (self.cut.start, self.cut.end)))
        parts = [[*away, *map(_not, at_fresh)]]
        if at_fresh and self.others:
            parts.append([*away, _any_of(at_fresh), _NOT_ACTIVE, *source.outside_holes()])
        return parts


def _format(source: SegmentSource) -> int:
    return source.segment.format


_NOT_ACTIVE = Sql("(visitor IS NULL OR visitor NOT IN (SELECT visitor FROM active))")


def _seen(holes: Sequence[Interval]) -> str:
    """Where what happened before was replaced, it is not known; then an event counts as the first."""
    replaced = "".join(" WHEN seen >= ? AND seen < ? THEN NULL" for _ in holes)
    return f"CASE{replaced} ELSE seen END AS seen" if replaced else "seen"


def _quarters(holes: Iterable[Interval]) -> list[int]:
    return [quarter for hole in holes for quarter in (hole.start // QUARTER, -(-hole.end // QUARTER))]


def _select(what: str, source: Sql, limits: Sequence[Sql]) -> Sql:
    where = f" WHERE {' AND '.join(limit.text for limit in limits)}" if limits else ""
    values = (value for limit in limits for value in limit.values)
    return Sql(f"SELECT {what} FROM {source.text}{where}", (*source.values, *values))


_SEEN_FRESH = f"CASE WHEN visitor IS NULL THEN (occurred // {QUARTER})::INTEGER END AS seen"


def _freshly(name: str) -> str:
    """A column of a segment, from raw events."""
    quarter = f"(occurred // {QUARTER})::INTEGER AS "
    made = {"quarter": f"{quarter}quarter", "last_quarter": f"{quarter}last_quarter", "seen": _SEEN_FRESH}
    return made.get(name, name)


def _by_itself(name: str) -> str:
    return "quarter AS last_quarter" if name == "last_quarter" else name


def _within(segment: Segment, period: Interval) -> list[Sql]:
    limits = [_since(period.start)] if segment.start < period.start else []
    return [*limits, _until(period.end)] if period.end < segment.end else limits


def _of_openings(period: Interval) -> list[Sql]:
    start = max(period.start, 0)  # 1970, in a zone east of UTC, began before it; and no opening is -1
    return [Sql("last_quarter >= ?", (start // QUARTER,)), Sql("quarter < ?", (period.end // QUARTER,))]


def _all_of(union: str, parts: Sequence[Sql]) -> Sql:
    return Sql(union.join(part.text for part in parts), tuple(value for part in parts for value in part.values))


def _inside(interval: Interval) -> Sql:
    return Sql("(occurred >= ? AND occurred < ?)", (interval.start, interval.end))


def _outside(interval: Interval) -> Sql:
    return _not(_inside(interval))


def _touching(seam: Interval) -> Sql:
    return Sql("(span_end >= ? AND span_start < ?)", (seam.start, seam.end))


def _not(condition: Sql) -> Sql:
    return Sql(f"NOT {condition.text}", condition.values)


def _any_of(conditions: Iterable[Sql]) -> Sql:
    found = list(conditions)
    text = " OR ".join(each.text for each in found)
    return Sql(f"({text})", tuple(value for each in found for value in each.values))


def _since(ms: int) -> Sql:
    """By the quarter where that says it all: it is read in a fifth of the time."""
    return Sql("occurred >= ?", (ms,)) if ms % QUARTER else Sql("quarter >= ?", (ms // QUARTER,))


def _until(ms: int) -> Sql:
    return Sql("occurred < ?", (ms,)) if ms % QUARTER else Sql("quarter < ?", (ms // QUARTER,))


def _filled(interval: Interval, holes: Sequence[Interval]) -> bool:
    return any(interval.within(hole) for hole in holes)


@dataclass(frozen=True)
class _Gathered:
    """`events`: raw, of the `fresh` intervals. `outside`: what the site has beyond the scope; and so may the months
    of the `past`. `segments` and `slots`: the same again means the same visits between segments, and the same in slots;
    no slots: who knows.
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
        """All events of the sources and `events`, and up to a day more at both ends."""
        times = [Interval(source.segment.first, source.segment.last + 1) for source in self.sources]
        if self.events.num_rows:
            found = pc.min_max(self.events["occurred"]).as_py()
            times.append(Interval(found["min"], found["max"] + 1))
        if not times:
            return Interval(self.scope.start, self.scope.start)
        return Interval(min(each.start for each in times), max(each.end for each in times)).widened(DAY)


class NotBuiltYet(Exception):
    """A worker reads them into segments; minutes for millions."""


class SnapshotReader:
    """Opens readings; keeps, between two of them, what has not changed. One for each process; threads may share it."""

    def __init__(self, segments: SegmentStore, dirty: DirtyHours, history: Backfill, raw: RawEvents) -> None:
        self.segments = segments
        self.dirty = dirty
        self.history = history
        self.raw = raw
        self._slots = SizedCache(MOST_CACHED)  # (token, events) by (site, slot)
        self._seams = SizedCache(MOST_AT_SEAMS)  # rows by whatever they were made of
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
        """`most_fresh`: the most raw events to read, and MOST_FRESH_BYTES of them. If there are more, the oldest dirty
        slots are left as they were when their segment was built, and the reading says as of when. Without `visits`
        nothing is put together again, which takes no time where only events matter. Without `props` properties may be
        missing, which may be most of what there is.
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
            beside.append(_select("*", between.relation(connection, "between_segments"), not_fresh))
        if lately.rows.count or not found.sources:
            beside.append(_select("*", lately.rows.relation(connection, "lately"), []))
        union = _all_of(" UNION ALL BY NAME ", beside)
        relation = Sql(f"({union.text})", union.values) if beside else None
        held = (between, lately)
        return Snapshot(
            found.sources, found.fresh, relation, visits, found.as_of, others=True, extent=found.extent(), held=held
        )

    def _gather(self, site_id: str, reach: Interval, most_fresh: int, visits: bool) -> _Gathered:
        # In this order: what leaves one of them is in the next.
        past = self.history.left(site_id)
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
        """The events of visits at seams between segments."""
        if not found.sources:
            return NO_VISITS.rows
        key = site_id, found.segments, props
        rows: DerivedRows | None = self._seams.get(key) or self._seams_on_disk.get(key)
        if rows is None:
            settled = [replace(source, fresh=()) for source in found.sources]
            rows = derive_rows(connection, self.segments.workplace, seam_rows(settled, found.scope, props=props))
            self._cache_of(rows).put(key, rows, rows.size)
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
        key = site_id, found.segments, found.slots, props
        visits: _Visits | None = self._seams.get(key) or self._seams_on_disk.get(key)
        if visits is None:
            visits = _visits_lately(connection, self.segments.workplace, found, between, props)
            if found.slots is not None:
                self._cache_of(visits.rows).put(key, visits, visits.rows.size + visits.visitors.nbytes)
        return visits

    def _cache_of(self, rows: DerivedRows) -> SizedCache:
        return self._seams if rows.is_in_memory else self._seams_on_disk

    def discard_damaged(self, site_id: str) -> bool:
        """Remove this node's copies of the site's segments that are damaged; the next reading fetches them anew.
        Whether there were any. Raises Unavailable.
        """
        return self.segments.discard_damaged(self.segments.manifest(site_id).segments)

    def clear(self) -> None:
        """Forget what was read: the next reading asks anew."""
        self._slots.clear()
        self._seams.clear()
        self._seams_on_disk.clear()

    def check(self) -> None:
        """Raises Unavailable where MongoDB does not answer within a second."""
        self.raw.check()

    def _read_past(self, site_id: str, old: Sequence[Interval], most: int) -> pa.Table:
        """Never less than all of it: no segment has any."""
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
        """The dirty slots that were read, the newest first until there are enough, and their events."""
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
        """As _read_run; slots that lie apart are read at once where few events lie between them, as each by itself
        costs two round trips.
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
        """Read the run's slots into `tables`, the newer half before the older one where it is too much at once. False:
        there was no room for all.
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
        """The interval's events, if there is room for their bytes. If not, the room has as many rows of their size."""
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
    """For raw events that a question may still read."""

    rows: int
    bytes: int

    def take(self, table: pa.Table) -> None:
        self.rows -= table.num_rows
        self.bytes -= table.nbytes


def source_of(
    segment: Segment, path: str, manifest: Manifest, fresh: Sequence[Interval], scope: Interval
) -> SegmentSource:
    """What of the segment counts within the scope. `path`: its file."""
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
    """What visits at seams are made of, as raw columns and `seen`."""
    reach = scope.widened(VISIT_GAP)
    parts = []
    for alike in _alike(sources):
        source = alike[0]
        seams = [*source.seams(reach), *source.fresh_seams()]
        limits = source.outside_holes()
        if cut is not None:
            seams.append(Sql("span_start < ? OR span_end >= ?", (cut.start, cut.end)))
            limits.append(_inside(cut))
        parts.append(_as_raw(_files(alike), source.holes, [_any_of(seams), *limits], props))
    return _all_of(" UNION ALL BY NAME ", parts)


def _as_raw(rows: Sql, holes: Sequence[Interval], limits: Sequence[Sql], props: bool) -> Sql:
    part = _select(f"{RAW_OF_ROW if props else RAW_WITHOUT_PROPS}, {_seen(holes)}", rows, limits)
    return Sql(part.text, (*_quarters(holes), *part.values))


def _alike(sources: Sequence[SegmentSource]) -> Iterator[list[SegmentSource]]:
    """Those of one format that have no holes, together: they are read under the same conditions."""
    for _, found in groupby(sorted((s for s in sources if not s.holes), key=_format), _format):
        yield list(found)
    yield from ([source] for source in sources if source.holes)


def _files(sources: Sequence[SegmentSource]) -> Sql:
    """Of one format."""
    return Sql(FILES[_format(sources[0])], ([source.path for source in sources],))


@dataclass(frozen=True)
class _Visits:
    """All events at seams of `visitors`; and of nobody, where they are fresh."""

    visitors: pa.Table
    rows: DerivedRows


NO_VISITS = _Visits(pa.schema([("visitor", pa.uint64())]).empty_table(), DerivedRows(pa.table({})))


def _visits_lately(
    connection: duckdb.DuckDBPyConnection, workplace: Workplace, found: _Gathered, between: DerivedRows, props: bool
) -> _Visits:
    """Of the visitors who have fresh events, or events that those replace."""
    connection.register("fresh", found.events)
    with_fresh = [source for source in found.sources if source.fresh]
    stale = (_select("visitor", _files([x]), [replace(x, finer=()).in_holes()]) for x in with_fresh)
    active = _all_of(" UNION ALL ", [Sql("SELECT visitor FROM fresh"), *stale])
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
        at_fresh = [*map(_not, source.seams()), _any_of(source.fresh_seams())]
        parts.append(_as_raw(_files([source]), source.holes, [*at_fresh, is_active, *source.outside_holes()], props))
    rows = derive_rows(connection, workplace, _all_of(" UNION ALL BY NAME ", parts))
    connection.unregister("fresh")
    return _Visits(visitors, rows)


def _around(reach: Interval, manifest: Manifest) -> Interval:
    """All of the segments that hold some of it, as any hole of theirs may change their visits; and what a visit may
    touch beside them; in whole slots, as raw events are read.
    """
    met = [segment.interval for segment in manifest.segments if segment.interval.overlaps(reach)]
    around = Interval(min([reach, *met]).start, max(each.end for each in (reach, *met))).widened(VISIT_GAP)
    return Interval(around.start // SLOT * SLOT, -(-around.end // SLOT) * SLOT)


def _within_reach(visits: Iterable[DerivedRows], period: Interval, found: _Gathered) -> list[Interval]:
    """What was left unread and might belong to a visit of the period; then the scope, to be widened by it."""
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
    """These rows, in buffers of their own: a slice that is kept would keep all of the table."""
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
    """The values used last, up to a sum of their sizes, for threads."""

    def __init__(self, most: int) -> None:
        self._values: LRUCache[Any, tuple[Any, int]] = LRUCache(most, getsizeof=itemgetter(1))
        self._lock = threading.Lock()

    def get(self, key: object) -> Any:
        with self._lock:
            return self._values.get(key, (None, 0))[0]

    def put(self, key: object, value: object, size: int) -> None:
        with self._lock, suppress(ValueError):  # larger than all of it
            self._values[key] = (value, size + 1)

    def clear(self) -> None:
        with self._lock:
            self._values.clear()
