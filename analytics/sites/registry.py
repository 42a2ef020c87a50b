"""The sites that the collector knows, read from Redis, so that it works while MongoDB is unreachable.

A site is found by its id, one of its domains, or its write key. New settings reach the collector `COPY_KEPT_FOR`
seconds after they are published. Callers must handle Unavailable, raised if Redis is not reachable or, in production,
if no sites were published yet.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from redis import Redis

from analytics.published_copy import Published
from analytics.sites.site import Site
from analytics.sites.store import SiteStore, from_document, to_document
from analytics.urls import plain_host

SITES_COPY = "footfall:sites"
# Prefixes of the fields.
_SITE, DOMAIN, _WRITE_KEY = "site ", "domain ", "key "
_SCRIPT, _ENDPOINT = "script ", "endpoint "


class SiteRegistry:
    """Reads sites from Redis. `required`: it is an error if no sites are published. Otherwise there are then no
    sites.
    """

    def __init__(self, redis: Redis, *, required: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._published = Published[Site | str](redis, SITES_COPY, _read, required=required, clock=clock)

    def get(self, site_id: str) -> Site | None:
        """Return the site with this id, or None. Raises Unavailable."""
        found = self._published.get(_SITE + site_id)
        return found if isinstance(found, Site) else None

    def by_domain(self, host: str) -> Site | None:
        """Return the site with this domain, with or without `www.`, a port or a final dot, in any case. A site with
        exactly this site_id has priority. Raises Unavailable.
        """
        return self.get(host) or self._owner(DOMAIN + plain_host(host))

    def by_key(self, write_key: str) -> Site | None:
        """Return the site with this write key. A site with exactly this site_id has priority. Raises Unavailable."""
        return self.get(write_key) or self._owner(_WRITE_KEY + write_key.lower())

    def is_script(self, path: str) -> bool:
        """Whether a site has the tracker at this path. Raises Unavailable."""
        return self._published.get(_SCRIPT + path) is not None

    def is_endpoint(self, path: str) -> bool:
        """Whether a site's tracker sends to this path. Raises Unavailable."""
        return self._published.get(_ENDPOINT + path) is not None

    def publish(self, collect: Callable[[], Iterable[Site]]) -> bool:
        """Replace the published sites by these; see Published.publish."""
        return self._published.publish(lambda: _fields(collect()))

    def publish_change(self, sites: SiteStore) -> None:
        """Publish the sites after a change; see Published.publish_change."""
        self._published.publish_change(lambda: _fields(sites.all()), "sites_not_published")

    def _owner(self, field: str) -> Site | None:
        site_id = self._published.get(field)
        return self.get(site_id) if isinstance(site_id, str) else None


def _fields(sites: Iterable[Site]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for site in sites:
        # Only reports use saved filters, and they may be 200 KB.
        fields[_SITE + site.site_id] = to_document(replace(site, saved_filters=()))
        fields |= {DOMAIN + domain: site.site_id for domain in site.domains}
        if site.write_key:
            fields[_WRITE_KEY + site.write_key] = site.site_id
        if site.script_path:
            fields[_SCRIPT + site.script_path] = site.site_id
        if site.endpoint_path:
            fields[_ENDPOINT + site.endpoint_path] = site.site_id
    return fields


def _read(value: Any) -> Site | str:
    return from_document(value) if isinstance(value, dict) else str(value)
