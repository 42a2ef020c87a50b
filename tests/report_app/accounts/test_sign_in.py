"""Signing in and out: passwords, sessions and their cookies, one-time codes, limits, and what a stranger learns."""

import json
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from statistics import median
from urllib.parse import quote
from uuid import uuid4

import pytest
from flask import Flask
from redis import Redis

from analytics import mongodb
from analytics.accounts.sessions import IDLE_LIFE, SESSION_LIFE
from analytics.accounts.store import AccountStore
from config.services import Services
from config.settings import Settings
from footfall.embedded_servers import pick_port
from report_app import create_app
from report_app.accounts.sign_in import WRONG_CODE, WRONG_LOGIN
from tests.report_app.accounts.conftest import MakeBrowser
from tests.support.accounts import (
    PASSWORD,
    Browser,
    Clock,
    code_now,
    codes_in,
    errors_in,
    make_owner,
    path_of,
    secret_in,
    token_in,
)

OLGA = "olga@example.org"
HTTPS = {"HTTP_X_FORWARDED_PROTO": "https", "HTTP_X_FORWARDED_FOR": "198.51.100.1"}


def start_two_step(browser: Browser, clock: Clock) -> tuple[str, list[str]]:
    """The secret and the recovery codes."""
    secret = secret_in(browser.get("/account/two-step").text)
    answer = browser.post("/account/two-step", secret=secret, password=PASSWORD, code=code_now(secret, clock))
    assert answer.status_code == 200, errors_in(answer.text)
    return secret, codes_in(answer.text)


def test_a_user_signs_in_with_any_spelling_of_the_address_and_out_again(browser: MakeBrowser, accounts: AccountStore):
    make_owner(accounts)
    olga = browser()
    assert path_of(olga.get("/account")) == "/login?next=%2Faccount"
    assert path_of(olga.sign_in(" Olga@Example.ORG ", to="/login?next=%2Faccount")) == "/account"
    assert "Olga" in olga.get("/account").text
    assert path_of(olga.post("/logout", page="/account")) == "/login"
    assert not olga.is_signed_in()


def test_signing_out_ends_the_session_of_a_copied_cookie_too(
    browser: MakeBrowser, accounts: AccountStore, redis: Redis
):
    make_owner(accounts)
    olga, thief = browser(), browser()
    olga.sign_in(OLGA)
    thief.client.set_cookie("footfall", olga.client.get_cookie("footfall").value)  # type: ignore[union-attr]
    assert thief.is_signed_in()
    olga.post("/logout", page="/account")
    assert not thief.is_signed_in()
    assert list(redis.scan_iter("footfall:sessions:*")) == []


@pytest.mark.parametrize(
    ("email", "password"),
    [(OLGA, "wrong"), (OLGA, ""), (OLGA, "x" * 10_000), ("no@example.org", PASSWORD), ("olga", PASSWORD), ("", "")],
)
def test_a_wrong_address_and_a_wrong_password_get_the_same_answer(
    browser: MakeBrowser, accounts: AccountStore, email: str, password: str
):
    make_owner(accounts)
    guest = browser()
    answer = guest.sign_in(email, password)
    assert answer.status_code == 400
    if email and password:
        assert errors_in(answer.text) == [WRONG_LOGIN]
    assert not guest.is_signed_in()


def test_an_unknown_address_takes_as_long_as_a_wrong_password(browser: MakeBrowser, accounts: AccountStore):
    make_owner(accounts)

    def seconds(email: str) -> float:
        guest = browser()
        token = token_in(guest.get("/login").text)
        start = time.perf_counter()
        guest.client.post("/login", data={"csrf_token": token, "email": email, "password": "wrong password"})
        return time.perf_counter() - start

    seconds("warm-up@example.org")
    known, unknown = zip(*[(seconds(OLGA), seconds(f"{n}@example.org")) for n in range(9)], strict=True)
    assert median(unknown) > 0.5 * median(known)
    assert median(known) > 0.5 * median(unknown)


