"""What each role opens: the members of a site, how it is shared, and what a page learns about its viewer."""

import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from flask import Flask, jsonify

from analytics.accounts.sharing import SharingStore
from analytics.accounts.store import AccountStore
from analytics.accounts.user import Role
from analytics.sites.site import Site
from config.services import Services
from config.settings import Settings
from report_app import create_app
from report_app.accounts.share import WRONG_LINK_PASSWORD
from report_app.page_access import viewer
from report_app.page_blueprint import PageBlueprint
from tests.report_app.accounts.conftest import MakeBrowser
from tests.support.accounts import Browser, Clock, errors_in, make_member, make_owner, path_of, token_in

SITE = "shop/de"
ROLES = ["guest", "stranger", "viewer", "editor", "owner"]

PARTS = (
    "hero",
    "left-out",
    "live",
    "now",
    "world",
    "first-event",
    "suggestions",
    "card",
    "panel/<name>",
    "explore/<name>",
)
TABLES = ("<name>", "chart", "left-out", "funnel", "retention", "journeys")
REPORTS = (
    "/site", "/now", "/visitors", "/list/<name>", *(f"/csv/{table}" for table in TABLES),
    *(f"/parts/{part}" for part in PARTS),
)  # fmt: skip

CONSOLE = (
    "GET /ops", "GET /ops/ledger", "GET /ops/rates", "GET /ops/workers", "GET /ops/segments", "GET /ops/sites",
    "GET /ops/keys", "GET /ops/users", "GET /ops/users/<uuid:user_id>", "GET /ops/dead-letters",
    "GET /ops/dead-letters/<uuid:letter_id>", "GET /ops/dead-letters/<any(replay,purge):verb>",
    "POST /ops/dead-letters/<uuid:letter_id>/replay", "POST /ops/dead-letters/replay", "POST /ops/dead-letters/purge",
    "POST /ops/segments/rebuild", "GET /ops/sites/new", "POST /ops/sites/new", "GET /ops/site/<path:site_id>",
    "POST /ops/site/<path:site_id>", "POST /ops/rotate-write-key/<path:site_id>",
    "GET /ops/remove-site/<path:site_id>", "POST /ops/remove-site/<path:site_id>", "POST /ops/keys",
    "POST /ops/keys/<uuid:key_id>/rotate", "POST /ops/keys/<uuid:key_id>/revoke", "POST /ops/users/invite",
    "POST /ops/users/<uuid:user_id>/role", "POST /ops/users/<uuid:user_id>/sign-out",
    "POST /ops/users/<uuid:user_id>/two-step-off", "POST /ops/users/<uuid:user_id>/remove",
    "GET /ops/notifications", "GET /ops/notifications/new", "POST /ops/notifications/new",
    "GET /ops/notifications/<uuid:rule_id>/edit", "POST /ops/notifications/<uuid:rule_id>/edit",
    "POST /ops/notifications/<uuid:rule_id>/test", "GET /ops/notifications/<uuid:rule_id>/remove",
    "POST /ops/notifications/<uuid:rule_id>/remove",
    *(f"GET /parts/ops/{part}" for part in ("journal", "today", "segments", "findings", "workers")),
)  # fmt: skip

