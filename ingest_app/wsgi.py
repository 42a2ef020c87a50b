"""The WSGI app that gunicorn serves. Imported after the fork. It connects at the first hit."""

from analytics.journal.journal import make_journal
from config.logs import configure_logging
from config.settings import load_settings
from ingest_app import create_app
from ingest_app.collector import make_collector
from tasks.events import WakeUps

settings = load_settings()
configure_logging(settings)
journal = make_journal(settings)
app = create_app(settings, make_collector(settings, journal, WakeUps(journal)))
