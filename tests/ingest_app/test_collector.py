"""The collector: all routes, and each event's visitor, time and site policy."""

import gzip
import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from time import process_time
from typing import Any

import brotli
import pytest
import zstandard
from flask.testing import FlaskClient
from pymongo.database import Database
from redis import Redis

from analytics.access.api_key import READ_SCOPE, WRITE_SCOPE
from analytics.access.key_ring import KeyRing
from analytics.access.store import ApiKeyStore
from analytics.events.event import Event, storable
from analytics.events.schema import load_journal_event
from analytics.journal.journal import Journal
from analytics.journal.ledger import Ledger
from analytics.sites.registry import SiteRegistry
from analytics.sites.site import Site
from analytics.visitors.client import Client
from analytics.visitors.salts import Salts
from config.metrics import EVENT_OUTCOMES
from config.settings import Settings
from ingest_app import create_app
from ingest_app.hit import BATCH_BYTES, _split
from tests.support.services import NOW, WakeUps, make_services

GOOD = {"site_id": "shop", "event_type": "pageview", "path": "/pricing"}
KNOWN = GOOD | {"user_id": "ann"}
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"


@pytest.fixture
def admitted(journal: Journal) -> Callable[[], list[Event]]:
    """The events that were admitted since the last call."""

    def read() -> list[Event]:
        assert journal.held("test") == []
        return [load_journal_event(entry.raw, entry.event_id, lambda: NOW) for entry in journal.claim("test")]

    return read


@pytest.fixture
def publish(settings: Settings, redis: Redis) -> Callable[..., None]:
    return lambda *sites: SiteRegistry(redis).publish(lambda: sites)


@pytest.fixture
def production(settings: Settings, journal: Journal, wake_ups: WakeUps) -> FlaskClient:
    settings = replace(settings, app_env="production")
    return create_app(settings, make_services(settings, journal=journal), wake_ups).test_client()


@pytest.fixture
def make_key(settings: Settings, database: Database[dict[str, Any]], redis: Redis) -> Callable[..., dict[str, str]]:
    """The header of a new key."""

    def make(*scopes: str, sites: list[str] | None = None, expires_at: datetime | None = None) -> dict[str, str]:
        keys = ApiKeyStore(database, lambda: NOW - timedelta(days=1))
        _, secret = keys.create("test", scopes or [WRITE_SCOPE], sites, expires_at)
        KeyRing(redis).publish(keys)
        return {"Authorization": f"Bearer {secret}"}

    return make


def basic(user: str) -> str:
    return f"Basic {b64encode(f'{user}:'.encode()).decode()}"


def counts(redis: Redis, database: Database[dict[str, Any]]) -> dict[str, dict[str, int]]:
    return {account.site_id: dict(names) for account, names in Ledger(redis, database).read().items()}


# Batches


def test_ndjson_is_read_line_by_line_and_an_invalid_line_does_not_affect_the_others(ingest: FlaskClient, admitted):
    lines = [json.dumps(KNOWN), "{", "", json.dumps({"site_id": "shop"}), " ", json.dumps(KNOWN), "17"]
    answer = ingest.post("/events", data="\r\n".join(lines), content_type="application/x-ndjson; charset=utf-8")
    assert answer.status_code == 200
    assert (answer.json["accepted"], answer.json["dropped"]) == (2, 0)
    rejected = [(x["index"], x["code"], list(x["fields"])) for x in answer.json["rejected"]]
    assert rejected == [(1, "not_json", ["body"]), (2, "invalid_event", ["event_type"]), (4, "invalid_event", ["body"])]
    assert len(admitted()) == 2


@pytest.mark.parametrize("body", [b"", b"\n", b" \n\n"])
def test_ndjson_without_a_line_holds_no_event(ingest: FlaskClient, body: bytes):
    answer = ingest.post("/events", data=body, content_type="application/x-ndjson")
    assert answer.json == {"success": True, "accepted": 0, "dropped": 0, "rejected": []}


def test_a_line_that_comes_in_very_many_pieces_is_joined_once(ingest: FlaskClient):
    """With 200,000 members of gzip of one byte each, copying took 44 seconds."""
    line = json.dumps(KNOWN).encode()
    pieces = (bytes([each]) for each in b" " * 200_000 + line + b"\n" + line)
    began = process_time()
    assert [x.strip() for x in _split(pieces)] == [line, line]
    assert process_time() - began < 1


