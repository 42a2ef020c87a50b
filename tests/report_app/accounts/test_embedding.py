"""A site's reports in a frame of another page: over HTTP, and in a real Chromium that sends the frame no cookie."""

import re
from html import unescape
from typing import Any

import pytest
from pymongo.database import Database
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from werkzeug.test import TestResponse

from analytics.accounts.passwords import hash_password
from analytics.accounts.sharing import SharingStore
from analytics.accounts.store import AccountStore
from tests.report_app.accounts.conftest import MakeBrowser
from tests.support.accounts import Browser, Clock, errors_in, make_owner
from tests.support.browser import FramingPage, Listener, wait_for_page
from tests.support.services import tell

BLOG = "https://blog.example"
SITE = "shop"
FRAMED = f"/site/{SITE}?period=7d&embed="


@pytest.fixture
def owner(browser: MakeBrowser, accounts: AccountStore) -> Browser:
    make_owner(accounts)
    owner = browser()
    owner.sign_in("olga@example.org")
    return owner


@pytest.fixture
def visited(database: Database[dict[str, Any]]) -> None:
    tell(database, {"at": "21 10:00:00", "path": "/"}, {"at": "21 10:05:00", "path": "/pricing"})


def ancestors(answer: TestResponse) -> str:
    found = re.search("frame-ancestors ([^;]*)", answer.headers["Content-Security-Policy"])
    assert found
    return found[1]


def snippet_in(page: str) -> str:
    """The address in the HTML that the sharing page shows."""
    found = re.search('<iframe src="([^"]*)"', unescape(page))
    return unescape(found[1]) if found else ""


def test_a_page_may_be_framed_by_the_origins_of_its_site_only(
    browser: MakeBrowser, sharing: SharingStore, visited: None
):
    sharing.set_public(SITE, True)
    sharing.set_framing_origins(SITE, [BLOG, "http://localhost:8000"])
    guest = browser()
    for path in ("/site/", "/list/pages/", "/parts/panel/pages/"):
        answer = guest.get(f"{path}{SITE}?period=7d&embed=public")
        assert (answer.status_code, ancestors(answer)) == (200, f"{BLOG} http://localhost:8000")
        assert "Set-Cookie" not in answer.headers
    for path in ("/login", f"/site/{SITE}", "/login?embed=public", f"/sharing/{SITE}?embed=public", "/?embed=public"):
        assert ancestors(guest.get(path)) == "'none'"


def test_a_framed_page_has_only_the_menus_of_time_and_keeps_its_token_in_each_link(
    browser: MakeBrowser, sharing: SharingStore, visited: None
):
    sharing.set_framing_origins(SITE, [BLOG])
    _, token = sharing.create(SITE, "Blog", None, None)
    guest = browser()
    for path in (FRAMED, f"/parts/panel/pages/{FRAMED[6:]}", f"/list/pages/{FRAMED[6:]}", f"/parts/world/{FRAMED[6:]}"):
        page = guest.get(path + token).text
        assert "/logout" not in page
        assert "/ops" not in page
        assert 'aria-label="Sites"' not in page
        assert ('id="period"' in page) is (path == FRAMED)
        links = [unescape(link) for link in re.findall(' href="([^"#]*)"', page)]
        kept = [link for link in links if not link.startswith("/assets/") and f"embed={token}" not in link]
        assert kept == ([f"/share/{token}"] if path == FRAMED else [])
    assert 'target="_parent" rel="noopener"' in guest.get(FRAMED + token).text


def test_a_token_opens_a_frame_as_long_as_its_link_is_valid_and_has_no_password(
    browser: MakeBrowser, sharing: SharingStore, clock: Clock
):
    link, token = sharing.create(SITE, "Blog", None, None)
    guest = browser()
    assert guest.get(FRAMED + token).status_code == 404, "the site lists no origin"
    sharing.set_framing_origins(SITE, [BLOG])
    sharing.set_framing_origins("other", [BLOG])
    assert guest.get(FRAMED + token).status_code == 200
    assert guest.get(f"/site/other?embed={token}").status_code == 404
    closed = sharing.create(SITE, "Board", hash_password("a password"), None)[1]
    short = sharing.create(SITE, "Short", None, clock())[1]
    sharing.revoke(SITE, link.digest)
    for other in (closed, short, token, link.digest, "public", "x" * 5000):
        answer = guest.get(FRAMED + other)
        assert (answer.status_code, ancestors(answer)) == (404, "'none'")


