"""Rate limits: per address, key and site; what they cost nobody, and what happens without Redis."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis
from werkzeug.exceptions import TooManyRequests

from analytics.api_keys import WRITE, ApiKeyStore, make_key_ring
from analytics.journal import Journal
from config.metrics import RATE_LIMITED, RATE_UNCHECKED
from config.settings import Settings, load_settings
from ingest_app import create_app
from ingest_app.door import make_door
from tests.conftest import ADMIN_KEY, NOW, Asked
from web.rate_limits import RateLimits

GOOD = {"site_id": "shop", "event_type": "pageview", "user_id": "ann"}


@pytest.fixture
def limited(settings: Settings, journal: Journal, wake_ups: Asked) -> Callable[..., FlaskClient]:
    def make(**limits: str) -> FlaskClient:
        given = replace(settings, **{f"rate_limit_{name}": rate for name, rate in limits.items()})
        return create_app(given, make_door(given, journal, wake_ups, lambda: NOW)).test_client()

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


def test_of_ipv6_a_subscriber_has_one_limit(limited):
    client = limited(address="2/hour")
    assert [post(client, f"2001:db8:0:1::{n}") for n in range(3)] == [200, 200, 429]
    assert post(client, "2001:db8:0:2::1") == 200


def test_another_process_knows_and_nobody_waits_for_the_body(limited):
    first, second = limited(address="4/hour"), limited(address="4/hour")
    assert [post(first), post(second), post(first), post(second), post(first), post(second)] == [200] * 4 + [429] * 2
    assert second.post("/events", data=b"{", environ_overrides={"REMOTE_ADDR": "203.0.113.7"}).status_code == 429


def test_whoever_watches_us_has_no_limit(limited):
    client = limited(address="1/hour")
    for _ in range(3):
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        assert client.get("/metrics", headers={"Authorization": f"Bearer {ADMIN_KEY}"}).status_code == 200


def test_a_site_s_limit_is_of_events(limited, journal: Journal):
    client = limited(site="8/hour")
    assert post(client, body=[GOOD] * 5) == 200
    assert post(client, body=[GOOD] * 5) == 429
    assert post(client, body=[GOOD | {"site_id": "blog"}] * 5) == 200
    assert post(client, body=[GOOD, GOOD | {"site_id": "blog"}]) == 429, "all of it, as all of it will come again"
    assert journal.waiting() == 10


def test_a_key_has_its_limit(limited, database, settings: Settings):
    keys = ApiKeyStore(database)
    secrets = [keys.create(name, [WRITE], None, None)[1] for name in ("one", "two")]
    make_key_ring(settings).publish(keys)
    client = limited(key="2/hour")
    one, two = ({"Authorization": f"Bearer {secret}"} for secret in secrets)
    assert [post(client, **one) for _ in range(3)] == [200, 200, 429]
    assert post(client, **two) == post(client) == 200


def test_without_redis_the_door_admits_and_counts_it(settings: Settings):
    nowhere = replace(settings, redis_url="redis://127.0.0.1:1/0")
    limits = RateLimits(nowhere, {"address": "1/hour"})
    before = RATE_UNCHECKED.labels("address")._value.get()
    for _ in range(3):
        limits.spend("address", "ann")
    assert RATE_UNCHECKED.labels("address")._value.get() == before + 3


def test_a_full_redis_is_no_reason_to_refuse_either(settings: Settings, redis: Redis):
    limits = RateLimits(settings, {"address": "1/hour"})
    redis.config_set("maxmemory", 1)
    try:
        limits.spend("address", "ann")
        limits.spend("address", "ann")
    finally:
        redis.config_set("maxmemory", 0)


def test_whoever_sends_little_costs_no_round_trip_and_whoever_is_over_it_neither(settings: Settings, redis: Redis):
    limits = RateLimits(settings, {"address": "100/hour"})

    def spend(times: int) -> tuple[int, int]:
        """How many were admitted, and how many commands that took."""
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
    assert Settings().rate_limits == {"address": "", "key": "", "site": ""}
    production = Settings(app_env="production", rate_limit_key="none", rate_limit_site="10/second")
    assert production.rate_limits == {"address": "1200/minute", "key": "", "site": "10/second"}


def test_place_headers_without_a_trusted_proxy_stop_the_start(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PLACE_HEADERS", "cloudflare")
    with pytest.raises(Exception, match="TRUSTED_PROXIES"):
        load_settings()
    monkeypatch.setenv("TRUSTED_PROXIES", "1")
    assert load_settings().place_headers == "cloudflare"
