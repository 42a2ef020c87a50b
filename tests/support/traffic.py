"""Seeded traffic of a website, as events for POST /events.

Visits have pages, sources, places, devices and goals, and some are of bots. There are weekdays and nights, and a day on
which many more visitors come. The same seed and time give the same events.
"""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

_CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/155.0 Safari/537.36"
_SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.1"
    " Mobile/15E148 Safari/604.1"
)
_FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
_EDGE = _CHROME + " Edg/155.0"
_MAC = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.1"
    " Safari/605.1.15"
)
_AGENTS = {_CHROME: 46, _SAFARI: 22, _MAC: 9, _FIREFOX: 11, _EDGE: 8}
_BOTS = ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "curl/8.5", "GPTBot/1.2")
_PAGES = {
    "/": 30, "/pricing": 18, "/blog/exact-numbers": 15, "/docs/start": 11, "/customers": 6, "/changelog": 4,
    "/blog/how-we-count-visitors-without-cookies": 4, "/docs/tracker": 3, "/about": 2, "/jobs": 1,
}  # fmt: skip
_REFERRERS = {
    "": 34, "https://www.google.com/": 30, "https://duckduckgo.com/": 5, "https://news.ycombinator.com/": 6,
    "https://chatgpt.com/": 6, "https://www.reddit.com/r/selfhosted/": 4, "https://github.com/": 4,
    "https://mastodon.social/": 2, "https://www.bing.com/": 3,
}  # fmt: skip
_CAMPAIGNS = ("spring-launch", "newsletter-42", "partners")
_PLACES = {
    ("US", "US-CA", "San Francisco"): 22, ("DE", "DE-BE", "Berlin"): 14, ("GB", "GB-LND", "London"): 9,
    ("IN", "IN-KA", "Bengaluru"): 8, ("FR", "FR-IDF", "Paris"): 6, ("BR", "BR-SP", "São Paulo"): 4,
    ("DE", "DE-HH", "Hamburg"): 4, ("US", "US-NY", "New York"): 8, ("JP", "JP-13", "Tokyo"): 3,
}  # fmt: skip
_LANGUAGES = ("en-US", "en-GB", "de-DE", "fr-FR", "pt-BR", "ja-JP")
_SCREENS = ("1920x1080", "1440x900", "390x844", "820x1180")
_HOURS = (1, 1, 1, 1, 1, 2, 4, 7, 10, 12, 12, 11, 10, 11, 12, 12, 11, 9, 8, 8, 7, 5, 3, 2)  # by UTC hour


def traffic(site: str, until: datetime, days: int, visits_a_day: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    """The events of the `days` before `until` (aware UTC). Each has an event_id, so they may be sent again."""
    chance = random.Random(seed)
    launch = until.date() - timedelta(days=days // 3)
    for back in range(days, -1, -1):
        day = (until - timedelta(days=back)).date()
        growth = 1.3 - 0.6 * back / max(1, days)
        weekend = 0.55 if day.weekday() >= 5 else 1
        visits = int(visits_a_day * growth * weekend * chance.uniform(0.9, 1.1) * (2.4 if day == launch else 1))
        for visit in range(visits):
            hour = chance.choices(range(24), _HOURS)[0]
            start = datetime(day.year, day.month, day.day, hour, tzinfo=until.tzinfo)
            start += timedelta(seconds=chance.uniform(0, 3600))
            yield from (
                event | {"event_id": f"{seed} {day} {visit} {n}"}
                for n, event in enumerate(_visit(site, start, chance, day == launch))
                if event["at"] < until
            )


def as_bodies(events: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for event in events:
        yield {name: value for name, value in event.items() if name != "at"} | {"timestamp": event["at"].isoformat()}


def _visit(site: str, start: datetime, chance: random.Random, is_launch: bool) -> Iterator[dict[str, Any]]:
    agent = chance.choice(_BOTS) if chance.random() < 0.06 else _pick(chance, _AGENTS)
    country, region, city = _pick(chance, _PLACES)
    visitor = {
        "site_id": site,
        "ip": f"10.{chance.randrange(60)}.{chance.randrange(256)}.{chance.randrange(256)}",
        "user_agent": agent,
        "country": country,
        "region": region,
        "city": city,
        "language": chance.choice(_LANGUAGES),
        "screen": chance.choice(_SCREENS),
    }
    referrer = "https://news.ycombinator.com/" if is_launch and chance.random() < 0.6 else _pick(chance, _REFERRERS)
    query = f"?utm_campaign={chance.choice(_CAMPAIGNS)}&utm_medium=email" if chance.random() < 0.05 else ""
    at = start
    for n in range(chance.choices((1, 2, 3, 4, 6, 9), (42, 22, 15, 10, 7, 4))[0]):
        page = {"event_type": "pageview", "at": at, "url": f"https://example.com{_pick(chance, _PAGES)}{query}"}
        yield visitor | page | ({"referrer": referrer} if referrer and n == 0 else {})
        query = ""
        read = chance.randrange(5_000, 180_000)
        yield visitor | page | {
            "event_type": "engagement", "at": at + timedelta(milliseconds=read),
            "engagement_time": read, "scroll_depth": chance.randrange(20, 101),
        }  # fmt: skip
        at += timedelta(milliseconds=read, seconds=chance.randrange(1, 40))
    yield from _actions(visitor | {"url": "https://example.com/pricing"}, at, chance)


def _actions(visitor: dict[str, Any], at: datetime, chance: random.Random) -> Iterator[dict[str, Any]]:
    if chance.random() < 0.06:
        plan = chance.choice(("free", "pro", "team"))
        yield visitor | {"event_type": "signup", "at": at, "props": {"plan": plan}}
        if plan != "free":
            revenue = {"amount": chance.choice(("9.00", "29.00", "99.00")), "currency": "EUR"}
            yield visitor | {"event_type": "purchase", "at": at, "props": {"plan": plan}, "revenue": revenue}
    if chance.random() < 0.04:
        link = {"url": chance.choice(("https://github.com/footfall", "https://flask.palletsprojects.com/"))}
        yield visitor | {"event_type": "Outbound Link: Click", "at": at, "props": link}
    if chance.random() < 0.01:
        yield visitor | {"event_type": "404", "at": at, "url": "https://example.com/old-page"}


def _pick(chance: random.Random, weighted: dict[Any, int]) -> Any:
    return chance.choices(list(weighted), list(weighted.values()))[0]
