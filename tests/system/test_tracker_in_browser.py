"""The tracker in a real Chromium against the whole running system.

The pages have another origin and a strict Content-Security-Policy. What happens on a page is in the reports exactly
once, also if a part of the system is unreachable meanwhile.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import httpx
import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By

from analytics.events.arrival import place_of
from tests.support.browser import Listener, Pages, Quiet, chromium
from tests.support.running_system import System, kill_if_there, wait_for

# Shows what waits. It is used after the script has run. Actions on the page use execute_script, which no
# Content-Security-Policy forbids.
WAITING = "return Object.keys(localStorage).filter((key) => key.startsWith('footfall '))"
READY = "return document.readyState == 'complete' && typeof footfall == 'function'"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture
def pages(system: System) -> Iterator[Pages]:
    """An origin and a site for each test."""
    with Pages(system.ingest, f"site-{uuid4().hex[:12]}") as pages:
        yield pages


class Visitor:
    """The user of the browser."""

    def __init__(self, driver: webdriver.Chrome, pages: Pages) -> None:
        self.driver = driver
        self.pages = pages

    def open(self, path: str) -> None:
        self.driver.get(self.pages.origin + path)
        wait_for(lambda: self.run(READY), "the page and its tracker")

    def run(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(script, *values)

    def do(self, name: str, **options: Any) -> None:
        """Sends a custom event."""
        self.run("footfall(...arguments)", name, options)

    def click(self, id_: str) -> None:
        self.driver.find_element(By.ID, id_).click()

    def open_tab(self) -> str:
        """Opens another tab and switches to it. Returns the previous tab."""
        before = self.driver.current_window_handle
        self.driver.switch_to.new_window("tab")
        return before

    def close_tab(self, back_to: str) -> None:
        self.driver.close()
        self.driver.switch_to.window(back_to)

    def waiting(self) -> list[str]:
        return self.run(WAITING)

    def has_nothing_waiting(self) -> bool:
        return not self.waiting()


@pytest.fixture
def visitor(driver: webdriver.Chrome, pages: Pages) -> Iterator[Visitor]:
    yield Visitor(driver, pages)
    first, *others = driver.window_handles
    for tab in others:
        driver.switch_to.window(tab)
        driver.close()
    driver.switch_to.window(first)
    driver.get("about:blank")


class Records:
    """The stored events of a site."""

    def __init__(self, system: System, site: str) -> None:
        self.system = system
        self.site = site

    def all(self) -> list[dict[str, Any]]:
        """In the order in which they happened; events of one millisecond in the order in which they arrived."""
        with self.system.database() as database:
            found = database["events"].find({"site_id": self.site})
            return sorted(found, key=lambda event: (event["timestamp"], place_of(event)))

    def but_engagement(self) -> list[dict[str, Any]]:
        return [event for event in self.all() if event["event_type"] != "engagement"]

    def expect(self, *expected: tuple[str, Any], by: str = "path") -> list[dict[str, Any]]:
        """Waits until this number of events is stored, without engagement, and compares each one's type and `by`."""
        wait_for(lambda: len(self.but_engagement()) >= len(expected), f"{expected}, but {self.all()}", 20)
        found = self.but_engagement()
        assert Counter((event["event_type"], event.get(by)) for event in found) == Counter(expected)
        return found

    def ask(self, metrics: list[str], dimensions: list[str], **more: Any) -> dict[tuple[str, ...], list[Any]]:
        question = {"site_id": self.site, "metrics": metrics, "dimensions": dimensions, "date_range": "all", **more}
        answer = httpx.post(f"{self.system.report}/api/v2/query", json=question)
        assert answer.status_code == 200, answer.text
        return {tuple(row["dimensions"]): row["metrics"] for row in answer.json()["results"]}


@pytest.fixture
def records(system: System, pages: Pages) -> Records:
    return Records(system, pages.site)


def view(path: str) -> tuple[str, str]:
    return ("pageview", path)