# For each page and form: the roles that it is for. Others who are signed in get 403, and a guest is sent to /login.
RULES = {
    "GET /members/<path:site_id>": {"owner"},
    "POST /members/<path:site_id>": {"owner"},
    "POST /member/<uuid:user_id>/<path:site_id>": {"owner"},
    "POST /invitation/<path:site_id>": {"owner"},
    "GET /sharing/<path:site_id>": {"owner", "editor"},
    "POST /sharing/<path:site_id>": {"owner", "editor"},
    "POST /sharing-public/<path:site_id>": {"owner", "editor"},
    "POST /sharing-framing/<path:site_id>": {"owner", "editor"},
    "POST /sharing-revoke/<path:site_id>": {"owner", "editor"},
    "GET /data/<path:site_id>": {"owner", "editor"},
    "POST /data-path-rules/<path:site_id>": {"owner", "editor"},
    "POST /data-upload/<path:site_id>": {"owner", "editor"},
    "POST /data-import/<upload_id>/<path:site_id>": {"owner", "editor"},
    "POST /data-discard/<upload_id>/<path:site_id>": {"owner", "editor"},
    "POST /data-remove-import/<record_id>/<path:site_id>": {"owner", "editor"},
    "POST /save-funnel/<path:site_id>": {"owner", "editor"},
    "POST /remove-funnel/<funnel_id>/<path:site_id>": {"owner", "editor"},
    "POST /save-filter/<path:site_id>": {"owner", "editor"},
    "POST /remove-filter/<int(max=2147483647):filter_id>/<path:site_id>": {"owner", "editor"},
    "POST /annotate/<path:site_id>": {"owner", "editor"},
    "POST /remove-annotation/<annotation_id>/<path:site_id>": {"owner", "editor"},
    "GET /sites": {"stranger", "viewer", "editor", "owner"},
    "GET /account": {"stranger", "viewer", "editor", "owner"},
    "POST /account/password": {"stranger", "viewer", "editor", "owner"},
    "POST /account/language": {"stranger", "viewer", "editor", "owner"},
    "POST /account/sign-out-everywhere": {"stranger", "viewer", "editor", "owner"},
    "GET /account/two-step": {"stranger", "viewer", "editor", "owner"},
    "POST /account/two-step": {"stranger", "viewer", "editor", "owner"},
    "GET /account/two-step/off": {"stranger", "viewer", "editor", "owner"},
    "POST /account/two-step/off": {"stranger", "viewer", "editor", "owner"},
    "GET /login": set(ROLES),
    "POST /login": set(ROLES),
    "GET /login/code": set(ROLES),
    "POST /login/code": set(ROLES),
    "POST /logout": set(ROLES),
    "GET /join/<token>": set(ROLES),
    "POST /join/<token>": set(ROLES),
    "GET /share/<token>": set(ROLES),
    "POST /share/<token>": set(ROLES),
    "GET /assets/<name>": set(ROLES),
    "GET /badge/<path:site_id>.svg": set(ROLES),
    **{row: {"owner"} for row in CONSOLE},
    **{f"GET {path}/<path:site_id>": {"viewer", "editor", "owner"} for path in REPORTS},
}


@pytest.fixture
def person(browser: MakeBrowser, accounts: AccountStore) -> Callable[[str], Browser]:
    """A browser in which a person with this role for SITE is signed in. A stranger has a role for another site."""

    def sign_in(role: str) -> Browser:
        made, email = browser(), f"{role}@example.org"
        if role == "owner":
            make_owner(accounts, email)
        elif role != "guest":
            site = "other" if role == "stranger" else SITE
            make_member(accounts, email, site, Role.VIEWER if role == "stranger" else Role(role))
        if role != "guest":
            assert made.sign_in(email).status_code == 303
        return made

    return sign_in


