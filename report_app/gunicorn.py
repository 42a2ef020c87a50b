"""gunicorn settings of the reporting app: the common settings, its address, and its stores."""

from typing import Any

from config import gunicorn as _common
from config.gunicorn import *
from config.gunicorn import settings
from config.start_check import exit_if_stores_are_not_ready

bind = f"{settings.bind_host}:{settings.reporting_port}"
proc_name = "report"


def on_starting(server: Any) -> None:  # type: ignore[no-redef]
    exit_if_stores_are_not_ready(settings, "redis", "mongodb")
    _common.on_starting(server)


def post_worker_init(_worker: Any) -> None:
    """gunicorn calls it in each process, after the fork. Raises OSError if SEGMENT_DIR cannot be written."""
    from report_app.wsgi import services  # noqa: PLC0415 (built when the stores have been checked)

    services.segments.store.workplace.unused()  # the first use creates the folder
    services.forgetter.start()
