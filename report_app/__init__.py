"""The reporting app: HTTP out."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from flask import Flask
from prometheus_client import Metric

from analytics.dead_letters import DeadLetterStore, LetterFilter
from analytics.event_store import EventStore
from analytics.journal import Journal
from analytics.realtime import RealtimeReader
from analytics.reports import Reports
from analytics.sites import SiteStore
from config.metrics import dead_letter_gauge
from config.settings import Settings
from report_app.dead_letters import dead_letters_blueprint
from report_app.described import description
from report_app.errors import register_report_errors
from report_app.explorations import explorations_blueprint
from report_app.export import export_blueprint
from report_app.query import query_blueprint
from report_app.sites import sites_blueprint
from report_app.stats import stats_blueprint
from report_app.visitors import visitors_blueprint
from web.app import new_app
from web.auth import needs_report_key, needs_report_key_always
from web.docs import docs_blueprint
from web.metrics import metrics_blueprint


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Services:
    """What the app asks. `clock`: aware."""

    reports: Reports
    realtime: RealtimeReader
    events: EventStore
    sites: SiteStore
    dead_letters: DeadLetterStore
    journal: Journal
    clock: Callable[[], datetime] = now


def create_app(settings: Settings, services: Services) -> Flask:
    reports, sites, clock, letters = services.reports, services.sites, services.clock, services.dead_letters
    keys = settings.report_key, settings.admin_key
    auth, of_persons = needs_report_key(*keys), needs_report_key_always(*keys)
    app = new_app(__name__, {"mongodb": reports.check}, settings.max_body_bytes, settings.trusted_proxies)
    register_report_errors(app)
    app.register_blueprint(query_blueprint(reports, sites, auth, clock))
    app.register_blueprint(explorations_blueprint(reports, sites, auth, clock))
    app.register_blueprint(stats_blueprint(reports, services.realtime, sites, auth, clock))
    app.register_blueprint(visitors_blueprint(reports, sites, of_persons, clock))
    app.register_blueprint(export_blueprint(services.events, reports, sites, of_persons, clock))
    app.register_blueprint(sites_blueprint(sites, settings.admin_key))
    app.register_blueprint(dead_letters_blueprint(letters, services.journal, settings.admin_key))
    app.register_blueprint(metrics_blueprint({"mongodb": lambda: [_count(letters)]}, settings.admin_key))
    app.register_blueprint(docs_blueprint(description))
    return app


def _count(dead_letters: DeadLetterStore) -> Metric:
    by_reason: Counter[str] = Counter()
    for row in dead_letters.count(LetterFilter()):
        by_reason[row.reason] += row.count
    return dead_letter_gauge(by_reason.items())
