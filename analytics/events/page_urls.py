"""A page's address: which parts of a URL are kept. Pure.

A URL or path from a client becomes a hostname, a path and the parameters of its query. A query string identifies a
person more often than a page, so a path keeps only the parameters that the site names. A fragment stays only if it is a
route of the application. A session id (`;jsessionid=`) never stays.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from urllib.parse import unquote, unquote_plus

from msgspec import Struct

from analytics.urls import Url, plain_host, split_text, split_url

LONGEST_PATH = 2048  # as in analytics/events/schema.py
_LONGEST_VALUE = 255
MOST_PARAMETERS = 100
_REMEMBERED, _LONGEST_REMEMBERED = 10_000, 500  # URLs, characters; most views of a site are of a few pages
NO_PAGES = ("data", "javascript", "blob", "about", "mailto", "tel")
_ESCAPED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
# Characters that have another meaning in a path once they are decoded, or that must not be displayed.
RESERVED = re.compile(r"[\x00-\x1f\x7f/?#%]")
# A query or a fragment, with a name and a value, that was percent-encoded into the path, any number of times.
ENCODED_QUERY = re.compile(r"%(?:25)*(?:3F|23)[^/]*?(?:=|%(?:25)*3D).*", re.IGNORECASE | re.DOTALL)
SESSION = re.compile(r";jsessionid=[^/]*", re.IGNORECASE)
_NAMED = re.compile(r"=|%3D", re.IGNORECASE)
NAMED_IN_ROUTE = re.compile(r"(?:[;&]|(?<=/))[^/;&=]*(?:=|%3D).*", re.IGNORECASE | re.DOTALL)
# PLAIN_PATH is a path that needs no cleaning. WHOLE_URL is a whole URL that some clients send as a path.
PLAIN_PATH = re.compile(r"/(?!/)(?:[^?#\\%;\x00-\x1f\x7f]*[^?#\\%;\x00-\x1f\x7f\s])?")
# PLAIN_URL and FROM_ROOT are URLs that need not be split to see that they are valid.
PLAIN_URL = re.compile(r"https?://(?:[a-z0-9]{1,63}\.){0,3}[a-z0-9]{1,63}(?:/[!-\[\]-~]*)?", re.ASCII)
FROM_ROOT = re.compile(r"/(?!/)[!-\[\]-~]*")
WHOLE_URL = re.compile(r"[a-z][a-z0-9+.-]*://|https?:|//[^/]*@|[^/]*:[^/]*@", re.IGNORECASE)


class PageUrlParts(Struct, frozen=True, gc=False):
    """`parameters` holds the parameters of the query: names in lower case, values as they were written, the first of
    each name. `fragment` is the URL's fragment as it was written.
    """

    hostname: str | None
    path: str
    parameters: Mapping[str, str]
    fragment: str = ""

    def parameter(self, *names: str) -> str | None:
        """Return the first of these parameters that is not empty, decoded."""
        for name in names:
            if (raw := self.parameters.get(name)) and (value := _value(raw)):
                return value
        return None


def is_page_url(text: str) -> bool:
    """Whether `text` is a URL, with its scheme or from the root of its site. It need not belong to a page: about:blank
    is a URL.
    """
    if PLAIN_URL.fullmatch(text) or FROM_ROOT.fullmatch(text):
        return True
    try:
        url = split_url(text)
    except ValueError:
        return False
    if not url.scheme:
        return bool(url.host) or url.path.startswith("/")
    return url.has_netloc or url.scheme in NO_PAGES


def read_url(url: str, allowed: tuple[str, ...] = (), *, keeps_slash: bool = True) -> PageUrlParts | None:
    """Read a page's URL, with its scheme or from the root of its site. Return None if it is not one. `allowed` lists
    the parameters that stay in the path. `keeps_slash`: whether the path keeps its last slash.
    """
    read = _remembered_page if len(url) <= _LONGEST_REMEMBERED else _read_url
    return read(url, allowed, keeps_slash)


def read_path(
    path: str, allowed: tuple[str, ...] = (), *, keeps_slash: bool = True, fragment: str = ""
) -> PageUrlParts:
    """Read a path that a client sent as a path. A whole URL is reduced to its path, and a word gets a leading slash.
    Other text stays as it is. `fragment` is the fragment of the event's URL. If the path has the same fragment, the
    client means it as a route.
    """
    if PLAIN_PATH.fullmatch(path) and (keeps_slash or not path.endswith("/")):
        return PageUrlParts(None, path, {})
    before, query, after = split_text(path)
    before = before.replace("\\", "/")
    if WHOLE_URL.match(before):
        return read_url(path, allowed, keeps_slash=keeps_slash) or PageUrlParts(None, "/", {})
    route, of_route = _split_route(after)
    if not route and after and not _NAMED.search(after) and unquote(after) == unquote(fragment.partition("?")[0]):
        route = after
    return _page(None, before, query, of_route, route=route, allowed=allowed, keeps_slash=keeps_slash)


def bare_hostname(hostname: str | None) -> str | None:
    """Return the hostname in the form of a site's hostnames, or None if there is none."""
    return plain_host(hostname or "") or None


