"""GET /stats/ledger and `last_event_received`: the outcomes of a site's events, as an operator sees them over HTTP."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from pymongo.database import Database
from redis import Redis

from analytics.access.api_key import READ_SCOPE, SITES_SCOPE
from analytics.events.account import Account
from analytics.journal.journal import Journal, Line
from analytics.journal.ledger import LAST_RECEIVED, MOST_SITES_RECEIVED, Ledger
from analytics.pipeline import Stores, store_waiting
from analytics.sites.site import Site
from analytics.sites.store import SiteStore
from config.settings import Settings
from report_app import Services, create_app
from tests.support.services import ADMIN_KEY, NOW

GOOD = {"site_id": "shop", "event_type": "pageview", "path": "/", "user_id": "ann"}
TODAY = NOW.date().isoformat()
HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}
NONE = {
    "received": 0, "rejected": {}, "dropped": {}, "accepted": 0, "replayed": 0, "imported": 0, "stored": 0,
    "duplicate": 0, "dead": 0, "dropped_later": {}, "waiting": 0, "refused": {},
}  # fmt: skip


def count(journal: Journal, site_id: str, day: date, name: str, times: int = 1) -> None:
    journal.append([Line(Account(site_id, day), name)] * times)


def test_the_ledger_of_a_site_counts_the_outcomes_of_its_events(
    ingest: FlaskClient, report: FlaskClient, stores: Stores, database: Database[dict[str, Any]]
):
    SiteStore(database).put(Site("shop", excluded_paths=("/admin/**",)))
    told = [GOOD | {"event_id": "1"}, GOOD | {"event_id": "1"}, GOOD | {"path": "/admin/a"}, GOOD | {"props": 7}, GOOD]
    ingest.post("/events", json=told)
    ingest.post("/event", json=GOOD | {"site_id": "a shop"})
    store_waiting(stores, "task")
    ingest.post("/event", json=GOOD)
    (row,) = report.get("/stats/ledger?site_id=shop").json["days"]
    assert row == NONE | {
        "date": TODAY, "received": 6, "rejected": {"invalid_event": 1}, "accepted": 5, "stored": 2, "duplicate": 1,
        "dropped_later": {"excluded_path": 1}, "waiting": 1,
    }  # fmt: skip
    (other,) = report.get("/stats/ledger?site_id=a shop").json["days"]
    assert other == NONE | {"date": TODAY, "received": 1, "accepted": 1, "stored": 1}


@pytest.mark.parametrize("name", ["*", "sh?p", "[shop]", "a\\b", "s^p", "shop shop"])
def test_no_site_id_works_as_a_pattern_for_other_sites(report: FlaskClient, journal: Journal, name: str):
    for site_id in ("shop", name, "ship", "a b"):
        count(journal, site_id, NOW.date(), "accepted")
    (row,) = report.get("/stats/ledger", query_string={"site_id": name}).json["days"]
    assert row["accepted"] == 1


def test_days_that_were_moved_to_mongodb_count_once_and_are_found_by_an_index(
    report: FlaskClient, journal: Journal, redis: Redis, database: Database[dict[str, Any]]
):
    ledger = Ledger(redis, database)
    for days in range(40):
        count(journal, "shop", NOW.date() - timedelta(days), "accepted", days + 1)
        count(journal, "shop", NOW.date() - timedelta(days), "rejected:too_old")
    count(journal, "other", NOW.date() - timedelta(3), "accepted")
    asked = "/stats/ledger?site_id=shop"
    before = report.get(asked).json
    assert (before["from"], before["to"]) == ((NOW.date() - timedelta(29)).isoformat(), TODAY)
    assert [row["accepted"] for row in before["days"]] == list(range(30, 0, -1))
    ledger.carry(NOW.date() - timedelta(1))
    assert report.get(asked).json == before
    count(journal, "shop", NOW.date() - timedelta(3), "accepted")
    ledger.carry(NOW.date() - timedelta(1))
    assert report.get(asked).json["days"][26]["accepted"] == 5
    found = report.get(f"{asked}&from=2026-10-20&to=2026-10-21").json["days"]
    assert [(row["date"], row["received"]) for row in found] == [("2026-10-20", 35), ("2026-10-21", 34)]
    plan = database["books"].find({"site_id": "shop", "day": {"$gte": "2026-11-01"}}).explain()
    assert plan["queryPlanner"]["winningPlan"]["inputStage"]["indexName"] == "site_day"


def test_when_the_last_event_was_received_is_known_before_it_is_stored(
    ingest: FlaskClient, report: FlaskClient, redis: Redis, database: Database[dict[str, Any]]
):
    def received() -> list[str | None]:
        pages = [report.get("/stats/ledger?site_id=shop"), report.get("/admin/sites/shop", headers=HEADERS)]
        return [page.json["last_event_received"] for page in pages]

    assert received() == [None, None]
    ingest.post("/event", json=GOOD | {"timestamp": "2020-01-01T00:00:00Z"})
    (first, again) = received()
    assert first == again is not None
    assert abs(datetime.fromisoformat(first) - datetime.now(UTC)) < timedelta(minutes=1)
    ingest.post("/event", json=GOOD | {"event_type": ""})
    assert received() == [first, first]


def test_made_up_site_ids_do_not_fill_redis_with_times(
    journal: Journal, redis: Redis, database: Database[dict[str, Any]]
):
    redis.hset(LAST_RECEIVED, mapping={f"{n}": 17 for n in range(MOST_SITES_RECEIVED)})
    for site_id in ("new", "5"):
        journal.append([Line(Account(site_id, NOW.date()), "accepted", b"{}")])
    ledger = Ledger(redis, database)
    assert ledger.last_received("new") is None
    assert (ledger.last_received("5") or NOW) > datetime(2020, 1, 1, tzinfo=UTC)
    assert redis.hlen(LAST_RECEIVED) == MOST_SITES_RECEIVED


def test_the_settings_that_get_returns_can_be_put_and_patched(report: FlaskClient, ingest: FlaskClient):
    ingest.post("/event", json=GOOD)
    got = report.get("/admin/sites/shop", headers=HEADERS).json
    assert got["last_event_received"]
    for method in ("PUT", "PATCH"):
        answer = report.open("/admin/sites/shop", method=method, headers=HEADERS, json=got | {"retention_days": 9})
        assert (answer.status_code, answer.json["retention_days"]) == (200, 9)
        assert "last_event_received" not in answer.json


def test_a_key_for_the_site_s_reports_reads_its_ledger_and_no_other(
    settings: Settings, services: Services, report: FlaskClient
):
    closed = create_app(replace(settings, report_key="a-report-key-for-tests"), services).test_client()

    def status(site_id: str, *scopes: str) -> int:
        _, secret = services.api_keys.create("test", scopes, ["shop"], None)
        headers = {"Authorization": f"Bearer {secret}"}
        return closed.get(f"/stats/ledger?site_id={site_id}", headers=headers).status_code

    assert (status("shop", READ_SCOPE), status("other", READ_SCOPE), status("shop", SITES_SCOPE)) == (200, 403, 403)
    assert closed.get("/stats/ledger?site_id=shop").status_code == 401


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "site_id"),
        ("site_id=shop&from=yesterday", "from"),
        ("site_id=shop&from=2026-11-02&to=2026-11-01", "from"),
        ("site_id=shop&from=2020-01-01", "from"),
        ("site_id=shop&day=2026-11-01", "day"),
    ],
)
def test_an_invalid_query_of_the_ledger_is_a_400_that_names_the_parameter(report: FlaskClient, query: str, field: str):
    answer = report.get(f"/stats/ledger?{query}")
    assert (answer.status_code, list(answer.json["error"]["fields"])) == (400, [field])
