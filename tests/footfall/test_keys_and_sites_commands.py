"""`python -m footfall keys` and `sites`, on real stores: their changes apply to the apps."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from pymongo.database import Database
from redis import Redis

from analytics.access.key_ring import KeyRing
from analytics.segments.builder import apply_path_rules
from analytics.sites.registry import SiteRegistry
from config.settings import Settings
from footfall.embedded_servers import pick_port
from footfall.keys import keys
from footfall.sites import sites
from tests.support.services import make_services, tell

Run = Callable[..., Result]


@pytest.fixture
def run(settings: Settings, redis: Redis, database: Database[dict[str, Any]]) -> Run:
    def run(*words: str, given: Settings = settings, **kwargs: Any) -> Result:
        return CliRunner().invoke({"keys": keys, "sites": sites}[words[0]], words[1:], obj=given, **kwargs)

    return run


# keys


def test_a_key_is_made_used_rotated_and_revoked(run: Run, report: FlaskClient, redis: Redis):
    assert run("sites", "set", "shop", "timezone=UTC").exit_code == 0
    made = run("keys", "create", "CI of the shop", "--scope", "stats:persons", "--site", "shop", "--expires-in", "90d")
    assert made.exit_code == 0
    secret = made.stdout.strip()
    assert re.fullmatch("footfall_[0-9A-Za-z]{32}", secret)
    assert "shown only now" in made.stderr

    def status(secret: str, site: str = "shop") -> int:
        url = f"/export/events?site_id={site}"
        return report.get(url, headers={"Authorization": f"Bearer {secret}"}).status_code

    assert (status(secret), status(secret, "other")) == (200, 403)
    assert KeyRing(redis).find(secret) is not None
    listed = run("keys", "list").stdout
    assert "stats:persons on shop" in listed
    assert "CI of the shop" in listed
    assert secret not in listed
    key_id = listed.splitlines()[1].split()[0]
    rotated = run("keys", "rotate", key_id, "--grace", "1h").stdout.strip()
    assert (rotated != secret, status(rotated), status(secret)) == (True, 200, 200)
    assert "is revoked" in run("keys", "revoke", key_id).stdout
    assert KeyRing(redis).find(rotated) is None
    assert "revoked" in run("keys", "list").stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["create", "ci"], 2, "--scope"),
        (["create", "ci", "--scope", "all"], 2, "all"),
        (["create", "", "--scope", "admin"], 2, "--name"),
        (["create", "ci", "--scope", "admin", "--site", "shop"], 2, "--site"),
        (["create", "ci", "--scope", "admin", "--expires-in", "soon"], 2, "--expires-in"),
        (["create", "ci", "--scope", "admin", "--expires-in", "0d"], 2, "--expires-in"),
        (["rotate", "0197c2a1-0000-7000-8000-000000000000"], 1, "no API key"),
        (["rotate", "0197c2a1-0000-7000-8000-000000000000", "--grace", "1y"], 2, "--grace"),
        (["revoke", "0197c2a1-0000-7000-8000-000000000000"], 1, "no API key"),
        (["revoke", "ci"], 2, "UUID"),
    ],
)
def test_an_invalid_key_is_refused(run: Run, words: list[str], code: int, said: str):
    ran = run("keys", *words)
    assert (ran.exit_code, said in ran.stderr) == (code, True), ran.output
    assert len(run("keys", "list").stdout.splitlines()) == 1


def test_a_key_can_only_be_made_for_existing_sites(run: Run, settings: Settings, database: Database[dict[str, Any]]):
    assert run("sites", "set", "shop", "domains=shop.example").exit_code == 0
    tell(database, {"site_id": "blog-2026", "at": "21 10:00:00"})
    for name, said in (
        ("shpo", "There is no site 'shpo'. Did you mean 'shop'?"),
        ("shop.exmaple", "Did you mean 'shop.example'?"),
        ("blog-2025", "Did you mean 'blog-2026'?"),
        ("nothing-like-it", "There is no site 'nothing-like-it'. Set it up with `python -m footfall sites set`"),
    ):
        ran = run("keys", "create", "ci", "--scope", "stats:read", "--site", "shop", "--site", name)
        assert (ran.exit_code, ran.stdout, said in ran.stderr) == (1, "", True), ran.stderr
    assert len(run("keys", "list").stdout.splitlines()) == 1
    assert run("keys", "create", "ci", "--scope", "stats:read", "--site", "www.shop.example").exit_code == 0
    assert run("keys", "create", "ci", "--scope", "stats:read", "--site", "blog-2026").exit_code == 0
    assert [line.split()[5:8] for line in run("keys", "list").stdout.splitlines()[1:]] == [
        ["stats:read", "on", "blog-2026"],
        ["stats:read", "on", "shop"],
    ]
    closed = replace(settings, app_env="production")
    ran = run("keys", "create", "ci", "--scope", "stats:read", "--site", "blog-2026", given=closed)
    assert (ran.exit_code, "There is no site 'blog-2026'." in ran.stderr) == (1, True), "events make no site there"


# sites


def test_a_site_is_set_changed_shown_and_removed(run: Run, redis: Redis):
    words = ["timezone=Europe/Berlin", "domains=shop.example,shop.test", 'goals=[{"event_type": "signup"}]']
    first = json.loads(run("sites", "set", "shop", *words).stdout)
    assert (first["timezone"], first["domains"]) == ("Europe/Berlin", ["shop.example", "shop.test"])
    site = SiteRegistry(redis).by_domain("www.shop.test")
    assert site is not None
    assert site.write_key == first["write_key"]
    changes = ["honours_dnt=true", "retention_days=90", "timezone=", "domains=[]"]
    changed = json.loads(run("sites", "set", "shop", *changes).stdout)
    given = {"honours_dnt": True, "retention_days": 90, "timezone": "UTC", "domains": []}
    assert changed == first | given
    assert json.loads(run("sites", "show", "shop").stdout) == changed
    assert [line.split()[-1] for line in run("sites", "list").stdout.splitlines()] == ["site", "shop"]
    rotated = run("sites", "rotate-key", "shop").stdout.strip()
    assert rotated != first["write_key"]
    assert SiteRegistry(redis).by_key(rotated) is not None
    assert run("sites", "remove", "shop").exit_code == 0
    assert SiteRegistry(redis).get("shop") is None
    assert run("sites", "remove", "shop").exit_code == 1
    assert run("sites", "rotate-key", "shop").exit_code == 1


def test_the_output_of_show_can_be_set(run: Run, tmp_path: Path):
    shown = run("sites", "set", "shop", "domains=shop.example").stdout
    (tmp_path / "shop.json").write_text(shown)
    run("sites", "set", "shop", "domains=", "honours_dnt=true")
    assert run("sites", "set", "shop", "--from", str(tmp_path / "shop.json")).stdout == shown
    assert run("sites", "set", "shop", "--from", "-", input=shown).stdout == shown


def test_new_rules_for_paths_say_that_reports_use_those_that_were_applied(
    run: Run, settings: Settings, database: Database[dict[str, Any]]
):
    said = "Reports use the rules for paths that were applied before, also for new events."
    run("sites", "set", "shop", "path_rules=/user/:id")
    services = make_services(settings, database=database)
    apply_path_rules(services.segments.builder, services.sites.get("shop"), [])
    assert said not in run("sites", "set", "shop", "timezone=UTC").stderr
    ran = run("sites", "set", "shop", "path_rules=/user/settings,/user/:id")
    assert (ran.exit_code, said in ran.stderr) == (0, True)
    assert json.loads(ran.stdout)["path_rules"] == ["/user/settings", "/user/:id"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["shop"], 2, "--from"),
        (["shop", "timezone"], 2, "NAME=VALUE"),
        (["shop", "timezone=Berlin"], 1, "timezone: Not an IANA time zone"),
        (["shop", "domains=a b"], 1, "domains.0: Not a domain"),
        (["shop", "time_zone=UTC"], 1, "time_zone: Unknown field. Did you mean 'timezone'?"),
        (["shop", "domains=taken.example"], 1, "domains: taken.example belongs to the site 'other'."),
        (["shop", "--from", "-"], 2, "Not JSON"),
    ],
)
def test_invalid_settings_are_refused(run: Run, words: list[str], code: int, said: str):
    run("sites", "set", "other", "domains=taken.example")
    ran = run("sites", "set", *words, input="{")
    assert (ran.exit_code, said in ran.stderr) == (code, True), ran.output
    assert len(run("sites", "list").stdout.splitlines()) == 2


@pytest.mark.usefixtures("usual_limits")
@pytest.mark.parametrize("group", ["keys", "sites"])
def test_an_unreachable_mongodb_is_reported_in_one_line(run: Run, settings: Settings, group: str):
    where = f"127.0.0.1:{pick_port(0)}"
    ran = run(group, "list", given=replace(settings, mongodb_uri=f"mongodb://{where}/?serverSelectionTimeoutMS=100"))
    assert ran.exit_code == 1
    assert ran.stderr.startswith(f"footfall: MongoDB does not answer at {where}: the connection was refused. ")
    assert ran.stderr.count("\n") == 1
