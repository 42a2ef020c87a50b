"""Enrichment: turns the fields of an event into the fields that reports use, and drops events that are not visits. It
runs in the worker.

It takes an event as the collector accepted it, its sender and its site. It returns the event as it is stored, without
url and client, or a `Drop` with its reason. STEPS is the complete list, in order. Existing values of an event are kept.
An event that is delivered again gives the same result.

A step that fails is skipped for that event, counted, and logged once. The event is still stored.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import structlog
from maxminddb import InvalidDatabaseError
from msgspec import Struct
from msgspec.structs import replace

from analytics.enrichment.channels import TrafficOrigin, channel_of
from analytics.enrichment.geolocation import Place, Places, place_said
from analytics.enrichment.sources import CLICK_IDS, Referrer, TrafficSource, read_referrer, source_named, source_of_host
from analytics.enrichment.spam_referrers import SpamReferrers
from analytics.enrichment.user_agents import agent_of
from analytics.events.account import AI_CRAWLER
from analytics.events.drop import Drop
from analytics.events.event import Event, storable
from analytics.events.page_patterns import matches
from analytics.events.page_urls import PageUrlParts, bare_hostname, read_path, read_url
from analytics.sites.site import Site
from analytics.sites.store import SiteStore
from analytics.visitors.client import Client

log = structlog.get_logger()

UTM = ("utm_medium", "utm_source", "utm_campaign", "utm_content", "utm_term")
OF_ORIGIN = frozenset(("referrer", "source", *UTM))
_LONGEST = {"referrer": 2048, "source": 255, **dict.fromkeys(UTM, 255), "language": 35, "screen": 11}  # others: 128
LANGUAGE = re.compile(r"([A-Za-z]{2,3})((?:-[A-Za-z0-9]{2,8})*)")
SCREEN = re.compile(r"(\d{1,5})(?:[xX]\d{1,5})?")
# up to this many CSS pixels of width; above them, Desktop
SCREENS = ((576, "Mobile"), (992, "Tablet"), (1440, "Laptop"))
# Exceptions that a bug in a step or in its data raises. A time limit or an unreachable store raises others.
BUGS = (ArithmeticError, AssertionError, AttributeError, InvalidDatabaseError, LookupError, OSError, TypeError,
        ValueError, RecursionError, re.error)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lookups:
    """Data that operators provide as files. `count_failure` is called with the name of a step that failed."""

    places: Places | None = None
    spam: SpamReferrers = field(default_factory=SpamReferrers)
    count_failure: Callable[[str], None] = lambda _: None


class Draft(Struct, gc=False):
    """An event during the steps. `page` holds the parts of its URL. `source` is who sent the visitor."""

    event: Event
    client: Client
    site: Site
    lookups: Lookups
    hostname: str | None
    path: str | None
    described: dict[str, str]
    page: PageUrlParts | None = None
    source: TrafficSource | None = None
    referrer: Referrer | None = None

    def put(self, name: str, value: str | None) -> None:
        """Set a value unless the event has one. Invalid text (half a surrogate pair) is replaced."""
        if value and name not in self.described:
            self.described[name] = _as_stored(name, value)

    def put_clean(self, name: str, value: str | None) -> None:
        """Set a value that may be stored as it is, unless the event has one."""
        if value and name not in self.described:
            self.described[name] = value

    def as_event(self) -> Event:
        return replace(
            self.event,
            hostname=self.hostname,
            path=self.path,
            described=self.described or None,
            url=None,
            client=None,
        )


Step = Callable[[Draft], str | None]  # returns the reason to drop the event, or None


def enrich(event: Event, client: Client | None, site: Site, lookups: Lookups) -> Event | Drop:
    """Enrich one event. `client` is None if the sender is not known any more."""
    draft = draft_of(event, client, site, lookups)
    for step in STEPS_OF_EXPORTED if event.exported_id else STEPS:
        try:
            reason = step(draft)
        except BUGS as error:
            lookups.count_failure(step.__name__)
            _log_failure(step.__name__, error)
            continue
        if reason is not None:
            return Drop(reason, event.site_id)
    return draft.as_event()


def draft_of(event: Event, client: Client | None, site: Site, lookups: Lookups) -> Draft:
    described = dict(event.described) if event.described else {}
    return Draft(event, client or _NOBODY, site, lookups, event.hostname, event.path, described)


_NOBODY = Client()


def put_page(draft: Draft) -> None:
    """Set the hostname, path and parameters of the page from its URL. A path from the client loses its query. Also read
    the referrer. put_source stores it again, without parts that may be secret.
    """
    allowed, keeps_slash = draft.site.allowed_parameters, draft.site.trailing_slash == "keep"
    url, path = draft.event.url, draft.path
    referrer = draft.described.pop("referrer", None)
    draft.referrer = read_referrer(referrer) if referrer else None
    page = read_url(url, allowed, keeps_slash=keeps_slash) if url else None
    draft.page = page
    if path:
        fragment = page.fragment if page else ""
        read = read_path(path, allowed, keeps_slash=keeps_slash, fragment=fragment)
        draft.page, draft.path = page or read, read.path
    elif page and path is None:
        draft.path = page.path
    given = bare_hostname(draft.hostname) if draft.hostname else None
    draft.hostname = given or (draft.page.hostname if draft.page else None)


def find_referrer(draft: Draft) -> None:
    referrer = draft.described.get("referrer")
    draft.referrer = read_referrer(referrer) if referrer else None


def drop_foreign_hostnames(draft: Draft) -> str | None:
    """Drop events of pages outside the site's domains, such as a copy of the site, if the site lists its domains."""
    domains = draft.site.domains
    return "foreign_hostname" if domains and draft.hostname and draft.hostname not in domains else None


