"""Flower's settings. In development it has no password unless FLOWER_BASIC_AUTH is set: keep it on loopback. In
production it does not start without one, and it is read-only: it sends and revokes no task and stops no worker.
"""

from flower.views.monitor import Metrics
from tornado.web import authenticated

from config.settings import load_settings_or_exit

settings = load_settings_or_exit(with_flower=True)

address = settings.bind_host
port = settings.flower_port
logging = "error"  # its INFO is a banner and a line for each inspection of a worker that is not up yet
# Also if there are none: Flower reads an empty FLOWER_BASIC_AUTH itself, as a password that nobody has.
basic_auth = settings.flower_logins
read_only = settings.is_production
if settings.is_production:
    Metrics.get = authenticated(Metrics.get)  # Flower leaves it open; /healthcheck says nothing but OK
