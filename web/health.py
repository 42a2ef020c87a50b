"""GET /healthz: the process lives. GET /readyz: each store it needs answers, with its latency; else 503."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from flask import Blueprint, Response, jsonify

from analytics.unavailable import Unavailable


def health_blueprint(checks: Mapping[str, Callable[[], None]]) -> Blueprint:
    """`checks`: by the store's name, a call that raises Unavailable when it does not answer."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/healthz")
    def alive() -> Response:
        return jsonify(status="alive")

    @blueprint.get("/readyz")
    def ready() -> tuple[Response, int]:
        stores = {name: _ask(check) for name, check in checks.items()}
        is_ready = all(store["ok"] for store in stores.values())
        return jsonify(status="ready" if is_ready else "not ready", stores=stores), 200 if is_ready else 503

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
