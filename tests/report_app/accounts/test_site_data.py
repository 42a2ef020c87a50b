"""/data/<site_id>: the rules for paths of stored events."""

from typing import Any

import pytest
from pymongo.database import Database

from analytics.accounts.store import AccountStore
from analytics.accounts.user import Role
from analytics.sites.site import Site
from config.services import Services
from tests.report_app.accounts.conftest import MakeBrowser
from tests.support.accounts import Browser, make_member, path_of
from tests.support.services import tell

SITE = "shop/de"


@pytest.fixture
def editor(browser: MakeBrowser, accounts: AccountStore) -> Browser:
    make_member(accounts, "ed@example.org", SITE, Role.EDITOR)
    editor = browser()
    editor.sign_in("ed@example.org")
    return editor


def test_an_editor_applies_the_rules_and_the_workers_build_the_months(
    editor: Browser, timed: Services, database: Database[dict[str, Any]]
):
    timed.segments.backfill.note_if_there_is_none()
    timed.sites.put(Site(SITE, path_rules=("/user/:id", "/<b>")))
    refused = editor.post(f"/data-path-rules/{SITE}", page=f"/data/{SITE}")
    assert (refused.status_code, "There are no events of this site." in refused.text) == (400, True)
    tell(database, {"at": "21 10:00:00", "path": "/user/1", "site_id": SITE})
    timed.segments.builder.build_site(SITE, everything=True)
    page = editor.get(f"/data/{SITE}").text
    assert "/user/:id" in page
    assert "&lt;b&gt;" in page
    assert "Stored events follow these rules." not in page
    assert path_of(editor.post(f"/data-path-rules/{SITE}", page=f"/data/{SITE}")) == f"/data/{SITE}"
    page = editor.get(f"/data/{SITE}").text
    assert "The workers build 1 month again." in page
    assert "1 month to build" in page
    assert timed.due_builds.is_any()
    timed.segments.builder.build_due()
    assert "Stored events follow these rules." in editor.get(f"/data/{SITE}").text
    assert timed.segments.store.manifest(SITE).paths == timed.sites.get(SITE).rules_for_paths()
