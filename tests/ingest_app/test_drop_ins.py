"""Shared behaviour of the drop-in endpoints: the site in production, the visitor, and what is never rejected."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import brotli
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pymongo.database import Database
from redis import Redis
from werkzeug.test import TestResponse

from analytics.events.event import Event, new_id
from analytics.events.schema import load_journal_event
from analytics.events.segment_com import CALLS
from analytics.journal.journal import Journal
from analytics.journal.ledger import Ledger
from analytics.published_copy import Published
from analytics.sites.registry import SiteRegistry
from analytics.sites.schema import load_site
from analytics.sites.site import Site
from config.settings import Settings
from ingest_app import create_app
from ingest_app.hit import MOST_EVENTS
from tests.support.effort import effort
from tests.support.services import ADMIN_KEY, NOW, WakeUps, make_services

KEY = "b59e9c65-ae32-47f1-8400-119fcf4861c4"
SHOP = Site("shop", domains=("shop.example", "shop.test", "xn--bcher-kva.example"), write_key=KEY)
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"


@pytest.fixture
def production(redis: Redis, settings: Settings, journal: Journal, wake_ups: WakeUps) -> FlaskClient:
    settings = replace(settings, app_env="production")
    SiteRegistry(redis).publish(lambda: [SHOP, Site("other", domains=("other.example",))])
    return create_app(settings, make_services(settings, journal=journal), wake_ups).test_client()


@pytest.fixture
def admitted(journal: Journal) -> Callable[[], list[Event]]:
    """The events that were admitted since the last call."""

    def read() -> list[Event]:
        assert journal.held("test") == []
        return [load_journal_event(entry.raw, new_id, lambda: NOW) for entry in journal.claim("test")]

    return read


def plausible(client: FlaskClient, domain: str, **headers: str) -> TestResponse:
    event = {"n": "pageview", "u": "https://shop.example/", "d": domain}
    return client.post("/api/event", json=event, headers={"User-Agent": BROWSER} | headers)


def umami(client: FlaskClient, website: str, **headers: str) -> TestResponse:
    body = {"type": "event", "payload": {"website": website, "url": "/", "hostname": "shop.example"}}
    return client.post("/api/send", json=body, headers={"User-Agent": BROWSER} | headers)


def segment(client: FlaskClient, write_key: str, agent: str = BROWSER, **headers: str) -> TestResponse:
    body = {"batch": [{"type": "track", "event": "a", "anonymousId": "x"}], "writeKey": write_key}
    return client.post("/v1/batch", json=body, headers={"User-Agent": agent} | headers)


Send = Callable[..., TestResponse]


@pytest.mark.parametrize(
    ("send", "name"),
    [
        (plausible, "shop.example"),
        (plausible, "www.shop.test"),
        (plausible, "SHOP.example"),
        (plausible, "shop"),
        (plausible, "shop.example.:8443"),
        (plausible, "BÜCHER.example"),
        (plausible, "xn--bcher-kva.example"),
        (plausible, "b%C3%BCcher.example"),
        (umami, KEY),
        (umami, KEY.upper()),
        (umami, "shop"),
        (segment, KEY),
        (segment, "shop"),
    ],
)
def test_a_site_is_known_by_its_domains_its_write_key_and_its_id(
    production: FlaskClient, admitted, send: Send, name: str
):
    assert send(production, name).status_code in (200, 202)
    assert [event.site_id for event in admitted()] == ["shop"]


@pytest.mark.parametrize(
    ("route", "name", "sites"),
    [
        ("/api/event", "www.shop.example", ["shop"]),
        ("/api/event", "shop.test, other.example, shop", ["shop", "other"]),
        ("/api/event", "unknown.example", []),
        ("/api/send", KEY, ["shop"]),
        ("/api/send", "shop", ["shop"]),
    ],
)
def test_our_tracker_may_send_a_batch_to_the_route_of_another_system(
    production: FlaskClient, admitted, route: str, name: str, sites: list[str]
):
    event = {"site_id": name, "event_type": "a", "event_id": "1", "timestamp": "2026-11-22T19:30:00Z"}
    sent = {"events": [event, event | {"event_id": "2"}, {"event_type": "a"}, "nonsense"], "sent_at": None}
    assert production.post(route, json=sent, headers={"User-Agent": BROWSER}).status_code == (
        202 if route == "/api/event" else 200
    )
    assert sorted((event.site_id, event.event_type) for event in admitted()) == sorted(
        (site, "a") for site in sites * 2
    )


def test_a_batch_of_our_tracker_with_too_many_events_for_its_sites_is_refused(production: FlaskClient):
    names = ",".join(f"s{n}" for n in range(50))
    events = [{"site_id": names, "event_type": "a"}] * (MOST_EVENTS // 50 + 1)
    answer = production.post("/api/event", json={"events": events})
    assert (answer.status_code, answer.json["code"]) == (400, "too_many_events")


def test_in_production_plausible_clients_are_not_told_of_an_unknown_domain(
    production: FlaskClient, admitted, redis: Redis, database: Database[dict[str, Any]]
):
    answer = plausible(production, "unheard-of.example")
    assert (answer.status_code, answer.headers["x-plausible-dropped"]) == (202, "1")
    answer = plausible(production, "shop.example,unheard-of.example,other.example")
    assert (answer.status_code, answer.headers["x-plausible-dropped"]) == (202, "1")
    assert sorted(event.site_id for event in admitted()) == ["other", "shop"]
    counted = Ledger(redis, database).read()
    assert {account.site_id: dict(names) for account, names in counted.items() if not account.site_id} == {
        "": {"rejected:unknown_site": 2}
    }


def test_in_production_umami_and_segment_clients_are_told_of_an_unknown_site(production: FlaskClient, journal: Journal):
    answer = umami(production, "unheard-of")
    assert (answer.status_code, answer.json["code"]) == (400, "unknown_site")
    answer = segment(production, "unheard-of")
    assert answer.status_code == 200
    assert [error["code"] for error in answer.json["rejected"]] == ["unknown_site"]
    assert journal.waiting() == 0


def test_an_event_from_an_origin_that_is_not_allowed_is_refused_with_a_reason(
    ingest: FlaskClient, redis: Redis, journal: Journal
):
    SiteRegistry(redis).publish(lambda: [replace(SHOP, allowed_origins=("https://shop.example",))])
    for send in (plausible, umami):
        assert send(ingest, "shop", Origin="https://shop.example").status_code in (200, 202)
        answer = send(ingest, "shop", Origin="https://evil.example")
        assert (answer.status_code, answer.json["code"]) == (403, "origin_not_allowed")
    answer = segment(ingest, "shop", Origin="https://evil.example")
    assert [error["code"] for error in answer.json["rejected"]] == ["origin_not_allowed"]
    assert journal.waiting() == 2


@pytest.mark.parametrize(
    "origin", ["https://xn--bcher-kva.example", "HTTPS://XN--BCHER-KVA.example:443", "https://xn--bcher-kva.example."]
)
@pytest.mark.parametrize("send", [plausible, umami, segment])
def test_an_origin_is_allowed_in_every_spelling(
    ingest: FlaskClient, redis: Redis, journal: Journal, send: Send, origin: str
):
    site = load_site("shop", {"allowed_origins": ["https://Bücher.example/"]})
    SiteRegistry(redis).publish(lambda: [site])
    assert send(ingest, "shop", Origin=origin).status_code in (200, 202)
    assert send(ingest, "shop", Origin="https://xn--bcher-kva.example:8443").status_code in (200, 403)
    assert journal.waiting() == 1


def test_an_event_of_a_visitor_who_refuses_is_dropped_and_plausible_gets_the_count(
    ingest: FlaskClient, redis: Redis, journal: Journal
):
    SiteRegistry(redis).publish(lambda: [replace(SHOP, honours_dnt=True)])
    assert plausible(ingest, "shop.example", DNT="1").headers["x-plausible-dropped"] == "1"
    assert umami(ingest, KEY, DNT="1").status_code == 200
    assert segment(ingest, KEY, DNT="1").json["dropped"] == 1
    assert journal.waiting() == 0


@pytest.mark.parametrize("send", [plausible, umami])
def test_visitors_behind_a_relay_are_distinguished_by_their_addresses(ingest: FlaskClient, admitted, send: Send):
    for address in ("203.0.113.9", "203.0.113.10", "10.1.2.3, 203.0.113.9, 10.0.0.1"):
        send(ingest, "shop", **{"X-Forwarded-For": address})
    first, second, again = (event.visitor_id for event in admitted())
    assert first == again != second


def native(client: FlaskClient, ip: str) -> TestResponse:
    return client.post("/event", json={"site_id": "shop", "event_type": "pageview", "ip": ip})


def umami_for(client: FlaskClient, ip: str) -> TestResponse:
    return client.post("/api/send", json={"type": "event", "payload": {"website": "shop", "url": "/", "ip": ip}})


def segment_for(client: FlaskClient, ip: str) -> TestResponse:
    message = {"type": "track", "event": "a", "context": {"ip": ip}}
    return client.post("/v1/batch", json={"batch": [message], "writeKey": "shop"})


def plausible_for(client: FlaskClient, ip: str) -> TestResponse:
    return plausible(client, "shop", **{"X-Forwarded-For": ip})


FOR_A_VISITOR = [native, umami_for, segment_for, plausible_for]
ONE = ["203.0.113.9", "203.0.113.9:4711", "::ffff:203.0.113.9", "[::ffff:203.0.113.9]:443"]
OTHER = ["2001:db8::2", "[2001:DB8::2]", "[2001:db8::2]:443", "2001:db8:0:0::2%eth0"]


@pytest.mark.parametrize("send", FOR_A_VISITOR)
def test_a_visitor_is_the_same_for_every_spelling_of_their_address(ingest: FlaskClient, admitted, send: Send):
    for address in (*ONE, *OTHER):
        assert send(ingest, address).status_code in (200, 202)
    visitors = [event.visitor_id for event in admitted()]
    assert len(set(visitors)) == len(set(visitors[:4])) + len(set(visitors[4:])) == 2
    assert None not in visitors


@pytest.mark.parametrize("send", FOR_A_VISITOR)
def test_an_excluded_address_is_excluded_in_every_spelling(
    ingest: FlaskClient, redis: Redis, journal: Journal, send: Send
):
    site = load_site("shop", {"excluded_ips": ["::ffff:203.0.113.0/120", "[2001:db8::2]"]})
    SiteRegistry(redis).publish(lambda: [site])
    for address in (*ONE, *OTHER):
        assert send(ingest, address).status_code in (200, 202)
    assert journal.waiting() == 0


@pytest.mark.parametrize(
    "first", ["::ffff:10.0.0.5", "10.0.0.5:80", "[fd00::1]:443", "[::ffff:192.168.0.1]", "unknown"]
)
@pytest.mark.parametrize("send", [plausible, umami])
def test_a_private_address_in_a_forwarding_header_is_skipped(ingest: FlaskClient, admitted, send: Send, first: str):
    send(ingest, "shop", **{"X-Forwarded-For": f"{first}, 203.0.113.9:4711, 198.51.100.7"})
    send(ingest, "shop", **{"X-Forwarded-For": "203.0.113.9"})
    one, again = admitted()
    assert one.visitor_id == again.visitor_id


def test_the_address_and_user_agent_of_a_server_with_segment_s_library_name_no_visitor(ingest: FlaskClient, admitted):
    segment(ingest, "shop", "analytics-python/2.4.0")
    segment(ingest, "shop", BROWSER)
    of_server, of_browser = admitted()
    assert (of_server.client, of_server.user_id) == (None, "x")
    assert of_browser.client is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
OF_PLAUSIBLE = ("n", "u", "d", "r", "p", "$", "i", "h", "e", "sd", "m")
OF_UMAMI = ("website", "name", "url", "hostname", "title", "tag", "data", "id", "ip", "userAgent", "timestamp",
            "referrer", "language", "screen", "browser", "os", "device")  # fmt: skip
OF_SEGMENT = ("event", "userId", "anonymousId", "messageId", "timestamp", "sentAt", "name", "category", "properties",
              "context", "writeKey")  # fmt: skip
OF_CONTEXT = ("page", "campaign", "screen", "os", "device", "ip", "userAgent", "locale", "url", "path", "revenue")
WITHIN = st.fixed_dictionaries({}, optional=dict.fromkeys(OF_CONTEXT, JSON))
THOROUGH = examples(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


def any_of(names: Sequence[str], **given: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(given, optional={name: JSON for name in names if name not in given})


@THOROUGH
@given(body=JSON | any_of(OF_PLAUSIBLE) | any_of(OF_PLAUSIBLE, n=st.text(max_size=5), u=st.just("https://a.b/?c#d")))
def test_the_plausible_route_answers_any_json(ingest: FlaskClient, body: Any):
    assert ingest.post("/api/event", data=json.dumps(body)).status_code in (202, 400)


@THOROUGH
@given(payload=JSON | any_of(OF_UMAMI, website=st.just("shop")))
def test_the_umami_route_answers_any_json(ingest: FlaskClient, payload: Any):
    event = {"type": "event", "payload": payload}
    assert ingest.post("/api/batch", data=json.dumps([event, payload])).status_code == 200
    assert ingest.post("/api/send", data=json.dumps(event)).status_code in (200, 400)


@THOROUGH
@given(
    kind=st.sampled_from([*CALLS, "odd"]),
    message=JSON | any_of(OF_SEGMENT, writeKey=st.just("shop"), context=WITHIN | JSON, properties=WITHIN | JSON),
)
def test_the_segment_route_answers_any_json(ingest: FlaskClient, kind: str, message: Any):
    one = {**message, "type": kind} if isinstance(message, dict) else message
    assert ingest.post("/v1/batch", data=json.dumps({"batch": [one], "context": message})).status_code == 200
    assert ingest.post("/v1/track", data=json.dumps(message)).status_code == (200 if isinstance(message, dict) else 400)


ODD = JSON | st.sampled_from(["x" * 5000, "\ud800", "https://[bad", "0001-01-01", 10**30, -1, "1E3", "\0", " " * 400])


@THOROUGH
@given(field=st.sampled_from([name for name in OF_PLAUSIBLE if name not in "nudpm"]), value=ODD)
def test_no_optional_field_makes_the_plausible_route_reject_an_event(
    ingest: FlaskClient, journal: Journal, field: str, value: Any
):
    before = journal.waiting()
    answer = ingest.post("/api/event", data=json.dumps({"n": "a", "u": "https://a.b/", "d": "shop", field: value}))
    assert (answer.status_code, journal.waiting()) == (202, before + 1)


@THOROUGH
@given(field=st.sampled_from([name for name in OF_UMAMI if name not in ("website", "name")]), value=ODD)
def test_no_optional_field_makes_the_umami_route_reject_an_event(
    ingest: FlaskClient, journal: Journal, field: str, value: Any
):
    before = journal.waiting()
    event = {"type": "event", "payload": {"website": "shop", "url": "/", field: value}}
    assert (ingest.post("/api/send", data=json.dumps(event)).status_code, journal.waiting()) == (200, before + 1)


@THOROUGH
@given(
    kind=st.sampled_from(["track", "page", "screen"]),
    within=st.sampled_from([(), ("context",), ("properties",), ("context", "page"), ("context", "campaign")]),
    field=st.sampled_from([name for name in (*OF_SEGMENT, *OF_CONTEXT) if name not in ("event", "writeKey", "sentAt")]),
    value=ODD,
)
def test_no_optional_field_makes_the_segment_route_reject_an_event(
    ingest: FlaskClient, kind: str, within: tuple[str, ...], field: str, value: Any
):
    said = {field: value}
    for name in reversed(within):
        said = {name: said}
    answer = ingest.post(f"/v1/{kind}", data=json.dumps({"event": "a", "writeKey": "shop", "userId": "x"} | said))
    assert answer.json["rejected"] == []


def test_an_id_that_is_too_long_is_another_one_for_each(ingest: FlaskClient, admitted):
    for ending in ("a", "b", "a"):
        umami_for_id = {"type": "event", "payload": {"website": "shop", "id": "x" * 300 + ending}}
        assert ingest.post("/api/send", json=umami_for_id).status_code == 200
        message = {"type": "track", "event": "a", "userId": "x" * 300 + ending}
        assert ingest.post("/v1/batch", json={"batch": [message], "writeKey": "shop"}).json["accepted"] == 1
    users = [event.user_id for event in admitted()]
    assert len(set(users)) == 2
    assert users[:2] == users[4:]


def test_half_a_surrogate_pair_is_replaced_and_counted_on_every_route(ingest: FlaskClient, admitted):
    def counted() -> float:
        found = re.search(
            r"^footfall_replaced_surrogates_total (\S+)$",
            ingest.get("/metrics", headers={"Authorization": f"Bearer {ADMIN_KEY}"}).text,
            re.MULTILINE,
        )
        return float(found[1]) if found else 0.0

    before = counted()
    for path, body in (
        ("/event", {"site_id": "shop", "event_type": "a\ud800", "path": "/\udfff", "props": {"\ud800": "\udc00"}}),
        ("/events", [{"site_id": "shop", "event_type": "a\ud800"}]),
        ("/api/event", {"n": "a\ud800", "u": "https://shop.example/", "d": "shop"}),
        ("/api/send", {"type": "event", "payload": {"website": "shop", "name": "a\ud800"}}),
        ("/v1/batch", {"batch": [{"type": "track", "event": "a\ud800", "userId": "x"}], "writeKey": "shop"}),
    ):
        assert ingest.post(path, data=json.dumps(body)).status_code in (200, 202)
    events = admitted()
    assert [event.event_type for event in events] == ["a\ufffd"] * 5
    assert (events[0].path, events[0].props) == ("/\ufffd", {"\ufffd": "\ufffd"})
    assert counted() == before + 8


@pytest.mark.parametrize("at", ["timestamp=", "event_id=", "timestamp=&event_id="])
def test_a_pixel_with_an_empty_time_or_id_has_none(ingest: FlaskClient, admitted, at: str):
    answer = ingest.get(f"/pixel.gif?site_id=shop&path=/&{at}")
    assert "X-Footfall-Rejected" not in answer.headers
    (event,) = admitted()
    assert event.occurred_at == NOW


@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ("[", "]")], ids=["objects", "lists"])
def test_properties_of_any_depth_cause_no_error_500(ingest: FlaskClient, opening: str, closing: str):
    for depth in range(800, 1000, 3):
        deep = opening * depth + "1" + closing * depth
        track = f'{{"type": "track", "event": "a", "userId": "x", "properties": {{"p": {deep}}}}}'
        answer = ingest.post("/v1/batch", data=f'{{"writeKey": "shop", "batch": [{track}]}}')
        assert answer.status_code in (200, 400), answer.json


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/odd"), ("GET", "/v1/batch"), ("PUT", "/api/send")])
def test_a_404_has_code_and_message_too(ingest: FlaskClient, method: str, path: str):
    answer = ingest.open(path, method=method)
    assert answer.status_code in (404, 405)
    assert (answer.json["code"], answer.json["message"]) == (
        answer.json["error"]["code"],
        answer.json["error"]["message"],
    )


@pytest.mark.parametrize("send", [plausible, umami, segment])
def test_clients_over_a_limit_are_told_when_to_send_again(
    settings: Settings, journal: Journal, wake_ups: WakeUps, send: Send
):
    settings = replace(settings, rate_limit_site="1/hour")
    client = create_app(settings, make_services(settings, journal=journal), wake_ups).test_client()
    assert send(client, "shop").status_code in (200, 202)
    answer = send(client, "shop")
    assert (answer.status_code, answer.json["code"]) == (429, "too_many_requests")
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize("send", [plausible, umami, segment])
def test_an_invalid_api_key_is_ignored_as_any_other_authorization(ingest: FlaskClient, send: Send):
    assert send(ingest, "shop", Authorization=f"Bearer footfall_{'x' * 32}").status_code in (200, 202)


def test_a_missing_or_invalid_field_has_the_name_that_the_client_uses(production: FlaskClient):
    track = {"type": "track", "event": "a", "userId": "x"}
    for body, fields in (
        ({"batch": [track]}, {"writeKey": ["Missing data for required field."]}),
        ({"batch": [track], "writeKey": ""}, {"writeKey": ["Missing data for required field."]}),
        (
            {"batch": [track], "writeKey": "unheard-of"},
            {"writeKey": ["This site does not exist. Correct site_id, or set up the site."]},
        ),
        ({"batch": [track], "writeKey": 17}, {"writeKey": ["Missing data for required field."]}),
        ({"batch": [track | {"event": ""}], "writeKey": KEY}, {"event": ["Missing data for required field."]}),
    ):
        (rejected,) = production.post("/v1/batch", json=body).json["rejected"]
        assert rejected["fields"] == fields
        assert rejected["message"] == "; ".join(f"{name}: {said[0]}" for name, said in fields.items())
    (rejected,) = production.post("/v1/track", json=track).json["rejected"]
    assert list(rejected["fields"]) == ["writeKey"]
    assert list(umami(production, "unheard-of").json["error"]["fields"]) == ["payload.website"]
    old = {"type": "event", "payload": {"website": KEY, "url": "/", "timestamp": 17}}
    (detail,) = production.post("/api/batch", json=[old]).json["details"]
    assert (detail["code"], list(detail["fields"])) == ("too_old", ["payload.timestamp"])


# The cost of one hit


def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that are looked up from here on."""
    asked: list[str] = []
    get = Published.get

    def counting(self: Published[Any], field: str) -> Any:
        asked.append(field)
        return get(self, field)

    monkeypatch.setattr(Published, "get", counting)
    return asked


