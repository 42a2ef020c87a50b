"""One consistent sight of a site's events over a period: what is in segments, and what is not there yet.

For every moment exactly one source counts: a dirty slot is read from raw events, anything else from the finest segment
that holds it. Rows of visits that cannot have changed come straight from the files. Visits near a seam (a segment's
end, a dirty slot, a finer segment) are put together again from all their events, by the same SQL that made segments.

In: a DuckDB connection, a site, a period. Out: a `Reading`, whose `rows` is SQL for a relation. Wrong can go: MongoDB
away is Unavailable, and so are events from before there were segments, where they are too many to be read without them;
a segment's file that is gone or damaged is SegmentLost.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from bson import ObjectId
from cachetools import LRUCache

from analytics.dirty_hours import DirtyHour, DirtyHours
from analytics.history import History
from analytics.raw_events import RAW, RawEvents
from analytics.segment_sql import DERIVED, RAW_OF_ROW
from analytics.segment_store import Manifest, Segment, SegmentStore
from analytics.stretch import GRAINS, QUARTER, SLOT, VISIT_GAP, Stretch, joined
from analytics.unavailable import Unavailable

MOST_CACHED = 300_000  # rows of raw events, and as many of visits at seams, kept between two questions


@dataclass(frozen=True, slots=True)
class Sql:
    """A piece of SQL and what goes into its question marks. The text is ours, to the last letter."""

    text: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """One segment's part of a reading. `holes`: where something newer or finer counts in its stead."""

    segment: Segment
    path: str
    holes: tuple[Stretch, ...]

    def seams(self) -> list[Stretch]:
        """A visit that touches one of these may be another one now."""
        return joined(hole.widened(VISIT_GAP) for hole in self.holes)


