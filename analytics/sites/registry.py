"""Which sites there are, as the collector asks: from Redis, so that MongoDB may be away.

In: a site's id, one of its domains, or its write key. Out: the site, None where there is none. What is set reaches the
collector with its publishing and after `published.REMEMBERED` seconds. Wrong can go: Redis away, and in production that
nothing was published yet, is `Unavailable`.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from pymongo.database import Database
from redis import Redis

from analytics.events.store import EventStore
from analytics.published_copy import Published
from analytics.sites.site import Site
from analytics.sites.store import SiteStore, from_document, to_document
from analytics.unavailable import Unavailable
from analytics.urls import plain_host
from config.clients import make_redis
from config.settings import Settings

log = structlog.get_logger()

SITES_COPY = "footfall:sites"
_SITE, DOMAIN, _WRITE_KEY = "site ", "domain ", "key "  # how fields begin


class SiteRegistry:
    """`required`: whether sites must have been published; else, where they were not, there are none."""

    def __init__(self, redis: Redis, *, required: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._published = Published[Site | str](redis, SITES_COPY, _read, required=required, clock=clock)

    def get(self, site_id: str) -> Site | None:
        """Raises Unavailable."""
        found = self._published.get(_SITE + site_id)
        return found if isinstance(found, Site) else None

    def by_domain(self, host: str) -> Site | None:
        """With or without `www.`, a port or a final dot, in whatever case. A site of exactly this site_id comes first.
        Raises Unavailable.
        """
        return self.get(host) or self._owner(DOMAIN + plain_host(host))

    def by_key(self, write_key: str) -> Site | None:
        """A site of exactly this site_id comes first. Raises Unavailable."""
        return self.get(write_key) or self._owner(_WRITE_KEY + write_key.lower())

    def publish(self, collect: Callable[[], Iterable[Site]]) -> bool:
        """All of these, instead of those that were there; see Published.publish."""
        return self._published.publish(lambda: _fields(collect()))

    def _owner(self, field: str) -> Site | None:
        site_id = self._published.get(field)
        return self.get(site_id) if isinstance(site_id, str) else None


def make_registry(settings: Settings) -> SiteRegistry:
    """In production, where a site that is not known is refused, not knowing any is our trouble."""
    return SiteRegistry(make_redis(settings), required=settings.is_production)


def make_sites(settings: Settings, database: Database[dict[str, Any]]) -> SiteStore:
    """A store that publishes what it is told. Where Redis is away, beat does it within a minute of its return. In
    development events make a site, so that nobody else may have its name.
    """
    registry = make_registry(settings)

    def publish(sites: SiteStore) -> None:
        try:
            registry.publish(sites.all)
        except Unavailable as error:
            log.warning("sites_not_published", error=str(error))

    if settings.is_production:
        return SiteStore(database, changed=publish)
    return SiteStore(database, changed=publish, with_events=EventStore(database).with_events)


def _fields(sites: Iterable[Site]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for site in sites:
        fields[_SITE + site.site_id] = to_document(site)
        fields |= {DOMAIN + domain: site.site_id for domain in site.domains}
        if site.write_key:
            fields[_WRITE_KEY + site.write_key] = site.site_id
    return fields


def _read(value: Any) -> Site | str:
    return from_document(value) if isinstance(value, dict) else str(value)
