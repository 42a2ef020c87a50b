"""Funnels, retention and journeys on the dashboard: what they show is what the API answers, and who may change them."""

import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from pymongo.database import Database

from analytics.dashboards.funnels import MOST_FUNNELS, SavedFunnel
from analytics.sites.site import Goal, Site
from config.services import Services
from tests.support.accounts import Browser, path_of, token_in
from tests.support.services import tell

HOSTILE = "\"><img src=x onerror=alert(1)><script>alert('x')</script>{{7*7}}"
PANEL = "/parts/explore/funnel/shop?period=7d"


@pytest.fixture
def visits(database: Database[dict[str, Any]]) -> None:
    """Ann and Bob come on the 16th, and Ann a week later again. Ann buys in her first visit."""
    tell(
        database,
        {"at": "16 10:00:00", "path": "/"},
        {"at": "16 10:01:00", "path": "/pricing"},
        {"at": "16 10:02:00", "event_type": "purchase"},
        {"at": "16 11:00:00", "path": "/", "user_id": "bob", "language": "de"},
        {"at": "16 11:01:00", "path": "/pricing", "user_id": "bob"},
        {"at": "16 11:02:00", "path": "/about", "user_id": "bob"},
        {"at": "22 11:00:00", "path": "/about"},
    )


def save(browser: Browser, name: str, *steps: tuple[str, str], window: str = "visit") -> Any:
    token = token_in(browser.get(PANEL).text)
    fields = {"kind": [kind for kind, _ in steps], "value": [value for _, value in steps]}
    data = {"csrf_token": token, "name": name, "window": window} | fields
    return browser.client.post("/save-funnel/shop?period=7d&figure=visits", data=data)


