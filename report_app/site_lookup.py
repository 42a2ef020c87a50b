"""The site that a report is about, by its id or one of its domains. Raises UnknownSite where sites must be set up."""

from analytics.sites.site import Site
from analytics.sites.store import SiteStore


class SiteLookup:
    """`required`: whether a site must be set up. Otherwise a site that is not has the default settings."""

    def __init__(self, sites: SiteStore, *, required: bool) -> None:
        self._sites = sites
        self._required = required

    def __call__(self, name: str) -> Site:
        """Raises UnknownSite, and Unavailable. Its message is for callers who may see the names of all sites: a key for
        some sites only got a 403 before.
        """
        site = self._sites.find(name)
        if site is None and self._required:
            raise self._sites.unknown(name)
        return site or Site(name)
