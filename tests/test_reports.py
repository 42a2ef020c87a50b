"""The limits of a question: time, memory, company; and what it says where the numbers are not all there yet."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from pymongo.database import Database

from analytics.answer import Refused
from analytics.query import Condition, Query, of_days
from analytics.query_schema import InvalidQuery
from analytics.reports import Reports
from analytics.stretch import as_ms, stretch_of
from tests.test_segments import Rig

DAY = date(2026, 10, 5)
NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)
OF_DAY = Query("site", ("visitors", "pageviews"), of_days(DAY, DAY, ZoneInfo("UTC")))


@pytest.fixture
def rig(database: Database[dict[str, Any]], tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(database, tmp_path)
    yield rig
    rig.connection.close()


@pytest.fixture
def reports(rig: Rig) -> Reports:
    return Reports(rig.reader, rig.connection, time_limit=30, most_fresh=1_000)


def view(minutes: float, user_id: str = "anna") -> dict[str, Any]:
    at = NOON + timedelta(minutes=minutes)
    return {"_id": uuid4(), "site_id": "site", "event_type": "page_view", "timestamp": at, "user_id": user_id}


def test_a_question_that_takes_too_long_is_refused_and_the_next_is_answered(rig: Rig, reports: Reports):
    rig.store(view(0))
    hurried = Reports(rig.reader, rig.connection, time_limit=0.2, most_fresh=1_000)
    with pytest.raises(Refused) as refused, hurried._asking("site") as connection:
        connection.execute("SELECT count(*) FROM range(1_000_000_000_000) t(a)").fetchall()
    assert refused.value.code == "time_limit"
    assert "0.2 s" in refused.value.message
    assert reports.answer(OF_DAY).rows[0].metrics == (1, 1)


def test_a_question_that_needs_too_much_memory_is_refused(rig: Rig, reports: Reports):
    with pytest.raises(Refused) as refused, reports._asking("site") as connection:
        connection.execute("SELECT list(a::VARCHAR || 'x' ORDER BY a) FROM range(50_000_000) t(a)").fetchall()
    assert refused.value.code == "memory_limit"


def test_more_questions_than_may_be_answered_at_once_wait_and_are_then_refused(rig: Rig):
    reports = Reports(rig.reader, rig.connection, time_limit=30, most_fresh=1_000, at_once=1, patience=0.2)
    with reports._asking("site"), pytest.raises(Refused) as refused:
        reports.answer(OF_DAY)
    assert refused.value.code == "busy"
    assert reports.answer(OF_DAY).rows[0].metrics == (0, 0)


def test_a_pattern_that_is_none_is_refused_at_its_place(reports: Reports):
    wrong = Condition("matches", "event:page", ("(",), place="#/filters/0/2/0")
    with pytest.raises(InvalidQuery) as error:
        reports.answer(replace(OF_DAY, filters=(wrong,)))
    assert error.value.pointer == "#/filters/0/2/0"


def test_where_too_much_came_in_to_be_read_the_answer_says_as_of_when(rig: Rig, reports: Reports):
    rig.store(view(0), view(1, "ben"))
    rig.builder.build("site", "hour", stretch_of("hour", as_ms(NOON)))
    rig.store(*(view(minute, "carl") for minute in range(2, 22)))
    few = replace_most_fresh(reports, 5)
    answer = few.answer(OF_DAY)
    assert answer.as_of == rig.dirty.of_site("site")[0].since
    assert answer.rows[0].metrics == (3, 2 + 5), "what is in segments, and the newest of what is not"
    assert reports.answer(OF_DAY).as_of is None
    assert reports.answer(OF_DAY).rows[0].metrics == (3, 22)


def replace_most_fresh(reports: Reports, most_fresh: int) -> Reports:
    return Reports(reports.reader, reports.database, time_limit=30, most_fresh=most_fresh)
