"""Dead letters over HTTP and the command line: show, correct, replay, purge."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from pymongo.database import Database
from redis import Redis

from analytics.events.event import id_from_client
from analytics.events.schema import load_event
from analytics.journal.audit import Audited, audit
from analytics.journal.dead_letters import LetterFilter
from analytics.journal.journal import JOURNAL_KEY, Line
from analytics.journal.ledger import Ledger
from analytics.pipeline import Stores, store_waiting
from config.settings import Settings
from footfall.dead_letters import dead_letters
from tests.support.services import ADMIN_KEY, NOW

EVENT = {"site_id": "site", "event_type": "page_view"}
HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}


class Admin:
    """HTTP with the admin key, and the command line, on the same stores."""

    def __init__(self, client: FlaskClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings

    def get(self, path: str, **query: Any) -> Any:
        return self._client.get(f"/admin/dead-letters{path}", headers=HEADERS, query_string=query)

    def post(self, path: str, body: Any = None) -> Any:
        data = b"" if body is None else json.dumps(body)
        return self._client.post(f"/admin/dead-letters{path}", headers=HEADERS, data=data)

    def run(self, *words: str, stdin: str = "") -> Result:
        return CliRunner().invoke(dead_letters, words, obj=self._settings, input=stdin)


@pytest.fixture
def admin(report: FlaskClient, settings: Settings) -> Admin:
    return Admin(report, settings)


@pytest.fixture
def refused(stores: Stores, database: Database) -> Iterator[list[UUID]]:
    """Three dead letters, oldest first, of events that MongoDB refused. MongoDB accepts them now."""
    database.command("collMod", "events", validator={"path": {"$ne": "/refused"}})
    bodies = [
        {"event_id": "1"},
        {"event_id": "2", "timestamp": "2026-11-20T10:00:00Z"},
        {"event_id": "3", "site_id": "other"},
    ]
    try:
        for age, body in zip((3, 2, 1), bodies, strict=True):
            stores.journal.append([Line.of(load_event(EVENT | {"path": "/refused"} | body, NOW))])
            store_waiting(replace(stores, now=lambda age=age: NOW - timedelta(hours=age)), "task")
    finally:
        database.command("collMod", "events", validator={})
    yield [letter.id for letter in stores.dead_letters.find(LetterFilter())][::-1]
    audited = Audited(Ledger(stores.journal._redis, database), stores.journal, stores.events, stores.dead_letters)
    drain(stores)
    assert audit(audited).faults == [], "whatever was done, the books add up"


def drain(stores: Stores) -> None:
    while stores.journal.waiting():
        store_waiting(stores, "task")


def paths(database: Database) -> dict[UUID, str]:
    return {document["_id"]: document.get("path") for document in database["events"].find()}


def test_letters_are_counted_listed_and_shown(admin: Admin, refused: list[UUID]):
    assert admin.get("/count").json == {
        "count": 3,
        "by": [
            {"site_id": "site", "reason": "refused", "count": 2},
            {"site_id": "other", "reason": "refused", "count": 1},
        ],
    }
    assert admin.get("/count", site_id="other").json["count"] == 1
    assert admin.get("/count", dead_before=(NOW - timedelta(hours=1.5)).isoformat()).json["count"] == 2
    first = admin.get("", limit=2).json
    assert [letter["id"] for letter in first["dead_letters"]] == [str(refused[2]), str(refused[1])]
    assert [x["id"] for x in admin.get("", limit=2, after=first["after"]).json["dead_letters"]] == [str(refused[0])]
    letter = admin.get(f"/{refused[0]}").json
    assert letter["id"] == str(id_from_client("site", "1"))
    assert (letter["site_id"], letter["reason"], letter["attempts"]) == ("site", "refused", 1)
    assert json.loads(letter["raw"])["path"] == "/refused"
    assert "validation" in letter["detail"]["mongodb"]


def test_the_command_line_counts_lists_and_shows_them_too(admin: Admin, refused: list[UUID]):
    assert "3  in all" in admin.run("count").output
    assert "1  in all" in admin.run("count", "--site", "other", "--reason", "refused").output
    lines = admin.run("list", "--limit", "2").output.splitlines()
    assert [line.split()[0] for line in lines] == [str(refused[2]), str(refused[1])]
    assert admin.run("list", "--after", str(refused[1])).output.startswith(str(refused[0]))
    assert json.loads(admin.run("show", str(refused[0])).output) == admin.get(f"/{refused[0]}").json


def test_an_export_has_every_letter_on_a_line_of_its_own(
    admin: Admin, refused: list[UUID], redis: Redis, stores: Stores
):
    redis.xadd(JOURNAL_KEY, {"event": b"\xff\n\xff"})
    drain(stores)
    over_http = admin.get("/export")
    assert over_http.mimetype == "application/x-ndjson"
    letters = [json.loads(line) for line in over_http.text.splitlines()]
    assert len(letters) == 4
    assert letters[0]["raw_base64"] == "/wr/"
    assert [json.loads(line) for line in admin.run("export").output.splitlines()] == letters


@pytest.mark.parametrize("how", ["http", "command line"])
def test_a_replay_keeps_the_event_s_id_and_the_letter_is_removed_when_the_event_is_stored(
    admin: Admin, refused: list[UUID], stores: Stores, database: Database, how: str
):
    for _ in range(2):
        if how == "http":
            assert admin.post(f"/{refused[1]}/replay").json == {"success": True, "replayed": 1}
        else:
            assert admin.run("replay", str(refused[1])).exit_code == 0
    assert admin.get(f"/{refused[1]}").status_code == 200, "it stays until the event is stored"
    drain(stores)
    assert admin.get(f"/{refused[1]}").status_code == 404
    (event,) = database["events"].find()
    assert (event["_id"], event["received_at"]) == (refused[1], NOW)
    assert event["timestamp"].day == 20


def test_a_replay_that_fails_again_adds_an_attempt_to_the_same_letter(
    admin: Admin, refused: list[UUID], stores: Stores, database: Database
):
    database.command("collMod", "events", validator={"path": {"$ne": "/refused"}})
    admin.post(f"/{refused[0]}/replay")
    drain(stores)
    database.command("collMod", "events", validator={})
    assert admin.get("/count").json["count"] == 3
    assert admin.get(f"/{refused[0]}").json["attempts"] == 2


def test_an_edited_event_is_replayed_under_the_same_id(
    admin: Admin, refused: list[UUID], stores: Stores, database: Database
):
    mended = EVENT | {"path": "/mended", "event_id": "whatever", "site_id": "moved"}
    assert admin.post(f"/{refused[0]}/replay", mended).status_code == 200
    assert admin.run("replay", str(refused[1]), "--event", "-", stdin=json.dumps(mended)).exit_code == 0
    drain(stores)
    assert paths(database) == {refused[0]: "/mended", refused[1]: "/mended"}
    assert {event["received_at"] for event in database["events"].find()} == {NOW}
    assert admin.get("/count").json["count"] == 1


def test_an_edited_event_that_would_fail_again_is_refused_and_its_fields_are_named(admin: Admin, refused: list[UUID]):
    answer = admin.post(f"/{refused[0]}/replay", {"site_id": "site"})
    assert answer.status_code == 400
    assert answer.json["error"]["fields"] == {"event_type": ["Missing data for required field."]}
    assert admin.post(f"/{refused[0]}/replay", [1]).status_code == 400
    assert list(admin.post(f"/{refused[0]}/replay", EVENT | {"url": "pricing"}).json["error"]["fields"]) == ["url"]
    ran = admin.run("replay", str(refused[0]), "--event", "-", stdin='{"site_id": "site"}')
    assert ran.exit_code == 1
    assert "event_type" in ran.output


def test_a_dead_letter_that_is_not_an_event_can_be_edited_into_one(
    admin: Admin, stores: Stores, redis: Redis, database: Database
):
    redis.xadd(JOURNAL_KEY, {"event": b"\xff"})
    drain(stores)
    (letter,) = admin.get("").json["dead_letters"]
    assert (letter["reason"], letter["site_id"]) == ("not_json", "")
    admin.post(f"/{letter['id']}/replay")
    drain(stores)
    assert admin.get(f"/{letter['id']}").json["attempts"] == 2
    admin.post(f"/{letter['id']}/replay", EVENT | {"path": "/made"})
    drain(stores)
    assert paths(database) == {UUID(letter["id"]): "/made"}
    assert admin.get("/count").json["count"] == 0


@pytest.mark.parametrize("how", ["http", "command line"])
def test_a_replay_by_filter_does_not_replay_others(
    admin: Admin, refused: list[UUID], stores: Stores, database: Database, how: str
):
    if how == "http":
        assert admin.post("/replay", {"site_id": "site"}).json == {"success": True, "replayed": 2, "cut": 0}
    else:
        assert "2 sent" in admin.run("replay-all", "--site", "site", "--yes").output
    drain(stores)
    assert set(paths(database)) == {refused[0], refused[1]}
    assert admin.get("/count").json["by"] == [{"site_id": "other", "reason": "refused", "count": 1}]


def test_a_truncated_payload_is_not_replayed(admin: Admin, stores: Stores, redis: Redis):
    redis.xadd(JOURNAL_KEY, {"event": b'"' + b"x" * 1_000_001})
    drain(stores)
    (letter,) = admin.get("").json["dead_letters"]
    assert admin.post(f"/{letter['id']}/replay").status_code == 409
    assert admin.run("replay", letter["id"]).exit_code == 1
    assert admin.post("/replay").json == {"success": True, "replayed": 0, "cut": 1}
    assert stores.journal.waiting() == 0


def test_purging_over_http_needs_the_number_that_it_will_remove(admin: Admin, refused: list[UUID]):
    unsaid = admin.post("/purge", {"site_id": "site"})
    assert (unsaid.status_code, list(unsaid.json["error"]["fields"])) == (400, ["confirm"])
    wrong = admin.post("/purge", {"site_id": "site", "confirm": 3})
    assert (wrong.status_code, wrong.json["error"]["code"]) == (409, "not_confirmed")
    assert "2 dead letters match" in wrong.json["error"]["message"]
    assert admin.post("/purge", {"sit_id": "site", "confirm": 3}).status_code == 400, "a slip of the pen"
    assert admin.get("/count").json["count"] == 3
    assert admin.post("/purge", {"site_id": "site", "confirm": 2}).json == {"success": True, "purged": 2}
    assert admin.get("/count").json["count"] == 1


def test_a_filter_in_the_query_string_replays_and_purges_nothing(
    report: FlaskClient, refused: list[UUID], stores: Stores
):
    for path, body in (("replay", None), ("purge", {"confirm": 3})):
        answer = report.post(f"/admin/dead-letters/{path}?reason=poison", headers=HEADERS, json=body)
        assert (answer.status_code, answer.json["error"]["fields"]) == (
            400,
            {"reason": ["Send this field in the body."]},
        )
    broken = report.post("/admin/dead-letters/purge", headers=HEADERS, data=b"{")
    assert (broken.status_code, broken.json["error"]["code"]) == (400, "not_json")
    surrogate = report.post("/admin/dead-letters/replay", headers=HEADERS, data=b'{"site_id": "\\ud800"}')
    assert surrogate.status_code == 400
    assert (stores.journal.waiting(), len(list(stores.dead_letters.find(LetterFilter())))) == (0, 3)


def test_purging_on_the_command_line_asks_first(admin: Admin, refused: list[UUID]):
    assert admin.run("purge", "--yes").exit_code == 2, "everything must be said"
    asked = admin.run("purge", "--reason", "refused", stdin="n\n")
    assert "Purge 3 dead letters? [y/N]" in asked.output
    assert admin.get("/count").json["count"] == 3
    assert "3 purged" in admin.run("purge", "--reason", "refused", "--yes").output
    assert admin.get("/count").json["count"] == 0


def test_an_unknown_dead_letter_is_a_404_that_says_so(admin: Admin):
    missing = uuid4()
    assert admin.get(f"/{missing}").status_code == 404
    assert admin.post(f"/{missing}/replay").status_code == 404
    assert f"there is no dead letter {missing}" in admin.run("show", str(missing)).output
