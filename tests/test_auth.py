"""Every route of the reporting app has its key: administration, reports, or none for health."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient

from config.settings import Settings
from report_app import Services, create_app
from report_app.errors import PLAUSIBLE
from tests.conftest import ADMIN_KEY
from web.auth import needs_report_key_always

REPORT_KEY = "a-report-key-for-tests"
WRONG = [None, "", "wrong", ADMIN_KEY + "x", REPORT_KEY[:-1], "\u00e4"]
OPEN = {"/healthz", "/readyz", "/openapi.json", "/docs", "/docs/site"}
ADMINISTRATION = ("/admin/", "/metrics")
PERSONS = [("/stats/visitor", "GET"), ("/export/events", "GET")]

Client = Callable[..., FlaskClient]


@pytest.fixture
def client(settings: Settings, services: Services) -> Client:
    def make(**keys: str) -> FlaskClient:
        return create_app(replace(settings, **keys), services).test_client()

    return make


def routes(client: FlaskClient) -> Iterator[tuple[str, str]]:
    for rule in client.application.url_map.iter_rules():
        url = re.sub("<[^>]+>", "site", re.sub("<uuid:[a-z_]+>", str(uuid4()), rule.rule))
        yield from ((url, method) for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}))


def administration(client: FlaskClient) -> list[tuple[str, str]]:
    found = [(url, method) for url, method in routes(client) if url.startswith(ADMINISTRATION)]
    assert len(found) >= 12
    return found


def reports(client: FlaskClient) -> list[tuple[str, str]]:
    found = [(url, method) for url, method in routes(client) if not url.startswith(ADMINISTRATION) and url not in OPEN]
    assert {("/stats", "GET"), ("/api/v2/query", "POST"), *PERSONS} < set(found)
    return found


def bearer(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("key", [*WRONG, REPORT_KEY])
def test_every_route_for_administration_needs_the_admin_key(client: Client, key: str | None):
    report = client(report_key=REPORT_KEY)
    for url, method in administration(report):
        answer = report.open(url, method=method, headers=bearer(key))
        assert (answer.status_code, answer.json["error"]["code"]) == (401, "unauthorized"), url
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("key", ["", REPORT_KEY])
def test_without_an_admin_key_they_are_closed_to_everybody(client: Client, key: str):
    report = client(admin_key="", report_key=key)
    for url, method in administration(report):
        answer = report.open(url, method=method, headers=bearer(key))
        assert (answer.status_code, answer.json["error"]["code"]) == (403, "admin_key_not_set"), url


@pytest.mark.parametrize("key", WRONG)
def test_every_report_needs_the_report_key_where_one_is_set(client: Client, key: str | None):
    report = client(report_key=REPORT_KEY)
    for url, method in reports(report):
        answer = report.open(url, method=method, headers=bearer(key))
        assert answer.status_code == 401, url
        error = answer.json["error"]
        if not url.startswith(PLAUSIBLE):
            assert error["code"] == "unauthorized"
            error = error["message"]
        assert "REPORT_KEY" in error
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("key", [REPORT_KEY, ADMIN_KEY])
def test_the_report_key_and_the_admin_key_open_every_report(client: Client, key: str):
    report = client(report_key=REPORT_KEY)
    for url, method in reports(report):
        assert report.open(url, method=method, headers=bearer(key)).status_code not in (401, 403), url
    assert report.get("/stats?site_id=site", headers=bearer(key)).status_code == 200


@pytest.mark.parametrize("admin_key", ["", ADMIN_KEY])
def test_without_a_report_key_stats_are_open(client: Client, admin_key: str):
    report = client(admin_key=admin_key)
    assert report.get("/stats?site_id=site").status_code == 200
    assert report.get("/stats?site_id=site", headers=bearer("whatever")).status_code == 200


def test_without_any_key_the_reports_of_persons_are_closed_and_all_others_open(client: Client):
    report = client(report_key="", admin_key="")
    for url, method in reports(report):
        answer = report.open(url, method=method)
        if (url, method) in PERSONS:
            assert (answer.status_code, answer.json["error"]["code"]) == (403, "report_key_not_set"), url
        else:
            assert answer.status_code not in (401, 403), url


def test_without_a_report_key_the_reports_of_persons_need_the_admin_key(client: Client):
    report = client(report_key="", admin_key=ADMIN_KEY)
    for url, method in PERSONS:
        assert report.open(url, method=method).status_code == 401
        assert report.open(url, method=method, headers=bearer(ADMIN_KEY)).status_code == 400


@pytest.mark.parametrize(
    ("report_key", "admin_key", "sent", "status"),
    [
        ("", "", None, 403),
        ("", "", "", 403),
        ("", ADMIN_KEY, None, 401),
        ("", ADMIN_KEY, ADMIN_KEY, 200),
        (REPORT_KEY, "", None, 401),
        (REPORT_KEY, "", "", 401),
        (REPORT_KEY, "", REPORT_KEY, 200),
        (REPORT_KEY, ADMIN_KEY, REPORT_KEY, 200),
        (REPORT_KEY, ADMIN_KEY, ADMIN_KEY, 200),
        (REPORT_KEY, ADMIN_KEY, "wrong", 401),
    ],
)
def test_what_shows_persons_always_needs_a_key(report_key: str, admin_key: str, sent: str | None, status: int):
    app = Flask("persons")
    app.before_request(needs_report_key_always(report_key, admin_key))
    app.get("/")(lambda: "persons")
    answer = app.test_client().get("/", headers=bearer(sent))
    assert answer.status_code == status
    if status == 403:
        assert answer.json["error"]["code"] == "report_key_not_set"


def test_no_key_shows_where_settings_are_printed():
    assert REPORT_KEY not in repr(Settings(report_key=REPORT_KEY, admin_key=REPORT_KEY))