def test_a_pageview_is_in_the_report_with_its_page_and_where_the_visitor_came_from(
    system: System, visitor: Visitor, records: Records
):
    visitor.pages.links = f'<a id="here" href="{visitor.pages.origin}/pricing?utm_source=letter#plans">Pricing</a>'
    visitor.driver.get(f"http://localhost:{visitor.pages.port}/elsewhere")
    visitor.pages.links = ""
    wait_for(lambda: visitor.run(READY), "the page elsewhere")
    visitor.click("here")
    found = records.expect(view("/elsewhere"), ("Outbound Link: Click", "/elsewhere"), view("/pricing"))
    (event,) = (event for event in found if event["path"] == "/pricing")
    assert event["referrer"] == f"http://localhost:{visitor.pages.port}/"
    assert event["hostname"] == "127.0.0.1"
    assert event["utm_source"] == "letter"
    answer = httpx.get(f"{system.report}/stats", params={"site_id": records.site}).json()
    assert answer["total_views"] == 2
    assert answer["unique_users"] == 1
    assert {"path": "/pricing", "views": 1} in answer["top_paths"]
    assert visitor.driver.get_cookies() == []


def test_the_routes_of_a_single_page_app_are_pageviews_only_if_the_path_changes(visitor: Visitor, records: Records):
    visitor.open("/")
    visitor.run("history.pushState({}, '', '/a'); history.replaceState({ at: 1 }, '', '/a?sorted=yes')")
    visitor.run("history.replaceState({}, '', '/b')")
    visitor.run("location.hash = 'below'")
    visitor.run("history.pushState({}, '', '/c')")
    visitor.driver.back()
    wait_for(lambda: visitor.run("return location.pathname") == "/b", "the way back")
    found = records.expect(view("/"), view("/a"), view("/b"), view("/c"), view("/b"))
    assert [event.get("path") for event in found] == ["/", "/a", "/b", "/c", "/b"]


def test_with_data_hash_the_hash_is_part_of_the_page(visitor: Visitor, records: Records):
    visitor.pages.attributes = "data-hash"
    visitor.open("/app#/")
    visitor.run("location.hash = '/settings?token=secret'")
    wait_for(lambda: "settings" in visitor.run("return location.hash"), "the route")
    visitor.run("history.pushState({}, '', '#/profile')")
    visitor.run("history.pushState({}, '', '#plain')")
    found = records.expect(view("/app#/"), view("/app#/settings"), view("/app#/profile"), view("/app#plain"))
    assert "secret" not in json.dumps(found, default=str)


def test_a_custom_event_s_props_and_revenue_reach_a_query_also_when_it_came_before_the_script(
    visitor: Visitor, records: Records
):
    visitor.pages.before = """
      window.footfall = window.footfall || function () { (footfall.q = footfall.q || []).push(arguments) }
      footfall('Signup', { props: { plan: 'pro', seats: 3 }, revenue: { amount: '49.90', currency: 'USD' } })
    """
    visitor.open("/")
    visitor.do("Signup", props={"plan": "basic"}, revenue={"amount": 10.1, "currency": "USD"})
    visitor.do("Cancel")
    found = records.expect(view("/"), ("Signup", "/"), ("Signup", "/"), ("Cancel", "/"))
    assert found[0]["event_type"] == "pageview"
    by_plan = records.ask(["events", "total_revenue"], ["event:props:plan"], filters=[["is", "event:name", ["Signup"]]])
    assert {plan: (events, money["value"]) for (plan,), (events, money) in by_plan.items()} == {
        "pro": (1, 49.9),
        "basic": (1, 10.1),
    }


def test_the_events_before_a_sign_in_are_those_of_the_user(visitor: Visitor, records: Records):
    assert records.system.run_footfall("sites", "set", records.site, "assigns_visits=true").returncode == 0
    visitor.open("/before")
    records.expect(view("/before"))
    visitor.run("footfall.identify('ann')")
    visitor.do("Signup")
    found = records.expect(view("/before"), ("identify", "/before"), ("Signup", "/before"))
    assert [event.get("user_id") for event in found if event["event_type"] == "identify"] == ["ann"]

    def is_one_user() -> bool:
        return {event.get("user_id") for event in records.all()} == {"ann"}

    wait_for(is_one_user, "the visit to be assigned", 60)
    assert records.ask(["visitors", "visits"], []) == {(): [1, 1]}


