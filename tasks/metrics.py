"""The metrics of a worker's tasks for Prometheus, at http://...:WORKER_METRICS_PORT: their durations and retries.

One page covers the worker and all its pool processes. It needs the admin key or an API key with the scope metrics, as
in the apps. Without an ADMIN_KEY nothing is served. If the port is taken (a second worker on the machine), the worker
runs without the page.
"""

import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import structlog
from celery.signals import task_postrun, task_prerun, task_retry, worker_ready
from prometheus_client import Metric

from analytics.access.api_key import METRICS_SCOPE
from analytics.unavailable import Unavailable
from config.bearer import bearer, holds
from config.metrics import CONTENT_TYPE, TASK_RETRIES, TASK_SECONDS, exposition, segment_gauges
from tasks.app import services, settings

log = structlog.get_logger()
_started: dict[str, float] = {}  # by task id; a pool process runs one task at a time


@task_prerun.connect
def begin(task_id: str, **_: object) -> None:
    _started[task_id] = time.perf_counter()


@task_postrun.connect
def end(task_id: str, task: Any, **_: object) -> None:
    if start := _started.pop(task_id, None):
        TASK_SECONDS.labels(task.name.rpartition(".")[2]).observe(time.perf_counter() - start)


@task_retry.connect
def count_retry(request: Any, **_: object) -> None:
    TASK_RETRIES.labels(request.task.rpartition(".")[2]).inc()


@worker_ready.connect
def serve(**_: object) -> None:
    if not settings.admin_key:
        return
    try:
        server = make_server(settings.bind_host, settings.worker_metrics_port, page, _Server, Quiet)
    except OSError as error:
        log.warning("metrics_not_served", port=settings.worker_metrics_port, error=str(error))
        return
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


def page(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """The WSGI app of the page."""
    if environ["PATH_INFO"] != "/metrics":
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"See /metrics.\n"]
    if not _may_read(environ.get("HTTP_AUTHORIZATION", "")):
        start_response("401 Unauthorized", [("Content-Type", "text/plain"), ("WWW-Authenticate", "Bearer")])
        return [b"Send the admin key as `Authorization: Bearer <ADMIN_KEY>`, or an API key with the scope metrics.\n"]
    start_response("200 OK", [("Content-Type", CONTENT_TYPE)])
    return [exposition(_gauges())]


def _may_read(authorization: str) -> bool:
    """Whether this header's key may read the page. If an API key cannot be looked up, only the admin key may."""
    if holds(settings.admin_key, authorization):
        return True
    try:
        key = services().key_ring.find(bearer(authorization))
    except Unavailable as error:
        log.warning("api_key_not_looked_up", error=str(error))
        return False
    return key is not None and key.may(METRICS_SCOPE)


def _gauges() -> Iterable[Metric]:
    try:
        waiting, due = services().segments.builder.waiting()
    except Unavailable as error:
        log.warning("segments_not_counted", error=str(error))
        return []
    oldest = (datetime.now(UTC) - due.since).total_seconds() if due.since else 0.0
    return segment_gauges(waiting.hours, oldest)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    """No access log, because it would contain addresses."""

    timeout = 10  # seconds; then a silent client is disconnected

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        return
