"""The reporting app: HTTP out."""

from flask import Flask

from analytics.stats import StatsReader
from config.settings import Settings
from report_app.stats import stats_blueprint
from web.app import new_app


def create_app(settings: Settings, stats: StatsReader) -> Flask:
    app = new_app(__name__, {"mongodb": stats.check}, settings.max_body_bytes)
    app.register_blueprint(stats_blueprint(stats))
    return app
