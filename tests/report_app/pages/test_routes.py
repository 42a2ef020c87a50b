"""The pages over HTTP: what they may load and execute, who may see them, and what they say if there is no answer."""

import gzip
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from flask.testing import FlaskClient
from pymongo.database import Database
from werkzeug.test import TestResponse

from analytics.accounts.user import Role
from analytics.events.account import Account
from analytics.events.schema import load_event
from analytics.events.store import EventStore
from analytics.journal.journal import Line
from analytics.queries.query import Query
from analytics.reports.budget import Budget
from analytics.reports.results import Answer, Refused
from analytics.segments.snapshot_reader import NotBuiltYet
from analytics.sites.site import Site
from analytics.unavailable import SEGMENTS_STORE, Unavailable
from config.services import Services
from config.settings import Settings
from report_app import create_app
from report_app.pages import assets
from report_app.pages.exploration_rows import EXPLORATIONS
from report_app.pages.overview import CARDS
from report_app.pages.panels import PANELS
from tests.support.accounts import Browser, make_member, make_owner
from tests.support.services import NOW, tell

MOST_BYTES = 150_000  # of a page with all that it loads, gzipped
PARTS = [f"/parts/panel/{name}" for name in PANELS] + [
    "/parts/hero",
    "/parts/world",
    "/parts/left-out",
    "/parts/live",
    "/parts/now",
    "/parts/card",
]
EXPLORED = [f"/parts/explore/{name}" for name in EXPLORATIONS]
LISTS = [f"/list/{name}" for name in PANELS]
PAGES = [
    "/",
    "/site/shop",
    "/site/unused",
    "/now/shop",
    *(f"{path}/shop?period=7d" for path in (*PARTS, *EXPLORED, *LISTS)),
]
HTML = {"Accept": "text/html"}
HOSTILE = "\"><img src=x onerror=alert(1)><script>alert('x')</script>{{7*7}}"


class Tags(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def loaded_by(page: str) -> Iterator[str]:
    for tag, attributes in Tags(page).found:
        if tag in ("script", "link", "img"):
            yield str(attributes.get("src") or attributes.get("href"))
        if tag == "use":
            yield str(attributes["href"]).partition("#")[0]


def test_a_page_executes_and_loads_only_files_of_this_server(report: FlaskClient, story: None):
    for path in PAGES:
        page = report.get(path, headers=HTML)
        assert page.status_code == 200, path
        policy = page.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert page.headers["Cache-Control"] == "no-store"
        for tag, attributes in Tags(page.text).found:
            assert not [name for name in attributes if name.startswith(("on", "hx-on")) or name == "style"], (path, tag)
            assert tag not in ("style", "iframe", "base"), path
            if tag == "script":
                assert attributes["src"], path
            for name in ("src", "href", "action", "hx-get"):
                link = attributes.get(name) or "/"
                assert re.match(r"/(?!/)|\?|#", link) or (path, tag) == ("/site/unused", "a"), (path, link)


def test_htmx_evaluates_no_code(report: FlaskClient, story: None):
    page = report.get("/site/shop").text
    assert '"allowEval": false, "allowScriptTags": false, "includeIndicatorStyles": false' in page
    assert "js:" not in page
    assert "hx-on" not in page


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/site/shop", (*PARTS, *EXPLORED)),
        ("/", ("/parts/card",)),
        ("/now/shop", ()),
        ("/list/pages/shop", ()),
        ("/site/unused", ("/parts/first-event",)),
        ("/login", ()),
    ],
)
def test_a_page_with_all_that_it_loads_is_light(report: FlaskClient, story: None, path: str, parts: Iterable[str]):
    assert weight_of(report.get, path, [f"{part}/shop" for part in parts]) < MOST_BYTES


