"""Local time of every zone in tzdata, compared with zoneinfo, which knows offsets but not their changes."""

import time
from bisect import bisect_right
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.interval import DAY, HOUR, QUARTER, Interval, as_datetime, as_ms
from analytics.queries import local_time
from analytics.queries.local_time import LocalClock, bucket_of, label, offsets, time_labels
from analytics.queries.query import Grain, Period, of_days

ZONES = sorted(available_timezones())
EARLIEST, LATEST = as_ms(datetime(1970, 1, 1, tzinfo=UTC)), as_ms(datetime(9999, 1, 1, tzinfo=UTC))
# Most moments are near a change of some zone's offset. The others are spread evenly over all years.
MOMENTS = st.one_of(st.integers(EARLIEST, as_ms(datetime(2110, 1, 1, tzinfo=UTC))), st.integers(EARLIEST, LATEST - 1))


def offset_at(ms: int, zone: ZoneInfo) -> int:
    return (as_datetime(ms).astimezone(zone).utcoffset() or timedelta(0)) // timedelta(milliseconds=1)


@settings(max_examples=600, deadline=None)
@given(zone=st.sampled_from(ZONES), moments=st.lists(MOMENTS, min_size=2, max_size=5), near=st.integers(-2, 2))
def test_every_moment_of_every_zone_has_zoneinfo_s_offset(zone: str, moments: list[int], near: int):
    info = ZoneInfo(zone)
    whole = Interval(min(moments), max(moments) + 1)
    changes = offsets(info, whole)
    starts = [when for when, _ in changes]
    assert starts == sorted(set(starts))
    # Adds the moments around some of the changes.
    around = [when + near for when in starts[1 :: max(1, len(starts) // 20)]]
    for moment in [*moments, *(m for m in around if whole.start <= m < whole.end)]:
        assert changes[bisect_right(starts, moment) - 1][1] == offset_at(moment, info), (zone, as_datetime(moment))


@pytest.mark.parametrize("zone", ["Africa/Casablanca", "Asia/Gaza", "Africa/Freetown", "America/Cambridge_Bay"])
def test_no_change_of_offset_is_missed_between_two_samples(zone: str, monkeypatch: pytest.MonkeyPatch):
    """Casablanca's clocks go back for a month and forward again. Cambridge Bay changed twice within seven days."""
    century = Interval(as_ms(datetime(1939, 1, 1, tzinfo=UTC)), as_ms(datetime(2090, 1, 1, tzinfo=UTC)))
    found = offsets(ZoneInfo(zone), century)
    local_time._sampled.cache_clear()
    monkeypatch.setattr(local_time, "_STEP", timedelta(hours=6))
    assert offsets(ZoneInfo(zone), century) == found
    local_time._sampled.cache_clear()


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Africa/Casablanca", "Pacific/Apia", "Australia/Lord_Howe"])
def test_a_period_of_eight_thousand_years_is_planned_quickly(zone: str):
    """It took 11 s, in which no other thread of the process ran."""
    whole = of_days(date(1970, 1, 1), date(9998, 12, 31), ZoneInfo(zone))
    began = time.process_time()
    clock = LocalClock(
        whole, Interval(as_ms(datetime(2026, 1, 1, tzinfo=UTC)), as_ms(datetime(2027, 1, 1, tzinfo=UTC)))
    )
    assert time.process_time() - began < 1
    assert len(clock.changes) <= 5, "the statement has the offsets of the events that there are"


def labels_hour_by_hour(period: Period, grain: Grain) -> list[str]:
    found = set()
    for ms in range(as_ms(period.start), as_ms(period.end), HOUR // 4):
        local = as_datetime(ms).astimezone(period.zone)
        day = local.date()
        found.add({
            "hour": f"{day} {local.hour:02}:00:00", "day": f"{day}",
            "week": f"{day - timedelta(days=day.weekday())}", "month": f"{day.replace(day=1)}",
        }[grain])  # fmt: skip
    return sorted(found)


@settings(max_examples=150, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    start=st.integers(0, as_ms(datetime(2100, 1, 1, tzinfo=UTC)) // DAY),
    days=st.integers(1, 40),
    grain=st.sampled_from(["hour", "day", "week", "month"]),
)
def test_labels_are_those_of_each_quarter_of_an_hour(zone: str, start: int, days: int, grain: Grain):
    begin = as_datetime(start * DAY)
    period = Period(begin, begin + timedelta(days=days), ZoneInfo(zone))
    assert time_labels(period, grain) == labels_hour_by_hour(period, grain)


USUAL_ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Auckland",
         "America/Sao_Paulo", "Asia/Kathmandu", "Africa/Monrovia"]  # fmt: skip


@pytest.mark.parametrize("zone", USUAL_ZONES)
@pytest.mark.parametrize("grain", ["hour", "day", "week", "month"])
def test_a_label_names_its_bucket(zone: str, grain: Grain):
    for first in (date(2026, 3, 1), date(2028, 2, 27), date(1971, 12, 30)):
        labels = time_labels(of_days(first, first + timedelta(days=40), ZoneInfo(zone)), grain)
        assert [label(bucket_of(text, grain), grain) for text in labels] == labels


def test_quarters_are_read_instead_of_times_if_they_suffice():
    """Monrovia was 44:30 behind UTC until 1972."""
    assert LocalClock(of_days(date(2026, 3, 1), date(2026, 4, 1), ZoneInfo("Asia/Kathmandu"))).column == "quarter"
    assert LocalClock(of_days(date(1971, 3, 1), date(1971, 4, 1), ZoneInfo("Africa/Monrovia"))).column == "occurred"
    start = datetime(2026, 3, 1, 0, 1, tzinfo=UTC)
    assert LocalClock(Period(start, start + timedelta(days=1), ZoneInfo("UTC"))).column == "occurred"


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
    assert LocalClock(of_days(day - timedelta(days=1), day, ZoneInfo(zone))).unit == unit