def test_the_script_named_as_plausible_s_understands_its_tag_and_its_function(visitor: Visitor, records: Records):
    visitor.pages.script, visitor.pages.names_site = "/js/script.hash.local.tagged-events.js", "data-domain"
    visitor.pages.attributes = 'event-author="ann"'
    visitor.pages.before = """
      window.plausible = window.plausible || function () { (plausible.q = plausible.q || []).push(arguments) }
      plausible.init = plausible.init || function (options) { plausible.o = options || {} }
      plausible.init()
      plausible('Early', { props: { n: 1 } })
    """
    visitor.pages.links = """
      <a id="tagged" class="big plausible-event-name=Buy+now plausible-event-plan--pro" href="#/cart">Buy</a>
      <form class="plausible-event-name=Contact"><button id="contact" type="button">Do not send</button></form>
    """
    visitor.open("/shop#/start")
    visitor.run("""plausible('Signup', {
      u: '/join', revenue: { amount: 10, currency: 'EUR' }, callback: (answer) => { window.said = answer.status } })""")
    wait_for(lambda: visitor.run("return window.said") == 202, "the callback")
    visitor.click("contact")
    visitor.click("tagged")
    visitor.run("document.querySelector('form').addEventListener('submit', (event) => event.preventDefault())")
    visitor.run("document.querySelector('form').requestSubmit()")
    found = records.expect(
        view("/shop#/start"), ("Early", "/shop#/start"), ("Signup", "/join"), ("Buy now", "/shop#/start"),
        view("/shop#/cart"), ("Contact", "/shop#/cart"),
    )  # fmt: skip
    props = {(event["event_type"], event["path"]): event.get("props") for event in found}
    assert props[view("/shop#/start")] == {"author": "ann"}
    assert props["Early", "/shop#/start"] == {"author": "ann", "n": 1}
    assert props["Buy now", "/shop#/start"] == {"author": "ann", "plan": "pro"}
    wait_for(visitor.has_nothing_waiting, "an empty queue")


def test_the_script_named_as_umami_s_understands_its_tag_and_its_object(visitor: Visitor, records: Records):
    visitor.pages.script, visitor.pages.names_site = "/script.js", "data-website-id"
    visitor.pages.attributes = 'data-domains="a.example, 127.0.0.1"'
    visitor.pages.links = '<button id="tagged" data-umami-event="Buy" data-umami-event-plan="pro">Buy</button>'
    visitor.open("/shop")
    visitor.run("umami.track('Signup', { seats: 3 })")
    visitor.run("umami.track((given) => ({ ...given, url: '/virtual', title: 'Virtual' }))")
    visitor.run("umami.identify('user-7')")
    visitor.click("tagged")
    found = records.expect(view("/shop"), ("Signup", "/shop"), view("/virtual"), ("Buy", "/virtual"))
    told = {event["event_type"]: event for event in found}
    assert told["Signup"]["props"] == {"seats": 3}
    assert told["Buy"]["props"] == {"plan": "pro"}
    assert (told["Buy"]["user_id"], "user_id" in told["Signup"]) == ("user-7", False)


@pytest.mark.parametrize(
    ("script", "names_site", "attribute"),
    [
        ("/js/plausible.local.js", "data-domain", 'data-api="{}/api/event"'),
        ("/script.js", "data-website-id", 'data-host-url="{}/"'),
    ],
)
def test_events_go_where_the_tag_of_another_system_says(
    visitor: Visitor, records: Records, script: str, names_site: str, attribute: str
):
    """The page's policy allows no other address."""
    pages, other = visitor.pages, visitor.pages.tracker.replace("127.0.0.1", "localhost")
    pages.script, pages.names_site, pages.may_connect_to = script, names_site, other
    pages.attributes = attribute.format(other)
    visitor.open("/shop")
    records.expect(view("/shop"))


@pytest.mark.parametrize(
    ("script", "attributes", "before"),
    [
        ("/js/script.js", 'data-domain="{site}"', ""),  # a page on 127.0.0.1, and no `local` in the name
        ("/js/script.local.js", 'data-domain="{site}"', "localStorage.plausible_ignore = 'true'"),
        ("/js/script.local.manual.js", 'data-domain="{site}"', ""),
        ("/script.js", 'data-website-id="{site}" data-domains="a.example"', ""),
        ("/script.js", 'data-website-id="{site}" data-auto-track="false"', ""),
        ("/script.js", 'data-website-id="{site}"', "localStorage['umami.disabled'] = 1"),
    ],
)
def test_a_page_that_another_system_s_script_would_not_count_is_not_counted(
    visitor: Visitor, script: str, attributes: str, before: str
):
    pages = visitor.pages
    pages.script, pages.names_site, pages.before = script, "data-unused", before
    pages.attributes = attributes.format(site=pages.site)
    visitor.open("/")
    assert visitor.has_nothing_waiting()
    assert not visitor.run("return performance.getEntriesByType('resource').some(({ name }) => name.includes('/api/'))")


