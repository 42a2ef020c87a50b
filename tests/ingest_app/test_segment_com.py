"""Segment's and RudderStack's HTTP API: messages keep their meaning, and the answers are those that clients expect."""

import base64
import gzip
import json
from datetime import UTC, datetime
from time import process_time
from typing import Any

import pytest
from flask.testing import FlaskClient
from msgspec.structs import replace
from redis import Redis

from analytics.events.drop import Drop
from analytics.events.event import Event, new_id
from analytics.events.schema import InvalidEvent, load_event, load_journal_event
from analytics.events.segment_com import CALLS, translate
from analytics.journal.journal import Journal
from analytics.visitors.client import Client
from ingest_app.segment_com import BATCHES
from ingest_app.segment_com_schema import SHORT_CALLS, parameters_as_body, read_segment, visitor_in
from tests.support.effort import effort
from tests.support.services import NOW

SERVER, BROWSER = "analytics-python/2.4.0", "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"
TRACK = {"type": "track", "event": "Signed Up", "userId": "ann", "messageId": "m-1", "timestamp": NOW.isoformat()}


def event_of(message: dict[str, Any], context: dict[str, Any] | None = None) -> dict[str, Any]:
    """The translated event, without the fields that all have. Footfall's schema accepts it."""
    event = translate({"userId": "ann", **message}, "shop", context or {})
    assert isinstance(event, dict)
    load_event(event, NOW)
    assert (event.pop("site_id"), event.pop("user_id")) == ("shop", "ann")
    return event


def test_a_track_call_of_a_server_is_a_custom_event():
    message = TRACK | {"properties": {"plan": "pro", "nested": {"a": [1, {"b": 2}]}}, "anonymousId": None}
    assert event_of(message) == {
        "event_type": "Signed Up",
        "event_id": "m-1",
        "timestamp": NOW.isoformat(),
        "props": {"plan": "pro", "nested.a": '[1,{"b":2}]'},
    }


def test_a_page_call_of_a_browser_is_a_pageview():
    page = {"url": "https://shop.example/a?utm_source=x", "path": "/a", "referrer": "https://n.example/", "title": "A"}
    context = {
        "page": page, "userAgent": BROWSER, "locale": "de-DE", "timezone": "Europe/Berlin",
        "campaign": {"name": "spring", "source": "news", "medium": "email", "content": "b", "term": "shoes"},
        "screen": {"width": 1920, "height": 1080.0, "density": 2}, "library": {"name": "analytics.js"},
    }  # fmt: skip
    message = {"type": "page", "name": "Home", "context": context, "properties": page | {"search": "?x", "plan": "pro"}}
    assert event_of(message) == {
        "event_type": "pageview",
        "url": page["url"],
        "referrer": "https://n.example/",
        "user_agent": BROWSER,
        "language": "de-DE",
        "screen": "1920x1080",
        "utm_campaign": "spring",
        "utm_source": "news",
        "utm_medium": "email",
        "utm_content": "b",
        "utm_term": "shoes",
        "props": {"name": "Home", "title": "A", "plan": "pro"},
    }


def test_a_screen_call_is_a_pageview_with_its_name():
    context = {"os": {"name": "iOS", "version": "26.1"}, "device": {"type": "ios"}, "ip": "0.0.0.0", "locale": "de_DE"}
    assert event_of({"type": "screen", "name": "Cart"}, context) == {
        "event_type": "pageview",
        "path": "/Cart",
        "os": "iOS",
        "os_version": "26.1",
        "language": "de-DE",
        "props": {"name": "Cart"},
    }
    assert event_of({"type": "screen", "properties": {"path": "/cart"}})["path"] == "/cart"


SENDER = Client(address="203.0.113.9", user_agent=BROWSER, languages="de")


@pytest.mark.parametrize(
    ("agent", "context", "visitor"),
    [
        (BROWSER, {}, SENDER),
        (SERVER, {}, Client()),
        ("", {"device": None}, Client()),
        ("okhttp/5", {"device": {"type": "android"}}, replace(SENDER, user_agent="")),
    ],
)
def test_the_address_and_user_agent_of_a_server_are_not_those_of_a_visitor(
    agent: str, context: dict[str, Any], visitor: Client
):
    hit = read_segment({"batch": [7, {"context": 7}, TRACK | {"context": context}]})
    assert visitor_in(replace(SENDER, user_agent=agent), hit) == visitor


