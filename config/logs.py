"""Structured logs of every process: one event name and its fields per line, as JSON unless stderr is a terminal.

Lines of libraries have the same format. No visitor's address is logged: access logs are off.
"""

import logging.config
import sys
from typing import Any

import structlog
from structlog.typing import Processor

from config.settings import Settings

# At INFO these log one or two lines per task. Footfall logs one line per task itself.
CHATTY = ["celery.worker.strategy", "celery.app.trace", "celery.beat", "kombu", "pymongo", "werkzeug", "flower"]


def logging_config(settings: Settings) -> dict[str, Any]:
    """A dictConfig: the root logger writes to stderr, through structlog."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    render: Processor = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    final: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if as_json:
        final.append(structlog.processors.format_exc_info)
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structlog": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": _shared(),
                "processors": [*final, render],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structlog"}},
        "root": {"handlers": ["stderr"], "level": settings.log_level},
        "loggers": {name: {"level": "WARNING"} for name in CHATTY}
        | {"gunicorn.error": {"level": settings.log_level, "handlers": [], "propagate": True}},
    }


def configure_logging(settings: Settings) -> None:
    logging.config.dictConfig(logging_config(settings))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _shared() -> list[Processor]:
    return [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