def weight_of(get: Callable[..., TestResponse], path: str, parts: Iterable[str] = ()) -> int:
    """The bytes of a page with its parts and of all files that they load, gzipped."""
    texts = [get(each, headers=HTML).text for each in (path, *parts)]
    files = [get(file, headers={"Accept-Encoding": "gzip"}) for file in dict.fromkeys(loaded_by("".join(texts)))]
    assert len(files) >= 3
    assert all(file.headers["Content-Encoding"] == "gzip" for file in files)
    weight = sum(len(gzip.compress(text.encode())) for text in texts) + sum(len(file.data) for file in files)
    print(f"{path}: {weight:,} bytes")
    return weight


def test_the_files_of_others_are_those_that_were_fetched():
    folder = Path(assets.__file__).parents[1] / "static" / "vendor"
    rows = [line.split() for line in (folder / "VERSIONS").read_text().splitlines() if "  " in line]
    assert [name for _, name in rows] == sorted(
        file.name for file in folder.iterdir() if file.suffix in (".js", ".css", ".svg")
    )
    for digest, name in rows:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


def test_a_file_is_cached_forever_at_an_address_of_its_content(report: FlaskClient):
    answer = report.get("/assets/pages.js")
    assert "immutable" in answer.headers["Cache-Control"]
    assert answer.mimetype == "text/javascript"
    assert gzip.decompress(report.get("/assets/pages.js", headers={"Accept-Encoding": "gzip"}).data) == answer.data
    assert report.get("/assets/VERSIONS").status_code == 404
    assert report.get("/assets/../page_access.py").status_code == 404


def test_what_visitors_send_is_text(report: FlaskClient, database: Database):
    described = ("source", "channel", "utm_campaign", "city", "browser", "os", "language", "referrer")
    tell(
        database,
        {"at": "22 10:00:00", "path": f"/{HOSTILE}", **dict.fromkeys(described, HOSTILE[:35])},
        {"at": "22 10:01:00", "event_type": HOSTILE[:64], "props": {HOSTILE: HOSTILE}},
    )
    for path in ["/site/shop", *(f"{part}/shop" for part in (*PARTS, *EXPLORED, *LISTS))]:
        page = report.get(path, query_string={"period": "7d", "f": f"is_not,page,{HOSTILE}", "search": HOSTILE[:1]})
        assert page.status_code == 200, path
        for tag, attributes in Tags(page.text).found:
            assert "onerror" not in attributes, path
            assert tag != "img", path
            assert tag != "script" or attributes["src"], path


def test_the_overview_is_for_browsers_and_others_get_json(report: FlaskClient, services: Services):
    services.sites.put(Site("shop"))
    page = report.get("/", headers=HTML)
    assert 'href="/site/shop"' in page.text
    assert report.get("/", headers={"Accept": "application/json"}).json["name"] == "Footfall: reports"
    assert report.get("/").json["name"] == "Footfall: reports"
    assert {*page.vary} >= {"Accept", "Cookie"}


def test_many_sites_have_several_pages_and_a_search(report: FlaskClient, services: Services):
    for number in range(CARDS + 1):
        services.sites.put(Site(f"site-{number:02}", domains=(f"{number}.example",)))

    def cards(**asked: str | int) -> list[str]:
        return re.findall('href="/site/([^"]+)"><h2>', report.get("/", query_string=asked, headers=HTML).text)

    assert cards() == [f"site-{number:02}" for number in range(CARDS)]
    assert cards(page=2) == ["site-60"]
    assert cards(page=3) == []
    assert cards(search="ITE-1") == [f"site-{number}" for number in range(10, 20)]
    assert cards(search="7.Example") == ["site-07", "site-17", "site-27", "site-37", "site-47", "site-57"]
    page = report.get("/", query_string={"search": "<site>&"}, headers=HTML).text
    assert "Nothing contains “&lt;site&gt;&amp;”." in page
    assert "61 to 61 of 61" in report.get("/?page=2", headers=HTML).text
    assert 'href="?search=site&amp;page=2"' in report.get("/?search=site", headers=HTML).text


