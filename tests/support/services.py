"""Shared by the tests of both apps: the time, a key, the services of the reporting app, and stored events."""

from datetime import UTC, datetime
from typing import Any

from pymongo.database import Database
from werkzeug.routing import Rule

from analytics.access.store import ApiKeyStore
from analytics.events.schema import load_event
from analytics.events.store import EventStore
from analytics.journal.dead_letters import DeadLetterStore
from analytics.journal.journal import Journal
from analytics.journal.ledger import Ledger
from analytics.privacy.eraser import make_eraser
from analytics.reports.engine import make_reports
from analytics.reports.realtime import RealtimeReader
from analytics.segments.engine import make_segments
from analytics.sites.store import SiteStore
from config.clients import make_redis
from config.settings import Settings
from report_app import Services

ADMIN_KEY = "a-key-for-tests-only"
NOW = datetime(2026, 11, 22, 12, 0, 0, 123000, tzinfo=UTC)


class WakeUps:
    """Replaces the sender of wake-ups, and counts its calls: these tests run no worker."""

    def __init__(self) -> None:
        self.times = 0

    def ask(self) -> None:
        self.times += 1


def is_of_page(rule: Rule) -> bool:
    """Whether a route is a page or a part of one. A sign-in protects it, and no key (tests/report_app/pages)."""
    return rule.endpoint.partition(".")[0] in ("pages", "page_access", "assets")


def make_services(settings: Settings, database: Database[dict[str, Any]], journal: Journal) -> Services:
    """The services of the reporting app, all of them real. The time is always NOW."""
    return Services(
        reports=make_reports(settings, database),
        realtime=RealtimeReader(database, 5, lambda: NOW),
        events=EventStore(database),
        sites=SiteStore(database),
        api_keys=ApiKeyStore(database, lambda: NOW),
        dead_letters=DeadLetterStore(database),
        journal=journal,
        ledger=Ledger(make_redis(settings), database),
        eraser=make_eraser(settings, database, make_segments(settings, database)),
        clock=lambda: NOW,
    )


def tell(database: Database[dict[str, Any]], *bodies: dict[str, Any]) -> None:
    """Stores events as the worker does. `at` is short for a timestamp in November 2026."""
    events = [{"site_id": "shop", "event_type": "pageview", "user_id": "ann", **body} for body in bodies]
    for event in events:
        day, time = event.pop("at").split(" ")
        event["timestamp"] = f"2026-11-{day}T{time}Z"
    EventStore(database).store([("0-1", load_event(event, NOW)) for event in events], NOW)
