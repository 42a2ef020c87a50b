"""Connects the parts of segments: the reader and the builder share one set of stores."""

from __future__ import annotations  # evaluated, they would keep DuckDB's types beyond the interpreter's end

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from pymongo.database import Database

from analytics.events.backfill import Backfill
from analytics.events.columns import RawEvents
from analytics.events.dirty_hours import DirtyHours
from analytics.interval import SegmentGrain
from analytics.segments import duckdb_connection as duck
from analytics.segments.builder import Builder
from analytics.segments.snapshot_reader import SnapshotReader
from analytics.segments.storage import SegmentStorage
from analytics.segments.store import SegmentStore


@dataclass(frozen=True)
class Segments:
    """The stores, reader and builder of segments. `connect` makes a DuckDB connection with limits, which may read only
    this node's copies of segments. Its argument is the memory, if it is not that of the builder.
    """

    store: SegmentStore
    dirty: DirtyHours
    backfill: Backfill
    raw: RawEvents
    reader: SnapshotReader
    builder: Builder
    connect: Callable[..., duckdb.DuckDBPyConnection]


def make_segments(
    database: Database[dict[str, Any]],
    folder: Path,
    *,
    most_bytes: int,
    storage: SegmentStorage | None = None,
    memory: str,
    threads: int,
    count_built: Callable[[SegmentGrain], None] = lambda _: None,
) -> Segments:
    """Build the parts. The store locks a folder for this process when it first needs one, which must be after the fork.

    `folder`, `most_bytes` and `storage`: see SegmentStore. `memory` and `threads`: see duckdb_connection.py.
    `count_built`: see Builder.
    """
    store = SegmentStore(database, folder, most_bytes, storage)
    dirty, backfill, raw = DirtyHours(database), Backfill(database), RawEvents(database)

    def connect(limit: str = memory) -> duckdb.DuckDBPyConnection:
        return duck.connect(limit, threads, store.workplace.unused(), [store.folder])

    builder = Builder(store, dirty, backfill, raw, connect, count_built=count_built)
    return Segments(store, dirty, backfill, raw, SnapshotReader(store, dirty, backfill, raw), builder, connect)
