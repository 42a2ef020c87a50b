"""gunicorn's settings for the reporting app: the common ones, and its address."""

from config.gunicorn import *
from config.gunicorn import settings

bind = f"{settings.bind_host}:{settings.reporting_port}"
proc_name = "report"
