"""Collects rows in memory up to a limit in bytes, or otherwise in a Parquet file that is read once or for a while."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def collected(schema: pa.Schema, batches: Iterator[pa.RecordBatch], in_memory: int, file: Path) -> pa.Table | Path:
    """Return the rows in memory, or the file if they have more than `in_memory` bytes. An error leaves no file."""
    found: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        found.append(batch)
        size += batch.nbytes
        if size > in_memory:
            break
    else:
        return pa.Table.from_batches(found, schema)
    try:
        with pq.ParquetWriter(file, schema, compression="lz4") as writer:
            writer.write_table(pa.Table.from_batches(found))
            found.clear()
            for batch in batches:
                writer.write_batch(batch)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return file