def test_a_message_may_say_who_its_visitor_is():
    context = {"ip": "203.0.113.9", "userAgent": BROWSER}
    assert event_of({"type": "track", "event": "a"}, context) == {
        "event_type": "a",
        "ip": "203.0.113.9",
        "user_agent": BROWSER,
    }
    assert event_of({"type": "track", "event": "a"}, {"ip": "nowhere"}) == {"event_type": "a"}


@pytest.mark.parametrize(
    ("event", "properties", "revenue", "props"),
    [
        ("Bought", {"revenue": 9.9, "currency": "eur", "a": 1}, {"amount": 9.9, "currency": "EUR"}, {"a": 1}),
        ("Bought", {"revenue": "9.90"}, {"amount": "9.90", "currency": "USD"}, {}),
        ("Order Completed", {"total": 5, "currency": "GBP"}, {"amount": 5, "currency": "GBP"}, {"total": 5}),
        ("Order Completed", {"revenue": 4, "total": 5}, {"amount": 4, "currency": "USD"}, {"total": 5}),
        ("Product Viewed", {"value": 5, "currency": "GBP"}, None, {"value": 5, "currency": "GBP"}),
        ("Bought", {"revenue": "much", "currency": "EUR"}, None, {"revenue": "much", "currency": "EUR"}),
        ("Bought", {"revenue": None}, None, {}),
    ],
)
def test_revenue_is_read_from_the_properties(
    event: str, properties: dict[str, Any], revenue: dict[str, Any] | None, props: dict[str, Any]
):
    found = event_of({"type": "track", "event": event, "properties": properties})
    assert (found.get("revenue"), found.get("props", {})) == (revenue, props)


def test_an_anonymous_id_replaces_a_missing_user_id_and_numbers_are_ids_too():
    assert translate({"type": "track", "event": "a", "anonymousId": "x"}, "shop", {})["user_id"] == "x"  # type: ignore[index]
    assert translate({"type": "track", "event": "a", "userId": 7}, "shop", {})["user_id"] == "7"  # type: ignore[index]


def test_a_timestamp_of_the_user_overrides_that_of_the_client():
    message = {"type": "track", "event": "a", "originalTimestamp": "2026-11-22T11:00:00Z"}
    assert event_of(message)["timestamp"] == "2026-11-22T11:00:00+00:00"
    assert event_of(message | {"timestamp": "2025-01-01T00:00:00Z"})["timestamp"] == "2025-01-01T00:00:00+00:00"


@pytest.mark.parametrize("bad", ["2026-11-22T16:00:27.029:Z", "yesterday", "", 7, {}, "0001-01-01T00:00:00Z", 10**30])
def test_if_a_time_is_invalid_the_next_best_one_is_used(bad: object):
    message = {"type": "track", "event": "a", "timestamp": bad, "sentAt": "2026-11-22T12:00:00Z"}
    good = message | {"originalTimestamp": "2026-11-22T11:00:00z"}
    assert event_of(good)["timestamp"] == "2026-11-22T11:00:00+00:00"
    assert event_of(message | {"originalTimestamp": bad})["timestamp"] == "2026-11-22T12:00:00+00:00"
    assert "timestamp" not in event_of(message | {"originalTimestamp": bad, "sentAt": bad})


def test_a_message_id_longer_than_ours_may_be_is_still_the_same_at_every_retry():
    ids = {event_of(TRACK | {"messageId": "x" * 101})["event_id"] for _ in range(2)}
    assert len(ids) == 1
    assert event_of(TRACK | {"messageId": "x" * 102})["event_id"] not in ids


@pytest.mark.parametrize("kind", ["identify", "group", "alias"])
def test_messages_about_a_person_are_dropped_and_counted_by_name(kind: str):
    assert translate({"type": kind, "userId": "ann", "traits": {"a": 1}}, "shop", {}) == Drop(kind, "shop")


@pytest.mark.parametrize("kind", ["identify", "alias"])
def test_a_site_that_assigns_visits_stores_a_sign_in_and_leaves_anonymous_messages_anonymous(kind: str):
    message = {"type": kind, "userId": "ann", "anonymousId": "x", "traits": {"a": 1}, "messageId": "m"}
    page = {"page": {"url": "https://shop.example/login"}}
    assert translate(message, "shop", page, assigns_visits=True) == {
        "site_id": "shop", "event_id": "m", "user_id": "ann", "event_type": "identify", "interactive": False,
        "url": "https://shop.example/login",
    }  # fmt: skip
    assert translate({"type": kind, "anonymousId": "x"}, "shop", {}, assigns_visits=True) == Drop(kind, "shop")
    assert translate({"type": "group", "userId": "ann"}, "shop", {}, assigns_visits=True) == Drop("group", "shop")
    track = {"type": "track", "event": "a", "anonymousId": "x"}
    assert "user_id" not in translate(track, "shop", {}, assigns_visits=True)  # type: ignore[operator]


