"""What is set for a site: what is taken, what is refused, and that a report asks the latest."""

from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask.testing import FlaskClient
from pymongo import MongoClient
from pymongo.database import Database

from analytics.site import Goal, Site
from analytics.site_schema import InvalidSite, dump_site, load_site
from analytics.sites import MOST_REMEMBERED, REMEMBERED, SiteStore
from analytics.unavailable import Unavailable
from config.embedded import pick_port
from tests.conftest import ADMIN_KEY

HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}
SETTINGS = {
    "timezone": "Europe/Berlin",
    "goals": [{"name": "Signed up", "event_type": "signup"}, {"page": "/thanks/*", "currency": "EUR"}],
    "shows_visitors": True,
}
SITE = Site(
    "shop",
    ZoneInfo("Europe/Berlin"),
    (Goal("Signed up", event_type="signup"), Goal("Visit /thanks/*", page="/thanks/*", currency="EUR")),
    shows_visitors=True,
)
UNSET = {"timezone": "UTC", "goals": [], "shows_visitors": False}


def faults(**settings: object) -> dict[str, list[str]]:
    with pytest.raises(InvalidSite) as caught:
        load_site("shop", settings)
    return caught.value.fields


def test_settings_are_read_and_written():
    assert load_site("shop", SETTINGS) == SITE
    assert load_site("shop", dump_site(SITE)) == SITE


def test_a_goal_without_a_name_has_one():
    goals = load_site("shop", {"goals": [{"event_type": "signup"}, {"page": "/**", "name": ""}]}).goals
    assert [goal.name for goal in goals] == ["signup", "Visit /**"]


@pytest.mark.parametrize("nothing", [{}, dict.fromkeys(UNSET), dict.fromkeys(UNSET, ""), UNSET])
def test_what_is_left_out_is_as_where_nothing_is_set(nothing: dict[str, object]):
    assert load_site("shop", nothing) == Site("shop")


