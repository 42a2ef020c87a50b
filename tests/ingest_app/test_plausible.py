"""POST /api/event: Plausible's events keep their meaning, and the answers are those that clients expect."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from analytics.events.schema import InvalidEvent, load_event
from analytics.journal.journal import Journal
from ingest_app.plausible_schema import PlausibleEvent, read_plausible
from tests.support.services import NOW

VIEW = {"n": "pageview", "u": "https://shop.example/pricing?utm_source=x#top", "d": "shop.example"}


def event_of(body: object, forwarded_for: str = "") -> dict[str, Any]:
    """The translated event. Footfall's schema accepts it."""
    event = read_plausible(body, forwarded_for).event
    load_event(event | {"site_id": "shop"}, NOW)
    return event


def test_a_pageview_of_the_current_script_is_accepted():
    read = read_plausible(VIEW | {"v": 36, "r": "https://news.example/", "w": 1440})
    assert read == PlausibleEvent(
        ["shop.example"],
        {"event_type": "pageview", "url": VIEW["u"], "referrer": "https://news.example/"},
    )


def test_a_custom_event_with_all_fields_is_accepted():
    body = VIEW | {
        "n": "Purchase",
        "p": {"plan": "pro", "seats": 3, "trial": False, "list": [1], "map": {"a": 1}, "blank": "", "null": None},
        "$": {"amount": 10.5, "currency": "usd"},
        "i": False,
    }
    assert event_of(body) == {
        "event_type": "Purchase",
        "url": VIEW["u"],
        "props": {"plan": "pro", "seats": 3, "trial": False},
        "revenue": {"amount": 10.5, "currency": "USD"},
        "interactive": False,
    }


def test_long_and_short_names_mean_the_same():
    short = {"n": "A", "u": "https://a.example/", "d": "a.example", "r": "https://b.example/", "i": False,
             "p": {"a": "b"}, "$": {"amount": "1", "currency": "EUR"}, "h": 1}  # fmt: skip
    names = {"n": "name", "u": "url", "d": "domain", "r": "referrer", "i": "interactive", "p": "props",
             "$": "revenue", "h": "hashMode"}  # fmt: skip
    assert read_plausible({names[key]: value for key, value in short.items()}) == read_plausible(short)


@pytest.mark.parametrize("name", ["p", "props", "m", "meta"])
def test_props_come_under_four_names_as_an_object_or_as_json_in_a_string(name: str):
    assert event_of(VIEW | {name: {"a": 1}})["props"] == {"a": 1}
    assert event_of(VIEW | {name: '{"a": 1}'})["props"] == {"a": 1}
    assert "props" not in event_of(VIEW | {name: "no json"})
    assert "props" not in event_of(VIEW | {name: 7})


def test_the_first_thirty_props_are_kept():
    assert list(event_of(VIEW | {"p": {f"p{n}": n for n in range(40)}})["props"]) == [f"p{n}" for n in range(30)]


def test_a_name_may_be_a_number():
    assert event_of(VIEW | {"n": 404})["event_type"] == "404"


def test_an_event_may_be_for_several_sites():
    assert read_plausible(VIEW | {"d": "a.example, www.b.example,,a.example"}).domains == ["a.example", "b.example"]


def test_an_event_is_for_no_more_sites_than_a_hit_may_have():
    with pytest.raises(InvalidEvent, match="at most 100 domain"):
        read_plausible({"n": "pageview", "u": "https://a.example/", "d": ",".join(map(str, range(101)))})


def test_without_a_domain_the_host_of_the_url_is_used():
    assert read_plausible({"n": "pageview", "u": "https://www.shop.example:8080/"}).domains == ["shop.example"]
    assert read_plausible({"n": "pageview", "u": "app://localhost/x"}).domains == ["localhost"]


