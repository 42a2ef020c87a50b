"""Export and import are inverse operations: `POST /events` takes what `GET /export/events` wrote.

Sent to the same site, the import changes nothing. Sent to another site, that site answers every query as the first one
does.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pymongo.database import Database
from redis import Redis

from analytics.access.api_key import WRITE_SCOPE
from analytics.access.key_ring import KeyRing
from analytics.access.store import ApiKeyStore
from analytics.interval import as_ms, interval_of
from analytics.journal.audit import Audited, audit
from analytics.journal.ledger import Ledger
from analytics.pipeline import Stores, store_waiting
from analytics.privacy.visitor import Visitor
from analytics.sites.registry import SiteRegistry
from analytics.sites.site import Site
from config.settings import Settings
from report_app import Services
from tests.ingest_app.test_drop_ins import BROWSER
from tests.support.services import ADMIN_KEY, NOW
from tests.support.streams import ZONES, Stream, goals, queries

BEARER = {"Authorization": f"Bearer {ADMIN_KEY}"}
DAYS = "from=2026-11-18&to=2026-11-23"
BASE = datetime(2026, 11, 20, 23, 40, tzinfo=UTC)
GAPS = (timedelta(0), timedelta(milliseconds=1), timedelta(minutes=9), timedelta(minutes=31), timedelta(hours=20))


@pytest.fixture
def key(settings: Settings, database: Database, redis: Redis) -> Callable[..., dict[str, str]]:
    """The header of an API key that may write events."""

    def make(*sites: str) -> dict[str, str]:
        keys = ApiKeyStore(database, lambda: NOW - timedelta(days=1))
        _, secret = keys.create("import", [WRITE_SCOPE], sites or None, None)
        KeyRing(redis).publish(keys)
        return {"Authorization": f"Bearer {secret}"}

    return make


@dataclass
class Sites:
    """The system as a user has it: both apps, and workers that store the events."""

    collector: FlaskClient
    report: FlaskClient
    stores: Stores
    database: Database[dict[str, Any]]

    def send(self, *events: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
        answer = self.collector.post("/events", json=[*events], headers=headers)
        assert answer.status_code == 200, answer.json
        while self.stores.journal.waiting():
            store_waiting(self.stores, "task")
        return answer.json

    def export(self, site_id: str = "shop") -> list[dict[str, Any]]:
        answer = self.report.get(f"/export/events?site_id={site_id}&{DAYS}", headers=BEARER)
        assert answer.status_code == 200, answer.json
        return [json.loads(line) for line in answer.text.splitlines()]

    def bring(self, lines: list[dict[str, Any]], headers: dict[str, str]) -> None:
        """Imports the lines."""
        said = self.send(*lines, headers=headers)
        assert said == {"success": True, "accepted": len(lines), "dropped": 0, "rejected": []}

    def stored(self) -> list[dict[str, Any]]:
        return [*self.database["events"].find().sort("_id"), *self.database["dirty_hours"].find().sort("_id")]


@pytest.fixture
def sites(ingest: FlaskClient, report: FlaskClient, stores: Stores, database: Database) -> Sites:
    return Sites(ingest, report, stores, database)


def to(site_id: str, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line | {"site_id": site_id} for line in lines]


texts = st.text(min_size=1, max_size=9).filter(lambda text: text.isprintable() and text.strip())
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
names = st.sampled_from(("$ref", "$id", "a.b", "__proto__", "\\$x", "ü", "'\"")) | texts
pages = st.sampled_from((
    {"path": "/"}, {"path": "/pricing"}, {"path": "/ü?ref=x"}, {"path": ""}, {"path": "pricing"},
    {"url": "https://www.shop.example/caf%C3%A9?utm_source=News&utm_campaign=x&gclid=1"},
    {"url": "https://shop.example/a#/route?b=1", "referrer": "https://www.google.com/search?q=x"},
    {"url": "https://shop.example/" + "x" * 3000, "referrer": "android-app://com.slack/"}, {},
))  # fmt: skip
who = st.sampled_from((
    {"user_id": "ann"}, {"user_id": "bob"}, {"ip": "203.0.113.9", "user_agent": BROWSER},
    {"ip": "198.51.100.7", "user_agent": BROWSER.replace("X11", "Windows")}, {},
))  # fmt: skip
more = st.fixed_dictionaries(
    {},
    optional={
        "props": st.dictionaries(names, scalars | texts, max_size=4),
        "revenue": st.fixed_dictionaries({
            "amount": st.decimals(-(10**9), 10**9, places=3, allow_nan=False).map(str),
            "currency": st.sampled_from(("USD", "JPY")),
        }),
        "interactive": st.booleans(),
        "engagement_time": st.integers(0, 86_400_000),
        "scroll_depth": st.integers(0, 100),
        "screen": st.sampled_from(("1920x1080", "390x844", "Tablet")),
        "language": st.sampled_from(("de", "zh-Hant-TW")),
        "source": texts,
        "country": st.just("US"),
        "region": st.just("US-CA"),
        "event_id": texts,
    },
)  # fmt: skip
event_types = st.sampled_from(("pageview", "page_view", "engagement", "signup", "=1+1"))


@st.composite
def sent(draw: st.DrawFn) -> list[dict[str, Any]]:
    at, events = BASE, []
    for gap in draw(st.lists(st.sampled_from(GAPS), max_size=12)):
        at += gap
        event = {"site_id": "shop", "event_type": draw(event_types), "timestamp": at.isoformat()}
        events.append(event | draw(pages) | draw(who) | draw(more))
    return draw(st.permutations(events))


@examples(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_imported_events_equal_the_exported_ones(sites: Sites, services: Services, key: Any, data: st.DataObject):
    for name in ("events", "dirty_hours", "segment_manifests"):
        sites.database[name].delete_many({})
    headers = key()
    sites.send(*data.draw(sent()), headers=headers)
    lines, before = sites.export(), sites.stored()

    chance = data.draw(st.randoms(use_true_random=False))
    sites.bring(chance.sample(lines, len(lines)), headers)
    assert sites.stored() == before

    for _ in range(2):  # the second time changes nothing
        sites.bring(to("copy", chance.sample(lines, len(lines))), headers)
        assert sites.export("copy") == to("copy", lines)
    if lines and data.draw(st.booleans()):
        services.eraser.data.segments.builder.build("shop", "month", interval_of("month", as_ms(BASE)))
    documents = list(sites.database["events"].find({"site_id": "shop"}))
    stream = Stream(documents, BASE, data.draw(st.sampled_from(ZONES)), ("shop",), data.draw(goals()))
    for _ in range(3):
        query = data.draw(queries(stream))
        assert services.reports.answer(replace(query, site_id="copy")) == services.reports.answer(query)


def views(*moments: str, **more: Any) -> list[dict[str, Any]]:
    same = {"site_id": "shop", "event_type": "pageview", "path": "/"} | more
    return [same | {"timestamp": f"2026-11-{moment}Z"} for moment in moments]


def test_events_that_are_exported_and_imported_repeatedly_are_stored_once(sites: Sites, key: Any):
    headers = key()
    sites.send(*views("20T10:00:00", "20T11:00:00", user_id="ann"))
    lines = sites.export()
    for site_id in ("copy", "shop", "third", "copy", "third"):
        sites.bring(to(site_id, sites.export("copy") or lines), headers)
    for site_id in ("shop", "copy", "third"):
        assert sites.export(site_id) == to(site_id, lines)


def test_events_removed_after_the_export_are_restored_once(sites: Sites, key: Any):
    sites.send(*views("20T10:00:00", "20T11:00:00", user_id="ann"))
    lines = sites.export()
    sites.database["events"].delete_many({})
    for _ in range(2):
        sites.bring(lines, key())
        assert sites.export() == lines


@pytest.mark.parametrize("keys", [None, ("other",)])
def test_without_a_key_for_the_site_an_exported_event_is_read_as_any_other(sites: Sites, key: Any, keys: Any):
    sites.send(*views("20T10:00:00", ip="203.0.113.9", user_agent=BROWSER))
    (line,) = sites.export()
    said = sites.send(*to("copy", [line]), headers=key(*keys) if keys else {})
    assert {warning["field"] for warning in said["warnings"]} == {"id", "visitor_id", "received_at", "sequence"}
    (copy,) = sites.export("copy")
    assert copy["received_at"] == NOW.isoformat()
    assert not {copy["id"], copy["sequence"], copy.get("visitor_id")} & {line[name] for name in SAID}


SAID = ("id", "sequence", "visitor_id")


def test_an_import_cannot_take_the_id_of_another_site_s_event(sites: Sites, key: Any):
    """A sender who knows an event_id can compute the id of its event.

    An event with that id would count as a duplicate.
    """
    (event,) = views("20T10:00:00", user_id="ann", event_id="order-1")
    sites.send(event)
    (line,) = sites.export()
    sites.database["events"].delete_many({})
    sites.bring(to("copy", [line]), key("copy"))
    sites.send(event)
    assert len(sites.export()) == len(sites.export("copy")) == 1


def test_the_settings_of_a_site_apply_to_imported_events(sites: Sites, services: Services, key: Any):
    """Except for the age: with a key, events may have any age."""
    sites.send(*views("18T10:00:00", user_id="ann"), *views("20T10:00:00", path="/admin", user_id="ann"))
    services.sites.put(Site("copy", excluded_paths=("/admin",), backdate_days=1))
    sites.bring(to("copy", sites.export()), key())
    assert [line["path"] for line in sites.export("copy")] == ["/"]


def test_an_import_does_not_restore_an_erased_visitor_and_the_ledger_is_correct(
    sites: Sites, services: Services, redis: Redis, key: Any
):
    sites.send(*views("20T10:00:00", user_id="ann"), *views("20T10:00:00", user_id="bob"))
    lines = sites.export()
    services.eraser.erase(Visitor("shop", user_id="ann"))
    sites.bring(lines, key())
    sites.bring(to("copy", lines), key())
    assert [line["user_id"] for line in sites.export()] == ["bob"]
    assert [line["user_id"] for line in sites.export("copy")] == ["ann", "bob"]
    stores = sites.stores
    assert (
        audit(Audited(Ledger(redis, sites.database), stores.journal, stores.events, stores.dead_letters)).faults == []
    )


def test_an_event_with_an_id_of_a_server_is_not_an_import(sites: Sites, key: Any):
    """An exported event also has `received_at`. A server's own event is enriched as before."""
    (event,) = views("20T10:00:00", id=str(uuid4()), url="https://shop.example/x", path=None)
    sites.send(event, headers=key())
    (line,) = sites.export()
    assert (line["hostname"], line["path"]) == ("shop.example", "/x")
    assert UUID(line["id"]) != UUID(event["id"])


def test_an_exported_event_is_accepted_even_if_it_exceeds_the_current_size_limit(sites: Sites, redis: Redis, key: Any):
    """Its derived fields count, and the other site's limit may have been different."""
    sites.send(*views("20T10:00:00", user_id="ann", props={"text": "x" * 1900}))
    lines = sites.export()
    SiteRegistry(redis).publish(lambda: [Site("copy", max_event_bytes=1024)])
    sites.bring(to("copy", lines), key())
    assert sites.export("copy") == to("copy", lines)
