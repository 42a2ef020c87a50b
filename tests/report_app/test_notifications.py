"""/admin/notifications: rules are added, listed, changed, tested and removed, and the log is read."""

from dataclasses import replace
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from analytics.notifications.messages import message_of_test
from config.services import Services
from tests.support.services import ADMIN_KEY, NOW

HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}
RULES = "/admin/notifications/rules"
RULE = {"site_id": "shop", "kind": "silence", "channel": "webhook", "target": "https://example.com/hook?token=1"}


@pytest.fixture(autouse=True)
def shop(report: FlaskClient) -> None:
    report.put("/admin/sites/shop", headers=HEADERS, json={"goals": [{"event_type": "signup"}]})


def add(report: FlaskClient, **changes: object) -> TestResponse:
    return report.post(RULES, headers=HEADERS, json=RULE | changes)


def test_a_rule_is_added_listed_and_removed(report: FlaskClient):
    made = add(report, threshold=30).json
    assert made["secret"].startswith("whsec_")
    assert made["target"] == "https://example.com/..."
    rules = report.get(RULES, headers=HEADERS).json["rules"]
    assert (made["threshold"], made["language"]) == (30, None)
    assert rules == [{name: value for name, value in made.items() if name != "secret"}]
    assert report.get(f"{RULES}?site_id=other", headers=HEADERS).json == {"rules": []}
    for removed in (1, 0):
        answer = report.delete(f"{RULES}/{made['id']}", headers=HEADERS)
        assert answer.json == {"success": True, "removed": removed}
    assert report.get(RULES, headers=HEADERS).json == {"rules": []}


def test_a_change_keeps_the_rest_of_the_rule(report: FlaskClient, services: Services):
    made = add(report, threshold=30, target="https://example.com/hook").json
    (before,) = services.notifications.rules()
    services.notifications.begin(before, "2026-11-22T10:00:00", message_of_test(before, ""), NOW)
    answer = report.patch(f"{RULES}/{made['id']}", headers=HEADERS, json={"target": "https://example.net/hook"})
    shown = {name: value for name, value in made.items() if name != "secret"}
    assert answer.json == shown | {"target": "https://example.net/...", "occasion": "2026-11-22T10:00:00"}
    assert report.patch(f"{RULES}/{made['id']}", headers=HEADERS, json={"threshold": None}).json["threshold"] == 60
    assert report.patch(f"{RULES}/{made['id']}", headers=HEADERS, json={"language": "de"}).json["language"] == "de"
    assert services.notifications.rules() == [
        replace(before, target="https://example.net/hook", threshold=60, occasion="2026-11-22T10:00:00", language="de")
    ]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"threshold": 2}, "threshold"),
        ({"target": "http://user@example.com"}, "target"),
        ({"target": None}, "target"),
        ({"period": "week"}, "period"),
        ({"language": "xx"}, "language"),
        ({"kind": "lag"}, "kind"),
        ({"site_id": "other"}, "site_id"),
        ([], "_schema"),
    ],
)
def test_a_change_that_is_refused_names_the_field_and_changes_nothing(
    report: FlaskClient, services: Services, change: object, field: str
):
    made = add(report).json
    before = services.notifications.rules()
    answer = report.patch(f"{RULES}/{made['id']}", headers=HEADERS, json=change)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "invalid_query")
    assert list(answer.json["error"]["fields"]) == [field]
    assert services.notifications.rules() == before


def test_a_rule_that_does_not_exist_is_not_changed(report: FlaskClient):
    assert report.patch(f"{RULES}/{uuid4()}", headers=HEADERS, json={"threshold": 30}).status_code == 404


def test_a_test_notification_waits_for_a_worker(report: FlaskClient, services: Services):
    made = add(report).json
    tested = report.post(f"{RULES}/{made['id']}/test", headers=HEADERS).json
    assert (tested["state"], tested["kind"], tested["target"]) == ("waiting", "test", "https://example.com/...")
    shown = report.get("/admin/notifications?site_id=shop&state=waiting&limit=1", headers=HEADERS).json
    assert shown == {"notifications": [tested], "after": tested["id"]}
    rest = report.get(f"/admin/notifications?after={tested['id']}", headers=HEADERS).json
    assert rest == {"notifications": [], "after": None}
    assert services.notifications.is_any_due(NOW)


def test_there_is_no_test_of_a_rule_that_does_not_exist(report: FlaskClient):
    assert report.post(f"{RULES}/{uuid4()}/test", headers=HEADERS).status_code == 404


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"target": "http://user@example.com"}, "invalid_query", "target"),
        ({"threshold": 2}, "invalid_query", "threshold"),
        ({"kind": "goal", "goal": "sale", "threshold": 1}, "invalid_query", "goal"),
        ({"channel": "email", "target": "ann@example.com"}, "invalid_query", "channel"),
    ],
)
def test_a_rule_that_is_refused_names_the_field(report: FlaskClient, changes: dict[str, object], code: str, field: str):
    answer = add(report, **changes)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, code)
    assert list(answer.json["error"]["fields"]) == [field]


@pytest.mark.parametrize("query", ["state=lost", "limit=0", "limit=1001", "sort=up"])
def test_the_query_of_the_log_is_checked(report: FlaskClient, query: str):
    assert report.get(f"/admin/notifications?{query}", headers=HEADERS).status_code == 400