def test_the_extras_count_forms_tagged_elements_missing_pages_and_web_vitals(visitor: Visitor, records: Records):
    visitor.pages.links = f"""
      <script defer src="{visitor.pages.tracker}/js/footfall.extras.js"></script>
      <h1>A large text, which is painted</h1>
      <button id="buy" data-footfall-event="Buy" data-footfall-prop-plan-name="pro"><b>Buy</b></button>
      <form id="contact"></form>
      <form id="tagged" data-footfall-event="Newsletter"></form>
    """
    visitor.pages.before = """
      window.interactions = []
      const seen = (list) => interactions.push(...list.getEntries().filter(({ interactionId }) => interactionId))
      new PerformanceObserver(seen).observe({ type: 'event', durationThreshold: 16 })
      document.addEventListener('click', () => { for (const end = performance.now() + 80; performance.now() < end;); })
    """
    visitor.open("/missing")
    wait_for(lambda: visitor.run("return performance.getEntriesByType('paint').length") > 0, "a painted page")
    visitor.click("buy")
    wait_for(lambda: visitor.run("return interactions.length") > 0, "the duration of the click")
    stay = "document.addEventListener('submit', (event) => event.preventDefault());"
    visitor.run(f"{stay} for (const form of document.forms) form.requestSubmit()")
    visitor.open("/next")
    visitor.pages.links = visitor.pages.links.replace("defer", "defer data-without='forms, missing, tagged'")
    visitor.open("/missing-too")
    visitor.run(f"{stay} for (const form of document.forms) form.requestSubmit()")
    visitor.open("/")
    found = records.expect(
        view("/missing"), ("404", "/missing"), ("Buy", "/missing"), ("Form: Submission", "/missing"),
        ("Newsletter", "/missing"), ("Web Vitals", "/missing"), view("/next"), ("Web Vitals", "/next"),
        view("/missing-too"), ("Web Vitals", "/missing-too"), view("/"),
    )  # fmt: skip
    props = {(event["event_type"], event["path"]): event.get("props") for event in found}
    assert props["Buy", "/missing"] == {"planName": "pro"}
    assert props["Form: Submission", "/missing"] == {"form": "contact"}
    vitals = props["Web Vitals", "/missing"]
    assert 0 < vitals["LCP"] < 60_000
    assert 0 <= vitals["CLS"] < 1
    assert 72 <= vitals["INP"] < 60_000, "browsers round durations to 8 ms"
    names = ("LCP", "INP", "CLS")
    of_page = {"filters": [["is", "event:page", ["/missing"]]]}
    (percentiles,) = records.ask([f"p75:props:{name}" for name in names], [], **of_page).values()
    assert percentiles == pytest.approx([vitals[name] for name in names], abs=0.01)


def test_events_of_one_millisecond_keep_their_order(visitor: Visitor, records: Records):
    visitor.open("/")
    visitor.run("for (let n = 0; n < 40; n++) footfall('Step', { props: { n } })")
    wait_for(lambda: len(records.but_engagement()) == 41, "all steps")
    steps = [event for event in records.all() if event["event_type"] == "Step"]
    assert [event["props"]["n"] for event in steps] == [*range(40)]
    assert len({event["timestamp"] for event in steps}) == 40


def test_outbound_links_and_downloads_are_events_and_other_links_are_not(visitor: Visitor, records: Records):
    port = visitor.pages.port
    visitor.pages.links = f"""
      <a id="out" target="_blank" href="http://localhost:{port}/there?secret=1#x"><b id="inside">Out</b></a>
      <a id="file" href="/files/price-list.PDF?secret=1">File</a> <a id="plain" href="/files/plain.pdf">File</a>
      <a id="named" download href="/report">File</a> <a id="mail" href="mailto:ann@example.org">Mail</a>
      <a id="in" href="/next">In</a>"""
    visitor.open("/")
    visitor.run("document.addEventListener('click', (event) => event.preventDefault())")
    for link in ("inside", "file", "named", "mail", "in"):
        visitor.click(link)
    visitor.run(
        "document.getElementById('out').dispatchEvent(new MouseEvent('auxclick', { button: 1, bubbles: true }))"
    )
    visitor.run(
        "document.getElementById('out').dispatchEvent(new MouseEvent('auxclick', { button: 2, bubbles: true }))"
    )
    found = records.expect(
        view("/"), ("Outbound Link: Click", "/"), ("Outbound Link: Click", "/"),
        ("File Download", "/"), ("File Download", "/"),
    )  # fmt: skip
    assert Counter(event["props"]["url"] for event in found[1:]) == {
        f"http://localhost:{port}/there": 2,
        f"{visitor.pages.origin}/files/price-list.PDF": 1,
        f"{visitor.pages.origin}/report": 1,
    }


