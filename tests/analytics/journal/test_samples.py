"""Samples of the journal, and the rates between them."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from pymongo.database import Database
from redis import Redis

from analytics.events.schema import load_event
from analytics.journal import samples as samples_module
from analytics.journal.journal import Journal, Line
from analytics.journal.ledger import Ledger
from analytics.journal.samples import SAMPLES_KEY, Sample, Samples, rates
from analytics.journal.totals import Totals
from config.services import Services
from config.settings import Settings
from footfall.embedded_servers import pick_port

START = datetime(2026, 11, 22, 23, 55, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TODAY, TOMORROW = date(2026, 11, 22), date(2026, 11, 23)


def sample(minute: float, accepted: int, *, day: date = TODAY, **more: Any) -> Sample:
    known = {"waiting": 0, "lag": 0.0, "totals": {day: Totals(accepted=accepted)}} | more
    return Sample(START + minute * MINUTE, **known)


def accepted(found: list[Sample], minutes: int = 10, step: timedelta = MINUTE) -> list[float | None]:
    return [part.per_minute("accepted") for part in rates(found, START, step, minutes)]


def test_a_rate_is_the_difference_of_two_samples():
    found = [sample(0, 100), sample(1, 160), sample(2.5, 190), sample(3, 190)]
    assert accepted(found, 4) == [None, 60, 20, 0]
    assert accepted(found, 2, 2 * MINUTE) == [60, 15]


def test_a_new_day_begins_at_zero_and_the_day_before_goes_on():
    at_midnight = {TODAY: Totals(accepted=110), TOMORROW: Totals(accepted=7)}
    assert accepted([sample(4.5, 100), sample(5.5, 0, totals=at_midnight)], 6)[5] == 17


def test_after_a_gap_or_without_the_ledger_the_rate_is_not_known():
    found = [sample(0, 10), sample(6, 100), sample(7, 0, totals=None, waiting=5, lag=3.5), sample(8, 130)]
    parts = rates(found, START, MINUTE, 9)
    assert [part.per_minute("accepted") for part in parts] == [None] * 9
    assert (parts[7].waiting, parts[7].lag) == (5, 3.5)
    assert parts[5].waiting is None


@pytest.fixture
def samples(redis: Redis, journal: Journal, database: Database[dict[str, Any]]) -> Samples:
    return Samples(redis, journal, Ledger(redis, database), lambda: datetime.now(UTC))


def test_a_sample_has_what_waits_and_the_totals_of_two_days(samples: Samples, journal: Journal):
    now = datetime.now(UTC)
    event = {"site_id": "shop", "event_type": "pageview", "path": "/"}
    journal.append([Line.of(load_event(event, now)), Line.of(load_event(event, now - timedelta(days=1)))])
    assert samples.take() == 2
    (found,) = samples.since(now - MINUTE)
    assert found.waiting == 2
    assert 0 <= found.lag < 60
    assert found.totals == {
        now.date(): Totals(accepted=1),
        now.date() - timedelta(days=1): Totals(accepted=1),
    }
    assert samples.since(now + MINUTE) == []


def test_samples_have_a_limit(samples: Samples, redis: Redis, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(samples_module, "MOST_SAMPLES", 3)
    for _ in range(5):
        samples.take()
    assert redis.xlen(SAMPLES_KEY) == 3


@pytest.mark.usefixtures("usual_limits")
def test_without_mongodb_a_sample_has_the_journal_only(settings: Settings, redis: Redis, journal: Journal):
    nowhere = replace(settings, mongodb_uri=f"mongodb://127.0.0.1:{pick_port(0)}/footfall")
    services = Services(nowhere, patience=0.2)
    assert services.samples.take() == 0
    (found,) = services.samples.since(datetime.now(UTC) - MINUTE)
    assert (found.waiting, found.totals) == (0, None)
    services.close()


def test_the_last_hour_day_and_week_end_now(samples: Samples):
    samples.take()
    for length in ("hour", "day", "week"):
        parts = samples.recent(length)
        assert parts[-1].waiting == 0
        assert {part.waiting for part in parts[:-1]} == {None}
