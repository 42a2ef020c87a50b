"""GET /healthz: the process runs.

GET /readyz: whether each store answers, with its latency. It is a 503 if one does not.
"""

import time
from collections.abc import Callable, Mapping
from typing import Literal, NotRequired, TypedDict

from flask import Blueprint, Response

from analytics.unavailable import Unavailable
from web.errors import Error, unavailable_response
from web.openapi import PROCESS, Operation, described_by


class Alive(TypedDict):
    status: Literal["alive"]


class StoreState(TypedDict):
    ok: bool
    latency_ms: float
    error: NotRequired[str]


class Ready(TypedDict):
    status: Literal["ready"]
    stores: dict[str, StoreState]


class NotReadyError(Error):
    stores: NotRequired[dict[str, StoreState]]


_ALIVE = Operation(summary="Whether the process is alive", tag=PROCESS, uses_stores=False)
_READY = Operation(
    summary="Whether the stores answer, and the latency of each",
    tag=PROCESS,
    says={503: "A store does not answer. `stores`, next to `error`, says which."},
    error=NotReadyError,
)


def health_blueprint(checks: Mapping[str, Callable[[], None]]) -> Blueprint:
    """`checks`: by the store's name, a function that raises Unavailable if the store does not answer."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/healthz")
    @described_by(_ALIVE)
    def alive() -> Alive:
        return {"status": "alive"}

    @blueprint.get("/readyz")
    @described_by(_READY)
    def ready() -> Ready | Response:
        stores = {name: _ask(check) for name, check in checks.items()}
        wrong = [f"{name} ({store['error']})" for name, store in stores.items() if not store["ok"]]
        if wrong:
            return unavailable_response(f"Not ready: {', '.join(wrong)}.", stores=stores)
        return {"status": "ready", "stores": stores}

    return blueprint


def _ask(check: Callable[[], None]) -> StoreState:
    start = time.perf_counter()
    try:
        check()
    except Unavailable as error:
        return {"ok": False, "latency_ms": _milliseconds_since(start), "error": type(error.cause).__name__}
    return {"ok": True, "latency_ms": _milliseconds_since(start)}


def _milliseconds_since(start: float) -> float:
    return round((time.perf_counter() - start) * 1000, 2)