def test_a_click_that_leaves_the_page_is_still_counted(visitor: Visitor, records: Records):
    visitor.pages.links = f'<a id="out" href="http://localhost:{visitor.pages.port}/there">Out</a>'
    visitor.open("/")
    visitor.click("out")
    records.expect(view("/"), view("/there"), ("Outbound Link: Click", "/"))


def page_clock_goes_on(visitor: Visitor, milliseconds: int) -> None:
    start = visitor.run("return performance.now()")
    wait_for(lambda: visitor.run("return performance.now()") > start + milliseconds, "the page's clock")


def engagement(records: Records, path: str) -> list[dict[str, Any]]:
    return [event for event in records.all() if event["event_type"] == "engagement" and event["path"] == path]


def test_the_report_has_time_on_page_without_hidden_time_and_scroll_depth(visitor: Visitor, records: Records):
    came = time.monotonic()
    visitor.open("/long")
    visitor.run("scrollTo(0, 4000 * 0.6 - innerHeight)")
    page_clock_goes_on(visitor, 1300)
    first = visitor.open_tab()
    left = time.monotonic()
    wait_for(lambda: engagement(records, "/long"), "what is told when a tab is hidden", 10)
    page_clock_goes_on(visitor, 3000)  # the visitor is in the other tab
    came_back = time.monotonic()
    visitor.close_tab(first)
    visitor.run("history.pushState({}, '', '/short')")
    left_again = time.monotonic()
    visitor.open("/last")
    records.expect(view("/long"), view("/short"), view("/last"))
    told = engagement(records, "/long")
    assert {event["scroll_depth"] for event in told} == {60}
    looked = sum(event["engagement_time"] for event in told)
    assert 1300 <= looked <= 1000 * (left - came + left_again - came_back)
    pages = records.ask(["time_on_page", "scroll_depth"], ["event:page"])
    assert pages[("/long",)] == [round(looked / 1000), 60]


REFUSALS = ["{ get: () => true }", "globalPrivacyControl"], ["{ get: () => '1' }", "doNotTrack"]


@pytest.mark.parametrize(("what", "name"), REFUSALS)
def test_with_data_dnt_a_visitor_who_asks_not_to_be_tracked_is_not_counted(
    visitor: Visitor, records: Records, what: str, name: str
):
    script = {"source": f"Object.defineProperty(navigator, '{name}', {what})"}
    added = visitor.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
    try:
        visitor.pages.attributes = "data-dnt"
        visitor.open("/not-counted")
        visitor.do("Not counted")
        assert visitor.waiting() == []
        visitor.pages.attributes = ""
        visitor.open("/counted")
        records.expect(view("/counted"))
    finally:
        visitor.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def test_with_data_dnt_all_other_visitors_are_counted(visitor: Visitor, records: Records):
    visitor.pages.attributes = "data-dnt"
    visitor.open("/counted")
    records.expect(view("/counted"))


def test_a_visitor_who_opts_out_sends_nothing_and_waiting_events_are_discarded(visitor: Visitor, records: Records):
    visitor.open("/before")
    records.expect(view("/before"))
    visitor.run("localStorage.footfall_optout = 1; footfall('Not counted')")
    wait_for(visitor.has_nothing_waiting, "an empty queue")
    visitor.open("/meanwhile")
    wait_for(visitor.has_nothing_waiting, "an empty queue")
    visitor.run("delete localStorage.footfall_optout")
    visitor.open("/after")
    records.expect(view("/before"), view("/after"))


def test_an_opt_out_link_needs_no_script(visitor: Visitor, records: Records):
    visitor.pages.links = '<a id="out" href="#footfall_optout">Do not count me</a>'
    visitor.open("/before")
    records.expect(view("/before"))
    visitor.click("out")
    wait_for(lambda: visitor.run("return localStorage.footfall_optout") == "1", "the flag")
    visitor.do("Not counted")
    visitor.open("/meanwhile")
    wait_for(visitor.has_nothing_waiting, "an empty queue")
    visitor.run("delete localStorage.footfall_optout")
    visitor.open("/after")
    records.expect(view("/before"), view("/after"))


