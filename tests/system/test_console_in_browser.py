"""The console, and the other pages of people who signed in, in a real Chromium against the whole running system.

Screenshots are written to build/screenshots. `FOOTFALL_PICTURE=1` also writes the picture of the documentation.
"""

import json
import os
from collections.abc import Iterator
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from selenium import webdriver
from selenium.webdriver import Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from analytics.journal.journal import JOURNAL_KEY
from report_app.console.notifications import TEST_WAITS
from tests.support.accounts import PASSWORD
from tests.support.browser import accessibility_faults, chromium, wait_for_page
from tests.support.running_system import ROOT, System, wait_for
from tests.system.test_dashboard_in_browser import (
    FIREFOX,
    THEMES,
    Page,
    ask,
    check_that_pages_fit,
    send,
)

SETTINGS = (
    "domains=console.example",
    "shows_visitors=true",
    'goals=[{"page": "/docs/**"}, {"name": "Purchase", "event_type": "checkout_completed", "currency": "EUR"}]',
)
PICTURE = ROOT / "docs" / "images" / "console.png"
HOSTILE = "\"'><img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script></textarea>"
VIEWS = {
    "health": "/ops",
    "ledger": "/ops/ledger",
    "dead-letters": "/ops/dead-letters",
    "purge": "/ops/dead-letters/purge",
    "rates": "/ops/rates",
    "workers": "/ops/workers",
    "segments": "/ops/segments",
    "sites": "/ops/sites",
    "new-site": "/ops/sites/new",
    "site": "/ops/site/console-shop",
    "remove-site": "/ops/remove-site/console-shop",
    "notifications": "/ops/notifications",
    "new-rule": "/ops/notifications/new",
    "new-goal-rule": "/ops/notifications/new?kind=goal",
    "keys": "/ops/keys",
    "users": "/ops/users",
    "visitors": "/visitors/console-shop",
    "account": "/account",
    "two-step": "/account/two-step",
    "members": "/members/console-shop",
    "sharing": "/sharing/console-shop",
    "data": "/data/console-shop",
    "site-ledger": "/ops/ledger?site=console-shop",
}
# The first link of this kind on a page leads to another page.
LINKED = {
    "dead-letter": ("/ops/dead-letters", "tbody a"),
    "user": ("/ops/users", "tbody a"),
    "edit-rule": ("/ops/notifications", "tbody a[href$=edit]"),
    "remove-rule": ("/ops/notifications", "tbody a[href$=remove]"),
    "visitor": ("/visitors/console-shop", "tbody a"),
}


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory, system: System) -> Iterator[webdriver.Chrome]:
    """A browser in which an owner is signed in, who joined by the link of the command line."""
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        page, email = Page(driver, system.report), f"{uuid4().hex}@example.org"
        link = system.run_footfall("users", "invite-owner").stdout.strip()
        page.open(urlsplit(link).path)
        for name, text in (("email", email), ("name", "Olga"), ("password", PASSWORD)):
            page.one(f"[name={name}]").send_keys(text)
        page.one("main button").click()
        wait_for_page(lambda: "/join/" not in page.driver.current_url, "the account")
        yield driver


@pytest.fixture
def page(driver: webdriver.Chrome, busy: System) -> Iterator[Page]:
    page = Page(driver, busy.report)
    page.show_as(1280, 900, "light")
    driver.get_log("browser")
    yield page
    said = [entry for entry in driver.get_log("browser") if entry["source"] in ("security", "javascript")]
    assert said == [], "the policy refused something, or a script failed"


