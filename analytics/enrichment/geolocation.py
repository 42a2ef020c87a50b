"""Geolocation: the country, region and city of an IP address, from a file in MaxMind's format.

It supports the layouts of GeoLite2 and DB-IP, with cities or only countries. A region that has only a name (DB-IP) gets
its code from ISO 3166-2. The address is not stored. If the file is missing or unreadable (see watched_file.py), events
are stored without a place.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import maxminddb
import pycountry
from maxminddb import InvalidDatabaseError, Reader

from analytics.enrichment.watched_file import WatchedFile

_COUNTRY = re.compile(r"[A-Z]{2}")
_REGION = re.compile(r"[A-Z]{2}-[A-Z0-9]{1,3}")
NO_COUNTRIES = ("XX", "ZZ")  # codes with which a CDN reports an unknown country
_LONGEST_CITY = 128
_REMEMBERED = 10_000  # places of the file, 300 bytes each


@dataclass(frozen=True, slots=True)
class Place:
    """`country` is an ISO 3166-1 code. `region` is an ISO 3166-2 code within that country. `city` is the
    English name.
    """

    country: str
    region: str | None = None
    city: str | None = None


class Places:
    def __init__(self, file: str) -> None:
        self._file: WatchedFile[Reader] = WatchedFile(Path(file), maxminddb.open_database, (InvalidDatabaseError,))

    def find(self, address: str) -> Place | None:
        """Return the place of the address, or None. Raises ValueError if `address` is not an address, and
        InvalidDatabaseError if the file is damaged.
        """
        reader = self._file.get()
        record: Any = reader.get(address) if reader else None
        return _place(record) if isinstance(record, dict) else None


def place_said(said: Mapping[str, str]) -> Place | None:
    """Return the place from the names country, region and city. The region may have its country in front or not."""
    return _plain_place(said.get("country", ""), said.get("region", ""), said.get("city", ""))


def _plain_place(country: str, region: str, city: str) -> Place | None:
    country, region = country.strip().upper(), region.strip().upper()
    if not _COUNTRY.fullmatch(country) or country in NO_COUNTRIES:
        return None
    if region and "-" not in region:
        region = f"{country}-{region}"
    is_of_it = _REGION.fullmatch(region) and region.startswith(f"{country}-")
    return Place(country, region if is_of_it else None, city.strip()[:_LONGEST_CITY] or None)


_remembered_place = lru_cache(maxsize=_REMEMBERED)(_plain_place)


def _place(record: Mapping[str, Any]) -> Place | None:
    country = _part(record, "country").get("iso_code") or record.get("country_code")
    if not isinstance(country, str):
        return None
    city = _part(record, "city")
    name = _english(city) or (text if isinstance(text := record.get("city"), str) else "")
    return _remembered_place(country, _region(country, record) or "", name)


def _region(country: str, record: Mapping[str, Any]) -> str | None:
    subdivisions = record.get("subdivisions")
    first = subdivisions[0] if isinstance(subdivisions, list) and subdivisions else None
    if not isinstance(first, dict):
        return None
    code = first.get("iso_code")
    return code if isinstance(code, str) else _codes(country).get((_english(first) or "").casefold())


def _part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = record.get(name)
    return part if isinstance(part, dict) else {}


def _english(part: Mapping[str, Any]) -> str | None:
    names = part.get("names")
    name = names.get("en") if isinstance(names, dict) else None
    return name if isinstance(name, str) else None


@cache
def _codes(country: str) -> dict[str, str]:
    """Return the codes of a country's regions, by name."""
    subdivisions: Any = pycountry.subdivisions
    regions = subdivisions.get(country_code=country) or ()
    return {region.name.casefold(): region.code for region in regions}
