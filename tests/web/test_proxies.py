"""The sender of a hit behind proxies and CDNs, and the security headers of every answer."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from flask.testing import FlaskClient
from redis import Redis

from analytics.events.schema import load_journal_event
from analytics.journal.journal import Journal
from analytics.visitors.client import Client
from analytics.visitors.salts import Salts
from config.settings import Settings
from ingest_app import create_app
from tests.support.services import NOW, WakeUps, make_services

GOOD = {"site_id": "shop", "event_type": "pageview"}
FORWARDED = {"X-Forwarded-For": "198.51.100.1, 203.0.113.7"}

Seen = Callable[..., Client]


@pytest.fixture
def sees(settings: Settings, journal: Journal, wake_ups: WakeUps, redis: Redis) -> Seen:
    """The client that the collector takes for the sender of a hit."""

    def see(headers: dict[str, str], address: str = "127.0.0.1", **given: object) -> Client:
        ours = replace(settings, **given)
        client = create_app(ours, make_services(ours, journal=journal), wake_ups).test_client()
        answer = client.post("/event", json=GOOD, headers=headers, environ_overrides={"REMOTE_ADDR": address})
        assert answer.status_code == 200
        assert journal.held("test") == []
        (entry,) = journal.claim("test")
        event = load_journal_event(entry.raw, entry.event_id, lambda: NOW)
        journal.settle([])
        redis.delete("footfall:journal")
        return Salts(redis, lambda: NOW).unseal(event.client or "") or Client()

    return see


def test_without_a_trusted_proxy_headers_do_not_change_the_address(sees: Seen):
    assert sees(FORWARDED).address == "127.0.0.1"
    assert sees(FORWARDED, "::ffff:192.0.2.1").address == "192.0.2.1"


def test_the_first_trusted_proxy_names_the_client(sees: Seen):
    assert sees(FORWARDED, trusted_proxies=1).address == "203.0.113.7"
    assert sees(FORWARDED, trusted_proxies=2).address == "198.51.100.1"
    assert sees(FORWARDED, trusted_proxies=3).address == "127.0.0.1"


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("203.0.113.7:4711", "203.0.113.7"),
        ("2001:DB8::1", "2001:db8::1"),
        ("unknown", ""),
        ("'; drop", ""),
        ("\u00e4", ""),
    ],
)
def test_an_invalid_address_counts_as_none(sees: Seen, written: str, address: str):
    assert sees({"X-Forwarded-For": written}, trusted_proxies=1).address == address


@pytest.mark.parametrize(
    ("cdn", "headers", "place"),
    [
        ("cloudflare", {"CF-IPCountry": "DE", "cf-region-code": "BE", "cf-ipcity": "K\u00c3\u00b6ln"},
         (("country", "DE"), ("region", "DE-BE"), ("city", "K\u00f6ln"))),
        ("cloudflare", {"CF-IPCountry": "T1", "cf-ipcity": "Nowhere"}, ()),
        ("cloudflare", {"CloudFront-Viewer-Country": "DE"}, ()),
        ("cloudfront", {"CloudFront-Viewer-Country": "US", "CloudFront-Viewer-Country-Region": "CA"},
         (("country", "US"), ("region", "US-CA"))),
        ("vercel", {"X-Vercel-IP-Country": "BR", "X-Vercel-IP-City": "S%C3%A3o%20Paulo"},
         (("country", "BR"), ("city", "S\u00e3o Paulo"))),
        ("vercel", {"X-Vercel-IP-Country": "br", "X-Vercel-IP-City": "x"}, ()),
        ("vercel", {"X-Vercel-IP-Country": "BR", "X-Vercel-IP-Country-Region": "toolong", "X-Vercel-IP-City": "\u00ff"},
         (("country", "BR"),)),
        ("", {"CF-IPCountry": "DE"}, ()),
    ],
)  # fmt: skip
def test_the_headers_of_a_configured_cdn_say_where_the_visitor_is(sees: Seen, cdn: str, headers: dict[str, str], place):
    assert sees(headers, trusted_proxies=1, place_headers=cdn).place == place


@pytest.mark.parametrize("name", ["ingest", "report"])
@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/event", "/metrics", "/openapi.json", "/docs"])
def test_every_answer_tells_browsers_not_to_guess_its_type(request: pytest.FixtureRequest, name: str, path: str):
    client: FlaskClient = request.getfixturevalue(name)
    answer = client.get(path)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Robots-Tag"] == "noindex, nofollow"
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert "Strict-Transport-Security" not in answer.headers
    assert not answer.headers.get("Set-Cookie")


def test_browsers_are_told_to_keep_https_if_a_trusted_proxy_says_that_it_was_used(settings, journal, wake_ups):
    def header(proxies: int) -> str | None:
        ours = replace(settings, trusted_proxies=proxies)
        client = create_app(ours, make_services(ours, journal=journal), wake_ups).test_client()
        return client.get("/healthz", headers={"X-Forwarded-Proto": "https"}).headers.get("Strict-Transport-Security")

    assert (header(0), header(1)) == (None, "max-age=31536000")
