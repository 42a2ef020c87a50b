"""What gunicorn serves. Imported after the fork; connects with the first query."""

from analytics.dead_letters import DeadLetterStore
from analytics.journal import make_journal
from analytics.sites import SiteStore
from analytics.stats import StatsReader
from config.clients import make_database
from config.logs import configure_logging
from config.settings import load_settings
from report_app import create_app

settings = load_settings()
configure_logging(settings)
database = make_database(settings)
stats = StatsReader(database, settings.stats_time_limit)
app = create_app(settings, stats, DeadLetterStore(database), make_journal(settings), SiteStore(database))