def test_the_cookie_has_its_flags(browser: MakeBrowser, accounts: AccountStore):
    make_owner(accounts)
    plain = browser().sign_in(OLGA).headers["Set-Cookie"]
    assert plain.startswith("footfall=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(plain.split("; "))
    assert "Secure" not in plain
    secure = browser(**HTTPS).sign_in(OLGA).headers["Set-Cookie"]
    assert secure.startswith("__Host-footfall=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/", "Secure"} <= set(secure.split("; "))
    assert "Domain" not in secure


def test_over_https_a_cookie_without_the_prefix_does_not_count(browser: MakeBrowser, accounts: AccountStore):
    make_owner(accounts)
    plain, secure = browser(), browser(**HTTPS)
    plain.sign_in(OLGA)
    secure.client.set_cookie("footfall", plain.client.get_cookie("footfall").value)  # type: ignore[union-attr]
    assert not secure.is_signed_in()


def test_no_session_that_was_there_before_signing_in_is_the_user_s(browser: MakeBrowser, accounts: AccountStore):
    """Session fixation: an attacker gives a victim a cookie, and waits until the victim signs in with it."""
    make_owner(accounts)
    make_owner(accounts, "eve@example.org")
    eve, olga = browser(), browser()
    eve.sign_in("eve@example.org")
    planted = eve.client.get_cookie("footfall").value  # type: ignore[union-attr]
    olga.client.set_cookie("footfall", planted)
    token = token_in(olga.get("/login").text)
    olga.sign_in(OLGA)
    assert olga.client.get_cookie("footfall").value != planted  # type: ignore[union-attr]
    assert OLGA in olga.get("/account").text
    assert not eve.is_signed_in()
    assert olga.client.post("/logout", data={"csrf_token": token}).status_code == 400


def test_redis_holds_no_token_and_the_cookie_no_name(browser: MakeBrowser, accounts: AccountStore, redis: Redis):
    make_owner(accounts)
    olga = browser()
    olga.sign_in(OLGA)
    cookie = olga.client.get_cookie("footfall").value  # type: ignore[union-attr]
    content = json.loads(urlsafe_b64decode(cookie.split(".")[0] + "=="))
    assert set(content) == {"_permanent", "token"}
    stored = [redis.dump(key) for key in redis.scan_iter()]
    assert not any(content["token"].encode() in value for value in [*stored, *redis.scan_iter()])


def test_a_visitor_who_does_not_sign_in_writes_nothing(browser: MakeBrowser, redis: Redis):
    before = set(redis.scan_iter())
    guest = browser()
    for path in ("/login", "/account", "/join/nothing", "/login/code"):
        guest.get(path)
    assert set(redis.scan_iter()) == before


def test_a_session_ends_when_it_is_not_used_and_in_any_case_after_its_longest_life(
    browser: MakeBrowser, accounts: AccountStore, clock: Clock, redis: Redis
):
    make_owner(accounts)
    olga = browser()
    olga.sign_in(OLGA)
    (key,) = redis.scan_iter("footfall:sessions:*")
    assert 0 < redis.ttl(key) <= IDLE_LIFE.total_seconds()
    redis.expire(key, 100)
    assert olga.is_signed_in()
    assert redis.ttl(key) > 100
    clock.forward(seconds=(SESSION_LIFE - IDLE_LIFE / 2).total_seconds())
    redis.expire(key, 100)
    assert olga.is_signed_in()
    assert 100 < redis.ttl(key) <= IDLE_LIFE.total_seconds() / 2
    clock.forward(seconds=IDLE_LIFE.total_seconds() / 2)
    assert not olga.is_signed_in()


def test_a_cookie_that_another_key_signed_is_ignored(accounts: AccountStore, settings: Settings, timed: Services):
    """A changed SECRET_KEY ends no session while the old one is known."""
    make_owner(accounts)

    def with_keys(**keys: str) -> Browser:
        return Browser(create_app(replace(settings, **keys), timed))

    olga = with_keys(secret_key="a-secret-key-for-tests")
    olga.sign_in(OLGA)
    cookie = olga.client.get_cookie("footfall").value  # type: ignore[union-attr]
    for keys, is_known in [
        ({"secret_key": "another-secret-key-1", "secret_key_old": "a-secret-key-for-tests"}, True),
        ({"secret_key": "another-secret-key-1"}, False),
        ({}, False),
    ]:
        other = with_keys(**keys)
        other.client.set_cookie("footfall", cookie)
        assert other.is_signed_in() is is_known


# CSRF


@pytest.mark.parametrize("token", [None, "", "wrong"])
def test_a_form_without_the_token_of_its_session_is_refused(
    browser: MakeBrowser, accounts: AccountStore, token: str | None, app: Flask
):
    make_owner(accounts)
    olga = browser()
    olga.sign_in(OLGA)
    posts = [
        rule.rule
        for rule in app.url_map.iter_rules()
        if "POST" in (rule.methods or ()) and rule.endpoint.startswith(("accounts.", "pages."))
    ]
    assert len(posts) >= 8
    for path in posts:
        url = re.sub("<[^>]*>", "x", re.sub("<int[^>]*>", "1", path.replace("<uuid:user_id>", str(uuid4()))))
        data = {"password": PASSWORD, "current": PASSWORD, "new": "n" * 12, "again": "n" * 12}
        answer = olga.client.post(url, data=data | ({} if token is None else {"csrf_token": token}))
        assert (answer.status_code, "The form expired" in answer.text) == (400, True), path
    assert olga.is_signed_in()


def test_the_token_of_another_session_is_refused(browser: MakeBrowser, accounts: AccountStore):
    make_owner(accounts)
    olga, eve = browser(), browser()
    olga.sign_in(OLGA)
    token = token_in(eve.get("/login").text)
    assert olga.client.post("/logout", data={"csrf_token": token}).status_code == 400
    assert olga.is_signed_in()


# next=


@pytest.mark.parametrize(
    "hostile",
    [
        "https://evil.example/",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "http:evil.example",
        "javascript:alert(1)",
        "/\t/evil.example",
        "/ok\r\nSet-Cookie: a=b",
        "evil.example",
        "http://[",
        "",
        "/" * 3000,
    ],
)
def test_signing_in_leads_to_no_other_host(browser: MakeBrowser, accounts: AccountStore, hostile: str):
    make_owner(accounts)
    answer = browser().sign_in(OLGA, to=f"/login?next={quote(hostile)}")
    assert answer.headers["Location"] == "/"


def test_signing_in_leads_to_the_page_that_was_asked_for(browser: MakeBrowser, accounts: AccountStore):
    make_owner(accounts)
    assert path_of(browser().sign_in(OLGA, to="/login?next=%2Fsite%2Fa%3Fperiod%3D7d")) == "/site/a?period=7d"


def test_htmx_is_told_to_go_to_the_login_of_the_page_that_is_open(browser: MakeBrowser):
    headers = {"HX-Request": "true", "HX-Current-URL": "https://stats.example/site/a?period=7d"}
    answer = browser().get("/account", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["HX-Redirect"] == "/login?next=%2Fsite%2Fa%3Fperiod%3D7d"


# two-step sign-in


def test_with_two_step_sign_in_a_password_alone_opens_nothing(
    browser: MakeBrowser, accounts: AccountStore, clock: Clock
):
    make_owner(accounts)
    olga = browser()
    olga.sign_in(OLGA)
    secret, _ = start_two_step(olga, clock)
    clock.forward(seconds=60)
    other = browser()
    assert path_of(other.sign_in(OLGA, to="/login?next=%2Faccount")) == "/login/code?next=/account"
    assert not other.is_signed_in()
    wrong = other.post("/login/code", code="000000")
    assert (wrong.status_code, errors_in(wrong.text)) == (400, [WRONG_CODE])
    assert path_of(other.post("/login/code?next=%2Faccount", code=code_now(secret, clock))) == "/account"
    assert other.is_signed_in()


def test_a_code_is_used_once(browser: MakeBrowser, accounts: AccountStore, clock: Clock):
    make_owner(accounts)
    olga, eve = browser(), browser()
    olga.sign_in(OLGA)
    secret, _ = start_two_step(olga, clock)
    for guest in (olga, eve):
        guest.sign_in(OLGA)
    used_to_start = code_now(secret, clock)
    assert eve.post("/login/code", code=used_to_start).status_code == 400
    clock.forward(seconds=60)
    code = code_now(secret, clock)
    assert olga.post("/login/code", code=f"{code[:3]} {code[3:]}").status_code == 303
    assert eve.post("/login/code", code=code).status_code == 400
    clock.forward(seconds=-30)
    assert eve.post("/login/code", code=code_now(secret, clock)).status_code == 400
    clock.forward(seconds=120)
    assert eve.post("/login/code", code=code_now(secret, clock)).status_code == 303


def test_a_recovery_code_signs_in_once(browser: MakeBrowser, accounts: AccountStore, clock: Clock):
    make_owner(accounts)
    olga = browser()
    olga.sign_in(OLGA)
    _, codes = start_two_step(olga, clock)
    assert len(set(codes)) == 10
    for code, status in [(codes[0], 303), (codes[0], 400), (codes[1].replace("-", " ").upper(), 303)]:
        guest = browser()
        guest.sign_in(OLGA)
        assert guest.post("/login/code", code=code).status_code == status
    assert "8 recovery codes are left" in olga.get("/account").text


def test_a_right_password_counts_for_a_code_only_for_some_minutes_and_until_sessions_end(
    browser: MakeBrowser, accounts: AccountStore, clock: Clock
):
    user = make_owner(accounts)
    olga = browser()
    olga.sign_in(OLGA)
    _, codes = start_two_step(olga, clock)
    late, outdated = browser(), browser()
    outdated.sign_in(OLGA)
    accounts.end_sessions(user.id)
    assert path_of(outdated.get("/login/code")).startswith("/login?")
    late.sign_in(OLGA)
    clock.forward(minutes=11)
    assert path_of(late.get("/login/code")).startswith("/login?")
    assert late.client.post("/login/code", data={"code": codes[0]}).status_code == 400


def test_two_step_sign_in_starts_with_the_password_and_a_code_of_the_secret(
    browser: MakeBrowser, accounts: AccountStore, clock: Clock
):
    make_owner(accounts)
    olga = browser()
    olga.sign_in(OLGA)
    secret = secret_in(olga.get("/account/two-step").text)
    for fields in (
        {"password": "wrong", "code": code_now(secret, clock)},
        {"password": PASSWORD, "code": "000000"},
        {"password": PASSWORD, "code": ""},
        {"secret": "short", "password": PASSWORD, "code": code_now(secret, clock)},
    ):
        answer = olga.post("/account/two-step", **({"secret": secret} | fields))
        assert answer.status_code == 400
    assert accounts.find(OLGA).two_step is None  # type: ignore[union-attr]


def test_two_step_sign_in_ends_with_the_password(browser: MakeBrowser, accounts: AccountStore, clock: Clock):
    make_owner(accounts)
    olga = browser()
    olga.sign_in(OLGA)
    start_two_step(olga, clock)
    assert olga.post("/account/two-step/off", password="wrong").status_code == 400
    assert accounts.find(OLGA).two_step  # type: ignore[union-attr]
    assert path_of(olga.post("/account/two-step/off", password=PASSWORD)) == "/account"
    assert browser().sign_in(OLGA).headers["Location"] == "/"


# limits


def test_an_account_has_a_limit_of_attempts_from_all_addresses(
    browser: MakeBrowser, accounts: AccountStore, redis: Redis
):
    make_owner(accounts)
    make_owner(accounts, "eve@example.org")
    statuses = [browser(HTTP_X_FORWARDED_FOR=f"203.0.113.{n}").sign_in(OLGA, "wrong").status_code for n in range(14)]
    assert statuses[:10] == [400] * 10
    assert statuses[-2:] == [429] * 2
    refused = browser().sign_in(OLGA.upper())
    assert (refused.status_code, "Try again in" in refused.text) == (429, True)
    assert 1 <= int(refused.headers["Retry-After"]) <= 900
    assert browser().sign_in("eve@example.org").status_code == 303
    names = b" ".join(redis.scan_iter())
    assert b"footfall:rate" in names
    assert b"203.0.113" not in names
    assert b"olga" not in names


def test_an_address_has_a_limit_of_attempts_for_all_accounts(browser: MakeBrowser, accounts: AccountStore):
    make_owner(accounts)
    guest = browser()
    token = token_in(guest.get("/login").text)
    statuses = []
    for n in range(112):
        fields = {"csrf_token": token, "email": f"{n}@example.org", "password": "wrong"}
        statuses.append(guest.client.post("/login", data=fields).status_code)
    assert statuses[:100] == [400] * 100
    assert statuses[-1] == 429
    assert browser(HTTP_X_FORWARDED_FOR="203.0.113.9").sign_in(OLGA).status_code == 303


def test_signing_in_again_and_again_is_no_attempt_too_many(browser: MakeBrowser, accounts: AccountStore):
    make_owner(accounts)
    assert {browser().sign_in(OLGA).status_code for _ in range(25)} == {303}


def test_codes_are_limited_as_passwords_are(browser: MakeBrowser, accounts: AccountStore, clock: Clock):
    make_owner(accounts)
    olga = browser()
    olga.sign_in(OLGA)
    start_two_step(olga, clock)
    guest = browser()
    guest.sign_in(OLGA)
    assert [guest.post("/login/code", code=f"{n:06}").status_code for n in range(14)][-1] == 429


# outages


@pytest.fixture
def away(settings: Settings) -> Iterator[Callable[[str], Browser]]:
    """Makes a browser of an app one of whose stores is away."""
    uri = f"mongodb://127.0.0.1:{pick_port(0)}/footfall?serverSelectionTimeoutMS=200"
    changes = {"MongoDB": {"mongodb_uri": uri}, "Redis": {"redis_url": f"redis://127.0.0.1:{pick_port(0)}/0"}}
    with ExitStack() as until_done:

        def make(store: str) -> Browser:
            given = replace(settings, **changes[store])
            return Browser(create_app(given, until_done.enter_context(closing(Services(given)))))

        yield make


@pytest.mark.parametrize("store", ["Redis", "MongoDB"])
def test_if_a_store_is_away_a_page_says_so(
    away: Callable[[str], Browser],
    browser: MakeBrowser,
    accounts: AccountStore,
    monkeypatch: pytest.MonkeyPatch,
    store: str,
):
    make_owner(accounts)
    olga = browser()
    olga.sign_in(OLGA)
    monkeypatch.setattr(mongodb, "PING_LIMIT", 0.5)
    other = away(store)
    other.client.set_cookie("footfall", olga.client.get_cookie("footfall").value)  # type: ignore[union-attr]
    for answer in (other.get("/account"), away(store).sign_in(OLGA)):
        assert answer.status_code == 503
        assert f"{store} is not reachable" in answer.text
        assert answer.headers["Retry-After"] == "1"
        assert answer.mimetype == "text/html"
