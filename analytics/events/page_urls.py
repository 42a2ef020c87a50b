"""A page's address: what of a URL is kept, and which pages a pattern means. Pure.

In: a URL or a path as a client gave it. Out: hostname, path and the parameters of its query. A query string says who
somebody is more often than what they looked at, so only the parameters that a site names stay in a path. A fragment
stays only if it is a route of the application; a session's id (`;jsessionid=`) never does.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote, unquote_plus

from analytics.urls import Url, plain_host, split_text, split_url

LONGEST_PATH = 2048  # as in analytics/events/schema.py
_LONGEST_VALUE = 255
MOST_PARAMETERS = 100
_REMEMBERED, _LONGEST_REMEMBERED = 10_000, 500  # URLs, characters: a site has some pages that most see
NO_PAGES = ("data", "javascript", "blob", "about", "mailto", "tel")
_ESCAPED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
# What means something else in a path once it is decoded, or is not to be seen.
RESERVED = re.compile(r"[\x00-\x1f\x7f/?#%]")
# A query or a fragment, of a name and a value, that was percent-encoded into the path, however often.
ENCODED_QUERY = re.compile(r"%(?:25)*(?:3F|23)[^/]*?(?:=|%(?:25)*3D).*", re.IGNORECASE | re.DOTALL)
SESSION = re.compile(r";jsessionid=[^/]*", re.IGNORECASE)
_NAMED = re.compile(r"=|%3D", re.IGNORECASE)
NAMED_IN_ROUTE = re.compile(r"(?:[;&]|(?<=/))[^/;&=]*(?:=|%3D).*", re.IGNORECASE | re.DOTALL)
# A path of which nothing has to go, and the whole URLs that some clients call a path.
PLAIN_PATH = re.compile(r"/(?!/)(?:[^?#\\%;\x00-\x1f\x7f]*[^?#\\%;\x00-\x1f\x7f\s])?")
WHOLE_URL = re.compile(r"[a-z][a-z0-9+.-]*://|https?:|//[^/]*@|[^/]*:[^/]*@", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PageUrlParts:
    """`parameters`: of its query, names in lower case, values as they were written; the first of each name.
    `fragment`: of its URL, as it was written.
    """

    hostname: str | None
    path: str
    parameters: Mapping[str, str]
    fragment: str = ""

    def parameter(self, *names: str) -> str | None:
        """The first of these that says something, decoded."""
        for name in names:
            if (raw := self.parameters.get(name)) and (value := _value(raw)):
                return value
        return None


def is_page_url(text: str) -> bool:
    """Whether this is a URL, with its scheme or from the root of its site. It may be one of no page, as about:blank."""
    try:
        url = split_url(text)
    except ValueError:
        return False
    if not url.scheme:
        return bool(url.host) or url.path.startswith("/")
    return url.has_netloc or url.scheme in NO_PAGES


def read_url(url: str, allowed: tuple[str, ...] = (), *, keeps_slash: bool = True) -> PageUrlParts | None:
    """Of a page's URL, with its scheme or from the root of its site; None for what is none. `allowed`: the parameters
    that stay in the path; `keeps_slash`: whether the path's last slash does.
    """
    read = _remembered_page if len(url) <= _LONGEST_REMEMBERED else _read_url
    return read(url, allowed, keeps_slash)


def read_path(
    path: str, allowed: tuple[str, ...] = (), *, keeps_slash: bool = True, fragment: str = ""
) -> PageUrlParts:
    """Of a path that a client gave as such. A whole URL is its path, and a word gets its slash; else its own text stays
    as it is. `fragment`: the one of the event's URL. If the path has the same one, the client means it as a route.
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
    """As sites have them; None for none."""
    return plain_host(hostname or "") or None


def matches(patterns: Sequence[str], path: str) -> bool:
    """Whether one of these means the page; `*` stands for anything within a path's part, `**` for anything."""
    return bool(patterns) and _any_of(tuple(patterns)).fullmatch(path) is not None


@lru_cache(maxsize=1000)
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(_expression, patterns)), re.DOTALL)


def _expression(pattern: str) -> str:
    """A wildcard takes as little as what follows it allows, and never more after that: `(?>...)`. More would not help,
    as the next wildcard takes the rest; to try it takes time that doubles with each wildcard. Only the last one has to
    try, as what follows it has to be the end.
    """
    first, *others = pattern.split("**")
    if not others:
        return _part(first, is_last=True)
    *between, last = others
    return _part(first) + "".join(f"(?>.*?{_part(each)})" for each in between) + f".*?{_part(last, is_last=True)}"


def _part(pattern: str, *, is_last: bool = False) -> str:
    first, *others = map(re.escape, pattern.split("*"))
    end = f"[^/]*{others.pop()}" if is_last and others else ""
    return first + "".join(f"(?>[^/]*?{each})" for each in others) + end


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
    """`path` and `route` are cleaned here. `url`: None if only a path is known."""
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
    """The page of an application that has its routes behind the #, and its query; both "" for a place within a page."""
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
    """In the site's order, so that a page has one path however a link to it was written."""
    kept = [f"{name}={parameters[name.lower()]}" for name in allowed if name.lower() in parameters]
    return (f"{path}?{'&'.join(kept)}" if kept else path)[:LONGEST_PATH]


def _value(raw: str) -> str:
    return _CONTROLS.sub(" ", unquote_plus(raw, errors="replace")).strip()[:_LONGEST_VALUE]


def _readable(path: str) -> str:
    """`/caf%C3%A9` is `/café`, as browsers show it; what is no UTF-8, or would mean something else, stays."""
    return _ESCAPED.sub(_decoded, path) if "%" in path else path


def _decoded(escaped: re.Match[str]) -> str:
    try:
        text = bytes.fromhex(escaped[0].replace("%", "")).decode()
    except UnicodeDecodeError:
        return escaped[0]
    return RESERVED.sub(lambda each: f"%{ord(each[0]):02X}", text)
