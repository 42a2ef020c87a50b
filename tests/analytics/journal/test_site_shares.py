"""A site cannot fill the journal so that other sites are refused, and a single site may use nearly all of it."""

import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from pymongo.database import Database
from redis import Redis
from werkzeug.test import TestResponse

from analytics.events.account import REFUSED, Account
from analytics.events.schema import load_event
from analytics.journal.journal import REFUSES_ABOVE, Journal, Line
from analytics.journal.ledger import Ledger
from analytics.journal.site_shares import ASKED_EVERY, HELD, MOST_SHARES, SHARE, Held, Room, Shares
from analytics.pipeline import Stores, store_waiting
from config.metrics import EVENT_OUTCOMES
from config.settings import Settings
from ingest_app import create_app
from tests.support.running_system import wait_for
from tests.support.services import NOW, WakeUps, make_services

GOOD = {"site_id": "large", "event_type": "pageview", "user_id": "ann"}
SMALL = GOOD | {"site_id": "small"}
MOST = 900


@pytest.fixture
def make(settings: Settings, wake_ups: WakeUps) -> Callable[..., FlaskClient]:
    """An ingestion app with its own journal client, as in another process."""

    def make(**given: Any) -> FlaskClient:
        ours = replace(settings, **given)
        return create_app(ours, make_services(ours), wake_ups).test_client()

    return make


@pytest.fixture
def maxmemory(redis: Redis) -> Iterator[Callable[[int], None]]:
    """Leaves this many bytes until the journal is full."""

    def leave(size: int) -> None:
        redis.config_set("maxmemory", int((redis.info("memory")["used_memory"] + size) / REFUSES_ABOVE))

    yield leave
    redis.config_set("maxmemory", 0)


def fill(client: FlaskClient, events: list[dict[str, Any]], seconds: float = 20) -> TestResponse:
    """Posts until the app refuses, and returns the refusal."""
    end = time.monotonic() + seconds
    while (answer := client.post("/events", json=events)).status_code == 200:
        assert time.monotonic() < end, "it is never refused"
    return answer


def test_one_site_cannot_fill_the_journal_with_events_for_all(make: Callable[..., FlaskClient], redis: Redis):
    client, other_process = make(most_waiting=MOST), make(most_waiting=MOST)
    refusal = fill(client, [GOOD] * 10)
    assert refusal.status_code == 429
    assert refusal.json["error"]["code"] == "too_many_requests"
    assert "'large'" in refusal.json["error"]["message"]
    assert 1 <= int(refusal.headers["Retry-After"]) <= 300
    alone = redis.xlen("footfall:journal")
    assert MOST * 0.8 < alone < MOST, "alone it may use nearly all of it"
    assert client.post("/events", json=[SMALL] * 10).status_code == 200
    fill(other_process, [GOOD] * 10)
    assert redis.xlen("footfall:journal") < MOST
    assert other_process.post("/events", json=[SMALL] * 10).status_code == 200
    assert client.post("/events", json=[SMALL, GOOD]).status_code == 429, "all of a hit comes again"


def test_one_site_cannot_fill_the_journal_with_bytes_for_all(
    make: Callable[..., FlaskClient], redis: Redis, maxmemory: Callable[[int], None]
):
    client = make()
    maxmemory(6_000_000)
    large = GOOD | {"props": {f"p{n}": "x" * 1900 for n in range(4)}}
    assert fill(client, [large] * 5).status_code == 429
    assert int(redis.hget(HELD, "bytes large") or 0) > 3_000_000
    for _ in range(5):
        assert client.post("/events", json=[SMALL] * 5).status_code == 200
        assert fill(client, [large] * 5).status_code == 429


@pytest.mark.parametrize("route", ["/api/event", "/api/send", "/api/batch", "/v1/batch", "/pixel.gif"])
def test_clients_of_other_systems_are_told_when_to_send_again(make: Callable[..., FlaskClient], route: str):
    client = make(most_waiting=MOST)
    fill(client, [GOOD] * 10)
    if route == "/pixel.gif":
        answer = client.get("/pixel.gif?site_id=large")
    else:
        message = {"type": "event", "payload": {"website": "large", "url": "/"}}
        bodies: dict[str, Any] = {
            "/api/event": {"n": "pageview", "u": "https://large.example/", "d": "large"},
            "/api/send": message,
            "/api/batch": [message],
            "/v1/batch": {"writeKey": "large", "batch": [{"type": "track", "event": "a", "userId": "ann"}]},
        }
        answer = client.post(route, json=bodies[route])
        assert answer.json["code"] == "too_many_requests"
    assert (answer.status_code, answer.headers["Retry-After"].isdigit()) == (429, True)


