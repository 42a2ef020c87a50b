"""GET /metrics: what the app's processes counted, and what its stores say right now.

A store that does not answer costs its own gauges, not the page.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from flask import Blueprint, Response
from prometheus_client import Metric

from analytics.unavailable import Unavailable
from config.metrics import CONTENT_TYPE, exposition, store_gauge
from web.auth import Check


def metrics_blueprint(gauges: Mapping[str, Callable[[], Iterable[Metric]]], auth: Check) -> Blueprint:
    """`gauges`: by the store that is asked; may raise Unavailable."""
    blueprint = Blueprint("metrics", __name__)
    blueprint.before_request(auth)

    @blueprint.get("/metrics")
    def metrics() -> Response:
        return Response(exposition(_read(gauges)), content_type=CONTENT_TYPE)

    return blueprint


def _read(gauges: Mapping[str, Callable[[], Iterable[Metric]]]) -> Iterator[Metric]:
    up = {}
    for store, ask in gauges.items():
        try:
            yield from list(ask())
            up[store] = True
        except Unavailable:
            up[store] = False
    yield store_gauge(up.items())
