"""Filters that are saved under a name: on the page, in queries, and who may change them."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from flask.testing import FlaskClient
from pymongo.database import Database
from werkzeug.test import TestResponse

from analytics.sites.schema import MOST_SAVED
from analytics.sites.site import SavedFilter, Site
from config.services import Services
from config.settings import Settings
from tests.support.accounts import Browser, path_of
from tests.support.services import ADMIN_KEY, tell

HOSTILE = "\"><img src=x onerror=alert(1)><script>alert('x')</script>{{7*7}}"
HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}
GERMAN = "f=is,country,DE&f=contains,page,/a,/b"
Save = Callable[..., TestResponse]


@pytest.fixture
def save(owner: Browser, database: Database[dict[str, Any]]) -> Save:
    """Saves the filters of a page under a name."""
    tell(
        database,
        {"at": "16 10:00:00", "path": "/a", "country": "DE"},
        {"at": "16 10:00:00", "path": "/c", "country": "DE", "user_id": "bob"},
        {"at": "16 10:00:00", "path": "/a", "country": "FR", "user_id": "eve"},
    )
    return lambda name, filters=GERMAN: owner.post(
        f"/save-filter/shop?period=7d&{filters}", page=f"/site/shop?period=7d&{filters}", name=name
    )


def figures(page: str) -> list[str]:
    return re.findall('<span class="v">([^<]*)</span>', page)


def test_a_saved_filter_counts_what_its_filters_count(owner: Browser, save: Save, services: Services):
    there = path_of(save(" German readers "))
    assert there == "/site/shop?period=7d&f=is,segment,1"
    page = owner.get(there).text
    assert figures(page) == figures(owner.get(f"/site/shop?period=7d&{GERMAN}").text)
    assert figures(page)[0] == "1"
    assert "Saved filter is <b>German readers</b>" in " ".join(page.split())
    body = {"site_id": "shop", "metrics": ["visitors"], "date_range": "30d", "filters": [["is", "segment", [1]]]}
    answer = owner.client.post("/api/v2/query", json=body).json
    assert answer["results"][0]["metrics"] == [1]
    assert answer["query"]["filters"] == [["is", "segment", [1]]]
    assert '">1</span>' in owner.get("/parts/panel/places/shop?period=7d&f=is,segment,1").text


def test_a_filter_that_another_process_saved_is_known_at_once(
    owner: Browser, save: Save, services: Services, settings: Settings
):
    assert "f=is,segment" not in owner.get("/site/shop?period=7d").text  # this process knows the site now
    with closing(Services(settings)) as other:
        other.sites.save_filter("shop", "German", '[["is","visit:country",["DE"]]]')
    assert figures(owner.get("/site/shop?period=7d&f=is,segment,1").text)[0] == "2"


def test_an_id_that_no_store_can_hold_is_no_saved_filter(owner: Browser):
    page = "/site/shop?period=7d"
    for filter_id, status in ((2**31 - 1, 303), (2**31, 404), (2**64, 404)):
        assert owner.post(f"/remove-filter/{filter_id}/shop?period=7d", page=page).status_code == status


def test_a_name_is_used_once_and_an_id_stays(owner: Browser, save: Save, services: Services):
    save("German")
    save("French", "f=is,country,FR")
    assert path_of(save("German", "f=is_not,country,FR")).endswith("f=is,segment,1")
    assert sorted(services.sites.get("shop").saved_filters, key=lambda each: each.id) == [
        SavedFilter(1, "German", '[["is_not","visit:country",["FR"]]]'),
        SavedFilter(2, "French", '[["is","visit:country",["FR"]]]'),
    ]
    page = "/site/shop?period=7d&f=is,segment,1&f=is,page,/a"
    assert path_of(owner.post("/remove-filter/1/shop?period=7d&f=is,segment,1&f=is,page,/a", page=page)) == (
        "/site/shop?period=7d&f=is,page,/a"
    )
    assert [each.name for each in services.sites.get("shop").saved_filters] == ["French"]
    gone = owner.get("/site/shop?period=7d&f=is,segment,1").text
    assert "The segment 1 is not a saved filter of this site" in gone
    assert 'aria-label="Remove the filter Saved filter"' in gone


@pytest.mark.parametrize(
    ("given", "said"),
    [(("", GERMAN), "Give the filter a name"), (("x" * 101, GERMAN), "Give the filter a name"),
     (("none", ""), "Add a filter to the page first."),
     (("nested", "f=is,segment,1"), "cannot be a part of another one"),
     (("wrong", "f=is,country,Germany"), "valid 2-letter country code"),
     (("long", f"f=is,page,{'x' * 2000}&f=is,page,{'y' * 2000}"),
      "too long to be saved")],
)  # fmt: skip
def test_filters_that_cannot_be_saved_are_refused(
    owner: Browser, save: Save, services: Services, given: tuple[str, str], said: str
):
    name, filters = given
    answer = owner.post(f"/save-filter/shop?period=7d&{filters}", page="/account", name=name)
    assert (answer.status_code, said in answer.text) == (400, True)
    assert services.sites.get("shop").saved_filters == ()


def test_a_site_has_a_limit_of_saved_filters(save: Save, services: Services):
    filters = tuple(SavedFilter(n, f"{n}", "[[]]") for n in range(1, MOST_SAVED + 1))
    services.sites.put(Site("shop", saved_filters=filters))
    assert "at most 50 saved filters" in save("new").text
    assert save("7").status_code == 303


def test_filters_that_are_saved_at_the_same_time_are_all_kept(services: Services):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: services.sites.save_filter("shop", f"{n}", '[["is","event:page",["/"]]]'), range(8)))
    saved = services.sites.get("shop").saved_filters
    assert sorted(each.name for each in saved) == [f"{n}" for n in range(8)]
    assert {each.id for each in saved} == set(range(1, 9))


def test_a_viewer_sees_saved_filters_and_cannot_change_them(report: FlaskClient, services: Services):
    services.sites.put(Site("shop", saved_filters=(SavedFilter(1, HOSTILE, '[["is","event:page",["/"]]]'),)))
    page = report.get("/site/shop?period=7d&f=is,segment,1").text
    assert 'href="/site/shop?period=7d&amp;f=is,segment,1"' in page
    assert "<img" not in page
    assert "save-filter" not in page
    assert "remove-filter" not in page


def test_saved_filters_are_settings_of_the_site(report: FlaskClient, services: Services):
    given = [{"id": 5, "name": "German", "filters": [["is", "visit:country", ["DE"]]]}]
    put = report.put("/admin/sites/shop", headers=HEADERS, json={"saved_filters": given})
    assert (put.status_code, put.json["saved_filters"]) == (200, given)
    assert services.sites.get("shop").saved_filters[0].filters == '[["is","visit:country",["DE"]]]'
    same = {"id": 6, "name": "German", "filters": [[]]}
    for wrong in ({"id": 0}, {"filters": []}, {"filters": "x"}, {"filters": [["x" * 4000]]}, {"name": ""}):
        answer = report.put("/admin/sites/shop", headers=HEADERS, json={"saved_filters": [given[0] | wrong]})
        assert answer.status_code == 400
    assert report.put("/admin/sites/shop", headers=HEADERS, json={"saved_filters": [*given, same]}).status_code == 400
    assert (
        report.put(
            "/admin/sites/shop", headers=HEADERS, json={"saved_filters": [*given, same | {"id": 5, "name": "x"}]}
        ).status_code
        == 400
    )
