"""The text of a statement contains no user input, and what is asked of DuckDB stays within limits."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.interval import QUARTER
from analytics.queries.local_time import bucket_of, label, time_labels
from analytics.queries.query import PROPS, And, Condition, Done, Filter, Not, Or, Period, Query, of_days
from analytics.reports import exploration_sql
from analytics.reports.query_sql import LocalClock, Sql, statement
from analytics.sites.site import Goal
from tests.support.streams import funnels, queries, streams

MARK = "Zq'7\";--"


def rows(columns: Any, *, openings: bool = False) -> Sql:
    return Sql(f"SELECT {', '.join(columns)} FROM somewhere")


def marked(wanted: Filter) -> Filter:
    match wanted:
        case And(inner):
            return And(tuple(map(marked, inner)))
        case Or(inner):
            return Or(tuple(map(marked, inner)))
        case Not(one):
            return Not(marked(one))
        case Done(one):
            return Done(marked(one))
        case Condition():
            values = tuple(MARK + each for each in wanted.values)
            return replace(wanted, values=values, dimension=marked_dimension(wanted.dimension))


def marked_dimension(name: str) -> str:
    return name + MARK if name.startswith(PROPS) else name


def marked_query(query: Query) -> Query:
    """The same query with the mark in all texts that a user may write."""
    return replace(
        query,
        site_id=MARK + query.site_id,
        dimensions=tuple(map(marked_dimension, query.dimensions)),
        filters=tuple(map(marked, query.filters)),
        order_by=tuple(replace(order, key=marked_dimension(order.key)) for order in query.order_by),
        goals=tuple(
            Goal(MARK + g.name, g.event_type and MARK + g.event_type, g.page and MARK + g.page, g.currency and MARK)
            for g in query.goals
        ),
    )


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_text_of_a_user_becomes_sql(data: st.DataObject):
    stream = data.draw(streams())
    query = marked_query(data.draw(queries(stream)))
    assert MARK not in statement(query, rows).text
    query, steps, window = data.draw(funnels(stream))
    asked = marked_query(query)
    assert MARK not in exploration_sql.funnel(asked, rows, tuple(map(marked, steps)), window).text
    assert MARK not in exploration_sql.retention(asked, rows, "week").text
    assert MARK not in exploration_sql.views_of(asked, rows, MARK).text
    assert MARK not in exploration_sql.neighbours(asked, rows).text


ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Auckland",
         "America/Sao_Paulo", "Asia/Kathmandu", "Africa/Monrovia"]  # fmt: skip


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("grain", ["hour", "day", "week", "month"])
def test_a_label_names_its_bucket(zone: str, grain: Any):
    for first in (date(2026, 3, 1), date(2028, 2, 27), date(1971, 12, 30)):
        labels = time_labels(of_days(first, first + timedelta(days=40), ZoneInfo(zone)), grain)
        assert [label(bucket_of(text, grain), grain) for text in labels] == labels


def test_quarters_are_read_instead_of_times_if_they_suffice():
    """Monrovia was 44:30 behind UTC until 1972."""
    assert LocalClock.of(of_days(date(2026, 3, 1), date(2026, 4, 1), ZoneInfo("Asia/Kathmandu"))).column == "quarter"
    assert LocalClock.of(of_days(date(1971, 3, 1), date(1971, 4, 1), ZoneInfo("Africa/Monrovia"))).column == "occurred"
    start = datetime(2026, 3, 1, 0, 1, tzinfo=UTC)
    assert LocalClock.of(Period(start, start + timedelta(days=1), ZoneInfo("UTC"))).column == "occurred"


@pytest.mark.parametrize(
    ("zone", "day", "unit"),
    [
        ("Antarctica/Troll", date(2025, 10, 26), 1),  # from 03:00 to 01:00
        ("Antarctica/Casey", date(2010, 3, 5), 1),  # from 02:00 to the day before
        ("Australia/Lord_Howe", date(2026, 4, 5), QUARTER),
        ("America/Havana", date(2025, 11, 2), QUARTER),  # from 01:00 to 00:00
    ],
)
def test_the_unit_of_local_time_is_a_millisecond_if_clocks_go_back_by_more_than_an_hour(
    zone: str, day: date, unit: int
):
    assert LocalClock.of(of_days(day - timedelta(days=1), day, ZoneInfo(zone))).unit == unit