def drop_excluded_paths(draft: Draft) -> str | None:
    return "excluded_path" if draft.path and matches(draft.site.excluded_paths, draft.path) else None


def put_ruled_path(draft: Draft) -> None:
    """Apply the site's rules to the path: its case, and the pages that count as one."""
    if draft.path:
        draft.path = draft.site.rules_for_paths().apply(draft.path)


def drop_bots(draft: Draft) -> str | None:
    """AI crawlers are counted by name."""
    agent = agent_of(draft.client.user_agent) if draft.client.user_agent else None
    if agent and agent.ai_crawler:
        return f"{AI_CRAWLER}{agent.ai_crawler}"
    return "bot" if agent and agent.is_bot else None


def drop_spam_referrers(draft: Draft) -> str | None:
    return "spam_referrer" if draft.referrer and draft.lookups.spam.has(draft.referrer.hostname) else None


def put_browser(draft: Draft) -> None:
    if draft.client.user_agent:
        agent, described = agent_of(draft.client.user_agent), draft.described
        if "browser" not in described:
            draft.put_clean("browser", agent.browser)
            draft.put_clean("browser_version", agent.browser_version)
        if "os" not in described:
            draft.put_clean("os", agent.os)
            draft.put_clean("os_version", agent.os_version)
        draft.put_clean("device", agent.device)


def put_source(draft: Draft) -> None:
    """Set the source: from the link's parameters, then from an advertisement's click id, then from the
    referring page.
    """
    page, described = draft.page, draft.described
    from_page = _put_referrer(draft)
    linked = page if page and page.parameters else None  # most pages have no parameters
    if linked and not linked.parameters.keys().isdisjoint(UTM):
        for name in UTM:
            draft.put(name, linked.parameter(name))
    clicked = _click_id(linked)
    if clicked and CLICK_IDS[clicked][1]:
        draft.put("utm_medium", f"({clicked})")
    for name in ("source", "utm_source"):
        if name in described and "//" in described[name]:
            described[name] = source_named(described[name]).name  # a URL, whose query is not needed
    named = described.get("source") or described.get("utm_source") or (linked and linked.parameter("ref", "source"))
    if named:
        draft.source = source_named(named)
    elif clicked and (CLICK_IDS[clicked][1] or from_page is None):
        draft.source = source_named(CLICK_IDS[clicked][0])
    else:
        draft.source = from_page
    draft.put("source", draft.source.name if draft.source else None)


def put_channel(draft: Draft) -> None:
    """Set the channel, unless the event has no data about its origin, not even a URL without a campaign."""
    described, event = draft.described, draft.event
    if "channel" in described:
        return
    given = event.described or ()
    if event.url or not OF_ORIGIN.isdisjoint(described) or not OF_ORIGIN.isdisjoint(given):
        described["channel"] = channel_of(
            TrafficOrigin(
                described.get("source", "").lower(),
                draft.source.kind if draft.source else "other",
                described.get("utm_medium", "").strip().lower(),
                described.get("utm_campaign", "").strip().lower(),
            )
        )


def put_place(draft: Draft) -> None:
    """Set the place from the CDN, and the missing parts from the file. A place outside the country that the event names
    is ignored.
    """
    described, client = draft.described, draft.client
    if "city" in described:
        return
    said = place_said(dict(client.place)) if client.place else None
    found = None
    if draft.lookups.places and client.address and not (said and said.city):
        found = draft.lookups.places.find(client.address)
    for place in (said, found):
        if place and described.get("country", place.country) == place.country:
            _put_place(draft, place)


def put_language(draft: Draft) -> None:
    draft.put_clean("language", language_of(draft.client.languages))


def put_screen(draft: Draft) -> None:
    """Replace a screen size by its class, because a size can identify people."""
    if screen := draft.described.get("screen"):
        draft.described["screen"] = screen_of(screen)


