"""What the tests of notifications share: a clock that they set, and rules in the store."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from pymongo.database import Database
from redis import Redis

from analytics.events.schema import load_event
from analytics.notifications.checker import RuleChecker
from analytics.notifications.measurements import Measurements
from analytics.notifications.message_writer import MessageWriter
from analytics.notifications.rule import Rule
from analytics.notifications.rule_schema import load_rule
from analytics.notifications.store import NotificationStore
from analytics.sites.schema import load_site
from config.services import Services
from tests.support.services import NOW

SITE = {"timezone": "UTC", "goals": [{"event_type": "signup"}]}


class Time:
    """The time, which a test sets."""

    now = NOW

    def __call__(self) -> datetime:
        return self.now

    def passes(self, **length: float) -> None:
        self.now += timedelta(**length)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def store(services: Services) -> NotificationStore:
    services.sites.put(load_site("shop", SITE))
    return NotificationStore(services.database, services.sites, can_mail=True)


@pytest.fixture
def writer(services: Services) -> MessageWriter:
    return MessageWriter(services.accounts, "https://stats.example.com/", "en")


@pytest.fixture
def checker(services: Services, store: NotificationStore, writer: MessageWriter, time: Time) -> RuleChecker:
    measurements = Measurements(services.events, services.ledger, services.journal, services.brief_reports, time)
    return RuleChecker(store, services.sites, measurements, writer, time)


@pytest.fixture
def add(store: NotificationStore, time: Time) -> Callable[..., Rule]:
    def add(kind: str, **more: Any) -> Rule:
        given = {"site_id": "shop", "channel": "email", "target": "ann@example.com"} | more
        return store.add(load_rule({"kind": kind, **given}, time()))

    return add


@pytest.fixture
def happen(services: Services) -> Callable[..., None]:
    """Stores `count` events of the shop, a second apart, that end at `moment`."""

    def happen(count: int, moment: datetime, **fields: Any) -> None:
        bodies = [
            {"site_id": "shop", "event_type": "pageview", "user_id": f"{n}", "path": "/", **fields}
            | {"timestamp": (moment - timedelta(seconds=n + 1)).isoformat()}
            for n in range(count)
        ]
        services.events.store([("0-1", load_event(body, moment)) for body in bodies], moment)

    return happen


@pytest.fixture
def notifications(database: Database[dict[str, Any]], redis: Redis) -> Callable[[], list[str]]:
    """The subjects of all notifications, the oldest first."""
    return lambda: [each["subject"] for each in database["notifications"].find().sort("created_at")]
