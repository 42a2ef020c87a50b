"""Publishes sites and API keys from MongoDB to Redis for the collector: every minute, and when a worker starts."""

import structlog
from celery.signals import worker_ready
from kombu.exceptions import OperationalError

from tasks.app import app, services
from tasks.outcome import Result, zeros_if_unavailable

log = structlog.get_logger()


@app.task(name="tasks.sites.publish_sites")
@zeros_if_unavailable("sites_not_published")
def publish_sites() -> Result:
    """Publishes sites and keys. Returns whether there were changes, and the number of keys used since the last run."""
    ours = services()
    published = {"sites": ours.registry.publish(ours.sites.all), "keys": ours.key_ring.publish(ours.api_keys)}
    return published | {"used": ours.key_ring.carry_uses(ours.api_keys)}


@worker_ready.connect
def publish_at_once(**_: object) -> None:
    """Runs at the start: in production the collector accepts no events before it knows the sites."""
    try:
        publish_sites.apply_async()
    except OperationalError as error:
        log.warning("sites_not_published", error=str(error))