def test_a_tab_that_is_closed_sends_its_time_on_page(visitor: Visitor, records: Records):
    first = visitor.open_tab()
    visitor.open("/")
    page_clock_goes_on(visitor, 1100)
    visitor.close_tab(first)
    wait_for(lambda: engagement(records, "/"), "engagement, with no page left that could send it", 10)


def test_excluded_pages_are_not_counted(visitor: Visitor, records: Records):
    visitor.pages.attributes = 'data-exclude="/admin/**, /*/draft,/a.b"'
    for path in ("/admin/users/7", "/posts/draft"):
        visitor.open(path)
        visitor.do("Not counted")
    visitor.run("history.pushState({}, '', '/posts/2026/draft')")
    visitor.run("history.pushState({}, '', '/a.b')")
    visitor.run("history.pushState({}, '', '/axb')")
    records.expect(view("/posts/2026/draft"), view("/axb"))


def test_with_data_manual_only_explicit_calls_are_counted(visitor: Visitor, records: Records):
    visitor.pages.attributes = "data-manual"
    visitor.open("/users/7")
    page_clock_goes_on(visitor, 1100)
    visitor.run("history.pushState({}, '', '/users/8')")
    visitor.do("pageview", url="https://shop.example/users/:id", props={"role": "admin"})
    page_clock_goes_on(visitor, 1100)
    visitor.do("Save")
    visitor.driver.get("about:blank")
    records.expect(view("/users/:id"), ("Save", "/users/:id"))
    wait_for(lambda: len(records.all()) == 3, "engagement, of the page that was counted only")
    assert {(event["path"], event["hostname"]) for event in records.all()} == {("/users/:id", "shop.example")}


def test_a_page_that_comes_back_from_the_back_forward_cache_is_another_pageview(visitor: Visitor, records: Records):
    visitor.open("/first")
    visitor.run("window.lives = true")
    records.expect(view("/first"))
    visitor.open("/second")
    records.expect(view("/first"), view("/second"))
    visitor.driver.back()
    assert visitor.run("return window.lives"), "the browser did not keep the page; this shows nothing"
    records.expect(view("/first"), view("/second"), view("/first"))


def test_a_tab_opened_in_the_background_counts_when_it_becomes_visible(visitor: Visitor, records: Records):
    visitor.pages.links = '<a id="later" href="/later">Later</a>'
    visitor.open("/now")
    link = visitor.driver.find_element(By.ID, "later")
    ActionChains(visitor.driver).key_down(Keys.CONTROL).click(link).key_up(Keys.CONTROL).perform()
    wait_for(lambda: len(visitor.driver.window_handles) == 2, "the other tab")
    visitor.do("Snapshot on")
    records.expect(view("/now"), ("Snapshot on", "/now"))
    here = visitor.driver.current_window_handle
    (other,) = set(visitor.driver.window_handles) - {here}
    visitor.driver.switch_to.window(other)
    records.expect(view("/now"), ("Snapshot on", "/now"), view("/later"))


def test_a_prerendered_page_counts_when_it_is_visited(visitor: Visitor, records: Records):
    visitor.pages.links = '<a id="next" href="/next">Next</a>'
    visitor.pages.before = """
      window.wasPrepared = document.prerendering
      if (wasPrepared) localStorage.prepared = 1
    """
    visitor.pages.rules = '{"prerender": [{"urls": ["/next"], "eagerness": "immediate"}]}'
    visitor.open("/now")
    wait_for(lambda: visitor.run("return localStorage.prepared"), "the page, prerendered")
    visitor.do("Snapshot on")
    records.expect(view("/now"), ("Snapshot on", "/now"))
    visitor.click("next")
    wait_for(lambda: visitor.run("return location.pathname") == "/next", "the next page")
    assert visitor.run("return wasPrepared"), "it was loaded anew; this shows nothing"
    records.expect(view("/now"), ("Snapshot on", "/now"), view("/next"))


def test_where_localstorage_is_denied_events_are_kept_in_memory(visitor: Visitor, records: Records):
    visitor.pages.sandboxed = True
    visitor.open("/sandboxed")
    with pytest.raises(WebDriverException, match="lacks the 'allow-same-origin' flag"):
        visitor.waiting()
    visitor.do("Works")
    records.expect(view("/sandboxed"), ("Works", "/sandboxed"))


