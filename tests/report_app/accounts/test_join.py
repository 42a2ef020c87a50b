"""Joining by an invitation link: who may, how often, and until when."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from flask import Flask
from pymongo.database import Database

from analytics.accounts.invitation import INVITATION_LIFE, OWNER_INVITATION_LIFE
from analytics.accounts.store import AccountStore, EmailTaken, InvitationOver
from analytics.accounts.user import Role, User
from report_app.accounts.join import EMAIL_TAKEN, OVER
from tests.report_app.accounts.conftest import MakeBrowser
from tests.support.accounts import (
    PASSWORD,
    PASSWORD_HASH,
    Browser,
    Clock,
    errors_in,
    make_member,
    make_owner,
    path_of,
)

MAX = "max@example.org"
NEW = {"email": MAX, "name": "Max", "password": PASSWORD}


def test_the_first_link_creates_an_owner_and_signs_them_in(browser: MakeBrowser, accounts: AccountStore):
    assert not accounts.has_users()
    token = accounts.invite_owner()
    guest = browser()
    assert "You will be an owner" in guest.get(f"/join/{token}").text
    assert path_of(guest.post(f"/join/{token}", **NEW)) == "/"
    assert "You are an owner" in guest.get("/account").text
    assert accounts.find(MAX).is_owner  # type: ignore[union-attr]
    assert browser().sign_in(MAX).status_code == 303


def test_a_link_works_once(browser: MakeBrowser, accounts: AccountStore):
    token = accounts.invite_owner()
    assert browser().post(f"/join/{token}", **NEW).status_code == 303
    for answer in (browser().get(f"/join/{token}"), browser().post(f"/join/{token}", page="/login", **NEW)):
        assert (answer.status_code, OVER in answer.text) == (404, True)


def test_looking_at_the_page_or_a_mistake_in_the_form_does_not_use_the_link(
    browser: MakeBrowser, accounts: AccountStore
):
    token = accounts.invite_owner()
    guest = browser()
    for wrong in ({"email": "max"}, {"name": " "}, {"name": "a\x00b"}, {"password": "short"}, {"password": "x" * 257}):
        assert guest.post(f"/join/{token}", **(NEW | wrong)).status_code == 400
    assert guest.post(f"/join/{token}", **NEW).status_code == 303


@pytest.mark.parametrize(
    ("invite", "life"),
    [
        (lambda store: store.invite_owner(), OWNER_INVITATION_LIFE),
        (lambda store: store.invite(MAX, "shop", Role.VIEWER), INVITATION_LIFE),
    ],
)
def test_a_link_expires(browser: MakeBrowser, accounts: AccountStore, clock: Clock, invite: Callable[..., str], life):
    token = invite(accounts)
    clock.forward(seconds=life.total_seconds() - 60)
    assert browser().get(f"/join/{token}").status_code == 200
    clock.forward(seconds=61)
    assert browser().get(f"/join/{token}").status_code == 404
    with pytest.raises(InvitationOver):
        accounts.join(token, MAX, "Max", PASSWORD_HASH)


def test_of_the_links_for_an_owner_only_the_latest_works(accounts: AccountStore):
    first, second = accounts.invite_owner(), accounts.invite_owner()
    assert accounts.invitation(first) is None
    assert accounts.invitation(second)


def test_of_two_people_who_use_a_link_at_the_same_time_one_joins(accounts: AccountStore):
    make_owner(accounts)
    token = accounts.invite_owner()
    barrier = Barrier(4)

    def join(n: int) -> User | None:
        barrier.wait()
        try:
            return accounts.join(token, f"{n}@example.org", "Max", PASSWORD_HASH)
        except InvitationOver:
            return None

    with ThreadPoolExecutor(4) as pool:
        assert sum(user is not None for user in pool.map(join, range(4))) == 1
    assert len(accounts.list()) == 2


def test_an_invitation_is_for_one_address(browser: MakeBrowser, accounts: AccountStore):
    token = accounts.invite(MAX, "shop", Role.EDITOR)
    page = browser().get(f"/join/{token}").text
    assert "invited to shop as editor" in page
    assert 'readonly type="email" value="max@example.org"' in page or "readonly" in page
    assert path_of(browser().post(f"/join/{token}", **(NEW | {"email": "eve@example.org"}))) == "/"
    assert [(user.email, dict(user.roles), user.is_owner) for user in accounts.list()] == [
        (MAX, {"shop": Role.EDITOR}, False)
    ]
    token = accounts.invite("other@example.org", "shop", Role.EDITOR)
    with pytest.raises(InvitationOver):
        accounts.join(token, "eve@example.org", "Eve", PASSWORD_HASH)


def test_a_user_accepts_another_site_after_signing_in(browser: MakeBrowser, accounts: AccountStore):
    user = make_member(accounts, MAX, "shop", Role.VIEWER)
    token = accounts.invite(MAX, "$blog.a/b", Role.EDITOR)
    guest = browser()
    refused = guest.post(f"/join/{token}", **NEW)
    assert errors_in(refused.text) == [EMAIL_TAKEN]
    assert path_of(guest.sign_in(MAX, to=f"/login?next=/join/{token}")) == f"/join/{token}"
    assert path_of(guest.post(f"/join/{token}")) == "/"
    assert dict(accounts.get(user.id).roles) == {"shop": Role.VIEWER, "$blog.a/b": Role.EDITOR}  # type: ignore[union-attr]
    assert guest.get(f"/join/{token}").status_code == 404


def test_another_user_cannot_accept_it(browser: MakeBrowser, accounts: AccountStore):
    make_member(accounts, "eve@example.org", "blog", Role.VIEWER)
    token = accounts.invite(MAX, "shop", Role.EDITOR)
    eve = browser()
    eve.sign_in("eve@example.org")
    assert eve.post(f"/join/{token}").status_code == 404
    assert accounts.invitation(token)
    assert not accounts.find("eve@example.org").may_read("shop")  # type: ignore[union-attr]


def test_no_two_users_have_one_address(accounts: AccountStore):
    make_owner(accounts, MAX)
    token = accounts.invite_owner()
    with pytest.raises(EmailTaken):
        accounts.join(token, MAX, "Max", PASSWORD_HASH)
    assert accounts.invitation(token)


def test_the_database_does_not_hold_the_link(accounts: AccountStore, database: Database[dict[str, Any]]):
    token = accounts.invite_owner()
    (stored,) = database["invitations"].find({})
    assert token not in str(stored)


def test_a_page_shows_text_of_others_as_text(browser: MakeBrowser, accounts: AccountStore):
    script = "<script>alert(1)</script>"
    token = accounts.invite_owner()
    guest = browser()
    assert script not in guest.post(f"/join/{token}", **(NEW | {"name": script, "email": f"{script}@x"})).text
    guest.post(f"/join/{token}", **(NEW | {"name": script}))
    assert script not in guest.get("/account").text
    token = accounts.invite(MAX, script, Role.VIEWER)
    assert script not in browser().get(f"/join/{token}").text


def test_pages_load_and_run_nothing_of_others(app: Flask):
    for path in ("/login", "/account", "/assets/tokens.css", "/join/x"):
        answer = Browser(app).get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "style=" not in answer.text
        assert "<script" not in answer.text
        if not path.startswith("/assets"):
            assert answer.headers["Cache-Control"] == "no-store"
        answer.close()
