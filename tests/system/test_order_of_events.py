"""Events with the same timestamp are in the order in which they were sent.

This holds for every route, from raw events and from segments, for any ids, and for any order in which workers store
them.
"""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from pymongo.database import Database

from analytics.events.event import Event
from analytics.events.schema import load_event, load_journal_event
from analytics.interval import as_ms, interval_of
from analytics.journal.dead_letters import LetterFilter
from analytics.journal.journal import Journal, Line
from analytics.journal.replay import replay_edited, replay_letter
from analytics.pipeline import Stores, store_waiting
from analytics.sites.site import Site
from report_app import Services
from tests.ingest_app.test_drop_ins import BROWSER
from tests.support.services import ADMIN_KEY, NOW

T = "2026-11-20T10:00:01Z"
DAY = {"site_id": "shop", "date_range": ["2026-11-20", "2026-11-20"]}
USERS = [f"user-{n}" for n in range(40)]
STEPS = ({"path": "/", "referrer": "https://www.google.com/"}, {"path": "/pricing"}, {"event_type": "Signup"})


def drain(stores: Stores) -> None:
    while stores.journal.waiting():
        store_waiting(stores, "task")


def ours(*, with_ids: bool = True) -> list[dict[str, Any]]:
    """Three events of each user, all at T. The order of their ids is random."""
    chance = random.Random(1)
    same = {"site_id": "shop", "event_type": "pageview", "timestamp": T}
    events = [same | {"user_id": user} | step for user in USERS for step in STEPS]
    return [event | {"event_id": f"{chance.random()}"} for event in events] if with_ids else events


def post_one_by_one(client: FlaskClient) -> None:
    for event in ours():
        assert client.post("/event", json=event).status_code == 200


def post_all(client: FlaskClient) -> None:
    assert client.post("/events", json=ours()).json["accepted"] == len(ours())


def post_without_ids(client: FlaskClient) -> None:
    assert client.post("/events", json={"events": ours(with_ids=False)}).json["accepted"] == len(ours())


def post_lines(client: FlaskClient) -> None:
    body = "\n".join(map(json.dumps, ours()))
    assert client.post("/events", data=body, content_type="application/x-ndjson").json["accepted"] == len(ours())


def post_segment_batch(client: FlaskClient) -> None:
    messages = []
    for event in ours():
        kind = {"type": "track", "event": "Signup"} if event["event_type"] == "Signup" else {"type": "page"}
        page = {"path": event.get("path", "/pricing"), "referrer": event.get("referrer")}
        about = {"messageId": event["event_id"], "userId": event["user_id"], "timestamp": T, "context": {"page": page}}
        messages.append(kind | about)
    assert client.post("/v1/batch", json={"writeKey": "shop", "batch": messages}).status_code == 200


def post_umami_batch(client: FlaskClient) -> None:
    batch = []
    for event in ours():
        name = {"name": "Signup"} if event["event_type"] == "Signup" else {}
        payload = {"website": "shop", "id": event["user_id"], "url": event.get("path", "/pricing"), **name}
        payload |= {"referrer": event.get("referrer", ""), "timestamp": 1_795_168_801}  # T
        batch.append({"type": "event", "payload": payload})
    assert client.post("/api/batch", json=batch, headers={"User-Agent": BROWSER}).json["processed"] == len(batch)


ROUTES = [post_one_by_one, post_all, post_without_ids, post_lines, post_segment_batch, post_umami_batch]


def ask(report: FlaskClient, what: str, **body: Any) -> Any:
    answer = report.post(f"/api/v2/{what}", json=DAY | body)
    assert answer.status_code == 200, answer.json
    return answer.json["results"]


def by(report: FlaskClient, dimension: str) -> dict[str, int]:
    rows = ask(report, "query", metrics=["visitors"], dimensions=[f"visit:{dimension}"])
    return {row["dimensions"][0]: row["metrics"][0] for row in rows}


