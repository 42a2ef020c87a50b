"""`python -m footfall users`, on real stores: what it prints works on the pages."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from pymongo.database import Database
from redis import Redis

from analytics.accounts.store import AccountStore
from analytics.accounts.user import Role, TwoStep
from analytics.sites.site import Site
from config.services import Services
from config.settings import Settings
from footfall.embedded_servers import pick_port
from footfall.store_steps import invite_owner
from footfall.users import users
from report_app import create_app
from tests.support.accounts import PASSWORD, Browser, Clock, make_member, make_owner

Run = Callable[..., Result]
OLGA, MAX = "olga@example.org", "max@example.org"


@pytest.fixture
def run(settings: Settings, redis: Redis) -> Run:
    def run(*words: str, given: Settings = settings, **kwargs: Any) -> Result:
        return CliRunner().invoke(users, words, obj=given, **kwargs)

    return run


@pytest.fixture
def timed(settings: Settings, redis: Redis, database: Database[dict[str, Any]]) -> Iterator[Services]:
    with closing(Services(settings, now=Clock())) as services:
        yield services


@pytest.fixture
def accounts(timed: Services) -> AccountStore:
    return timed.accounts


@pytest.fixture
def app(settings: Settings, timed: Services) -> Flask:
    return create_app(settings, timed)


def test_an_invitation_names_a_site_that_exists_by_its_id_or_a_domain(
    run: Run, timed: Services, accounts: AccountStore
):
    timed.sites.put(Site("shop", domains=("shop.example",)))
    assert run("invite", MAX, "shop.example").exit_code == 0
    assert [invitation.email for invitation in accounts.invitations("shop")] == [MAX]
    wrong = run("invite", MAX, "shpo")
    assert wrong.exit_code == 1
    assert "There is no site 'shpo'. Did you mean 'shop'?" in wrong.stderr


def test_links_that_are_printed_work(run: Run, app: Flask, timed: Services, accounts: AccountStore, settings: Settings):
    timed.sites.put(Site("shop"))
    for words, email in [(("invite-owner",), OLGA), (("invite", MAX, "shop", "--role", "editor"), MAX)]:
        printed = run(*words)
        assert printed.exit_code == 0, printed.output
        base = f"http://127.0.0.1:{settings.reporting_port}"
        assert printed.stdout.startswith(f"{base}/join/")
        fields = {"email": email, "name": "A person", "password": PASSWORD}
        assert Browser(app).post(printed.stdout.strip().removeprefix(base), **fields).status_code == 303
    assert accounts.find(OLGA).is_owner  # type: ignore[union-attr]
    assert accounts.find(MAX).may_edit("shop")  # type: ignore[union-attr]
    listed = run("list").stdout.splitlines()
    assert [line.split()[0] for line in listed] == [MAX, OLGA]
    assert "editor of shop" in listed[0]
    assert "owner" in listed[1]


def test_the_address_of_the_app_can_be_given(run: Run):
    assert run("invite-owner", "--url", "https://stats.example/").stdout.startswith("https://stats.example/join/")


def test_a_user_gets_a_new_password_is_signed_out_and_removed(run: Run, app: Flask, accounts: AccountStore):
    user = make_member(accounts, MAX, "shop", Role.VIEWER)
    browser = Browser(app)
    browser.sign_in(MAX)
    assert run("sign-out", MAX).exit_code == 0
    assert not browser.is_signed_in()
    assert run("password", " Max@example.org", input="a new long password\na new long password\n").exit_code == 0
    assert browser.sign_in(MAX).status_code == 400
    assert browser.sign_in(MAX, "a new long password").headers["Location"] == "/"
    accounts.set_two_step(user.id, TwoStep("A" * 32, 0, []))
    assert run("two-step-off", MAX).exit_code == 0
    assert browser.sign_in(MAX, "a new long password").headers["Location"] == "/"
    assert run("remove", MAX).exit_code == 0
    assert not browser.is_signed_in()
    assert accounts.list() == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("password", "no@example.org", "--password", PASSWORD), 1),
        (("sign-out", "no@example.org"), 1),
        (("two-step-off", "no@example.org"), 1),
        (("remove", "no@example.org"), 1),
        (("password", OLGA, "--password", "short"), 2),
        (("invite", "max", "shop"), 2),
        (("invite", MAX, "shop", "--role", "owner"), 2),
    ],
)
def test_what_cannot_be_done_is_one_line(run: Run, accounts: AccountStore, words: tuple[str, ...], code: int):
    make_owner(accounts)
    done = run(*words)
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output


@pytest.mark.usefixtures("usual_limits")
def test_without_mongodb_it_says_so(run: Run, settings: Settings):
    uri = f"mongodb://127.0.0.1:{pick_port(0)}/footfall?serverSelectionTimeoutMS=200"
    done = run("list", given=replace(settings, mongodb_uri=uri))
    assert (done.exit_code, "MongoDB" in done.stderr) == (1, True)


def test_a_role_is_changed_and_taken(run: Run, accounts: AccountStore):
    make_member(accounts, MAX, "shop", Role.VIEWER)
    assert run("role", MAX, "shop", "editor").exit_code == 0
    assert accounts.find(MAX).roles == {"shop": Role.EDITOR}  # type: ignore[union-attr]
    assert "no role for shop" in run("role", MAX, "shop", "none").stdout
    assert accounts.find(MAX).roles == {}  # type: ignore[union-attr]
    assert run("role", "nobody@example.org", "shop", "viewer").exit_code == 1
    assert run("role", MAX, "shop", "owner").exit_code == 2


@pytest.mark.usefixtures("usual_limits")
def test_a_start_goes_on_without_a_link_if_mongodb_does_not_answer(settings: Settings):
    away = replace(settings, mongodb_uri=f"mongodb://127.0.0.1:{pick_port(0)}/footfall")
    said = invite_owner(away, "http://127.0.0.1:3001")
    assert said.startswith("There is no link for the first owner: ")
    assert said.endswith("Make one with `python -m footfall users invite-owner`.")
