"""The sites and API keys that the collector reads from Redis are the latest, complete, and need no MongoDB."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from redis import Redis

from analytics.access.key_ring import KeyRing
from analytics.access.store import ApiKeyStore
from analytics.published_copy import COPY_KEPT_FOR, Published
from analytics.sites.registry import SITES_COPY, SiteRegistry
from analytics.sites.site import Goal, SavedFilter, Site
from analytics.sites.store import SiteStore
from analytics.unavailable import Unavailable
from config.clients import make_redis
from config.settings import Settings
from footfall.embedded_servers import pick_port
from tests.support.services import Clock, make_services

SITE = Site(
    "shop",
    ZoneInfo("Europe/Berlin"),
    (Goal("Visit $1", page="$1"),),
    domains=("shop.example", "xn--mller-kva.example"),
    allowed_origins=("https://shop.example",),
    write_key="0b0e1c9e-5a57-4b6f-9c55-2f2b8e7c1a11",
    honours_dnt=True,
    excluded_ips=(ip_network("10.0.0.0/8"), ip_network("::1")),
    excluded_paths=("/admin/**",),
    allowed_parameters=("id",),
    backdate_days=0,
    retention_days=90,
)


@pytest.fixture
def registry(redis: Redis, clock: Clock) -> SiteRegistry:
    return SiteRegistry(redis, clock=clock)


@pytest.fixture
def sites(settings: Settings, redis: Redis, database: Database[dict[str, Any]]) -> SiteStore:
    return make_services(settings, database=database).sites


@pytest.fixture
def away() -> Iterator[Redis]:
    client = make_redis(Settings(redis_url=f"redis://127.0.0.1:{pick_port(0)}/0"))
    yield client
    client.close()


def test_the_collector_finds_a_site_by_its_id_its_domains_and_its_write_key(registry: SiteRegistry, sites: SiteStore):
    assert sites.put(SITE) == SITE
    assert registry.get("shop") == SITE
    for host in ("shop.example", "WWW.Shop.Example:443", "shop.example.", "müller.example", "xn--mller-kva.example"):
        assert registry.by_domain(host) == SITE, host
    assert registry.by_key(str(SITE.write_key).upper()) == SITE


@pytest.mark.parametrize(
    "name", ["", "other", "shop.example", "site shop", "\ud800", "é" * 200, "x" * 9999, "[::1]:80"]
)
def test_an_unknown_name_finds_no_site(registry: SiteRegistry, sites: SiteStore, name: str):
    sites.put(replace(SITE, domains=()))
    assert (registry.get(name), registry.by_domain(name), registry.by_key(name)) == (None, None, None)


def test_a_change_reaches_the_collector_when_its_cache_expires(registry: SiteRegistry, sites: SiteStore, clock: Clock):
    sites.put(SITE)
    assert registry.get("shop") == SITE
    assert registry.get("other") is None
    sites.put(changed := replace(SITE, domains=("new.example",)))
    sites.put(Site("other"))
    assert registry.get("shop") == SITE
    clock.now += COPY_KEPT_FOR
    assert registry.get("shop") == changed
    assert registry.get("other") is not None
    assert registry.by_domain("shop.example") is None
    sites.remove("shop")
    clock.now += COPY_KEPT_FOR
    assert (registry.get("shop"), registry.by_domain("new.example"), registry.by_key(str(SITE.write_key))) == (
        None, None, None,
    )  # fmt: skip


def test_a_rotated_write_key_is_the_only_one(registry: SiteRegistry, sites: SiteStore):
    sites.put(SITE)
    rotated = sites.rotate_write_key("shop")
    assert rotated is not None
    assert rotated.write_key != SITE.write_key
    assert registry.by_key(str(rotated.write_key)) == rotated
    assert registry.by_key(str(SITE.write_key)) is None


def test_without_published_sites_none_is_found_or_if_required_an_error_is_raised(redis: Redis, sites: SiteStore):
    assert SiteRegistry(redis).get("shop") is None
    required = SiteRegistry(redis, required=True)
    with pytest.raises(Unavailable, match="not published"):
        required.get("shop")
    required.publish(sites.all)
    assert required.get("shop") is None  # published, and no such site


def test_an_unreachable_redis_is_unavailable_when_the_cache_has_expired(
    redis: Redis, away: Redis, sites: SiteStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    sites.put(SITE)
    registry = SiteRegistry(redis, clock=clock)
    assert registry.get("shop") == SITE
    monkeypatch.setattr(registry._published, "_redis", away)
    assert registry.get("shop") == SITE
    clock.now += COPY_KEPT_FOR
    for ask in (lambda: registry.get("shop"), lambda: registry.by_domain("x"), lambda: KeyRing(away).find("footfall_")):
        with pytest.raises(Unavailable):
            ask()


@pytest.mark.usefixtures("usual_limits")
def test_an_unreachable_mongodb_does_not_affect_the_collector(registry: SiteRegistry, sites: SiteStore):
    sites.put(SITE)
    nobody: MongoClient[dict[str, Any]] = MongoClient(
        f"mongodb://127.0.0.1:{pick_port(0)}", serverSelectionTimeoutMS=100
    )
    with pytest.raises(Unavailable):
        registry.publish(SiteStore(nobody["footfall"]).all)
    nobody.close()
    assert registry.get("shop") == SITE


def test_a_site_can_be_changed_while_redis_is_unreachable(
    settings: Settings, away: Redis, database: Database[dict[str, Any]]
):
    sites = make_services(settings, redis=away, database=database).sites
    assert sites.put(SITE) == SITE
    assert sites.get("shop") == SITE


def test_a_process_that_read_earlier_and_publishes_later_replaces_nothing(
    redis: Redis, registry: SiteRegistry, sites: SiteStore
):
    def read_slowly() -> list[Site]:
        found = list(sites.all())
        sites.put(SITE)  # published meanwhile
        return found

    assert registry.publish(read_slowly) is False
    assert registry.get("shop") == SITE


def test_an_unchanged_copy_is_not_written_again_and_a_lost_one_is(redis: Redis, registry: SiteRegistry):
    assert registry.publish(lambda: [SITE]) is True
    assert registry.publish(lambda: [SITE]) is False
    redis.hdel(SITES_COPY, "site shop")
    assert registry.publish(lambda: [SITE]) is True
    redis.flushall()
    assert registry.publish(lambda: [SITE]) is True
    assert registry.get("shop") == SITE


def test_saved_filters_are_not_published(registry: SiteRegistry):
    registry.publish(lambda: [SITE])
    saved = replace(SITE, saved_filters=(SavedFilter(1, "German", '[["is","visit:country",["DE"]]]'),))
    assert registry.publish(lambda: [saved]) is False
    assert registry.get("shop") == SITE


def test_thousands_of_sites_are_replaced_at_once(redis: Redis, clock: Clock):
    published = Published[int](redis, "many", int, clock=clock)
    published.publish(lambda: {f"{n}": 1 for n in range(3000)})
    seen: set[tuple[Any, ...]] = set()
    stop = threading.Event()

    def look() -> None:
        client = redis.client()
        while not stop.is_set():
            seen.add(tuple(client.hmget("many", ["0", "1499", "2999"])))

    looking = threading.Thread(target=look)
    looking.start()
    for value in range(2, 12):
        published.publish(lambda value=value: {f"{n}": value for n in range(3000)})
    stop.set()
    looking.join()
    assert {len(set(values)) for values in seen} == {1}
    assert redis.hlen("many") == 3001


# API keys


def test_the_collector_finds_a_key_by_its_secret_until_it_is_revoked(
    settings: Settings, redis: Redis, database: Database[dict[str, Any]], clock: Clock
):
    SiteStore(database).put(Site("shop"))
    keys, ring = make_services(settings, database=database).api_keys, KeyRing(redis, clock=clock)
    key, secret = keys.create("ci", ["events:write"], ["shop"], None)
    assert ring.find(secret) == key
    assert key.may("events:write", "shop")
    assert not key.may("events:write", "other")
    for wrong in ("", secret[:-1], secret + "x", "footfall_", "other", "footfall_\ud800"):
        assert ring.find(wrong) is None
    stored = redis.dump("footfall:api-keys") or b""
    assert secret.removeprefix("footfall_").encode() not in stored
    keys.revoke(key.id)
    assert ring.find(secret) == key
    clock.now += COPY_KEPT_FOR
    assert ring.find(secret) is None


def test_the_collector_refuses_a_key_as_soon_as_it_expires(
    settings: Settings, redis: Redis, database: Database[dict[str, Any]]
):
    moment = datetime.now(UTC)
    ring = KeyRing(redis, lambda: moment)
    keys = make_services(settings, database=database).api_keys
    key, secret = keys.create("ci", ["admin"], None, moment + timedelta(hours=1))
    assert ring.find(secret) == key
    moment += timedelta(hours=1)
    assert ring.find(secret) is None


def test_the_use_of_a_key_at_the_collector_is_recorded_once_a_minute_and_moved_to_mongodb(
    settings: Settings, redis: Redis, database: Database[dict[str, Any]], clock: Clock
):
    keys = make_services(settings, database=database).api_keys
    moment = datetime(2026, 11, 22, 12, tzinfo=UTC)
    ring = KeyRing(redis, lambda: moment, clock=clock)
    key, secret = keys.create("ci", ["events:write"], None, None)
    for _ in range(3):
        ring.find(secret)
    assert ring.carry_uses(keys) == 1
    assert [found.last_used_at for found in keys.list()] == [moment]
    moment += timedelta(seconds=59)
    clock.now += 59
    ring.find(secret)
    assert ring.carry_uses(keys) == 0
    clock.now += 1
    ring.find(secret)
    assert ring.carry_uses(keys) == 1
    assert [found.last_used_at for found in keys.list()] == [moment]
    keys.carry({key.id: moment - timedelta(hours=1)})  # arrives late
    assert [found.last_used_at for found in keys.list()] == [moment]


def test_a_use_is_recorded_by_one_of_many_threads(redis: Redis, clock: Clock, database: Database[dict[str, Any]]):
    key, _ = ApiKeyStore(database).create("ci", ["admin"], None, None)
    ring, noted = KeyRing(redis, clock=clock), []
    threads = [threading.Thread(target=lambda: noted.append(ring.is_to_be_noted(key))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(noted) == [False] * 7 + [True]
