"""The visits of few events, which numpy derives, are those that DuckDB derives of many."""

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.segments.derived_rows import IN_MEMORY, DerivedRows, derive_rows
from analytics.segments.scratch import Workplace
from analytics.segments.visit_sql import COUNTED_COLUMNS, VISIT_ROW_COLUMNS, Detail, raw_columns
from analytics.sql import Sql
from tests.analytics.segments.test_segment_rows import EVENTS, in_order

ALL_COLUMNS = {*VISIT_ROW_COLUMNS, "prior"}
COLUMNS = {Detail.COUNTED: COUNTED_COLUMNS, Detail.DESCRIBED: ALL_COLUMNS - {"props"}, Detail.ALL: ALL_COLUMNS}


def with_seen(events: pa.Table, seen: list[int | None]) -> pa.Table:
    return events.append_column("seen", pa.array(seen[: events.num_rows], pa.int32()))


def read(connection: duckdb.DuckDBPyConnection, rows: DerivedRows, columns: set[str]) -> tuple[Any, Any]:
    relation = rows.relation(connection, "derived")
    text = f"SELECT {', '.join(sorted(columns))} FROM {relation.text}"
    described = connection.execute(f"DESCRIBE {text}", relation.values).fetchall()
    return described, sorted(map(repr, connection.execute(text, relation.values).fetchall()))


@pytest.mark.parametrize("detail", Detail)
def test_numpy_and_duckdb_derive_the_same_visits(tmp_path: Path, detail: Detail):
    workplace, raw = Workplace(tmp_path), Sql(f"SELECT {raw_columns(detail, of_row=False)}, seen FROM given")

    @settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(EVENTS.map(in_order), st.lists(st.none() | st.integers(0, 2**31 - 1), min_size=25, max_size=25))
    def derive_both_ways(events: pa.Table, seen: list[int | None]) -> None:
        with duckdb.connect() as connection:
            connection.register("given", with_seen(events, seen))
            few = derive_rows(connection, workplace, raw, IN_MEMORY)
            many = derive_rows(connection, workplace, raw, 0)
            assert few.is_in_memory
            assert not many.is_in_memory
            assert read(connection, few, COLUMNS[detail]) == read(connection, many, COLUMNS[detail])

    derive_both_ways()


@pytest.mark.parametrize("detail", Detail)
def test_no_events_have_the_columns_of_some(tmp_path: Path, detail: Detail):
    with duckdb.connect() as connection:
        events = in_order([])
        connection.register("given", with_seen(events, []))
        raw = Sql(f"SELECT {raw_columns(detail, of_row=False)}, seen FROM given")
        rows = derive_rows(connection, Workplace(tmp_path), raw, IN_MEMORY)
        assert rows.count == 0
        assert read(connection, rows, COLUMNS[detail])[1] == []
