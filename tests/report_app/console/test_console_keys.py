"""API keys in the console: a secret is shown once."""

import re
from html import unescape

import pytest

from analytics.sites.site import Site
from config.services import Services
from tests.support.accounts import Browser, errors_in, path_of


def secret_in(page: str) -> str:
    found = re.search('class="secret">(footfall_[0-9A-Za-z]{32})<', page)
    assert found, errors_in(page)
    return found[1]


def test_a_key_is_made_shown_once_rotated_and_revoked(owner: Browser, real: Services):
    real.sites.put(Site("shop"))
    made = owner.post("/ops/keys", name="<b>CI", scopes="stats:read", sites="shop\n", expires_in="90d")
    secret = secret_in(made.text)
    key = real.api_keys.find(secret)
    assert key
    assert (key.scopes, key.sites) == ({"stats:read"}, {"shop"})
    page = owner.get("/ops/keys").text
    assert secret not in page
    assert "<b>CI" not in page
    assert "<b>CI" in unescape(page)
    rotated = secret_in(owner.post(f"/ops/keys/{key.id}/rotate", page="/ops/keys").text)
    assert rotated != secret
    assert path_of(owner.post(f"/ops/keys/{key.id}/revoke", page="/ops/keys")) == "/ops/keys"
    assert [each.state(real.now()) for each in real.api_keys.list()] == ["revoked"]
    assert owner.post(f"/ops/keys/{key.id}/rotate", page="/ops/keys").status_code == 404


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": ""}, "Length must be between 1 and 128."),
        ({"scopes": "everything"}, "Must be one of"),
        ({"expires_in": "soon"}, "Not a duration such as 90d, 24h or 30m."),
        ({"expires_in": "0d"}, "Not in the future."),
        ({"sites": "shpo"}, "There is no site &#39;shpo&#39;."),
        ({"scopes": "admin", "sites": "shop"}, "A key with the scope admin is for all sites."),
    ],
)
def test_a_field_that_is_wrong_is_named(owner: Browser, real: Services, fields: dict[str, str], said: str):
    real.sites.put(Site("shop"))
    sent = {"name": "CI", "scopes": "stats:read"} | fields
    refused = owner.post("/ops/keys", **sent)
    assert refused.status_code == 400
    assert unescape(said) in " ".join(errors_in(refused.text))
    assert real.api_keys.list() == []
