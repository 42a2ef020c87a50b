"""Pages of the allowed origins may read reports in a browser, and no other page may."""

from dataclasses import replace

import pytest
from flask.testing import FlaskClient

from config.settings import Settings
from report_app import Services, create_app

ALLOWED, OTHER = "https://intranet.example", "https://evil.example"
REPORT_KEY = "a-report-key-for-tests"
URLS = ["/stats?site_id=shop", "/stats/ledger?site_id=shop", "/api/v1/stats/aggregate?site_id=shop", "/api/v2/query"]


@pytest.fixture
def report(settings: Settings, services: Services) -> FlaskClient:
    origins = f"{ALLOWED}, http://localhost:8080"
    return create_app(replace(settings, report_key=REPORT_KEY, report_cors_origins=origins), services).test_client()


def cors(headers: object) -> dict[str, str]:
    return {name: value for name, value in dict(headers).items() if name.startswith("Access-Control-")}  # type: ignore[call-overload]


def preflight(report: FlaskClient, url: str, origin: str) -> tuple[int, dict[str, str]]:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    answer = report.options(url, headers={"Origin": origin, **asked})
    return answer.status_code, cors(answer.headers)


@pytest.mark.parametrize("url", URLS)
def test_a_preflight_request_of_an_allowed_origin_is_answered_without_a_key(report: FlaskClient, url: str):
    status, headers = preflight(report, url, ALLOWED)
    assert status == 204
    assert headers["Access-Control-Allow-Origin"] == ALLOWED
    assert headers["Access-Control-Allow-Headers"] == "Authorization, Content-Type"
    assert headers["Access-Control-Allow-Methods"] == "GET, POST"
    assert "Access-Control-Allow-Credentials" not in headers


@pytest.mark.parametrize("origin", [OTHER, "null", "", ALLOWED + ".evil.example", ALLOWED.upper(), "http://localhost"])
@pytest.mark.parametrize("url", URLS)
def test_another_origin_gets_no_header_that_lets_it_read(report: FlaskClient, url: str, origin: str):
    assert preflight(report, url, origin) == (401, {})
    answer = report.get("/stats?site_id=shop", headers={"Origin": origin, "Authorization": f"Bearer {REPORT_KEY}"})
    assert (answer.status_code, cors(answer.headers), answer.headers["Vary"]) == (200, {}, "Origin")


def test_an_allowed_page_reads_answers_and_errors_but_never_with_cookies(report: FlaskClient):
    for key, status in ((REPORT_KEY, 200), ("wrong", 401)):
        answer = report.get("/stats?site_id=shop", headers={"Origin": ALLOWED, "Authorization": f"Bearer {key}"})
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == ALLOWED
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    "url", ["/admin/sites", "/export/events?site_id=shop", "/login", "/site/shop", "/api/v1/sites"]
)
def test_administration_persons_and_pages_are_for_no_other_origin(report: FlaskClient, url: str):
    assert preflight(report, url, ALLOWED)[1] == {}
    assert cors(report.get(url, headers={"Origin": ALLOWED}).headers) == {}


def test_by_default_no_origin_is_allowed(settings: Settings, services: Services):
    report = create_app(settings, services).test_client()
    assert preflight(report, URLS[0], ALLOWED)[1] == {}
    answer = report.get(URLS[0], headers={"Origin": ALLOWED})
    assert (cors(answer.headers), "Vary" in answer.headers) == ({}, False)