def test_a_card_has_the_numbers_of_today(report: FlaskClient, database: Database):
    tell(database, {"at": "22 09:00:00", "path": "/"}, {"at": "22 09:00:01", "path": "/", "user_id": "bob"})
    card = report.get("/parts/card/shop").text
    assert '<span class="v">2</span>' in card
    assert "2 pageviews today" in card
    area, line, open_line = (each.split() for each in re.findall('points="([^"]*)"', card))
    assert (len(area), len(line), open_line) == (15, 13, ["258.5,46.0", "280.0,4.0"])
    assert {point.split(",")[1] for point in line} == {"46.0"}, "no visitor before today"


def test_one_visitor_is_singular(report: FlaskClient, database: Database):
    tell(database, {"at": "22 09:00:00", "path": "/"})
    card = report.get("/parts/card/shop").text
    assert '<span class="v">1</span><span class="k">visitor today</span>' in card
    assert "1 pageview today" in card
    assert "1 visitor, " in report.get("/parts/hero/shop?period=day").text


# Access


@pytest.fixture
def closed(settings: Settings, services: Services) -> FlaskClient:
    """An app with a REPORT_KEY, so that pages need a sign-in."""
    return create_app(replace(settings, report_key="a-report-key-for-tests"), services).test_client()


ALL = [
    "/",
    "/sites",
    *(
        f"{path}/shop"
        for path in (
            "/site",
            "/now",
            "/visitors",
            *PARTS,
            *EXPLORED,
            *LISTS,
            "/parts/first-event",
            "/parts/suggestions",
        )
    ),
    *(f"/csv/{name}/shop" for name in ("pages", "chart", "left-out", *EXPLORATIONS)),
]


def test_every_route_of_pages_is_in_these_tests(report: FlaskClient):
    rules = [rule.rule for rule in report.application.url_map.iter_rules()
             if rule.endpoint.startswith("pages.") and "GET" in (rule.methods or ())]  # fmt: skip
    names = "|".join((*PANELS, *EXPLORATIONS))
    known = {re.sub(rf"^(/parts/panel|/parts/explore|/list|/csv(?=/pages))/({names})/", r"\1/<name>/", path)
             for path in ALL}  # fmt: skip
    assert {rule.replace("<path:site_id>", "shop") for rule in rules} == known - {"/"}


def test_without_a_sign_in_there_is_only_the_way_to_it(closed: FlaskClient, story: None):
    for path in ALL:
        page = closed.get(path, headers=HTML)
        assert page.status_code == 303, path
        assert unquote(page.location) == f"/login?next={path}"
        part = closed.get(path, headers=HTML | {"HX-Request": "true"})
        assert part.status_code == 401, path
        assert part.headers["HX-Redirect"].startswith("/login?next="), path


# Several sites as one


@pytest.fixture
def two_sites(database: Database) -> None:
    """Ann visits both sites, Bob the shop, and Eve the blog."""
    tell(
        database,
        {"at": "22 11:58:00", "path": "/", "country": "DE"},
        {"at": "22 11:58:30", "path": "/", "user_id": "bob"},
        {"at": "22 11:59:00", "site_id": "blog", "path": "/post", "country": "DE"},
        {"at": "22 11:59:30", "site_id": "blog", "path": "/post", "user_id": "eve", "event_type": "signup"},
    )


BOTH = "period=7d&with=blog"


def test_several_sites_as_one_have_the_figures_of_the_api(report: FlaskClient, two_sites: None):
    page = report.get(f"/site/shop?{BOTH}").text
    assert "<title>shop + blog" in page
    assert "A person who visits two of these sites counts as two visitors." in page
    assert "two of these sites" not in report.get("/site/shop?period=7d").text
    body = {"site_id": ["shop", "blog"], "metrics": ["visitors", "visits", "pageviews"], "date_range": "day"}
    (row,) = report.post("/api/v2/query", json=body).json["results"]
    assert re.findall('class="v">([^<]*)<', page)[:3] == [str(n) for n in row["metrics"]] == ["4", "4", "3"]
    assert "<i></i>4 here now" in report.get("/parts/live/shop?with=blog").text
    assert "<i></i>2 here now" in report.get("/parts/live/shop").text
    assert (
        report.get(f"/csv/pages/shop?{BOTH}").text.splitlines()[1:]
        == report.get("/csv/pages/blog?period=7d&with=shop").text.splitlines()[1:]
    )


