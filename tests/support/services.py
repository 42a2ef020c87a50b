"""Shared by the tests of both apps: the time, a key, the services of a process, and stored events."""

from datetime import UTC, datetime
from typing import Any

from pymongo.database import Database

from analytics.events.schema import load_event
from analytics.events.store import EventStore
from config.services import Services
from config.settings import Settings

ADMIN_KEY = "a-key-for-tests-only"
NOW = datetime(2026, 11, 22, 12, 0, 0, 123000, tzinfo=UTC)


class Clock:
    """A monotonic clock that a test sets, in seconds."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class WakeUps:
    """Replaces the sender of wake-ups, and counts its calls: these tests run no worker."""

    def __init__(self) -> None:
        self.times = 0

    def ask(self) -> None:
        self.times += 1


def make_services(settings: Settings, **parts: object) -> Services:
    """The services of a process, all of them real. The time is always NOW.

    `parts`: by name, parts that the test has already.
    """
    services = Services(settings, now=lambda: NOW)
    for name, part in parts.items():
        setattr(services, name, part)
    return services


def tell(database: Database[dict[str, Any]], *bodies: dict[str, Any]) -> None:
    """Stores events as the worker does. `at` is short for a timestamp in November 2026."""
    events = [{"site_id": "shop", "event_type": "pageview", "user_id": "ann", **body} for body in bodies]
    for event in events:
        day, time = event.pop("at").split(" ")
        event["timestamp"] = f"2026-11-{day}T{time}Z"
    EventStore(database).store([("0-1", load_event(event, NOW)) for event in events], NOW)
