"""The periods in which rules notify once, and when a summary is due."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from analytics.notifications.calendar import current_period, period_before, summarized_period
from analytics.notifications.rule import RulePeriod

BERLIN, UTC_ZONE = ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")


def at(text: str, zone: ZoneInfo = UTC_ZONE) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


@pytest.mark.parametrize(
    ("grain", "moment", "days"),
    [
        ("day", "2026-11-22T23:30", ("2026-11-23", "2026-11-23")),  # in Berlin it is the next day
        ("week", "2026-11-22T22:30", ("2026-11-16", "2026-11-22")),
        ("week", "2026-11-22T23:30", ("2026-11-23", "2026-11-29")),
        ("month", "2026-12-31T22:30", ("2026-12-01", "2026-12-31")),
        ("month", "2026-12-31T23:30", ("2027-01-01", "2027-01-31")),
        ("month", "2028-02-10T00:00", ("2028-02-01", "2028-02-29")),
    ],
)
def test_a_period_is_of_the_sites_zone(grain: RulePeriod, moment: str, days: tuple[str, str]):
    period = current_period(grain, at(moment), BERLIN)
    assert (period.first_day().isoformat(), period.last_day().isoformat()) == days
    assert period.start <= at(moment) < period.end


@pytest.mark.parametrize(
    ("moment", "first_day"),
    [
        ("2026-11-23T05:59", "2026-11-09"),  # Monday: the summary of the week before is not due yet
        ("2026-11-23T06:00", "2026-11-16"),
        ("2026-11-29T23:59", "2026-11-16"),
    ],
)
def test_the_summary_of_a_week_is_due_on_monday_at_six(moment: str, first_day: str):
    assert summarized_period("week", at(moment, BERLIN), BERLIN).first_day().isoformat() == first_day


def test_the_summary_of_a_month_is_due_on_its_first_day_at_six():
    assert summarized_period("month", at("2026-03-01T05:00"), UTC_ZONE).first_day().isoformat() == "2026-01-01"
    assert summarized_period("month", at("2026-03-01T06:00"), UTC_ZONE).first_day().isoformat() == "2026-02-01"


def test_the_period_before_a_change_of_the_clocks_has_whole_days():
    week = current_period("week", at("2026-03-29T12:00"), BERLIN)
    assert [week.days(), period_before("week", week).days()] == [7, 7]
    assert period_before("week", week).end == week.start
