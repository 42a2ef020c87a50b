"""Compared periods, by the clock and the calendar, also with clock changes and different lengths."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo.database import Database

from analytics.events.schema import load_event
from analytics.events.store import EventStore
from analytics.queries.comparison import counterparts
from analytics.queries.local_time import time_labels
from analytics.queries.periods import previous_period, year_before
from analytics.queries.query import Grain, Period, of_days
from analytics.sites.site import Site
from report_app import Services
from tests.support.services import NOW

ZONES = ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia", "America/Havana",
         "America/St_Johns", "Asia/Kathmandu", "Africa/Casablanca", "Antarctica/Troll"]  # fmt: skip


def days(first: str, last: str, zone: str = "UTC") -> Period:
    return of_days(date.fromisoformat(first), date.fromisoformat(last), ZoneInfo(zone))


def hours(day: str, *left_out: int) -> list[str]:
    return [f"{day} {hour:02}:00:00" for hour in range(24) if hour not in left_out]


@pytest.mark.parametrize(
    ("zone", "day", "before", "skipped", "skipped_before"),
    [
        ("Europe/Berlin", "2026-03-29", "2026-03-28", [2], []),
        ("Europe/Berlin", "2026-03-30", "2026-03-29", [], [2]),
        ("Europe/Berlin", "2026-10-25", "2026-10-24", [], []),  # 25 hours, of which two are called 2 h
        ("Europe/Berlin", "2026-10-26", "2026-10-25", [], []),
        ("Australia/Lord_Howe", "2026-10-04", "2026-10-03", [], []),  # from 2:00 to 2:30
        ("Australia/Lord_Howe", "2026-04-05", "2026-04-04", [], []),
        ("America/Sao_Paulo", "2017-10-15", "2017-10-14", [0], []),
        ("America/Sao_Paulo", "2017-10-16", "2017-10-15", [], [0]),
        ("America/Havana", "2026-03-08", "2026-03-07", [0], []),
        ("Antarctica/Troll", "2026-03-29", "2026-03-28", [1, 2], []),
    ],
)
def test_an_hour_is_compared_with_the_same_hour(
    zone: str, day: str, before: str, skipped: list[int], skipped_before: list[int]
):
    period = days(day, day, zone)
    other = days(before, before, zone)
    assert previous_period(period) == other
    found = counterparts(period, other, "hour")
    both = zip(hours(day, *skipped, *skipped_before), hours(before, *skipped, *skipped_before), strict=True)
    assert found == dict(both)


def test_hours_of_some_days_are_compared_day_by_day():
    found = counterparts(days("2026-03-28", "2026-03-30", "Europe/Berlin"), days("2026-03-25", "2026-03-27"), "hour")
    assert found["2026-03-30 14:00:00"] == "2026-03-27 14:00:00"
    assert len(found) == 71


def test_a_day_that_a_zone_skipped_shifts_no_other():
    """Apia had no 30 December 2011."""
    period, other = days("2011-12-29", "2012-01-02", "Pacific/Apia"), days("2011-12-24", "2011-12-28", "Pacific/Apia")
    assert previous_period(period) == other
    assert counterparts(period, other, "day") == {
        "2011-12-29": "2011-12-24",
        "2011-12-31": "2011-12-26",
        "2012-01-01": "2011-12-27",
        "2012-01-02": "2011-12-28",
    }
    after = days("2012-01-03", "2012-01-07", "Pacific/Apia")
    assert counterparts(after, days("2011-12-29", "2012-01-02", "Pacific/Apia"), "day") == {
        "2012-01-03": "2011-12-29",
        "2012-01-05": "2011-12-31",
        "2012-01-06": "2012-01-01",
        "2012-01-07": "2012-01-02",
    }


def test_a_bucket_that_the_other_period_lacks_is_compared_with_nothing():
    march, february = days("2026-03-01", "2026-03-31"), days("2026-02-01", "2026-02-28")
    found = counterparts(march, february, "day")
    assert found == {f"2026-03-{day:02}": f"2026-02-{day:02}" for day in range(1, 29)}
    assert len(counterparts(february, march, "day")) == 28
    assert counterparts(march, february, "month") == {"2026-03-01": "2026-02-01"}
    assert counterparts(march, february, "week") == {
        f"{date(2026, 2, 23) + timedelta(weeks=n)}": f"{date(2026, 1, 26) + timedelta(weeks=n)}" for n in range(5)
    }
    assert counterparts(days("2026-01-01", "2026-12-31"), days("2026-01-01", "2026-05-31"), "month") == {
        f"2026-{month:02}-01": f"2026-{month:02}-01" for month in range(1, 6)
    }


def test_a_year_is_compared_date_by_date():
    year = days("2028-01-01", "2028-12-31")
    found = counterparts(year, year_before(year), "day")
    assert found["2028-02-28"] == "2027-02-28"
    assert "2028-02-29" not in found
    assert found["2028-03-01"] == "2027-03-01"
    assert found["2028-12-31"] == "2027-12-31"
    after = days("2029-01-01", "2029-12-31")
    assert counterparts(after, year_before(after), "hour")["2029-03-01 14:00:00"] == "2028-03-01 14:00:00"
    assert counterparts(year, year_before(year, match_day_of_week=True), "day")["2028-03-01"] == "2027-03-03"
    weeks = counterparts(year, year_before(year), "week")
    assert (weeks["2027-12-27"], weeks["2028-12-25"]) == ("2026-12-28", "2027-12-27")


def test_times_of_a_day_are_compared_in_their_order():
    def from_to(first: str, last: str) -> Period:
        return Period(datetime.fromisoformat(first), datetime.fromisoformat(last), ZoneInfo("Europe/Berlin"))

    morning = from_to("2026-03-30T08:00:00Z", "2026-03-30T10:00:00Z")
    evening = from_to("2026-03-28T17:00:00Z", "2026-03-28T19:00:00Z")
    assert counterparts(morning, evening, "hour") == {
        "2026-03-30 10:00:00": "2026-03-28 18:00:00",
        "2026-03-30 11:00:00": "2026-03-28 19:00:00",
    }
    last_24_hours = from_to("2026-03-28T12:10:00Z", "2026-03-29T12:10:00Z")
    found = counterparts(last_24_hours, previous_period(last_24_hours), "hour")
    assert found["2026-03-28 23:00:00"] == "2026-03-27 23:00:00"
    assert found["2026-03-29 13:00:00"] == "2026-03-28 13:00:00"
    assert "2026-03-29 14:00:00" not in found, "the 24 hours before end at 13:10"


@settings(deadline=None)
@given(
    st.dates(date(1971, 1, 1), date(2037, 1, 1)), st.integers(0, 40), st.sampled_from(ZONES),
    st.sampled_from(["hour", "day", "week", "month"]), st.booleans(),
)  # fmt: skip
def test_hours_of_day_and_weekdays_are_compared_with_themselves(
    first: date, more: int, zone: str, grain: Grain, match: bool
):
    period = of_days(first, first + timedelta(days=more), ZoneInfo(zone))
    other = previous_period(period, match)
    found = counterparts(period, other, grain)
    assert set(found) <= set(time_labels(period, grain))
    assert set(found.values()) <= set(time_labels(other, grain))
    assert len(set(found.values())) == len(found)
    if grain == "hour":
        assert all(text[10:] == then[10:] for text, then in found.items())
    if match and grain == "day":
        assert all(date.fromisoformat(x).weekday() == date.fromisoformat(y).weekday() for x, y in found.items())


def test_over_http_14_h_is_compared_with_14_h(report: FlaskClient, services: Services, database: Database):
    services.sites.put(Site("shop", zone=ZoneInfo("Europe/Berlin")))
    for time in ("2026-03-28T13:30:00Z", "2026-03-28T22:30:00Z", "2026-03-29T12:30:00Z", "2026-03-29T21:30:00Z"):
        event = {"site_id": "shop", "event_type": "pageview", "timestamp": time}
        EventStore(database).store([("0-1", load_event(event, NOW))], NOW)
    body = {
        "site_id": "shop",
        "metrics": ["pageviews"],
        "date_range": ["2026-03-29", "2026-03-29"],
        "dimensions": ["time:hour"],
        "include": {"comparisons": {"mode": "previous_period"}, "time_labels": True},
    }
    results = report.post("/api/v2/query", json=body).json["results"]
    busy = {row["dimensions"][0][11:13]: row for row in results if row["metrics"] != [0]}
    assert [*busy] == ["14", "23"]
    for hour, row in busy.items():
        then = {"dimensions": [f"2026-03-28 {hour}:00:00"], "metrics": [1], "change": [0]}
        assert row["comparison"] == then
    table = report.post("/api/v2/query?format=csv", json=body).text.splitlines()
    assert "2026-03-29 14:00:00,1,1,0" in table
    body |= {"date_range": ["2026-03-30", "2026-03-30"]}
    assert report.post("/api/v2/query", json=body).json["results"][2]["comparison"] is None
    assert "2026-03-30 02:00:00,0,," in report.post("/api/v2/query?format=csv", json=body).text.splitlines()