def of_umami(website: str) -> dict[str, Any]:
    return {"type": "event", "payload": {"website": website, "url": "/"}}


def test_a_name_is_looked_up_once_in_a_hit(ingest: FlaskClient, monkeypatch: pytest.MonkeyPatch):
    asked = looked_up(monkeypatch)
    assert ingest.post("/api/batch", json=[of_umami("a")] * 5000).json["processed"] == 5000
    assert len(asked) <= 5


def test_a_hit_has_a_hundred_names_at_most_to_look_up(ingest: FlaskClient, monkeypatch: pytest.MonkeyPatch):
    asked = looked_up(monkeypatch)
    answer = ingest.post("/api/batch", json=[of_umami(f"a{n}") for n in range(5000)]).json
    assert (answer["processed"], answer["errors"], answer["details"][0]["code"]) == (100, 4900, "too_many_sites")
    asked_by_umami = len(asked)
    domains = ",".join(f"b{n}" for n in range(5000))
    assert ingest.post("/api/event", json={"n": "pageview", "u": "https://a.example", "d": domains}).status_code == 400
    messages = [{"type": "track", "event": "x", "writeKey": f"c{n}", "userId": "ann"} for n in range(5000)]
    assert ingest.post("/v1/batch", json={"writeKey": "c", "batch": messages}).json["accepted"] == 5000
    assert asked_by_umami <= 400
    assert len(asked) - asked_by_umami <= 5