def test_the_queue_is_bounded_and_its_oldest_events_go_first(visitor: Visitor, records: Records, system: System):
    """The queue of a visitor's browser after the server was unreachable for a long time."""
    visitor.pages.attributes = "data-manual"
    visitor.open("/")
    event = {"event_type": "Old", "site_id": records.site, "props": {"text": "é" * 250}}
    moment = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    visitor.run(
        """const [endpoint, event, timestamp] = arguments
        for (let n = 0; n < 600; n++) {
          const event_id = `${1700000000000 + n}-1`
          event.props.n = n
          localStorage[`footfall ${endpoint} ${event_id}`] = JSON.stringify({ ...event, event_id, timestamp })
        }""",
        f"{system.ingest}/events",
        event,
        moment,
    )
    assert len(visitor.waiting()) == 600
    visitor.do("New", props={"n": 600})
    wait_for(visitor.has_nothing_waiting, "an empty queue")
    wait_for(lambda: any(event["event_type"] == "New" for event in records.all()), "the newest")
    stored = sorted(event["props"]["n"] for event in records.all())
    assert stored == list(range(600 - len(stored) + 1, 601))
    assert 350 < len(stored) <= 500


# Outages


class Strict(Quiet):
    """Replaces the collector. Returns the configured answers, and records the time and events of each hit."""

    answers: list[tuple[int, str | None]]
    seen: list[tuple[float, list[str]]]

    def do_POST(self) -> None:  # noqa: N802  http.server's name
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.headers["Content-Type"].startswith("text/plain")
        self.seen.append((time.monotonic(), [event["event_id"] for event in body["events"]]))
        status, retry_after = self.answers.pop(0) if self.answers else (200, None)
        headers = {"Access_Control_Allow_Origin": "*", "Access_Control_Expose_Headers": "Retry-After"}
        self.answer(status, b"{}", **headers, **({"Retry_After": retry_after} if retry_after else {}))


class Forgetful(Quiet):
    """Forwards requests, and loses the first `lost` answers."""

    ingest: str
    lost: int
    seen: list[tuple[float, list[str]]]

    def do_POST(self) -> None:  # noqa: N802  http.server's name
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = httpx.post(f"{self.ingest}/events", content=body)
        self.seen.append((time.monotonic(), [event["event_id"] for event in json.loads(body)["events"]]))
        if len(self.seen) > self.lost:
            self.answer(answer.status_code, answer.content, Access_Control_Allow_Origin="*")
        else:
            self.close_connection = True


@pytest.mark.parametrize("status", [429, 503])
def test_every_page_waits_as_long_as_retry_after_says(visitor: Visitor, status: int):
    seen: list[tuple[float, list[str]]] = []
    with Listener(Strict, answers=[(status, "2")], seen=seen) as collector:
        visitor.pages.may_connect_to = collector.origin
        visitor.pages.attributes = f'data-api="{collector.origin}"'
        visitor.open("/")
        wait_for(lambda: visitor.run("return localStorage.footfall_wait"), "the first try and its answer")
        visitor.do("Meanwhile")
        visitor.open("/another-page")
        visitor.do("Meanwhile")
        wait_for(visitor.has_nothing_waiting, "an empty queue")
    (first, refused), (second, sent) = seen[:2]
    assert 2 <= second - first < 6
    assert refused[0] in sent
    assert len(set(sent)) == len(sent) >= 4


def test_without_retry_after_the_pauses_grow_and_a_permanent_refusal_is_not_repeated(visitor: Visitor):
    seen: list[tuple[float, list[str]]] = []
    answers = [(500, None), (503, None), (502, None), (400, None)]
    with Listener(Strict, answers=answers, seen=seen) as collector:
        visitor.pages.may_connect_to = collector.origin
        visitor.pages.attributes = f'data-api="{collector.origin}"'
        visitor.open("/")
        wait_for(visitor.has_nothing_waiting, "an empty queue")
        visitor.do("Next")
        wait_for(lambda: len(seen) == 5, "the next event")
        wait_for(visitor.has_nothing_waiting, "an empty queue")
    pauses = [after[0] - before[0] for before, after in pairwise(seen[:4])]
    for pause, least in zip(pauses, (0.5, 1, 2), strict=True):
        assert least <= pause < 2 * least + 3  # the machine is busy
    assert len({ids[0] for _, ids in seen[:4]}) == 1
    assert seen[4][1] != seen[0][1]


