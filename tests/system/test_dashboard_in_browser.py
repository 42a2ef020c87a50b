"""The pages in a real Chromium against the whole running system, from the first event on.

Screenshots are written to build/screenshots. `FOOTFALL_PICTURE=1` also writes the picture of the documentation.
"""

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4
from zoneinfo import ZoneInfo

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver import Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from analytics.accounts.sharing import SharingStore
from footfall.demo_traffic import DEMO_SITES
from tests.analytics.imports.test_plausible_export import zipped
from tests.support.accounts import PASSWORD
from tests.support.browser import accessibility_faults, chromium, wait_for_page
from tests.support.running_system import ROOT, System, wait_for

SCREENSHOTS = ROOT / "build" / "screenshots"
PICTURES = ROOT / "docs" / "images"
SITE = "demo-shop"
# What is loading, and what asks again later because the server is busy. Parts that load when they are seen are not,
# until then.
BUSY = """return document.querySelectorAll('.htmx-request, .skeleton-figure, .trouble[hx-get],'
    + '.panel:not([hx-trigger^=intersect]) .skeleton:not([hx-trigger=revealed] > .skeleton)').length"""
THEMES = ("light", "dark")
WIDTHS = (360, 768, 1280, 1600)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"


class Page:
    """The browser with a page of the dashboard."""

    def __init__(self, driver: webdriver.Chrome, base: str) -> None:
        self.driver = driver
        self.base = base

    def open(self, path: str) -> None:
        self.driver.get(self.base + path)
        self.settle()

    def settle(self) -> None:
        """Waits until no part of the page is loading. A new system on a busy machine takes its time."""
        self.run("return new Promise((done) => setTimeout(done, 100))")
        wait_for_page(lambda: not self.run(BUSY), "the parts of the page", 60)

    def run(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(script, *values)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        found = self.run("return [...document.querySelectorAll(arguments[0])].map((each) => each.innerText)", selector)
        return [" ".join(text.split()) for text in found]

    def click(self, selector: str) -> None:
        found = self.one(selector)
        self.run("arguments[0].scrollIntoView({ block: 'center' })", found)
        found.click()
        self.settle()

    def show_panel(self, name: str) -> None:
        """Scrolls to a panel that loads when it is seen."""
        panel = wait_for_page(lambda: self.driver.find_elements(By.ID, f"panel-{name}"), "the panel")[0]
        self.run("arguments[0].scrollIntoView({ block: 'center' })", panel)
        wait_for_page(lambda: not panel.find_elements(By.CSS_SELECTOR, ".skeleton"), "the panel's content", 60)
        self.settle()

    def press(self, *keys: str) -> None:
        self.one("body").send_keys(*keys)
        self.settle()

    def tab_to(self, selector: str, *held: str) -> None:
        """Walks with the Tab key from the focused element to another one. `held`: SHIFT walks back."""
        for _ in range(200):
            if self.run("return document.activeElement.matches(arguments[0])", selector):
                return
            self.driver.switch_to.active_element.send_keys(*held, Keys.TAB)
        raise AssertionError(f"Tab does not lead to {selector}")

    def press_focused(self, *keys: str) -> None:
        self.driver.switch_to.active_element.send_keys(*keys)
        self.settle()

    @property
    def query(self) -> str:
        return self.driver.current_url.partition("?")[2]

    @property
    def figures(self) -> list[str]:
        return self.texts(".fig .v")

    def rows(self, panel: str) -> list[str]:
        return self.texts(f"#panel-{panel} li .name")

    def show_as(self, width: int, height: int, theme: str) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        feature = [{"name": "prefers-color-scheme", "value": theme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})

    def shoot(self, file: Path, width: int, theme: str) -> None:
        """Writes a picture of the whole page. Panels that load when they are seen change its height."""
        for _ in range(2):
            self.show_as(width, 900, theme)
            self.show_as(width, self.run("return document.documentElement.scrollHeight"), theme)
            wait_for_page(lambda: not self.run("return document.querySelector('.skeleton')"), "all panels", 60)
            self.settle()
        file.parent.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(file))


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture
def page(driver: webdriver.Chrome, system: System) -> Iterator[Page]:
    driver.delete_all_cookies()
    page = Page(driver, system.report)
    page.show_as(1280, 900, "light")
    yield page
    # Answers 4xx and 5xx have other sources: a busy server is no fault of the page.
    said = [entry for entry in driver.get_log("browser") if entry["source"] in ("security", "javascript")]
    assert said == [], "the policy refused something, or a script failed"