def cells(page: str) -> list[list[str]]:
    """The texts of a table's body, row by row."""
    rows = re.findall(r"<tr>(.*?)</tr>", page.partition("<tbody>")[2], re.DOTALL)
    return [[re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


def test_a_funnel_that_is_saved_on_the_page_shows_what_the_api_counts(owner: Browser, visits: None):
    steps = [("page", "/"), ("page", "/pricing"), ("event", "purchase")]
    there = path_of(save(owner, "Buy", *steps, ("page", "")))  # an empty step is left out
    funnel_id = re.fullmatch(r"/site/shop\?period=7d&figure=visits&tabs=funnel\.(\w+)", there)
    assert funnel_id
    panel = owner.get(PANEL).text
    assert cells(panel) == [["Visit /", "2", "100%", ""], ["Visit /pricing", "2", "100%", "100%"],
                            ["purchase", "1", "50%", "50%"]]  # fmt: skip
    body = {"site_id": "shop", "date_range": ["2026-11-16", "2026-11-22"], "steps": [{kind: v} for kind, v in steps]}
    counted = [step["count"] for step in owner.client.post("/api/v2/funnel", json=body).json["results"]]
    assert [int(row[1]) for row in cells(panel)] == counted
    assert owner.get("/csv/funnel/shop?period=7d").text.splitlines()[1:] == [
        "Visit /,2",
        "Visit /pricing,2",
        "purchase,1",
    ]
    filtered = owner.get(f"{PANEL}&f=is,language,de").text
    assert [row[1] for row in cells(filtered)] == ["1", "1", "0"]


def test_a_funnel_of_the_same_name_is_replaced_and_each_has_its_address(
    owner: Browser, visits: None, services: Services
):
    save(owner, "Buy", ("page", "/"), ("event", "purchase"))
    save(owner, "Buy", ("page", "/pricing"), ("event", "purchase"), window="7d")
    save(owner, "About", ("page", "/"), ("page", "/about"))
    about, buy = services.funnels.list("shop")
    assert (about.name, buy.steps[0], buy.window) == ("About", {"page": "/pricing"}, "7d")
    opened = owner.get(f"{PANEL}&tab={buy.id}")
    assert "Buy, within 7 days" in opened.text
    assert opened.headers["HX-Push-Url"] == f"/site/shop?period=7d&tabs=funnel.{buy.id}"
    assert "About, within one visit" in owner.get(PANEL).text
    owner.post(f"/remove-funnel/{about.id}/shop?period=7d", page=PANEL)
    assert services.funnels.list("shop") == [buy]
    services.funnels.remove("other", buy.id)
    assert services.funnels.list("shop") == [buy]


@pytest.mark.parametrize(
    ("name", "steps", "said"),
    [("", [("page", "/"), ("page", "/a")], "Give the funnel a name of 1 to 100 characters."),
     ("x" * 101, [("page", "/"), ("page", "/a")], "Give the funnel a name"),
     ("One", [("page", "/")], "A funnel has 2 to 8 steps."),
     ("Nine", [("page", f"/{n}") for n in range(9)], "A funnel has 2 to 8 steps."),
     ("Goal", [("page", "/"), ("goal", "Unknown")], "Unknown"),
     ("Kind", [("page", "/"), ("kind", "x")], "This cannot be asked"),
     ("Window", [("page", "/"), ("page", "/a")], "This cannot be asked")],
)  # fmt: skip
def test_an_invalid_funnel_is_refused(
    owner: Browser, services: Services, name: str, steps: list[tuple[str, str]], said: str
):
    answer = save(owner, name, *steps, window="1y" if name == "Window" else "visit")
    assert (answer.status_code, said in answer.text) == (400, True)
    assert services.funnels.list("shop") == []


def test_a_site_has_a_limit_of_funnels(owner: Browser, services: Services):
    for n in range(MOST_FUNNELS):
        services.funnels.save(SavedFunnel("shop", f"{n:02}", ({"page": "/"}, {"page": "/a"}), "visit"))
    assert "at most 50 funnels" in save(owner, "new", ("page", "/"), ("page", "/a")).text
    assert save(owner, "07", ("page", "/b"), ("page", "/a")).status_code == 303
    assert len(services.funnels.list("shop")) == MOST_FUNNELS


def test_a_funnel_whose_goal_is_gone_says_so_and_can_be_removed(owner: Browser, services: Services):
    services.sites.put(Site("shop", goals=(Goal("Paid", "purchase"),)))
    assert save(owner, "Pay", ("page", "/"), ("goal", "Paid")).status_code == 303
    services.sites.put(Site("shop"))
    panel = owner.get(PANEL)
    assert (panel.status_code, "This funnel cannot be counted." in panel.text) == (200, True)
    assert "Remove this funnel" in panel.text


def test_a_viewer_sees_funnels_and_cannot_change_them(report: FlaskClient, services: Services, visits: None):
    services.funnels.save(SavedFunnel("shop", HOSTILE, ({"page": f"/{HOSTILE}"}, {"event": "purchase"}), "visit"))
    panel = report.get(PANEL).text
    assert "<img" not in panel
    assert "<form" not in panel


def test_retention_shows_who_came_back_by_their_first_visit(report: FlaskClient, visits: None):
    page = report.get("/parts/explore/retention/shop?period=7d").text  # by day: a week has too few cohorts
    assert [row[:3] for row in cells(page)] == [
        ["Mon 16 Nov", "2", "0%"],
    ]
    assert cells(page)[0][-1] == "50%"
    week = report.get("/parts/explore/retention/shop?period=30d&tab=week")
    assert cells(week.text) == [["Week of 16 Nov 2026", "2"]]
    assert week.headers["HX-Push-Url"].endswith("tabs=retention.week")
    table = report.get("/csv/retention/shop?period=7d").text.splitlines()
    assert table == ["cohort,day_0,day_1,day_2,day_3,day_4,day_5,day_6", "2026-11-16,2,0,0,0,0,0,1"]


def test_journeys_show_the_pages_before_and_after_a_page(report: FlaskClient, visits: None):
    page = report.get("/parts/explore/journeys/shop?period=7d&tab=/pricing").text
    before, after = page.split("</section>")[:2]
    assert ">/</span>" in before
    assert ">/about</span>" in after
    assert "The visit ended here" in after
    table = report.get("/csv/journeys/shop?period=7d&tabs=journeys./pricing").text.splitlines()
    assert sorted(table[1:]) == ["after,,1", "after,/about,1", "before,/,2"]
    assert "Through /" in report.get("/parts/explore/journeys/shop?period=7d").text  # the page with most visitors
    nowhere = report.get("/parts/explore/journeys/shop", query_string={"period": "7d", "tab": HOSTILE}).text
    assert "<img" not in nowhere
    assert "Choose another page" in nowhere


def test_an_unknown_panel_is_not_found(report: FlaskClient):
    assert report.get("/parts/explore/none/shop?period=7d").status_code == 404