def expect_steps(records: Records, count: int) -> None:
    """Checks that each of `count` events of the type Step is stored exactly once."""

    def found() -> list[int]:
        return sorted(event["props"]["n"] for event in records.all() if event["event_type"] == "Step")

    wait_for(lambda: len(found()) >= count, "all steps")
    assert found() == list(range(count))


def test_a_lost_connection_neither_loses_nor_duplicates_an_event(visitor: Visitor, records: Records):
    visitor.open("/")
    visitor.do("Step", props={"n": 0})
    wait_for(visitor.has_nothing_waiting, "an empty queue")
    visitor.driver.set_network_conditions(offline=True, latency=0, throughput=0)
    for n in range(1, 6):
        visitor.run(f"history.pushState({{}}, '', '/route/{n}')")
        visitor.do("Step", props={"n": n})
    page_clock_goes_on(visitor, 1500)  # so that it is sent without success
    assert len(visitor.waiting()) >= 10
    visitor.driver.delete_network_conditions()
    wait_for(visitor.has_nothing_waiting, "an empty queue")
    expect_steps(records, 6)
    paths = ["/", *(f"/route/{n}" for n in range(1, 6))]
    records.expect(*map(view, paths), *(("Step", path) for path in paths))


def test_an_event_whose_answer_got_lost_is_sent_again_and_stored_once(
    system: System, visitor: Visitor, records: Records
):
    seen: list[tuple[float, list[str]]] = []
    with Listener(Forgetful, ingest=system.ingest, lost=2, seen=seen) as way:
        visitor.pages.may_connect_to = way.origin
        visitor.pages.attributes = f'data-api="{way.origin}"'
        visitor.open("/")
        visitor.do("Step", props={"n": 0})
        wait_for(visitor.has_nothing_waiting, "an empty queue")
    assert any(event_id in seen[-1][1] for event_id in seen[0][1]), "nothing was sent twice; this shows nothing"
    expect_steps(records, 1)
    records.expect(view("/"), ("Step", "/"))


def test_repeated_kills_of_gunicorn_neither_lose_nor_duplicate_an_event(
    system: System, visitor: Visitor, records: Records
):
    visitor.open("/")
    for n in range(0, 30, 3):
        visitor.do("Step", props={"n": n})
        if n % 10 == 0:
            wait_for(lambda: is_up(system), "gunicorn")
            visitor.do("Step", props={"n": n + 1})
            for process in system.part("ingest_app"):
                kill_if_there(process)
        else:
            visitor.do("Step", props={"n": n + 1})
        visitor.do("Step", props={"n": n + 2})
        visitor.run(f"history.pushState({{}}, '', '/route/{n}')")
    wait_for(visitor.has_nothing_waiting, "an empty queue")
    expect_steps(records, 30)


def is_up(system: System) -> bool:
    try:
        return httpx.get(f"{system.ingest}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_stop_of_the_whole_system_neither_loses_nor_duplicates_an_event(
    system: System, visitor: Visitor, records: Records
):
    visitor.open("/")
    visitor.do("Step", props={"n": 0})
    wait_for(visitor.has_nothing_waiting, "an empty queue")

    assert system.stop() == []
    visitor.do("Step", props={"n": 1})
    visitor.open("/another-page")  # with the script from the browser's cache
    visitor.do("Step", props={"n": 2})
    first = visitor.open_tab()
    visitor.open("/a-tab-that-is-closed")
    visitor.do("Step", props={"n": 3})
    visitor.close_tab(first)
    visitor.run("history.pushState({}, '', '/route')")
    visitor.do("Step", props={"n": 4})
    assert len(visitor.waiting()) >= 8
    system.start()
    back = datetime.now(UTC)

    visitor.open("/back-again")  # instead of waiting for up to 16 s
    wait_for(visitor.has_nothing_waiting, "an empty queue", 60)
    expect_steps(records, 5)
    found = records.expect(
        view("/"), view("/another-page"), view("/a-tab-that-is-closed"), view("/route"), view("/back-again"),
        ("Step", "/"), ("Step", "/"), ("Step", "/another-page"), ("Step", "/a-tab-that-is-closed"), ("Step", "/route"),
    )  # fmt: skip
    assert sum(event["timestamp"] < back for event in found) == 9, "events are of when they happened"
    answer = httpx.get(f"{system.report}/stats", params={"site_id": records.site}).json()
    assert answer["total_views"] == 5
