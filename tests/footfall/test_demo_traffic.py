"""The traffic of the demo has weekdays, nights, a launch, campaigns, bots and revenue. Pure."""

from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from itertools import chain, pairwise
from statistics import mean
from typing import Any

import pytest

from footfall.demo_traffic import DEMO_SITES, DemoSite, day_events

LAUNCH = date(2026, 11, 11)  # a Wednesday
DAYS = [date(2026, 11, 2) + timedelta(days=n) for n in range(28)]
UNTIL = datetime(2026, 11, 30, tzinfo=UTC)


def traffic(site: DemoSite) -> dict[date, list[dict[str, Any]]]:
    return {day: list(day_events(site, day, len(DAYS), UNTIL, LAUNCH)) for day in DAYS}


@pytest.mark.parametrize("site", DEMO_SITES, ids=lambda site: site.site_id)
def test_days_and_hours_differ_as_those_of_real_sites_do(site: DemoSite):
    events = traffic(site)
    usual = {day: len(found) for day, found in events.items() if day != LAUNCH}
    weekday = mean(count for day, count in usual.items() if day.weekday() < 5)
    weekend = mean(count for day, count in usual.items() if day.weekday() >= 5)
    assert weekend / weekday == pytest.approx(site.weekend, rel=0.2)
    assert len(events[LAUNCH]) > 2 * weekday
    times = (datetime.fromisoformat(each["timestamp"]) for found in events.values() for each in found)
    hours = Counter(time.astimezone(site.zone).hour for time in times)
    assert sum(hours[hour] for hour in range(6)) < sum(hours[hour] for hour in range(9, 15)) / 4


@pytest.mark.parametrize("site", DEMO_SITES, ids=lambda site: site.site_id)
def test_there_are_bots_campaigns_and_goals(site: DemoSite):
    events = [each for found in traffic(site).values() for each in found]
    bots = [each for each in events if "bot" in each["user_agent"].lower()]
    assert 0.01 < len(bots) / len(events) < 0.15
    assert any("utm_campaign=" in each["url"] for each in events)
    assert {goal["event_type"] for goal in site.settings["goals"] if "event_type" in goal} <= {
        each["event_type"] for each in events
    }
    assert any("revenue" in each for each in events) is any("currency" in goal for goal in site.settings["goals"])


@pytest.mark.parametrize("site", DEMO_SITES, ids=lambda site: site.site_id)
def test_some_visitors_come_again_on_the_same_day(site: DemoSite):
    times = defaultdict(list)
    for event in chain.from_iterable(traffic(site).values()):
        times[event["ip"]].append(datetime.fromisoformat(event["timestamp"]))
    breaks = [any(b - a > timedelta(minutes=30) for a, b in pairwise(sorted(each))) for each in times.values()]
    assert 0.1 < mean(breaks) < 0.25


def test_a_day_has_the_same_events_each_time():
    site = DEMO_SITES[0]
    assert traffic(site) == traffic(site)