def test_every_part_shows_several_sites_as_one_and_links_to_them(report: FlaskClient, two_sites: None):
    for path in [*PARTS, *EXPLORED, *LISTS, *(f"/csv/{name}" for name in ("chart", *EXPLORATIONS))]:
        part = report.get(f"{path}/shop?{BOTH}")
        assert part.status_code == 200, path
        attributes = [each for _, found in Tags(part.text).found for each in found.items()]
        links = [str(value) for name, value in attributes if name in ("href", "action", "hx-get") and "?" in str(value)]
        assert [link for link in links if "with=blog" not in link and "assets" not in link] == [], path


def test_what_was_left_out_of_several_sites_is_summed(report: FlaskClient, services: Services, two_sites: None):
    day = services.now().date()
    services.journal.append([Line(Account(site, day), "dropped:refused_by_visitor") for site in ("shop", "blog")])
    assert report.get(f"/csv/left-out/shop?{BOTH}").text.splitlines()[1] == "Refused by the visitor,2"


def test_the_view_of_now_has_the_numbers_of_the_api_and_follows(report: FlaskClient, two_sites: None):
    page = report.get("/now/shop?period=7d").text
    found = report.get("/stats/realtime?site_id=shop").json
    lately = [found[name] for name in ("last_5_minutes", "last_30_minutes")]
    shown = re.findall('class="v">([0-9]+)</span><span class="d">visitors?, ([0-9]+) pageviews?<', page)
    assert shown == [(str(each["visitors"]), str(each["pageviews"])) for each in lately] == [("2", "2"), ("2", "2")]
    assert 'hx-get="/parts/now/shop" hx-trigger="every 5s"' in page
    assert 'href="/site/shop?period=day&amp;f=is,page,/"' in page
    both = report.get(f"/parts/now/shop?{BOTH}").text
    assert re.findall('class="v">([0-9]+)', both) == ["4", "4"]
    assert re.findall("<td>([^<]*)</td>", both) == ["shop", "blog"]
    assert "No pageview in the last 30 minutes." in report.get("/parts/now/unused").text


def test_the_visitors_of_now_are_those_of_the_realtime_report(report: FlaskClient, database: Database):
    times = {"early": "11:55:00.123", "ann": "11:55:00.124", "bob": "12:00:00.123", "late": "12:00:00.124"}
    tell(database, *({"at": f"22 {time}", "user_id": user, "path": "/"} for user, time in times.items()))
    assert report.get("/stats/realtime?site_id=shop").json["last_5_minutes"]["visitors"] == 2
    assert "<i></i>2 here now" in report.get("/parts/live/shop").text
    assert "<i></i>2 here now" in report.get("/parts/card/shop").text


