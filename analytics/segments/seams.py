"""Derives the visits at the ends of segments again, because the spans there may continue in the next segment. After a
few segments were replaced, only the visits of visitors with events there are derived.
"""

from __future__ import annotations  # evaluated, they would keep DuckDB's types beyond the interpreter's end

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from analytics.interval import VISIT_GAP, Interval, joined
from analytics.segments.derived_rows import DerivedRows, derive_rows, selected_rows
from analytics.segments.scratch import Workplace
from analytics.segments.snapshot import (
    SegmentSource,
    as_raw,
    crossing_spans,
    inside,
    of_other_spans,
    of_other_visitors,
    of_visitors,
    outside,
    seam_rows,
)
from analytics.segments.visit_sql import Detail
from analytics.sql import TRUE, Sql, any_of, joined_by, select


@dataclass(frozen=True)
class SeamVisits:
    """`rows` replace rows of segments. `whose` says which: those of these spans (`visitor` and `span_start`) at the
    ends of segments, or those of these visitors near raw events.
    """

    whose: pa.Table
    rows: DerivedRows

    @property
    def size(self) -> int:
        """Bytes."""
        return self.rows.size + int(self.whose.nbytes)


_UNION = " UNION ALL BY NAME "
NO_VISITS = SeamVisits(pa.schema([("visitor", pa.uint64())]).empty_table(), DerivedRows(pa.table({})))


@dataclass(frozen=True)
class Seams:
    """The ends of segments within a scope. `sources` have no raw events. `workplace` and `in_memory`: see
    derived_rows.py.
    """

    sources: Sequence[SegmentSource]
    scope: Interval
    detail: Detail
    workplace: Workplace
    in_memory: int

    def derive(self, connection: duckdb.DuckDBPyConnection) -> SeamVisits:
        spans = fetch(connection, crossing_spans(self.sources, self.scope))
        connection.register("crossing", spans)
        rows = seam_rows(self.sources, self.scope, crossing="crossing", detail=self.detail)
        return SeamVisits(spans, derive_rows(connection, self.workplace, rows, self.in_memory))

    def renew(
        self, connection: duckdb.DuckDBPyConnection, before: Sequence[SegmentSource], visits: SeamVisits
    ) -> SeamVisits | None:
        """Derive from the visits at the ends of the sources of before. A visitor who had no events in the replaced
        segments, and has no span that continues in a new one, has the same visits as before. Returns None if much has
        changed.
        """
        changed = self._changed_since(before)
        near = [s for s in self.sources if any(s.segment.interval.overlaps(x.widened(VISIT_GAP)) for x in changed)]
        if not near or len(near) * 2 > len(self.sources) or any(source.finer for source in near):
            return None
        spans = self._register_spans(connection, visits.whose, near, changed)
        rows, elsewhere = visits.rows.relation(connection, "before"), [*map(outside, changed)]
        gone = select("visitor", rows, [any_of(map(inside, changed)), Sql("visitor IS NOT NULL")])
        touched = joined_by(" UNION ", [Sql("SELECT visitor FROM found"), gone])
        connection.register("touched", fetch(connection, touched))
        again = [
            as_raw(rows, [], [of_visitors("touched"), *elsewhere], self.detail),
            seam_rows(near, self.scope, crossing="crossing", detail=self.detail),
        ]
        derived = derive_rows(connection, self.workplace, joined_by(_UNION, again), self.in_memory)
        same = select("*", rows, [of_other_visitors("touched"), *elsewhere])
        parts = [same, select("*", derived.relation(connection, "derived"), [])]
        return SeamVisits(spans, selected_rows(connection, self.workplace, joined_by(_UNION, parts), self.in_memory))

    def _register_spans(
        self,
        connection: duckdb.DuckDBPyConnection,
        before: pa.Table,
        near: Sequence[SegmentSource],
        changed: Sequence[Interval],
    ) -> pa.Table:
        """Register as `found` the spans of these sources that continue in another one, and as `crossing` those of them
        that are not among the spans of before. Return all spans.
        """
        connection.register("spans_before", before)
        stayed = fetch(connection, select("*", Sql("spans_before"), [*map(_begins_outside, changed)]))
        connection.register("stayed", stayed)
        connection.register("found", fetch(connection, crossing_spans(near, self.scope)))
        connection.register("crossing", fetch(connection, select("*", Sql("found"), [of_other_spans("stayed")])))
        return fetch(connection, Sql("SELECT * FROM stayed UNION SELECT * FROM found"))

    def _changed_since(self, before: Sequence[SegmentSource]) -> list[Interval]:
        """The intervals of the segments that were replaced, and of those that replaced them."""
        different = {*map(_name, before)} ^ {*map(_name, self.sources)}
        return joined(s.segment.interval for s in (*before, *self.sources) if _name(s) in different)


def _name(source: SegmentSource) -> object:
    """What its rows at seams depend on."""
    return source.segment.version, source.finer


def _begins_outside(interval: Interval) -> Sql:
    return Sql("NOT (span_start >= ? AND span_start < ?)", (interval.start, interval.end))


def valid_at_ends(connection: duckdb.DuckDBPyConnection, between: SeamVisits, name: str) -> Sql:
    """Return which rows at the ends of segments are not among the visits between segments. `name`: to register."""
    connection.register(name, between.whose)
    return of_other_spans(name) if between.whose.num_rows else TRUE


def fetch(connection: duckdb.DuckDBPyConnection, found: Sql) -> pa.Table:
    return connection.sql(found.text, params=found.values).to_arrow_table()
