"""Rate limits per address, key and site: what they cost, and what happens without Redis."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import brotli
import pytest
from flask.testing import FlaskClient
from redis import Redis
from werkzeug.exceptions import TooManyRequests

from analytics.access.api_key import WRITE_SCOPE
from analytics.access.key_ring import KeyRing
from analytics.access.store import ApiKeyStore
from analytics.journal.journal import Journal
from analytics.sites.registry import SiteRegistry
from analytics.sites.site import Site
from config.metrics import RATE_LIMITED, RATE_UNCHECKED
from config.services import Services
from config.settings import PRODUCTION_RATES, Settings, load_settings
from ingest_app import create_app
from tests.support.running_system import wait_for
from tests.support.services import ADMIN_KEY, WakeUps, make_services
from web.rate_limits import RateLimits

GOOD = {"site_id": "shop", "event_type": "pageview", "user_id": "ann"}


@pytest.fixture
def limited(settings: Settings, journal: Journal, wake_ups: WakeUps) -> Callable[..., FlaskClient]:
    def make(**limits: str) -> FlaskClient:
        given = replace(settings, **{f"rate_limit_{name}": rate for name, rate in limits.items()})
        return create_app(given, make_services(given, journal=journal), wake_ups).test_client()

    return make


def post(client: FlaskClient, address: str = "203.0.113.7", body: Any = GOOD, **headers: str) -> int:
    path = "/events" if isinstance(body, list) else "/event"
    answer = client.post(path, json=body, headers=headers, environ_overrides={"REMOTE_ADDR": address})
    if answer.status_code == 429:
        assert answer.json["error"]["code"] == "too_many_requests"
        assert 1 <= int(answer.headers["Retry-After"]) <= 3600
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    return answer.status_code


def test_an_address_has_its_limit_and_others_have_theirs(limited, redis: Redis, journal: Journal):
    client = limited(address="5/hour")
    assert [post(client) for _ in range(7)] == [200] * 5 + [429] * 2
    assert post(client, "203.0.113.8") == 200
    assert journal.waiting() == 6
    assert not any(b"203.0.113" in key for key in redis.scan_iter())


def test_an_ipv6_subscriber_has_one_limit_for_all_addresses(limited):
    client = limited(address="2/hour")
    assert [post(client, f"2001:db8:0:1::{n}") for n in range(3)] == [200, 200, 429]
    assert post(client, "2001:db8:0:2::1") == 200


def test_a_limit_is_shared_by_processes_and_checked_before_the_body_is_read(limited):
    first, second = limited(address="4/hour"), limited(address="4/hour")
    assert [post(first), post(second), post(first), post(second), post(first), post(second)] == [200] * 4 + [429] * 2
    assert second.post("/events", data=b"{", environ_overrides={"REMOTE_ADDR": "203.0.113.7"}).status_code == 429


def test_health_checks_and_metrics_have_no_limit(limited):
    client = limited(address="1/hour")
    for _ in range(3):
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        assert client.get("/metrics", headers={"Authorization": f"Bearer {ADMIN_KEY}"}).status_code == 200


def test_the_limit_of_a_site_counts_events(limited, journal: Journal):
    client = limited(site="8/hour")
    assert post(client, body=[GOOD] * 5) == 200
    assert post(client, body=[GOOD] * 5) == 429
    assert post(client, body=[GOOD | {"site_id": "blog"}] * 5) == 200
    assert post(client, body=[GOOD | {"site_id": "blog"}] * 3 + [GOOD] * 4) == 429, "all of it will come again"
    assert journal.waiting() == 10
    assert post(client, body=[GOOD] * 3) == 200, "what was refused used up nothing"
    assert post(client, body=[GOOD | {"site_id": "blog"}] * 3) == 200
    assert [post(client), post(client, body=[GOOD | {"site_id": "blog"}])] == [429, 429]
    assert journal.waiting() == 16


def test_rejected_dropped_and_refused_events_do_not_use_up_the_limit_of_a_site(
    limited, journal: Journal, settings: Settings, redis: Redis
):
    SiteRegistry(redis).publish(lambda: [Site("shop", honours_dnt=True)])
    client = limited(site="100/hour")
    for _ in range(3):
        assert post(client, body=[GOOD | {"path": 1}] * 50) == 200
        assert post(client, body=[GOOD] * 50, DNT="1") == 200
        assert post(client, body=[GOOD] * 101) == 429
    redis.config_set("maxmemory", 1)  # Redis is full
    try:
        assert [post(client, body=[GOOD] * 60) for _ in range(3)] == [503] * 3
    finally:
        redis.config_set("maxmemory", 0)
    wait_for(lambda: post(client, body=[GOOD | {"site_id": "blog"}]) == 200, "room in the journal")
    before = journal.waiting()
    assert post(client, body=[GOOD] * 90) == 200
    assert journal.waiting() == before + 90


# Bytes and events of an address and a key


def inflated(events: int, size: int) -> bytes:
    return brotli.compress(json.dumps([GOOD | {"props": {"p": "x" * size}}] * events).encode())


def post_small(client: FlaskClient, body: bytes, address: str = "203.0.113.7", route: str = "/events") -> int:
    headers = {"Content-Encoding": "br"}
    return client.post(route, data=body, headers=headers, environ_overrides={"REMOTE_ADDR": address}).status_code


def test_the_events_of_an_address_are_limited_before_any_site_is_charged(limited, journal: Journal):
    client = limited(address_events="1000/hour", site="5000/hour")
    body = inflated(400, 10)
    assert len(body) < 200
    assert [post_small(client, body) for _ in range(28)] == [200] * 2 + [429] * 26
    assert journal.waiting() == 800
    assert post(client) == 429, "before it is read"
    assert [post_small(client, body, f"198.51.100.{n}") for n in range(10)] == [200] * 10


@pytest.mark.parametrize("route", ["/events", "/events?validate=1", "/api/batch", "/v1/batch"])
def test_an_address_is_charged_for_inflated_bytes_whatever_the_outcome(limited, route: str):
    client = limited(address_bytes="200000/hour")
    small = brotli.compress(b" " * 60_000 + b"[]")
    assert len(small) < 100
    refused = [post_small(client, small, route=route) == 429 for _ in range(10)]
    assert refused in ([False] * 3 + [True] * 7, [False] * 4 + [True] * 6)
    assert post_small(client, small, "203.0.113.8", route) in (200, 400)


def test_a_body_that_is_too_large_is_charged_too(limited):
    client = limited(address_bytes="20000000/hour")
    bomb = brotli.compress(b" " * 10_000_000)
    answers = [post_small(client, bomb) for _ in range(10)]
    assert (answers[0], answers[-1]) == (413, 429)


def test_a_valid_key_is_charged_instead_of_the_address(limited, database, redis: Redis):
    keys = ApiKeyStore(database)
    secret = keys.create("one", [WRITE_SCOPE], None, None)[1]
    KeyRing(redis).publish(keys)
    client = limited(address_events="10/hour", key_events="100/hour")
    key, wrong = ({"Authorization": f"Bearer {text}"} for text in (secret, f"footfall_{'x' * 32}"))
    assert [post(client, body=[GOOD] * 40, **key) for _ in range(4)] == [200, 200, 429, 429]
    assert [post(client, body=[GOOD] * 6, **wrong) for _ in range(3)] == [200, 429, 429]


def test_another_process_knows_how_much_of_a_limit_is_used_up(settings: Settings, redis: Redis):
    first, second = (RateLimits(Services(settings).rate_storage, {"site": "100/hour"}) for _ in range(2))
    first.take("site", "shop", 60)
    for limits in (first, second):
        with pytest.raises(TooManyRequests):
            limits.take("site", "shop", 50)
    second.take("site", "shop", 40)
    second.give_back("site", "shop", 40)
    second.take("site", "shop", 40)
    with pytest.raises(TooManyRequests):
        first.take("site", "shop", 11)


def test_a_key_has_its_limit(limited, database, redis: Redis):
    keys = ApiKeyStore(database)
    secrets = [keys.create(name, [WRITE_SCOPE], None, None)[1] for name in ("one", "two")]
    KeyRing(redis).publish(keys)
    client = limited(key="2/hour")
    one, two = ({"Authorization": f"Bearer {secret}"} for secret in secrets)
    assert [post(client, **one) for _ in range(3)] == [200, 200, 429]
    assert post(client, **two) == post(client) == 200


def test_without_redis_the_collector_admits_requests_and_counts_them(settings: Settings):
    nowhere = replace(settings, redis_url="redis://127.0.0.1:1/0")
    limits = RateLimits(Services(nowhere).rate_storage, {"address": "1/hour"})
    before = RATE_UNCHECKED.labels("address")._value.get()
    for _ in range(3):
        limits.spend("address", "ann")
    assert RATE_UNCHECKED.labels("address")._value.get() == before + 3


def test_a_full_redis_does_not_make_rate_limits_refuse_requests(settings: Settings, redis: Redis):
    limits = RateLimits(Services(settings).rate_storage, {"address": "1/hour"})
    redis.config_set("maxmemory", 1)
    try:
        limits.spend("address", "ann")
        limits.spend("address", "ann")
    finally:
        redis.config_set("maxmemory", 0)


def test_a_sender_far_below_or_over_the_limit_costs_no_round_trip(settings: Settings, redis: Redis):
    limits = RateLimits(Services(settings).rate_storage, {"address": "100/hour"})

    def spend(times: int) -> tuple[int, int]:
        """The number of admitted requests, and of Redis commands that they took."""
        before, fine = redis.info("stats")["total_commands_processed"], 0
        for _ in range(times):
            try:
                limits.spend("address", "ann")
                fine += 1
            except TooManyRequests:
                pass
        return fine, redis.info("stats")["total_commands_processed"] - before - 1

    assert spend(10) == (10, 0)
    admitted, asked = spend(190)
    assert 90 <= admitted <= 100
    assert asked < 60
    assert spend(100) == (0, 0)
    assert RATE_LIMITED.labels("address")._value.get() >= 100


def test_limits_are_off_in_development_and_on_in_production():
    assert set(Settings().rate_limits.values()) == {""}
    production = Settings(app_env="production", rate_limit_key="none", rate_limit_site="10/second")
    assert production.rate_limits == PRODUCTION_RATES | {"key": "", "site": "10/second"}


def test_place_headers_without_a_trusted_proxy_stop_the_start(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PLACE_HEADERS", "cloudflare")
    with pytest.raises(Exception, match="TRUSTED_PROXIES"):
        load_settings()
    monkeypatch.setenv("TRUSTED_PROXIES", "1")
    assert load_settings().place_headers == "cloudflare"
