"""Who opens the console while the stores answer, and while one of them is down. Roles: accounts/test_roles.py."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from flask import Flask

from config.services import Services
from config.settings import Settings
from footfall.embedded_servers import Server, mongo_server, pick_port, redis_server
from report_app import create_app
from report_app.pages.rendering import PAGE_POLICY
from tests.report_app.console.conftest import OLGA
from tests.report_app.pages.test_routes import MOST_BYTES, weight_of
from tests.support.accounts import Browser, make_owner, path_of, token_in
from tests.support.running_system import running

NO_ID = "00000000-0000-7000-8000-000000000000"


def test_pages_have_the_strict_policy_and_are_not_stored(owner: Browser):
    answer = owner.get("/ops")
    assert answer.status_code == 200
    assert answer.headers["Content-Security-Policy"] == PAGE_POLICY
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "parts"), [("/ops", ("journal", "today", "segments", "findings")), ("/ops/rates", ())]
)
def test_a_page_with_all_that_it_loads_is_light(owner: Browser, path: str, parts: tuple[str, ...]):
    assert weight_of(owner.get, path, [f"/parts/ops/{part}" for part in parts]) < MOST_BYTES


def test_where_reports_are_open_a_guest_still_has_to_sign_in(settings: Settings, real: Services):
    guest = Browser(create_app(settings, real))
    assert path_of(guest.get("/ops")) == "/login?next=%2Fops"


def test_every_change_needs_a_token(app: Flask, owner: Browser):
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith("/ops")]
    posts = [rule.rule for rule in rules if "POST" in (rule.methods or ())]
    assert len(posts) >= 17
    for rule in posts:
        url = rule.replace("<path:site_id>", "shop")
        for name in ("letter_id", "user_id", "key_id", "rule_id"):
            url = url.replace(f"<uuid:{name}>", NO_ID)
        answer = owner.client.post(url)
        assert (answer.status_code, "The form expired" in answer.text) == (400, True), rule


@dataclass(frozen=True)
class Outage:
    """A store, and a part of the start page that needs it."""

    store: str
    setting: str
    make: Callable[[Path, int], Server]
    part: str


REDIS = Outage("Redis", "redis_url", redis_server, "journal")
MONGODB = Outage("MongoDB", "mongodb_uri", mongo_server, "segments")


@pytest.mark.parametrize(("lost", "kept"), [(REDIS, MONGODB), (MONGODB, REDIS)])
@pytest.mark.usefixtures("redis", "database", "usual_limits")
def test_an_owner_who_was_recognised_reads_on_while_a_store_is_down(
    settings: Settings, tmp_path: Path, lost: Outage, kept: Outage
):
    server = lost.make(tmp_path, pick_port(0))
    with running(server) as process:
        settings = replace(settings, report_key="a-report-key-for-tests", **{lost.setting: server.url})
        with closing(Services(settings, patience=0.5)) as services:
            app = create_app(settings, services)
            owner, guest = Browser(app), Browser(app)
            make_owner(services.accounts, OLGA)
            owner.sign_in(OLGA)
            token = token_in(owner.get("/ops/keys").text)
            process.kill()
            page = owner.get("/ops")
            assert (page.status_code, f"{lost.store} is not reachable" in page.text) == (200, True)
            assert owner.get(f"/parts/ops/{kept.part}").status_code == 200
            part = owner.get(f"/parts/ops/{lost.part}")
            assert (part.status_code, f"{lost.store} is not reachable" in part.text) == (503, True)
            assert owner.client.post("/ops/keys", data={"csrf_token": token}).status_code == 503
            assert guest.get("/ops").status_code == 303


def test_a_session_that_has_ended_is_not_recognised(owner: Browser, real: Services):
    assert owner.get("/ops").status_code == 200
    user = real.accounts.find(OLGA)
    assert user
    real.accounts.end_sessions(user.id)
    assert path_of(owner.get("/ops")) == "/login?next=%2Fops"
