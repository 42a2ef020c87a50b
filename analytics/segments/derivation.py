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

from analytics.events.columns import RAW
from analytics.interval import DAY
from analytics.segments.collected import collected
from analytics.segments.visit_sql import DERIVED
from analytics.sql import Sql

_IN_MEMORY = 32_000_000  # bytes of raw events; more are in a file
_PART = 200_000  # events; about 300 MB while their visits are derived
OF_A_DAY = 10_240  # rows of a row group of derived rows; a query of one day skips the row groups of other days
_FILE = "fresh.parquet"
_QUICKLY = "FORMAT parquet, COMPRESSION lz4"  # the files are read once


def derive(
    connection: duckdb.DuckDBPyConnection, folder: Path, events: pa.Table | Path, kept: Sql | None = None
) -> int:
    """Derive the visits into the view `derived`. `events` are raw events, as `gathered` returns them; their
    file is removed. `kept` selects events from segments, with their `seen`. Returns the number of events.
    """
    if isinstance(events, Path):
        fresh = f"read_parquet('{events}')"
    else:
        connection.register("fresh", events)
        fresh = "fresh"
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
    if isinstance(events, Path):
        events.unlink()
    else:
        connection.unregister("fresh")
    return count


def gathered(folder: Path, events: Iterable[pa.RecordBatch]) -> pa.Table | Path:
    """Return raw events in memory if they are few, because a file costs 5 ms, and else in a file in the folder."""
    return collected(RAW, iter(events), _IN_MEMORY, folder / _FILE)


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