def test_a_user_has_no_rights_in_a_frame(owner: Browser, sharing: SharingStore, visited: None):
    sharing.set_public(SITE, True)
    sharing.set_framing_origins(SITE, [BLOG])
    assert "Annotate" in owner.get(f"/site/{SITE}?period=all").text
    assert "Annotate" not in owner.get(f"/site/{SITE}?period=all&embed=public").text
    fields = {"day": "2026-11-21", "text": "Launch"}
    answer = owner.post(f"/annotate/{SITE}?embed=public", page="/account", **fields)
    assert answer.status_code == 403


def test_the_sharing_page_reads_origins_and_shows_the_snippet(owner: Browser, sharing: SharingStore):
    page, change = f"/sharing/{SITE}", f"/sharing-framing/{SITE}"
    wrong = owner.post(change, page=page, origins=f"{BLOG} https://x.example;script-src")
    assert wrong.status_code == 400
    assert "https://x.example;script-src is not an origin" in errors_in(wrong.text)[0]
    many = owner.post(change, page=page, origins=" ".join(f"https://{n}.example" for n in range(21)))
    assert errors_in(many.text) == ["A site has at most 20 origins."]
    assert sharing.framing_origins(SITE) == []
    assert (
        owner.post(change, page=page, origins=f"https://Blog.example/\n{BLOG}\r\nhttp://localhost:8000").status_code
        == 303
    )
    assert sharing.framing_origins(SITE) == [BLOG, "http://localhost:8000"]
    assert snippet_in(owner.get(page).text) == ""
    made = owner.post(page, name="Blog", password="", days="7").text
    assert owner.get(snippet_in(made)).status_code == 200
    assert snippet_in(owner.post(page, name="Board", password="a password", days="7").text) == ""
    sharing.set_public(SITE, True)
    assert snippet_in(owner.get(page).text) == f"http://localhost/site/{SITE}?embed=public"
    assert owner.post(change, page=page, origins="").status_code == 303
    assert snippet_in(owner.get(page).text) == ""


def test_a_listed_origin_shows_the_frame_and_another_does_not(
    server: str, chrome: Chrome, sharing: SharingStore, visited: None
):
    _, token = sharing.create(SITE, "Blog", None, None)
    with Listener(FramingPage) as blog:
        # The server is at 127.0.0.1. So localhost is another site, whose frame gets no cookie.
        listed = f"http://localhost:{blog.port}"
        sharing.set_framing_origins(SITE, [listed])
        chrome.get(f"{listed}/?{server}/site/{SITE}?period=all&embed={token}")
        chrome.switch_to.frame(0)
        rows = wait_for_page(lambda: chrome.find_elements(By.CSS_SELECTOR, "#panel-pages li a"), "the panel", 60)
        assert "/pricing" in [row.find_element(By.CSS_SELECTOR, ".name").text for row in rows]
        rows[0].click()
        wait_for_page(lambda: chrome.find_elements(By.CSS_SELECTOR, ".chip"), "the filter", 60)
        chrome.find_element(By.ID, "period").click()
        chrome.find_element(By.CSS_SELECTOR, "[data-key=w]").click()
        shown = "return document.getElementById('period')?.innerText ?? ''"  # an element would be replaced meanwhile
        wait_for_page(lambda: "Last 7 days" in chrome.execute_script(shown), "the period", 60)
        assert chrome.get_cookies() == []
        said = [line["message"] for line in chrome.get_log("browser") if line["source"] in ("security", "javascript")]
        assert said == []
        chrome.find_element(By.CSS_SELECTOR, "header a[target=_parent]").click()
        chrome.switch_to.default_content()
        wait_for_page(lambda: chrome.current_url == f"{server}/site/{SITE}", "the page outside of the frame", 60)
        chrome.get(f"{blog.origin}/?{server}/site/{SITE}?period=all&embed={token}")
        said = wait_for_page(lambda: [line["message"] for line in chrome.get_log("browser")], "the browser's refusal")
        assert "frame-ancestors" in said[0]
        chrome.switch_to.frame(0)
        assert chrome.find_elements(By.ID, "hero") == []
