"""Every route of the reporting app has its rule: which keys open it, for which sites, and the answer without a key."""

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import structlog
from flask import Flask
from flask.testing import FlaskClient
from pymongo import MongoClient
from pymongo.database import Database
from redis import Redis
from werkzeug.test import TestResponse

from analytics.access.api_key import (
    ADMIN_SCOPE,
    DEAD_LETTERS_SCOPE,
    METRICS_SCOPE,
    PERSONS_SCOPE,
    READ_SCOPE,
    SCOPES,
    SITES_SCOPE,
    ApiKey,
)
from analytics.access.store import ApiKeyStore
from analytics.sites.site import Site
from config.settings import Settings
from footfall.embedded_servers import pick_port
from report_app import Services, create_app
from report_app.errors import PLAUSIBLE
from report_app.page_blueprint import PageBlueprint
from tests.support.services import ADMIN_KEY, NOW, make_services
from web.auth import Auth, in_question
from web.docs import PART

REPORT_KEY = "a-report-key-for-tests"
WRONG = [None, "", "wrong", ADMIN_KEY + "x", REPORT_KEY[:-1], "\u00e4"]
OPEN = {"/", "/healthz", "/readyz", "/openapi.json", "/docs", "/docs/", "/docs/site", PART}
ADMINISTRATION = ("/admin/", "/metrics", "/api/v1/sites")
OF_PERSONS = [("/stats/visitor", "GET"), ("/export/events", "GET")]

# For each route of the reporting app that is not public: the scope that it needs, and whether it is about one site,
# which the query, the body or the path names.
RULES = {
    "GET /stats": (READ_SCOPE, True),
    "GET /stats/timeseries": (READ_SCOPE, True),
    "GET /stats/breakdown": (READ_SCOPE, True),
    "GET /stats/realtime": (READ_SCOPE, True),
    "GET /stats/ledger": (READ_SCOPE, True),
    "POST /api/v2/query": (READ_SCOPE, True),
    "POST /api/v2/funnel": (READ_SCOPE, True),
    "POST /api/v2/retention": (READ_SCOPE, True),
    "POST /api/v2/journeys": (READ_SCOPE, True),
    "GET /api/v1/stats/realtime/visitors": (READ_SCOPE, True),
    "GET /api/v1/stats/aggregate": (READ_SCOPE, True),
    "GET /api/v1/stats/timeseries": (READ_SCOPE, True),
    "GET /api/v1/stats/breakdown": (READ_SCOPE, True),
    "GET /api/v1/sites": (SITES_SCOPE, False),
    "POST /api/v1/sites": (SITES_SCOPE, False),
    "GET /api/v1/sites/<site:site_id>": (SITES_SCOPE, True),
    "DELETE /api/v1/sites/<site:site_id>": (SITES_SCOPE, True),
    "GET /api/v1/sites/goals": (SITES_SCOPE, True),
    "PUT /api/v1/sites/goals": (SITES_SCOPE, True),
    "DELETE /api/v1/sites/goals/<goal_id>": (SITES_SCOPE, True),
    "PUT /api/v1/sites/shared-links": (SITES_SCOPE, True),
    "GET /stats/visitor": (PERSONS_SCOPE, True),
    "GET /export/events": (PERSONS_SCOPE, True),
    "GET /admin/sites": (SITES_SCOPE, False),
    "GET /admin/sites/<path:site_id>": (SITES_SCOPE, True),
    "PUT /admin/sites/<path:site_id>": (SITES_SCOPE, True),
    "PATCH /admin/sites/<path:site_id>": (SITES_SCOPE, True),
    "DELETE /admin/sites/<path:site_id>": (SITES_SCOPE, True),
    "POST /admin/write-keys/<path:site_id>": (SITES_SCOPE, True),
    "GET /admin/keys": (ADMIN_SCOPE, False),
    "POST /admin/keys": (ADMIN_SCOPE, False),
    "POST /admin/keys/<uuid:key_id>/rotate": (ADMIN_SCOPE, False),
    "POST /admin/keys/<uuid:key_id>/revoke": (ADMIN_SCOPE, False),
    "GET /admin/dead-letters": (DEAD_LETTERS_SCOPE, True),
    "GET /admin/dead-letters/count": (DEAD_LETTERS_SCOPE, True),
    "GET /admin/dead-letters/export": (DEAD_LETTERS_SCOPE, True),
    "GET /admin/dead-letters/<uuid:letter_id>": (DEAD_LETTERS_SCOPE, False),
    "POST /admin/dead-letters/<uuid:letter_id>/replay": (DEAD_LETTERS_SCOPE, False),
    "POST /admin/dead-letters/replay": (DEAD_LETTERS_SCOPE, True),
    "POST /admin/dead-letters/purge": (DEAD_LETTERS_SCOPE, True),
    "POST /admin/visitors/search": (ADMIN_SCOPE, False),
    "POST /admin/visitors/export": (ADMIN_SCOPE, False),
    "POST /admin/visitors/erase": (ADMIN_SCOPE, False),
    "GET /admin/notifications": (ADMIN_SCOPE, False),
    "GET /admin/notifications/rules": (ADMIN_SCOPE, False),
    "POST /admin/notifications/rules": (ADMIN_SCOPE, False),
    "PATCH /admin/notifications/rules/<uuid:rule_id>": (ADMIN_SCOPE, False),
    "DELETE /admin/notifications/rules/<uuid:rule_id>": (ADMIN_SCOPE, False),
    "POST /admin/notifications/rules/<uuid:rule_id>/test": (ADMIN_SCOPE, False),
    "GET /metrics": (METRICS_SCOPE, False),
}

