"""Rows of visits that were derived for one query. Few rows are in memory. Many rows are in a file on this machine's
disk, which is removed when nothing refers to it any more. DuckDB reads only the columns that a query needs.
"""

from __future__ import annotations  # evaluated, they would keep DuckDB's types beyond the interpreter's end

import weakref
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analytics.events.columns import RAW
from analytics.interval import Interval
from analytics.segments.collected import collected
from analytics.segments.scratch import Workplace
from analytics.segments.segment_rows import visit_rows
from analytics.segments.visit_sql import DERIVED
from analytics.sql import Sql, put

IN_MEMORY = 16_000_000  # bytes of one query; larger rows are on disk
_AT_ONCE = 8_192  # rows
_SPAN = ["span_start", "span_end"]


class DerivedRows:
    """Derived rows in memory or on disk. `size` is their bytes."""

    def __init__(self, rows: pa.Table | Path) -> None:
        self._rows = rows
        self.is_in_memory = not isinstance(rows, Path)
        if isinstance(rows, Path):
            weakref.finalize(self, rows.unlink, missing_ok=True)
            self.count, self.size = pq.read_metadata(rows).num_rows, rows.stat().st_size
        else:
            self.count, self.size = rows.num_rows, rows.nbytes

    def relation(self, connection: duckdb.DuckDBPyConnection, name: str) -> Sql:
        """Return the rows as a relation. `name` is the name to register, if one is needed."""
        if isinstance(self._rows, Path):
            return Sql("read_parquet(?)", ([str(self._rows)],))
        connection.register(name, self._rows)
        return Sql(name)

    def reach(self, period: Interval) -> Interval | None:
        """Return the interval from the first to the last event of the visits that overlap the period, or None."""
        if not self.count:
            return None
        spans = pq.read_table(self._rows, columns=_SPAN) if isinstance(self._rows, Path) else self._rows
        met = spans.filter((pc.field("span_start") < period.end) & (pc.field("span_end") >= period.start))
        if not met.num_rows:
            return None
        return Interval(pc.min(met["span_start"]).as_py(), pc.max(met["span_end"]).as_py() + 1)


def derive_rows(connection: duckdb.DuckDBPyConnection, workplace: Workplace, raw: Sql, in_memory: int) -> DerivedRows:
    """Derive the rows. `raw` is a statement with `seen` and the raw columns of a detail. More than `in_memory` bytes go
    to disk.
    """
    events = _few(connection, raw, in_memory // 2)
    if events is not None:
        rows = visit_rows(events)
        return DerivedRows(collected(rows.schema, iter(rows.to_batches()), in_memory, workplace.unused(".parquet")))
    connection.register("no_events", RAW.empty_table())
    everything = put("SELECT * FROM no_events UNION ALL BY NAME ({})", raw)
    # A separate statement tells DuckDB the number of rows, so that it reserves no more memory than needed.
    connection.execute(f"CREATE TEMP TABLE raw AS {everything.text}", everything.values)
    try:
        return selected_rows(connection, workplace, Sql(DERIVED), in_memory)
    finally:
        connection.execute("DROP TABLE raw")
        connection.unregister("no_events")


def selected_rows(
    connection: duckdb.DuckDBPyConnection, workplace: Workplace, rows: Sql, in_memory: int
) -> DerivedRows:
    """Return the derived rows that a statement selects. More than `in_memory` bytes go to disk."""
    reader = connection.sql(rows.text, params=rows.values).to_arrow_reader(_AT_ONCE)
    return DerivedRows(collected(reader.schema, iter(reader), in_memory, workplace.unused(".parquet")))


def _few(connection: duckdb.DuckDBPyConnection, raw: Sql, most: int) -> pa.Table | None:
    """Return the events, or None if they have more than `most` bytes. To derive their visits takes several times as
    many, which are not of DuckDB's limit.
    """
    reader = connection.sql(raw.text, params=raw.values).to_arrow_reader(_AT_ONCE)
    found: list[pa.RecordBatch] = []
    for batch in reader:
        most -= batch.nbytes
        if most < 0:
            return None
        found.append(batch)
    return pa.Table.from_batches(found, reader.schema)
