"""Flower's settings.

In development, Flower has no password unless FLOWER_BASIC_AUTH is set, so keep it on loopback. In production it does
not start without one, and it is read-only: it sends and revokes no task, and stops no worker.
"""

from flower.views.monitor import Metrics
from tornado.web import authenticated

from config.settings import load_settings_or_exit

settings = load_settings_or_exit(with_flower=True)

address = settings.bind_host
port = settings.flower_port
logging = "error"  # the level INFO logs a banner, and a line per inspection of a worker that is not running yet
# Set even if there are no logins: Flower would read an empty FLOWER_BASIC_AUTH as a password that no user has.
basic_auth = settings.flower_logins
read_only = settings.is_production
if settings.is_production:
    Metrics.get = authenticated(Metrics.get)  # Flower does not protect this page; /healthcheck returns only OK
