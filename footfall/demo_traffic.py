"""Traffic of three made-up sites, as events for POST /events: a shop, a blog and an app whose visitors sign in.

There are weekdays and nights, a launch on which many more visitors come, campaigns, bots, goals and revenue. An event
has the same id each time, so a day that is sent again does not count twice. Pure.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain
from typing import Any
from zoneinfo import ZoneInfo

Weights = Mapping[Any, int]

_CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/155.0 Safari/537.36"
_SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.1"
    " Mobile/15E148 Safari/604.1"
)
_MAC = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.1"
    " Safari/605.1.15"
)
_FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
# The user agent and the screens that its devices have.
_DEVICES: Weights = {
    (_CHROME, ("1920x1080", "1536x864", "2560x1440")): 43, (_SAFARI, ("390x844", "402x874")): 24,
    (_MAC, ("1440x900", "1728x1117")): 10, (_FIREFOX, ("1920x1080", "1366x768")): 9,
    (_CHROME + " Edg/155.0", ("1920x1080",)): 8,
    ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", ("",)): 3,
    ("GPTBot/1.2", ("",)): 2, ("Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)", ("",)): 1,
}  # fmt: skip
_REFERRERS: Weights = {
    "": 34, "https://www.google.com/": 30, "https://duckduckgo.com/": 5, "https://www.bing.com/": 3,
    "https://chatgpt.com/": 6, "https://www.reddit.com/r/selfhosted/": 4, "https://github.com/": 4,
    "https://news.ycombinator.com/": 3, "https://mastodon.social/": 2, "https://t.co/": 2,
}  # fmt: skip
_AT_LAUNCH: Weights = {"https://news.ycombinator.com/": 6, "": 2, "https://www.reddit.com/r/webdev/": 2}
_CAMPAIGNS: Weights = {
    "": 92, "?utm_source=newsletter&utm_medium=email&utm_campaign=november-issue": 4,
    "?utm_source=google&utm_medium=cpc&utm_campaign=brand": 3,
    "?utm_source=partner&utm_medium=referral&utm_campaign=beans": 1,
}  # fmt: skip
# Country, region, city and language.
_PLACES: Weights = {
    ("US", "US-CA", "San Francisco", "en-US"): 16, ("US", "US-NY", "New York", "en-US"): 11,
    ("DE", "DE-BE", "Berlin", "de-DE"): 12, ("DE", "DE-HH", "Hamburg", "de-DE"): 5,
    ("GB", "GB-LND", "London", "en-GB"): 10, ("FR", "FR-IDF", "Paris", "fr-FR"): 7,
    ("NL", "NL-NH", "Amsterdam", "nl-NL"): 5, ("IN", "IN-KA", "Bengaluru", "en-IN"): 6,
    ("BR", "BR-SP", "São Paulo", "pt-BR"): 4, ("JP", "JP-13", "Tokyo", "ja-JP"): 3,
    ("CA", "CA-ON", "Toronto", "en-CA"): 4, ("ES", "ES-MD", "Madrid", "es-ES"): 3,
    ("PL", "PL-MZ", "Warsaw", "pl-PL"): 3,
}  # fmt: skip
_HOURS = (2, 1, 1, 1, 1, 2, 4, 7, 10, 12, 12, 11, 10, 11, 12, 12, 11, 9, 9, 10, 10, 8, 5, 3)  # of visits, by local hour
_LEAVE = ""  # a page that ends the visit
_MOST_PAGES = 12  # of a visit
_AGAIN = 0.16  # of the visitors come again some hours later


@dataclass(frozen=True, slots=True)
class DemoAction:
    """An event that a visitor of a page sends with this `likelihood`. It has one of `props`. `prices`: the amounts of
    its revenue, in EUR.
    """

    event_type: str
    likelihood: float
    props: tuple[dict[str, Any], ...] = ({},)
    prices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DemoSite:
    """`entries`: the first pages of visits. `ways`: the next pages of each page. `settings`: those of the site, in
    JSON. `funnel`: the steps of a funnel, in JSON. `has_users`: visitors sign in and come back, so events have a
    user_id.
    """

    site_id: str
    visitors_a_day: int
    weekend: float
    entries: Weights
    ways: Mapping[str, Weights]
    actions: Mapping[str, tuple[DemoAction, ...]]
    settings: Mapping[str, Any]
    funnel: tuple[dict[str, str], ...]
    has_users: bool = False

    @property
    def host(self) -> str:
        return f"{self.site_id}.example"

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.settings["timezone"])


_LINKS = ({"url": "https://github.com/footfall"}, {"url": "https://flask.palletsprojects.com/"})
_OUTBOUND = DemoAction("Outbound Link: Click", 0.06, _LINKS)
_SHOP = DemoSite(
    "demo-shop",
    130,
    1.25,
    {
        "/": 40,
        "/coffee": 18,
        "/coffee/ethiopia": 14,
        "/coffee/colombia": 8,
        "/grinders/hand": 9,
        "/guides/espresso": 11,
    },
    {
        "/": {"/coffee": 38, "/grinders": 14, "/guides/espresso": 6, "/about": 4, _LEAVE: 38},
        "/coffee": {"/coffee/ethiopia": 32, "/coffee/colombia": 22, "/coffee/decaf": 8, "/": 4, _LEAVE: 34},
        "/coffee/ethiopia": {"/cart": 22, "/coffee/colombia": 16, "/coffee": 14, _LEAVE: 48},
        "/coffee/colombia": {"/cart": 18, "/coffee/ethiopia": 15, "/coffee": 15, _LEAVE: 52},
        "/coffee/decaf": {"/cart": 10, "/coffee": 20, _LEAVE: 70},
        "/grinders": {"/grinders/hand": 45, "/grinders/electric": 20, _LEAVE: 35},
        "/grinders/hand": {"/cart": 14, "/grinders": 16, "/guides/espresso": 10, _LEAVE: 60},
        "/grinders/electric": {"/cart": 7, "/grinders": 23, _LEAVE: 70},
        "/guides/espresso": {"/grinders": 14, "/coffee": 18, _LEAVE: 68},
        "/cart": {"/checkout": 58, "/coffee": 12, _LEAVE: 30},
        "/checkout": {"/thanks": 66, "/cart": 10, _LEAVE: 24},
    },
    {
        "/cart": (DemoAction("Add to cart", 0.9, ({"size": "250 g"}, {"size": "1 kg"}, {"size": "500 g"})),),
        "/thanks": (
            DemoAction(
                "Purchase", 1, ({"method": "card"}, {"method": "paypal"}), ("14.50", "29.00", "48.00", "129.00")
            ),
        ),
        "/about": (_OUTBOUND, DemoAction("404", 0.04)),
        "/guides/espresso": (DemoAction("File Download", 0.05, ({"url": "https://demo-shop.example/espresso.pdf"},)),),
    },
    {
        "timezone": "Europe/Berlin",
        "goals": [
            {"event_type": "Add to cart"},
            {"page": "/checkout", "name": "Checkout"},
            {"event_type": "Purchase", "currency": "EUR"},
        ],
    },
    ({"page": "/coffee/*"}, {"page": "/cart"}, {"page": "/checkout"}, {"goal": "Purchase"}),
)
_BLOG = DemoSite(
    "demo-blog",
    80,
    0.7,
    {
        "/": 22,
        "/exact-numbers": 24,
        "/counting-without-cookies": 17,
        "/sqlite-on-a-server": 20,
        "/feed": 5,
        "/talks": 12,
    },
    {
        "/": {"/exact-numbers": 22, "/sqlite-on-a-server": 17, "/about": 6, "/talks": 5, _LEAVE: 50},
        "/exact-numbers": {"/counting-without-cookies": 15, "/": 9, "/about": 4, _LEAVE: 72},
        "/counting-without-cookies": {"/exact-numbers": 12, "/": 8, _LEAVE: 80},
        "/sqlite-on-a-server": {"/": 10, "/talks": 5, _LEAVE: 85},
        "/talks": {"/": 12, "/about": 8, _LEAVE: 80},
    },
    {
        "/exact-numbers": (DemoAction("Subscribe", 0.02, ({"list": "monthly"}, {"list": "weekly"})), _OUTBOUND),
        "/sqlite-on-a-server": (DemoAction("Subscribe", 0.015, ({"list": "monthly"},)), _OUTBOUND),
        "/talks": (DemoAction("File Download", 0.1, ({"url": "https://demo-blog.example/slides.pdf"},)),),
    },
    {"timezone": "America/New_York", "goals": [{"event_type": "Subscribe"}, {"page": "/talks", "name": "Talks"}]},
    ({"page": "/exact-numbers"}, {"goal": "Subscribe"}),
)
_APP = DemoSite(
    "demo-app",
    80,
    0.35,
    {"/boards": 60, "/": 22, "/inbox": 18},
    {
        "/": {"/boards": 70, "/pricing": 12, _LEAVE: 18},
        "/boards": {"/boards/roadmap": 34, "/boards/bugs": 24, "/inbox": 12, _LEAVE: 30},
        "/boards/roadmap": {"/boards": 20, "/boards/bugs": 16, "/settings": 4, _LEAVE: 60},
        "/boards/bugs": {"/boards": 22, "/inbox": 12, _LEAVE: 66},
        "/inbox": {"/boards": 34, "/boards/bugs": 16, _LEAVE: 50},
        "/pricing": {"/settings": 30, "/": 20, _LEAVE: 50},
    },
    {
        "/boards/roadmap": (DemoAction("Card created", 0.3, ({"kind": "idea"}, {"kind": "task"})),),
        "/boards/bugs": (DemoAction("Card created", 0.4, ({"kind": "bug"},)),),
        "/settings": (DemoAction("Upgrade", 0.25, ({"plan": "team"}, {"plan": "pro"}), ("9.00", "29.00")),),
    },
    {
        "timezone": "Europe/London",
        "goals": [{"event_type": "Card created"}, {"event_type": "Upgrade", "currency": "EUR"}],
    },
    ({"page": "/pricing"}, {"page": "/settings"}, {"goal": "Upgrade"}),
    has_users=True,
)
DEMO_SITES = (_SHOP, _BLOG, _APP)


def day_events(site: DemoSite, day: date, days: int, until: datetime, launch: date) -> Iterator[dict[str, Any]]:
    """The events of a day in the site's zone up to `until` (aware UTC), which is within the last of the `days`.

    On the day of the `launch`, many more visitors come, most of them from one site.
    """
    back = (until.astimezone(site.zone).date() - day).days
    chance = random.Random(f"{site.site_id} {day}")  # noqa: S311  no secret: each run must give the same events
    is_launch = day == launch
    growth = 1.3 - 0.6 * back / max(1, days)
    usual = site.visitors_a_day * growth * (site.weekend if day.weekday() >= 5 else 1) * chance.uniform(0.9, 1.1)
    for number in range(int(usual * (2.6 if is_launch else 1))):
        visitor = _visitor(site, chance, days - back)
        starts = [_start(site, day, chance)]
        if chance.random() < _AGAIN:
            starts.append(starts[0] + timedelta(minutes=chance.randrange(90, 400)))
        referrers = _AT_LAUNCH if is_launch else _REFERRERS
        events = chain.from_iterable(_visit(site, start, chance, referrers) for start in starts)
        for n, (at, event) in enumerate(events):
            if at < until:
                yield visitor | event | {"timestamp": at.isoformat(), "event_id": f"{day} {number} {n}"}


def _start(site: DemoSite, day: date, chance: random.Random) -> datetime:
    hour = chance.choices(range(24), _HOURS)[0]
    start = datetime.combine(day, time(hour), site.zone).astimezone(UTC)
    return start + timedelta(milliseconds=chance.randrange(3_600_000))


def _user(chance: random.Random, age: int) -> str:
    """A user of a site that is so many days old. Five join each day, and most stop coming after some weeks."""
    joined = 40 + 5 * age
    return f"user-{max(0, joined - int(chance.expovariate(1 / 90)))}"


def _visitor(site: DemoSite, chance: random.Random, age: int) -> dict[str, Any]:
    """The fields that all events of a visitor have. `age` of the site in days."""
    agent, screens = _pick(chance, _DEVICES)
    country, region, city, language = _pick(chance, _PLACES)
    visitor = {
        "site_id": site.site_id,
        "ip": f"10.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(256)}",
        "user_agent": agent, "screen": chance.choice(screens), "language": language,
        "country": country, "region": region, "city": city,
    }  # fmt: skip
    return visitor | ({"user_id": _user(chance, age)} if site.has_users else {})


def _visit(
    site: DemoSite, at: datetime, chance: random.Random, referrers: Weights
) -> Iterator[tuple[datetime, dict[str, Any]]]:
    page, query, referrer = _pick(chance, site.entries), _pick(chance, _CAMPAIGNS), _pick(chance, referrers)
    came = {"referrer": referrer} if referrer and not query else {}
    for _ in range(_MOST_PAGES):
        seen = {"url": f"https://{site.host}{page}{query}"}
        yield at, seen | came | {"event_type": "pageview"}
        for action in site.actions.get(page, ()):
            if chance.random() < action.likelihood:
                yield at + timedelta(seconds=chance.randrange(2, 20)), seen | _acted(action, chance)
        read = 20_000 + int(chance.expovariate(1 / 40_000))
        at += timedelta(milliseconds=read)
        engagement = {"engagement_time": read, "scroll_depth": chance.randrange(20, 101)}
        yield at, seen | engagement | {"event_type": "engagement"}
        page, query, came = _pick(chance, site.ways.get(page, {_LEAVE: 1})), "", {}
        if page == _LEAVE:
            return


def _acted(action: DemoAction, chance: random.Random) -> dict[str, Any]:
    event = {"event_type": action.event_type, "props": chance.choice(action.props)}
    if not action.prices:
        return event
    return event | {"revenue": {"amount": chance.choice(action.prices), "currency": "EUR"}}


def _pick(chance: random.Random, weighted: Weights) -> Any:
    return chance.choices(list(weighted), list(weighted.values()))[0]
