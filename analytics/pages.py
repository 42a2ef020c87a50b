"""A page's address: what of a URL is kept, and which pages a pattern means. Pure.

In: a URL or a path as a client gave it. Out: hostname, path and the parameters of its query. A query string says who
somebody is more often than what they looked at, so only the parameters that a site names stay in a path.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import SplitResult, unquote_plus, urlsplit

from analytics.site import LONGEST_HOST

LONGEST_PATH = 2048  # as in event_schema.py
LONGEST_VALUE = 255
LONGEST_NETLOC = 300  # a host and its port; beyond, and not of ASCII, it is none
MOST_PARAMETERS = 100
REMEMBERED = 10_000  # URLs: a site has some pages that most see
NETLOC = re.compile(r"[^/?#]*//([^/?#]*)")
NO_PAGES = ("data", "javascript", "blob", "about")
ESCAPED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
# What means something else in a path once it is decoded, or is not to be seen.
RESERVED = re.compile(r"[\x00-\x1f\x7f/?#%]")


@dataclass(frozen=True, slots=True)
class Page:
    """`parameters`: of its query, names in lower case, values as they were written; the first of each name."""

    hostname: str | None
    path: str
    parameters: Mapping[str, str]

    def parameter(self, *names: str) -> str | None:
        """The first of these that says something, decoded."""
        for name in names:
            if (raw := self.parameters.get(name)) and (value := _value(raw)):
                return value
        return None


def split_url(url: str) -> SplitResult:
    """urllib's parts of a URL. It normalizes a host that is not ASCII, which takes time by the square of its length: a
    quarter of a second for 8,000 characters that nobody's host has. Raises ValueError.
    """
    if not url.isascii() and (found := NETLOC.match("".join(url.split()))) and len(found[1]) > LONGEST_NETLOC:
        raise ValueError("its host is too long")
    return urlsplit(url)


@lru_cache(maxsize=REMEMBERED)
def read_url(url: str, allowed: tuple[str, ...] = ()) -> Page | None:
    """Of a page's whole URL; None for what is none. `allowed`: the parameters that stay in the path."""
    try:
        parts = split_url(url.strip())
        hostname = parts.hostname
    except ValueError:
        return None
    if parts.scheme in NO_PAGES:
        return None
    query, path = parts.query, _readable(parts.path) or "/"
    if is_route(parts.fragment):
        route, _, of_route = parts.fragment.partition("?")
        path += f"#{_readable(route)}"
        query = f"{query}&{of_route}" if query else of_route
    parameters = _parameters(query)
    return Page(bare_hostname(hostname), _with_allowed(path, parameters, allowed), parameters)


def read_path(path: str, allowed: Sequence[str] = ()) -> Page:
    """Of a path that a client gave as such: its own text stays as it is, but for the query string."""
    before, mark, rest = path.partition("?")
    if not mark:
        return Page(None, path, {})
    query, _, fragment = rest.partition("#")
    parameters = _parameters(query)
    kept = f"{before}#{fragment}" if is_route(fragment) else before
    return Page(None, _with_allowed(kept or "/", parameters, allowed), parameters)


def is_route(fragment: str) -> bool:
    """Whether it is a page of an application that has its routes behind the #, and no place within a page."""
    return fragment.startswith(("/", "!/"))


def bare_hostname(hostname: str | None) -> str | None:
    """As sites have them: lower case, without `www.`."""
    return (hostname or "").lower().rstrip(".").removeprefix("www.")[:LONGEST_HOST] or None


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
    return CONTROLS.sub(" ", unquote_plus(raw, errors="replace")).strip()[:LONGEST_VALUE]


def _readable(path: str) -> str:
    """`/caf%C3%A9` is `/café`, as browsers show it; what is no UTF-8, or would mean something else, stays."""
    return ESCAPED.sub(_decoded, path) if "%" in path else path


def _decoded(escaped: re.Match[str]) -> str:
    try:
        text = bytes.fromhex(escaped[0].replace("%", "")).decode()
    except UnicodeDecodeError:
        return escaped[0]
    return RESERVED.sub(lambda each: f"%{ord(each[0]):02X}", text)