WRONG = {name: {} for name in ("url", "path", "user_id", "timestamp", "props", "revenue", "referrer", "city", "os")}


ODD_PROPS = {"p" * 300 + f"{n}": [] for n in range(30)}


@pytest.mark.parametrize(
    ("route", "events", "rejected"),
    [
        ("/events", [{"site_id": "shop"} | WRONG] * 5000, "rejected"),
        ("/events", [{"site_id": "shop", "event_type": "x", "props": ODD_PROPS}] * 500, "rejected"),
        ("/events", [1] * 5000, "rejected"),
        ("/api/batch", [{"payload": {}}] * 5000, "details"),
        ("/v1/batch", {"writeKey": "shop", "batch": [{"type": "track"}] * 5000}, "rejected"),
    ],
)
def test_many_invalid_events_get_a_short_answer_quickly(ingest: FlaskClient, route: str, events: Any, rejected: str):
    body = brotli.compress(json.dumps(events).encode())
    assert len(body) < 500

    def send() -> TestResponse:
        return ingest.post(route, data=body, headers={"Content-Encoding": "br"})

    valid = [{"site_id": "shop", "event_type": "x"}] * 5000
    assert effort(send) < 3 * effort(lambda: ingest.post("/events", json=valid))
    answer = send()
    assert len(answer.data) < 400_000
    assert 1 <= len(answer.json[rejected]) <= 100
    assert answer.json[rejected][0]["fields"]
    assert answer.json["errors" if rejected == "details" else "rejected_count"] in (500, 5000)