def _read_url(url: str, allowed: tuple[str, ...], keeps_slash: bool) -> PageUrlParts | None:
    if not is_page_url(url):
        return None
    parts = split_url(url)
    if parts.scheme in NO_PAGES:
        return None
    route, of_route = _split_route(parts.fragment)
    path, route = _readable(parts.path), _readable(route)
    return _page(parts, path, parts.query, of_route, route=route, allowed=allowed, keeps_slash=keeps_slash)


_remembered_page = lru_cache(maxsize=_REMEMBERED)(_read_url)


def _page(
    url: Url | None, path: str, *queries: str, route: str, allowed: Sequence[str], keeps_slash: bool
) -> PageUrlParts:
    """`path` and `route` are cleaned here. `url` is None if only a path is known."""
    parameters = _parameters("&".join(filter(None, queries)))
    path = SESSION.sub("", ENCODED_QUERY.sub("", path))
    if not path.startswith("/"):
        path = f"/{path}"
    if not keeps_slash:
        path, route = path.rstrip("/") or "/", route.rstrip("/")
    shown = _with_allowed(f"{path}#{route}" if route else path, parameters, allowed)
    return (
        PageUrlParts(bare_hostname(url.host), shown, parameters, url.fragment)
        if url
        else PageUrlParts(None, shown, parameters)
    )


def _split_route(fragment: str) -> tuple[str, str]:
    """Return the route and its query if the fragment is a page of an application with routes after the #. Both are ""
    if the fragment is a place within a page.
    """
    if not fragment.startswith(("/", "!/")):
        return "", ""
    route, _, query = fragment.partition("?")
    return NAMED_IN_ROUTE.sub("", route), query


def _parameters(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    if query:
        for name, value in _pairs(query):
            found.setdefault(name, value)
    return found


def _pairs(query: str) -> Iterator[tuple[str, str]]:
    for pair in query.split("&", MOST_PARAMETERS)[:MOST_PARAMETERS]:
        name, _, value = pair.partition("=")
        if name:
            yield unquote_plus(name).lower(), value


def _with_allowed(path: str, parameters: Mapping[str, str], allowed: Sequence[str]) -> str:
    """The parameters are in the site's order, so that a page has one path no matter how a link to it was written."""
    kept = [f"{name}={parameters[name.lower()]}" for name in allowed if name.lower() in parameters]
    return (f"{path}?{'&'.join(kept)}" if kept else path)[:LONGEST_PATH]


def _value(raw: str) -> str:
    return _CONTROLS.sub(" ", unquote_plus(raw, errors="replace")).strip()[:_LONGEST_VALUE]


def _readable(path: str) -> str:
    """`/caf%C3%A9` becomes `/café`, as browsers show it. Text that is not UTF-8 or would change its meaning stays
    encoded.
    """
    return _ESCAPED.sub(_decoded, path) if "%" in path else path


def _decoded(escaped: re.Match[str]) -> str:
    try:
        text = bytes.fromhex(escaped[0].replace("%", "")).decode()
    except UnicodeDecodeError:
        return escaped[0]
    return RESERVED.sub(lambda each: f"%{ord(each[0]):02X}", text)
