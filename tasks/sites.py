"""Publishes sites and API keys from MongoDB to Redis for the collector: every minute, and when a worker starts."""

from functools import cache

import structlog
from celery.signals import worker_ready
from kombu.exceptions import OperationalError

from analytics.access.key_ring import KeyRing, make_key_ring
from analytics.access.store import ApiKeyStore
from analytics.sites.registry import SiteRegistry, make_registry
from analytics.sites.store import SiteStore
from config.clients import make_database
from tasks.app import app, settings
from tasks.outcome import Result, zeros_if_unavailable

log = structlog.get_logger()


@app.task(name="tasks.sites.publish_sites")
@zeros_if_unavailable("sites_not_published")
def publish_sites() -> Result:
    """Publishes sites and keys. Returns whether there were changes, and the number of keys used since the last run."""
    published = {"sites": registry().publish(sites().all), "keys": key_ring().publish(api_keys())}
    return published | {"used": key_ring().carry_uses(api_keys())}


@worker_ready.connect
def publish_at_once(**_: object) -> None:
    """Runs at the start: in production the collector accepts no events before it knows the sites."""
    try:
        publish_sites.apply_async()
    except OperationalError as error:
        log.warning("sites_not_published", error=str(error))


@cache
def registry() -> SiteRegistry:
    return make_registry(settings)


@cache
def sites() -> SiteStore:
    return SiteStore(make_database(settings))


@cache
def key_ring() -> KeyRing:
    return make_key_ring(settings)


@cache
def api_keys() -> ApiKeyStore:
    return ApiKeyStore(make_database(settings))
