"""The memory of a process, whatever events a site has: real processes, and the largest possible events."""

import multiprocessing
import os
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import duckdb
import pyarrow.parquet as pq
import pytest
from pymongo.database import Database

from analytics.events.backfill import Backfill
from analytics.events.columns import RAW, RawEvents
from analytics.events.dirty_hours import DirtyHours
from analytics.interval import Interval, as_datetime, as_ms, interval_of
from analytics.queries.query import Query, of_days
from analytics.segments.wide_props import WIDE_ROW_GROUP, WideProps
from config.services import Services
from config.settings import Settings

NOON = as_ms(datetime(2026, 10, 15, 12, tzinfo=UTC))
SUITE_EVENTS = 4_000
EVENTS = int(os.environ.get("EVENTS", SUITE_EVENTS))  # of 60 kB: 240 MB, and more than 600 MB as Python has them
MOST = 600  # MB, of a process that answers reports


def large(number: int, visitor: str) -> dict[str, Any]:
    props = {f"p{n}": f"{number} {n} " + "x" * 1_980 for n in range(30)}
    return {
        "_id": uuid4(), "site_id": "site", "event_type": "page_view", "timestamp": as_datetime(NOON + number * 250),
        "path": f"/{number % 50}", "user_id": visitor, "props": props,
    }  # fmt: skip


def store(database: Database[dict[str, Any]], visitors: int) -> None:
    Backfill(database).note_if_there_is_none()
    database["events"].create_index([("site_id", 1), ("timestamp", 1)], name="site_time")
    for first in range(0, EVENTS, 100):
        database["events"].insert_many(large(n, f"visitor {n % visitors}") for n in range(first, first + 100))
    moments = [("site", NOON + number * 250) for number in range(EVENTS)]
    DirtyHours(database).mark(moments, datetime.now(UTC) - timedelta(days=1))


def megabytes_of(act: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """The result of `act` in a new process, and the peak of that process's memory in MB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (act, args))


def _measured(act: Callable[..., Any], args: Any) -> tuple[Any, float]:
    try:
        found = act(*args)
    except Exception as error:
        return repr(error), 0
    # Not ru_maxrss, which starts with the memory of the parent process.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak
    return found, int(peak[1]) / 1024


def build(settings: Settings) -> int:
    with closing(Services(settings)) as services:
        built = services.segments.builder.build_due()
        assert not services.segments.dirty.of_site("site")
        return built


def ask(settings: Settings) -> dict[str, Any]:
    settings = replace(settings, duckdb_memory=settings.report_memory, stats_time_limit=60)
    with closing(Services(settings)) as services:
        reports = services.reports
        period = of_days(date(2026, 10, 1), date(2026, 10, 31), ZoneInfo("UTC"))
        query = Query("site", ("visitors", "visits", "pageviews"), period)
        by_prop = Query("site", ("events",), period, ("event:props:p7",), limit=100)
        answer = reports.answer(query)
        return {
            "metrics": answer.rows[0].metrics,
            "all": answer.as_of is None,
            "stats": reports.stats("site", None).total_views,
            "by property": len(reports.answer(by_prop).rows),
            "history": reports.visitor_history("site", "visitor 0", period, 10).is_cut,
        }


@pytest.mark.timeout(300 * EVENTS // SUITE_EVENTS)
@pytest.mark.parametrize("visitors", [1, 40])
def test_reports_and_builds_of_very_large_events_stay_within_their_memory(
    database: Database[dict[str, Any]], settings: Settings, visitors: int
):
    """They took 4 to 5 GB, and the answer was a 503."""
    store(database, visitors)
    found, most = megabytes_of(ask, settings)
    print("fresh:", most, found)
    assert not found["all"], "there is room for some of the events only, and the answer says so"
    assert 0 < found["metrics"][2] < EVENTS
    assert most < MOST
    built, most = megabytes_of(build, settings)
    print("built:", most)
    assert built
    assert most < MOST or EVENTS > SUITE_EVENTS, "a worker has DUCKDB_MEMORY, and needs it for many"
    found, most = megabytes_of(ask, settings)
    print("segments:", most, found)
    assert found == {
        "metrics": (visitors, visitors, EVENTS), "all": True, "stats": EVENTS, "by property": 100,
        "history": EVENTS // visitors > 250,
    }  # fmt: skip
    assert most < MOST


def test_large_properties_come_back_as_they_were_in_row_groups_of_few_rows(
    database: Database[dict[str, Any]], tmp_path: Path
):
    """Beside small ones, and none, for any order into which the rows were sorted."""
    some = [large(number, f"visitor {number % 3}") for number in range(700)]
    for number, event in enumerate(some[600:]):
        event["props"] = {"small": f"{number}"} if number % 2 else {}
    database["events"].insert_many(some)
    interval = interval_of("day", NOON)
    wide = WideProps(tmp_path)
    batches = [*wide.aside(RawEvents(database).read("site", [interval]))]
    assert wide.is_some
    connection = duckdb.connect()
    narrow, first, second = tmp_path / "narrow.parquet", f"{tmp_path}/first.parquet", tmp_path / "second.parquet"
    pq.write_table(_table(batches), first)
    order = "ORDER BY visitor, occurred DESC"
    connection.execute(f"COPY (SELECT * FROM '{first}' {order}) TO '{narrow}' (FORMAT parquet)")
    restored = wide.restore(narrow)
    pq.write_table(_table([*RawEvents(database).read("site", [interval])]), second)
    expected = connection.execute(f"SELECT * FROM '{second}' {order}").fetchall()
    assert connection.execute(f"SELECT * FROM '{restored}'").fetchall() == expected
    described = [connection.execute(f"DESCRIBE SELECT * FROM '{file}'").fetchall() for file in (restored, narrow)]
    assert described[0] == described[1]
    assert pq.read_metadata(restored).num_row_groups == -(-600 * 60_000 // WIDE_ROW_GROUP)
    connection.close()


def _table(batches: list[Any]) -> Any:
    import pyarrow as pa

    return pa.Table.from_batches(batches, RAW)


def test_a_millisecond_with_more_events_than_fit_into_memory_is_read_in_order(
    database: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
):
    some = [large(number, f"visitor {number % 2}") for number in range(600)]
    for number, event in enumerate(some):
        event["timestamp"] = as_datetime(NOON + (number % 3 != 0))
        event["sequence"] = f"{number:010}"
    database["events"].insert_many(some)
    raw, interval = RawEvents(database), Interval(NOON, NOON + 10)
    columns = ["occurred", "visitor", "tie", "page", "props"]

    def read() -> list[Any]:
        return sorted(
            map(repr, (row for batch in raw.read("site", [interval]) for row in batch.select(columns).to_pylist()))
        )

    expected = read()
    assert len(expected) == 600
    monkeypatch.setattr("analytics.events.columns.CROWDED", 1_000_000)
    assert read() == expected
