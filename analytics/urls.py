"""Hosts, origins and URLs as clients write them, each in one form. Pure.

A host is compared in the form that browsers send: lower case, punycode, no port, no final dot. A URL is read as the URL
standard requires where this decides what is a query and what are credentials. Control characters are ignored, a
backslash is a slash, and the text before the last @ is a user.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address
from urllib.parse import unquote

import idna

LONGEST_HOST = 253  # characters
LONGEST_NETLOC = 300  # a host with its user and port; a longer text is not a host
_REMEMBERED = 10_000  # hosts and origins, 300 characters each
WEB = {"http": "80", "https": "443"}  # with the port that is omitted

HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?!\d)")  # "shop.example:8080" begins with a host
_PARTS = re.compile(r"(?://([^/]*))?(.*)", re.DOTALL)
_PORT = re.compile(r":(\d{0,5})\Z")
BRACKETED = re.compile(r"\[[0-9A-Fa-f:.]+(?:%[^\]]*)?\](?::\d{0,5})?")


@dataclass(frozen=True, slots=True)
class Url:
    """A URL. `scheme` is in lower case, "" if the URL is relative. `has_netloc`: whether `//` is before the host.
    `host` is in the form of ascii_host, "" if there is none. `port` is "" if there is none, or if it is the scheme's
    default. `path` is as it was written. A user and a password are not kept.
    """

    scheme: str
    has_netloc: bool
    host: str
    port: str
    path: str
    query: str
    fragment: str


def split_url(url: str) -> Url:
    """Split a URL. Raises ValueError for an invalid host, and for an http or https URL without a host."""
    before, query, fragment = split_text(url)
    scheme = named[1].lower() if (named := SCHEME.match(before)) else ""
    if named:
        before = before[named.end() :]
    if not scheme or scheme in WEB:
        before = before.replace("\\", "/")
    parts = _PARTS.fullmatch(before)
    netloc, path = (parts[1], parts[2]) if parts else (None, before)
    host, port = _split_netloc(netloc or "")
    if scheme in WEB and not host:
        raise ValueError("it has no host")
    shown = "" if port == WEB.get(scheme) else port
    return Url(scheme, netloc is not None, host, shown, path, query, fragment)


def split_text(text: str) -> tuple[str, str, str]:
    """Return the text before the query, the query, and the fragment."""
    before, _, fragment = _CONTROLS.sub("", text).strip().partition("#")
    before, _, query = before.partition("?")
    return before, query, fragment


def _split_netloc(netloc: str) -> tuple[str, str]:
    if not netloc:
        return "", ""
    if len(netloc) > LONGEST_NETLOC:
        raise ValueError("its host is too long")
    host = netloc.rpartition("@")[2]
    port = found[1] if (found := _PORT.search(host)) else ""
    name = ascii_host(host)
    if host.startswith("[") and not BRACKETED.fullmatch(host):
        raise ValueError("its host is no IPv6 address")
    if int(port or 0) > 65535 or not (_is_ipv6(name) if ":" in name else HOST.fullmatch(name)):
        raise ValueError("its host cannot be one")
    return name, port


def ascii_host(text: str) -> str:
    """Return a host as browsers send it, in any spelling of a client: "Bücher.Example.:443" becomes
    xn--bcher-kva.example. A name that cannot be a host is only converted to lower case.
    """
    return _ascii_host(text) if len(text) <= LONGEST_NETLOC else text.lower()


@lru_cache(maxsize=_REMEMBERED)
def _ascii_host(text: str) -> str:
    name = text.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0].partition("%")[0]
    if _is_ipv6(name):
        return name
    return _ascii_name(unquote(_PORT.sub("", name)))


def _ascii_name(text: str) -> str:
    name = text.lower().rstrip(".\u3002")
    if name.isascii():
        return name
    try:
        return idna.encode(name, uts46=True).decode()
    except idna.IDNAError:
        pass
    try:
        return name.encode("idna").decode()  # the older standard, which accepts emoji and underscores
    except UnicodeError:
        return name


def _is_ipv6(name: str) -> bool:
    try:
        IPv6Address(name)
    except ValueError:
        return False
    return True


def plain_host(text: str) -> str:
    """Return a host in the form of `Site.domains`, also without `www.`. Other text around it is removed."""
    if "/" in text or "\\" in text or "?" in text or "#" in text or "@" in text:
        text = re.split(r"[/\\?#]", text.partition("//")[2] or text, maxsplit=1)[0].rpartition("@")[2]
    return ascii_host(text).removeprefix("www.")[:LONGEST_HOST]


def plain_name(text: str) -> str:
    """Return the form in which different spellings of a host are equal. The text may be a host or any other name."""
    name = text.strip()
    return (_ascii_name(name) if len(name) <= LONGEST_NETLOC else name.lower()).removeprefix("www.")


@lru_cache(maxsize=1000)
def _plain_origin(origin: str) -> str | None:
    try:
        url = split_url(origin)
    except ValueError:
        return None
    if url.scheme not in WEB or "@" in origin or url.path not in ("", "/") or url.query or url.fragment:
        return None
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{host}:{url.port}" if url.port else f"{url.scheme}://{host}"


def plain_origin(origin: str) -> str | None:
    """Return an Origin header in the form of `Site.allowed_origins`, or None if it is not an origin, such as "null"."""
    return _plain_origin(origin) if len(origin) <= LONGEST_NETLOC else None
