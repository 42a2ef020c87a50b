"""Enrichment: what an event says becomes what reports ask for, and what is no visit is dropped. In the worker.

In: an event as the collector took it, who sent it, its site. Out: the event as it is stored, without url and client, or
a `Drop` with its reason. STEPS is the whole list, in order. What an event already has is kept, and the same event comes
out the same whenever it is delivered again.

Wrong can go: a step that fails over an event is left out for it, counted and logged once; the event is stored.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import structlog
from maxminddb import InvalidDatabaseError

from analytics.enrichment.channels import TrafficOrigin, channel_of
from analytics.enrichment.geolocation import Place, Places, place_said
from analytics.enrichment.sources import CLICK_IDS, Referrer, TrafficSource, read_referrer, source_named, source_of_host
from analytics.enrichment.spam_referrers import SpamReferrers
from analytics.enrichment.user_agents import agent_of
from analytics.events.drop import Drop
from analytics.events.event import Event, storable
from analytics.events.page_urls import PageUrlParts, bare_hostname, matches, read_path, read_url
from analytics.sites.site import Site
from analytics.sites.store import SiteStore
from analytics.visitors.client import Client
from config.metrics import ENRICHMENT_FAILURES
from config.settings import Settings

log = structlog.get_logger()

UTM = ("utm_medium", "utm_source", "utm_campaign", "utm_content", "utm_term")
OF_ORIGIN = ("referrer", "source", *UTM)
_LONGEST = {"referrer": 2048, "source": 255, **dict.fromkeys(UTM, 255), "language": 35, "screen": 11}  # others: 128
LANGUAGE = re.compile(r"([A-Za-z]{2,3})((?:-[A-Za-z0-9]{2,8})*)")
SCREEN = re.compile(r"(\d{1,5})(?:[xX]\d{1,5})?")
SCREENS = ((576, "Mobile"), (992, "Tablet"), (1440, "Laptop"))  # below so many CSS pixels of width; else Desktop
# What a bug in a step or in its data raises; a time limit and a store that is away are none of them.
BUGS = (ArithmeticError, AssertionError, AttributeError, InvalidDatabaseError, LookupError, OSError, TypeError,
        ValueError, RecursionError, re.error)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lookups:
    """What is not in the code: files that an operator gives."""

    places: Places | None = None
    spam: SpamReferrers = field(default_factory=SpamReferrers)


@dataclass(slots=True)
class Draft:
    """An event on its way through the steps. `page`: as its URL has it. `source`: who sent the visitor."""

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
        """Where the event does not say it itself. What is no text (half a surrogate pair) is replaced."""
        if value and name not in self.described:
            self.described[name] = storable(value)[: _LONGEST.get(name, 128)]

    def as_event(self) -> Event:
        event, described = self.event, self.described or None
        ours = (None, None, self.hostname, self.path, described)
        if ours == (event.url, event.client, event.hostname, event.path, event.described):
            return event  # what a server sends is often complete; to replace it takes longer than all steps
        return replace(
            event,
            hostname=self.hostname,
            path=self.path,
            described=described,
            url=None,
            client=None,
        )


Step = Callable[[Draft], str | None]  # the reason to drop the event, or None


def enrich(event: Event, client: Client | None, site: Site, lookups: Lookups) -> Event | Drop:
    """`client`: None where nobody knows any more who sent it."""
    draft = draft_of(event, client, site, lookups)
    for step in STEPS_OF_EXPORTED if event.exported_id else STEPS:
        try:
            reason = step(draft)
        except BUGS as error:
            _tell_failure(step.__name__, error)
            continue
        if reason is not None:
            return Drop(reason, event.site_id)
    return draft.as_event()


def draft_of(event: Event, client: Client | None, site: Site, lookups: Lookups) -> Draft:
    described = dict(event.described) if event.described else {}
    return Draft(event, client or _NOBODY, site, lookups, event.hostname, event.path, described)


_NOBODY = Client()


def put_page(draft: Draft) -> None:
    """Hostname, path and the parameters of the page, from its URL; a path that the client gave loses its query. Whose
    page the visitor came from; the referrer itself is put back by put_source, without what may be secret in it.
    """
    allowed, keeps_slash = draft.site.allowed_parameters, draft.site.trailing_slash == "keep"
    url, path = draft.event.url, draft.path
    referrer = draft.described.pop("referrer", None)
    draft.referrer = read_referrer(referrer) if referrer else None
    page = read_url(url, allowed, keeps_slash=keeps_slash) if url else None
    draft.page = page
    if path:
        fragment = page.fragment if page else ""
        given = read_path(path, allowed, keeps_slash=keeps_slash, fragment=fragment)
        draft.page, draft.path = page or given, given.path
    elif page and path is None:
        draft.path = page.path
    draft.hostname = bare_hostname(draft.hostname) or (draft.page.hostname if draft.page else None)


def find_referrer(draft: Draft) -> None:
    referrer = draft.described.get("referrer")
    draft.referrer = read_referrer(referrer) if referrer else None


def drop_foreign_hostnames(draft: Draft) -> str | None:
    """Of pages that are not the site's, as a copy of it elsewhere, where the site says which are."""
    domains = draft.site.domains
    return "foreign_hostname" if domains and draft.hostname and draft.hostname not in domains else None


