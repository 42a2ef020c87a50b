"""Generates hits like those of browsers: URLs, referrers, and senders."""

import random
from datetime import UTC, datetime

from analytics.events.event import Event
from analytics.events.schema import load_event
from analytics.visitors.client import Client

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
BOTS = ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "Twitterbot/1.0")
REFERRERS = ("https://www.google.com/", "https://www.bing.com/search", "https://l.facebook.com/", "https://t.co/x1",
             "https://chatgpt.com/", "https://news.ycombinator.com/item", "https://www.reddit.com/r/a")  # fmt: skip
CAMPAIGNS = ("", "", "", "", "?utm_source=newsletter&utm_medium=email&utm_campaign=autumn", "?gclid=Cj0KCQiA",
             "?page=2&sort=a", "?fbclid=IwAR1")  # fmt: skip
LANGUAGES = ("en-US,en;q=0.9", "de-DE,de;q=0.9", "fr")


def hit_body(chance: random.Random, site_id: str) -> dict[str, str]:
    """What a page sends. The headers of its request have the rest."""
    referrer = chance.choice(
        ("", "", *REFERRERS, f"https://blog-{chance.randrange(300)}.example/post/{chance.random()}")
    )
    return {
        "site_id": site_id, "event_type": "pageview", "referrer": referrer, "screen": "1920x1080",
        "url": f"https://www.shop.example/products/{chance.randrange(500)}{chance.choice(CAMPAIGNS)}",
    }  # fmt: skip


def hit(chance: random.Random, user_agent: str, site_id: str = "shop") -> tuple[Event, Client]:
    body = hit_body(chance, site_id)
    address = f"{chance.randrange(1, 200)}.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(256)}"
    return load_event(body, NOW), Client(address, user_agent, chance.choice(LANGUAGES))


def user_agents(chance: random.Random) -> list[str]:
    found = dict.fromkeys(browser(chance) for _ in range(20_000))
    return [*[*found][:1998], *BOTS]


def weights(agents: list[str]) -> list[float]:
    """Zipf's distribution: the twenty most frequent ones make 44 % of all."""
    return [1 / (n + 1) for n in range(len(agents))]


def browser(chance: random.Random) -> str:
    version = f"{chance.randrange(90, 145)}.0.{chance.choice((0, 0, 0, chance.randrange(7000)))}.0"
    model = f"SM-{chance.choice('AGS')}{chance.randrange(100, 999)}B"
    return chance.choice((
        f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/{version} Safari/537.36",
        f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/{version} Safari/537.36 Edg/{version}",
        f"Mozilla/5.0 (Linux; Android {chance.randrange(8, 16)}; {model}) {WEBKIT} Chrome/{version} Mobile"
        " Safari/537.36",
        f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
        f" Version/{chance.randrange(14, 27)}.{chance.randrange(7)} Safari/605.1.15",
        f"Mozilla/5.0 (iPhone; CPU iPhone OS {chance.randrange(14, 19)}_{chance.randrange(8)} like Mac OS X)"
        f" AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{chance.randrange(14, 27)}.0 Mobile/15E148 Safari/604.1",
        f"Mozilla/5.0 (X11; Linux x86_64; rv:{version[:3]}.0) Gecko/20100101 Firefox/{version[:3]}.0",
    ))  # fmt: skip
