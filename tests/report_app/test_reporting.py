"""GET /stats against documents in a real MongoDB."""

import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest
from flask.testing import FlaskClient
from pymongo import MongoClient
from pymongo.database import Database

from analytics.events.schema import load_event
from analytics.events.store import EventStore
from analytics.journal.journal import Journal
from analytics.sites.site import Site
from config.settings import Settings
from footfall.embedded_servers import pick_port
from report_app import create_app
from tests.support.running_system import frozen
from tests.support.services import make_services

DAY = datetime(2026, 11, 22, tzinfo=UTC)


def store(database: Database, *bodies: dict[str, Any]) -> None:
    at = {"site_id": "site", "event_type": "page_view", "timestamp": DAY.isoformat()}
    EventStore(database).store([("0-1", load_event(at | body, DAY)) for body in bodies], DAY)


def test_a_site_without_events_has_zeros(report: FlaskClient, database: Database):
    answer = report.get("/stats?site_id=site")
    assert answer.status_code == 200
    assert answer.json == {
        "site_id": "site", "date": "all_time", "total_views": 0, "unique_users": 0, "top_paths": []
    }  # fmt: skip


def test_views_count_pageviews_and_users_count_visitors_of_all_events(report: FlaskClient, database: Database):
    store(
        database,
        {"path": "/a", "user_id": "1"},
        {"path": "/a", "user_id": "1", "event_type": "pageview"},
        {"path": "/b"},
        {},
        {"path": "/c", "user_id": "2", "event_type": "click"},
        {"path": "/a", "user_id": "3", "site_id": "other"},
    )
    answer = report.get("/stats?site_id=site&date=2026-11-22").json
    assert answer == {
        "site_id": "site",
        "date": "2026-11-22",
        "total_views": 4,
        "unique_users": 2,
        "top_paths": [{"path": "/a", "views": 2}, {"path": "/b", "views": 1}],
    }


def test_reports_for_an_api_key_need_no_redis(settings: Settings, database: Database):
    """Hosts that report share only MongoDB and the storage of segments."""
    store(database, {"path": "/a", "user_id": "1"})
    away = replace(settings, redis_url=f"redis://127.0.0.1:{pick_port(0)}/0")
    query = {"site_id": "site", "metrics": ["pageviews"], "date_range": "all"}
    with closing(make_services(away, database=database)) as services:
        services.sites.put(Site("site"))
        _, secret = services.api_keys.create("ci", ["stats:read"], ["site"], None)
        client, headers = create_app(away, services).test_client(), {"Authorization": f"Bearer {secret}"}
        assert client.get("/stats?site_id=site", headers=headers).json["total_views"] == 1
        found = client.post("/api/v2/query", json=query, headers=headers).json
    assert found["results"] == [{"dimensions": [], "metrics": [1]}]


def test_the_answer_has_exactly_these_bytes(report: FlaskClient, database: Database):
    store(database, {"path": "/pricing", "user_id": "1"})
    assert report.get("/stats?site_id=site&date=2026-11-22").data == (
        b'{"site_id":"site","date":"2026-11-22","total_views":1,"unique_users":1,'
        b'"top_paths":[{"path":"/pricing","views":1}]}\n'
    )


def test_top_paths_are_ten_with_ties_by_path(report: FlaskClient, database: Database):
    store(database, *[{"path": f"/{letter}"} for letter in "lkjihgfedcba"], {"path": "/l"})
    paths = report.get("/stats?site_id=site").json["top_paths"]
    assert [row["path"] for row in paths] == ["/l", "/a", "/b", "/c", "/d", "/e", "/f", "/g", "/h", "/i"]


def test_a_day_begins_at_its_midnight_and_ends_before_the_next(report: FlaskClient, database: Database):
    edges = [timedelta(0), timedelta(days=1, milliseconds=-1), timedelta(days=1), timedelta(milliseconds=-1)]
    store(database, *[{"timestamp": (DAY + edge).isoformat()} for edge in edges])
    assert report.get("/stats?site_id=site&date=2026-11-22").json["total_views"] == 2
    assert report.get("/stats?site_id=site").json["total_views"] == 4


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "site_id"),
        ("site_id=", "site_id"),
        ("site_id=" + "x" * 129, "site_id"),
        *[(f"site_id=s&date={bad}", "date") for bad in ("", "today", "2026-1-5", "2026-02-30", "20261122", "0001-01-01",
          "9999-12-31", "2026-11-22T00:00:00", "٢٠٢٦-11-22")],
    ],
)  # fmt: skip
def test_an_invalid_query_is_a_400_that_names_the_field(report: FlaskClient, query: str, field: str):
    answer = report.get(f"/stats?{query}")
    assert answer.status_code == 400
    assert answer.json["error"]["code"] == "invalid_query"
    assert list(answer.json["error"]["fields"]) == [field]


def test_stats_ignores_unknown_parameters_and_other_reports_refuse_them(report: FlaskClient, database: Database):
    assert report.get("/stats?site_id=site&utm_source=mail").status_code == 200
    assert report.get("/stats/realtime?site_id=site&utm_source=mail").status_code == 400


def test_a_query_cannot_inject_an_operator(report: FlaskClient, database: Database):
    store(database, {})
    assert report.get("/stats?site_id[$ne]=x").status_code == 400
    assert report.get("/stats", query_string={"site_id": '{"$ne": 1}'}).json["total_views"] == 0


def test_every_error_of_the_reporting_app_has_the_same_shape(report: FlaskClient):
    for answer, code in [
        (report.get("/nowhere"), "not_found"),
        (report.post("/stats"), "method_not_allowed"),
        (report.post("/stats", data=b"x" * 65537), "method_not_allowed"),
    ]:
        assert answer.content_type == "application/json"
        assert answer.json["success"] is False
        assert answer.json["error"]["code"] == code


@pytest.mark.usefixtures("usual_limits")
def test_an_unreachable_mongodb_is_a_503_with_retry_after(settings: Settings, journal: Journal):
    nobody = MongoClient(f"mongodb://127.0.0.1:{pick_port(0)}", serverSelectionTimeoutMS=100)
    report = create_app(settings, make_services(settings, database=nobody["footfall"], journal=journal)).test_client()
    answer, ready = report.get("/stats?site_id=site"), report.get("/readyz")
    nobody.close()
    assert (answer.status_code, answer.json["error"]["code"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert ready.status_code == 503
    assert ready.json["stores"]["mongodb"]["ok"] is False


@pytest.mark.usefixtures("usual_limits")
def test_a_mongodb_that_accepts_and_does_not_answer_is_a_503_long_before_the_time_limit(
    report: FlaskClient, database: Database
):
    assert report.get("/stats?site_id=site").status_code == 200
    pid = database.command("serverStatus")["pid"]
    with frozen([psutil.Process(pid)]):
        start = time.monotonic()
        answer = report.get("/stats?site_id=site")
        took = time.monotonic() - start
    assert answer.status_code == 503
    assert took < 3, "the limit of a query is 5 s here"


def test_the_reporting_app_answers_health_checks(report: FlaskClient, database: Database):
    assert report.get("/healthz").status_code == 200
    assert report.get("/readyz").json["stores"]["mongodb"]["ok"] is True