@pytest.mark.parametrize(
    ("mode", "day", "said"), [("previous_period", "2026-11-15", "week"), ("year_over_year", "2025-11-23", "year")]
)
@pytest.mark.usefixtures("two_sites")
def test_the_visitors_of_now_have_the_change_that_the_api_answers(
    report: FlaskClient, database: Database, mode: str, day: str, said: str
):
    times = {"early": "11:55:00", "ann": "11:55:01", "bob": "11:57:00", "eve": "12:00:00", "late": "12:00:01"}
    for user, time in times.items():
        for event in ("pageview", "signup"):
            body = {"site_id": "shop", "event_type": event, "user_id": user, "timestamp": f"{day}T{time}Z"}
            EventStore(database).store([("0-1", load_event(body, NOW))], NOW)
    comparison = {"mode": mode, "match_day_of_week": True}
    minutes = ["2026-11-22T11:55:01+00:00", "2026-11-22T12:00:00+00:00"]
    body = {"site_id": "shop", "metrics": ["visitors"], "date_range": minutes, "include": {"comparisons": comparison}}
    (row,) = report.post("/api/v2/query", json=body).json["results"]
    assert (row["metrics"], row["comparison"]["metrics"], row["comparison"]["change"]) == ([2], [3], [-33])
    text = f"The same 5 minutes a {said} before: 3"
    asked = f"period=7d&compare={mode}"
    assert (
        f'2 here now<span class="d" title="{text}">\N{MINUS SIGN}33%<' in report.get(f"/parts/live/shop?{asked}").text
    )
    assert f'<span class="d down">\N{MINUS SIGN}33%</span> {text}<' in report.get(f"/now/shop?{asked}").text
    german = report.get(f"/parts/live/shop?{asked}", headers={"Accept-Language": "de"}).text
    assert f"Dieselben 5 Minuten {'eine Woche' if said == 'week' else 'ein Jahr'} zuvor: 3" in german
    assert "+33%" in report.get(f"/parts/live/shop?{asked}&with=blog").text
    for path in ("shop?period=7d&compare=none", f"blog?{asked}"):
        assert "before" not in report.get(f"/parts/live/{path}").text, "there is nothing to compare with"


def test_ai_crawlers_are_listed_by_name(report: FlaskClient, services: Services):
    crawlers, day = "/parts/left-out/shop?period=7d&tab=crawlers", services.now().date()
    assert "Nothing was left out" in report.get(crawlers).text
    services.journal.append([Line(Account("shop", day), "dropped-later:bot") for _ in range(2)])
    assert "No AI crawler was left out" in report.get(crawlers).text
    services.journal.append([Line(Account("shop", day), "dropped-later:ai_crawler:GPTBot")])
    assert "GPTBot" in report.get(crawlers).text
    assert "GPTBot" not in report.get("/parts/left-out/shop?period=7d").text
    rows = report.get("/csv/left-out/shop?period=7d").text.splitlines()[1:]
    assert rows == ["Bots and crawlers,2", "AI crawlers: GPTBot,1"]


def test_every_day_of_the_period_is_among_the_days_that_left_events_out(report: FlaskClient, services: Services):
    first = services.now().date() - timedelta(days=20)
    days = [first + timedelta(days=n) for n in range(21)]
    services.journal.append([Line(Account("shop", day), "dropped-later:bot") for day in days])
    part = report.get("/parts/left-out/shop?period=30d&tab=days").text
    assert len(re.findall('class="row"', part)) == len(days)
    assert '<ol class="scrolled" tabindex="0"' in part
    rows = report.get("/csv/left-out/shop?period=30d&tabs=left_out.days").text.splitlines()
    assert rows == ["day,events", *(f"{day},1" for day in days)]


def test_sites_of_other_time_zones_are_not_shown_as_one(report: FlaskClient, services: Services, two_sites: None):
    services.sites.put(Site("blog", zone=ZoneInfo("Asia/Tokyo")))
    page = report.get(f"/site/shop?{BOTH}")
    assert page.status_code == 200
    assert "Expected sites with the same time zone but got shop UTC, blog Asia/Tokyo" in page.text
    assert "Choose other sites." in page.text


def test_a_viewer_needs_a_role_for_each_of_several_sites(settings: Settings, services: Services, two_sites: None):
    make_member(services.accounts, "max@example.org", "shop", Role.EDITOR)
    max_ = Browser(create_app(replace(settings, report_key="a-report-key-for-tests"), services))
    max_.sign_in("max@example.org")
    for path in ("/site", *PARTS, *EXPLORED, *LISTS, "/csv/chart", "/parts/suggestions", "/parts/first-event"):
        if path != "/parts/card":
            assert (max_.get(f"{path}/shop?{BOTH}").status_code, path) == (403, path)
    assert max_.get("/site/shop?period=7d").status_code == 200
    make_owner(services.accounts, "olga@example.org")
    olga = Browser(max_.client.application)
    olga.sign_in("olga@example.org")
    page = olga.get(f"/site/shop?{BOTH}").text
    assert "Annotate" not in page
    assert "Annotate" in olga.get("/site/shop?period=7d").text


