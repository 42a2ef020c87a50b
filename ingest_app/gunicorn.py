"""gunicorn settings of the ingestion app: the common settings, and its address."""

from config.gunicorn import *
from config.gunicorn import settings

bind = f"{settings.bind_host}:{settings.ingestion_port}"
proc_name = "ingest"
