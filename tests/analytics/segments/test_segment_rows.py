"""A segment made in memory is the segment that DuckDB makes of the same events, and takes little memory."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.events.columns import RAW
from analytics.events.event import DESCRIBED
from analytics.interval import DAY, MINUTE, Interval
from analytics.segments import derivation
from analytics.segments.builder import write
from analytics.segments.derivation import derive, gathered
from analytics.segments.segment_rows import write_segment
from analytics.segments.snapshot import SiteSnapshot
from analytics.sql import Sql
from tests.analytics.segments.test_memory import megabytes_of

MOST = 500  # MB, of a process that makes a segment of as many events as it holds in memory
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
        assert write_segment(events, DAYS, made, 122_880) == content
        expected, found = read(connection, derived), read(connection, made)
        assert found[0] == expected[0]
        assert found[1] == expected[1]


def write_most(folder: Path) -> int:
    """Write a segment of the most events that are held in memory: they have no texts."""
    number, size = 100_000, RAW.empty_table().nbytes
    while size < derivation._IN_MEMORY:
        number = number * 5 // 4
        times = np.linspace(DAYS.start, DAYS.end - 1, number).astype(np.int64)
        given = {"occurred": times, "tie": np.zeros(number), "visitor": np.arange(number) % 50_000}
        columns = [pa.array(given[each.name]).cast(each.type) if each.name in given else pa.nulls(number, each.type)
                   for each in RAW if each.name not in ("name", "interactive")]  # fmt: skip
        columns.insert(3, pa.array(["pageview"] * number))
        columns.insert(RAW.get_field_index("interactive"), pa.array([True] * number))
        events = pa.Table.from_arrays(columns, schema=RAW)
        size = events.nbytes
    assert isinstance(gathered(folder, events.slice(0, number * 3 // 4).to_batches()), pa.Table)
    return write_segment(events, DAYS, folder / "made.parquet", 122_880).rows


def test_the_most_events_that_are_held_in_memory_become_a_segment_in_bounded_memory(tmp_path: Path):
    rows, most = megabytes_of(write_most, tmp_path)
    assert rows > 150_000
    assert most < MOST