def test_the_form_of_sites_leads_to_the_first_with_the_others(report: FlaskClient):
    chosen = report.get("/sites?period=7d&f=is,country,DE&with=a%26b&with=blog&with=%2F%2Fevil.example")
    assert chosen.location == "/site/a%26b?period=7d&f=is%2Ccountry%2CDE&with=blog&with=%2F%2Fevil.example"
    assert report.get("/sites?with=//evil.example").location == "/site///evil.example"
    assert report.get("/sites").location == "/"


# States


Breaking = Callable[[Exception], FlaskClient]


@pytest.fixture
def breaking(settings: Settings, services: Services) -> Breaking:
    """An app whose queries and counts raise an exception."""

    class Broken:
        def __init__(self, error: Exception) -> None:
            self._error = error

        def budget(self, key: str = "") -> None:
            return

        def answer(self, query: object, budget: object) -> Answer:
            raise self._error

        def earliest_of(self, site_ids: list[str], budget: object = None) -> None:
            return

        def has_data(self, site_ids: list[str]) -> bool:
            return bool(site_ids)

        def read(self, site_id: str) -> None:
            raise self._error

        def visitors(self, site_id: str, period: object) -> int:
            raise self._error

        def of_site(self, site_id: str, first: date, last: date) -> None:
            raise self._error

        def check(self) -> None:
            return

    def app_with(error: Exception) -> FlaskClient:
        broken = copy(services)
        vars(broken).update(dict.fromkeys(("reports", "realtime", "ledger"), Broken(error)))
        return create_app(settings, broken).test_client()

    return app_with


@pytest.mark.parametrize(
    ("error", "said", "retries"),
    [(Refused("time_limit", "The query takes longer than 20 s."), "This takes too long", False),
     (Refused("busy", "Too many queries."), "Other queries are running", True),
     (Unavailable("mongodb", Exception("gone")), "MongoDB is not reachable", True),
     (Unavailable(SEGMENTS_STORE, NotBuiltYet("50,000 events")), "Segments are not built yet", True)],
)  # fmt: skip
def test_a_part_without_an_answer_says_what_to_do(breaking: Breaking, error: Exception, said: str, retries: bool):
    app = breaking(error)
    for path in ("/parts/panel/pages/shop?period=7d", "/parts/hero/shop?period=7d"):
        part = app.get(path)
        assert part.status_code == 503
        assert said in part.text
        assert ('hx-trigger="load delay:2s"' in part.text) is retries
    assert 'id="hero"' in part.text


def test_a_panel_whose_query_takes_too_long_offers_a_shorter_period(breaking: Breaking):
    app = breaking(Refused("time_limit", "slow"))
    for asked, offered in (("30d", "7d"), ("7d", "day")):
        part = app.get(f"/parts/panel/pages/shop?period={asked}&f=is,country,DE").text
        assert f'href="/site/shop?period={offered}&amp;f=is,country,DE"' in part
    for path in ("/parts/panel/pages/shop?period=day", "/parts/card/shop"):
        assert "/site/shop" not in app.get(path).text


@pytest.mark.parametrize("path", ["/parts/panel/pages/shop", "/list/pages/shop"])
def test_a_bug_and_an_outage_are_html_in_pages_and_in_parts(breaking: Breaking, path: str):
    bug = breaking(ValueError("a bug")).get(f"{path}?period=7d")
    assert (bug.status_code, bug.mimetype, "a bug" in bug.text) == (500, "text/html", False)
    outage = breaking(Unavailable("redis", Exception("gone"))).get(f"{path}?period=7d")
    assert (outage.status_code, outage.headers["Retry-After"]) == (503, "1")
    assert "Redis is not reachable" in outage.text


