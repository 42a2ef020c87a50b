"""Structured logs for every process: one event name and its fields a line, JSON where no terminal reads along.

Lines of libraries go the same way. No address of a visitor is ever logged: access logs are off.
"""

import logging.config
import sys
from typing import Any

import structlog
from structlog.typing import Processor

from config.settings import Settings

# Their INFO is a line or two for each task; what a task did is one line of our own.
CHATTY = ["celery.worker.strategy", "celery.app.trace", "celery.beat", "kombu", "pymongo", "werkzeug", "flower"]


def logging_config(settings: Settings) -> dict[str, Any]:
    """A dictConfig: the root logger to stderr, through structlog."""
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