def drop_excluded_paths(draft: Draft) -> str | None:
    return "excluded_path" if draft.path and matches(draft.site.excluded_paths, draft.path) else None


def drop_bots(draft: Draft) -> str | None:
    return "bot" if draft.client.user_agent and agent_of(draft.client.user_agent).is_bot else None


def drop_spam_referrers(draft: Draft) -> str | None:
    return "spam_referrer" if draft.referrer and draft.lookups.spam.has(draft.referrer.hostname) else None


def put_browser(draft: Draft) -> None:
    if draft.client.user_agent:
        agent, described = agent_of(draft.client.user_agent), draft.described
        if "browser" not in described:
            draft.put("browser", agent.browser)
            draft.put("browser_version", agent.browser_version)
        if "os" not in described:
            draft.put("os", agent.os)
            draft.put("os_version", agent.os_version)
        draft.put("device", agent.device)


def put_source(draft: Draft) -> None:
    """By what the link says, then by an advertisement's click id, then by the page that the visitor came from."""
    page, described = draft.page, draft.described
    from_page = _put_referrer(draft)
    if page and page.parameters:
        for name in UTM:
            draft.put(name, page.parameter(name))
    clicked = _click_id(page)
    if clicked and CLICK_IDS[clicked][1]:
        draft.put("utm_medium", f"({clicked})")
    for name in ("source", "utm_source"):
        if "//" in described.get(name, ""):
            described[name] = source_named(described[name]).name  # a URL, whose query nobody needs
    named = described.get("source") or described.get("utm_source") or (page and page.parameter("ref", "source"))
    if named:
        draft.source = source_named(named)
    elif clicked and (CLICK_IDS[clicked][1] or from_page is None):
        draft.source = source_named(CLICK_IDS[clicked][0])
    else:
        draft.source = from_page
    draft.put("source", draft.source.name if draft.source else None)


def put_channel(draft: Draft) -> None:
    """Not for an event that says nothing of where its visitor came from, not even by a URL without a campaign."""
    described, event = draft.described, draft.event
    says = event.url or any(name in described or name in (event.described or ()) for name in OF_ORIGIN)
    if says and "channel" not in described:
        described["channel"] = channel_of(
            TrafficOrigin(
                described.get("source", "").lower(),
                draft.source.kind if draft.source else "other",
                described.get("utm_medium", "").strip().lower(),
                described.get("utm_campaign", "").strip().lower(),
            )
        )


def put_place(draft: Draft) -> None:
    """As the CDN says, and what it leaves open by the file; nothing beside another country that the event names."""
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
    draft.put("language", language_of(draft.client.languages))


