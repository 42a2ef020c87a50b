"""A segment made in memory is the segment that DuckDB makes of the same events, and takes little memory."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.events.columns import RAW
from analytics.events.event import DESCRIBED
from analytics.interval import DAY, MINUTE, Interval
from analytics.segments import segment_rows
from analytics.segments.builder import write
from analytics.segments.derivation import derive
from analytics.segments.segment_rows import RAW_IN_MEMORY, LongVisits, small_files, write_segment
from analytics.segments.snapshot import SiteSnapshot
from analytics.segments.store import Content
from analytics.sql import Sql
from tests.analytics.segments.test_memory import megabytes_of

MOST = 600  # MB, of a process that makes a segment; it took 466 to 523
DAYS = Interval(20_000 * DAY, 20_003 * DAY)
NEAR = st.sampled_from([0, 1, 29, 30, 31, 45]).map(lambda minutes: minutes * MINUTE)
TIMES = st.builds(
    lambda day, near, ms: min(max(DAYS.start + day * DAY + near + ms, DAYS.start), DAYS.end - 1),
    st.integers(0, 3), NEAR | NEAR.map(lambda near: -near), st.sampled_from([0, 0, 1]),
)  # fmt: skip
FEW = st.none() | st.sampled_from(["a", "b"])
EVENTS = st.lists(
    st.fixed_dictionaries({
        "occurred": TIMES, "visitor": st.none() | st.sampled_from([0, 1, 2**64 - 1]),
        "name": st.none() | st.sampled_from(["pageview", "engagement", "click"]), "interactive": st.booleans(),
        "page": FEW, "hostname": FEW, "source": FEW, DESCRIBED[-1]: FEW,
        "scroll_depth": st.none() | st.integers(0, 255), "engagement_time": st.none() | st.integers(0, 2**31 - 1),
        "revenue": st.none() | st.just(Decimal("-12.340")), "currency": st.none() | st.just("EUR"),
        "props": st.none() | st.just([("plan", "pro"), ("é", "")]),
    }),
    min_size=1, max_size=25,
)  # fmt: skip


def in_order(events: list[dict[str, Any]]) -> pa.Table:
    """In order of time, where no two events of a visitor share a time and tie."""
    ordered = sorted(events, key=lambda event: event["occurred"])
    return pa.Table.from_pylist([event | {"tie": 30 - n} for n, event in enumerate(ordered)], RAW)


def read(connection: duckdb.DuckDBPyConnection, file: Path) -> tuple[Any, Any]:
    described = connection.execute(f"DESCRIBE SELECT * FROM '{file}'").fetchall()
    return described, connection.execute(f"SELECT * FROM '{file}'").fetchall()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EVENTS.map(in_order))
def test_a_segment_made_in_memory_has_the_rows_that_duckdb_derives(tmp_path: Path, events: pa.Table):
    with duckdb.connect() as connection:
        derive(connection, tmp_path, events)
        snapshot = SiteSnapshot((), (), Sql("derived"), cut=DAYS)
        derived, made = tmp_path / "derived.parquet", tmp_path / "made.parquet"
        content = write(connection, snapshot, DAYS, events.num_rows, derived)
        assert write_segment(events.to_batches(), DAYS, made) == content
        expected, found = read(connection, derived), read(connection, made)
        assert found[0] == expected[0]
        assert found[1] == expected[1]
        ((file, same),) = small_files(events, [events.num_rows], DAYS)
        made.write_bytes(file)
        assert same == content
        assert read(connection, made) == expected


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EVENTS.map(in_order), st.integers(1, 9))
def test_events_that_are_read_in_parts_have_the_rows_that_they_have_at_once(
    tmp_path: Path, events: pa.Table, size: int
):
    with pytest.MonkeyPatch.context() as patch, duckdb.connect() as connection:
        once, parts = tmp_path / "once.parquet", tmp_path / "parts.parquet"
        content = write_segment(events.to_batches(), DAYS, once)
        patch.setattr(segment_rows, "RAW_IN_MEMORY", 1)
        patch.setattr(segment_rows, "ROW_GROUP", size)
        assert write_segment(events.to_batches(max_chunksize=size), DAYS, parts) == content
        expected, found = read(connection, once), read(connection, parts)
        assert found[0] == expected[0]
        assert sorted(map(repr, found[1])) == sorted(map(repr, expected[1]))
        assert pq.read_metadata(parts).num_row_groups >= pq.read_metadata(once).num_row_groups


def test_no_events_have_no_file(tmp_path: Path):
    assert write_segment([], DAYS, tmp_path / "none.parquet") == Content(0, 0, 0)
    assert not [*tmp_path.iterdir()]


def test_visits_that_do_not_fit_into_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    events = [{"occurred": DAYS.start + n * MINUTE, "tie": 0, "visitor": 1, "name": "click", "interactive": True}
              for n in range(40)]  # fmt: skip
    batches = pa.Table.from_pylist(events, RAW).to_batches(max_chunksize=10)
    monkeypatch.setattr(segment_rows, "RAW_IN_MEMORY", 1)
    monkeypatch.setattr(segment_rows, "MOST_UNFINISHED", 25 * batches[0].nbytes // 10)
    with pytest.raises(LongVisits):
        write_segment(batches, DAYS, tmp_path / "never.parquet")


@settings(deadline=None, max_examples=60)
@given(st.lists(EVENTS.map(in_order), min_size=1, max_size=4))
def test_the_files_of_sites_that_are_made_together_are_those_that_are_made_alone(sites: list[pa.Table]):
    made = list(small_files(pa.concat_tables(sites), [site.num_rows for site in sites], DAYS))
    for events, (file, content) in zip(sites, made, strict=True):
        ((alone, expected),) = small_files(events, [events.num_rows], DAYS)
        assert content == expected
        assert pq.read_table(pa.BufferReader(file)).equals(pq.read_table(pa.BufferReader(alone)))
        assert file == alone


def many_events() -> Iterator[pa.RecordBatch]:
    """More events than are held in memory. They have no texts, and are therefore as many as possible."""
    number = 1_000_000
    for first in range(0, number, 20_000):
        numbers = np.arange(first, first + 20_000)
        times = DAYS.start + numbers * ((DAYS.end - DAYS.start) // number)
        given = {"occurred": times, "tie": np.zeros(20_000), "visitor": numbers * 7919 % 50_000,
                 "name": ["pageview"] * 20_000, "interactive": [True] * 20_000}  # fmt: skip
        columns = [pa.array(given[each.name]).cast(each.type) if each.name in given else pa.nulls(20_000, each.type)
                   for each in RAW]  # fmt: skip
        yield pa.RecordBatch.from_arrays(columns, schema=RAW)


def write_many(folder: Path) -> tuple[int, int]:
    size = sum(batch.nbytes for batch in many_events())
    return size, write_segment(many_events(), DAYS, folder / "made.parquet").rows


def test_any_number_of_events_becomes_a_segment_in_bounded_memory(tmp_path: Path):
    (size, rows), most = megabytes_of(write_many, tmp_path)
    assert size > 4 * RAW_IN_MEMORY
    assert rows == 1_000_000
    assert most < MOST