def test_refusals_are_counted_in_the_ledger_and_the_metrics(
    make: Callable[..., FlaskClient], redis: Redis, database: Database[dict[str, Any]]
):
    before = EVENT_OUTCOMES.labels("refused", "site_quota")._value.get()
    client = make(most_waiting=MOST, rate_limit_site="100000/hour")
    fill(client, [GOOD] * 10)
    for _ in range(3):
        assert client.post("/events", json=[GOOD] * 7).status_code == 429
    ledger = Ledger(redis, database).read()[Account("large", NOW.date())]
    assert ledger[f"{REFUSED}site_quota"] == 10 + 3 * 7
    assert ledger["accepted"] == redis.xlen("footfall:journal")
    assert EVENT_OUTCOMES.labels("refused", "site_quota")._value.get() == before + 31


def test_a_site_gets_its_share_back_as_its_events_are_stored(
    make: Callable[..., FlaskClient], stores: Stores, redis: Redis
):
    client = make(most_waiting=MOST)
    fill(client, [GOOD] * 10)
    held = int(redis.hget(HELD, "events large") or 0)
    store_waiting(stores, "task")
    assert held > 0
    assert not redis.exists(HELD)
    wait_for(lambda: client.post("/event", json=GOOD).status_code == 200, "its share")


def test_events_of_a_version_that_did_not_count_are_settled(journal: Journal, redis: Redis, stores: Stores):
    """After an upgrade the journal has such entries. They must not count against a site's share."""

    def append(events: int) -> None:
        journal.append([Line.of(load_event(GOOD, NOW)) for _ in range(events)])

    append(5)
    redis.delete(HELD)
    append(3)
    store_waiting(stores, "task")
    assert not redis.exists(HELD)
    append(1)
    assert redis.hget(HELD, "events large") == b"1"


def test_the_number_of_remembered_sites_is_limited(journal: Journal):
    for n in range(MOST_SHARES + 5):
        journal._shares.note([f"{n}".encode(), 1, 1])
    assert len(journal._shares._known) == MOST_SHARES


def test_threads_may_share_what_is_remembered(redis: Redis):
    """Without a lock, two threads remove the same site, and one of them fails."""
    shares, room = Shares(redis, most=50), Room(None, 10)

    def use(seed: int) -> None:
        names = random.Random(seed)
        for _ in range(3000):
            site_id = f"{names.randrange(80)}"
            shares.note([site_id.encode(), 1, 1])
            shares.over([site_id, f"{names.randrange(80)}"], room)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(use, range(8))) == [None] * 8
    finally:
        sys.setswitchinterval(interval)


def test_a_site_far_from_its_share_costs_no_round_trip(journal: Journal, redis: Redis):
    assert journal.over_its_share(["a", "b"]) is None
    before = redis.info("stats")["total_commands_processed"]
    for n in range(100):
        assert journal.over_its_share([f"{n}"]) is None
    assert redis.info("stats")["total_commands_processed"] == before + 1


@pytest.mark.parametrize(
    ("held", "room", "is_short"),
    [
        (Held(0, 801, 0), Room(None, 100), True),
        (Held(10**9, 800, 0), Room(None, 100), False),
        (Held(SHARE * 1000 + 1, 1, 0), Room(1000.0, 100), True),
        (Held(SHARE * 1000, 1, 0), Room(1000.0, 100), False),
    ],
)
def test_a_site_may_hold_eight_times_what_is_free(held: Held, room: Room, is_short: bool):
    assert room.is_short_for(held) is is_short
    assert ASKED_EVERY <= 1


def test_many_sites_share_the_room_that_one_site_leaves(make: Callable[..., FlaskClient], redis: Redis):
    client = make(most_waiting=MOST)
    got: Counter[str] = Counter()
    for site_id in ("a", "b", "c"):
        fill(client, [GOOD | {"site_id": site_id}] * 3)
        got[site_id] = int(redis.hget(HELD, f"events {site_id}") or 0)
    assert got["a"] > got["b"] > got["c"] > 0