@pytest.fixture(scope="module")
def busy(system: System) -> System:
    """The system with a site, events, dead letters with hostile payloads, a key, a rule, and samples."""
    assert system.run_footfall("sites", "set", "console-shop", *SETTINGS).returncode == 0
    assert system.run_footfall("keys", "create", "Nightly export", "--scope", "stats:read").returncode == 0
    hook = "http://127.0.0.1/hook"  # no address on the public internet: a notification to it fails
    rule, _ = system.run_footfall("notifications", "add", "console-shop", "silence", "webhook", hook).stdout.split()
    assert "not sent" in system.run_footfall("notifications", "test", rule).stderr
    visit = {"site_id": "console-shop", "hostname": "console.example", "ip": "192.0.2.1", "user_agent": FIREFOX}
    send(system, *(visit | {"event_type": "pageview", "path": f"/{n}"} for n in range(40)))
    redis = system.redis()
    for payload in (HOSTILE, '{"site_id": "console-shop", "event_type": 7}', '{"event_type": {"<b>": 1}, "path": 7}'):
        redis.xadd(JOURNAL_KEY, {"event": payload})
    wait_for(lambda: not redis.xlen(JOURNAL_KEY), "an empty journal")
    for _ in range(2):
        assert system.run_celery("call", "tasks.samples.take_sample").returncode == 0
    wait_for(lambda: redis.xlen("footfall:samples") >= 2, "samples")
    return system


def first_letter(page: Page) -> str:
    """Opens the newest dead letter whose event has a site."""
    page.open("/ops/dead-letters?site=console-shop")
    page.click("tbody a")
    return page.driver.current_url


def test_the_start_page_shows_the_running_system(page: Page, busy: System):
    page.open("/ops")
    wait_for_page(lambda: "1 worker: worker@" in page.one("#part-findings").text, "the findings")
    assert "Accepted" in page.one("#part-today").text
    page.click(".ops a[href='/ops/workers']")
    wait_for_page(lambda: "Reads dead_letters, events, segments." in page.one("main").text, "the workers")
    said = busy.run_footfall("workers")
    assert (said.returncode, "reads dead_letters,events,segments" in said.stdout) == (0, True)


def test_a_part_follows_the_journal_by_itself(page: Page, busy: System):
    page.open("/ops")
    before = page.texts("#part-today dd")[0]
    visit = {"site_id": "console-shop", "hostname": "console.example", "ip": "192.0.2.1", "user_agent": FIREFOX}
    send(busy, visit | {"event_type": "pageview", "path": "/again"})
    wait_for_page(lambda: page.texts("#part-today dd")[0] != before, "a higher count")


def test_a_hostile_payload_is_text_in_the_browser(page: Page):
    page.open("/ops/dead-letters")
    links = page.run("return [...document.querySelectorAll('tbody a')].map((each) => each.pathname)")
    assert len(links) >= 3
    for path in ["/ops/dead-letters", *links]:
        page.open(path)
        assert page.driver.title.endswith("Console · Footfall")
        assert not page.driver.find_elements(By.CSS_SELECTOR, "main img, main script")


def test_a_dead_letter_is_corrected_and_replayed_by_keyboard(page: Page, busy: System):
    url = first_letter(page)
    field = page.one("textarea")
    field.send_keys(Keys.CONTROL + "a", Keys.NULL, '{"site_id": "console-shop"}', Keys.TAB, Keys.ENTER)
    wait_for_page(lambda: "The event was not replayed." in page.one("main").text, "what is wrong")
    field = page.one("textarea")
    event = '{"site_id": "console-shop", "event_type": "corrected", "hostname": "console.example"}'
    field.send_keys(Keys.CONTROL + "a", Keys.NULL, event, Keys.TAB, Keys.ENTER)
    wait_for_page(lambda: page.driver.current_url != url and page.texts(".done"), "the list")
    body = {"site_id": "console-shop", "metrics": ["events"], "filters": [["is", "event:name", ["corrected"]]]}
    wait_for(lambda: ask(busy, **body)[0]["metrics"] == [1], "the event")
    mine = "/ops/dead-letters?site=console-shop"
    wait_for_page(
        lambda: page.open(mine) or "No dead letters match." in page.one("main").text, "a list without the letter"
    )