def send(system: System, *events: dict[str, Any]) -> None:
    answer = httpx.post(f"{system.ingest}/events", json=events, timeout=30)
    assert answer.json()["accepted"] == len(events), answer.text


def ask(system: System, **body: Any) -> list[Any]:
    question = {"site_id": SITE, "metrics": ["visitors"], "date_range": "all"} | body
    answer = httpx.post(f"{system.report}/api/v2/query", json=question, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


@pytest.fixture(scope="module")
def visited(system: System) -> System:
    """The system with the traffic of the demo."""
    done = system.run_footfall("demo", "--days", "60" if "FOOTFALL_PICTURE" in os.environ else "10")
    assert done.returncode == 0, done.stderr
    assert system.run_footfall("sites", "set", "outlet", "timezone=Europe/Berlin").returncode == 0
    with system.database() as database:
        sharing = SharingStore(database, lambda: datetime.now(UTC))
        sharing.set_public(SITE, True)
        sharing.set_framing_origins(SITE, ["https://blog.example"])
    return system


def test_the_first_event_turns_the_snippet_into_a_dashboard(page: Page, system: System):
    site = f"first-{uuid4().hex[:8]}"
    page.open(f"/site/{site}")
    wait_for_page(lambda: page.driver.find_elements(By.TAG_NAME, "pre"), "the snippet")
    assert f'data-site="{site}"' in page.one("pre").text
    send(
        system, {"site_id": site, "event_type": "pageview", "path": "/", "ip": "192.0.2.1", "user_agent": "curl/8 bot"}
    )
    wait_for_page(lambda: "Bots and crawlers" in page.one("#hero").text, "why the event was dropped")
    send(system, {"site_id": site, "event_type": "pageview", "path": "/here", "ip": "192.0.2.1", "user_agent": FIREFOX})
    wait_for_page(lambda: page.driver.find_elements(By.ID, "panel-pages"), "the dashboard")
    page.settle()
    assert page.figures[0] == "1"
    assert page.rows("pages") == ["/here"]
    assert "Today" in page.one("#period").text
    page.open("/")
    assert site in page.texts(".card h2")


def test_a_click_on_a_row_filters_the_page_and_back_undoes_it(page: Page, visited: System):
    page.open(f"/site/{SITE}?period=7d")
    before = page.figures, page.rows("pages"), page.rows("sources")
    country = page.rows("places")[0]
    page.click("#places-row-1")
    assert page.texts(".chip")[0].startswith(f"Country is {country}")
    assert page.rows("places") == [country]
    assert len(page.figures) == 6
    assert page.figures != before[0]
    page.click("#pages-entry")
    assert "tabs=pages.entry" in page.query
    page.click("#figure-bounce_rate")
    page.click("#sources-row-1")
    assert "figure=bounce_rate" in page.query
    assert "tabs=pages.entry" in page.query
    assert len(page.texts(".chip")) == 2
    for chips, entry in ((1, True), (1, True), (1, False), (0, False)):
        page.driver.back()
        page.settle()
        assert len(page.texts(".chip")) == chips
        assert ("tabs=pages.entry" in page.query) is entry
    assert (page.figures, page.rows("pages"), page.rows("sources")) == before
    page.driver.forward()
    page.settle()
    assert page.rows("places") == [country]


def test_a_click_on_the_map_filters_the_page_and_keeps_open_tabs(page: Page, visited: System):
    page.open(f"/site/{SITE}?period=7d")
    country, count = page.rows("places")[0], page.texts("#panel-places .n")[0]
    page.click("#pages-entry")
    shape = page.one("#panel-world .shade5")
    assert page.run("return arguments[0].textContent", shape) == f"{country}: {count} visitors"
    wait_for_page(lambda: page.run("return arguments[0].getBBox().width", shape) > 5, "the shapes of the map")
    assert page.run("return getComputedStyle(arguments[0]).fill", shape) != "rgb(0, 0, 0)"
    page.run("arguments[0].dispatchEvent(new MouseEvent('click', { bubbles: true }))", shape)
    page.settle()
    assert page.texts(".chip")[0].startswith(f"Country is {country}")
    assert "tabs=pages.entry" in page.query
    assert page.rows("places") == [country]


def test_the_filter_builder_reads_the_length_of_visits(page: Page, visited: System):
    page.open(f"/site/{SITE}?period=all")
    page.press("/")
    Select(page.one("[name=dimension]")).select_by_value("duration")
    operators = [option.text for option in Select(page.one("[name=operator]")).options if option.is_enabled()]
    assert operators == ["is", "is not", "is more than", "is less than"]
    Select(page.one("[name=operator]")).select_by_value("greater")
    page.one("[name=value]").send_keys("a minute", Keys.ENTER)
    assert page.one("#builder").get_attribute("open")
    assert page.query == "period=all"
    page.one("[name=value]").clear()
    page.one("[name=value]").send_keys("1:00", Keys.ENTER)
    page.settle()
    assert page.query == "period=all&f=greater,duration,60"
    assert page.texts(".chip")[0].startswith("Visit duration is more than 1m 00s")
    (row,) = ask(visited, metrics=["visitors"], filters=[["greater", "visit:duration", [60]]])
    assert page.figures[0] == f"{row['metrics'][0]:,}"


def test_the_figures_are_those_of_the_api_under_a_filter(page: Page, visited: System):
    page.open(f"/site/{SITE}?period=all&f=is,country,DE&f=contains,page,/coffee")
    filters = [["is", "visit:country", ["DE"]], ["contains", "event:page", ["/coffee"]]]
    (row,) = ask(visited, metrics=["visitors", "visits", "pageviews"], filters=filters)
    assert page.figures[:3] == [f"{number:,}" for number in row["metrics"]]
    rows = ask(visited, dimensions=["visit:browser"], filters=filters, pagination={"limit": 6})
    assert page.rows("devices") == [row["dimensions"][0] for row in rows]
    assert page.texts("#panel-devices .n") == [f"{row['metrics'][0]:,}" for row in rows]


def test_the_filter_builder_suggests_values_and_joins_conditions(page: Page, visited: System):
    page.open(f"/site/{SITE}?period=all")
    page.press("/")
    Select(page.one("[name=dimension]")).select_by_value("page")
    Select(page.one("[name=operator]")).select_by_value("contains")
    page.one("[name=value]").send_keys("/cof")
    options = "return [...document.querySelectorAll('#suggestions option')].map((each) => each.value)"
    wait_for_page(lambda: "/coffee/ethiopia" in page.run(options), "suggestions")
    page.one("[name=value]").send_keys("fee", Keys.ENTER)
    page.settle()
    assert page.query == "period=all&f=contains,page,/coffee"
    page.press("/")
    page.one("[name=value]").send_keys("/cart")
    Select(page.one("[name=join]")).select_by_value("or")
    page.one("[name=value]").send_keys(Keys.ENTER)
    page.settle()
    (chip,) = page.texts(".chip")
    assert chip.startswith("Page contains /coffee or Page is /cart")
    either = ["or", [["contains", "event:page", ["/coffee"]], ["is", "event:page", ["/cart"]]]]
    assert page.figures[0] == f"{ask(visited, filters=[either])[0]['metrics'][0]:,}"
    page.click(".chip .remove")
    assert page.texts(".chip") == []


@pytest.mark.parametrize(("menu", "options"), [("#builder", "#names"), ("#panel-goals details", "#goal-names")])
def test_names_of_properties_are_suggested(page: Page, visited: System, menu: str, options: str):
    site = f"props-{uuid4().hex[:8]}"
    bought = {"site_id": site, "event_type": "buy", "ip": "192.0.2.1", "user_agent": FIREFOX, "props": {"plan": "pro"}}
    send(visited, bought, bought | {"event_type": "pageview", "path": "/", "props": {"author": "Ann"}})
    wait_for(lambda: ask(visited, site_id=site, metrics=["events"])[0]["metrics"] == [2], "both events")
    page.open(f"/site/{site}?period=7d")
    page.run("document.querySelector(arguments[0]).open = true", menu)
    if menu == "#builder":
        Select(page.one("[name=dimension]")).select_by_value("prop.")
    page.one(f"{menu} [name=key]").send_keys("pl")
    values = f"return [...document.querySelectorAll('{options} option')].map((each) => each.value)"
    wait_for_page(lambda: page.run(values) == ["plan"], "the name")


def test_keys_choose_period_and_comparison_and_read_the_chart(page: Page, visited: System):
    page.open(f"/site/{SITE}?period=30d")
    page.press("w")
    assert page.query == "period=7d"
    assert all(page.texts(".fig .d")), "the changes since the period before"
    page.press("x")
    assert page.query == "period=7d&compare=none"
    assert not any(page.texts(".fig .d"))
    page.press("?")
    assert page.one("#shortcuts").is_displayed()
    page.press(Keys.ESCAPE)
    assert not page.one("#shortcuts").is_displayed()
    page.one(".plot").send_keys(Keys.HOME)
    name, value = page.run("return document.getElementById('read').textContent").split(", ")
    assert value == page.run("return document.querySelector('.data td').textContent")
    assert name == page.run("return document.querySelector('.data tbody th').textContent")
    page.one(".plot").send_keys(Keys.END)
    assert "so far" in page.run("return document.getElementById('read').textContent")
    page.open(f"/site/{SITE}?period=7d&f=is,country,DE")
    page.press(Keys.ESCAPE)
    assert page.query == "period=7d"
    page.press("r")
    assert page.one("h1").text == "Right now"


def test_a_touch_reads_the_chart(page: Page, visited: System):
    page.open(f"/site/{SITE}?period=7d")
    page.run("document.querySelector('.plot').scrollIntoView({ block: 'center' })")
    box = page.run("return document.querySelector('.u-over').getBoundingClientRect().toJSON()")
    rows = page.run(
        "return [...document.querySelectorAll('.data tbody tr')].map((row) => [...row.children].slice(0, 2)"
        ".map((cell) => cell.textContent.trim()))"
    )
    touch = {"y": box["top"] + box["height"] / 2}
    for kind, share, (name, value) in (("touchStart", 0.02, rows[0]), ("touchMove", 0.49, rows[3])):
        points = [touch | {"x": box["left"] + share * box["width"]}]
        page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        wait_for_page(lambda name=name, value=value: f"{name} {value}" in page.texts(".tip")[0], f"{name} in the tip")
    page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_the_calendar_chooses_two_dates_by_click_and_by_keyboard(page: Page, visited: System):
    page.open(f"/site/{SITE}?from=2026-03-02&to=2026-03-15&f=is,country,DE")
    page.click("#period")
    assert page.one(".calendar th").get_attribute("abbr") == "Sunday", "the first weekday of en-US"
    assert page.texts(".calendar b") == ["March 2026"]
    assert len(page.driver.find_elements(By.CSS_SELECTOR, ".calendar .between")) == 12
    page.one("[aria-label='Previous month']").click()
    page.one(".calendar [value='2026-02-20']").click()
    page.click(".calendar [value='2026-02-03']")
    assert page.query == "from=2026-02-03&to=2026-02-20&f=is,country,DE"
    page.press("c")
    day = page.one(".calendar [tabindex='0']")
    assert day.get_attribute("value") == "2026-02-20"
    day.send_keys(Keys.ARROW_DOWN)
    page.driver.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    page.driver.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    page.settle()
    assert page.query == "from=2026-03-05&to=2026-03-06&f=is,country,DE"


def test_the_main_flow_needs_no_mouse(page: Page, visited: System):
    page.open(f"/site/{SITE}?period=7d")
    page.tab_to(".skip")
    page.press_focused(Keys.ENTER)
    page.tab_to("#places-row-1")
    page.press_focused(Keys.ENTER)
    assert page.run("return document.activeElement.id") == "places-row-1"
    page.tab_to("#sources-source", Keys.SHIFT)
    page.press_focused(Keys.ENTER)
    assert page.one("#sources-source").get_attribute("aria-current") == "true"
    page.tab_to("#period", Keys.SHIFT)
    page.press_focused(Keys.ENTER)
    page.tab_to("[data-key=t]")
    page.press_focused(Keys.ENTER)
    assert page.query == "period=30d&f=is,country,US&tabs=sources.source"


@pytest.fixture
def owner(page: Page, visited: System) -> Page:
    """The browser, in which a new owner is signed in."""
    page.driver.get(visited.run_footfall("users", "invite-owner").stdout.strip())
    for name, text in (("email", "owner@example.org"), ("name", "Olga"), ("password", PASSWORD)):
        page.one(f"[name={name}]").send_keys(text)
    page.one("form.card button").click()
    wait_for_page(lambda: "/join/" not in page.driver.current_url, "the account")
    return page


def last_days(count: int, zone: str) -> list[str]:
    today = datetime.now(ZoneInfo(zone)).date()
    return [(today - timedelta(days=count - 1)).isoformat(), today.isoformat()]


def test_an_owner_makes_a_funnel_a_saved_filter_and_an_annotation(owner: Page, visited: System):
    page = owner
    page.open(f"/site/{SITE}?period=30d")
    page.show_panel("funnel")
    page.click("#panel-funnel summary")
    page.one(".steps [name=name]").send_keys("Cart to thanks")
    for value in ("/cart", "/checkout", "/thanks"):
        fields = page.driver.find_elements(By.CSS_SELECTOR, ".steps [name=value]")
        next(each for each in fields if each.is_displayed() and not each.get_attribute("value")).send_keys(value)
    page.one(".steps button").click()
    page.show_panel("funnel")
    steps = [{"page": "/cart"}, {"page": "/checkout"}, {"page": "/thanks"}]
    body = {"site_id": SITE, "date_range": last_days(30, "Europe/Berlin"), "steps": steps}
    counted = [step["count"] for step in httpx.post(f"{visited.report}/api/v2/funnel", json=body).json()["results"]]
    assert page.texts("#panel-funnel tbody td:nth-child(2)") == [f"{count:,}" for count in counted]
    page.open(f"/site/{SITE}?period=30d&f=is,country,DE")
    german = page.figures
    page.click("#saved summary")
    page.one("#saved [name=name]").send_keys("German", Keys.ENTER)
    wait_for_page(lambda: "f=is,segment,1" in page.query, "the saved filter")
    page.settle()
    assert page.figures == german
    assert page.texts(".chip")[0].startswith("Saved filter is German")
    page.click(".legend summary")
    page.one(".legend [name=text]").send_keys("A new grinder", Keys.ENTER)
    wait_for_page(lambda: page.texts(".notes li"), "the annotation")
    assert "A new grinder" in page.texts(".notes li")[-1]


def test_journeys_are_walked_and_retention_has_a_grain(page: Page, visited: System):
    page.open("/site/demo-app?period=30d")
    page.show_panel("journeys")
    before = page.texts("#panel-journeys summary")
    page.click("#panel-journeys li > a")
    assert page.texts("#panel-journeys summary") != before
    assert "tabs=journeys." in page.query
    page.show_panel("retention")
    page.click("#retention-day")
    assert "retention.day" in page.query
    body = {"site_id": "demo-app", "date_range": last_days(30, "Europe/London"), "grain": "day"}
    cohorts = httpx.post(f"{visited.report}/api/v2/retention", json=body).json()["results"]
    assert page.texts("#panel-retention tbody td:nth-child(2)") == [f"{each['visitors']:,}" for each in cohorts]


def test_several_sites_are_chosen_and_shown_as_one(page: Page, system: System):
    sites = [f"{name}-{uuid4().hex[:8]}" for name in ("one", "two")]
    visit = {"event_type": "pageview", "path": "/", "ip": "192.0.2.1", "user_agent": FIREFOX}
    send(system, *(visit | {"site_id": site} for site in sites))
    wait_for(lambda: ask(system, site_id=sites, metrics=["events"])[0]["metrics"] == [2], "both events")
    page.open("/")
    for site in sites:
        page.click(f"[aria-label='Choose {site}']")
    page.click("#several button")
    assert page.one("h1").get_attribute("textContent") == " + ".join(sites)
    assert f"with={sites[1]}" in page.query
    assert page.figures[:3] == ["2", "2", "2"]
    page.click("#pages-row-1")
    assert f"with={sites[1]}&f=is,page,/" in page.query
    wait_for_page(lambda: page.texts(".live") == ["2 here now"], "the visitors of now")
    page.click(".pick.site")
    page.click(f".sites [aria-label='Choose {sites[0]}']")
    page.click(".sites button")
    assert page.one("h1").get_attribute("textContent") == sites[1]
    assert page.figures[0] == "1"
    assert page.texts(".chip")[0].startswith("Page is /")


def test_imported_days_are_marked_and_can_be_hidden(page: Page, system: System, tmp_path: Path):
    file = zipped(tmp_path / "plausible.zip")
    assert system.run_footfall("sites", "set", "imported", "timezone=UTC").returncode == 0
    assert system.run_footfall("import", str(file), "--site", "imported").returncode == 0
    page.open("/site/imported?from=2025-01-01&to=2025-01-04&compare=none")
    assert (page.figures[0], len(page.driver.find_elements(By.CSS_SELECTOR, "tr[data-imported]"))) == ("9", 3)
    assert page.one(".legend .l4").is_displayed()
    assert page.texts("#panel-places footer .note") == ["with imported data"]
    assert accessibility_faults(page.driver) == []
    page.shoot(SCREENSHOTS / "imported.png", 1280, "light")
    page.click("#imports")
    assert (page.figures[0], page.one("#imports").text) == ("0", "Show imported data")
    assert "imports=no" in page.query
    page.click("#imports")
    assert page.figures[0] == "9"


def test_the_view_of_now_follows_new_events_by_itself(page: Page, system: System):
    site = f"now-{uuid4().hex[:8]}"
    visit = {"site_id": site, "event_type": "pageview", "ip": "192.0.2.1", "user_agent": FIREFOX}
    send(system, visit | {"path": "/first"})
    wait_for(lambda: ask(system, site_id=site, metrics=["events"])[0]["metrics"] == [1], "the event")
    page.open(f"/site/{site}")
    page.click(".top .live")
    assert page.texts("#now tbody .name") == ["/first"]
    send(system, visit | {"path": "/second"})
    wait_for_page(lambda: page.texts("#now tbody .name") == ["/first", "/second"], "the second page", 30)
    assert page.texts("#now .v") == ["1", "1"]
    page.click("#now tbody a")
    assert page.texts(".chip")[0].startswith("Page is /first")


def test_panels_load_in_parallel_and_are_cancelled_when_the_question_changes(page: Page, visited: System):
    page.open(f"/site/{SITE}?period=7d")
    names = page.run("return [...document.querySelectorAll('.panel')].map((each) => each.id)")
    page.run(
        "window.sent = [];"
        "document.addEventListener('htmx:beforeSend', ({ detail }) => sent.push(detail.xhr));"
        "for (const _ of [1, 2]) document.body.dispatchEvent(new Event('question'))"
    )
    assert page.run("return sent.length") == 2 * len(names)
    cancelled, opened, done = [0] * len(names), [1] * len(names), [4] * len(names)
    assert page.run("return sent.map((each) => each.readyState)") == cancelled + opened
    page.settle()
    states = page.run("return sent.map((each) => each.readyState)")
    assert states[: 2 * len(names)] == cancelled + done, "more follow if the server was busy"


def test_nothing_moves_if_the_system_asks_for_less_motion(page: Page, visited: System):
    page.open(f"/site/{SITE}?period=7d")
    features = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    moving = (
        "return [...document.querySelectorAll('*')].map((each) => getComputedStyle(each)).filter((style) => "
        "!['', 'none'].includes(style.animationName) || parseFloat(style.transitionDuration) > 0).length"
    )
    assert page.run(moving) == 0


def test_a_theme_is_kept(page: Page, visited: System):
    page.open(f"/site/{SITE}?period=7d")
    page.one(".top .icon").click()
    page.one("[data-theme-choice=dark]").click()
    page.open("/")
    assert page.run("return document.documentElement.dataset.theme") == "dark"
    assert page.run("return getComputedStyle(document.documentElement).colorScheme") == "dark"


def test_what_visitors_send_runs_nowhere(page: Page, system: System):
    site = f"hostile-{uuid4().hex[:8]}"
    hostile = "\"'><img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"
    visit = {"site_id": site, "ip": "192.0.2.1", "user_agent": FIREFOX}
    send(
        system,
        visit | {"event_type": "pageview", "url": f"https://x.example/{hostile}?utm_campaign={hostile}",
                 "referrer": f"https://evil.example/{hostile}", "city": hostile, "source": hostile},
        visit | {"event_type": hostile, "path": f"/{hostile}", "props": {"plan": hostile}},
    )  # fmt: skip
    wait_for(lambda: ask(system, site_id=site, metrics=["events"])[0]["metrics"] == [2], "both events")
    tabs = "tabs=pages.entry,sources.source,places.city,goals.event"
    filtered = f"f=is,source,{quote(quote(hostile))}"
    for query in (tabs, "tabs=sources.referrer,goals.prop.plan", filtered, f"search={quote(hostile)}"):
        page.open(f"/site/{site}?period=day&{query}")
        assert page.figures[0] == "1"
        assert page.driver.title == f"{site} · Footfall"
        assert not page.driver.find_elements(By.CSS_SELECTOR, "main img, main script")
    page.open(f"/list/sources/{site}?period=day&tabs=sources.source")
    assert page.texts("tbody .name") == [hostile]
    page.click("tbody th a")
    assert page.figures[0] == "1"
    assert page.driver.title == f"{site} · Footfall"


VIEWS = {
    "dashboard": f"/site/{SITE}?period=7d&f=is,country,DE",
    "list": f"/list/pages/{SITE}?period=7d&f=is,country,DE",
    "overview": "/",
    "first-event": "/site/nothing-yet",
    "empty": f"/site/{SITE}?period=day&f=is,page,/nowhere",
    "invalid": f"/site/{SITE}?period=7d&f=is,country,Germany",
    "not-found": f"/list/nothing/{SITE}",
    "login": "/login",
    "now": f"/now/{SITE}?period=7d",
    "several": f"/site/{SITE}?period=7d&with=outlet",
    "app": "/site/demo-app?period=30d&tabs=goals.event,left_out.days,pages.engagement",
    "embedded": f"/site/{SITE}?period=7d&embed=public",
}


@pytest.mark.parametrize("theme", THEMES)
def test_pages_are_accessible_in_both_themes(page: Page, visited: System, theme: str):
    found = {}
    for name, path in VIEWS.items():
        page.show_as(1280, 900, theme)
        page.open(path)
        page.run("scrollTo(0, document.body.scrollHeight)")  # some panels load when they are seen
        page.settle()
        found[name] = accessibility_faults(page.driver)
    assert found == {name: [] for name in VIEWS}


@pytest.mark.parametrize("theme", THEMES)
def test_the_documentation_of_the_api_is_accessible_in_both_themes(page: Page, system: System, theme: str):
    page.show_as(1280, 900, theme)
    page.driver.get(f"{system.report}/docs")
    wait_for_page(lambda: page.driver.find_elements(By.CLASS_NAME, "opblock"), "the routes")
    assert accessibility_faults(page.driver) == []


@pytest.mark.timeout(400)  # by itself it takes a fifth of that
def test_pages_fit_every_width(page: Page, visited: System):
    check_that_pages_fit(page, VIEWS)


def check_that_pages_fit(page: Page, views: dict[str, str]) -> None:
    """Opens each page once. The window gets narrower and the theme changes while it is open."""
    for name, path in views.items():
        page.show_as(max(WIDTHS), 900, "light")
        page.open(path)
        for width, theme in product(sorted(WIDTHS, reverse=True), THEMES):
            page.shoot(SCREENSHOTS / f"{name}-{theme}-{width}.png", width, theme)
            assert page.run("return document.documentElement.scrollWidth") <= width, (name, theme)


@pytest.fixture
def german(page: Page) -> Iterator[Page]:
    """The browser of a guest who reads German."""
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {"Accept-Language": "de"}})
    yield page
    page.driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {}})


