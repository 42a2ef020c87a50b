"""Visits are the same, however their events are held while they are derived."""

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from analytics.events.columns import RAW
from analytics.interval import MINUTE
from analytics.segments import derivation
from analytics.segments.derivation import derive, gathered

EVENTS = [
    {"occurred": n * 7 * MINUTE, "tie": 0, "visitor": n % 5 or None, "name": ["pageview", "click"][n % 2],
     "page": f"/{n % 3}", "interactive": True, "source": f"s{n % 4}"}
    for n in range(60)
]  # fmt: skip


def derived(connection: duckdb.DuckDBPyConnection, folder: Path, count: int) -> list[Any]:
    batches = pa.Table.from_pylist(EVENTS[:count], RAW).to_batches(max_chunksize=10)
    folder.mkdir()
    assert derive(connection, folder, gathered(folder, batches)) == count
    names = "occurred, visitor, name, page, visit, entry, visit_duration, visit_pageviews, exit_page, source, own"
    return connection.execute(f"SELECT {names} FROM derived ORDER BY occurred").fetchall()


def test_visits_in_memory_in_a_file_and_in_parts_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with duckdb.connect() as connection:
        few = derived(connection, tmp_path / "few", 20)
        expected = derived(connection, tmp_path / "memory", 60)
        assert len(few) == 20
        assert {row[2] for row in expected} == {"pageview", "click"}
        monkeypatch.setattr(derivation, "_IN_MEMORY", 1_000)
        assert derived(connection, tmp_path / "file", 60) == expected
        monkeypatch.setattr(derivation, "_PART", 25)
        assert derived(connection, tmp_path / "parts", 60) == expected
        monkeypatch.undo()
        assert derived(connection, tmp_path / "again", 20) == few


def test_no_events_have_no_visits(tmp_path: Path):
    with duckdb.connect() as connection:
        assert derived(connection, tmp_path / "none", 0) == []
