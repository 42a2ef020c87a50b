"""Limits of queries: time, memory, concurrent queries. Also what reports say if numbers are not complete yet."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import duckdb
import pycountry
import pytest
from pymongo.database import Database

from analytics.interval import as_ms, interval_of
from analytics.queries.query import Condition, Query, of_days
from analytics.queries.query_schema import InvalidQuery
from analytics.reports.budget import Budget
from analytics.reports.engine import Reports, _countries, _interrupt_after, _regions
from analytics.reports.results import Refused
from analytics.segments import snapshot_reader
from analytics.segments.snapshot_reader import SizedCache
from tests.analytics.segments.test_segments import Rig

DAY = date(2026, 10, 5)
NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)
ENDLESS = "SELECT count(*) FROM range(1_000_000_000_000) t(a)"
IMMENSE = "SELECT list(a::VARCHAR || 'x' ORDER BY a) FROM range(50_000_000) t(a)"
OF_DAY = Query("site", ("visitors", "pageviews"), of_days(DAY, DAY, ZoneInfo("UTC")))


@pytest.fixture
def rig(database: Database[dict[str, Any]], tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(database, tmp_path)
    yield rig
    rig.connection.close()


@pytest.fixture
def reports(rig: Rig) -> Reports:
    return Reports(rig.reader, rig.imports, rig.connection.cursor, time_limit=30, most_fresh=1_000)


def view(minutes: float, user_id: str = "anna") -> dict[str, Any]:
    at = NOON + timedelta(minutes=minutes)
    return {"_id": uuid4(), "site_id": "site", "event_type": "page_view", "timestamp": at, "user_id": user_id}


def test_a_query_that_takes_too_long_is_refused_and_the_next_is_answered(rig: Rig, reports: Reports):
    rig.store(view(0))
    hurried = Reports(rig.reader, rig.imports, rig.connection.cursor, time_limit=0.2, most_fresh=1_000)
    with pytest.raises(Refused) as refused:
        hurried._ask(["site"], lambda connection, _: connection.execute(ENDLESS).fetchall(), None)
    assert refused.value.code == "time_limit"
    assert "0.2 s" in refused.value.message
    assert reports.answer(OF_DAY).rows[0].metrics == (1, 1)


def test_a_query_that_needs_too_much_memory_is_refused(rig: Rig, reports: Reports):
    with pytest.raises(Refused) as refused:
        reports._ask(["site"], lambda connection, _: connection.execute(IMMENSE).fetchall(), None)
    assert refused.value.code == "memory_limit"


def test_queries_above_the_limit_wait_and_are_then_refused(rig: Rig):
    reports = Reports(
        rig.reader, rig.imports, rig.connection.cursor, time_limit=30, most_fresh=1_000, at_once=1, patience=0.2
    )
    with pytest.raises(Refused) as refused:
        reports._ask(["site"], lambda *_: reports.answer(OF_DAY), None)
    assert refused.value.code == "busy"
    assert reports.answer(OF_DAY).rows[0].metrics == (0, 0)


def test_eight_expensive_queries_of_a_site_do_not_block_other_sites(rig: Rig):
    reports = Reports(rig.reader, rig.imports, rig.connection.cursor, time_limit=5, most_fresh=1_000)
    begun = threading.Semaphore(0)

    def ask(connection: duckdb.DuckDBPyConnection, _: Budget) -> object:
        begun.release()
        return connection.execute(ENDLESS).fetchall()

    rig.store(view(0))
    with ThreadPoolExecutor(8) as pool:
        expensive = [pool.submit(reports._ask, ["expensive"], ask, None) for _ in range(8)]
        for _ in range(reports.at_once - 1):
            assert begun.acquire(timeout=10)
        for _ in range(5):
            assert reports.answer(OF_DAY, reports.budget("a key")).rows[0].metrics == (1, 1)
        assert {type(each.exception()) for each in expensive} == {Refused}


def test_roll_ups_share_the_slots_of_their_first_site(rig: Rig):
    reports = Reports(
        rig.reader, rig.imports, rig.connection.cursor, time_limit=30, most_fresh=1_000, at_once=2, patience=0.2
    )
    with pytest.raises(Refused) as refused:
        reports._ask(["b", "a"], lambda *_: reports._ask(["a", "c"], lambda *_: None, None), None)
    assert refused.value.code == "busy"


def test_interrupting_a_query_that_has_ended_does_nothing(rig: Rig):
    connection = rig.connection.cursor()
    connection.close()
    _interrupt_after(0, threading.Event(), connection)


def test_the_time_limit_applies_to_python_code_too(rig: Rig, reports: Reports):
    rig.store(*(view(minute, f"visitor {minute}") for minute in range(50)))
    late = Budget(0)
    by_hour = replace(OF_DAY, dimensions=("time:hour",), time_labels=True, compare_with=OF_DAY.period)
    for ask in (
        lambda: reports.answer(by_hour, late),
        lambda: reports.retention(OF_DAY, "day", late),
        lambda: reports.funnel(OF_DAY, (Condition("is", "event:page", ("/",)),) * 2, None, late),
        lambda: [*late.each(reports.answer(by_hour).rows)],
    ):
        with pytest.raises(Refused) as refused:
            ask()
        assert refused.value.code == "time_limit"
    assert reports.answer(by_hour).rows


def test_an_answer_has_a_limit_of_bytes(rig: Rig, reports: Reports, monkeypatch: pytest.MonkeyPatch):
    rig.store(*({**view(n), "path": f"/{n}/{'ä' * 900}"} for n in range(100)))
    by_page = replace(OF_DAY, dimensions=("event:page",), limit=10_000)
    assert len(reports.answer(by_page).rows) == 100
    monkeypatch.setattr("analytics.reports.engine.MOST_TEXT", 100_000)
    with pytest.raises(InvalidQuery, match="100,000 bytes") as error:
        reports.answer(by_page)
    assert error.value.pointer == "#/pagination/limit"
    assert len(reports.answer(replace(by_page, limit=50)).rows) == 50


def test_a_visitor_s_history_shows_some_events_and_says_that_there_are_more(
    rig: Rig, reports: Reports, monkeypatch: pytest.MonkeyPatch
):
    rig.store(*(view(hours * 60 + minute) for hours in (0, 2) for minute in range(5)))
    whole = reports.visitor_history("site", "anna", OF_DAY.period, 100)
    assert (len(whole.visits), whole.is_cut) == (2, False)
    monkeypatch.setattr("analytics.reports.engine.MOST_PAST_EVENTS", 5)
    cut = reports.visitor_history("site", "anna", OF_DAY.period, 100)
    assert (cut.visits, cut.is_cut) == (whole.visits[:1], True)


def test_a_query_keeps_the_files_of_its_rows_until_it_has_read_them(
    rig: Rig, reports: Reports, monkeypatch: pytest.MonkeyPatch
):
    """Derived rows that do not fit into memory are in a file, which is removed when nothing refers to it."""
    monkeypatch.setattr(snapshot_reader, "IN_MEMORY", 0)
    monkeypatch.setattr(reports.reader, "_seams_on_disk", SizedCache(0))
    for each in (view(0), view(1), view(50, "bob")):
        rig.store(each)
    assert reports.answer(replace(OF_DAY, metrics=("visitors", "visits"))).rows[0].metrics == (2, 2)
    assert reports.journeys(OF_DAY, "/").following == ()
    assert reports.write_places(OF_DAY, rig.segments.workplace.unused(".parquet")) is None


def test_an_invalid_pattern_is_refused_with_its_place(reports: Reports):
    wrong = Condition("matches", "event:page", ("(",), place="#/filters/0/2/0")
    with pytest.raises(InvalidQuery) as error:
        reports.answer(replace(OF_DAY, filters=(wrong,)))
    assert error.value.pointer == "#/filters/0/2/0"


def test_if_too_many_fresh_events_arrived_the_answer_says_as_of_when_it_is(rig: Rig, reports: Reports):
    rig.store(view(0), view(1, "ben"))
    rig.builder.build("site", "hour", interval_of("hour", as_ms(NOON)))
    rig.store(*(view(minute, "carl") for minute in range(2, 22)))
    few = replace_most_fresh(reports, 5)
    answer = few.answer(OF_DAY)
    assert answer.as_of == rig.dirty.of_site("site")[0].since
    assert answer.rows[0].metrics == (3, 2 + 5), "what is in segments, and the newest of what is not"
    assert reports.answer(OF_DAY).as_of is None
    assert reports.answer(OF_DAY).rows[0].metrics == (3, 22)


def replace_most_fresh(reports: Reports, most_fresh: int) -> Reports:
    return Reports(reports.reader, reports.imports, reports.connect, time_limit=30, most_fresh=most_fresh)


def test_countries_and_regions_have_the_names_that_pycountry_has():
    for found, known, code in (
        (_countries(), pycountry.countries, "alpha_2"),
        (_regions(), pycountry.subdivisions, "code"),
    ):
        assert dict(zip(*found, strict=True)) == {getattr(each, code): each.name for each in known}
