"""What gunicorn serves. Imported after the fork; connects with the first query."""

from analytics.stats import StatsReader
from config.clients import make_database
from config.logs import configure_logging
from config.settings import load_settings
from report_app import create_app

settings = load_settings()
configure_logging(settings)
app = create_app(settings, StatsReader(make_database(settings), settings.stats_time_limit))