def put_screen(draft: Draft) -> None:
    """A class instead of a size, which would tell people apart."""
    if screen := draft.described.get("screen"):
        draft.described["screen"] = screen_of(screen)


STEPS: Sequence[Step] = (
    put_page,
    drop_foreign_hostnames,
    drop_excluded_paths,
    drop_bots,
    drop_spam_referrers,
    put_browser,
    put_source,
    put_channel,
    put_place,
    put_language,
    put_screen,
)
# An event that was exported has all that it was given when it was stored first, and stays as it is.
STEPS_OF_EXPORTED: Sequence[Step] = (
    find_referrer,
    drop_foreign_hostnames,
    drop_excluded_paths,
    drop_spam_referrers,
)


@dataclass(frozen=True)
class Enrichment:
    """What a worker needs to enrich a batch. `unseal`: who sent an event, None once that is destroyed."""

    sites: SiteStore
    unseal: Callable[[str], Client | None]
    lookups: Lookups

    def apply(self, events: Sequence[Event]) -> list[Event | Drop]:
        """In their order. Raises Unavailable."""
        sites: dict[str, Site] = {}
        clients: dict[str | None, Client | None] = {None: None}
        for event in events:
            if event.site_id not in sites:
                sites[event.site_id] = self.sites.get(event.site_id)
            if event.client not in clients:
                clients[event.client] = self.unseal(event.client or "")
        return [enrich(event, clients[event.client], sites[event.site_id], self.lookups) for event in events]


def make_enrichment(settings: Settings, sites: SiteStore, unseal: Callable[[str], Client | None]) -> Enrichment:
    return Enrichment(sites, unseal, make_lookups(settings))


def make_lookups(settings: Settings) -> Lookups:
    places = Places(settings.geoip_db) if settings.geoip_db else None
    return Lookups(places, SpamReferrers(settings.spam_referrers))


@lru_cache(maxsize=1000)
def language_of(languages: str) -> str | None:
    """The first of an Accept-Language, as BCP 47 writes it: `en-US`, `zh-Hant-TW`."""
    found = LANGUAGE.fullmatch(languages.partition(",")[0].partition(";")[0].strip())
    if not found:
        return None
    return found[1].lower() + "".join(f"-{_subtag(part)}" for part in found[2].split("-")[1:])


def _subtag(part: str) -> str:
    if len(part) == 2:
        return part.upper()  # a region
    return part.title() if len(part) == 4 and part.isalpha() else part.lower()  # a script


@lru_cache(maxsize=1000)
def screen_of(screen: str) -> str:
    """Of "1920x1080" or "1920"; what is neither is a class already, or nobody's business to mend."""
    if found := SCREEN.fullmatch(screen):
        width = int(found[1])
        return next((name for below, name in SCREENS if width < below), "Desktop")
    return screen


def _put_referrer(draft: Draft) -> TrafficSource | None:
    """Whose page it was. The site's own is none."""
    referrer = draft.referrer
    if referrer is None or referrer.hostname == draft.hostname or referrer.hostname in draft.site.domains:
        return None
    draft.described["referrer"] = referrer.text
    return source_of_host(referrer.hostname, referrer.path)


def _click_id(page: PageUrlParts | None) -> str | None:
    if not page or not page.parameters:
        return None
    return next((name for name in CLICK_IDS if page.parameters.get(name)), None)


def _put_place(draft: Draft, place: Place) -> None:
    draft.put("country", place.country)
    if draft.described.get("region", place.region) == place.region:
        draft.put("region", place.region)
        draft.put("city", place.city)


_failed: set[tuple[str, str]] = set()


def _tell_failure(step: str, error: Exception) -> None:
    """Where it happened, and not what it says, which may be an address or a user agent."""
    ENRICHMENT_FAILURES.labels(step).inc()
    at = error.__traceback__
    while at and at.tb_next:
        at = at.tb_next
    where = f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}" if at else ""
    if (step, where) not in _failed:
        _failed.add((step, where))
        log.error("enrichment_failed", step=step, error=type(error).__name__, at=where)
