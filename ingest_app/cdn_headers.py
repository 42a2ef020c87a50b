"""Reads a visitor's place from the headers of a CDN in front of the server. Pure.

The headers count only for a CDN that PLACE_HEADERS names, behind a proxy that TRUSTED_PROXIES counts: any client can
send such headers.
"""

import re
from urllib.parse import unquote

from werkzeug.datastructures import Headers

Names = tuple[str, str, str]  # the names of the headers with country, region and city

CDNS: dict[str, Names] = {
    # Cloudflare sends the last two with the setting "Add visitor location headers".
    "cloudflare": ("CF-IPCountry", "CF-Region-Code", "CF-IPCity"),
    "cloudfront": ("CloudFront-Viewer-Country", "CloudFront-Viewer-Country-Region", "CloudFront-Viewer-City"),
    "vercel": ("X-Vercel-IP-Country", "X-Vercel-IP-Country-Region", "X-Vercel-IP-City"),
}
_UNKNOWN = {"XX", "T1"}  # Cloudflare's codes for an unknown country and for Tor
_COUNTRY = re.compile("[A-Z]{2}")
_REGION = re.compile("[A-Z0-9]{1,3}")
_LONGEST_CITY = 128


def read_place(headers: Headers, names: Names) -> tuple[tuple[str, str], ...]:
    """The place in the form of Client.place. Values that do not have the right form are left out."""
    country, region, city = (headers.get(name, "") for name in names)
    if not _COUNTRY.fullmatch(country) or country in _UNKNOWN:
        return ()
    place = [("country", country)]
    if _REGION.fullmatch(region):
        place.append(("region", f"{country}-{region}"))
    if town := _text(city):
        place.append(("city", town))
    return tuple(place)


def _text(city: str) -> str:
    """The city's name, from percent-encoding, or from UTF-8 that WSGI decoded as Latin-1. "" if it is neither."""
    try:
        return unquote(city.encode("latin-1").decode())[:_LONGEST_CITY].replace("\0", "")
    except UnicodeError:
        return ""