def test_a_hit_may_have_five_thousand_events_and_no_more(ingest: FlaskClient, admitted, journal: Journal):
    assert ingest.post("/events", json=[KNOWN] * 5000).json["accepted"] == 5000
    for body in (json.dumps([KNOWN] * 5001), "\n".join([json.dumps(KNOWN)] * 5001)):
        kind = "application/json" if body.startswith("[") else "application/x-ndjson"
        answer = ingest.post("/events", data=body, content_type=kind)
        assert (answer.status_code, answer.json["error"]["code"]) == (400, "too_many_events")
    assert journal.waiting() == 5000


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
@pytest.mark.parametrize("route", ["/event", "/events"])
def test_a_body_may_be_compressed_on_every_route(ingest: FlaskClient, admitted, route: str, encoding: str):
    compress = {"gzip": gzip.compress, "br": brotli.compress, "zstd": zstandard.compress}[encoding]
    body = compress(json.dumps(KNOWN if route == "/event" else [KNOWN]).encode())
    assert ingest.post(route, data=body, headers={"Content-Encoding": encoding}).status_code == 200
    assert len(admitted()) == 1


def test_a_body_that_does_not_match_its_headers_gets_a_code(ingest: FlaskClient):
    answer = ingest.post("/events", data=b"[]", headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "not_decoded")
    answer = ingest.post("/events", data=b"[]", headers={"Content-Encoding": "lzma"})
    assert (answer.status_code, answer.json["error"]["code"]) == (415, "unsupported_media_type")
    assert "br" in answer.headers["Accept-Encoding"]


@pytest.mark.parametrize(("route", "most"), [("/event", 65536), ("/events", BATCH_BYTES)], ids=["one event", "a batch"])
def test_the_size_limit_applies_before_and_after_inflation(ingest: FlaskClient, route: str, most: int):
    def post(size: int, encoding: str) -> int:
        body = b'"' + b"x" * (size - 2) + b'"'
        body = gzip.compress(body) if encoding else body
        return ingest.post(route, data=body, headers={"Content-Encoding": encoding}).status_code

    assert [post(most, ""), post(most, "gzip")] == [400, 400], "read, and no event"
    assert [post(most + 1, ""), post(most + 1, "gzip")] == [413, 413]
    assert post(50_000_000, "gzip") == 413


def test_the_size_limit_applies_to_a_body_without_a_length(ingest: FlaskClient):
    class Endless:
        def read(self, size: int = -1) -> bytes:
            return b" " * size

    environ = {"wsgi.input_terminated": True, "wsgi.input": Endless(), "HTTP_TRANSFER_ENCODING": "chunked"}
    assert ingest.post("/events", environ_overrides=environ).status_code == 413


def test_an_incomplete_body_does_not_count(ingest: FlaskClient, journal: Journal):
    lines = json.dumps(KNOWN) + "\n" + json.dumps(KNOWN)
    answer = ingest.post(
        "/events", data=lines, content_type="application/x-ndjson",
        environ_overrides={"CONTENT_LENGTH": "5000", "wsgi.input_terminated": True},
    )  # fmt: skip
    assert answer.status_code == 400
    assert journal.waiting() == 0


# Time


@pytest.mark.parametrize(
    ("sent_at", "timestamp", "occurred_and_clamped"),
    [
        (None, "2026-11-22T10:00:00Z", ("2026-11-22T10:00:00Z", False)),
        ("2026-11-22T12:00:00.123Z", "2026-11-22T10:00:00Z", ("2026-11-22T10:00:00Z", False)),
        ("2030-01-01T00:00:00Z", "2029-12-31T23:00:00Z", ("2026-11-22T11:00:00.123Z", False)),  # three years fast
        ("1999-01-01T00:00:00Z", "1998-12-31T23:59:00Z", ("2026-11-22T11:59:00.123Z", False)),
        ("2030-01-01T00:00:00Z", None, ("2026-11-22T12:00:00.123Z", False)),
        (None, "2026-11-22T12:00:59Z", ("2026-11-22T12:00:59Z", False)),
        (None, "2026-11-22T12:02:00Z", ("2026-11-22T12:00:00.123Z", True)),
        (None, "9998-01-01T00:00:00Z", ("2026-11-22T12:00:00.123Z", True)),
        ("2026-11-22T10:00:00Z", "2026-11-22T11:00:00Z", ("2026-11-22T12:00:00.123Z", True)),
        ("1970-01-01T00:00:00Z", "9998-01-01T00:00:00Z", ("2026-11-22T12:00:00.123Z", True)),
    ],
)
def test_timestamps_are_corrected_to_the_clock_of_the_server(
    ingest, admitted, sent_at, timestamp, occurred_and_clamped
):
    occurred, clamped = occurred_and_clamped
    body = {"events": [KNOWN | {"timestamp": timestamp}], "sent_at": sent_at}
    assert ingest.post("/events", json=body).json["accepted"] == 1
    (event,) = admitted()
    assert (event.occurred_at, event.clamped) == (datetime.fromisoformat(occurred), clamped)
    assert event.received_at == NOW


