"""Every number on a page is the number that /api/v2/query answers."""

import csv
import re
from collections.abc import Iterator
from html import unescape
from io import StringIO
from itertools import product
from typing import Any

import pytest
from flask.testing import FlaskClient
from pymongo.database import Database

from analytics.sites.site import Goal, Site
from analytics.sites.store import SiteStore
from report_app.pages import panels
from report_app.pages.page_state import FIGURES, FilterTerm, PageState
from report_app.pages.panels import PANELS, Panel, PanelTab
from report_app.pages.words import number, value_name
from tests.support.services import NOW, tell

STATES = [
    PageState("7d"),
    PageState("day"),
    PageState("30d", compare="none", filters=((FilterTerm("is", "visit:country", ("DE",)),),)),
    PageState("all", filters=((FilterTerm("is_not", "event:page", ("/",)), FilterTerm("is", "visit:os", ("Mac",))),)),
]


@pytest.fixture(autouse=True)
def shop(database: Database, story: None) -> None:
    goals = (Goal("Sign-up", event_type="signup", currency="USD"), Goal("Pricing", page="/pricing"))
    SiteStore(database).put(Site("shop", goals=goals))
    tell(
        database,
        {"at": "22 09:00:00", "path": "/blog/a-long-name-of-a-page", "country": "US", "region": "US-CA",
         "city": "Oakland",
         "browser": "Firefox", "browser_version": "145", "os": "Linux", "device": "Desktop", "language": "en-US",
         "screen": "Laptop", "referrer": "https://news.example/", "source": "News", "channel": "Referral",
         "utm_campaign": "spring", "utm_source": "mail", "utm_medium": "email", "utm_content": "top",
         "utm_term": "shoes",
         "hostname": "shop.example", "user_id": "eve"},
        {"at": "22 09:01:00", "event_type": "engagement", "path": "/blog/a-long-name-of-a-page", "scroll_depth": 70,
         "engagement_time": 61_000, "user_id": "eve"},
        {"at": "22 09:02:00", "event_type": "Outbound Link: Click", "user_id": "eve",
         "props": {"url": "https://x.example"}},
        {"at": "22 09:03:00", "event_type": "File Download", "user_id": "eve",
         "props": {"url": "https://x.example/a.pdf"}},
        {"at": "22 09:04:00", "event_type": "404", "path": "/gone", "user_id": "eve"},
    )  # fmt: skip


def tabs_of(panel: Panel) -> tuple[PanelTab, ...]:
    return (*panel.tabs, *panel.further)


