"""POST /event and the journal: what is promised, what is refused, and the texts of the answers."""

import json
import re
import time

import psutil
import pytest
from flask import abort
from flask.testing import FlaskClient
from redis import Redis

from analytics.journal.journal import Journal
from footfall.embedded_servers import Server
from tests.support.running_system import frozen, wait_for
from tests.support.services import WakeUps

GOOD = {"site_id": "site-abc-123", "event_type": "page_view", "path": "/pricing", "user_id": "user-xyz-789"}


def test_a_valid_event_gets_exactly_this_answer_and_waits_in_the_journal(ingest: FlaskClient, journal: Journal):
    answer = ingest.post("/event", json=GOOD | {"timestamp": "2026-11-22T10:00:00Z"})
    assert answer.status_code == 200
    assert answer.json == {"success": True, "message": "Event queued successfully"}
    assert journal.waiting() == 1


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "image/gif", ""])
def test_the_body_is_read_as_json_whatever_its_content_type(ingest: FlaskClient, journal: Journal, content_type: str):
    answer = ingest.post("/event", data=json.dumps(GOOD), content_type=content_type)
    assert answer.status_code == 200
    assert journal.waiting() == 1


def test_an_invalid_event_is_rejected_and_its_fields_are_named(ingest: FlaskClient, journal: Journal):
    answer = ingest.post("/event", json={"event_type": "page_view"})
    assert answer.status_code == 400
    assert answer.json == {
        "success": False,
        "error": {
            "code": "invalid_event",
            "message": "The event was not accepted: site_id: Missing data for required field.",
            "fields": {"site_id": ["Missing data for required field."]},
        },
    }
    assert journal.waiting() == 0


def test_optional_fields_are_accepted_and_invalid_ones_are_named(ingest: FlaskClient, journal: Journal):
    revenue = {"amount": "9.99", "currency": "EUR"}
    assert (
        ingest.post("/event", json=GOOD | {"country": "DE", "scroll_depth": 80, "revenue": revenue}).status_code == 200
    )
    bad = {"country": "Germany", "scroll_depth": 180, "interactive": "no", "revenue": {"amount": "9,99"}}
    answer = ingest.post("/event", json=GOOD | bad)
    assert answer.status_code == 400
    assert set(answer.json["error"]["fields"]) == set(bad)
    assert journal.waiting() == 1


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 60_000, b"\xff\xff", b"1" * 5000], ids=repr)
def test_a_body_that_is_not_json_is_a_400(ingest: FlaskClient, journal: Journal, body: bytes):
    answer = ingest.post("/event", data=body)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "not_json")
    assert list(answer.json["error"]["fields"]) == ["body"]
    assert journal.waiting() == 0


@pytest.mark.parametrize("body", [b"null", b'"\\ud800"', b"[]", b"17"], ids=repr)
def test_a_body_that_is_not_an_event_is_a_400(ingest: FlaskClient, journal: Journal, body: bytes):
    answer = ingest.post("/event", data=body)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "invalid_event")
    assert list(answer.json["error"]["fields"]) == ["body"]
    assert journal.waiting() == 0


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/event", 405, "method_not_allowed"),
        ("POST", "/healthz", 405, "method_not_allowed"),
        ("POST", "/event/", 404, "not_found"),
    ],
)
def test_every_error_of_the_ingestion_app_has_the_same_shape(
    ingest: FlaskClient, method: str, path: str, status: int, code: str
):
    answer = ingest.open(path, method=method)
    assert answer.status_code == status
    assert answer.content_type == "application/json"
    assert answer.json["success"] is False
    assert answer.json["error"]["code"] == code
    assert answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("status", "code"), [(415, "unsupported_media_type"), (429, "too_many_requests"), (418, "bad_request")]
)
def test_errors_that_no_route_raises_have_the_same_shape_too(ingest: FlaskClient, status: int, code: str):
    @ingest.application.get("/error")
    def error() -> None:
        abort(status)

    answer = ingest.get("/error")
    assert (answer.status_code, answer.content_type) == (status, "application/json")
    assert (answer.json["success"], answer.json["error"]["code"]) == (False, code)


def test_a_405_says_what_is_allowed(ingest: FlaskClient):
    assert "POST" in ingest.get("/event").headers["Allow"]


@pytest.mark.parametrize("app", ["ingest", "report"])
def test_a_404_names_the_path_and_the_docs(request: pytest.FixtureRequest, app: str):
    client = request.getfixturevalue(app)
    answer = client.get("/nowhere/x?secret=1")
    assert answer.status_code == 404
    assert answer.json["error"]["message"] == "There is no route /nowhere/x. /docs lists all routes."
    assert "secret" not in answer.text
    long = client.get("/" + "x" * 5000)
    assert (long.status_code, len(long.data) < 400) == (404, True)


def test_a_nearly_correct_path_or_method_gets_a_suggestion(ingest: FlaskClient):
    answer = ingest.post("/event/", json=GOOD)
    assert (
        answer.json["error"]["message"] == "There is no route /event/. Did you mean '/event'? /docs lists all routes."
    )
    answer = ingest.get("/event")
    assert answer.json["error"]["message"] == "/event does not accept GET. It accepts OPTIONS, POST."
    assert set(answer.headers["Allow"].split(", ")) == {"OPTIONS", "POST"}