@pytest.mark.parametrize(
    ("sent", "engagement"),
    [
        ({"e": 4000, "sd": 55}, {"engagement_time": 4000, "scroll_depth": 55}),
        ({"e": 4000, "sd": 255}, {"engagement_time": 4000}),
        ({"e": "x", "sd": 0}, {"scroll_depth": 0}),
        ({"e": True, "sd": 100}, {"scroll_depth": 100}),
    ],
)
def test_engagement_has_a_time_or_a_depth(sent: dict[str, Any], engagement: dict[str, int]):
    assert event_of(VIEW | {"n": "engagement"} | sent) == {"event_type": "engagement", "url": VIEW["u"]} | engagement


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://shop.example/app#/cart%20x", "/app#/cart x"),
        ("https://shop.example/app#cart", "/app#cart"),
        ("https://shop.example#cart", "/#cart"),
        ("https://shop.example/app", None),
    ],
)
def test_with_hash_routing_the_hash_belongs_to_the_path(url: str, path: str | None):
    assert event_of(VIEW | {"u": url, "h": 1}).get("path") == path
    assert "path" not in event_of(VIEW | {"u": url})


@pytest.mark.parametrize(
    "revenue", [{"amount": "a lot", "currency": "USD"}, {"amount": 1}, {"currency": "USD"}, 7, "x"]
)
def test_invalid_revenue_is_dropped_without_its_event(revenue: object):
    assert event_of(VIEW | {"$": revenue}) == event_of(VIEW)


def test_a_forwarding_header_names_the_address_of_the_visitor():
    assert event_of(VIEW, "unknown, 203.0.113.9, 198.51.100.1")["ip"] == "203.0.113.9"
    assert event_of(VIEW, "2001:db8::1")["ip"] == "2001:db8::1"
    assert event_of(VIEW, "10.1.2.3, fd00::1, 203.0.113.9")["ip"] == "203.0.113.9"
    assert "ip" not in event_of(VIEW, "nobody, 192.168.0.1")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"n": None}, "event_name"),
        ({"n": " "}, "event_name"),
        ({"n": {}}, "event_name"),
        ({"n": "x" * 121}, "event_name"),
        ({"u": None}, "url"),
        ({"u": "https://a.example/" + "x" * 2000}, "url"),
        ({"u": "data:text/html,x"}, "url"),
        ({"u": "https://[a/"}, "url"),
        ({"u": "/pricing", "d": None}, "domain"),
        ({"d": ","}, "domain"),
        ({"p": {"x" * 301: 1}}, "props"),
        ({"p": {"x": "x" * 2001}}, "props"),
        ({"n": "engagement"}, "event_name"),
        ({"n": "engagement", "e": -1, "sd": 101}, "event_name"),
    ],
)
def test_events_that_plausible_refuses_are_refused(change: dict[str, Any], field: str):
    with pytest.raises(InvalidEvent) as error:
        read_plausible(VIEW | change)
    assert list(error.value.fields) == [field]


def test_an_event_is_answered_as_plausible_answers(ingest: FlaskClient, journal: Journal):
    answer = ingest.post("/api/event", data=json.dumps(VIEW), content_type="text/plain")
    assert (answer.status_code, answer.text) == (202, "ok")
    assert "x-plausible-dropped" not in answer.headers
    assert journal.waiting() == 1
    assert ingest.post("/api/event", json=VIEW | {"d": "a.example,b.example"}).status_code == 202
    assert journal.waiting() == 3


def test_a_page_of_any_origin_may_send_it(ingest: FlaskClient):
    answer = ingest.post("/api/event", json=VIEW, headers={"Origin": "https://shop.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_a_refusal_has_plausibles_shape_and_ours(ingest: FlaskClient, journal: Journal):
    answer = ingest.post("/api/event", json={"n": "pageview"})
    assert answer.status_code == 400
    assert answer.json["errors"] == {"url": ["is required"]}
    assert answer.json["code"] == answer.json["error"]["code"] == "invalid_event"
    assert answer.json["message"] == answer.json["error"]["message"]
    assert journal.waiting() == 0


@pytest.mark.parametrize("key", ["Bearer None", "Bearer not-a-key", "Basic x", "odd"])
def test_an_authorization_header_of_another_system_is_ignored(ingest: FlaskClient, key: str):
    assert ingest.post("/api/event", json=VIEW, headers={"Authorization": key}).status_code == 202
