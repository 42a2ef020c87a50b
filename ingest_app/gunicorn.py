"""gunicorn settings of the ingestion app: the common settings, its address, and its store."""

from typing import Any

from config import gunicorn as _common
from config.gunicorn import *
from config.gunicorn import settings
from config.start_check import exit_if_stores_are_not_ready

bind = f"{settings.bind_host}:{settings.ingestion_port}"
proc_name = "ingest"


def on_starting(server: Any) -> None:  # type: ignore[no-redef]
    exit_if_stores_are_not_ready(settings, "redis")
    _common.on_starting(server)