@pytest.mark.parametrize("path", [*PARTS, "/parts/first-event", "/parts/suggestions"])
def test_a_part_that_asks_again_replaces_itself_and_a_part_that_polls_keeps_what_it_shows(
    breaking: Breaking, path: str
):
    part = breaking(Refused("busy", "Too many queries.")).get(f"{path}/shop?period=7d&dimension=page")
    assert part.status_code == 503
    retries = [attributes for _, attributes in Tags(part.text).found if "hx-get" in attributes]
    if path in ("/parts/live", "/parts/now", "/parts/first-event", "/parts/suggestions"):
        assert (part.headers["HX-Reswap"], part.text) == ("none", "")
        return
    assert [(each["hx-target"], each["hx-swap"]) for each in retries] == [
        ("#hero" if path == "/parts/hero" else "this", "outerHTML")
    ]
    assert str(retries[0]["hx-get"]).startswith(f"{path}/shop?period=7d")


def test_figures_that_are_not_up_to_date_say_as_of_when_they_are(settings: Settings, services: Services, story: None):
    class Behind:
        def __getattr__(self, name: str) -> object:
            return getattr(services.reports, name)

        def answer(self, query: Query, budget: Budget | None = None) -> Answer:
            answer = services.reports.answer(query, budget)
            return replace(answer, as_of=datetime(2026, 11, 22, 11, 59, tzinfo=UTC))

    behind = copy(services)
    vars(behind)["reports"] = Behind()
    for app, said in ((settings, services), False), ((settings, behind), True):
        page = create_app(*app).test_client().get("/site/shop?period=7d").text
        assert (re.search("As of [^<]*11:59[^<]*: newer events are still being read", page) is not None) is said


def test_a_page_does_not_wait_for_slow_figures(breaking: Breaking):
    page = breaking(Refused("time_limit", "slow")).get("/site/shop?period=7d")
    assert page.status_code == 200
    assert 'hx-get="/parts/hero/shop?period=7d" hx-trigger="load"' in page.text
    assert 'aria-busy="true"' in page.text


def test_a_page_without_a_period_does_not_wait_for_the_first_event(settings: Settings, services: Services):
    class Slow:
        budgets: ClassVar[list[Budget]] = []

        def earliest_of(self, site_ids: list[str], budget: Budget) -> None:
            self.budgets.append(budget)
            raise budget.refusal()

        def answer(self, query: object, budget: Budget) -> Answer:
            self.budgets.append(budget)
            raise budget.refusal()

        def has_data(self, site_ids: list[str]) -> bool:
            return bool(site_ids)

        def check(self) -> None:
            return

    slow = copy(services)
    vars(slow)["reports"] = Slow()
    page = create_app(settings, slow).test_client().get("/site/shop")
    assert page.status_code == 200
    assert 'hx-get="/parts/hero/shop?period=30d" hx-trigger="load"' in page.text
    assert len(Slow.budgets) == 2
    assert Slow.budgets[0] is Slow.budgets[1]


@pytest.mark.parametrize("path", ["/parts/live", "/parts/card"])
def test_a_part_without_a_period_does_not_ask_for_the_first_event(services: Services, settings: Settings, path: str):
    class Counting:
        asked = 0

        def earliest_of(self, site_ids: list[str], budget: object = None) -> None:
            Counting.asked += 1

        def __getattr__(self, name: str) -> object:
            return getattr(services.reports, name)

    counting = copy(services)
    vars(counting)["reports"] = Counting()
    assert create_app(settings, counting).test_client().get(f"{path}/shop").status_code == 200
    assert Counting.asked == 0


def test_an_invalid_filter_is_explained_and_can_be_removed(report: FlaskClient, story: None):
    page = report.get("/site/shop?period=7d&f=is,country,Germany")
    assert "needs to be a valid 2-letter country code" in page.text
    assert 'aria-label="Remove the filter Country"' in page.text
    assert report.get("/parts/panel/pages/shop?period=7d&f=is,country,Germany").status_code == 400


def test_an_unknown_site_is_a_page_in_production(settings: Settings, services: Services):
    make_owner(services.accounts, "owner@example.org")
    browser = Browser(create_app(replace(settings, app_env="production", secret_key="x" * 16), services))
    assert browser.sign_in("owner@example.org").status_code == 303
    page = browser.get(f"/site/{uuid4()}")
    assert (page.status_code, "There is no such site" in page.text) == (404, True)


