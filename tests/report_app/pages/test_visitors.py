"""The pages of recent visitors and of a visitor's history: what they show, and to whom."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from pymongo.database import Database

from analytics.accounts.user import Role
from analytics.sites.site import Site
from config.services import Services
from config.settings import Settings
from report_app import create_app
from tests.support.accounts import Browser, make_member
from tests.support.services import tell

HOSTILE = '"><img src=x>&visitor=1'
Person = Callable[[str], Browser]


@pytest.fixture
def person(settings: Settings, services: Services, database: Database) -> Person:
    """A browser in which a viewer of this site is signed in. "" is a guest. The shop shows its visitors."""
    app = create_app(replace(settings, report_key="a-report-key-for-tests"), services)
    services.sites.put(Site("shop", shows_visitors=True))
    services.sites.put(Site("blog"))
    tell(
        database,
        {"at": "22 10:00:00", "path": "/", "country": "DE", "source": "Google"},
        {"at": "22 10:01:00", "event_type": "signup", "path": "/join", "props": {"plan": HOSTILE}},
        {"at": "22 11:00:00", "path": "/", "user_id": HOSTILE},
        {"at": "20 11:00:00", "path": "/old"},
        {"at": "22 11:00:00", "path": "/post", "site_id": "blog", "user_id": "eve"},
    )

    def sign_in(site_id: str) -> Browser:
        browser = Browser(app)
        if site_id:
            make_member(services.accounts, f"{site_id}@example.org", site_id, Role.VIEWER)
            browser.sign_in(f"{site_id}@example.org")
        return browser

    return sign_in


def test_a_member_opens_a_visitor_from_the_recent_ones(person: Person):
    member = person("shop")
    page = member.get("/visitors/shop?period=7d").text
    assert page.index("%22%3E%3Cimg") < page.index("visitor=ann")
    assert "<img" not in page
    assert "visitor=eve" not in page
    assert 'href="/visitors/shop"' in member.get("/site/shop?period=7d").text
    history = member.get("/visitors/shop?period=7d&visitor=ann").text
    assert history.index("Sun 22 Nov 2026, 10:00, 1m 00s") < history.index("Fri 20 Nov 2026, 11:00, 0s")
    assert "Google · Germany" in history
    assert "10:01:00" in history
    assert "plan: &#34;&gt;&lt;img src=x&gt;" in history
    assert "/old" not in member.get("/visitors/shop?period=day&visitor=ann").text
    assert "No visit in this period." in member.get("/visitors/shop?period=7d&visitor=nobody").text


def test_a_site_that_does_not_show_visitors_shows_none(person: Person, services: Services):
    member = person("blog")
    for visitor in ("", "eve"):
        page = member.get(f"/visitors/blog?period=7d&visitor={visitor}")
        assert page.status_code == 404
        assert "does not show individual visitors" in page.text
        assert "/post" not in page.text
    assert "/visitors/" not in member.get("/site/blog?period=7d").text


def test_without_a_role_there_is_no_history(person: Person, services: Services, settings: Settings):
    services.sharing.set_public("shop", True)
    services.sharing.set_framing_origins("shop", ["https://blog.example"])
    page, guest, other = "/visitors/shop?period=7d", person(""), person("blog")
    assert guest.get("/site/shop?period=7d").status_code == 200
    assert guest.get(page).location.startswith("/login?next=")
    assert other.get("/site/shop?period=7d").status_code == 200
    assert other.get(page).status_code == 403
    assert other.get("/visitors/blog?period=7d&with=shop&visitor=ann").status_code == 403
    assert guest.get(f"{page}&embed=public").status_code == 303
    assert person("shop").get(f"{page}&embed=public").status_code == 403
    open_app = Browser(create_app(settings, services))
    assert open_app.get(page).location.startswith("/login?next=")
