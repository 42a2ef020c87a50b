"""Finds the site of a report, by its site_id or one of its domains. Raises UnknownSite if sites must be set up."""

from collections.abc import Sequence

from analytics.sites.site import Site
from analytics.sites.store import SiteStore

SITE_EXAMPLE = "site-abc-123"  # in the examples of the API's description


class SiteLookup:
    """`required`: whether a site must be set up. Otherwise a site that is not set up has the default settings."""

    def __init__(self, sites: SiteStore, *, required: bool) -> None:
        self._sites = sites
        self._required = required

    def each(self, names: Sequence[str]) -> list[Site]:
        """Return the sites with these names, each once. Raises as a call does."""
        return [*{site.site_id: site for site in map(self, names)}.values()]

    def __call__(self, name: str) -> Site:
        """Returns the site. Raises UnknownSite, and Unavailable if MongoDB is not reachable.

        The message of UnknownSite names other sites. Only callers who may see them get it: a key for some sites got a
        403 before.
        """
        site = self._sites.find(name)
        if site is None and self._required:
            raise self._sites.unknown(name)
        return site or Site(name)

    def id_of(self, name: str) -> str:
        """Returns the id of the site, or the name itself if there is no such site. Raises Unavailable."""
        return self._sites.id_of(name)
