"""What each role gets and sees in a real Chromium: every page, and the menus and forms of the dashboard."""

from typing import Any

from pymongo.database import Database
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from analytics.accounts.user import Role
from analytics.sites.site import Site
from config.services import Services
from tests.report_app.accounts.test_accounts_in_browser import text_of, write
from tests.report_app.accounts.test_roles import CONSOLE, REPORTS, RULES, SITE, request_of
from tests.support.accounts import PASSWORD, make_member, make_owner
from tests.support.browser import wait_for_page
from tests.support.services import tell

# The rows of RULES that are pages. The others are parts of pages, tables, files, and links that are opened once.
PAGES = [
    row
    for row in RULES
    if row.startswith("GET ") and not row.startswith(("GET /parts/", "GET /csv/", "GET /assets/", "GET /badge/"))
]
BEHIND_THE_FIRST = [row for row in CONSOLE if row in PAGES and row != "GET /ops"]  # of the console
# What a shared link opens. The history of visitors needs an account.
READS = {"GET /share/<token>", *(f"GET {path}/<path:site_id>" for path in REPORTS if path != "/visitors")}
OF_ALL = {"API documentation"}
OF_USERS = OF_ALL | {"Your account", "Visitors", "Sign out"}
# What the menu of the dashboard leads to, and what else the page has: the form to annotate.
MENUS = {
    "owner": OF_USERS | {"Members", "Sharing", "Data", "Console"},
    "editor": OF_USERS | {"Sharing", "Data"},
    "viewer": OF_USERS,
    "guest of a link": OF_ALL | {"Sign in"},
}
EDITS = {"owner", "editor"}
TITLE = "?.textContent ?? ''"
OPENED = f"""
    const [{{ responseStatus }}] = performance.getEntriesByType('navigation')
    return [responseStatus, location.href, document.querySelector('h1'){TITLE}]"""
FETCHED = f"""
    const fetched = async (address) => {{
      const answer = await fetch(address)
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html')
      return [answer.status, answer.url, page.querySelector('h1'){TITLE}]
    }}
    Promise.all(arguments[0].map(fetched)).then(arguments[1])"""
MENU = (
    "return [...document.querySelectorAll('#top > .menu:last-child .sheet > :is(a, form)')]"
    ".map((each) => each.textContent.trim())"
)


def opened(chrome: Chrome, address: str) -> list[Any]:
    """The status, address and title of a page that the browser opens."""
    chrome.get(address)
    return list(chrome.execute_script(OPENED))


def fetched(chrome: Chrome, addresses: list[str]) -> list[list[Any]]:
    """The same for pages that a script of the same origin fetches at once, with the cookie of the browser."""
    return list(chrome.execute_async_script(FETCHED, addresses))


def outcome(row: str, status: int, url: str, title: str) -> str:
    """What a browser gets: "page", "login" if it is sent to sign in, or "refused" with the title that says so."""
    if "/login?next=" in url and "/login" not in row:
        return "login"
    if status == 403:
        return f"refused: {title}"
    assert status in (200, 404), (status, row)
    return "page"


def expected(row: str, role: str) -> tuple[str, ...]:
    if role in RULES[row] or (role == "guest of a link" and row in READS):
        return ("page",)
    if "guest" in role:
        return ("page" if "guest" in RULES[row] else "login",)
    return ("refused: You may not see this site", "refused: Forbidden")


def test_every_page_opens_to_its_roles_only_and_shows_what_they_may_do(
    server: str, chrome: Chrome, timed: Services, database: Database[Any]
):
    tell(database, {"site_id": SITE, "at": "22 10:00:00", "path": "/pricing"})
    timed.sites.put(Site(SITE, shows_visitors=True))
    accounts = timed.accounts
    make_owner(accounts, "owner@example.org")
    for name in ("viewer", "editor"):
        make_member(accounts, f"{name}@example.org", SITE, Role(name))
    other = make_member(accounts, "other@example.org", SITE, Role.VIEWER)
    _, token = timed.sharing.create(SITE, "For Max", None, None)
    chrome.execute_cdp_cmd("Network.enable", {})
    for role in ("guest", "guest of a link", "viewer", "editor", "owner"):
        chrome.delete_all_cookies()
        if role == "guest of a link":
            chrome.get(f"{server}/share/{token}")
        elif role != "guest":
            chrome.get(f"{server}/login")
            write(chrome, f"{role}@example.org", PASSWORD)
        # Pages without scripts and styles ask for no parts, and open sooner.
        chrome.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/assets/*", "*/docs/*"]})
        addresses = {row: server + request_of(row, other.id)[1] for row in PAGES}
        found = {row: outcome(row, *opened(chrome, addresses[row])) for row in PAGES if row not in BEHIND_THE_FIRST}
        chrome.get(f"{server}/docs")  # its policy lets a script fetch, also for a guest
        answers = fetched(chrome, [addresses[row] for row in BEHIND_THE_FIRST])
        found |= {row: outcome(row, *each) for row, each in zip(BEHIND_THE_FIRST, answers, strict=True)}
        assert {row: each for row, each in found.items() if each not in expected(row, role)} == {}, role
        if role in MENUS:
            chrome.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
            chrome.get(f"{server}/site/{SITE}?period=all")
            wait_for_page(lambda: text_of(chrome, ".fig .v") == "1", "the figures")
            assert set(chrome.execute_script(MENU)) == MENUS[role]
            assert bool(chrome.find_elements(By.CSS_SELECTOR, "form[action^='/annotate/']")) is (role in EDITS)
