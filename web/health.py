"""GET /healthz: the process runs.

GET /readyz: whether each store answers, with its latency. It is a 503 if one does not.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from flask import Blueprint, Response, jsonify

from analytics.unavailable import Unavailable
from web.errors import unavailable_response


def health_blueprint(checks: Mapping[str, Callable[[], None]]) -> Blueprint:
    """`checks`: by the store's name, a function that raises Unavailable if the store does not answer."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/healthz")
    def alive() -> Response:
        return jsonify(status="alive")

    @blueprint.get("/readyz")
    def ready() -> Response:
        stores = {name: _ask(check) for name, check in checks.items()}
        wrong = [f"{name} ({store['error']})" for name, store in stores.items() if not store["ok"]]
        if wrong:
            return unavailable_response(f"Not ready: {', '.join(wrong)}.", stores=stores)
        return jsonify(status="ready", stores=stores)

    return blueprint


def _ask(check: Callable[[], None]) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        check()
    except Unavailable as error:
        return {"ok": False, "latency_ms": _milliseconds_since(start), "error": type(error.cause).__name__}
    return {"ok": True, "latency_ms": _milliseconds_since(start)}


def _milliseconds_since(start: float) -> float:
    return round((time.perf_counter() - start) * 1000, 2)