def test_the_dashboard_speaks_german(german: Page, visited: System):
    german.open(f"/site/{SITE}?period=7d&tabs=places.country")
    assert german.run("return document.documentElement.lang") == "de"
    assert german.texts(".fig .k")[:3] == ["Besucher", "Besuche", "Seitenaufrufe"]
    views, bounces, duration = german.figures[3:6]
    assert re.fullmatch(r"[0-9]+,[0-9]", views)
    assert re.fullmatch(r"[0-9]+\s%", bounces)
    assert re.fullmatch(r"[0-9]+:[0-9]{2}\smin", duration)
    assert "Deutschland" in german.rows("places")
    days = german.run("return [...document.querySelectorAll('.chart tbody th')].map((each) => each.textContent)")
    weekdays = [day[:3] for day in days]
    assert set(weekdays) == {"Mo.", "Di.", "Mi.", "Do.", "Fr.", "Sa.", "So."}
    german.open(f"/site/{SITE}?from=2026-03-02&to=2026-03-15&grain=week")
    assert german.texts("#period")[0].startswith("Zeitraum: 2. März – 15. März 2026")  # noqa: RUF001  an en dash
    german.click("#period")
    assert german.one(".calendar th").get_attribute("abbr") == "Montag"
    assert german.texts(".calendar b") == ["März 2026"]
    german.run("document.getElementById('builder').open = true")
    Select(german.one("#dimension")).select_by_visible_text("Besuchsdauer")
    assert german.one("#builder [name=value]").get_attribute("placeholder") == "Sekunden oder 1:30"


