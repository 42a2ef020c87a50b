"""gunicorn settings of the reporting app: the common settings, and its address."""

from config.gunicorn import *
from config.gunicorn import settings

bind = f"{settings.bind_host}:{settings.reporting_port}"
proc_name = "report"
