"""A site's own paths for the script and for events answer as the usual ones."""

from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis

from analytics.journal.journal import Journal
from analytics.sites.registry import SITES_COPY, SiteRegistry
from analytics.sites.schema import RESERVED_PATHS, InvalidSite, load_site
from analytics.sites.site import Site
from analytics.sites.store import SiteStore, Taken
from config.settings import Settings
from ingest_app import create_app
from ingest_app.tracker import TRACKER
from tests.support.services import WakeUps, make_services

SHOP = Site("shop", script_path="/kit/k.js", endpoint_path="/kit/k")
BATCH = {"events": [{"site_id": "shop", "event_type": "pageview", "path": "/"}]}
PREFLIGHT = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}


@pytest.fixture
def ingest(settings: Settings, redis: Redis, journal: Journal, wake_ups: WakeUps) -> FlaskClient:
    """Not the client that compares answers with the API's description: it has no paths of sites."""
    SiteRegistry(redis).publish(lambda: [SHOP])
    return create_app(settings, make_services(settings, journal=journal), wake_ups).test_client()


def test_the_script_and_the_endpoint_answer_at_the_paths_of_the_site(ingest: FlaskClient, journal: Journal):
    own, usual = (ingest.get(path) for path in ("/kit/k.js", "/js/footfall.js"))
    assert (own.status_code, own.data, dict(own.headers)) == (200, TRACKER.read_bytes(), dict(usual.headers))
    assert ingest.head("/kit/k.js").status_code == 200
    sent = ingest.post("/kit/k", json=BATCH)
    assert (sent.status_code, sent.json["accepted"]) == (200, 1)
    assert journal.waiting() == 1
    assert ingest.post("/kit/k?validate=1", json=BATCH).json["accepted"] == 1
    assert journal.waiting() == 1
    preflights = [ingest.options(path, headers=PREFLIGHT) for path in ("/kit/k", "/events")]
    assert dict(preflights[0].headers) == {k: v for k, v in preflights[1].headers if k != "Allow"}
    assert ingest.post("/kit/k", data=b"{").json["error"]["code"] == "not_json"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/kit/k"), ("POST", "/kit/k.js"), ("PUT", "/kit/k"), ("GET", "/kit/K.js"), ("GET", "/kit"), ("GET", "/x")],
)
def test_other_paths_and_methods_are_not_found(ingest: FlaskClient, method: str, path: str):
    assert ingest.open(path, method=method, json=BATCH).status_code == 404


def test_a_path_of_the_app_stays_what_it_is(settings: Settings, redis: Redis, journal: Journal, wake_ups: WakeUps):
    SiteRegistry(redis).publish(lambda: [replace(SHOP, script_path="/healthz", endpoint_path="/script.js")])
    client = create_app(settings, make_services(settings, journal=journal), wake_ups).test_client()
    assert client.get("/healthz").is_json
    assert client.post("/script.js", json=BATCH).status_code == 405
    assert journal.waiting() == 0


def test_requests_of_the_paths_run_on_the_loop_while_a_site_has_them(
    settings: Settings, redis: Redis, journal: Journal, wake_ups: WakeUps
):
    now = 0.0
    services = make_services(settings, journal=journal)
    services.registry = SiteRegistry(redis, clock=lambda: now)
    services.registry.publish(lambda: [SHOP])
    app = create_app(settings, services, wake_ups)
    on_loop = app.config["ON_LOOP"]
    before = set(on_loop)
    for path in ("/kit/k.js", "/nowhere"):
        app.test_client().get(path)
    assert on_loop == before | {"/kit/k.js"}
    redis.delete(SITES_COPY)
    now = 10.0
    assert app.test_client().get("/kit/k.js").status_code == 404
    assert on_loop == before


def test_every_path_of_the_app_is_reserved(ingest: FlaskClient):
    rules = ingest.application.url_map.iter_rules()
    assert {rule.rule.split("/")[1] for rule in rules} - {""} <= RESERVED_PATHS


@pytest.mark.parametrize("name", ["script_path", "endpoint_path"])
@pytest.mark.parametrize(
    "path",
    ["kit", "/", "/kit/", "//kit", "/kit//k", "/../k", "/k/..", "/k?a", "/k#a", "/k k", "/é", "/k\n", "/%41", 7,
     "/" + "k" * 100, "/js/k.js", "/events", "/api/k", "/v1/k", "/docs/k"],
)  # fmt: skip
def test_a_path_that_cannot_be_used_is_refused_and_its_field_is_named(name: str, path: Any):
    with pytest.raises(InvalidSite) as refused:
        load_site("shop", {name: path})
    assert list(refused.value.fields) == [name]


@pytest.mark.parametrize("path", ["/k", "/kit/k.min.js", "/_a/b-c", "/" + "k" * 99, "/eventsx"])
def test_other_paths_are_accepted(path: str):
    assert load_site("shop", {"script_path": path, "endpoint_path": path}).script_path == path


def test_a_path_belongs_to_one_site(settings: Settings, database: Any):
    sites: SiteStore = make_services(settings, database=database).sites
    sites.put(SHOP)
    sites.put(SHOP)
    for site, field in (
        (Site("blog", script_path="/kit/k.js"), "script_path"),
        (Site("blog", endpoint_path="/kit/k.js"), "endpoint_path"),
    ):
        with pytest.raises(Taken, match="belongs to the site 'shop'") as refused:
            sites.put(site)
        assert refused.value.field == field
    assert sites.put(Site("blog", script_path="/b", endpoint_path="/b")).endpoint_path == "/b"
