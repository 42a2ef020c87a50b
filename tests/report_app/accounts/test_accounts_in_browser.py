"""The account pages in a real Chromium: by keyboard from the first link to two-step sign-in, at each width."""

import re
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database
from redis import Redis
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By

from analytics.accounts.sharing import SharingStore
from analytics.accounts.store import AccountStore
from analytics.accounts.user import Role
from config.services import Services
from config.settings import Settings
from report_app import create_app, site_data
from report_app.accounts.share import WRONG_LINK_PASSWORD
from report_app.accounts.sign_in import WRONG_LOGIN
from tests.analytics.imports.conftest import SAMPLES
from tests.report_app.accounts.conftest import MakeBrowser, served
from tests.support.accounts import PASSWORD, PASSWORD_HASH, Clock, code_now, make_member, make_owner, token_in
from tests.support.browser import Listener, Quiet, accessibility_faults, wait_for_page
from tests.support.running_system import ROOT, wait_for
from tests.support.services import tell

PICTURES = ROOT / "build" / "screenshots"
WIDTHS = (360, 768, 1280, 1600)
# The text, width and height of each target, and the width that it may have.
SIZES = """
    return [...document.querySelectorAll("button, input:not([type=hidden]), select")].map((target) => {
        const {width, height} = target.getBoundingClientRect();
        return [target.innerText || target.name, width, height, target.closest(".card, header").clientWidth];
    });
"""


def write(chrome: Chrome, *texts: str) -> None:
    """Fills in the fields of the page's first form in their order, by keyboard, sends it, and waits for the answer."""
    chrome.execute_script("window.isBefore = true")
    chrome.find_element(By.CSS_SELECTOR, "form.card input:not([type=hidden]):not([readonly])").click()
    for n, text in enumerate(texts):
        chrome.switch_to.active_element.send_keys(
            Keys.CONTROL + "a" + Keys.NULL + text, Keys.ENTER if n == len(texts) - 1 else Keys.TAB
        )
    is_answered = "return !window.isBefore && document.readyState === 'complete'"
    wait_for_page(lambda: chrome.execute_script(is_answered), "the answer to the form")


def look(chrome: Chrome, name: str) -> None:
    """Takes pictures, and checks that nothing is wider than the window, that every target is large enough, and that
    axe-core finds nothing.
    """
    PICTURES.mkdir(parents=True, exist_ok=True)
    for theme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        for width in WIDTHS:
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            assert chrome.execute_script("return document.documentElement.scrollWidth") <= width, (name, width)
            for text, own_width, height, room in chrome.execute_script(SIZES):
                assert height >= 40, (name, width, text)
                assert own_width < room, (name, width, text)
            chrome.save_screenshot(str(PICTURES / f"accounts-{name}-{width}-{theme}.png"))
        assert accessibility_faults(chrome) == [], (name, theme)
    problems = [line["message"] for line in chrome.get_log("browser") if "favicon" not in line["message"]]
    assert [text for text in problems if not re.search("status of 4(00|29)", text)] == []


def test_from_the_first_link_to_two_step_sign_in(server: str, chrome: Chrome, accounts: AccountStore, clock: Clock):
    token = accounts.invite_owner()
    chrome.get(f"{server}/join/{token}")
    look(chrome, "join")
    write(chrome, "olga@example.org", "Olga", PASSWORD)
    chrome.get(f"{server}/account/two-step")
    secret = chrome.find_element(By.CSS_SELECTOR, "code").text
    wait_for_page(lambda: chrome.execute_script("return document.querySelector('.qr').naturalWidth") > 100, "the code")
    look(chrome, "two-step")
    write(chrome, PASSWORD, code_now(secret, clock))
    wait_for_page(lambda: len(chrome.find_elements(By.CSS_SELECTOR, ".codes li")) == 10, "the recovery codes")
    look(chrome, "recovery-codes")
    chrome.get(f"{server}/account")
    look(chrome, "account")
    chrome.find_element(By.CSS_SELECTOR, "header button").send_keys(Keys.ENTER)
    wait_for_page(lambda: chrome.current_url.endswith("/login"), "the way to the sign-in")
    write(chrome, "olga@example.org", "wrong")
    look(chrome, "login")
    write(chrome, "olga@example.org", PASSWORD)
    clock.forward(seconds=60)
    look(chrome, "code")
    write(chrome, code_now(secret, clock))
    wait_for_page(lambda: chrome.current_url == f"{server}/ops/sites/new", "the form of the first site")
    chrome.get(f"{server}/account/two-step/off")
    look(chrome, "two-step-off")
    write(chrome, PASSWORD)
    assert chrome.find_element(By.CSS_SELECTOR, ".done").text == "Two-step sign-in is off."


