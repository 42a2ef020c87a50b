"""What answers tell a developer: why events were dropped, which names are unknown, and the expected outcome."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from flask.testing import FlaskClient
from pymongo.database import Database
from redis import Redis

from analytics.access.api_key import READ_SCOPE, WRITE_SCOPE
from analytics.access.key_ring import KeyRing
from analytics.access.store import ApiKeyStore
from analytics.journal.journal import Journal
from analytics.sites.registry import SiteRegistry
from analytics.sites.site import Site
from config.settings import Settings
from ingest_app import create_app
from ingest_app.answers import MOST_LISTED
from ingest_app.field_warnings import KNOWN, MOST_WARNINGS
from tests.support.services import NOW, WakeUps, make_services

GOOD = {"site_id": "shop", "event_type": "pageview", "path": "/pricing", "user_id": "ann"}
QUEUED = b'{"success": true, "message": "Event queued successfully"}'
OFFICE = "192.0.2.7"
SHOP = Site(
    "shop", domains=("shop.example",), excluded_ips=(ip_network("192.0.2.0/24"),), excluded_paths=("/admin/**",)
)
BOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"

MakeKey = Callable[..., dict[str, str]]


@pytest.fixture(autouse=True)
def shop(settings: Settings, redis: Redis) -> None:
    SiteRegistry(redis).publish(lambda: [SHOP, Site("blog", excluded_ips=SHOP.excluded_ips)])


@pytest.fixture
def make_key(settings: Settings, database: Database[dict[str, Any]], redis: Redis) -> MakeKey:
    """The header of a new key."""

    def make(*scopes: str, sites: list[str] | None = None) -> dict[str, str]:
        keys = ApiKeyStore(database, lambda: NOW - timedelta(days=1))
        _, secret = keys.create("test", scopes or [WRITE_SCOPE], sites, None)
        KeyRing(redis).publish(keys)
        return {"Authorization": f"Bearer {secret}"}

    return make


def kept(redis: Redis) -> dict[bytes, Any]:
    """Everything that events left in Redis: the journal, counts, salts and limits.

    The time of a key's last use is left out.
    """
    return {key: redis.dump(key) for key in redis.scan_iter() if key != b"footfall:api-keys:used"}


# Why an event was dropped


def test_with_the_site_s_key_a_dropped_event_says_why(ingest: FlaskClient, make_key: MakeKey, journal: Journal):
    answer = ingest.post("/event", json=GOOD | {"ip": OFFICE}, headers=make_key(sites=["shop"]))
    assert answer.status_code == 200
    assert answer.json == {
        "success": True,
        "message": "Event dropped: excluded_address",
        "dropped": "excluded_address",
    }
    ingest.set_cookie("footfall_optout", "1")
    opted_out = ingest.post("/event", json=GOOD, headers=make_key())
    assert opted_out.json["dropped"] == "refused_by_visitor"
    assert journal.waiting() == 0


@pytest.mark.parametrize(
    "headers_of",
    [
        lambda _: {},
        lambda make_key: make_key(READ_SCOPE),
        lambda make_key: make_key(WRITE_SCOPE, sites=["blog"]),
        lambda _: {"Authorization": "Bearer None"},
    ],
    ids=["no key", "another scope", "another site", "no key of ours"],
)
def test_without_the_site_s_key_the_answer_does_not_show_drops(
    ingest: FlaskClient, make_key: MakeKey, headers_of: Callable[[MakeKey], dict[str, str]]
):
    headers = headers_of(make_key)
    dropped = GOOD | {"ip": OFFICE}
    assert ingest.post("/event", json=dropped, headers=headers).data == QUEUED
    several = ingest.post("/events", json=[dropped, GOOD], headers=headers)
    assert several.json == {"success": True, "accepted": 1, "dropped": 1, "rejected": []}
    assert "excluded" not in ingest.post("/event?validate=1", json=dropped, headers=headers).text
    assert "excluded" not in ingest.post("/events?validate=1", json=[dropped], headers=headers).text


def test_a_write_key_which_is_public_shows_no_reason(ingest: FlaskClient, redis: Redis, make_key: MakeKey):
    write_key = "0b0e1c9e-5a57-4b6f-9c55-2f2b8e7c1a11"
    SiteRegistry(redis).publish(lambda: [replace(SHOP, write_key=write_key)])
    headers = {"Authorization": f"Bearer {write_key}"}
    assert ingest.post("/event", json=GOOD | {"ip": OFFICE}, headers=headers).data == QUEUED


def test_a_batch_lists_dropped_events_by_index_for_the_sites_of_the_key(ingest: FlaskClient, make_key: MakeKey):
    dropped = GOOD | {"ip": OFFICE}
    events = [GOOD, dropped, {"site_id": "shop"}, dropped | {"site_id": "blog"}, dropped]
    answer = ingest.post("/events", json=events, headers=make_key(sites=["shop"])).json
    assert (answer["accepted"], answer["dropped"], len(answer["rejected"])) == (1, 3, 1)
    assert answer["dropped_events"] == [
        {"index": 1, "reason": "excluded_address"},
        {"index": 4, "reason": "excluded_address"},
    ]


def test_no_list_of_an_answer_grows_with_the_hit(ingest: FlaskClient, make_key: MakeKey):
    events = [GOOD | {"ip": OFFICE, f"x{n}": n} for n in range(400)]
    answer = ingest.post("/events", json=events, headers=make_key())
    assert answer.json["dropped"] == 400
    assert [len(answer.json[name]) for name in ("dropped_events", "warnings")] == [MOST_LISTED, MOST_WARNINGS]
    valid = ingest.post("/events?validate=1", json=[GOOD] * 400, headers=make_key()).json
    assert (valid["accepted"], len(valid["events"])) == (400, MOST_LISTED)
    long = ingest.post("/event", json=GOOD | {"x" * 50_000: 1})
    assert len(long.data) < 500


# Unknown names


@pytest.mark.parametrize(
    ("name", "suggested"),
    [("usr_id", "user_id"), ("eventId", "event_id"), ("referer", "referrer"), ("userAgent", "user_agent"),
     ("colour", ""), ("x" * 5000, ""), ("\ud800", "")],
)  # fmt: skip
def test_an_unknown_field_is_a_warning_that_suggests_the_closest(
    ingest: FlaskClient, journal: Journal, name: str, suggested: str
):
    answer = ingest.post("/event", data=json.dumps(GOOD | {name: "ann"}))
    assert answer.status_code == 200
    (warning,) = answer.json["warnings"]
    assert warning["field"] == name[:100].replace("\ud800", "\ufffd")
    assert warning["message"].startswith("Unknown field. It is ignored.")
    assert (f"Did you mean {suggested!r}?" in warning["message"]) == bool(suggested)
    assert answer.json["success"] is True
    assert journal.waiting() == 1


def test_a_batch_warns_of_each_unknown_field_once_with_the_first_event_that_has_it(ingest: FlaskClient):
    lines = [GOOD, GOOD | {"usr_id": 1}, GOOD | {"usr_id": 1, "colour": "red"}, 17]
    answer = ingest.post(
        "/events", data="\n".join(map(json.dumps, lines)), headers={"Content-Type": "application/x-ndjson"}
    )
    assert [(x["index"], x["field"]) for x in answer.json["warnings"]] == [(1, "usr_id"), (2, "colour")]
    assert answer.json["accepted"] == 3


def test_a_missing_field_and_what_was_sent_in_its_place_are_in_one_answer(ingest: FlaskClient):
    answer = ingest.post("/event", json={"siteId": "shop", "event_type": "pageview"})
    assert answer.status_code == 400
    assert list(answer.json["error"]["fields"]) == ["site_id"]
    assert answer.json["warnings"] == [
        {"field": "siteId", "message": "Unknown field. It is ignored. Did you mean 'site_id'?"}
    ]


def test_an_event_without_unknown_fields_gets_no_warning(ingest: FlaskClient, make_key: MakeKey):
    every = dict.fromkeys(KNOWN) | GOOD
    for headers in ({}, make_key()):
        assert ingest.post("/event", json=every, headers=headers).data == QUEUED
        answer = ingest.post("/events", json=[every], headers=headers)
        assert answer.json == {"success": True, "accepted": 1, "dropped": 0, "rejected": []}


# The expected outcome


def test_validate_says_what_would_happen_and_leaves_nothing_behind(
    ingest: FlaskClient, redis: Redis, make_key: MakeKey, database: Database[dict[str, Any]]
):
    headers = make_key(sites=["shop"])
    before = kept(redis)
    event = GOOD | {"url": "https://www.shop.example/docs?utm_source=news&x=1", "path": None,
                    "timestamp": "2026-11-22T13:00:00+02:00", "user_agent": FIREFOX, "usr": 1}  # fmt: skip
    answer = ingest.post("/event?validate=1", json=event, headers=headers)
    assert (answer.status_code, answer.json["outcome"]) == (200, "accepted")
    resolved = answer.json["event"]
    assert resolved["occurred_at"] == "2026-11-22T11:00:00+00:00"
    for name, value in {
        "site_id": "shop", "event_type": "pageview", "hostname": "shop.example", "path": "/docs",
        "visitor": "user_id", "user_id": "ann", "browser": "Firefox", "os": "Linux", "utm_source": "news",
    }.items():  # fmt: skip
        assert resolved[name] == value, name
    assert not {"id", "url", "client", "visitor_id"} & set(resolved)
    assert [warning["field"] for warning in answer.json["warnings"]] == ["usr"]
    wrong = ingest.post("/event?validate=1", json=GOOD | {"timestamp": "yesterday"}, headers=headers)
    assert (wrong.status_code, list(wrong.json["error"]["fields"])) == (400, ["timestamp"])
    ingest.post("/event?validate=1", data=b"{")
    ingest.post("/event?validate=1", json=GOOD | {"user_id": None}, headers={"User-Agent": FIREFOX})
    ingest.post("/events?validate=true", json=[GOOD, 17, GOOD | {"ip": OFFICE}], headers=headers)
    assert kept(redis) == before
    assert database["events"].count_documents({}) == 0


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"ip": OFFICE}, "excluded_address"),
        ({"user_agent": BOT}, "bot"),
        ({"url": "https://copy.example/"}, "foreign_hostname"),
        ({"path": "/admin/users"}, "excluded_path"),
        ({"referrer": "https://semalt.com/"}, "spam_referrer"),
    ],
)
def test_validate_tells_the_site_s_key_what_the_collector_or_a_worker_drops(
    ingest: FlaskClient, make_key: MakeKey, more: dict[str, str], reason: str
):
    headers = make_key(sites=["shop"])
    one = ingest.post("/event?validate=1", json=GOOD | more, headers=headers).json
    assert (one["outcome"], one["dropped"]) == ("dropped", reason)
    several = ingest.post("/events?validate=1", json=[GOOD, GOOD | more], headers=headers).json
    assert (several["accepted"], several["dropped"]) == (1, 1)
    assert several["dropped_events"] == [{"index": 1, "reason": reason}]
    assert [event["index"] for event in several["events"]] == [0]


@pytest.mark.parametrize(
    ("event", "visitor"),
    [
        (GOOD, "user_id"),
        ({"user_id": ""}, "anonymous"),
        ({"user_id": None, "ip": "203.0.113.9"}, "anonymous"),
    ],
)
def test_validate_needs_no_key_and_shows_which_visitor_is_counted(
    ingest: FlaskClient, event: dict[str, Any], visitor: str
):
    answer = ingest.post("/event?validate=1", json=GOOD | event | {"url": "https://shop.example/a"})
    assert answer.json["outcome"] == "accepted"
    assert (answer.json["event"]["visitor"], answer.json["event"]["hostname"]) == (visitor, "shop.example")
    assert "browser" not in answer.json["event"]


def test_an_event_of_a_server_that_names_no_visitor_has_none(ingest: FlaskClient, make_key: MakeKey):
    event = GOOD | {"user_id": None}
    answer = ingest.post("/event?validate=1", json=event, headers=make_key() | {"User-Agent": FIREFOX})
    assert answer.json["event"]["visitor"] == "none"


def test_validate_charges_its_sender_and_not_the_site(
    settings: Settings, journal: Journal, wake_ups: WakeUps, make_key: MakeKey
):
    settings = replace(settings, rate_limit_key="5/hour", rate_limit_site="1/hour", rate_limit_address="9/hour")
    client = create_app(settings, make_services(settings, journal=journal), wake_ups).test_client()
    headers = make_key()
    for _ in range(4):
        assert client.post("/event?validate=1", json=GOOD, headers=headers).status_code == 200
    assert client.post("/event", json=GOOD, headers=headers).data == QUEUED
    assert client.post("/event?validate=1", json=GOOD, headers=headers).status_code == 429
    for _ in range(3):
        assert client.post("/event?validate=1", json=GOOD).status_code == 200
    assert client.post("/event?validate=1", json=GOOD).status_code == 429


def test_validate_takes_as_many_bytes_as_a_single_event_may_have(ingest: FlaskClient):
    body = json.dumps([GOOD | {"props": {"a": "x" * 2000}}] * 40)
    for kind in ("application/json", "application/x-ndjson"):
        assert ingest.post("/events?validate=1", data=body, content_type=kind).status_code == 413
    assert ingest.post("/events", data=body).json["accepted"] == 40


@pytest.mark.parametrize(("value", "status"), [("0", 200), ("false", 200), ("maybe", 400)])
def test_validate_is_yes_or_no(ingest: FlaskClient, journal: Journal, value: str, status: int):
    answer = ingest.post(f"/event?validate={value}&other=1", json=GOOD)
    assert answer.status_code == status
    assert journal.waiting() == (status == 200)
    assert status == 200 or list(answer.json["error"]["fields"]) == ["validate"]