@pytest.mark.parametrize("message", [None, 7, [], {}, {"type": "odd"}, {"type": {}}, {"type": ["track"]}])
def test_an_invalid_message_is_rejected_alone(message: object):
    error = translate(message, "shop", {})
    assert isinstance(error, InvalidEvent)
    assert error.site_id == "shop"


def test_a_batch_may_have_values_for_all_its_messages():
    body = {"batch": [TRACK], "writeKey": "key", "sentAt": "2026-11-22T12:00:01Z", "context": {"ip": "203.0.113.9"}}
    hit = read_segment(body)
    assert (hit.write_key, hit.messages, hit.context) == ("key", [TRACK], {"ip": "203.0.113.9"})
    assert hit.sent_at == datetime(2026, 11, 22, 12, 0, 1, tzinfo=UTC)
    assert read_segment({"batch": [], "sentAt": "then"}).sent_at is None


@pytest.mark.parametrize("context", [
    {f"{number}": 0 for number in range(300_000)},
    {"page": {"title": [[]] * 300_000}},
    {"page": {"url": " " * 4_000_000}, "ip": " " * 4_000_000},
    {"page": {"url": "\u0300" * 2_000_000, "referrer": "\u0300" * 2_000_000}, "ip": "1" * 4_000_000},
], ids=["many", "a structure", "spaces", "long"])  # fmt: skip
def test_the_common_data_of_a_batch_are_not_processed_for_each_message(context: dict[str, Any]):
    """5,000 messages of one request took minutes."""

    def read(context: dict[str, Any]) -> None:
        said = read_segment({"batch": [{"type": "page"}] * 100, "context": context})
        for message in said.messages:
            translate(message, "shop", said.context)

    assert effort(lambda: read(context)) < 30 * effort(lambda: read({}))


def test_the_parents_of_a_property_are_not_copied_for_each_message():
    began = process_time()
    translate(
        {"type": "track", "event": "x", "properties": {"a" * 1_000_000: dict.fromkeys(map(str, range(50_000)))}},
        "shop",
        {},
    )
    assert process_time() - began < 1
    (name,) = event_of({"type": "track", "event": "x", "properties": {"a": {"b" * 1000: {"c": 1}}}})["props"]
    assert name == ("a." + "b" * 1000)[:300]


def test_a_batch_whose_messages_alone_say_when_was_sent_with_the_last_of_them():
    sent = ["2026-11-22T12:00:01Z", "2026-11-22T12:00:03Z", None, "x"]
    assert read_segment({"batch": [{"sentAt": at} for at in sent] + [7]}).sent_at == datetime(
        2026, 11, 22, 12, 0, 3, tzinfo=UTC
    )


def test_a_single_message_has_the_type_of_its_path():
    hit = read_segment({"event": "a", "sentAt": "2026-11-22T12:00:01Z", "context": {"ip": "x"}}, "track")
    assert hit.messages == [{"event": "a", "sentAt": "2026-11-22T12:00:01Z", "context": {"ip": "x"}, "type": "track"}]
    assert hit.context == {}


def test_the_parameters_of_a_pixel_may_be_json_or_ways_into_it():
    parameters = {"event": "Open", "properties": '{"a": 1}', "context.page.url": "https://a.example/", "x": "{no"}
    assert parameters_as_body(parameters) == {
        "event": "Open",
        "properties": {"a": 1},
        "context": {"page": {"url": "https://a.example/"}},
        "x": "{no",
    }
    assert parameters_as_body({"a": "text", "a.b": "1", "c.d": "2", "c": "3"}) == {"a": "text", "c": "3"}


def journal_events(journal: Journal) -> list[Event]:
    journal.held("test")
    return [load_journal_event(entry.raw, new_id, lambda: NOW) for entry in journal.claim("test")]


def basic(key: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()}