# Its tools check the site: tests/system/test_assistants.py.
OF_TOOLS = {"POST /mcp": (READ_SCOPE, True)}
RULES |= OF_TOOLS

Client = Callable[..., FlaskClient]


@pytest.fixture
def client(settings: Settings, services: Services) -> Client:
    def make(**keys: str) -> FlaskClient:
        return create_app(replace(settings, **keys), services).test_client()

    return make


def routes(client: FlaskClient) -> Iterator[tuple[str, str]]:
    for rule in client.application.url_map.iter_rules():
        if is_page(client.application, rule.endpoint):
            continue
        url = re.sub("<[^>]+>", "site", re.sub("<uuid:[a-z_]+>", str(uuid4()), rule.rule))
        yield from ((url, method) for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}))


def administration(client: FlaskClient) -> list[tuple[str, str]]:
    found = [(url, method) for url, method in routes(client) if url.startswith(ADMINISTRATION)]
    assert len(found) >= 12
    return found


def reports(client: FlaskClient) -> list[tuple[str, str]]:
    found = [(url, method) for url, method in routes(client) if not url.startswith(ADMINISTRATION) and url not in OPEN]
    assert {("/stats", "GET"), ("/api/v2/query", "POST"), *OF_PERSONS} < set(found)
    return found


def bearer(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("key", [*WRONG, REPORT_KEY])
def test_every_route_for_administration_needs_the_admin_key(client: Client, key: str | None):
    report = client(report_key=REPORT_KEY)
    for url, method in administration(report):
        answer = report.open(url, method=method, headers=bearer(key))
        assert (answer.status_code, "ADMIN_KEY" in answer.text) == (401, True), url
        assert url.startswith(PLAUSIBLE) or answer.json["error"]["code"] == "unauthorized"
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("key", ["", REPORT_KEY])
def test_without_an_admin_key_routes_for_administration_are_closed(client: Client, key: str):
    report = client(admin_key="", report_key=key)
    for url, method in administration(report):
        answer = report.open(url, method=method, headers=bearer(key))
        assert (answer.status_code, "no ADMIN_KEY" in answer.text) == (403, True), url
        assert url.startswith(PLAUSIBLE) or answer.json["error"]["code"] == "admin_key_not_set"


@pytest.mark.parametrize("key", WRONG)
def test_every_report_needs_the_report_key_if_one_is_set(client: Client, key: str | None):
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


def test_without_any_key_reports_of_persons_are_closed_and_all_others_are_open(client: Client):
    report = client(report_key="", admin_key="")
    for url, method in reports(report):
        answer = report.open(url, method=method)
        if (url, method) in OF_PERSONS:
            assert (answer.status_code, answer.json["error"]["code"]) == (403, "report_key_not_set"), url
        else:
            assert answer.status_code not in (401, 403), url


def test_without_a_report_key_the_reports_of_persons_need_the_admin_key(client: Client):
    report = client(report_key="", admin_key=ADMIN_KEY)
    for url, method in OF_PERSONS:
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
def test_reports_that_show_persons_always_need_a_key(report_key: str, admin_key: str, sent: str | None, status: int):
    app = Flask("persons")
    app.before_request(Auth(Settings(report_key=report_key, admin_key=admin_key), lambda _: None).needs(PERSONS_SCOPE))
    app.get("/")(lambda: "persons")
    answer = app.test_client().get("/", headers=bearer(sent))
    assert answer.status_code == status
    if status == 403:
        assert answer.json["error"]["code"] == "report_key_not_set"


# Open reports


@pytest.mark.parametrize(
    ("given", "is_open"),
    [
        ({}, True),
        ({"bind_host": "::1"}, True),
        ({"bind_host": "0.0.0.0"}, False),
        ({"bind_host": "192.0.2.1"}, False),
        ({"bind_host": "0.0.0.0", "published_on": "127.0.0.1"}, True),
        ({"published_on": "0.0.0.0"}, False),
        ({"app_env": "production"}, False),
        ({"report_key": REPORT_KEY}, False),
    ],
)
@pytest.mark.parametrize("admin_key", ["", ADMIN_KEY])
def test_reports_are_open_in_development_on_loopback_without_a_report_key_only_and_say_so(
    client: Client, given: dict[str, str], is_open: bool, admin_key: str, caplog: pytest.LogCaptureFixture
):
    with structlog.testing.capture_logs() as logs:
        report = client(**{"admin_key": admin_key} | given)
    assert ("reports_opened" in [line["event"] for line in logs]) == is_open
    answer = report.get("/stats?site_id=site")
    has_key = bool(admin_key or given.get("report_key"))
    assert answer.status_code == (200 if is_open else 401 if has_key else 403)


# API keys


def is_page(app: Flask, endpoint: str) -> bool:
    """Sessions protect pages, and tests/report_app/accounts/test_roles.py has their rules."""
    return isinstance(app.blueprints.get(endpoint.partition(".")[0]), PageBlueprint)


def rows(app: Flask) -> set[str]:
    return {
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        if not is_page(app, rule.endpoint)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule not in OPEN and not rule.rule.startswith("/docs/")
    }


def test_every_route_of_the_reporting_app_has_its_rule(client: Client):
    assert rows(client().application) == set(RULES)


def test_every_route_of_the_ingestion_app_that_is_not_public_has_its_rule(ingest: FlaskClient):
    """Sending is open: the collector decides by the site."""
    guarded = {row for row in rows(ingest.application) if row.startswith("GET /metrics") or "/admin" in row}
    assert guarded == {"GET /metrics"}
    assert ingest.get("/metrics").status_code == 401


@pytest.fixture
def make_key(services: Services) -> Callable[..., str]:
    def make(*scopes: str, sites: list[str] | None = None, expires_at: datetime | None = None) -> str:
        return services.api_keys.create("a test's", scopes, sites, expires_at)[1]

    return make


def opened(row: str, site: str | None = None) -> tuple[str, dict[str, Any]]:
    """A concrete request to the route, about a site if the route takes one."""
    method, rule = row.split(" ")
    url = re.sub("<(path|site):site_id>", site or "site", re.sub("<uuid:[a-z_]+>", str(uuid4()), rule))
    of_site = {"site_id": site} if site else {}
    return url, {"method": method} | ({"query_string": of_site} if method == "GET" else {"json": of_site})


def is_refused(answer: TestResponse) -> bool:
    """Whether a request is refused because of its key.

    A report on visitors is also a 403 if the site does not show them.
    """
    return answer.status_code == 401 or (answer.status_code == 403 and "API key" in answer.text)


@pytest.mark.parametrize("scope", SCOPES)
def test_an_api_key_opens_the_routes_of_its_scopes_and_no_others(
    client: Client, make_key: Callable[..., str], scope: str
):
    report, headers = client(report_key=REPORT_KEY), bearer(make_key(scope))
    for row, (needed, _) in RULES.items():
        url, how = opened(row, "site")
        answer = report.open(url, headers=headers, **how)
        assert is_refused(answer) == (scope not in (needed, ADMIN_SCOPE)), row
        if is_refused(answer):
            assert answer.status_code == 403, row
            assert needed in answer.text, row


def test_an_api_key_for_some_sites_opens_these_sites_and_no_route_without_a_site(
    client: Client, make_key: Callable[..., str]
):
    report = client(report_key=REPORT_KEY)
    headers = bearer(make_key(*(scope for scope in SCOPES if scope != ADMIN_SCOPE), sites=["mine", "a/b"]))
    for row, (scope, of_site) in RULES.items() - OF_TOOLS.items():
        for site in ("mine", "a/b") if of_site else ():
            url, how = opened(row, site)
            assert not is_refused(report.open(url, headers=headers, **how)), row
        url, how = opened(row, "other")
        answer = report.open(url, headers=headers, **how)
        assert answer.status_code == 403, row
        if scope == ADMIN_SCOPE:
            continue
        assert scope in answer.text, row
        assert ("'other'" in answer.text) == of_site, row


@pytest.mark.parametrize("how", [
    {"path": "/stats"},
    {"path": "/stats?site_id="},
    {"path": "/stats?site_id=mine&site_id=other"},
    {"path": "/stats?site_id=other&site_id=mine"},
    {"path": "/stats", "json": {"site_id": "mine"}},
    {"path": f"/stats?{'site_id=mine&' * 101}"},
    {"path": "/export/events?site_id=MINE"},
    {"path": "/api/v2/query?site_id=mine", "method": "POST", "json": {"site_id": "other"}},
    {"path": "/api/v2/query", "method": "POST", "data": b'{"site_id": "mine", "site_id": "other"}'},
    {"path": "/api/v2/query", "method": "POST", "json": {"site_id": ["mine", "other"]}},
    {"path": "/api/v2/query", "method": "POST", "json": {"site_id": ["mine", ["mine"]]}},
    {"path": "/api/v2/query", "method": "POST", "json": {"site_id": ["mine"] * 101}},
    {"path": "/api/v2/query", "method": "POST", "json": {"site_id": []}},
    {"path": "/api/v2/query", "method": "POST", "json": {"site_id": {"mine": 1}}},
    {"path": "/api/v2/funnel", "method": "POST", "json": {"site_id": ["other", "mine"]}},
    {"path": "/stats/breakdown?site_id=mine&site_id=other"},
    {"path": "/api/v1/stats/aggregate?site_id=mine&site_id=other"},
    {"path": "/api/v1/stats/realtime/visitors?site_id=other"},
    {"path": "/api/v1/sites?site_id=mine"},
    {"path": "/api/v1/sites", "method": "POST", "json": {"domain": "other", "site_id": "mine"}},
    {"path": "/api/v1/sites/other?site_id=mine", "method": "DELETE"},
    {"path": "/api/v1/sites/goals?site_id=mine", "method": "PUT", "json": {"site_id": "other"}},
    {"path": "/api/v1/sites/shared-links?site_id=mine", "method": "PUT", "data": {"site_id": "other"}},
    {"path": "/api/v2/query", "method": "POST", "json": [{"site_id": "mine"}]},
    {"path": "/api/v2/query", "method": "POST", "data": b"{"},
    {"path": "/admin/dead-letters?site_id="},
    {"path": f"/admin/dead-letters/{uuid4()}?site_id=mine"},
    {"path": f"/admin/dead-letters/{uuid4()}/replay", "method": "POST", "json": {"site_id": "mine"}},
    {"path": "/admin/dead-letters/purge?site_id=mine", "method": "POST", "json": {"confirm": 0}},
    {"path": "/admin/sites?site_id=mine"},
    {"path": "/admin/sites/mine%2Fother?site_id=mine"},
    {"path": "/metrics?site_id=mine"},
])  # fmt: skip
def test_no_query_lets_a_key_read_other_sites(client: Client, make_key: Callable[..., str], how: dict[str, Any]):
    scopes = [scope for scope in SCOPES if scope != ADMIN_SCOPE]
    report = client(report_key=REPORT_KEY)
    assert report.open(headers=bearer(make_key(*scopes, sites=["mine"])), **how).status_code == 403


def test_no_site_is_looked_up_after_one_that_the_key_may_not_read():
    app, looked_up = Flask("reports"), list[str]()
    key = ApiKey(UUID(int=0), "", frozenset({READ_SCOPE}), frozenset({"mine"}), NOW)

    def id_of(name: str) -> str:
        looked_up.append(name)
        return name

    app.before_request(Auth(Settings(), lambda _: key).needs(READ_SCOPE, in_question, id_of))
    app.get("/")(lambda: "reports")
    answer = app.test_client().get("/?site_id=mine&site_id=a&site_id=b", headers=bearer("footfall_" + "x" * 32))
    assert (answer.status_code, looked_up) == (403, ["mine", "a"])


def test_a_valid_key_limits_its_requests_even_if_reports_are_open(client: Client, make_key: Callable[..., str]):
    report = client(report_key="", admin_key="")
    assert report.get("/stats?site_id=site").status_code == 200
    assert report.get("/stats?site_id=site", headers=bearer(make_key(METRICS_SCOPE))).status_code == 403


@pytest.mark.parametrize("key", ["None", "wrong", "", "footfall_unknown", "footfall_" + "x" * 32])
def test_if_reports_are_open_an_invalid_key_counts_as_none(client: Client, key: str):
    report = client(report_key="", admin_key="")
    answer = report.get("/stats?site_id=site", headers=bearer(key))
    assert answer.status_code == 200
    assert ("unknown" in answer.headers.get("X-Footfall-Warning", "")) == key.startswith("footfall_")
    assert report.get("/healthz", headers=bearer(key)).status_code == 200


def test_a_site_s_write_key_opens_nothing(client: Client, services: Services):
    write_key = services.sites.put(Site("site")).write_key
    report = client(report_key=REPORT_KEY)
    for headers in (bearer(write_key), {"Authorization": f"Basic {b64encode(f'{write_key}:'.encode()).decode()}"}):
        for row in RULES:
            url, how = opened(row, "site")
            assert report.open(url, headers=headers, **how).status_code == 401, row


def test_without_any_key_in_the_settings_api_keys_open_everything_else(client: Client, make_key: Callable[..., str]):
    report = client(report_key="", admin_key="")
    assert report.get("/admin/keys", headers=bearer(make_key(ADMIN_SCOPE))).status_code == 200
    assert report.get("/export/events?site_id=site", headers=bearer(make_key(PERSONS_SCOPE))).status_code == 200
    assert report.get("/admin/keys").json["error"]["code"] == "admin_key_not_set"


@pytest.mark.parametrize("secret", ["footfall_", "footfall_" + "x" * 32, "footfall_\u00e4"])
def test_an_unknown_api_key_is_a_401(client: Client, secret: str):
    for url in ("/stats?site_id=site", "/admin/keys"):
        answer = client(report_key=REPORT_KEY).get(url, headers=bearer(secret))
        assert (answer.status_code, answer.json["error"]["code"]) == (401, "unauthorized")


def test_a_secret_is_shown_once_and_its_hash_is_kept(report: FlaskClient, database: Database, caplog: Any):
    asked = {"name": "Grafana", "scopes": [READ_SCOPE, METRICS_SCOPE], "sites": ["shop"], "expires_in": "90d"}
    made = report.post("/admin/keys", headers=bearer(ADMIN_KEY), json=asked)
    assert made.status_code == 200
    assert made.headers["Cache-Control"] == "no-store"
    secret = made.json["key"]
    assert re.fullmatch("footfall_[0-9A-Za-z]{32}", secret)
    assert {**made.json, "key": ""} == {
        "id": made.json["id"], "name": "Grafana", "scopes": [METRICS_SCOPE, READ_SCOPE], "sites": ["shop"],
        "state": "active",
        "created_at": NOW.isoformat(), "expires_at": (NOW + timedelta(days=90)).isoformat(),
        "revoked_at": None, "last_used_at": None, "key": "",
    }  # fmt: skip
    rotated = report.post(f"/admin/keys/{made.json['id']}/rotate", headers=bearer(ADMIN_KEY), json={"grace": "0h"})
    assert (rotated.status_code, rotated.json["key"] == secret) == (200, False)
    listed = report.get("/admin/keys", headers=bearer(ADMIN_KEY))
    assert [key["name"] for key in listed.json["keys"]] == ["Grafana"]
    kept = str(list(database["api_keys"].find()))
    for each in (secret, rotated.json["key"]):
        assert each.removeprefix("footfall_") not in listed.text + kept + caplog.text
    assert hashlib.sha256(rotated.json["key"].encode()).hexdigest() in kept
    revoked = report.post(f"/admin/keys/{made.json['id']}/revoke", headers=bearer(ADMIN_KEY))
    assert revoked.json["state"] == "revoked"
    again = report.post(f"/admin/keys/{made.json['id']}/revoke", headers=bearer(ADMIN_KEY))
    assert again.json == revoked.json


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["stats:write"]}, "scopes.0"),
        ({"sites": []}, "sites"),
        ({"sites": "shop"}, "sites"),
        ({"scopes": [ADMIN_SCOPE], "sites": ["shop"]}, "sites"),
        ({"site": "shop"}, "site"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"expires_at": "2026-11-22T12:00:00Z"}, "expires_at"),
        ({"expires_in": "0d"}, "expires_at"),
        *[({"expires_in": bad}, "expires_in") for bad in ("90", "90 d", "-1d", "d", 90, "36501d")],
        ({"expires_in": "1d", "expires_at": "2027-01-01T00:00:00Z"}, "expires_in"),
    ],
)
def test_an_invalid_new_key_is_refused_and_its_field_is_named(report: FlaskClient, wrong: dict[str, Any], field: str):
    asked = {"name": "ci", "scopes": [READ_SCOPE]} | wrong
    answer = report.post("/admin/keys", headers=bearer(ADMIN_KEY), json=asked)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "invalid_query")
    assert field in answer.json["error"]["fields"]
    assert report.get("/admin/keys", headers=bearer(ADMIN_KEY)).json == {"keys": []}


