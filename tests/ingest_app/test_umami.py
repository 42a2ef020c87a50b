"""POST /api/send and /api/batch: Umami's events keep their meaning, and the answers are those that clients expect."""

import json
from time import process_time
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from analytics.events.schema import InvalidEvent, load_event
from analytics.journal.journal import Journal
from ingest_app.umami_schema import read_umami
from tests.support.services import NOW

WEBSITE = "b59e9c65-ae32-47f1-8400-119fcf4861c4"
PAYLOAD = {"website": WEBSITE, "hostname": "shop.example", "url": "/pricing?utm_source=x"}
SENT = {"type": "event", "payload": PAYLOAD}


def event_of(**payload: object) -> dict[str, Any]:
    """The translated event. Footfall's schema accepts it."""
    read = read_umami({"type": "event", "payload": {"website": WEBSITE} | payload})
    assert read.event is not None
    load_event(read.event | {"site_id": "shop"}, NOW)
    return read.event


def test_a_pageview_of_the_script_is_accepted():
    payload = PAYLOAD | {"screen": "1920x1080", "language": "en-US", "title": "Prices", "referrer": "https://a.example"}
    read = read_umami({"type": "event", "payload": payload})
    assert read.website == WEBSITE
    assert read.event == {
        "event_type": "pageview",
        "url": "https://shop.example/pricing?utm_source=x",
        "hostname": "shop.example",
        "referrer": "https://a.example",
        "language": "en-US",
        "screen": "1920x1080",
        "props": {"title": "Prices"},
    }


def test_a_named_event_is_a_custom_one_and_its_data_is_flattened_into_props():
    data = {"plan": "pro", "cart": {"items": 2, "first": {"sku": "a"}}, "tags": ["a", 1], "none": None, "empty": {}}
    event = event_of(name="signup", tag="b", data=data)
    assert event == {
        "event_type": "signup",
        "props": {"tag": "b", "plan": "pro", "cart.items": 2, "cart.first.sku": "a", "tags": '["a",1]'},
    }


def test_revenue_is_read_from_the_data_if_it_has_a_currency():
    event = event_of(name="buy", data={"revenue": "19.90", "currency": "eur", "sku": "a"})
    assert event["revenue"] == {"amount": "19.90", "currency": "EUR"}
    assert event["props"] == {"sku": "a"}
    event = event_of(name="buy", data={"revenue": 5})
    assert "revenue" not in event
    assert event["props"] == {"revenue": 5}


@pytest.mark.parametrize(
    ("url", "hostname", "page"),
    [
        ("https://a.example/x?y=1", "shop.example", {"url": "https://a.example/x?y=1", "hostname": "shop.example"}),
        ("/x", None, {"path": "/x"}),
        ("x", None, {"path": "/x"}),
        ("/x?utm_source=news#c", None, {"path": "/x?utm_source=news#c"}),
        (None, "shop.example", {"hostname": "shop.example"}),
        ("https://[a", None, {}),
        (7, 7, {}),
    ],
)
def test_a_page_is_a_path_or_a_whole_url(url: object, hostname: object, page: dict[str, str]):
    assert event_of(url=url, hostname=hostname) == {"event_type": "pageview"} | page


def test_a_server_names_the_visitor_and_the_time():
    event = event_of(id=42, ip="203.0.113.9", userAgent="Mozilla/5.0", timestamp=1795255200, device="laptop")
    assert event == {
        "event_type": "pageview",
        "user_id": "42",
        "ip": "203.0.113.9",
        "user_agent": "Mozilla/5.0",
        "timestamp": "2026-11-21T10:00:00+00:00",
        "device": "Desktop",
    }
    assert event_of(ip="nowhere", timestamp="later", device="toaster") == {"event_type": "pageview"}
    assert event_of(timestamp=10**30) == {"event_type": "pageview"}


@pytest.mark.parametrize("kind", ["identify", "performance"])
def test_messages_that_are_no_events_are_dropped_and_counted_by_name(kind: str):
    read = read_umami({"type": kind, "payload": PAYLOAD | {"id": "ann", "data": {"plan": "pro"}, "lcp": 1200}})
    assert (read.website, read.event, read.reason) == (WEBSITE, None, kind)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ({"type": "odd", "payload": PAYLOAD}, "type"),
        ({"type": "event"}, "payload"),
        ({"type": "event", "payload": {}}, "payload.website"),
        ({"type": "event", "payload": PAYLOAD | {"name": "x" * 51}}, "payload.name"),
    ],
)
def test_events_that_umami_refuses_are_refused(body: object, field: str):
    with pytest.raises(InvalidEvent) as error:
        read_umami(body)
    assert list(error.value.fields) == [field]


def test_an_event_is_answered_as_its_script_reads_it(ingest: FlaskClient, journal: Journal):
    answer = ingest.post("/api/send", data=json.dumps(SENT), headers={"Authorization": "Bearer None"})
    assert answer.status_code == 200
    assert set(answer.json) == {"cache", "sessionId", "visitId"}
    assert UUID(answer.json["sessionId"])
    assert journal.waiting() == 1
    again = ingest.post("/api/send", json=SENT, headers={"x-umami-cache": answer.json["cache"]})
    assert again.json == answer.json
    odd = ingest.post("/api/send", json=SENT, headers={"x-umami-cache": "<script>"})
    assert odd.json["cache"] != "<script>"
    assert journal.waiting() == 3


def test_an_identify_is_answered_alike_and_counted_as_dropped(ingest: FlaskClient, journal: Journal):
    answer = ingest.post("/api/send", json={"type": "identify", "payload": PAYLOAD | {"data": {"a": 1}}})
    assert (answer.status_code, set(answer.json)) == (200, {"cache", "sessionId", "visitId"})
    assert journal.waiting() == 0


def test_a_bad_event_is_a_400_in_umamis_shape_and_ours(ingest: FlaskClient):
    answer = ingest.post("/api/send", json={"type": "event", "payload": {"url": "/"}})
    assert answer.status_code == 400
    assert answer.json["error"]["message"] == answer.json["message"]
    assert answer.json["error"]["code"] == answer.json["code"] == "invalid_event"


def test_a_batch_is_answered_event_by_event(ingest: FlaskClient, journal: Journal):
    identify = {"type": "identify", "payload": PAYLOAD}
    answer = ingest.post("/api/batch", json=[SENT, {"type": "event", "payload": {}}, identify, SENT])
    assert answer.status_code == 200
    assert {name: answer.json[name] for name in ("size", "processed", "errors")} == {
        "size": 4,
        "processed": 3,
        "errors": 1,
    }
    assert [(error["index"], error["code"]) for error in answer.json["details"]] == [(1, "invalid_event")]
    assert answer.json["cache"]
    assert journal.waiting() == 2
    assert ingest.post("/api/batch", json=SENT).status_code == 400


def test_the_addresses_in_a_header_are_not_processed_for_each_event_of_a_batch():
    """A header has room for two thousand addresses, and 5,000 events of a request took minutes."""
    payload = {"website": "shop", "url": "/"}
    began = process_time()
    for _ in range(500):
        read_umami({"payload": payload}, "::1," * 2000)
    assert process_time() - began < 1
    assert read_umami({"payload": payload}, "10.0.0.1, " * 9 + "203.0.113.9").event["ip"] == "203.0.113.9"
