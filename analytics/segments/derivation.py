"""Derives the visits of any number of events in bounded memory. Raw events go to disk, and visits are derived for a
part of the visitors at a time. DuckDB would otherwise derive them all at once and run out of memory (500 MB at a
million events, measured).

It takes a DuckDB connection and a folder on disk, and makes the view `derived`, which is valid as long as the folder
exists.
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

_PART = 200_000  # events; about 300 MB while their visits are derived
OF_A_DAY = 10_240  # rows of a row group of derived rows; a query of one day skips the row groups of other days
_NO_SEEN = "SELECT *, NULL::INTEGER AS seen FROM read_parquet('{}')"
_QUICKLY = "FORMAT parquet, COMPRESSION lz4"  # the files are read once


def derive(
    connection: duckdb.DuckDBPyConnection, folder: Path, events: Iterable[pa.RecordBatch], kept: Sql | None = None
) -> int:
    """Derive the visits into the view `derived`. `events` are raw events, and are read to the end. `kept` selects
    events from segments, with their `seen`. Returns the number of events.
    """
    fresh = folder / "fresh.parquet"
    with pq.ParquetWriter(fresh, RAW, compression="lz4") as writer:
        for batch in events:
            writer.write_batch(batch)
    union = f"{kept.text} UNION ALL BY NAME " if kept else ""
    everything = Sql(f"{union}{_NO_SEEN.format(fresh)}", kept.values if kept else ())
    count: int
    ((count,),) = connection.execute(f"SELECT count(*) FROM ({everything.text})", everything.values).fetchall()
    for number, part in enumerate(_parts(connection, folder, everything, -(-count // _PART))):
        connection.execute(f"CREATE TEMP TABLE raw AS {part.text}", part.values)
        target = folder / f"derived-{number}.parquet"
        connection.execute(
            f"COPY ({DERIVED} ORDER BY occurred // {DAY}) TO '{target}' ({_QUICKLY}, ROW_GROUP_SIZE {OF_A_DAY})"
        )
        connection.execute("DROP TABLE raw")
    fresh.unlink()
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW derived AS SELECT * FROM read_parquet('{folder}/derived-*.parquet')"
    )
    return count


def _parts(connection: duckdb.DuckDBPyConnection, folder: Path, everything: Sql, count: int) -> Iterator[Sql]:
    """Yield the events in about `count` parts of the visitors. Each part is on disk in its own folder."""
    if count <= 1:
        yield everything
        return
    # Events without a visitor belong to no visit, so they may be in any part.
    text = f"SELECT *, coalesce(visitor, occurred::UBIGINT) % {count} AS part FROM ({everything.text})"
    whole = folder / "raw"
    connection.execute(f"COPY ({text}) TO '{whole}' ({_QUICKLY}, PARTITION_BY (part))", everything.values)
    for part in whole.iterdir():
        yield Sql(f"SELECT * FROM read_parquet('{part}/*.parquet', hive_partitioning = false)")
        shutil.rmtree(part)