def test_an_unknown_key_is_a_404_and_an_invalid_grace_is_a_400(report: FlaskClient, database: Database):
    for what in ("rotate", "revoke"):
        answer = report.post(f"/admin/keys/{uuid4()}/{what}", headers=bearer(ADMIN_KEY))
        assert (answer.status_code, answer.json["error"]["code"]) == (404, "not_found")
    answer = report.post(f"/admin/keys/{uuid4()}/rotate", headers=bearer(ADMIN_KEY), json={"grace": "31d"})
    assert "grace" in answer.json["error"]["fields"]


@pytest.mark.usefixtures("usual_limits")
def test_an_api_key_that_cannot_be_looked_up_is_a_503_and_the_admin_key_still_works(
    settings: Settings, services: Services
):
    nobody: MongoClient[dict[str, Any]] = MongoClient(
        f"mongodb://127.0.0.1:{pick_port(0)}", serverSelectionTimeoutMS=100
    )
    given = vars(services) | {"api_keys": ApiKeyStore(nobody["footfall"])}
    report = create_app(settings, make_services(settings, **given)).test_client()
    answer = report.get("/metrics", headers=bearer("footfall_" + "x" * 32))
    assert (answer.status_code, answer.json["error"]["code"]) == (503, "unavailable")
    assert report.get("/metrics", headers=bearer(ADMIN_KEY)).status_code == 200
    nobody.close()


def test_the_ingestion_app_s_metrics_open_to_a_key_for_metrics(
    settings: Settings, database: Database, ingest: FlaskClient, redis: Redis
):
    keys = make_services(settings, database=database).api_keys
    (_, metrics), (_, reading) = (keys.create("ci", [scope], None, None) for scope in (METRICS_SCOPE, READ_SCOPE))
    assert ingest.get("/metrics", headers=bearer(metrics)).status_code == 200
    assert ingest.get("/metrics", headers=bearer(reading)).status_code == 403
    assert ingest.get("/metrics", headers=bearer(ADMIN_KEY)).status_code == 200


def test_no_key_shows_where_settings_are_printed():
    assert REPORT_KEY not in repr(Settings(report_key=REPORT_KEY, admin_key=REPORT_KEY))