@pytest.mark.parametrize("path", BATCHES)
def test_a_batch_is_answered_with_200_and_says_what_became_of_each(ingest: FlaskClient, journal: Journal, path: str):
    identify = {"type": "identify", "userId": "ann"}
    body = {"batch": [TRACK, 7, identify, {"type": "track", "userId": "ann"}], "writeKey": "shop"}
    answer = ingest.post(path, json=body)
    assert answer.status_code == 200
    assert (answer.json["success"], answer.json["accepted"], answer.json["dropped"]) == (True, 1, 1)
    assert [(error["index"], list(error["fields"])) for error in answer.json["rejected"]] == [
        (1, ["body"]),
        (3, ["event"]),
    ]
    assert journal.waiting() == 1


@pytest.mark.parametrize("path", [f"/v1/{kind}" for kind in (*CALLS, *SHORT_CALLS)])
def test_every_path_of_a_single_message_is_answered_with_200(ingest: FlaskClient, path: str):
    message = {"event": "a", "userId": "ann", "writeKey": "shop", "messageId": "m"}
    answer = ingest.post(path, data=json.dumps(message), content_type="text/plain")
    kind = path.removeprefix("/v1/")
    dropped = SHORT_CALLS.get(kind, kind) in ("identify", "group", "alias")
    assert (answer.status_code, answer.json["accepted"], answer.json["dropped"]) == (200, not dropped, dropped)


def test_the_write_key_comes_in_the_body_or_as_a_user_or_in_the_query(ingest: FlaskClient, journal: Journal):
    batch = {"batch": [TRACK]}
    assert ingest.post("/v1/batch", json=batch | {"writeKey": "shop"}).json["accepted"] == 1
    assert ingest.post("/v1/batch", json=batch, headers=basic("shop")).json["accepted"] == 1
    assert ingest.post("/v1/batch?writeKey=shop", json=batch).json["accepted"] == 1
    assert {event.site_id for event in journal_events(journal)} == {"shop"}


@pytest.mark.parametrize("key", ["Basic !", "Basic /w==", "Bearer x", "odd"])
def test_an_authorization_header_without_a_key_is_ignored(ingest: FlaskClient, key: str):
    answer = ingest.post("/v1/batch", json={"batch": [TRACK], "writeKey": "shop"}, headers={"Authorization": key})
    assert answer.json["accepted"] == 1
    answer = ingest.post("/v1/batch", json={"batch": [TRACK]}, headers={"Authorization": key})
    assert (answer.status_code, len(answer.json["rejected"])) == (200, 1)


def test_gzip_is_read_with_any_content_type(ingest: FlaskClient):
    body = gzip.compress(json.dumps({"batch": [TRACK], "writeKey": "shop"}).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/x-www-form-urlencoded"}
    assert ingest.post("/v1/batch", data=body, headers=headers).json["accepted"] == 1


def test_a_batch_as_large_as_rudderstack_s_clients_build_is_accepted(ingest: FlaskClient):
    large = [TRACK | {"messageId": f"m-{n}", "properties": {"text": "x" * 30_000}} for n in range(130)]
    assert ingest.post("/v1/batch", json={"batch": large, "writeKey": "shop"}).json["accepted"] == 130


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"{", 400, "not_json"),
        (b"[]", 400, "invalid_event"),
        (b'{"batch": {}}', 400, "invalid_event"),
        (b'{"batch": [' + b"0," * 5000 + b"0]}", 400, "too_many_events"),
        (b" " * 5_000_001, 413, "payload_too_large"),
    ],
    ids=["no JSON", "no object", "no list", "too many", "too large"],
)
def test_an_error_has_code_and_message_where_segment_s_clients_look(
    ingest: FlaskClient, data: bytes, status: int, code: str
):
    answer = ingest.post("/v1/batch", data=data)
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert answer.json["message"] == answer.json["error"]["message"]


def test_a_full_journal_is_answered_with_the_time_of_the_next_attempt(ingest: FlaskClient, redis: Redis):
    redis.config_set("maxmemory", 1)
    try:
        answer = ingest.post("/v1/batch", json={"batch": [TRACK], "writeKey": "shop"})
    finally:
        redis.config_set("maxmemory", 0)
    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0


def test_a_pixel_is_a_gif(ingest: FlaskClient, journal: Journal):
    parameters = {"writeKey": "shop", "event": "Open", "anonymousId": "x", "properties": '{"a": 1}'}
    for kind in ("track", "page"):
        answer = ingest.get(f"/pixel/v1/{kind}", query_string=parameters)
        assert (answer.status_code, answer.mimetype) == (200, "image/gif")
        assert answer.data.startswith(b"GIF89a")
    assert [event.event_type for event in journal_events(journal)] == ["Open", "pageview"]