def ask(report: FlaskClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = report.post("/api/v2/query", json=body)
    assert answer.status_code == 200, answer.json
    return answer.json


def cells_of(row: str) -> list[str]:
    """The name and the numbers of a row. The title has the whole name."""
    found = re.findall(r'class="name"[^>]* title="([^"]*)"|class="[np]">([^<]*)<', row)
    return [unescape(name or text) for name, text in found]


def rows_shown(page: str) -> Iterator[list[str]]:
    for row in re.findall("<li>(.*?)</li>", page):
        yield cells_of(row)


@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
def test_a_panel_has_the_numbers_of_the_api(report: FlaskClient, panel: Panel):
    for tab, state in product(tabs_of(panel), STATES):
        answer = ask(report, panels.top_rows(state.question("shop", NOW), tab))
        expected = [
            [value_name(tab.dimension, row["dimensions"][0]), *map(number, tab.metrics, row["metrics"])]
            for row in answer["results"]
        ]
        assert expected or state is not STATES[0], "the comparison would compare nothing"
        page = report.get(f"/parts/panel/{panel.name}/shop?{state.with_tab(panel.name, tab.name).as_query()}")
        assert page.status_code == 200
        assert list(rows_shown(page.text)) == expected, (tab.name, state.as_query())
        total = answer["meta"]["total_rows"]
        assert (f"All {total} " in page.text) is (total > len(expected)), (tab.name, state.as_query())


@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
def test_a_full_list_and_its_table_have_the_numbers_of_the_api(report: FlaskClient, panel: Panel):
    for tab in tabs_of(panel):
        state = PageState("7d").with_tab(panel.name, tab.name)
        answer = ask(report, panels.full_list(state.question("shop", NOW), tab, state))
        page = report.get(f"/list/{panel.name}/shop?{state.as_query()}").text
        names = [value_name(tab.dimension, row["dimensions"][0]) for row in answer["results"]]
        assert [unescape(each) for each in re.findall(r'title="([^"]*)"', page)] == names
        table = report.get(f"/csv/{panel.name}/shop?{state.as_query()}")
        assert table.mimetype == "text/csv"
        rows = list(csv.reader(StringIO(table.text)))
        assert rows[0][:2] == [tab.dimension, "visitors"]
        assert [[row[0], row[1]] for row in rows[1:]] == [
            [row["dimensions"][0], str(row["metrics"][0])] for row in answer["results"]
        ]


@pytest.mark.parametrize("state", STATES, ids=[state.as_query() for state in STATES])
def test_the_figures_have_the_numbers_of_the_api(report: FlaskClient, state: PageState):
    (row,) = ask(report, panels.figures(state.question("shop", NOW)))["results"]
    page = report.get(f"/site/shop?{state.as_query()}").text
    assert re.findall('<span class="v">(.*?)</span>', page) == list(map(number, FIGURES, row["metrics"]))
    if state.is_compared:
        before = re.findall(r'title="Before: (.*?)"', page)
        assert before == list(map(number, FIGURES, row["comparison"]["metrics"]))


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize(
    ("state", "grain"),
    [(PageState("7d"), "day"), (PageState("30d"), "week"), (PageState("12mo"), "month"), (PageState("day"), "hour")],
)
def test_the_chart_has_the_numbers_of_the_api(report: FlaskClient, state: PageState, grain: str, figure: str):
    chosen = PageState(state.period, grain=grain, figure=figure)
    rows = ask(report, panels.over_time(chosen.question("shop", NOW), chosen, grain))["results"]
    page = report.get(f"/site/shop?{chosen.as_query()}").text
    drawn = re.findall(r'data-now="([^"]*)" data-before="([^"]*)"', page)
    assert [(float(now), float(before)) for now, before in drawn] == [
        (row["metrics"][0], row["comparison"]["metrics"][0]) for row in rows
    ]
    table = list(csv.reader(StringIO(report.get(f"/csv/chart/shop?{chosen.as_query()}").text)))
    assert [row[0] for row in table[1:]] == [row["dimensions"][0] for row in rows]


def test_the_panel_of_goals_has_their_revenue(report: FlaskClient):
    page = report.get("/parts/panel/goals/shop?period=7d").text
    assert re.findall(r'title="([^"]*)">[^<]*<small> · ([^<]*)</small>', page) == [("Sign-up", "$49.90")]


def test_the_panel_of_pages_says_how_long_and_how_far_they_are_read(report: FlaskClient):
    page = report.get("/parts/panel/pages/shop?period=7d&tab=engagement").text
    captions = re.search('class="cap"[^>]*>(.*?)</div>', page)
    assert captions
    assert re.findall("<span>(.*?)</span>", captions[1]) == ["Engagement", "Visitors", "Time", "Scroll"]
    assert ["/blog/a-long-name-of-a-page", "1", "1m 01s", "70%"] in list(rows_shown(page))


def test_the_panel_of_events_has_custom_events_only(report: FlaskClient):
    names = [row[0] for row in rows_shown(report.get("/parts/panel/goals/shop?period=7d&tab=event").text)]
    assert {"signup", "404", "File Download"} <= set(names)
    assert not {"pageview", "engagement"} & set(names)


def test_a_search_finds_by_the_name_that_is_shown(report: FlaskClient):
    for panel, tab, text, found in (
        ("places", "country", "germ", ["Germany"]),
        ("places", "region", "california", ["California"]),
        ("pages", "top", "PRI", ["/pricing"]),
    ):
        page = report.get(f"/list/{panel}/shop?period=7d&tabs={panel}.{tab}&search={text}").text
        assert re.findall(r'title="([^"]*)"', page) == found


def test_a_list_has_pages(report: FlaskClient, database: Database):
    tell(database, *({"at": "22 10:00:00", "path": f"/page/{n:03}"} for n in range(120)))
    first = report.get("/list/pages/shop?period=7d").text
    last = report.get("/list/pages/shop?period=7d&page=3").text
    assert "1 to 50 of 124" in first
    assert "101 to 124 of 124" in last
    assert ("Next →" in first, "← Previous" in first) == (True, False)
    assert ("Next →" in last, "← Previous" in last) == (False, True)


def test_a_property_is_a_panel(report: FlaskClient):
    answer = report.get("/parts/panel/goals/shop?period=7d&key=plan")
    assert list(rows_shown(answer.text)) == [["pro", "1", "100%"]]
    assert answer.headers["HX-Push-Url"] == "/site/shop?period=7d&tabs=goals.prop.plan"


def test_the_panel_of_a_property_has_its_numbers_if_there_are_any(report: FlaskClient, database: Database):
    prices = [2, "3.5", 1234.125, "12 EUR"]
    tell(
        database, *({"at": f"22 10:0{n}:00", "event_type": "buy", "props": {"price": p}} for n, p in enumerate(prices))
    )
    page = report.get("/parts/panel/goals/shop?period=7d&key=price").text
    assert re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", page) == [
        ("Sum", "1,239.63"), ("Average", "413.21"), ("Median", "3.5"), ("75th percentile", "618.81"),
        ("90th percentile", "988"), ("Of", "3 events"),
    ]  # fmt: skip
    for other in ("?period=7d&key=plan", "?period=7d", "?period=7d&f=is,page,/nowhere&key=price"):
        assert "<dl" not in report.get(f"/parts/panel/goals/shop{other}").text