@pytest.mark.parametrize("app", ["ingest", "report"])
def test_the_root_describes_the_server_to_people_and_to_programs(request: pytest.FixtureRequest, app: str):
    client = request.getfixturevalue(app)
    for accept in ("*/*", "application/json", ""):
        said = client.get("/", headers={"Accept": accept})
        assert (said.status_code, said.content_type) == (200, "application/json")
        assert said.json["links"]["docs"]
    page = client.get("/", headers={"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"})
    assert page.content_type == "text/html; charset=utf-8"
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "Accept" in page.headers["Vary"].split(", ")
    if app == "report":
        assert "<title>Sites" in page.text  # the overview of the dashboards
        return
    links = re.findall(r'href="([^"]*)"', page.text)
    assert links == list(said.json["links"])
    for link in links:
        assert client.get(f"/{link}").status_code == 200
    moved = client.get("/docs/")
    assert (moved.status_code, moved.headers["Location"]) == (308, "../docs")


def test_a_body_beyond_the_limit_is_a_413(ingest: FlaskClient):
    answer = ingest.post("/event", data=b"x" * 65537)
    assert (answer.status_code, answer.json["error"]["code"]) == (413, "payload_too_large")


def test_an_unexpected_error_is_a_500_in_the_same_shape_without_a_traceback(ingest: FlaskClient):
    @ingest.application.get("/bug")
    def bug() -> str:
        raise RuntimeError("secret")

    answer = ingest.get("/bug")
    assert (answer.status_code, answer.json["error"]["code"]) == (500, "internal_error")
    assert b"secret" not in answer.data


def test_any_origin_may_send(ingest: FlaskClient):
    answer = ingest.post("/event", json=GOOD, headers={"Origin": "https://shop.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_a_preflight_is_answered(ingest: FlaskClient):
    headers = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    answer = ingest.options("/event", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Access-Control-Allow-Methods"] == "POST"
    assert "content-type" in answer.headers["Access-Control-Allow-Headers"]


def test_errors_may_be_read_by_any_origin_too(ingest: FlaskClient):
    answer = ingest.post("/event", data=b"{", headers={"Origin": "https://shop.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_a_wake_up_is_requested_if_one_is_owed(ingest: FlaskClient, wake_ups: WakeUps, redis: Redis):
    ingest.post("/event", json=GOOD)
    assert wake_ups.times == 1
    redis.rpush("events", "a wake-up in Celery's queue")
    ingest.post("/event", json=GOOD)
    assert wake_ups.times == 1


def test_a_full_redis_is_a_503_with_retry_after(ingest: FlaskClient, redis: Redis):
    redis.config_set("maxmemory", 1)
    try:
        answer = ingest.post("/event", json=GOOD)
    finally:
        redis.config_set("maxmemory", 0)
    assert answer.status_code == 503
    assert answer.json["error"]["code"] == "unavailable"
    assert int(answer.headers["Retry-After"]) > 0


def test_a_redis_that_accepts_and_does_not_answer_is_a_503_within_two_seconds(
    ingest: FlaskClient, redis: Redis, redis_running: Server
):
    pid = redis.info("server")["process_id"]
    with frozen([psutil.Process(pid)]):
        start = time.monotonic()
        answer = ingest.post("/event", json=GOOD)
        ready = ingest.get("/readyz")
        took = time.monotonic() - start
    assert answer.status_code == 503
    assert ready.status_code == 503
    assert ready.json["stores"]["redis"]["ok"] is False
    assert ready.json["error"]["code"] == "unavailable"
    assert int(ready.headers["Retry-After"]) > 0
    assert took < 4, "the two of them"


def test_the_ingestion_app_answers_health_checks(ingest: FlaskClient):
    assert ingest.get("/healthz").status_code == 200
    ready = ingest.get("/readyz")
    assert ready.status_code == 200
    assert ready.json["stores"]["redis"]["ok"] is True
    assert ready.json["stores"]["redis"]["latency_ms"] >= 0


def test_readyz_names_the_problem(ingest: FlaskClient, redis: Redis):
    redis.config_set("maxmemory", int(redis.info("memory")["used_memory"] * 1.1))
    try:
        wait_for(lambda: ingest.get("/readyz").status_code == 503, "a collector that looked for room", 2)
        ready = ingest.get("/readyz")
    finally:
        redis.config_set("maxmemory", 0)
    assert ready.json["error"]["message"] == "Not ready: redis (Full)."
    wait_for(lambda: ingest.get("/readyz").status_code == 200, "room again", 2)


def test_the_events_of_a_hit_are_accepted_or_rejected_by_index(ingest: FlaskClient, journal: Journal):
    answer = ingest.post("/events", json=[GOOD, {"site_id": "site"}, GOOD, 17])
    assert answer.status_code == 200
    body = answer.json
    missing, number = body.pop("rejected")
    assert body == {"success": True, "accepted": 2, "dropped": 0}
    assert (missing["index"], missing["code"]) == (1, "invalid_event")
    assert missing["fields"] == {"event_type": ["Missing data for required field."]}
    assert number == {
        "index": 3,
        "code": "invalid_event",
        "message": "body: Not a JSON object.",
        "fields": {"body": ["Not a JSON object."]},
    }
    assert journal.waiting() == 2
    assert ingest.post("/events", json={"events": [GOOD], "more": 1}).json["accepted"] == 1
    assert ingest.post("/events", json=[]).json["accepted"] == 0


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"site_id": "site", "event_type": "a"}, "invalid_event", "events"),
        ({"events": {}}, "invalid_event", "events"),
        ("text", "invalid_event", "events"),
        ([0] * 5001, "too_many_events", "events"),
    ],
    ids=["one event", "no list", "text", "too many"],
)
def test_a_hit_without_a_list_of_events_is_a_400(ingest: FlaskClient, body: object, code: str, field: str):
    answer = ingest.post("/events", json=body)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, code)
    assert list(answer.json["error"]["fields"]) == [field]
