"""The names by which hits reach a site: its site_id, its domains, its write key and its paths. A name belongs to one
site. Pure.

Common clients send one name, and the endpoints read it as a domain, a write key or a site_id. All three therefore share
one namespace. Different spellings of a host are the same name in it: case, `www.`, a final dot, and Unicode or
punycode.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from analytics.sites.site import Site
from analytics.urls import plain_name


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two sites have the same name. `field` and `other_field` are the settings that give it to them."""

    name: str
    field: str
    site_id: str
    other_field: str
    other_site_id: str

    def __str__(self) -> str:
        return f"{self.name} is in {self.field} of {self.site_id!r} and in {self.other_field} of {self.other_site_id!r}"


def names_of(site: Site) -> dict[str, str]:
    """Return each name with the setting that gives it. Plausible's clients send a list of sites separated by commas, so
    each part of a site_id with commas is a name too.
    """
    names = {plain_name(part): "site_id" for part in (site.site_id, *site.site_id.split(","))}
    names |= {domain: "domains" for domain in site.domains if domain not in names}
    if site.write_key and site.write_key not in names:
        names[site.write_key] = "write_key"
    names |= {path: field for field in ("script_path", "endpoint_path") if (path := getattr(site, field))}
    return {name: field for name, field in names.items() if name}


def conflict_of(site: Site, names: Iterable[str], others: Iterable[Site]) -> Conflict | None:
    """Return the first of `names` that the site cannot have because another site has it, or None."""
    wanted = {name: field for name, field in names_of(site).items() if name in set(names)}
    for other in others:
        if other.site_id != site.site_id:
            for name, field in names_of(other).items():
                if name in wanted:
                    return Conflict(name, wanted[name], site.site_id, field, other.site_id)
    return None


def conflicts(sites: Iterable[Site]) -> list[Conflict]:
    """Return all conflicts. They exist if sites were set up before names had to be unique."""
    owners: dict[str, tuple[str, str]] = {}
    found: list[Conflict] = []
    for site in sites:
        for name, field in names_of(site).items():
            other_field, other = owners.setdefault(name, (field, site.site_id))
            if other != site.site_id:
                found.append(Conflict(name, field, site.site_id, other_field, other))
    return found


def spellings(names: Mapping[str, str]) -> list[str]:
    """Return the site_ids under which clients that meant one of these domains or write keys may have sent events."""
    found: dict[str, None] = {}
    for name, field in names.items():
        if field in ("domains", "write_key"):
            found |= dict.fromkeys((name, f"www.{name}", name.upper()))
            with suppress(UnicodeError):
                found[name.encode().decode("idna")] = None
    return list(found)
