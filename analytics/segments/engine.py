"""Connects the parts of segments: the reader and the builder share one set of stores."""

from __future__ import annotations  # evaluated, they would keep DuckDB's types beyond the interpreter's end

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import duckdb
from pymongo.database import Database

from analytics.events.backfill import Backfill
from analytics.events.columns import RawEvents
from analytics.events.dirty_hours import DirtyHours
from analytics.segments import duckdb_connection as duck
from analytics.segments.builder import Builder
from analytics.segments.snapshot_reader import SnapshotReader
from analytics.segments.store import SegmentStore
from config.settings import Settings


@dataclass(frozen=True)
class Segments:
    """The stores, reader and builder of segments. `connect` makes a DuckDB connection with limits, which may read only
    this node's copies of segments.
    """

    store: SegmentStore
    dirty: DirtyHours
    backfill: Backfill
    raw: RawEvents
    reader: SnapshotReader
    builder: Builder
    connect: Callable[[], duckdb.DuckDBPyConnection]


def make_segments(settings: Settings, database: Database[dict[str, Any]]) -> Segments:
    """Build the parts from the settings. Call it after the fork: the store locks a folder for this process when it
    first needs one.
    """
    store = SegmentStore(database, settings.segment_folder, settings.segment_disk)
    dirty, backfill, raw = DirtyHours(database), Backfill(database), RawEvents(database)
    connect = partial(_connect, settings, store)
    reader = SnapshotReader(store, dirty, backfill, raw)
    return Segments(store, dirty, backfill, raw, reader, Builder(store, dirty, backfill, raw, connect), connect)


def _connect(settings: Settings, store: SegmentStore) -> duckdb.DuckDBPyConnection:
    spill = store.workplace.unused()
    return duck.connect(settings.duckdb_memory, settings.duckdb_threads, spill, [store.folder])