STEPS: Sequence[Step] = (
    put_page,
    drop_foreign_hostnames,
    drop_excluded_paths,
    put_ruled_path,
    drop_bots,
    drop_spam_referrers,
    put_browser,
    put_source,
    put_channel,
    put_place,
    put_language,
    put_screen,
)
# An exported event already has all values from when it was first stored, and stays as it is.
STEPS_OF_EXPORTED: Sequence[Step] = (
    find_referrer,
    drop_foreign_hostnames,
    drop_excluded_paths,
    drop_spam_referrers,
)


@dataclass(frozen=True)
class Enrichment:
    """What a worker needs to enrich a batch. `unseal` returns an event's sender, or None after the salt is
    destroyed. `count_senders` is called with the senders of each batch.
    """

    sites: SiteStore
    unseal: Callable[[str], Client | None]
    lookups: Lookups
    count_senders: Callable[[Collection[Client | None]], None] = lambda _: None

    def apply(self, events: Sequence[Event]) -> list[Event | Drop]:
        """Enrich the events, in their order. Raises Unavailable."""
        sites = self.sites.get_all({event.site_id for event in events})
        clients: dict[str, Client | None] = {}
        alike: dict[tuple[object, ...], Event | Drop] = {}
        outcomes: list[Event | Drop] = []
        for event in events:
            site = sites[event.site_id]
            if event.client is None:
                key = _page_key(event)
                if key not in alike:
                    alike[key] = enrich(event, None, site, self.lookups)
                outcomes.append(_as(alike[key], event))
            else:
                if event.client not in clients:
                    clients[event.client] = self.unseal(event.client)
                outcomes.append(enrich(event, clients[event.client], site, self.lookups))
        self.count_senders(clients.values())
        return outcomes


def _page_key(event: Event) -> tuple[object, ...]:
    """All that the steps read of an event without a sender. Many events of a batch are of the same pages."""
    described = tuple(event.described.items()) if event.described else ()
    return event.site_id, event.hostname, event.path, event.url, event.exported_id is None, described


def _as(outcome: Event | Drop, event: Event) -> Event | Drop:
    """The outcome of this event, if an event with the same key had `outcome`."""
    if isinstance(outcome, Drop):
        return outcome
    return replace(event, hostname=outcome.hostname, path=outcome.path, described=outcome.described, url=None)


def _as_stored(name: str, value: str) -> str:
    return storable(value)[: _LONGEST.get(name, 128)]


@lru_cache(maxsize=1000)
def language_of(languages: str) -> str | None:
    """Return the first language of an Accept-Language header, in the form of BCP 47: `en-US`, `zh-Hant-TW`."""
    found = LANGUAGE.fullmatch(languages.partition(",")[0].partition(";")[0].strip())
    if not found:
        return None
    language = found[1].lower() + "".join(f"-{_subtag(part)}" for part in found[2].split("-")[1:])
    return language[: _LONGEST["language"]]


def _subtag(part: str) -> str:
    if len(part) == 2:
        return part.upper()  # a region
    return part.title() if len(part) == 4 and part.isalpha() else part.lower()  # a script


@lru_cache(maxsize=1000)
def screen_of(screen: str) -> str:
    """Return the class of "1920x1080" or "1920". Any other text is already a class, or is kept unchanged."""
    if found := SCREEN.fullmatch(screen):
        width = int(found[1])
        return next((name for below, name in SCREENS if width < below), "Desktop")
    return screen


def _put_referrer(draft: Draft) -> TrafficSource | None:
    """Return the source of the referring page, or None if the page belongs to the site itself."""
    referrer = draft.referrer
    if referrer is None or referrer.hostname == draft.hostname or referrer.hostname in draft.site.domains:
        return None
    draft.described["referrer"] = referrer.text
    return source_of_host(referrer.hostname, referrer.path)


def _click_id(page: PageUrlParts | None) -> str | None:
    if not page or CLICK_IDS.keys().isdisjoint(page.parameters):
        return None
    return next((name for name in CLICK_IDS if page.parameters.get(name)), None)


def _put_place(draft: Draft, place: Place) -> None:
    draft.put("country", place.country)
    if draft.described.get("region", place.region) == place.region:
        draft.put("region", place.region)
        draft.put("city", place.city)


_failed: set[tuple[str, str]] = set()


def _log_failure(step: str, error: Exception) -> None:
    """Log where the error happened, without its message, which may contain an address or a user agent."""
    at = error.__traceback__
    while at and at.tb_next:
        at = at.tb_next
    where = f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}" if at else ""
    if (step, where) not in _failed:
        _failed.add((step, where))
        log.error("enrichment_failed", step=step, error=type(error).__name__, at=where)
