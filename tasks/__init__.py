"""The Celery app and its tasks: `celery -A tasks worker`, `celery -A tasks inspect active`, ..."""

from tasks.app import app

__all__ = ["app"]
