"""A user's own account: the password, and the end of all sessions."""

import pytest

from analytics.accounts.store import AccountStore
from report_app.accounts.account import WRONG_PASSWORD
from tests.report_app.accounts.conftest import MakeBrowser
from tests.support.accounts import PASSWORD, Browser, errors_in, make_owner, path_of

OLGA = "olga@example.org"
NEW = "another long password"
CHANGE = {"current": PASSWORD, "new": NEW, "again": NEW}


@pytest.fixture
def olga(browser: MakeBrowser, accounts: AccountStore) -> Browser:
    make_owner(accounts)
    olga = browser()
    olga.sign_in(OLGA)
    return olga


def test_a_changed_password_ends_the_other_sessions_and_keeps_this_one(olga: Browser, browser: MakeBrowser):
    other = browser()
    other.sign_in(OLGA)
    before = olga.client.get_cookie("footfall").value  # type: ignore[union-attr]
    assert path_of(olga.post("/account/password", page="/account", **CHANGE)) == "/account"
    assert "The password is changed" in olga.get("/account").text
    assert not other.is_signed_in()
    thief = browser()
    thief.client.set_cookie("footfall", before)
    assert not thief.is_signed_in()
    assert browser().sign_in(OLGA, PASSWORD).status_code == 400
    assert browser().sign_in(OLGA, NEW).status_code == 303


@pytest.mark.parametrize(
    "wrong",
    [{"current": "wrong"}, {"current": ""}, {"again": "different password"}, {"new": "short", "again": "short"}],
)
def test_a_password_is_changed_with_the_current_one_and_a_good_new_one(
    olga: Browser, browser: MakeBrowser, wrong: dict[str, str]
):
    answer = olga.post("/account/password", page="/account", **(CHANGE | wrong))
    assert answer.status_code == 400
    assert errors_in(answer.text)
    if wrong == {"current": "wrong"}:
        assert errors_in(answer.text) == [WRONG_PASSWORD]
    assert browser().sign_in(OLGA, PASSWORD).status_code == 303


def test_guesses_of_the_current_password_are_limited(olga: Browser):
    statuses = [
        olga.post("/account/password", page="/account", **(CHANGE | {"current": "wrong"})).status_code
        for _ in range(14)
    ]
    assert statuses[-1] == 429


def test_letters_count_the_same_however_a_keyboard_sends_them(olga: Browser, browser: MakeBrowser):
    composed, decomposed = "pässword pässword", "pa\u0308ssword pa\u0308ssword"
    olga.post("/account/password", page="/account", current=PASSWORD, new=composed, again=composed)
    assert browser().sign_in(OLGA, decomposed).status_code == 303


def test_signing_out_everywhere_ends_every_session(olga: Browser, browser: MakeBrowser):
    other = browser()
    other.sign_in(OLGA)
    assert path_of(olga.post("/account/sign-out-everywhere", page="/account")) == "/login"
    assert not olga.is_signed_in()
    assert not other.is_signed_in()
    assert browser().sign_in(OLGA).status_code == 303


def test_a_user_chooses_a_language_which_wins_over_that_of_the_browser(olga: Browser, browser: MakeBrowser):
    chosen = olga.post("/account/language", page="/account", language="de")
    assert path_of(chosen) == "/account"
    page = olga.get("/account", headers={"Accept-Language": "en"}).text
    assert '<html lang="de"' in page
    assert "Die Sprache ist gespeichert." in page
    assert '<option selected value="de">Deutsch</option>' in page
    other = browser()
    other.sign_in(OLGA)
    assert "Passwort ändern" in other.get("/account").text
    wrong = olga.post("/account/password", page="/account", current=PASSWORD, new="short", again="shorter")
    assert errors_in(wrong.text) == [
        "Das Passwort muss 12 bis 256 Zeichen haben.",
        "Die beiden neuen Passwörter unterscheiden sich.",
    ]
    olga.post("/account/language", page="/account", language="")
    assert '<html lang="en"' in olga.get("/account", headers={"Accept-Language": "en"}).text


def test_a_language_that_does_not_exist_is_refused(olga: Browser, accounts: AccountStore):
    assert olga.post("/account/language", page="/account", language="xx").status_code == 400
    assert accounts.find(OLGA).language == ""  # type: ignore[union-attr]


def test_the_sessions_of_a_removed_user_end(olga: Browser, accounts: AccountStore):
    accounts.remove(accounts.find(OLGA).id)  # type: ignore[union-attr]
    assert not olga.is_signed_in()


def test_a_hash_with_old_parameters_is_replaced_when_its_user_signs_in(browser: MakeBrowser, accounts: AccountStore):
    from argon2 import PasswordHasher

    old = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    accounts.join(accounts.invite_owner(), "old@example.org", "Old", old)
    assert browser().sign_in("old@example.org").status_code == 303
    assert "m=19456,t=2" in accounts.find("old@example.org").password_hash  # type: ignore[union-attr]
    assert browser().sign_in("old@example.org").status_code == 303