def test_a_purge_asks_with_the_count(page: Page, busy: System):
    busy.redis().xadd(JOURNAL_KEY, {"event": '{"site_id": "console-purged", "event_type": 7}'})
    purged = "/ops/dead-letters?site=console-purged"
    wait_for_page(lambda: page.open(purged) or "1 dead letter" in page.one("main").text, "the dead letter")
    page.click(".pick.danger")
    assert page.one("h1").text == "Purge 1 dead letter?"
    page.click("main form .danger")
    assert page.texts(".done") == ["1 dead letter is purged."]


def test_a_site_is_added_and_waits_for_its_first_event(page: Page, busy: System):
    site = f"new-{uuid4().hex[:8]}"
    page.open("/")
    page.click(".page-head a")
    page.one("[name=site_id]").send_keys(site, Keys.TAB, f"{site}.example", Keys.ENTER)
    wait_for_page(lambda: f'data-site="{site}"' in page.one("pre").text, "the site's snippet")
    assert page.driver.current_url.endswith(f"/site/{site}")
    page.click(".other-ways summary")
    assert f"pixel.gif?site_id={site}" in page.one(".other-ways").text
    send(busy, {"site_id": site, "event_type": "pageview", "url": "https://elsewhere.example/"})
    wait_for_page(lambda: "Other hosts (1)" in page.one("#hero").text, "why the event was dropped")
    assert page.one(".other-ways").get_attribute("open")
    send(busy, {"site_id": site, "event_type": "pageview", "url": f"https://{site}.example/here"})
    wait_for_page(lambda: page.driver.find_elements(By.ID, "panel-pages"), "the dashboard")


def goals_of(system: System) -> list[dict[str, str]]:
    site = json.loads(system.run_footfall("sites", "show", "console-goals").stdout)
    return list(site["goals"])


def focused(page: Page) -> WebElement:
    return page.driver.switch_to.active_element


def test_goals_are_written_in_rows_by_keyboard(page: Page, busy: System):
    busy.run_footfall("sites", "set", "console-goals", 'goals=[{"event_type": "signup"}]')
    page.show_as(360, 900, "light")
    page.open("/ops/site/console-goals")
    page.one("[name=domains]").send_keys("goals.example")
    page.one("#goals > button").send_keys(Keys.ENTER)
    wait_for(lambda: len(page.driver.find_elements(By.CLASS_NAME, "goal")) == 2, "another row")
    assert page.run("return document.activeElement === document.querySelectorAll('[name=goal_match]')[1]")
    page.driver.switch_to.active_element.send_keys("/thanks/*", Keys.TAB, "Bought", Keys.TAB, "euro")
    assert page.run("return document.activeElement.value") == "eur"
    assert page.run("return document.documentElement.scrollWidth") <= 360
    page.driver.switch_to.active_element.send_keys(Keys.BACKSPACE, Keys.ENTER)
    wait_for(lambda: page.texts("#goal-1-currency-error") == ["Not a code such as USD."], "what is wrong")
    assert accessibility_faults(page.driver) == []
    page.one(".goal:nth-of-type(2) [name=goal_currency]").send_keys("r")
    page.one("[aria-label='Remove goal 1']").send_keys(Keys.ENTER)
    wait_for(lambda: len(page.driver.find_elements(By.CLASS_NAME, "goal")) == 1, "one row less")
    assert page.run("return document.activeElement.textContent") == "Add a goal"
    assert goals_of(busy) == [{"name": "signup", "event_type": "signup"}]
    page.one("[name=goal_name]").send_keys(Keys.ENTER)
    wait_for(lambda: page.texts(".done") == ["The settings of console-goals are changed."], "the new settings")
    assert goals_of(busy) == [{"name": "Bought", "page": "/thanks/*", "currency": "EUR"}]
    assert page.one("[name=domains]").get_attribute("value") == "goals.example"


