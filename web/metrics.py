"""GET /metrics: the counters of the app's processes, and the current values of its stores.

If a store does not answer, the page lacks only the gauges of that store.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from flask import Blueprint, Response
from prometheus_client import Metric

from analytics.unavailable import Unavailable
from config.metrics import CONTENT_TYPE, exposition, store_gauge
from web.auth import Check
from web.openapi import PLAIN, PROCESS, Operation, described_by

_METRICS = Operation(summary="Metrics for Prometheus", tag=PROCESS, answer={PLAIN: str}, uses_stores=False)


def metrics_blueprint(gauges: Mapping[str, Callable[[], Iterable[Metric]]], auth: Check) -> Blueprint:
    """`gauges`: by store, a function that reads its gauges and may raise Unavailable."""
    blueprint = Blueprint("metrics", __name__)
    blueprint.before_request(auth)

    @blueprint.get("/metrics")
    @described_by(_METRICS)
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
