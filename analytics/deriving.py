"""Visits of any number of events, in bounded memory: raw events go to disk, and visits are derived for a part of the
visitors at a time. DuckDB alone would do it at once, and run out of memory (500 MB at a million events, measured).

In: a DuckDB connection, a folder on its disk. Out: the view `derived`, which is there as long as the folder.
"""

from collections.abc import Iterable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from analytics.raw_events import RAW
from analytics.reading import Sql
from analytics.segment_sql import DERIVED

PART = 200_000  # events; about 300 MB while their visits are derived
_NO_SEEN = "SELECT *, NULL::INTEGER AS seen FROM read_parquet('{}')"
_QUICKLY = "(FORMAT parquet, COMPRESSION lz4)"  # they are read once


def derive(
    connection: duckdb.DuckDBPyConnection, folder: Path, events: Iterable[pa.RecordBatch], kept: Sql | None = None
) -> None:
    """`events`: raw ones, which are read to the end; `kept`: others, from segments, with their `seen`."""
    raw, fresh = folder / "raw.parquet", folder / "fresh.parquet"
    with pq.ParquetWriter(fresh, RAW, compression="lz4") as writer:
        for batch in events:
            writer.write_batch(batch)
    union = f"{kept.text} UNION ALL BY NAME " if kept else ""
    copy = f"COPY ({union}{_NO_SEEN.format(fresh)}) TO '{raw}' {_QUICKLY}"
    ((count,),) = connection.execute(copy, kept.values if kept else ()).fetchall()
    fresh.unlink()
    parts = max(1, -(-count // PART))
    for part in range(parts):
        # Events without a visitor are in no visit, and go with any part.
        whose = f"coalesce(visitor, occurred::UBIGINT) % {parts} = {part}"
        connection.execute(f"CREATE TEMP TABLE raw AS SELECT * FROM read_parquet('{raw}') WHERE {whose}")
        connection.execute(f"COPY ({DERIVED}) TO '{folder / f'derived-{part}.parquet'}' {_QUICKLY}")
        connection.execute("DROP TABLE raw")
    raw.unlink()
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW derived AS SELECT * FROM read_parquet('{folder}/derived-*.parquet')"
    )
