"""Derives the visits of any number of events in bounded memory. Many raw events go to disk, and visits are derived for
a part of the visitors at a time. DuckDB would otherwise derive them all at once and run out of memory (500 MB at a
million events, measured).

It takes a DuckDB connection and a folder on disk, and makes the view `derived`, which is valid as long as the
folder exists.
"""

from __future__ import annotations  # evaluated, they would keep DuckDB's types beyond the interpreter's end

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from analytics.events.columns import RAW
from analytics.interval import DAY
from analytics.segments.visit_sql import DERIVED
from analytics.sql import Sql

_IN_MEMORY = 32_000_000  # bytes of raw events; more are in a file
_PART = 200_000  # events; about 300 MB while their visits are derived
OF_A_DAY = 10_240  # rows of a row group of derived rows; a query of one day skips the row groups of other days
_FILE = "fresh.parquet"
_QUICKLY = "FORMAT parquet, COMPRESSION lz4"  # the files are read once


def derive(
    connection: duckdb.DuckDBPyConnection, folder: Path, events: Iterable[pa.RecordBatch], kept: Sql | None = None
) -> int:
    """Derive the visits into the view `derived`. `events` are raw events, and are read to the end. `kept` selects
    events from segments, with their `seen`. Returns the number of events.
    """
    fresh = _fresh(connection, folder / _FILE, iter(events))
    union = f"{kept.text} UNION ALL BY NAME " if kept else ""
    everything = Sql(f"{union}SELECT *, NULL::INTEGER AS seen FROM {fresh}", kept.values if kept else ())
    count: int
    ((count,),) = connection.execute(f"SELECT count(*) FROM ({everything.text})", everything.values).fetchall()
    if count <= _PART:
        connection.execute(f"CREATE TEMP TABLE raw AS {everything.text}", everything.values)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE derived_in_memory AS {DERIVED}")
        connection.execute("DROP TABLE raw")
        connection.execute("CREATE OR REPLACE TEMP VIEW derived AS SELECT * FROM derived_in_memory")
    else:
        _derive_parts(connection, folder, everything, -(-count // _PART))
    connection.unregister("fresh")
    (folder / _FILE).unlink(missing_ok=True)
    return count


def _fresh(connection: duckdb.DuckDBPyConnection, file: Path, events: Iterator[pa.RecordBatch]) -> str:
    """Return a relation with the events. It is in memory if they are few, because a file costs 5 ms."""
    few: list[pa.RecordBatch] = []
    size = 0
    for batch in events:
        few.append(batch)
        size += batch.nbytes
        if size > _IN_MEMORY:
            break
    else:
        connection.register("fresh", pa.Table.from_batches(few, RAW))
        return "fresh"
    with pq.ParquetWriter(file, RAW, compression="lz4") as writer:
        writer.write_table(pa.Table.from_batches(few))
        few.clear()
        for batch in events:
            writer.write_batch(batch)
    return f"read_parquet('{file}')"


def _derive_parts(connection: duckdb.DuckDBPyConnection, folder: Path, everything: Sql, count: int) -> None:
    for number, part in enumerate(_parts(connection, folder, everything, count)):
        connection.execute(f"CREATE TEMP TABLE raw AS {part.text}", part.values)
        target = folder / f"derived-{number}.parquet"
        connection.execute(
            f"COPY ({DERIVED} ORDER BY occurred // {DAY}) TO '{target}' ({_QUICKLY}, ROW_GROUP_SIZE {OF_A_DAY})"
        )
        connection.execute("DROP TABLE raw")
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW derived AS SELECT * FROM read_parquet('{folder}/derived-*.parquet')"
    )


def _parts(connection: duckdb.DuckDBPyConnection, folder: Path, everything: Sql, count: int) -> Iterator[Sql]:
    """Yield the events in about `count` parts of the visitors. Each part is on disk in its own folder."""
    # Events without a visitor belong to no visit, so they may be in any part.
    text = f"SELECT *, coalesce(visitor, occurred::UBIGINT) % {count} AS part FROM ({everything.text})"
    whole = folder / "raw"
    connection.execute(f"COPY ({text}) TO '{whole}' ({_QUICKLY}, PARTITION_BY (part))", everything.values)
    for part in whole.iterdir():
        yield Sql(f"SELECT * FROM read_parquet('{part}/*.parquet', hive_partitioning = false)")
        shutil.rmtree(part)
