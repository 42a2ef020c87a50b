"""DuckDB, within limits: memory (then it spills to disk), threads, and no way to any file but the segments'."""

from __future__ import annotations  # evaluated, they would keep DuckDB's types beyond the interpreter's end

from collections.abc import Sequence
from pathlib import Path

import duckdb

MOST_SPILLED = "20GB"  # a question or a segment that needs more is refused


def connect(memory: str, threads: int, spill: Path, readable: Sequence[Path]) -> duckdb.DuckDBPyConnection:
    """A database in memory. `memory` as DuckDB writes it ("1GB"); `spill`: where it may put what does not fit, a folder
    of its own, which it makes and removes.
    """
    connection = duckdb.connect(
        config={
            "memory_limit": memory,
            "threads": threads,
            "temp_directory": str(spill),
            "max_temp_directory_size": MOST_SPILLED,
            "preserve_insertion_order": False,  # what should be ordered says so
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
    connection.execute("SET allowed_directories = ?", [[f"{folder}/" for folder in readable]])
    # A file's footer is read once, not by each statement: 0.7 ms at a million events. For all cursors.
    connection.execute("SET GLOBAL parquet_metadata_cache = true")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET enable_progress_bar = false")  # it would write to an operator's terminal
    connection.execute("SET lock_configuration = true")
    return connection