def test_a_site_without_events_shows_the_snippet_and_says_what_was_left_out(
    report: FlaskClient, services: Services, settings: Settings
):
    page = report.get("/site/unused").text
    assert f"http://localhost:{settings.ingestion_port}/js/footfall.js" in page
    by_address = report.get("/site/unused", headers={"Host": "[::1]:3001"}).text
    assert f"http://[::1]:{settings.ingestion_port}/js/footfall.js" in by_address
    assert "No event is stored yet" in page
    services.journal.append([Line(Account("unused", services.now().date()), "dropped:refused_by_visitor")])
    assert "Refused by the visitor" in report.get("/parts/first-event/unused").text
    services.journal.append([Line.of(load_event({"site_id": "unused", "event_type": "pageview"}, services.now()))])
    assert "1 event arrived, and will be stored soon" in report.get("/parts/first-event/unused").text
    for way in ("pixel.gif?site_id=unused", "/event -d", "footfall import FILE --site unused"):
        assert way in page


def test_the_first_event_opens_the_dashboard(report: FlaskClient, database: Database):
    assert "HX-Refresh" not in report.get("/parts/first-event/fresh").headers
    tell(database, {"at": "22 10:00:00", "path": "/", "site_id": "fresh"})
    assert report.get("/parts/first-event/fresh").headers["HX-Refresh"] == "true"


def test_figures_that_follow_load_the_page_again_if_the_site_has_no_event(report: FlaskClient, database: Database):
    """The page could not know it in time. Loaded again, it shows the snippet."""
    assert report.get("/parts/hero/fresh?period=30d").headers["HX-Refresh"] == "true"
    tell(database, {"at": "22 10:00:00", "path": "/", "site_id": "fresh"})
    assert "HX-Refresh" not in report.get("/parts/hero/fresh?period=30d").headers


def test_panels_ask_again_only_if_their_question_changed(report: FlaskClient, story: None):
    def triggers(path: str) -> bool:
        headers = {"HX-Request": "true", "HX-Current-URL": "http://localhost/site/shop?period=7d"}
        return "question" in report.get(path, headers=headers).headers.get("HX-Trigger-After-Settle", "")

    assert triggers("/site/shop?period=7d&f=is,country,DE")
    assert triggers("/site/shop?period=day")
    assert not triggers("/site/shop?period=7d&figure=visits&grain=hour")


def test_a_site_id_may_hold_slashes_and_spaces(report: FlaskClient, database: Database):
    tell(database, {"at": "22 10:00:00", "path": "/", "site_id": "a//b c/d"})
    page = report.get("/site/a//b%20c/d?period=7d").text
    assert 'hx-get="/parts/panel/pages/a//b%20c/d"' in page
    assert '<span class="n">1</span>' in report.get("/parts/panel/pages/a//b%20c/d?period=7d").text


def test_the_page_compares_with_two_dates_as_the_api_does(report: FlaskClient, story: None):
    own = "from=2026-11-21&to=2026-11-21&compare_from=2026-11-20&compare_to=2026-11-20"
    page = report.get(f"/site/shop?{own}").text
    assert "vs. own dates" in page
    assert 'name="compare_from" required max=' in page
    comparison = {"mode": "custom", "date_range": ["2026-11-20", "2026-11-20"]}
    query = {"site_id": "shop", "metrics": ["visitors"], "date_range": ["2026-11-21", "2026-11-21"]}
    answer = report.post("/api/v2/query", json=query | {"include": {"comparisons": comparison}}).json
    before = answer["results"][0]["comparison"]["metrics"][0]
    assert before > 0
    assert re.findall('title="Before: ([^"]*)"', page)[0] == str(before)
    assert "20 Nov 2026" in page
    assert report.get("/site/shop?period=7d&compare_from=0001-01-01&compare_to=9999-12-31").status_code in (200, 400)