def test_an_invalid_sent_at_is_named(ingest: FlaskClient):
    answer = ingest.post("/events", json={"events": [KNOWN], "sent_at": "yesterday"})
    assert (answer.status_code, list(answer.json["error"]["fields"])) == (400, ["sent_at"])
    bad = {"events": [KNOWN | {"timestamp": "1971-01-01T00:00:00Z"}], "sent_at": "9998-01-01T00:00:00Z"}
    answer = ingest.post("/events", json=bad)
    assert list(answer.json["rejected"][0]["fields"]) == ["timestamp"]


def days_ago(days: int) -> dict[str, str]:
    return KNOWN | {"timestamp": (NOW - timedelta(days=days)).isoformat()}


def test_the_site_limits_the_age_of_events_except_with_an_api_key(ingest, admitted, publish, make_key):
    publish(Site("shop", backdate_days=30))
    old = days_ago(31)
    assert ingest.post("/event", json=days_ago(30)).status_code == 200
    answer = ingest.post("/event", json=old)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "too_old")
    assert "API key" in answer.json["error"]["fields"]["timestamp"][0]
    assert ingest.post("/event", json=old, headers=make_key(sites=["shop"])).status_code == 200
    assert ingest.post("/event", json=old, headers=make_key(READ_SCOPE)).status_code == 400
    assert ingest.post("/event", json=old, headers=make_key(sites=["blog"])).status_code == 400
    assert ingest.post("/event", json=old | {"site_id": "nothing is set for it"}).status_code == 200


# Visitor


def test_an_event_without_a_user_id_gets_the_visitor_id_of_the_day(ingest: FlaskClient, admitted):
    ingest.post("/event", json=GOOD, headers={"User-Agent": AGENT})
    ingest.post("/event", json=GOOD | {"path": "/"}, headers={"User-Agent": AGENT})
    ingest.post("/event", json=GOOD, headers={"User-Agent": "another"})
    ingest.post("/event", json=KNOWN, headers={"User-Agent": AGENT})
    first, second, other, known = (event.visitor_id for event in admitted())
    assert first == second != other
    assert len(first) == 16
    assert known is None


def test_before_midnight_the_visitor_s_id_is_kept_alive_when_the_event_is_accepted(
    settings: Settings, journal: Journal, wake_ups: WakeUps, redis: Redis
):
    late = NOW.replace(hour=23, minute=45)
    services = make_services(settings, journal=journal, now=lambda: late)
    client = create_app(settings, services, wake_ups).test_client()
    assert client.post("/event", json=GOOD, headers={"User-Agent": AGENT}).status_code == 200
    assert 0 < redis.ttl("footfall:carried:2026-11-22 shop") <= 30 * 60
    assert len(redis.keys("footfall:alive:*")) == 1


def test_the_sender_of_an_event_is_sealed_and_nowhere_in_plain_text(ingest: FlaskClient, admitted, redis: Redis):
    headers = {"User-Agent": AGENT, "Accept-Language": "de-DE,de;q=0.9"}
    ingest.post("/event", json=KNOWN, headers=headers, environ_overrides={"REMOTE_ADDR": "203.0.113.77"})
    dumps = [redis.dump(key) for key in redis.scan_iter()]
    assert not any(b"203.0.113" in dump or b"Firefox" in dump for dump in dumps)
    (event,) = admitted()
    assert Salts(redis, lambda: NOW).unseal(event.client) == Client("203.0.113.77", AGENT, "de-DE,de;q=0.9")


