"""A name belongs to one site: its site_id, its domains and its write key, in every spelling, and by every route."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from pymongo.database import Database
from redis import Redis

from analytics.access.api_key import SITES_SCOPE
from analytics.access.store import ApiKeyStore
from analytics.diagnostics.mongodb import read_mongodb, site_names
from analytics.events.schema import load_journal_event
from analytics.journal.journal import Journal
from analytics.sites.names import conflicts, names_of
from analytics.sites.registry import SiteRegistry
from analytics.sites.site import Site
from analytics.sites.store import SiteStore, Taken, to_document
from analytics.urls import plain_name
from config.settings import Settings
from footfall.sites import sites as sites_command
from tests.support.services import ADMIN_KEY, NOW, make_services, tell

HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}
KEY = "0b0e1c9e-5a57-4b6f-9c55-2f2b8e7c1a11"
UNICODE, PUNYCODE = "müller.example", "xn--mller-kva.example"


@pytest.fixture
def sites(database: Database[dict[str, Any]]) -> SiteStore:
    return SiteStore(database)


@pytest.fixture
def key_for_a(database: Database[dict[str, Any]]) -> dict[str, str]:
    """The header of a key with sites:manage for the site `a` only."""
    _, secret = ApiKeyStore(database, lambda: NOW).create("a", [SITES_SCOPE], ["a"], None)
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def counted(journal: Journal) -> Callable[[], list[str]]:
    def read() -> list[str]:
        return [load_journal_event(x.raw, x.event_id, lambda: NOW).site_id for x in journal.entries()]

    return read


@pytest.mark.parametrize(
    ("owned_by_b", "claim", "field"),
    [
        ("b.example", {"domains": ["b.example"]}, "domains"),
        ("b.example", {"domains": ["own.example", "WWW.B.Example."]}, "domains"),
        ("B.Example", {"domains": ["b.example"]}, "domains"),
        ("www.b.example", {"domains": ["b.example"]}, "domains"),
        ("b.example.", {"domains": ["b.example"]}, "domains"),
        (UNICODE, {"domains": [PUNYCODE]}, "domains"),
        (PUNYCODE, {"domains": [UNICODE]}, "domains"),
        ("one.example, b.example", {"domains": ["b.example"]}, "domains"),
        (KEY, {"write_key": KEY}, "write_key"),
        (KEY.upper(), {"write_key": KEY}, "write_key"),
        (KEY, {"domains": [KEY]}, "domains"),
    ],
)
def test_a_key_for_one_site_cannot_claim_another_site_s_id(
    report: FlaskClient, key_for_a: dict[str, str], owned_by_b: str, claim: dict[str, Any], field: str
):
    assert report.put(f"/admin/sites/{owned_by_b}", headers=HEADERS, json={}).status_code == 200
    for method in ("PUT", "PATCH"):
        answer = report.open("/admin/sites/a", method=method, headers=key_for_a, json=claim)
        assert answer.status_code == 400
        assert list(answer.json["error"]["fields"]) == [field]
        assert f"belongs to the site {owned_by_b!r}." in answer.json["error"]["fields"][field][0]


@pytest.mark.parametrize(
    "new", ["shop.example", "SHOP.example", "www.shop.example", "x,shop.example", KEY, KEY.upper()]
)
def test_a_new_site_cannot_take_a_domain_or_write_key_of_another_as_its_id(
    report: FlaskClient, database: Database, new: str
):
    held = {"domains": ["shop.example"], "write_key": KEY}
    assert report.put("/admin/sites/shop", headers=HEADERS, json=held).status_code == 200
    answer = report.put(f"/admin/sites/{new}", headers=HEADERS, json={})
    assert (answer.status_code, list(answer.json["error"]["fields"])) == (400, ["site_id"])


def test_the_command_line_refuses_the_same_names(settings: Settings, database: Database, redis: Redis):
    def run(*words: str) -> Any:
        return CliRunner().invoke(sites_command, ["set", *words], obj=settings)

    assert run("b.example", "honours_dnt=true").exit_code == 0
    for words in (["a", "domains=b.example"], ["a", "domains=own.example,WWW.B.EXAMPLE"]):
        refused = run(*words)
        assert refused.exit_code == 1
        assert "domains: b.example belongs to the site 'b.example'." in refused.output


def test_of_two_sites_that_claim_one_name_at_once_only_one_gets_it(database: Database[dict[str, Any]]):
    claims = [Site("a.example"), *(Site(f"site-{n}", domains=("a.example",)) for n in range(7))]

    def put(site: Site) -> bool:
        try:
            SiteStore(database).put(site)
        except Taken:
            return False
        return True

    with ThreadPoolExecutor(len(claims)) as threads:
        assert sum(threads.map(put, claims)) == 1
    assert conflicts(SiteStore(database).all()) == []


def test_a_name_is_free_again_when_its_site_no_longer_has_it(sites: SiteStore):
    sites.put(Site("a", domains=("shop.example",)))
    sites.put(Site("a"))
    sites.put(Site("b", domains=("shop.example",)))
    sites.remove("b")
    assert sites.put(Site("shop.example")).site_id == "shop.example"


def test_in_development_a_site_that_only_has_events_keeps_its_name(
    settings: Settings, database: Database[dict[str, Any]], redis: Redis
):
    tell(database, {"at": "21 10:00:00", "site_id": "shop.example"}, {"at": "21 10:00:00", "site_id": KEY.upper()})
    open_to_all = make_services(settings, database=database).sites
    for site in (Site("a", domains=("shop.example",)), Site("a", write_key=KEY)):
        with pytest.raises(Taken, match="is a site that has events"):
            open_to_all.put(site)
    assert open_to_all.put(Site("shop.example", domains=("shop.example",)))


def test_hits_count_for_the_site_with_that_id_even_if_another_site_claimed_it_earlier(
    ingest: FlaskClient, redis: Redis, database: Database[dict[str, Any]], counted: Callable[[], list[str]]
):
    for site in (Site("a", domains=("b.example",), write_key=KEY), Site("b.example"), Site(KEY)):
        database["sites"].insert_one(to_document(site))
    SiteRegistry(redis).publish(SiteStore(database).all)
    ingest.post("/api/event", json={"n": "pageview", "u": "https://x.example/", "d": "b.example"})
    ingest.post("/api/send", json={"type": "event", "payload": {"website": KEY, "url": "/"}})
    ingest.post("/v1/track", json={"writeKey": KEY, "event": "x", "userId": "ann"})
    assert counted() == ["b.example", KEY, KEY]


def test_an_old_conflict_is_found_by_the_doctor_and_does_not_block_settings(
    database: Database[dict[str, Any]], sites: SiteStore
):
    assert site_names(read_mongodb(database, NOW.timestamp)).state == "ok"
    for site in (Site("a", domains=("b.example",)), Site("B.example")):
        database["sites"].insert_one(to_document(site))
    found = site_names(read_mongodb(database, NOW.timestamp))
    assert found.state == "problem"
    assert "b.example is in site_id of 'B.example' and in domains of 'a'" in found.what
    assert sites.put(Site("B.example", honours_dnt=True)).honours_dnt
    sites.put(Site("a"))
    assert site_names(read_mongodb(database, NOW.timestamp)).state == "ok"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (" WWW.Shop.Example. ", "shop.example"),
        ("\uff37\uff37\uff37\uff0eShop\u3002example", "shop.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("team:a", "team:a"),
        ("a..b", "a..b"),
        ("é" * 300, "é" * 300),
    ],
)
def test_spellings_of_one_name_are_one_name(text: str, plain: str):
    assert plain_name(text) == plain


def test_names_of_a_site_say_where_they_come_from():
    site = Site("shop", domains=("shop.example", "shop"), write_key=KEY)
    assert names_of(site) == {"shop": "site_id", "shop.example": "domains", KEY: "write_key"}
    assert json.dumps(names_of(Site("...")))