def test_members_and_sharing(server: str, chrome: Chrome, accounts: AccountStore, sharing: SharingStore):
    token = accounts.invite_owner()
    make_member(accounts, "a-very-long-address-of-a-member@subdomain.example.org", "shop", Role.EDITOR)
    accounts.invite("invited@example.org", "shop", Role.VIEWER)
    sharing.create("shop", "For the board", "hash", None)
    chrome.get(f"{server}/join/{token}")
    write(chrome, "olga@example.org", "Olga", PASSWORD)
    for page in ("members", "sharing"):
        chrome.get(f"{server}/{page}/shop")
        look(chrome, page)


def test_a_large_file_is_sent_in_parts(
    server: str, chrome: Chrome, accounts: AccountStore, timed: Services, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(site_data, "LARGEST_PART", 300)
    monkeypatch.setattr(site_data, "LARGEST_UPLOAD", 1000)
    chrome.get(f"{server}/join/{accounts.invite_owner()}")
    write(chrome, "olga@example.org", "Olga", PASSWORD)
    chrome.get(f"{server}/data/shop")

    def choose(file: Path) -> None:
        chrome.find_element(By.ID, "file").send_keys(str(file))
        chrome.find_element(By.CSS_SELECTOR, "form[data-part] button").click()

    def text_of(selector: str) -> str:
        return chrome.find_element(By.CSS_SELECTOR, selector).text

    choose(SAMPLES / "umami_website_event.csv")
    wait_for_page(lambda: text_of("form[data-part] [role=alert]"), "the reason")
    choose(SAMPLES / "goatcounter.csv")
    wait_for_page(lambda: "The file is uploaded." in text_of("main"), "the end of the upload")
    (found,) = timed.uploads.list("shop")
    assert (found.state, found.size, len(found.parts)) == ("new", 697, 3)
    timed.upload_worker.work(lambda: None, lambda: None)
    chrome.refresh()
    look(chrome, "data")
    assert "GoatCounter" in text_of("main")


def test_a_member_accepts_another_site(server: str, chrome: Chrome, accounts: AccountStore):
    make_member(accounts, "max@example.org", "shop", Role.EDITOR)
    chrome.get(f"{server}/login")
    write(chrome, "max@example.org", PASSWORD)
    chrome.get(f"{server}/join/{accounts.invite('max@example.org', 'blog', Role.VIEWER)}")
    look(chrome, "accept")
    chrome.find_element(By.CSS_SELECTOR, "form.card button").send_keys(Keys.ENTER)
    wait_for_page(lambda: chrome.current_url == f"{server}/", "the overview")
    user = accounts.find("max@example.org")
    assert user
    assert user.roles == {"shop": Role.EDITOR, "blog": Role.VIEWER}


def test_a_shared_link_with_a_password_opens_the_dashboard_of_its_site(
    server: str, chrome: Chrome, sharing: SharingStore, database: Database[Any]
):
    tell(database, {"at": "22 10:00:00", "path": "/pricing"})
    _, token = sharing.create("shop", "For the board", PASSWORD_HASH, None)
    chrome.get(f"{server}/site/shop")
    assert "/login" in chrome.current_url
    chrome.get(f"{server}/share/{token}")
    look(chrome, "shared-link")
    write(chrome, "wrong")
    assert chrome.find_element(By.CSS_SELECTOR, ".error").text == WRONG_LINK_PASSWORD
    write(chrome, PASSWORD)
    wait_for_page(lambda: chrome.current_url == f"{server}/site/shop", "the dashboard")
    chrome.get(f"{server}/site/shop?period=all")
    wait_for_page(lambda: "/pricing" in chrome.find_element(By.ID, "panel-pages").text, "the panel of pages", 60)


def text_of(chrome: Chrome, selector: str) -> str:
    return chrome.find_element(By.CSS_SELECTOR, selector).text


def test_wrong_passwords_close_an_account_for_some_minutes_to_the_right_one_too(
    server: str, chrome: Chrome, settings: Settings, timed: Services, redis: Redis
):
    make_owner(timed.accounts)
    refusals = []
    while not refusals or refusals[-1] == WRONG_LOGIN:
        chrome.get(f"{server}/login?next=%2Faccount")
        write(chrome, "olga@example.org", f"guess {len(refusals)}")
        refusals.append(text_of(chrome, ".error, h1 + p"))
    assert 10 <= len(refusals) - 1 <= 11, "a process counts one attempt before Redis knows it"
    assert re.fullmatch("There were too many attempts. Try again in 1[0-5] minutes.", refusals[-1])
    look(chrome, "too-many-attempts")
    chrome.get(f"{server}/login?next=%2Faccount")
    write(chrome, "olga@example.org", PASSWORD)
    assert text_of(chrome, "h1") == "Too many attempts"
    chrome.get(f"{server}/account")
    assert "/login" in chrome.current_url
    # The minutes pass: Redis forgets the attempts. Another process of the app did not see them.
    for name in redis.scan_iter("footfall:rate*"):
        redis.pexpire(name, 1)
    wait_for(lambda: not list(redis.scan_iter("footfall:rate*")), "the end of the minutes")
    with served(create_app(settings, timed)) as later:
        chrome.get(f"{later}/login?next=%2Faccount")
        write(chrome, "olga@example.org", PASSWORD)
        assert chrome.current_url == f"{later}/account"


class ForgedForm(Quiet):
    """A page with a form that opens a site to everyone, as a page of an attacker has it."""

    action = token = ""

    def do_GET(self) -> None:  # noqa: N802  http.server's name
        fields = f'<input name="public" value="yes"><input name="csrf_token" value="{self.token}">'
        form = f'<form method="post" action="{self.action}">{fields}<button>Win</button></form>'
        self.answer(200, f"<!doctype html><title>Win</title>{form}".encode(), Content_Type="text/html")


def test_a_form_of_another_origin_or_without_its_token_changes_nothing(
    server: str, chrome: Chrome, accounts: AccountStore, sharing: SharingStore, browser: MakeBrowser
):
    make_member(accounts, "max@example.org", "shop", Role.EDITOR)
    chrome.get(f"{server}/login")
    write(chrome, "max@example.org", PASSWORD)
    own, opens = f"{server}/sharing/shop", "form[action^='/sharing-public'] button"
    is_refused = "return document.querySelector('h1')?.textContent === 'The form expired'"
    foreign_token = token_in(browser().get("/login").text)
    assert foreign_token
    for token in ("", foreign_token):
        with Listener(ForgedForm, action=f"{server}/sharing-public/shop", token=token) as attacker:
            # The server is at 127.0.0.1. The browser sends its cookie with a form of another port of the same host, and
            # with none of localhost, which is another site.
            for host in ("127.0.0.1", "localhost"):
                chrome.get(f"http://{host}:{attacker.port}/")
                chrome.find_element(By.CSS_SELECTOR, "button").click()
                wait_for_page(lambda: chrome.execute_script(is_refused), f"the refusal of a form of {host}")
                assert "Nothing was changed." in text_of(chrome, "main")
    chrome.get(own)
    chrome.execute_script("for (const each of document.querySelectorAll('[name=csrf_token]')) each.remove()")
    chrome.find_element(By.CSS_SELECTOR, opens).click()
    wait_for_page(lambda: chrome.execute_script(is_refused), "the refusal of the own form")
    assert not sharing.is_public("shop")
    chrome.get(own)
    chrome.find_element(By.CSS_SELECTOR, opens).click()
    wait_for_page(lambda: sharing.is_public("shop"), "the change")
