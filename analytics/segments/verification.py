"""Verifies that segments agree with raw events. It derives a month again from raw events and compares it with a
snapshot, by hour and in every column. It writes nothing.

Events that arrive between the two reads are not a difference: an hour that differs is compared again alone, without the
visits that overlap a slot marked in the meantime. Memory is limited to DuckDB's limit, and the rest spills to disk.

Until a month is built again, for example under other rules for paths, it may differ, and so may visits that cross its
ends.

A segment's file that is lost or unreadable is reported in the result. Callers must handle Unavailable, raised if
MongoDB is not reachable, or if a month still needs its backfill.
"""

from __future__ import annotations  # evaluated, they would keep DuckDB's types beyond the interpreter's end

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from analytics.events.dirty_hours import DirtyHour
from analytics.interval import DAY, HOUR, SLOT, VISIT_GAP, Interval, interval_of, joined
from analytics.segments.derivation import derive, gathered
from analytics.segments.engine import Segments
from analytics.segments.store import SegmentLost
from analytics.segments.visit_sql import VISIT_ROW_COLUMNS
from analytics.sql import Sql

COMPARED = (
    *(name for name in VISIT_ROW_COLUMNS if name != "seen"),
    "prior",
)  # `seen` depends on the segment, not on the event
TRIES = 5
MARKED_WITHIN = 1.0  # seconds; a worker marks events right after it inserts them
Sum = tuple[int, int]  # the number of rows, and the sum of their hashes
CHANGED = pa.schema([("first", pa.int64()), ("last", pa.int64())])


@dataclass(frozen=True, slots=True)
class Difference:
    """An hour that differs, with its number of raw events and of events in the snapshot. The numbers are equal if only
    a column differs.
    """

    hour: int
    stored: int
    read: int


@dataclass(frozen=True, slots=True)
class Verified:
    """The result for a month. `events` is the number of raw events. `waits`: the month differs because it, or one
    beside it, is to be built again. `lost` says why the month could not be read, or is None.
    """

    site_id: str
    month: Interval
    events: int
    differences: tuple[Difference, ...] = ()
    waits: bool = False
    lost: str | None = None

    @property
    def is_right(self) -> bool:
        return self.lost is None and (self.waits or not self.differences)


def months_of(segments: Segments, site_id: str) -> list[Interval]:
    """Return the months that have raw events or segments. Raises Unavailable."""
    held = (interval_of("month", segment.start) for segment in segments.store.manifest(site_id).segments)
    return sorted({*segments.raw.months(site_id), *held})


def verify(segments: Segments, site_id: str, months: Iterable[Interval], most_fresh: int) -> Iterator[Verified]:
    """Verify these months. Raises Unavailable."""
    verifier = Verifier(segments, site_id, most_fresh)
    for month in months:
        try:
            yield verifier.verify(month)
        except (SegmentLost, duckdb.Error) as error:
            yield Verified(site_id, month, 0, lost=str(error))


