"""The WSGI app that gunicorn serves. Imported before the fork (config/gunicorn.py). It connects at the first query."""

from dataclasses import replace

from config.logs import configure_logging
from config.services import Services
from config.settings import load_settings
from report_app import create_app

settings = load_settings()
configure_logging(settings)
services = Services(replace(settings, duckdb_memory=settings.report_memory), "footfall-report")
app = create_app(settings, services)
