"""Sources: who sent a visitor, from the referring page, the link's parameters, or an advertisement's click id.

A source has a name, such as Google, and a kind, from which the channel is derived (channels.py). There are two tables.
Ghost maintains the first one (data/referrers.json, docs/enrichment.md). Ours has priority (data/sources.json). It holds
missing hosts, and kinds that Ghost does not have: videos, shops and AI assistants. Pure.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from analytics.urls import plain_host, split_url

Kind = Literal["search", "social", "video", "shopping", "ai", "email", "display", "audio", "sms", "other"]

DATA = Path(__file__).parent / "data"
TABLE = DATA / "referrers.json"
SOURCE_KINDS: dict[str, Kind] = {"search": "search", "social": "social", "email": "email", "paid": "display"}
_REMEMBERED, _LONGEST_REMEMBERED = 10_000, 300  # hosts and referrers; characters of a referrer
LONGEST_REFERRER = 2048  # characters, as in analytics/events/schema.py

REFERRER_SCHEMES = ("http", "https", "android-app", "")
NO_HOSTS = ("null", "undefined", "none")
# A host without a scheme that is not a file: `news.example/post`, but neither `index.html` nor `a@b.example`.
BARE_HOST = re.compile(
    r"[^\s/@:.]+(?:\.[^\s/@:.]+)*\.(?!(?:html?|php|aspx?|jsp|cgi)(?:[/:]|\Z))[^\W\d_][^\s/@:.]+\.?(?::\d+)?(?:/|\Z)",
    re.IGNORECASE,
)
# What follows a path: parameters, and a query or a fragment that was percent-encoded any number of times.
AFTER_PATH = re.compile(r";|%(?:25)*(?:3F|23|3B)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Referrer:
    """A referrer. `text` is the part that is stored, without query, fragment and credentials. `hostname` is in the form
    of Site.domains, or is an app's name.
    """

    text: str
    hostname: str
    path: str


@dataclass(frozen=True, slots=True)
class TrafficSource:
    name: str
    kind: Kind = "other"


def _by_key(kinds: Mapping[Kind, Mapping[str, Sequence[str]]]) -> dict[str, TrafficSource]:
    return {key: TrafficSource(name, kind) for kind, its in kinds.items() for key, name in _inverted(its).items()}


def _inverted(keys: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The name of each key."""
    return {key: name for name, its in keys.items() for key in its}


_OURS: dict[str, Any] = json.loads((DATA / "sources.json").read_text(encoding="utf-8"))
# Hosts, without www. They also match the hosts below them.
HOSTS = _by_key(_OURS["hosts"])
# Android apps send their own name where a browser sends a page.
APPS = _by_key(_OURS["apps"])
# Common values of utm_source that are neither a name nor a host.
_SHORT_NAMES = _inverted(_OURS["short_names"])
# Ghost's names for sources that have another name here.
_OTHER_NAMES = _inverted(_OURS["names_in_referrers_json"])
# Click ids that advertisements add to a link. The value is true if the click id always means an advertisement; it then
# gives a medium to a link without one. fbclid and igshid are on every link out of Facebook and Instagram.
CLICK_IDS: dict[str, tuple[str, bool]] = {
    click_id: (name, is_paid)
    for group, is_paid in (("paid_click_ids", True), ("other_click_ids", False))
    for click_id, name in _OURS[group].items()
}

# Prefixes below a search engine's host that also search, such as `cn.` and `uk.search.`. Its `docs.` and `news.` are
# pages.
SEARCHES = re.compile(r"((www?\d?|m|mobile|touch|search|[a-z]?search|images?|lite|html|start|safe|r|s|[a-z]{2})\.)*")

_EMAILS = ("email", "e-mail", "e_mail", "e mail", "newsletter")


def read_referrer(text: str) -> Referrer | None:
    """Return the page or app that a visitor came from. Return None for other texts that clients send as a referrer: a
    path of the site itself, a word such as `null`, another scheme such as `about:` or `mailto:`.
    """
    return (_remembered_referrer if len(text) <= _LONGEST_REMEMBERED else _read_referrer)(text)


