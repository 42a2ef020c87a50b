"""The size limit of a stored event, and the outcome of larger events."""

import json
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from analytics.events.event import Event
from analytics.events.event_size import LARGEST, event_bytes, fits, largest_field, trimmed
from analytics.events.schema import EventSchema, load_event, load_journal_event
from analytics.journal.journal import Journal
from analytics.sites.registry import SiteRegistry
from analytics.sites.site import MOST_EVENT_BYTES, Site
from tests.support.services import NOW

GOOD = {"site_id": "shop", "event_type": "pageview", "user_id": "ann"}
LARGE = {f"p{n}": "x" * 500 * (n + 1) for n in range(4)} | {"a.b": "y" * 2000, "c": "z" * 1999, "d": "u" * 1998}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


def waiting(journal: Journal) -> list[Event]:
    return [load_journal_event(x.raw, x.event_id, lambda: NOW) for x in journal.entries()]


@given(st.dictionaries(TEXTS.filter(lambda name: name and "\0" not in name), TEXTS | st.integers(-(2**63), 2**63 - 1)
       | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none(), max_size=30),
       TEXTS, st.integers(1, 30_000))  # fmt: skip
def test_an_event_that_fits_by_its_characters_fits_by_its_bytes(props: dict[str, Any], path: str, most: int):
    event = load_event(GOOD | {"props": props, "path": path, "referrer": path, "interactive": False}, NOW)
    assert fits(event, most) == (event_bytes(event) <= most)
    left = trimmed(event, most)
    assert left is None or event_bytes(left) <= most


def test_the_largest_frame_of_an_event_is_within_its_assumed_size():
    """All fields at their shortest are no larger than the size that `fits` assumes for the frame."""
    fields = {name: "x" for name in EventSchema().fields if name not in ("timestamp", "props", "revenue")}
    fields |= {"country": "US", "region": "US-C", "interactive": False, "engagement_time": 86_400_000}
    fields |= {"scroll_depth": 100, "url": "https://x.example/", "props": {str(n): -(2**62) for n in range(30)}}
    fields |= {"revenue": {"amount": "999999999999.999", "currency": "USD"}}
    event = load_event(GOOD | fields, NOW - timedelta(microseconds=1))
    assert fits(event, 3500) == (event_bytes(event) <= 3500)
    assert event_bytes(event) < 1500 + 30 * 24


def test_no_event_of_the_schema_is_larger_than_a_site_may_allow():
    texts = dict.fromkeys(("event_type", "site_id", "channel", "device", "browser", "city", "os"), "\x01" * 128)
    texts |= dict.fromkeys(("path", "referrer"), "\x01" * 2048)
    texts |= {f"utm_{name}": "\x01" * 255 for name in ("medium", "source", "campaign", "content", "term")}
    event = load_event(GOOD | texts | {"props": {f"{n:02}" + "\x01" * 298: "\x01" * 2000 for n in range(30)}}, NOW)
    assert 400_000 < event_bytes(event) < LARGEST


def test_a_larger_event_is_rejected_and_its_largest_field_named(ingest: FlaskClient, journal: Journal):
    answer = ingest.post("/event", json=GOOD | {"props": LARGE})
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "too_large")
    ((name, (said,)),) = answer.json["error"]["fields"].items()
    assert name == "props.a.b"
    assert f"The site accepts events of at most {MOST_EVENT_BYTES} bytes" in said
    both = ingest.post("/events", json=[GOOD, GOOD | {"props": LARGE}]).json
    assert (both["accepted"], both["rejected"][0]["code"]) == (1, "too_large")
    assert len(waiting(journal)) == 1


def test_a_site_sets_how_large_its_events_may_be(ingest: FlaskClient, journal: Journal, redis: Redis):
    sites = [Site("shop", max_event_bytes=20_000), Site("small", max_event_bytes=1024)]
    SiteRegistry(redis).publish(lambda: sites)
    assert ingest.post("/event", json=GOOD | {"props": LARGE}).status_code == 200
    assert ingest.post("/event", json=GOOD | {"site_id": "small", "props": {"p": "x" * 900}}).status_code == 400
    assert ingest.post("/event", json=GOOD | {"site_id": "small", "props": {"p": "x" * 600}}).status_code == 200


def test_only_stored_fields_count(ingest: FlaskClient, journal: Journal):
    url = "https://shop.example/?" + "q" * 8000
    agent = "Mozilla/5.0 " + "x" * 1000
    event = GOOD | {"url": url, "user_id": None, "props": {"p": "x" * 2000}, "unknown": "x" * 20_000}
    assert ingest.post("/event", json=event, headers={"User-Agent": agent}).status_code == 200
    assert len(next(journal.entries()).raw) > MOST_EVENT_BYTES


def test_a_large_pageview_of_another_system_s_client_loses_properties_and_is_stored(
    ingest: FlaskClient, journal: Journal
):
    page = {"url": "https://shop.example/pricing", "title": "Pricing", "referrer": "https://x.example/"}
    large = {f"q{n}": "x" * 1900 for n in range(14)}
    message: dict[str, Any] = {
        "type": "page",
        "userId": "ann",
        "properties": page | large | {"plan": "pro"},
        "context": {"page": page, "device": large},
    }
    assert len(json.dumps(message)) > 32_000
    assert ingest.post("/v1/batch", json={"writeKey": "shop", "batch": [message]}).json["accepted"] == 1
    body = {"payload": {"website": "shop", "url": page["url"], "data": large | {"plan": "pro"}}}
    assert ingest.post("/api/send", json=body).status_code == 200
    body = {"n": "pageview", "d": "shop", "u": page["url"], "p": large | {"plan": "pro"}}
    assert ingest.post("/api/event", json=body).status_code == 202
    for event in waiting(journal):
        assert event.url == page["url"]
        assert event.props is not None
        assert event.props["plan"] == "pro"
        assert 6000 < event_bytes(event) <= MOST_EVENT_BYTES


def test_the_largest_field_is_named_whatever_it_is():
    assert largest_field(load_event(GOOD | {"path": "/" * 2000}, NOW))[0] == "path"
    assert largest_field(load_event(GOOD | {"referrer": "https://x.example/" + "x" * 2000}, NOW))[0] == "referrer"


@pytest.mark.parametrize("size", [0, 1023, LARGEST + 1, "8 kB", 8192.5])
def test_an_invalid_size_limit_is_refused(report: FlaskClient, size: object):
    answer = report.put(
        "/admin/sites/shop", headers={"Authorization": "Bearer a-key-for-tests-only"}, json={"max_event_bytes": size}
    )
    assert list(answer.json["error"]["fields"]) == ["max_event_bytes"]
