"""The WSGI app that gunicorn serves. Imported after the fork. It connects at the first query."""

from dataclasses import replace

from analytics.privacy.local_copies import Forgetter
from config.logs import configure_logging
from config.services import Services
from config.settings import load_settings
from report_app import create_app

settings = load_settings()
configure_logging(settings)
services = Services(replace(settings, duckdb_memory=settings.report_memory), "footfall-report")
Forgetter(services.segments.store, services.erasures, services.segments.reader).start()
app = create_app(settings, services)