def test_every_page_has_its_rule(app: Flask):
    rows = {
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        if isinstance(app.blueprints.get(rule.endpoint.partition(".")[0]), PageBlueprint)
        if not rule.endpoint.endswith(".static")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert rows == set(RULES)


@pytest.mark.parametrize("role", ROLES)
def test_every_page_opens_to_its_roles_only(app: Flask, person: Callable[[str], Browser], role: str, accounts):
    other, browser = make_member(accounts, "other@example.org", SITE, Role.VIEWER), person(role)
    for row, roles in RULES.items():
        if not browser.is_signed_in():  # the row before ended the session
            browser = again(app, role)
        method, url = request_of(row, other.id)
        token = token_in(browser.get("/account").text) or token_in(browser.get("/login").text)
        answer = browser.client.open(url, method=method, data={"csrf_token": token} if method == "POST" else None)
        assert answer.status_code < 500, row
        if role in roles:
            assert answer.status_code != 403, row
            assert "/login?next" not in answer.headers.get("Location", "") or "/login" in url, row
        elif role == "guest":
            assert answer.status_code == 303, row
            assert answer.headers["Location"].startswith("/login?next="), row
        else:
            assert answer.status_code == 403, row


def request_of(row: str, user_id: UUID) -> tuple[str, str]:
    """The method and a path of a row of RULES: about SITE, the panel of pages and this user, or about nothing."""
    method, rule = row.split(" ")
    url = rule.replace("<path:site_id>", SITE).replace("<uuid:user_id>", str(user_id))
    url = url.replace("<name>", "pages").replace("<any(replay,purge):verb>", "purge")
    url = re.sub("<uuid:(letter|key|rule)_id>", str(user_id), re.sub("<int[^>]*>", "1", url))
    return method, re.sub("<[a-z_]*>", "x", url)


def again(app: Flask, role: str) -> Browser:
    browser = Browser(app)
    if role != "guest":
        browser.sign_in(f"{role}@example.org")
    return browser


def link_in(page: str) -> str:
    """The path of the link that a page shows once."""
    found = re.search(r"<code>(http[^<]*)</code>", page)
    assert found, page
    return urlsplit(unescape(found[1])).path


# members


def test_an_owner_invites_a_member_changes_the_role_and_removes_them(
    person: Callable[[str], Browser], browser: MakeBrowser, accounts: AccountStore
):
    owner, page, guest = person("owner"), f"/members/{SITE}", browser()
    link = link_in(owner.post(page, email="max@example.org", role="editor").text)
    assert "max@example.org, editor, until" in owner.get(page).text
    assert link not in owner.get(page).text
    assert guest.post(link, email="max@example.org", name="Max", password="a long password").status_code == 303
    assert guest.get(f"/sharing/{SITE}").status_code == 200
    user = accounts.find("max@example.org")
    assert user
    change = f"/member/{user.id}/{SITE}"
    assert path_of(owner.post(change, page=page, role="viewer")) == page
    assert guest.get(f"/sharing/{SITE}").status_code == 403
    assert owner.post(change, page=page, role="owner").status_code == 400
    assert path_of(owner.post(change, page=page)) == page
    assert not accounts.find("max@example.org").may_read(SITE)  # type: ignore[union-attr]
    assert guest.is_signed_in()


def test_a_withdrawn_invitation_does_not_work(person: Callable[[str], Browser], browser: MakeBrowser):
    owner, page = person("owner"), f"/members/{SITE}"
    link = link_in(owner.post(page, email="max@example.org", role="viewer").text)
    owner.post(f"/invitation/{SITE}", page=page, email="max@example.org")
    assert browser().get(link).status_code == 404


@pytest.mark.parametrize("fields", [{"email": "max"}, {"role": "owner"}, {"role": ""}])
def test_an_invitation_needs_an_address_and_a_role_for_a_site(
    person: Callable[[str], Browser], accounts: AccountStore, fields: dict[str, str]
):
    given = {"email": "max@example.org", "role": "viewer"} | fields
    assert person("owner").post(f"/members/{SITE}", **given).status_code == 400
    assert accounts.invitations(SITE) == []


# sharing, and the viewer of a page


def with_page(app: Flask) -> Flask:
    """The app with a page about a site, as a dashboard is one."""

    pages = PageBlueprint("seen", __name__)

    @pages.route("/seen/<path:site_id>", methods=["GET", "POST"], merge_slashes=False)
    def dashboard(site_id: str):
        seen = viewer()
        return jsonify(
            name=seen.name, owner=seen.is_owner, read=seen.may_read(site_id), edit=seen.may_edit(site_id),
            other=seen.may_read("other site"),
        )  # fmt: skip

    app.register_blueprint(pages)
    return app


@pytest.fixture
def site_app(app: Flask) -> Flask:
    return with_page(app)


PAGE = f"/seen/{SITE}"


@pytest.mark.parametrize(
    ("role", "owner", "read", "edit"),
    [
        ("stranger", False, False, False),
        ("viewer", False, True, False),
        ("editor", False, True, True),
        ("owner", True, True, True),
    ],
)
@pytest.mark.usefixtures("site_app")
def test_a_page_knows_what_its_viewer_may(
    person: Callable[[str], Browser], role: str, owner: bool, read: bool, edit: bool
):
    answer = person(role).get(PAGE).json
    assert answer == {"name": answer["name"], "owner": owner, "read": read, "edit": edit, "other": owner}
    assert answer["name"]


def test_a_session_opens_no_route_of_the_api(person: Callable[[str], Browser]):
    owner = person("owner")
    assert owner.get("/admin/sites").status_code == 401
    assert owner.get("/export/events?site_id=shop").status_code == 401


def test_a_page_that_knows_its_viewer_refuses_a_form_without_a_token(site_app: Flask, person: Callable[[str], Browser]):
    editor = person("editor")
    assert editor.client.post(PAGE).status_code == 400
    token = token_in(editor.get("/account").text)
    assert editor.client.post(PAGE, headers={"X-CSRFToken": token}).json["edit"]


def test_a_public_site_is_read_without_an_account_until_it_is_closed(
    site_app: Flask, person: Callable[[str], Browser], browser: MakeBrowser
):
    editor, guest = person("editor"), browser()
    assert path_of(guest.get(PAGE)).startswith("/login?next=")
    assert path_of(editor.post(f"/sharing-public/{SITE}", page=f"/sharing/{SITE}", public="yes"))
    assert guest.get(PAGE).json == {"name": "", "owner": False, "read": True, "edit": False, "other": False}
    assert guest.get("/site/other").status_code == 303
    assert person("stranger").get(PAGE).json["read"]
    editor.post(f"/sharing-public/{SITE}", page=f"/sharing/{SITE}")
    assert guest.get(PAGE).status_code == 303


def test_where_reports_are_open_a_guest_reads_every_site_and_changes_none(settings: Settings, timed: Services):
    guest = Browser(with_page(create_app(settings, timed)))
    assert settings.reports_are_open
    assert guest.get(PAGE).json == {"name": "", "owner": False, "read": True, "edit": False, "other": True}
    for page in ("/account", f"/sharing/{SITE}", f"/members/{SITE}"):
        assert path_of(guest.get(page)).startswith("/login?next=")


def make_link(editor: Browser, **fields: str) -> str:
    answer = editor.post(f"/sharing/{SITE}", name="For Max", **({"password": "", "days": "7"} | fields))
    assert answer.status_code == 200, errors_in(answer.text)
    return link_in(answer.text)


def test_a_shared_link_opens_its_site_and_no_other_until_it_is_revoked(
    site_app: Flask, person: Callable[[str], Browser], browser: MakeBrowser
):
    editor, guest = person("editor"), browser()
    link = make_link(editor)
    assert path_of(guest.get(link)) == f"/site/{SITE}"
    assert guest.get(PAGE).json == {"name": "", "owner": False, "read": True, "edit": False, "other": False}
    assert guest.get("/site/other").status_code == 303
    assert guest.get(f"/sharing/{SITE}").status_code == 303
    page = editor.get(f"/sharing/{SITE}").text
    assert link not in page
    digest = re.search('name="link" value="([0-9a-f]{64})"', page)
    assert digest
    editor.post(f"/sharing-revoke/{SITE}", page=f"/sharing/{SITE}", link=digest[1])
    assert guest.get(PAGE).status_code == 303
    assert browser().get(link).status_code == 404


def test_a_domain_of_a_site_is_its_name_for_members_and_sharing(
    person: Callable[[str], Browser], browser: MakeBrowser, accounts: AccountStore, sharing: SharingStore,
    timed: Services,
):  # fmt: skip
    timed.sites.put(Site(SITE, domains=("shop.example",)))
    owner, guest = person("owner"), browser()
    owner.post("/members/shop.example", email="max@example.org", role="viewer")
    assert [each.email for each in accounts.invitations(SITE)] == ["max@example.org"]
    owner.post("/sharing-public/shop.example", page="/sharing/shop.example", public="yes")
    assert sharing.is_public(SITE)
    assert not sharing.is_public("shop.example")
    assert guest.get("/site/shop.example?period=7d").status_code == 200


def test_the_role_of_a_user_who_is_gone_is_not_changed(person: Callable[[str], Browser]):
    answer = person("owner").post(f"/member/{uuid4()}/{SITE}", page=f"/members/{SITE}", role="viewer")
    assert answer.status_code == 404


def test_where_sites_are_set_up_an_unknown_one_has_no_members_and_is_like_a_foreign_one(
    settings: Settings, timed: Services, accounts: AccountStore
):
    app = create_app(replace(settings, app_env="production", secret_key="x" * 16), timed)
    timed.sites.put(Site("known"))
    make_owner(accounts, "owner@example.org")
    make_member(accounts, "max@example.org", "known", Role.EDITOR)
    timed.sites.put(Site("foreign"))
    owner, editor = again(app, "owner"), again(app, "max")
    token = token_in(owner.get("/account").text)
    form = {"csrf_token": token, "email": "eve@example.org", "role": "viewer", "public": "yes"}
    for path in ("/members/knwon", "/sharing-public/knwon"):
        assert owner.client.post(path, data=form).status_code == 404
    assert accounts.invitations("knwon") == []
    for path in ("/site", "/sharing", "/parts/live"):
        assert editor.get(f"{path}/known").status_code == 200
        assert [editor.get(f"{path}/{site}").status_code for site in ("foreign", "knwon")] == [403, 403]


def test_a_link_that_is_opened_often_does_not_close_another_site(browser: MakeBrowser, sharing: SharingStore):
    guest = browser()
    other = sharing.create("other", "Theirs", None, None)[1]
    often = sharing.create(SITE, "Ours", None, None)[1]
    guest.get(f"/share/{other}")
    for _ in range(25):
        guest.get(f"/share/{often}")
    assert guest.get("/parts/live/other").status_code == 200


def test_a_page_looks_up_its_viewer_once(
    browser: MakeBrowser, sharing: SharingStore, timed: Services, monkeypatch: pytest.MonkeyPatch
):
    guest, asked = browser(), []
    sharing.set_public(SITE, True)
    is_public = timed.sharing.opens
    monkeypatch.setattr(timed.sharing, "opens", lambda *of: asked.append(of) or is_public(*of))
    answer = guest.get(f"/site/{SITE}?period=7d")
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers
    assert len(asked) == 1


def test_a_shared_link_expires_also_for_those_who_opened_it(
    site_app: Flask, person: Callable[[str], Browser], browser: MakeBrowser, clock: Clock
):
    link, guest = make_link(person("editor")), browser()
    guest.get(link)
    clock.forward(days=7, seconds=1)
    assert guest.get(PAGE).status_code == 303
    assert browser().get(link).status_code == 404


def test_a_shared_link_with_a_password_asks_for_it_and_limits_guesses(
    site_app: Flask, person: Callable[[str], Browser], browser: MakeBrowser, sharing: SharingStore
):
    link, guest = make_link(person("editor"), password="open sesame", days=""), browser()
    assert "password" in guest.get(link).text
    wrong = guest.post(link, password="wrong")
    assert (wrong.status_code, errors_in(wrong.text)) == (400, [WRONG_LINK_PASSWORD])
    assert guest.get(PAGE).status_code == 303
    assert path_of(guest.post(link, password="open sesame")) == f"/site/{SITE}"
    assert guest.get(PAGE).json["read"]
    other = browser()
    assert [other.post(link, password="wrong").status_code for _ in range(14)][-1] == 429


def test_a_shared_link_opens_with_a_saved_filter_as_long_as_there_is_one(
    person: Callable[[str], Browser], browser: MakeBrowser, timed: Services
):
    editor, guest, saved = person("editor"), browser(), timed.sites.save_filter(SITE, "German", '[["is","a",["b"]]]')
    timed.sites.save_filter(SITE, "Own", "[]")
    assert '<option value="1">German</option>' in editor.get(f"/sharing/{SITE}").text
    link = make_link(editor, saved_filter=str(saved.id))
    assert path_of(guest.get(link)) == f"/site/{SITE}?f=is,segment,{saved.id}"
    assert editor.post(f"/sharing/{SITE}", name="For Max", days="7", saved_filter="9").status_code == 400
    timed.sites.remove_filter(SITE, saved.id)
    timed.sites.read_again(SITE)
    assert path_of(guest.get(link)) == f"/site/{SITE}"


def test_a_link_of_another_site_is_not_revoked(person: Callable[[str], Browser], sharing: SharingStore):
    link, _ = sharing.create("other", "Theirs", None, None)
    person("editor").post(f"/sharing-revoke/{SITE}", page=f"/sharing/{SITE}", link=link.digest)
    assert sharing.list("other") != []


def test_signing_in_keeps_no_link_of_the_guest_before(
    site_app: Flask, person: Callable[[str], Browser], browser: MakeBrowser, accounts: AccountStore
):
    link, guest = make_link(person("editor")), browser()
    make_member(accounts, "max@example.org", "other", Role.VIEWER)
    guest.get(link)
    guest.sign_in("max@example.org")
    assert not guest.get(PAGE).json["read"]
