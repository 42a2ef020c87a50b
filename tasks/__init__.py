"""The Celery app and its tasks, for commands such as `python -m tasks worker` and `celery -A tasks inspect active`."""

from tasks.app import app

__all__ = ["app"]