def test_the_longest_page_and_its_name_are_taken_back():
    site = load_site("s" * 128, {"goals": [{"page": "/" * 2048}]})
    assert load_site(site.site_id, dump_site(site)) == site


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        *[
            ({"timezone": bad}, "timezone")
            for bad in ("Berlin", "europe/berlin", "localtime", "../UTC", "+01:00", 1, [])
        ],
        *[({"shows_visitors": bad}, "shows_visitors") for bad in ("yes", 2, [])],
        ({"time_zone": "UTC"}, "time_zone"),
        ({"site_id": "other"}, "site_id"),
        ({"goals": {}}, "goals"),
        ({"goals": ["signup"]}, "goals.0"),
        ({"goals": [{"page": "/"}, {}]}, "goals.1"),
        ({"goals": [{"name": "neither"}]}, "goals.0"),
        ({"goals": [{"event_type": "", "page": None}]}, "goals.0"),
        ({"goals": [{"event_type": "a", "page": "/"}]}, "goals.0"),
        ({"goals": [{"event": "a"}]}, "goals.0.event"),
        ({"goals": [{"event_type": 1}]}, "goals.0.event_type"),
        ({"goals": [{"event_type": "x" * 129}]}, "goals.0.event_type"),
        ({"goals": [{"page": "x" * 2049}]}, "goals.0.page"),
        ({"goals": [{"page": "/", "currency": "euro"}]}, "goals.0.currency"),
        ({"goals": [{"page": "/", "name": "\ud800"}]}, "goals.0.name"),
        ({"goals": [{"page": "/"}, {"event_type": "a", "name": "Visit /"}]}, "goals"),
        ({"goals": [{"event_type": f"{n}"} for n in range(101)]}, "goals"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_their_field(settings: dict[str, object], field: str):
    assert field in faults(**settings)


def test_a_hundred_goals_are_not_too_many():
    assert len(load_site("shop", {"goals": [{"event_type": f"{n}"} for n in range(100)]}).goals) == 100


@pytest.mark.parametrize("site_id", ["", "x" * 129])
def test_a_site_is_called_as_in_events(site_id: str):
    with pytest.raises(InvalidSite) as caught:
        load_site(site_id, {})
    assert list(caught.value.fields) == ["site_id"]


@pytest.mark.parametrize("body", [None, [], "text", 3])
def test_settings_are_an_object(body: object):
    with pytest.raises(InvalidSite) as caught:
        load_site("shop", body)
    assert caught.value.fields == {"body": ["Not a JSON object."]}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sites(database: Database[dict[str, Any]], clock: Clock) -> SiteStore:
    return SiteStore(database, clock)


def test_a_site_that_nobody_set_anything_for_has_the_defaults(sites: SiteStore):
    assert sites.get("shop") == Site("shop")
    assert list(sites.list()) == []


def test_what_is_put_is_there_at_once_and_instead_of_what_was(sites: SiteStore, database: Database):
    assert sites.get("shop") == Site("shop")
    sites.put(SITE)
    assert sites.get("shop") == SITE
    sites.put(replace(SITE, goals=()))
    assert sites.get("shop") == replace(SITE, goals=())
    assert SiteStore(database).get("shop") == replace(SITE, goals=())


def test_what_is_removed_is_as_if_never_set(sites: SiteStore):
    sites.put(SITE)
    assert sites.get("shop") == SITE
    assert sites.remove("shop") is True
    assert sites.get("shop") == Site("shop")
    assert sites.remove("shop") is False


def test_what_another_process_sets_is_seen_after_a_few_seconds(sites: SiteStore, database: Database, clock: Clock):
    assert sites.get("shop") == Site("shop")
    SiteStore(database).put(SITE)
    clock.now += REMEMBERED - 0.1
    assert sites.get("shop") == Site("shop")
    clock.now += 0.1
    assert sites.get("shop") == SITE


def test_what_is_put_while_another_thread_looks_is_not_forgotten(sites: SiteStore, monkeypatch: pytest.MonkeyPatch):
    find = sites._find

    def find_and_be_overtaken(site_id: str) -> Site:
        found = find(site_id)
        sites.put(SITE)
        return found

    monkeypatch.setattr(sites, "_find", find_and_be_overtaken)
    assert sites.get("shop") == Site("shop")
    monkeypatch.undo()
    assert sites.get("shop") == SITE


def test_made_up_names_do_not_fill_the_memory(sites: SiteStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sites, "_find", Site)
    for n in range(MOST_REMEMBERED + 10):
        sites.get(f"{n}")
    assert len(sites._remembered) <= MOST_REMEMBERED


def test_a_mongodb_that_is_away_is_unavailable():
    nobody: MongoClient[dict[str, Any]] = MongoClient(
        f"mongodb://127.0.0.1:{pick_port(0)}", serverSelectionTimeoutMS=100
    )
    sites = SiteStore(nobody["footfall"])
    for ask in (lambda: sites.get("shop"), lambda: sites.put(SITE), lambda: sites.remove("shop"), sites.list):
        with pytest.raises(Unavailable):
            ask()
    nobody.close()


def test_over_http_settings_are_put_shown_and_removed(report: FlaskClient, database: Database):
    assert report.get("/admin/sites/shop", headers=HEADERS).json == {"site_id": "shop"} | UNSET
    put = report.put("/admin/sites/shop", headers=HEADERS, json=SETTINGS)
    assert put.status_code == 200
    assert put.json == dump_site(SITE)
    assert report.get("/admin/sites/shop", headers=HEADERS).json == put.json
    assert report.put("/admin/sites/shop", headers=HEADERS, json=put.json).json == put.json
    assert report.put("/admin/sites/shop", headers=HEADERS, json={}).json == {"site_id": "shop"} | UNSET
    assert report.delete("/admin/sites/shop", headers=HEADERS).json == {"success": True, "removed": 1}
    assert report.delete("/admin/sites/shop", headers=HEADERS).json == {"success": True, "removed": 0}


def test_sites_are_listed_page_by_page(report: FlaskClient, database: Database):
    for site_id in "cabd":
        report.put(f"/admin/sites/{site_id}", headers=HEADERS, json=SETTINGS)
    first = report.get("/admin/sites?limit=3", headers=HEADERS).json
    assert [site["site_id"] for site in first["sites"]] == ["a", "b", "c"]
    assert first["sites"][0] == dump_site(replace(SITE, site_id="a"))
    second = report.get(f"/admin/sites?limit=3&after={first['after']}", headers=HEADERS).json
    assert [site["site_id"] for site in second["sites"]] == ["d"]
    assert second["after"] is None


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "page=2", "after=" + "x" * 129])
def test_a_list_that_cannot_be_asked_for_is_a_400(report: FlaskClient, query: str):
    answer = report.get(f"/admin/sites?{query}", headers=HEADERS)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "invalid_query")


def test_settings_that_are_refused_change_nothing(report: FlaskClient, database: Database):
    report.put("/admin/sites/shop", headers=HEADERS, json=SETTINGS)
    answer = report.put("/admin/sites/shop", headers=HEADERS, json={"timezone": "Berlin", "goals": [{}]})
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "invalid_site")
    assert set(answer.json["error"]["fields"]) == {"timezone", "goals.0"}
    for body in (b"", b"{"):
        broken = report.put("/admin/sites/shop", headers=HEADERS, data=body)
        assert (broken.status_code, broken.json["error"]["code"]) == (400, "not_json")
    assert report.get("/admin/sites/shop", headers=HEADERS).json == dump_site(SITE)


@pytest.mark.parametrize("site_id", ["a/b", "a//b", "ü", "a b", "count", "a/"])
def test_a_site_may_be_called_anything(report: FlaskClient, database: Database, site_id: str):
    report.put(f"/admin/sites/{site_id}", headers=HEADERS, json=SETTINGS)
    assert [site["site_id"] for site in report.get("/admin/sites", headers=HEADERS).json["sites"]] == [site_id]


def test_no_address_leads_to_another_site(report: FlaskClient, database: Database):
    assert report.put("/admin/sites//shop", headers=HEADERS, json=SETTINGS).status_code in (404, 405)
    assert report.get("/admin/sites", headers=HEADERS).json["sites"] == []
