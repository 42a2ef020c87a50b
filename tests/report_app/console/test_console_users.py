"""Users in the console: invited, given roles, signed out, removed."""

import re
from html import unescape
from urllib.parse import urlsplit

import pytest
from flask import Flask

from analytics.accounts.user import Role
from analytics.sites.site import Site
from config.services import Services
from tests.report_app.console.conftest import OLGA
from tests.support.accounts import PASSWORD, Browser, errors_in, make_member, path_of

MAX = "max@example.org"


def link_in(page: str) -> str:
    found = re.search(r"<code>(http[^<]*)</code>", page)
    assert found, errors_in(page)
    return urlsplit(unescape(found[1])).path


@pytest.mark.parametrize("role", ["viewer", "editor", "owner"])
def test_an_invited_user_has_the_role(owner: Browser, app: Flask, real: Services, role: str):
    real.sites.put(Site("shop", domains=("shop.example",)))
    page = owner.post("/ops/users/invite", page="/ops/users", email=MAX, role=role, site="shop.example")
    link, guest = link_in(page.text), Browser(app)
    assert guest.post(link, email=MAX, name="Max", password=PASSWORD).status_code == 303
    user = real.accounts.find(MAX)
    assert user
    assert user.is_owner is (role == "owner")
    assert user.roles == ({} if role == "owner" else {"shop": Role(role)})
    assert guest.get("/ops").status_code == (200 if role == "owner" else 403)
    assert MAX in owner.get("/ops/users").text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"email": "max"}, "This is not an e-mail address."),
        ({"site": ""}, "Name a site, or choose the role owner."),
        ({"site": "shpo"}, "There is no site 'shpo'. Did you mean 'shop'?"),
    ],
)
def test_a_field_that_is_wrong_is_named(owner: Browser, real: Services, fields: dict[str, str], said: str):
    real.sites.put(Site("shop"))
    refused = owner.post(
        "/ops/users/invite", page="/ops/users", **({"email": MAX, "role": "viewer", "site": "shop"} | fields)
    )
    assert (refused.status_code, errors_in(refused.text)) == (400, [said])


def test_roles_are_changed_and_sessions_ended(owner: Browser, app: Flask, real: Services):
    user, member = make_member(real.accounts, MAX, "shop", Role.VIEWER), Browser(app)
    member.sign_in(MAX)
    page = f"/ops/users/{user.id}"
    assert path_of(owner.post(f"{page}/role", page=page, site="other", role="editor")) == page
    assert path_of(owner.post(f"{page}/role", page=page, site="shop", role="")) == page
    assert owner.post(f"{page}/role", page=page, site="shop", role="owner").status_code == 400
    assert owner.post(f"{page}/role", page=page, site="", role="viewer").status_code == 400
    assert real.accounts.find(MAX).roles == {"other": Role.EDITOR}  # type: ignore[union-attr]
    assert member.is_signed_in()
    assert path_of(owner.post(f"{page}/sign-out", page=page)) == page
    assert not member.is_signed_in()
    assert path_of(owner.post(f"{page}/two-step-off", page=page)) == page
    assert path_of(owner.post(f"{page}/remove", page=page)) == "/ops/users"
    assert real.accounts.find(MAX) is None
    assert owner.get(page).status_code == 404
    assert owner.post(f"{page}/role", page="/ops/users", site="shop", role="viewer").status_code == 404


def test_owners_do_not_remove_themselves(owner: Browser, real: Services):
    olga = real.accounts.find(OLGA)
    assert olga
    assert owner.post(f"/ops/users/{olga.id}/remove", page="/ops/users").status_code == 409
    assert real.accounts.find(OLGA)