def check_reports(report: FlaskClient) -> None:
    everybody = len(USERS)
    assert by(report, "entry_page") == {"/": everybody}
    assert by(report, "exit_page") == {"/pricing": everybody}
    assert by(report, "source") == {"Google": everybody}
    steps = [{"page": "/"}, {"page": "/pricing"}, {"event": "Signup"}]
    for window in ({}, {"window": "1h"}):
        assert [step["count"] for step in ask(report, "funnel", steps=steps, **window)] == [everybody] * 3
        assert [step["count"] for step in ask(report, "funnel", steps=steps[::-1], **window)] == [everybody, 0, 0]
    (after,) = ask(report, "journeys", page="/")["following"]
    assert (after["page"], after["count"]) == ("/pricing", everybody)


def check(report: FlaskClient, services: Services) -> None:
    """Checks the reports from raw events, and from a segment."""
    check_reports(report)
    builder = services.eraser.data.segments.builder
    assert builder.build("shop", "day", interval_of("day", as_ms(load_event(ours()[0], NOW).occurred_at)))
    check_reports(report)


@pytest.mark.parametrize("post", ROUTES)
def test_events_of_one_millisecond_are_read_in_the_order_in_which_they_were_sent(
    post: Callable[[FlaskClient], None], ingest: FlaskClient, report: FlaskClient, stores: Stores, services: Services
):
    post(ingest)
    drain(stores)
    check(report, services)


def test_a_visitors_history_and_the_export_are_in_that_order_too(
    ingest: FlaskClient, report: FlaskClient, stores: Stores, services: Services
):
    services.sites.put(Site("shop", shows_visitors=True))
    post_all(ingest)
    drain(stores)
    bearer = {"Authorization": f"Bearer {ADMIN_KEY}"}
    history = report.get("/stats/visitor?site_id=shop&user_id=user-7&from=2026-11-20&to=2026-11-20", headers=bearer)
    (visit,) = history.json["visits"]
    assert [event["name"] for event in visit["events"]] == ["pageview", "pageview", "Signup"]
    assert [event.get("page") for event in visit["events"]] == ["/", "/pricing", None]
    export = report.get("/export/events?site_id=shop&from=2026-11-20&to=2026-11-20", headers=bearer)
    lines = [json.loads(line) for line in export.text.splitlines()]
    assert [(line["user_id"], line.get("path")) for line in lines] == [
        (event["user_id"], event.get("path")) for event in ours()
    ]
    assert [line["sequence"] for line in lines] == sorted({line["sequence"] for line in lines})


@pytest.mark.parametrize("seed", range(4))
def test_the_order_does_not_depend_on_which_event_is_stored_first_or_sent_again(
    ingest: FlaskClient, report: FlaskClient, stores: Stores, services: Services, seed: int
):
    """A hit whose answer was lost is sent again. Then workers store its entries one by one in any order, some twice."""
    post_all(ingest)
    post_all(ingest)
    entries = list(stores.journal.entries())
    for entry in random.Random(seed).choices(entries, k=len(entries)):
        assert stores.enrichment
        (event,) = stores.enrichment.apply([load_journal_event(entry.raw, entry.event_id, lambda: NOW)])
        assert isinstance(event, Event)
        stores.events.store([(entry.entry_id, event)], NOW)
    drain(stores)
    check(report, services)


@pytest.mark.parametrize("replay", [replay_letter, lambda journal, letter: replay_edited(journal, letter, SIGNUP)])
def test_a_replayed_event_keeps_its_place_in_the_order(
    journal: Journal, report: FlaskClient, stores: Stores, database: Database, replay: Callable[..., Any]
):
    """MongoDB refuses the first event by a rule that is removed afterwards."""
    database.command("collMod", "events", validator={"event_type": {"$ne": "Signup"}})
    try:
        journal.append([Line.of(load_event(event, NOW)) for event in (SIGNUP, SIGNUP | VIEW)])
        drain(stores)
    finally:
        database.command("collMod", "events", validator={})
    (letter,) = stores.dead_letters.find(LetterFilter())
    replay(journal, letter)
    drain(stores)
    steps = [{"event": "Signup"}, {"page": "/pricing"}]
    assert [step["count"] for step in ask(report, "funnel", steps=steps)] == [1, 1]


SIGNUP: dict[str, Any] = {"site_id": "shop", "user_id": "ann", "timestamp": T, "event_type": "Signup"}
VIEW: dict[str, Any] = {"event_type": "pageview", "path": "/pricing"}
