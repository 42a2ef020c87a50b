"""Users: what they may do, and their addresses and passwords."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from analytics.accounts.invitation import Invitation
from analytics.accounts.passwords import HASH_OF_NONE, hash_password, is_password, needs_new_hash
from analytics.accounts.user import Role, TwoStep, User, plain_email

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def test_an_owner_may_everything_and_others_what_their_role_for_the_site_says():
    owner = User(uuid4(), "o@example.org", "O", "hash", NOW, is_owner=True)
    user = User(uuid4(), "u@example.org", "U", "hash", NOW, roles={"read": Role.VIEWER, "edit": Role.EDITOR})
    assert (owner.may_read("any"), owner.may_edit("any")) == (True, True)
    may = {site: (user.may_read(site), user.may_edit(site)) for site in ("read", "edit", "other")}
    assert may == {"read": (True, False), "edit": (True, True), "other": (False, False)}


def test_a_printed_user_shows_no_secret():
    user = User(uuid4(), "u@example.org", "U", "the-hash", NOW, two_step=TwoStep("the-secret", 1, ["the-digest"]))
    assert "the-" not in repr(user)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (" Olga@Example.ORG\n", "olga@example.org"),
        ("u\u0308@example.org", "ü@example.org"),
        ("a@localhost", "a@localhost"),
        ("a" * 64 + "@b", "a" * 64 + "@b"),
        *[
            (bad, "")
            for bad in ("", "a", "@", "a@", "@b", "a@b@c", "a b@c", "a\x00@b", "a" * 65 + "@b", "a@" + "b" * 253)
        ],
    ],
)
def test_an_address_has_one_spelling(text: str, plain: str):
    assert plain_email(text) == plain


def test_a_password_has_its_own_hash():
    first, second = hash_password("correct horse"), hash_password("correct horse")
    assert first != second
    assert first.startswith("$argon2id$")
    assert is_password("correct horse", first)
    assert not is_password("wrong horse", first)
    assert not is_password("correct horse", "not a hash")
    assert not is_password("correct horse", None)
    assert not is_password("\ud800", first)
    assert not is_password("x" * 100_000_000, first)


def test_a_password_without_an_account_is_checked_with_the_parameters_of_new_hashes():
    assert not needs_new_hash(HASH_OF_NONE)
    assert len(HASH_OF_NONE) == len(hash_password("correct horse"))


@pytest.mark.parametrize(("role", "site_id"), [(Role.OWNER, "shop"), (Role.VIEWER, None)])
def test_an_invitation_is_for_an_owner_or_for_a_site(role: Role, site_id: str | None):
    with pytest.raises(ValueError, match="one site"):
        Invitation("digest", role, site_id, None, NOW)
