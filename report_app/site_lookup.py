"""The site that a report is about, by its id or one of its domains. Raises UnknownSite where sites must be set up."""

from analytics.site import Site
from analytics.sites import SiteStore
from analytics.suggestion import did_you_mean

MOST_SUGGESTED = 1_000  # sites whose names are compared


class UnknownSite(Exception):
    """`message`: for the caller, who may see the names of all sites: a key for some sites only gets a 403 before."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class SiteLookup:
    """`required`: whether a site must be set up. Otherwise a site that is not has the default settings."""

    def __init__(self, sites: SiteStore, *, required: bool) -> None:
        self._sites = sites
        self._required = required

    def __call__(self, name: str) -> Site:
        """Raises UnknownSite and Unavailable."""
        site = self._sites.find(name)
        if site is None and self._required:
            known = [each for site in self._sites.list(limit=MOST_SUGGESTED) for each in (site.site_id, *site.domains)]
            raise UnknownSite(f"There is no site {name!r}.{did_you_mean(name, known)}")
        return site or Site(name)
