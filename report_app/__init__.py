"""The reporting app: HTTP out."""

from collections import Counter

from flask import Flask
from prometheus_client import Metric

from analytics.dead_letters import DeadLetterStore, LetterFilter
from analytics.journal import Journal
from analytics.sites import SiteStore
from analytics.stats import StatsReader
from config.metrics import dead_letter_gauge
from config.settings import Settings
from report_app.dead_letters import dead_letters_blueprint
from report_app.sites import sites_blueprint
from report_app.stats import stats_blueprint
from web.app import new_app
from web.auth import needs_report_key
from web.metrics import metrics_blueprint


def create_app(
    settings: Settings, stats: StatsReader, dead_letters: DeadLetterStore, journal: Journal, sites: SiteStore
) -> Flask:
    app = new_app(__name__, {"mongodb": stats.check}, settings.max_body_bytes)
    app.register_blueprint(stats_blueprint(stats, needs_report_key(settings.report_key, settings.admin_key)))
    app.register_blueprint(sites_blueprint(sites, settings.admin_key))
    app.register_blueprint(dead_letters_blueprint(dead_letters, journal, settings.admin_key))
    app.register_blueprint(metrics_blueprint({"mongodb": lambda: [_count(dead_letters)]}, settings.admin_key))
    return app


def _count(dead_letters: DeadLetterStore) -> Metric:
    by_reason: Counter[str] = Counter()
    for row in dead_letters.count(LetterFilter()):
        by_reason[row.reason] += row.count
    return dead_letter_gauge(by_reason.items())