@dataclass(frozen=True, slots=True)
class Verifier:
    segments: Segments
    site_id: str
    most_fresh: int

    def verify(self, month: Interval) -> Verified:
        events, found = self._compare(month, exempt=False)
        if found and not self._waits(month):
            found = [each for difference in found if (each := self._again(difference))]
        return Verified(self.site_id, month, events, tuple(found), waits=bool(found) and self._waits(month))

    def _waits(self, month: Interval) -> bool:
        near = month.widened(DAY)
        return any(each.overlaps(near) for each in self.segments.backfill.listed(self.site_id))

    def _again(self, difference: Difference) -> Difference | None:
        for _ in range(TRIES):
            _, found = self._compare(Interval(difference.hour, difference.hour + HOUR), exempt=True)
            if not found:
                return None
            difference = found[0]
        return difference

    def _compare(self, period: Interval, *, exempt: bool) -> tuple[int, list[Difference]]:
        """Return the number of events and the hours that differ. `exempt` leaves out events that may just have
        changed.
        """
        with closing(self.segments.connect()) as connection, self.segments.store.workplace.folder() as folder:
            before = self.segments.dirty.of_site(self.site_id)
            snapshot = self.segments.reader.open(connection, self.site_id, period, self.most_fresh)
            rows = snapshot.rows(period, COMPARED)
            read = self._sum(connection, "in_segments", rows, keep=exempt)
            self._derive(connection, folder, period)
            columns = ", ".join(COMPARED)
            stored = Sql(
                f"SELECT {columns} FROM derived WHERE occurred >= ? AND occurred < ?", (period.start, period.end)
            )
            if not exempt:
                return _differences(read, self._sum(connection, "in_events", stored, keep=False))
            self._sum(connection, "in_events", stored, keep=True)
            time.sleep(MARKED_WITHIN)
            after = self.segments.dirty.of_site(self.site_id)
            changed = [*_changed(before, after), *_unread(before, snapshot.fresh)]
            connection.register("changed", _table(changed))
            return _differences(*(_sums(connection, name) for name in ("in_segments", "in_events")))

    def _derive(self, connection: duckdb.DuckDBPyConnection, folder: Path, period: Interval) -> None:
        """Derive the period into the view `derived`, with all events that visits of the period may include before and
        after it.
        """
        reach, more = period, DAY
        paths = self.segments.store.manifest(self.site_id).paths
        while True:
            reach, more = reach.widened(more), more * 2
            derive(connection, folder, gathered(folder, self.segments.raw.read(self.site_id, [reach], paths)))
            ((first, last),) = connection.execute(
                "SELECT min(span_start), max(span_end) FROM derived WHERE span_start < ? AND span_end >= ?",
                [period.end, period.start],
            ).fetchall()
            if first is None or (first > reach.start + VISIT_GAP and last < reach.end - VISIT_GAP):
                return

    def _sum(self, connection: duckdb.DuckDBPyConnection, name: str, rows: Sql, *, keep: bool) -> dict[int, Sum]:
        """Sum the rows by hour. `keep` instead keeps the rows, in a table of this name."""
        if keep:
            connection.execute(f"CREATE TEMP TABLE {name} AS {rows.text}", rows.values)
            return {}
        found = connection.execute(_SUM.format(f"({rows.text})"), rows.values).fetchall()
        return {hour: (count, total) for hour, count, total in found}


_SUM = f"SELECT occurred // {HOUR} * {HOUR}, count(*), sum(hash({', '.join(COMPARED)})) FROM {{}} AS rows GROUP BY ALL"
_LEFT_OUT = " WHERE NOT EXISTS (SELECT 1 FROM changed WHERE span_end >= first AND span_start < last)"


def _sums(connection: duckdb.DuckDBPyConnection, name: str) -> dict[int, Sum]:
    text = _SUM.format(f"(SELECT * FROM {name}{_LEFT_OUT})")
    return {hour: (count, total) for hour, count, total in connection.execute(text).fetchall()}


def _differences(read: dict[int, Sum], stored: dict[int, Sum]) -> tuple[int, list[Difference]]:
    hours = sorted({*read, *stored})
    none = (0, 0)
    differing = [
        Difference(hour, stored.get(hour, none)[0], read.get(hour, none)[0])
        for hour in hours
        if read.get(hour, none) != stored.get(hour, none)
    ]
    return sum(count for count, _ in stored.values()), differing


def _changed(before: Iterable[DirtyHour], after: Iterable[DirtyHour]) -> list[Interval]:
    """Slots that were marked or built between the two reads. An unchanged slot still has its token."""
    earlier, later = (
        {slot: token for hour in hours for slot, token in hour.slots.items()} for hours in (before, after)
    )
    return [Interval(slot, slot + SLOT) for slot in {*earlier, *later} if earlier.get(slot) != later.get(slot)]


def _unread(dirty: Iterable[DirtyHour], fresh: Iterable[Interval]) -> list[Interval]:
    """Slots for which the snapshot had no room."""
    slots = (Interval(slot, slot + SLOT) for hour in dirty for slot in hour.slots)
    read = list(fresh)
    return [slot for slot in slots if not any(slot.within(each) for each in read)]


def _table(changed: Iterable[Interval]) -> pa.Table:
    intervals = joined(each.widened(VISIT_GAP) for each in changed)
    return pa.table({"first": [s.start for s in intervals], "last": [s.end for s in intervals]}, CHANGED)
