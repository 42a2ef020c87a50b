"""Where a visitor is, as a CDN in front of us says: only of a CDN that PLACE_HEADERS names, behind a proxy that is
trusted (TRUSTED_PROXIES), as anybody can send such headers. Pure.
"""

import re
from urllib.parse import unquote

from werkzeug.datastructures import Headers

Names = tuple[str, str, str]  # of the headers with country, region and city

CDNS: dict[str, Names] = {
    "cloudflare": ("CF-IPCountry", "CF-Region-Code", "CF-IPCity"),  # the last two: "Add visitor location headers"
    "cloudfront": ("CloudFront-Viewer-Country", "CloudFront-Viewer-Country-Region", "CloudFront-Viewer-City"),
    "vercel": ("X-Vercel-IP-Country", "X-Vercel-IP-Country-Region", "X-Vercel-IP-City"),
}
_UNKNOWN = {"XX", "T1"}  # Cloudflare's words for nowhere and Tor
_COUNTRY = re.compile("[A-Z]{2}")
_REGION = re.compile("[A-Z0-9]{1,3}")
_LONGEST_CITY = 128


def read_place(headers: Headers, names: Names) -> tuple[tuple[str, str], ...]:
    """As Client.place has it; what is not of the right form is left out."""
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
    """Percent-encoded, or UTF-8 that WSGI took for Latin-1."""
    try:
        return unquote(city.encode("latin-1").decode())[:_LONGEST_CITY].replace("\0", "")
    except UnicodeError:
        return ""