def test_with_an_api_key_an_event_has_a_visitor_only_if_it_names_one(ingest, admitted, redis: Redis, make_key):
    publish_nothing = [GOOD, GOOD | {"ip": "203.0.113.7", "user_agent": AGENT}, GOOD | {"ip": "203.0.113.7"}]
    ingest.post("/events", json=publish_nothing, headers=make_key() | {"User-Agent": "curl/8"})
    nobody, ann, somebody = admitted()
    assert (nobody.visitor_id, nobody.client) == (None, None)
    unseal = Salts(redis, lambda: NOW).unseal
    assert unseal(ann.client) == Client("203.0.113.7", AGENT)
    assert unseal(somebody.client) == Client("203.0.113.7")
    assert len({None, ann.visitor_id, somebody.visitor_id}) == 3


def test_without_a_key_an_event_may_name_its_visitor_too(ingest: FlaskClient, admitted, redis: Redis):
    bodies = [
        GOOD | {"ip": "::ffff:203.0.113.7"},
        GOOD | {"user_agent": "app/1"},
    ]
    ingest.post("/events", json=bodies, headers={"User-Agent": "curl/8"})
    server, app = admitted()
    unseal = Salts(redis, lambda: NOW).unseal
    assert unseal(server.client) == Client("203.0.113.7")
    assert unseal(app.client) == Client("127.0.0.1", "app/1")


@pytest.mark.parametrize("given", [{"ip": "localhost"}, {"ip": 7}, {"ip": ["::1"]}, {"user_agent": 7}])
def test_an_invalid_visitor_is_named(ingest: FlaskClient, given: dict[str, object]):
    answer = ingest.post("/event", json=GOOD | given)
    assert (answer.status_code, list(answer.json["error"]["fields"])) == (400, list(given))


@pytest.mark.parametrize("letter", ["x", "\u00ff", "\U0001f600", "\ud800", '"'], ids=ascii)
def test_a_client_of_any_length_can_be_sealed_and_read_again(ingest, admitted, redis: Redis, letter: str):
    """In JSON a letter may take 12 bytes.

    A seal that was longer than the journal's form allows became a dead letter.
    """
    ingest.post("/event", json=GOOD | {"user_agent": letter * 1500, "ip": f"fe80::1%{'x' * 9000}"})
    (event,) = admitted()
    assert Salts(redis, lambda: NOW).unseal(event.client) == Client("fe80::1", storable(letter) * 1024)


def test_a_client_cannot_set_the_fields_of_the_collector(ingest: FlaskClient, admitted):
    forged = {
        "client": "2026-11-22.AAAA",
        "visitor_id": "forged",
        "received_at": "2020-01-01T00:00:00Z",
        "clamped": True,
        "id": "00000000000000000000000000000001",
        "sequence": "0000000000000-000001",
        "exported_id": "00000000000000000000000000000001",
    }
    ingest.post("/event", json=KNOWN | forged)
    (event,) = admitted()
    assert (event.visitor_id, event.received_at, event.clamped) == (None, NOW, False)
    assert (event.id.hex == forged["id"], event.sequence, event.exported_id) == (False, None, None)
    assert event.client != forged["client"]


# Site policy


def test_in_production_an_unknown_site_is_rejected_and_not_counted_by_name(
    production: FlaskClient, publish, redis: Redis, database
):
    publish(Site("shop"))
    assert production.post("/event", json=KNOWN).status_code == 200
    answer = production.post("/event", json=KNOWN | {"site_id": "unheard-of"})
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "unknown_site")
    assert list(answer.json["error"]["fields"]) == ["site_id"]
    assert counts(redis, database) == {"shop": {"accepted": 1}, "": {"rejected:unknown_site": 1}}


def test_in_production_nothing_is_counted_under_a_made_up_name(
    production: FlaskClient, publish, redis: Redis, database
):
    """On no route: each name takes memory in Redis, and a client can make up names at no cost."""
    publish(Site("shop"))
    bad = {"event_type": ""}
    production.post("/event", json=bad | {"site_id": "shop"})
    production.post("/event", json=bad | {"site_id": "made-up"})
    production.post("/events", json=[bad | {"site_id": f"made-up-{number}"} for number in range(5)])
    assert production.post("/v1/identify?writeKey=made-up", json={"userId": "ann"}).json["dropped"] == 0
    production.post("/v1/batch", json={"writeKey": "made-up", "batch": [{"type": "odd"}]})
    people = [{"type": "identify", "payload": {"website": f"made-up-{number}"}} for number in range(200)]
    assert production.post("/api/batch", json=people).json["processed"] == 0
    production.post("/v1/identify?writeKey=shop", json={"userId": "ann"})
    assert set(counts(redis, database)) == {"", "shop"}
    assert counts(redis, database)["shop"] == {"rejected:invalid_event": 1, "dropped:identify": 1}


