"""The frame of both apps: the error shape, health, and limits that hold for every route."""

from collections.abc import Callable, Mapping

from flask import Flask

from web.errors import register_errors
from web.health import health_blueprint


def new_app(name: str, checks: Mapping[str, Callable[[], None]], most_bytes: int) -> Flask:
    """An app without routes of its own. `checks`: see web/health.py; `most_bytes`: the largest body."""
    app = Flask(name, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = most_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]
    register_errors(app)
    app.register_blueprint(health_blueprint(checks))
    return app