@dataclass(frozen=True)
class Reading:
    """`as_of`: everything stored until then is in it, and not all that came later; None: all is. `seams`: the name of
    the relation of visits put together again. `fresh`: dirty slots, read from raw events. `cut`: the visits of this
    stretch end at its ends, whatever lies beyond.
    """

    sources: tuple[Source, ...]
    fresh: tuple[Stretch, ...]
    seams: str
    as_of: datetime | None = None
    cut: Stretch | None = None

    def rows(self, columns: Iterable[str], period: Stretch) -> Sql:
        """The events of the period. `columns`: of segment_sql.COLUMNS, and `prior`."""
        names = list(dict.fromkeys(columns)) or ["entry"]
        parts = [
            self._plain([s for s in self.sources if not s.holes and s.segment.stretch.within(period)], names),
            *(
                self._partial(s, names, period)
                for s in self.sources
                if s.segment.stretch.meets(period) and (s.holes or not s.segment.stretch.within(period))
            ),
            Sql(
                f"SELECT {', '.join(names)} FROM {self.seams} WHERE occurred >= ? AND occurred < ?",
                (period.start, period.end),
            ),
        ]
        found = [part for part in parts if part is not None]
        return Sql(" UNION ALL ".join(p.text for p in found), tuple(value for p in found for value in p.values))

    def holds_whole(self, stretch: Stretch) -> bool:
        """Whether one segment holds all of it, and nothing else does: then a visitor's first event there has a `seen`
        outside it, and no other event has.
        """
        holders = [s for s in self.sources if s.segment.stretch.meets(stretch) and not _filled(stretch, s.holes)]
        return (
            len(holders) == 1
            and stretch.within(holders[0].segment.stretch)
            and not any(hole.meets(stretch) for hole in (*holders[0].holes, *self.fresh))
        )

    def _plain(self, sources: Sequence[Source], names: Sequence[str]) -> Sql | None:
        if not sources:
            return None
        what = ", ".join(_plainly(name) for name in names)
        limits = self._limits()
        return Sql(
            f"SELECT {what} FROM read_parquet(?) WHERE NOT edge{limits.text}",
            ([s.path for s in sources], *limits.values),
        )

    def _partial(self, source: Source, names: Sequence[str], period: Stretch) -> Sql:
        limits = [self._limits()]
        if source.segment.start < period.start:
            limits.append(_since(period.start))
        if period.end < source.segment.end:
            limits.append(_until(period.end))
        limits += [Sql(" AND NOT (span_end >= ? AND span_start < ?)", (s.start, s.end)) for s in source.seams()]
        holes = [hole for hole in joined(source.holes) if "seen" in names]
        seen = "".join(" WHEN seen >= ? AND seen < ? THEN NULL" for _ in holes)
        what = ", ".join(f"CASE{seen} ELSE seen END AS seen" if n == "seen" and seen else _plainly(n) for n in names)
        quarters = tuple(q for hole in holes for q in (hole.start // QUARTER, -(-hole.end // QUARTER)))
        return Sql(
            f"SELECT {what} FROM read_parquet(?) WHERE NOT edge{''.join(limit.text for limit in limits)}",
            (*quarters, [source.path], *(value for limit in limits for value in limit.values)),
        )

    def _limits(self) -> Sql:
        if self.cut is None:
            return Sql("")
        return Sql(" AND span_start >= ? AND span_end < ?", (self.cut.start, self.cut.end))


def _plainly(name: str) -> str:
    return "CASE WHEN NOT entry AND visit IS NOT NULL THEN seen END AS prior" if name == "prior" else name


def _since(ms: int) -> Sql:
    """By the quarter where that says it all: it is read in a fifth of the time."""
    return Sql(" AND occurred >= ?", (ms,)) if ms % QUARTER else Sql(" AND quarter >= ?", (ms // QUARTER,))


def _until(ms: int) -> Sql:
    return Sql(" AND occurred < ?", (ms,)) if ms % QUARTER else Sql(" AND quarter < ?", (ms // QUARTER,))


def _filled(stretch: Stretch, holes: Sequence[Stretch]) -> bool:
    return any(stretch.within(hole) for hole in joined(holes))


class NotBuiltYet(Exception):
    """A worker reads them into segments; minutes for millions."""


class Reader:
    """Opens readings; keeps, between two of them, what has not changed. One for each process; threads may share it."""

    def __init__(self, segments: SegmentStore, dirty: DirtyHours, history: History, raw: RawEvents) -> None:
        self.segments = segments
        self.dirty = dirty
        self.history = history
        self.raw = raw
        self._slots = Kept(MOST_CACHED)  # (token, events) by (site, slot)
        self._seams = Kept(MOST_CACHED)  # rows by whatever they were made of

    def open(self, connection: duckdb.DuckDBPyConnection, site_id: str, period: Stretch, most_fresh: int) -> Reading:
        """`most_fresh`: the most raw events to read; where there are more, the oldest dirty slots are left as they were
        when their segment was built, and the reading says as of when.
        """
        reach = period
        while True:
            # In this order: what leaves one of them is in the next.
            past = self.history.left(site_id)
            hours = self.dirty.of_site(site_id)
            dirty = [hour for hour in hours if not any(month.start <= hour.start < month.end for month in past)]
            manifest = self.segments.manifest(site_id)
            scope = _around(reach, manifest)
            used = [segment for segment in manifest.segments if segment.stretch.meets(scope)]
            old = [month.part(scope) for month in past if month.meets(scope)]
            old_events = self._read_past(site_id, old, most_fresh)
            fresh, events, as_of = self._read_fresh(site_id, dirty, scope, most_fresh - old_events.num_rows)
            fresh = joined([*old, *fresh])
            sources = self._sources(manifest, used, fresh, scope)
            key = (site_id, scope, tuple((s.segment.version, s.holes) for s in sources), _tokens(dirty, fresh))
            seams = None if old else self._seams.get(key)
            if seams is None:
                seams = _derive(connection, sources, pa.concat_tables([old_events, events]), scope)
                if not old:
                    self._seams.put(key, seams, seams.num_rows)
            wider = _within_reach(seams, period, scope, [s.stretch for s in manifest.segments], dirty, past=past)
            if not wider:
                connection.register("seams", seams)
                return Reading(sources, tuple(fresh), "seams", as_of)
            reach = Stretch(min(wider).start, max(each.end for each in wider))

    def check(self) -> None:
        """Raises Unavailable where MongoDB does not answer within a second."""
        self.raw.check()

    def _read_past(self, site_id: str, old: Sequence[Stretch], most: int) -> pa.Table:
        """Never less than all of it: no segment has any."""
        if sum(self.raw.count(site_id, stretch, most + 1) for stretch in old) > most:
            raise Unavailable("segments", NotBuiltYet(f"more than {most} events from before there were segments"))
        return pa.Table.from_batches(self.raw.read(site_id, old), RAW)

    def _sources(
        self, manifest: Manifest, used: Sequence[Segment], fresh: Sequence[Stretch], scope: Stretch
    ) -> tuple[Source, ...]:
        return tuple(
            Source(segment, str(self.segments.fetch(segment)), holes_in(segment, manifest, fresh, scope))
            for segment in used
        )

    def _read_fresh(
        self, site_id: str, dirty: Sequence[DirtyHour], scope: Stretch, most: int
    ) -> tuple[list[Stretch], pa.Table, datetime | None]:
        """The dirty slots that were read, the newest first until there are enough, and their events."""
        tokens = {slot: (token, hour.since) for hour in dirty for slot, token in hour.slots.items()}
        wanted = sorted(slot for slot in tokens if Stretch(slot, slot + SLOT).meets(scope))
        tables: dict[int, pa.Table] = {}
        for slot in wanted:
            kept = self._slots.get((site_id, slot))
            if kept is not None and kept[0] == tokens[slot][0]:
                tables[slot] = kept[1]
        room = most - sum(table.num_rows for table in tables.values())
        missing = [slot for slot in wanted if slot not in tables]
        for run in reversed(joined(Stretch(slot, slot + SLOT) for slot in missing)):
            room = self._read_run(site_id, run, room, tables)
            if room < 0:
                break
        for slot in missing:
            if slot in tables:
                self._slots.put((site_id, slot), (tokens[slot][0], tables[slot]), tables[slot].num_rows)
        left = [tokens[slot][1] for slot in wanted if slot not in tables]
        events = pa.concat_tables([tables[slot] for slot in sorted(tables)]) if tables else RAW.empty_table()
        return joined(Stretch(slot, slot + SLOT) for slot in tables), events, min(left, default=None)

    def _read_run(self, site_id: str, run: Stretch, room: int, tables: dict[int, pa.Table]) -> int:
        """Read the run's slots into `tables`, the newer half before the older one where it is too much at once. Returns
        how many events more may be read; less than none: there was no room for all.
        """
        count = self.raw.count(site_id, run, room + 1)
        if count <= room:
            table = pa.Table.from_batches(self.raw.read(site_id, [run]), RAW)
            tables.update(_by_slot(table, run))
            return room - int(table.num_rows)
        if run.end - run.start <= SLOT:
            return -1
        middle = run.start + (run.end - run.start) // SLOT // 2 * SLOT
        room = self._read_run(site_id, Stretch(middle, run.end), room, tables)
        return self._read_run(site_id, Stretch(run.start, middle), room, tables) if room >= 0 else room


def holes_in(segment: Segment, manifest: Manifest, fresh: Sequence[Stretch], scope: Stretch) -> tuple[Stretch, ...]:
    """Where, within the scope, others count in this segment's stead."""
    finer = [
        other.stretch
        for other in manifest.segments
        if GRAINS.index(other.grain) < GRAINS.index(segment.grain) and other.stretch.within(segment.stretch)
    ]
    return tuple(hole for hole in joined([*finer, *fresh]) if hole.meets(segment.stretch) and hole.meets(scope))


def seam_rows(sources: Sequence[Source], scope: Stretch, cut: Stretch | None = None) -> Sql:
    """What visits at seams are made of, as raw columns and `seen`."""
    reach = scope.widened(VISIT_GAP)
    parts = []
    for source in sources:
        touches = ["edge AND span_end >= ? AND span_start < ?"]
        values: list[Any] = [[source.path], reach.start, reach.end]
        for seam in source.seams():
            touches.append("span_end >= ? AND span_start < ?")
            values += [seam.start, seam.end]
        if cut is not None:
            touches.append("span_start < ? OR span_end >= ?")
            values += [cut.start, cut.end]
        text = f"SELECT {RAW_OF_ROW}, seen FROM read_parquet(?) WHERE ({' OR '.join(touches)})"
        for hole in joined(source.holes):
            text += " AND NOT (occurred >= ? AND occurred < ?)"
            values += [hole.start, hole.end]
        if cut is not None:
            text += " AND occurred >= ? AND occurred < ?"
            values += [cut.start, cut.end]
        holes = joined(source.holes)
        if holes:
            nulls = "".join(" WHEN seen >= ? AND seen < ? THEN NULL" for _ in holes)
            text = f"SELECT * REPLACE (CASE{nulls} ELSE seen END AS seen) FROM ({text})"
            values = [q for hole in holes for q in (hole.start // QUARTER, -(-hole.end // QUARTER))] + values
        parts.append(Sql(text, tuple(values)))
    return Sql(" UNION ALL BY NAME ".join(p.text for p in parts), tuple(value for p in parts for value in p.values))


def _derive(
    connection: duckdb.DuckDBPyConnection, sources: Sequence[Source], events: pa.Table, scope: Stretch
) -> pa.Table:
    connection.register("fresh", events)
    kept = seam_rows(sources, scope)
    union = f"{kept.text} UNION ALL BY NAME " if sources else ""
    raw = f"WITH raw AS MATERIALIZED ({union}SELECT *, NULL::INTEGER AS seen FROM fresh) "
    found: pa.Table = connection.sql(f"{raw} SELECT * FROM ({DERIVED})", params=kept.values).to_arrow_table()
    connection.unregister("fresh")
    return found


def _around(reach: Stretch, manifest: Manifest) -> Stretch:
    """All of the segments that hold some of it, as any hole of theirs may change their visits; and what a visit may
    touch beside them.
    """
    met = [segment.stretch for segment in manifest.segments if segment.stretch.meets(reach)]
    return Stretch(min([reach, *met]).start, max(each.end for each in (reach, *met))).widened(VISIT_GAP)


def _within_reach(
    seams: pa.Table,
    period: Stretch,
    scope: Stretch,
    segments: Sequence[Stretch],
    dirty: Sequence[DirtyHour],
    *,
    past: Sequence[Stretch],
) -> list[Stretch]:
    """What was left unread and might belong to a visit of the period; then the scope, to be widened by it."""
    of_period = seams.filter((pc.field("span_start") < period.end) & (pc.field("span_end") >= period.start))
    first, last = pc.min(of_period["span_start"]).as_py(), pc.max(of_period["span_end"]).as_py()
    if first is None:
        return []
    visits = Stretch(first, last + 1).widened(VISIT_GAP)
    slots = (Stretch(slot, slot + SLOT) for hour in dirty for slot in hour.slots)
    found = [each for each in (*segments, *slots) if not each.meets(scope) and each.meets(visits)]
    for side in (Stretch(visits.start, scope.start), Stretch(scope.end, visits.end)):
        if side.start < side.end:
            found += [month.part(side) for month in past if month.meets(side)]
    return [scope, *found] if found else []


def _by_slot(table: pa.Table, run: Stretch) -> Iterator[tuple[int, pa.Table]]:
    times = table["occurred"].to_pylist()
    first = 0
    for slot in range(run.start, run.end, SLOT):
        last = first
        while last < len(times) and times[last] < slot + SLOT:
            last += 1
        yield slot, table.slice(first, last - first)
        first = last


def _tokens(dirty: Iterable[DirtyHour], fresh: Sequence[Stretch]) -> frozenset[tuple[int, ObjectId]]:
    return frozenset(
        (slot, token)
        for hour in dirty
        for slot, token in hour.slots.items()
        if any(stretch.start <= slot < stretch.end for stretch in fresh)
    )


class Kept:
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