def test_a_site_name_is_limited_in_length_wherever_it_comes_from(ingest: FlaskClient, redis: Redis, database):
    ingest.post(f"/v1/identify?writeKey={'x' * 8000}", json={"userId": "ann"})
    ingest.post("/v1/track", json={"event": ""}, headers={"Authorization": basic("x" * 8000)})
    assert max(map(len, counts(redis, database))) <= 128


def test_in_production_an_unpublished_list_of_sites_is_a_503_and_counts_as_refused(
    production: FlaskClient, redis: Redis
):
    refused = EVENT_OUTCOMES.labels("refused", "redis")
    before = refused._value.get()
    answer = production.post("/event", json=KNOWN)
    assert answer.status_code == 503
    assert refused._value.get() == before + 1


def test_an_origin_that_the_site_does_not_allow_is_refused_and_can_read_the_answer(
    ingest, publish, make_key, redis, database
):
    publish(Site("shop", allowed_origins=("https://shop.example",)))
    post = lambda **headers: ingest.post("/event", json=KNOWN, headers=headers)  # noqa: E731
    assert post(Origin="https://shop.example").status_code == 200
    assert post().status_code == 200, "no browser"
    for origin in ("https://evil.example", "null", "http://shop.example", "https://shop.example.evil.example"):
        answer = post(Origin=origin)
        assert (answer.status_code, answer.json["error"]["code"]) == (403, "origin_not_allowed")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in answer.headers
    assert post(Origin="https://evil.example", **make_key()).status_code == 200
    assert counts(redis, database)["shop"] == {"accepted": 3, "rejected:origin_not_allowed": 4}


def test_events_that_a_site_or_a_visitor_does_not_want_are_dropped_and_counted(
    ingest, publish, redis, database, journal
):
    publish(
        Site("shop", honours_dnt=True, excluded_ips=(ip_network("203.0.113.0/24"), ip_network("2001:db8::/32"))),
        Site("blog"),
    )
    office = {"REMOTE_ADDR": "203.0.113.9"}
    queued = {"success": True, "message": "Event queued successfully"}
    assert ingest.post("/event", json=KNOWN, headers={"DNT": "1"}).json == queued
    assert ingest.post("/event", json=KNOWN, headers={"Sec-GPC": "1"}).json == queued
    assert ingest.post("/event", json=KNOWN, environ_overrides=office).json == queued
    assert ingest.post("/event", json=KNOWN | {"ip": "2001:db8::7"}).json == queued
    assert journal.waiting() == 0
    both = [KNOWN, KNOWN | {"site_id": "blog"}]
    assert ingest.post("/events", json=both, headers={"DNT": "1"}).json == {
        "success": True, "accepted": 1, "dropped": 1, "rejected": [],
    }  # fmt: skip
    ingest.set_cookie("footfall_optout", "1", domain="localhost")
    assert ingest.post("/events", json=both).json["dropped"] == 2
    assert counts(redis, database) == {
        "shop": {"dropped:refused_by_visitor": 4, "dropped:excluded_address": 2},
        "blog": {"accepted": 1, "dropped:refused_by_visitor": 1},
    }


def test_an_invalid_api_key_counts_as_none_and_the_answer_says_so(ingest, make_key, publish):
    publish(Site("shop"))
    bad = [
        "footfall_",
        "footfall_" + "x" * 32,
        make_key(expires_at=NOW - timedelta(hours=1))["Authorization"].split()[1],
    ]
    for key in bad:
        for route, body in (("/event", KNOWN), ("/events", [KNOWN])):
            answer = ingest.post(route, json=body, headers={"Authorization": f"Bearer {key}"})
            assert answer.status_code == 200
            (warning,) = answer.json["warnings"]
            assert warning["field"] == "Authorization"
            assert "unknown, revoked or expired" in warning["message"]
        old = KNOWN | {"timestamp": "2020-01-01T00:00:00Z"}
        answer = ingest.post("/event", json=old, headers={"Authorization": f"Bearer {key}"})
        assert (answer.json["error"]["code"], len(answer.json["warnings"])) == ("too_old", 1)
    for odd in ("Bearer None", "Basic eDo=", "Bearer", "\u00e4", "footfall_"):
        answer = ingest.post("/event", json=KNOWN, headers={"Authorization": odd})
        assert (answer.status_code, "warnings" in answer.json) == (200, False)


