"""The site of a report: by its site_id or a domain, in production only if it is set up, and which keys may read it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from pymongo.database import Database
from werkzeug.test import TestResponse

from analytics.access.api_key import PERSONS_SCOPE, READ_SCOPE
from analytics.sites.site import Site
from analytics.sites.store import to_document
from config.settings import Settings
from report_app import Services, create_app
from tests.support.services import ADMIN_KEY, tell
from tests.web.test_auth import bearer

QUERY = {"metrics": ["visitors"], "date_range": "all"}
GETS: dict[str, dict[str, str]] = {
    "/stats": {},
    "/stats/timeseries": {},
    "/stats/breakdown": {},
    "/stats/realtime": {},
    "/stats/ledger": {},
    "/stats/visitor": {"user_id": "ann"},
    "/export/events": {},
}
POSTS: dict[str, dict[str, Any]] = {
    "/api/v2/query": {"metrics": ["visitors"]},
    "/api/v2/funnel": {"steps": [{"page": "/"}, {"page": "/pricing"}]},
    "/api/v2/retention": {},
    "/api/v2/journeys": {"page": "/"},
}
REPORTS = [*GETS, *POSTS]
ADMIN = bearer(ADMIN_KEY)
Ask = Callable[..., TestResponse]


@pytest.fixture
def production(settings: Settings, services: Services, database: Database[dict[str, Any]]) -> FlaskClient:
    services.sites.put(Site("shop", domains=("shop.example",), shows_visitors=True))
    services.sites.put(Site("other", domains=("other.example",), shows_visitors=True))
    return create_app(replace(settings, app_env="production"), services).test_client()


@pytest.fixture
def ask(production: FlaskClient) -> Ask:
    def ask(path: str, site_id: str, headers: dict[str, str] = ADMIN) -> TestResponse:
        if path in GETS:
            return production.get(path, query_string={"site_id": site_id} | GETS[path], headers=headers)
        body = {"site_id": site_id, "date_range": "day"} | POSTS[path]
        return production.post(path, json=body, headers=headers)

    return ask


@pytest.mark.parametrize("path", REPORTS)
def test_in_production_a_site_that_is_not_set_up_is_a_404(ask: Ask, path: str):
    assert ask(path, "shop").status_code == 200
    answer = ask(path, "shp")
    assert answer.status_code == 404
    message = "There is no site 'shp'. Did you mean 'shop'?"
    ours = {"code": "unknown_site", "message": message, "fields": {"site_id": [message]}}
    assert answer.json == ({"error": message} if path in POSTS else {"success": False, "error": ours})
    assert ask(path, "nothing-like-it").status_code == 404


@pytest.mark.parametrize("path", REPORTS)
def test_a_site_is_found_by_its_domains_and_not_by_its_write_key(ask: Ask, services: Services, path: str):
    for name in ("shop.example", "www.shop.example", "SHOP.example"):
        answer = ask(path, name)
        assert answer.status_code == 200, answer.text
        if path != "/export/events":
            assert (answer.json["query"] if path in POSTS else answer.json)["site_id"] == "shop"
    assert ask(path, services.sites.get("shop").write_key or "").status_code == 404


def test_the_events_of_a_domain_s_site_are_counted(ask: Ask, services: Services, database: Database[dict[str, Any]]):
    tell(database, {"at": "21 10:00:00", "path": "/"})
    assert ask("/stats", "www.shop.example").json["total_views"] == 1
    services.sites.put(Site("another", domains=("shop.test",)))
    assert ask("/stats", "shop.test").json["total_views"] == 0
    services.sites.remove("another")
    assert ask("/stats", "shop.test").status_code == 404


def test_an_id_is_found_before_a_domain(ask: Ask, database: Database[dict[str, Any]]):
    """Two sites may have got the same name before that was refused."""
    sites = (Site("news.example"), Site("old", domains=("news.example",)))
    database["sites"].insert_many([{**to_document(site), "write_key": f"{uuid4()}"} for site in sites])
    assert ask("/stats", "news.example").json["site_id"] == "news.example"


@pytest.mark.parametrize("path", REPORTS)
def test_a_key_for_some_sites_learns_nothing_about_others(ask: Ask, services: Services, path: str):
    key = bearer(services.api_keys.create("a test's", (READ_SCOPE, PERSONS_SCOPE), ["shop"], None)[1])
    for name in ("shop", "shop.example", "www.shop.example"):
        assert ask(path, name, key).status_code == 200
    refused = {name: ask(path, name, key) for name in ("other", "other.example", "nobody", "nobody.example")}
    assert {answer.status_code for answer in refused.values()} == {403}
    assert len({answer.text.replace(name, "X") for name, answer in refused.items()}) == 1
    if path in POSTS:
        assert ask(path, "\ud800", key).status_code == 403, "half of a surrogate pair"
    assert {ask(path, name, {}).status_code for name in ("shop", "nobody")} == {401}


def test_in_development_a_site_that_is_not_set_up_has_no_events(
    report: FlaskClient, database: Database[dict[str, Any]]
):
    assert report.get("/stats?site_id=nobody").json["total_views"] == 0


@pytest.mark.parametrize("path", [*REPORTS, "/admin/sites", "/nothing", "/healthz"])
def test_reports_must_not_be_cached(ask: Ask, production: FlaskClient, path: str):
    answers = [ask(path, name) for name in ("shop", "shp", "")] if path in REPORTS else [production.get(path)]
    answers.append(production.get(path))
    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-store"}


def test_answers_that_are_not_reports_may_be_cached(production: FlaskClient):
    assert "max-age" in production.get("/docs/docs.css").headers["Cache-Control"]
