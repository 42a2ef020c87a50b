"""/api/v1/sites over HTTP: sites, goals and shared links, as Plausible's Sites API has them."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask.testing import FlaskClient

from analytics.accounts.sharing import MOST_LINKS
from analytics.sites.site import Goal, Site
from config.settings import Settings
from report_app import Services, create_app
from tests.support.services import ADMIN_KEY

KEY = {"Authorization": f"Bearer {ADMIN_KEY}"}
SITES = "/api/v1/sites"


def ask(report: FlaskClient, method: str, path: str = "", status: int = 200, **how: Any) -> Any:
    answer = report.open(SITES + path, method=method, headers=KEY, **how)
    assert answer.status_code == status, answer.json
    return answer.json


def test_a_site_is_created_found_listed_and_deleted(report: FlaskClient, services: Services):
    site = {"domain": "shop.example", "timezone": "Europe/Berlin"}
    assert ask(report, "POST", data=site) == site
    assert ask(report, "POST", json={"domain": "blog.example"}) == {"domain": "blog.example", "timezone": "UTC"}
    assert ask(report, "GET", "/shop.example") == site
    assert services.sites.get("shop.example").write_key, "it can receive events"
    listed = ask(report, "GET", "?limit=1")
    assert listed["meta"] == {"after": "blog.example", "before": None, "limit": 1}
    assert ask(report, "GET", "?limit=1&after=blog.example")["sites"] == [site]
    assert ask(report, "DELETE", "/shop.example") == {"deleted": True}
    assert ask(report, "GET", "/shop.example", status=404) == {"error": "Site could not be found"}


def test_creating_a_site_that_exists_changes_nothing(report: FlaskClient, services: Services):
    services.sites.put(Site("shop", goals=(Goal("Signup", event_type="signup"),)))
    assert "`domain`: The site exists" in ask(report, "POST", status=400, json={"domain": "shop"})["error"]
    assert services.sites.get("shop").goals
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(
            lambda _: report.application.test_client().post(SITES, headers=KEY, json={"domain": "new"}), range(4)
        )
        assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400]


def test_goals_are_found_or_created_and_deleted(report: FlaskClient, services: Services):
    services.sites.put(Site("shop", domains=("shop.example",)))
    event = {"site_id": "shop.example", "goal_type": "event", "event_name": "Signup"}
    made = ask(report, "PUT", "/goals", data=event)
    assert ask(report, "PUT", "/goals", json=event) == made
    assert made == {
        "domain": "shop", "id": made["id"], "goal_type": "event", "display_name": "Signup", "event_name": "Signup",
        "page_path": None,
    }  # fmt: skip
    page = {"site_id": "shop", "goal_type": "page", "page_path": "/docs/**", "display_name": "Docs"}
    ask(report, "PUT", "/goals", json=page)
    renamed = ask(report, "PUT", "/goals", json={**page, "display_name": "Manual"})
    assert renamed["display_name"] == "Docs"
    taken = ask(report, "PUT", "/goals", status=400, json={**page, "page_path": "/help"})
    assert taken["error"].startswith("`display_name`: Another goal has this name")
    goals = services.sites.get("shop").goals
    assert goals == (Goal("Signup", event_type="Signup"), Goal("Docs", page="/docs/**"))
    assert [goal["display_name"] for goal in ask(report, "GET", "/goals?site_id=shop")["goals"]] == ["Signup", "Docs"]
    assert ask(report, "DELETE", f"/goals/{made['id']}", data={"site_id": "shop"}) == {"deleted": True}
    assert services.sites.get("shop").goals == goals[1:]
    again = ask(report, "DELETE", f"/goals/{made['id']}?site_id=shop", status=404)
    assert again == {"error": "Goal could not be found"}


def test_goals_that_are_created_at_the_same_time_are_all_kept(report: FlaskClient, services: Services):
    services.sites.put(Site("shop"))

    def create(n: int) -> int:
        goal = {"site_id": "shop", "goal_type": "event", "event_name": f"goal {n}"}
        return report.application.test_client().put(f"{SITES}/goals", headers=KEY, json=goal).status_code

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(create, range(8))] == [200] * 8
    assert len(services.sites.get("shop").goals) == 8


def test_a_shared_link_opens_the_site_and_its_url_is_shown_once(report: FlaskClient, services: Services):
    services.sites.put(Site("shop"))
    link = ask(report, "PUT", "/shared-links", data={"site_id": "shop", "name": "Wordpress"})
    assert link["name"] == "Wordpress"
    guest = report.application.test_client()
    assert guest.get(link["url"]).headers["Location"].endswith("/site/shop")
    again = ask(report, "PUT", "/shared-links", status=400, data={"site_id": "shop", "name": "Wordpress"})
    assert again["error"].startswith("`name`: The site has a link with this name")


def test_a_key_that_may_not_read_a_site_makes_no_link_to_it(report: FlaskClient, services: Services, shop: Site):
    link = {"site_id": "shop", "name": "mine"}
    for scopes, status in ((["sites:manage"], 403), (["sites:manage", "stats:read"], 200)):
        _, key = services.api_keys.create("a test's", scopes, ["shop"], None)
        headers = {"Authorization": f"Bearer {key}"}
        assert report.put(f"{SITES}/shared-links", headers=headers, json=link).status_code == status


def test_a_site_has_a_limit_of_links(report: FlaskClient, services: Services, shop: Site):
    for number in range(MOST_LINKS):
        services.sharing.create("shop", f"link {number}", None, None)
    answer = ask(report, "PUT", "/shared-links", status=400, json={"site_id": "shop", "name": "another"})
    assert "at most 100 links" in answer["error"]


@pytest.mark.parametrize(
    ("asked", "given", "error"),
    [
        ("POST ", {}, "Parameter `domain` is required"),
        ("POST ", {"domain": "x" * 129}, "#/domain: Expected a string of 1 to 128 characters."),
        ("POST ", {"domain": "a", "timezone": "Mars"}, "`timezone`: Not an IANA time zone such as Europe/Berlin."),
        ("POST ", {"domain": ["a"]}, "`domain`: It is not a text."),
        ("POST ", [], "The body is not a JSON object."),
        (f"GET ?after={'x' * 129}", {}, "`after`: It has more than 128 characters."),
        ("GET ?limit=0", {}, "`limit`: It is not a number from 1 to 1000."),
        ("PUT /goals", {"goal_type": "event"}, "Parameter `site_id` is required"),
        ("PUT /goals", {"site_id": "shop"}, "Parameter `goal_type` is required"),
        ("PUT /goals", {"site_id": "shop", "goal_type": "x"}, "`goal_type`: It is not one of event, page."),
        ("PUT /goals", {"site_id": "shop", "goal_type": "page"}, "Parameter `page_path` is required"),
        ("PUT /goals", {"site_id": "shop", "goal_type": "event", "event_name": "x" * 129}, "`event_name`: "),
        ("PUT /shared-links", {"site_id": "shop"}, "Parameter `name` is required"),
        ("PUT /shared-links", {"site_id": "shop", "name": "x" * 101}, "`name`: It does not have 1 to 100 characters."),
        ("PUT /shared-links", {"site_id": "shop", "name": "\ud800"}, "`name`: It is not a text."),
    ],
)  # fmt: skip
def test_an_error_names_the_parameter(report: FlaskClient, shop: Site, asked: str, given: Any, error: str):
    assert ask(report, *asked.split(" "), status=400, json=given)["error"].startswith(error)


def test_an_unknown_field_has_no_effect(report: FlaskClient, services: Services, shop: Site):
    goal = {"site_id": "shop", "goal_type": "page", "page_path": "/", "event_name": 3, "\u00f9": [{"a": 1}]}
    assert ask(report, "PUT", "/goals", json=goal)["page_path"] == "/"
    link = {"site_id": "shop", "name": "Wordpress", "\u00f9": [48]}
    assert ask(report, "PUT", "/shared-links", json=link)["name"] == "Wordpress"


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("", {"GET", "POST"}),
        ("/goals", {"GET", "PUT"}),
        ("/goals/a", {"DELETE"}),
        ("/shared-links", {"PUT"}),
        ("/shop", {"GET", "DELETE"}),
        ("/goals.example/a", {"GET", "DELETE"}),
    ],
)
def test_a_path_allows_its_own_methods_only(report: FlaskClient, path: str, methods: set[str]):
    answer = report.options(SITES + path, headers=KEY)
    assert {*answer.allow} - {"HEAD", "OPTIONS"} == methods


@pytest.fixture
def shop(services: Services) -> Site:
    return services.sites.put(Site("shop"))


@pytest.mark.parametrize("path", ["/goals?site_id=none", "/none"])
def test_an_unknown_site_is_a_404(report: FlaskClient, services: Services, path: str):
    assert ask(report, "GET", path, status=404) == {"error": "Site could not be found"}


def test_a_key_for_some_sites_manages_only_these(settings: Settings, services: Services):
    report = create_app(settings, services).test_client()
    services.sites.put(Site("other"))
    _, key = services.api_keys.create("a test's", ["sites:manage"], ["mine"], None)
    headers = {"Authorization": f"Bearer {key}"}
    assert report.post(SITES, headers=headers, json={"domain": "mine"}).status_code == 200
    goal = {"goal_type": "event", "event_name": "a"}
    assert report.put(f"{SITES}/goals", headers=headers, json={"site_id": "mine", **goal}).status_code == 200
    for method, path, body in (
        ("GET", "", {}), ("GET", "?site_id=mine", {}), ("POST", "?domain=mine", {"domain": "other"}),
        ("POST", "", {"domain": "other", "site_id": "mine"}), ("GET", "/other?site_id=mine", {}),
        ("DELETE", "/other", {"site_id": "mine"}), ("GET", "/goals?site_id=other", {}),
        ("PUT", "/goals?site_id=mine", {"site_id": "other", **goal}),
        ("DELETE", "/goals/a?site_id=mine", {"site_id": "other"}),
        ("PUT", "/shared-links", {"site_id": "other", "name": "a"}), ("PUT", "/shared-links", {"name": "a"}),
    ):  # fmt: skip
        assert report.open(SITES + path, method=method, headers=headers, json=body).status_code == 403, (path, body)