def test_goals_are_added_and_removed_without_scripts(page: Page, busy: System):
    busy.run_footfall("sites", "set", "console-goals", "goals=[]")
    page.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.driver.get(f"{page.base}/ops/site/console-goals")
        page.one("#goals > button").send_keys(Keys.ENTER)
        wait_for_page(lambda: focused(page).get_attribute("name") == "goal_match", "a row")
        focused(page).send_keys("/docs/**")
        page.one("#goals > button").send_keys(Keys.ENTER)
        wait_for_page(lambda: focused(page).get_attribute("value") == "", "another row")
        page.one("[aria-label='Remove goal 2']").send_keys(Keys.ENTER)
        wait_for(lambda: len(page.driver.find_elements(By.NAME, "goal_match")) == 1, "one row less")
        page.one(".fields > .main").send_keys(Keys.ENTER)
        wait_for(lambda: page.driver.find_elements(By.CLASS_NAME, "done"), "the new settings")
    finally:
        page.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert goals_of(busy) == [{"name": "Visit /docs/**", "page": "/docs/**"}]


def test_a_rule_is_added_and_tested_and_the_log_says_why_it_failed(page: Page, busy: System):
    page.open("/ops/notifications")
    page.click(".actions .pick.main")
    page.click("a[href$='kind=lag']")
    page.one("[name=site_id]").send_keys("console-shop")
    page.one("[name=threshold]").send_keys("7")
    Select(page.one("[name=channel]")).select_by_visible_text("webhook")
    page.one("[name=target]").send_keys("http://127.0.0.2/hook", Keys.ENTER)
    wait_for_page(lambda: any("whsec_" in text for text in page.texts(".secret")), "the secret")
    page.open("/ops/notifications")
    page.click("[aria-label^='Change the rule lag of console-shop']")
    page.one("[name=threshold]").clear()
    page.one("[name=threshold]").send_keys("9", Keys.ENTER)
    wait_for_page(lambda: page.texts(".done") == ["The rule is changed."], "the change")
    assert "9 minutes" in page.one("main").text
    page.click("[aria-label='Send a test of the rule lag of console-shop to http://127.0.0.2/...']")
    assert page.texts(".done") == [TEST_WAITS]
    assert busy.run_celery("call", "tasks.notifications.send_notifications").returncode == 0
    failed = "/ops/notifications?state=failed"
    wait_for_page(lambda: page.open(failed) or "http://127.0.0.2/..." in page.one("#log ~ .scroll").text, "the log", 60)
    assert not page.texts(".secret")


def test_charts_are_drawn_and_read_by_keyboard(page: Page):
    page.open("/ops/rates?period=day")
    assert len(page.driver.find_elements(By.CSS_SELECTOR, ".chart.drawn canvas")) == 4
    page.one(".plot").send_keys(Keys.END)
    read = page.run("return document.getElementById('read-events').textContent")
    assert "Stored" in read


@pytest.mark.parametrize("theme", THEMES)
def test_pages_are_accessible_in_both_themes(page: Page, theme: str):
    found = {}
    for name, path in views(page).items():
        page.show_as(1280, 900, theme)
        page.open(path)
        found[name] = accessibility_faults(page.driver)
    assert {name: each for name, each in found.items() if each} == {}


@pytest.mark.timeout(400)  # by itself it takes a fifth of that
def test_pages_fit_every_width(page: Page):
    check_that_pages_fit(page, {f"console-{name}": path for name, path in views(page).items()})


def views(page: Page) -> dict[str, str]:
    """VIEWS and LINKED."""
    found = dict(VIEWS)
    for name, (path, link) in LINKED.items():
        page.open(path)
        found[name] = (page.one(link).get_attribute("href") or "").removeprefix(page.base)
    return found


@pytest.mark.skipif("FOOTFALL_PICTURE" not in os.environ, reason="writes a file of the documentation")
def test_the_picture_of_the_documentation(page: Page):
    page.open("/ops")
    page.shoot(PICTURE, 1280, "light")
    assert PICTURE.stat().st_size < 200_000
