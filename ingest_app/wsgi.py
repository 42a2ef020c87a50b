"""The WSGI app that gunicorn serves. Imported before the fork (config/gunicorn.py). It connects at the first hit."""

from config.logs import configure_logging
from config.services import Services
from config.settings import load_settings
from ingest_app import create_app
from tasks.events import WakeUps

settings = load_settings()
configure_logging(settings)
services = Services(settings, "footfall-ingest")
app = create_app(settings, services, WakeUps(services.journal))