def test_visits_of_a_length_are_those_of_the_api(report: FlaskClient):
    state = PageState("7d", filters=((FilterTerm("greater", "visit:duration", ("90",)),),))
    (row,) = ask(report, panels.figures(state.question("shop", NOW)))["results"]
    page = report.get(f"/site/shop?{state.as_query()}").text
    assert re.findall('<span class="v">(.*?)</span>', page) == list(map(number, FIGURES, row["metrics"]))
    assert "Visit duration is more than <b>1m 30s</b>" in " ".join(page.split())


def test_suggestions_are_the_most_frequent_values_that_contain_the_text(report: FlaskClient):
    ask_for = "/parts/suggestions/shop?period=7d&dimension={}&value={}"
    assert re.findall('value="(.*?)"', report.get(ask_for.format("page", "PRIC")).text) == ["/pricing"]
    assert "Germany" in report.get(ask_for.format("country", "")).text
    assert report.get(ask_for.format("prop.&key=plan", "")).text.count("<option") == 2
    assert "<option" not in report.get(ask_for.format("planet", "")).text
    assert "<option" not in report.get(ask_for.format("duration", "6")).text


def test_the_names_of_properties_are_suggested(report: FlaskClient, database: Database):
    tell(database, {"at": "22 10:00:00", "event_type": "buy", "props": {"$set": "x", "Plan B": "y"}})

    def names(key: str) -> list[str]:
        page = report.get("/parts/suggestions/shop", query_string={"period": "7d", "dimension": "prop.", "key": key})
        return re.findall('value="(.*?)"', page.text)

    assert names("") == ["url", "Plan B", "$set", "plan"]
    assert names("PLAN") == ["Plan B", "plan"]
    for field in ("#names", "#goal-names"):
        page = report.get("/site/shop?period=7d").text + report.get("/parts/panel/goals/shop?period=7d").text
        assert f'hx-target="{field}"' in page


def test_the_last_bucket_is_open_and_future_hours_are_empty(report: FlaskClient):
    page = report.get("/site/shop?period=day").text
    points = re.findall(r'<tr data-tick="(.*?)" data-now="(.*?)"( data-before=".*?")?( data-open)?>', page)
    assert len(points) == 13
    assert [tick for tick, _, _, is_open in points if is_open] == ["12:00"]
    custom = report.get("/site/shop?from=2026-11-22&to=2026-11-22").text
    values = re.findall(r'data-now="(.*?)"', custom)
    assert len(values) == 24
    assert values[13:] == [""] * 11


def test_a_site_that_is_new_opens_with_today(report: FlaskClient, database: Database):
    assert "Last 30 days" in report.get("/site/shop").text
    tell(database, {"at": "22 10:00:00", "path": "/", "site_id": "newborn"})
    assert '<span class="sr">Period: </span>Today' in report.get("/site/newborn").text
