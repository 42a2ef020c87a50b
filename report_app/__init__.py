"""The reporting app: HTTP out."""

from flask import Flask

from analytics.dead_letters import DeadLetterStore
from analytics.journal import Journal
from analytics.stats import StatsReader
from config.settings import Settings
from report_app.dead_letters import dead_letters_blueprint
from report_app.stats import stats_blueprint
from web.app import new_app


def create_app(settings: Settings, stats: StatsReader, dead_letters: DeadLetterStore, journal: Journal) -> Flask:
    app = new_app(__name__, {"mongodb": stats.check}, settings.max_body_bytes)
    app.register_blueprint(stats_blueprint(stats))
    app.register_blueprint(dead_letters_blueprint(dead_letters, journal, settings.admin_key))
    return app
