"""Flower's settings. In development it has no password of its own: keep it on loopback, or set FLOWER_BASIC_AUTH. In
production it does not start without one, and shows, but changes nothing: no task is sent or revoked, no worker stopped.
"""

import sys

from flower.views.monitor import Metrics
from tornado.web import authenticated

from config.settings import SettingsError, load_settings

try:
    settings = load_settings(with_flower=True)
except SettingsError as error:
    sys.exit(f"footfall: {error}")

address = settings.bind_host
port = settings.flower_port
logging = "error"  # its INFO is a banner and a line for each inspection of a worker that is not up yet
read_only = settings.is_production
if settings.is_production:
    Metrics.get = authenticated(Metrics.get)  # Flower leaves it open; /healthcheck says nothing but OK