def test_a_hit_may_have_events_of_a_hundred_sites_at_most(ingest: FlaskClient):
    answer = ingest.post("/events", json=[KNOWN | {"site_id": f"{number}"} for number in range(120)])
    assert answer.json["accepted"] == 100
    assert {x["code"] for x in answer.json["rejected"]} == {"too_many_sites"}


def test_properties_have_their_limits(ingest: FlaskClient):
    good = {"n" * 300: "v" * 2000} | {f"{number}": number for number in range(29)}
    assert ingest.post("/event", json=KNOWN | {"props": good}).status_code == 200
    for bad in ({"n" * 301: 1}, {"n": "v" * 2001}, {f"{number}": 1 for number in range(31)}, {"n": {"deep": 1}}):
        answer = ingest.post("/event", json=KNOWN | {"props": bad})
        assert (answer.status_code, list(answer.json["error"]["fields"])) == (400, ["props"])


# The pixel


def pixel(ingest: FlaskClient, query: dict[str, str], **more: Any) -> Iterator[Any]:
    answer = ingest.get("/pixel.gif", query_string=query, **more)
    assert (answer.status_code, answer.mimetype, answer.headers["Cache-Control"]) == (200, "image/gif", "no-store")
    assert answer.data.startswith(b"GIF89a\x01\x00\x01\x00")
    return answer


def test_the_pixel_is_a_pageview_of_the_page_that_contains_it(ingest: FlaskClient, admitted):
    assert (
        "X-Footfall-Rejected"
        not in pixel(ingest, {"site_id": "shop"}, headers={"Referer": "https://shop.example/a"}).headers
    )
    (event,) = admitted()
    assert (event.site_id, event.event_type, event.url) == ("shop", "pageview", "https://shop.example/a")


def test_the_pixel_accepts_all_fields_of_an_event(ingest: FlaskClient, admitted):
    query = {
        "site_id": "shop", "event_type": "opened", "path": "/mail/7", "referrer": "https://news.example/",
        "props": '{"campaign": 7}', "revenue": '{"amount": "1.50", "currency": "EUR"}', "interactive": "false",
        "timestamp": "2026-11-22T11:00:00Z", "event_id": "open-7", "user_id": "ann",
    }  # fmt: skip
    pixel(ingest, query, headers={"Referer": "https://shop.example/a"})
    (event,) = admitted()
    assert (event.event_type, event.path, event.url, event.user_id) == ("opened", "/mail/7", None, "ann")
    assert (event.props, event.interactive, event.revenue.currency) == ({"campaign": 7}, False, "EUR")


@pytest.mark.parametrize(
    ("query", "header"),
    [
        ({}, "invalid_event: site_id"),
        ({"site_id": "shop", "props": "{"}, "not_json: body"),
        ({"site_id": "shop", "ip": "x"}, "invalid_event: ip"),
    ],
)
def test_the_pixel_is_an_image_whatever_the_outcome(ingest: FlaskClient, journal: Journal, query, header: str):
    assert pixel(ingest, query).headers["X-Footfall-Rejected"] == header
    assert journal.waiting() == 0


def test_a_head_request_of_the_pixel_is_not_counted(ingest: FlaskClient, journal: Journal):
    assert ingest.head("/pixel.gif?site_id=shop").status_code == 200
    assert journal.waiting() == 0


def test_a_pixel_that_cannot_be_counted_is_a_503(ingest: FlaskClient, redis: Redis):
    redis.config_set("maxmemory", 1)
    try:
        answer = ingest.get("/pixel.gif?site_id=shop")
    finally:
        redis.config_set("maxmemory", 0)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_a_page_s_own_ways_of_sending_need_no_preflight(ingest: FlaskClient, admitted):
    """The Fetch standard lets a page send text/plain without extra headers to any origin, without a preflight."""
    for _ in range(2):
        answer = ingest.post(
            "/event", data=json.dumps(KNOWN), content_type="text/plain;charset=UTF-8",
            headers={"Origin": "https://shop.example", "Sec-Fetch-Mode": "no-cors"},
        )  # fmt: skip
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert len(admitted()) == 2


def test_received_is_utc(ingest: FlaskClient, admitted):
    ingest.post("/event", json=KNOWN | {"timestamp": "2026-11-22T12:00:00+05:30"})
    (event,) = admitted()
    assert event.occurred_at == datetime(2026, 11, 22, 6, 30, tzinfo=UTC)