def _read_referrer(text: str) -> Referrer | None:
    try:
        url = split_url(text)
        if not url.scheme and not url.host and BARE_HOST.match(url.path):
            url = split_url(f"//{url.path}")
    except ValueError:
        return None
    if url.scheme not in REFERRER_SCHEMES or not url.host or url.host in NO_HOSTS:
        return None
    scheme = f"{url.scheme}://" if url.scheme else ""
    host = f"[{url.host}]" if ":" in url.host else url.host
    port = f":{url.port}" if url.port else ""
    path = AFTER_PATH.split(url.path, maxsplit=1)[0]
    return Referrer(f"{scheme}{host}{port}{path}"[:LONGEST_REFERRER], plain_host(host), path)


_remembered_referrer = lru_cache(maxsize=_REMEMBERED)(_read_referrer)


def source_of_host(hostname: str, path: str = "") -> TrafficSource:
    """Return the source of a host. An unknown host is its own source."""
    if path.strip("/") and hostname.partition(".")[0] in _pathed():
        first = path.split("/", 2)[1]
        if found := _table().get(f"{hostname}/{first}") or _table().get(f"{hostname}{path}"):
            return found
    return _of_host(hostname)


@lru_cache(maxsize=_REMEMBERED)
def _of_host(hostname: str) -> TrafficSource:
    if app := APPS.get(hostname):
        return app
    table, part = _table(), hostname
    while part:
        if found := table.get(part):
            below = hostname.removesuffix(part)
            return found if found.kind != "search" or SEARCHES.fullmatch(below) else TrafficSource(found.name)
        part = part.partition(".")[2]
    return TrafficSource(hostname)


@lru_cache(maxsize=_REMEMBERED)
def source_named(name: str) -> TrafficSource:
    """Return the source that a link's utm_source, ref or source means: a known name in any spelling, a host, or the
    text itself.
    """
    text = name.strip().lower()
    if "//" in text:
        referrer = read_referrer(text)
        return (
            source_of_host(referrer.hostname, referrer.path)
            if referrer
            else TrafficSource(text.partition("//")[0] or "unknown")
        )
    known = _names().get(_SHORT_NAMES.get(text, text).lower())
    if known is None and text in _EMAILS:
        return TrafficSource(name, "email")
    if known is None and text == "sms":
        return TrafficSource(name, "sms")
    if known is None and "." in text and " " not in text:
        found = source_of_host(text.removeprefix("www."))
        known = found if found.name != text.removeprefix("www.") else None
    return known or TrafficSource(name)


@cache
def _table() -> dict[str, TrafficSource]:
    """The sources by host, or by host and first part of a path."""
    table = {
        host.lower().removeprefix("www."): TrafficSource(
            _OTHER_NAMES.get(each["source"], each["source"]), SOURCE_KINDS.get(each["medium"], "other")
        )
        for host, each in json.loads(TABLE.read_text(encoding="utf-8")).items()
    }
    kinds = {source.name: source for source in HOSTS.values() if source.kind in ("shopping", "video")}
    # A source that is a shop or shows videos on one of its hosts has that kind on all of them, such as Amazon in other
    # countries.
    return {host: kinds.get(source.name, source) for host, source in table.items()} | HOSTS


@cache
def _names() -> dict[str, TrafficSource]:
    """The sources by name in lower case, with and without spaces. A search engine has priority over another source of
    the same name.
    """
    names: dict[str, TrafficSource] = {}
    for source in (*_table().values(), *APPS.values()):
        for name in (source.name.lower(), source.name.lower().replace(" ", "")):
            if name not in names or (source.kind == "search" and names[name].kind in ("email", "other")):
                names[name] = source
    return names


@cache
def _pathed() -> frozenset[str]:
    """The first parts of hosts on which only some pages belong to another source, such as google.com/imgres."""
    return frozenset(key.partition(".")[0] for key in _table() if "/" in key)