@pytest.mark.parametrize("theme", THEMES)
def test_pages_in_german_fit_and_are_accessible(german: Page, visited: System, theme: str):
    for width in (360, 1280):
        for name in ("dashboard", "list", "overview", "first-event", "empty"):
            german.show_as(width, 900, theme)
            german.open(VIEWS[name])
            german.shoot(SCREENSHOTS / f"{name}-de-{theme}-{width}.png", width, theme)
            assert german.run("return document.documentElement.scrollWidth") <= width, (name, width)
            assert accessibility_faults(german.driver) == [], (name, width)


@pytest.mark.skipif("FOOTFALL_PICTURE" not in os.environ, reason="writes files of the documentation")
@pytest.mark.parametrize(
    ("name", "shown"), [("dashboard", (1280, 1604, "light")), ("dashboard-phone", (360, 760, "dark"))]
)
def test_the_pictures_of_the_documentation(page: Page, visited: System, name: str, shown: tuple[int, int, str]):
    visit = {"site_id": SITE, "event_type": "pageview", "url": f"https://{DEMO_SITES[0].host}/coffee"}
    send(visited, *(visit | {"user_id": f"now-{n}", "user_agent": FIREFOX} for n in range(6)))
    page.open(f"/site/{SITE}?period=30d")
    wait_for_page(lambda: not page.texts(".live")[0].startswith("0"), "visitors of now")
    page.driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    page.show_as(*shown)
    page.settle()
    shape = page.one("#panel-world .shade5")
    wait_for_page(lambda: page.run("return arguments[0].getBBox().width", shape) > 5, "the shapes of the map")
    page.driver.save_screenshot(str(PICTURES / f"{name}.png"))
    assert (PICTURES / f"{name}.png").stat().st_size < 250_000
