"""Properties come back as they were sent, whatever their names mean to MongoDB's drivers and tools."""

import json
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import bson
import pyarrow.parquet as pq
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from pymongo.database import Database

from analytics.events.stored_props import as_sent, stored_form
from analytics.interval import as_ms, interval_of
from analytics.journal.dead_letters import LetterFilter
from analytics.pipeline import Stores, store_waiting
from report_app import Services
from tests.support.services import ADMIN_KEY

HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}
AT = datetime(2026, 11, 21, 10, tzinfo=UTC)
EVENT = {"site_id": "shop", "event_type": "order", "user_id": "ann", "timestamp": AT.isoformat()}
DAY = "site_id=shop&from=2026-11-21&to=2026-11-21"
ODD: list[dict[str, Any]] = [
    {"$ref": "#/a", "$id": "b", "plan": "pro"},
    {"$ref": "a", "$id": None, "$db": "c", "__proto__": 1},
    {"$id": 1, "$ref": "a"},
    {"$db": "x", "$id": "y"},
    {"$date": "2026-11-21T10:00:00Z"},
    {"$numberLong": "5", "$oid": "507f1f77bcf86cd799439011"},
    {"a.b": 1, "a": None, ".": 2, "$": 3, "$.a": 4, " ": 5},
    {"\\$ref": "x", "$ref": "y", "\\\\$ref": "z", "\\": 1, "\\a": 2},
    {"constructor": 1, "__proto__": "x", "toString": True, "_id": "1"},
]


@pytest.mark.parametrize("props", ODD)
def test_properties_are_returned_everywhere_as_they_were_sent(
    ingest: FlaskClient, report: FlaskClient, stores: Stores, services: Services, props: Any
):
    assert ingest.post("/event", json=EVENT | {"props": props}).status_code == 200
    store_waiting(stores, "task")
    check_reports(report, props)
    builder = services.eraser.data.segments.builder
    assert builder.build("shop", "day", interval_of("day", as_ms(AT)))
    check_reports(report, props)
    check_exports(report, props)


def check_reports(report: FlaskClient, props: dict[str, Any]) -> None:
    texts = {name: "true" if value is True else str(value) for name, value in props.items() if value is not None}
    for name, text in texts.items():
        body = {"site_id": "shop", "metrics": ["visitors"], "dimensions": [f"event:props:{name}"], "date_range": "all"}
        answer = report.post("/api/v2/query", json=body)
        assert [row["dimensions"] for row in answer.json["results"]] == [[text]], name


def check_exports(report: FlaskClient, props: dict[str, Any]) -> None:
    exported = report.get(f"/export/events?{DAY}", headers=HEADERS)
    assert json.loads(exported.text)["props"] == props
    parquet = report.get(f"/export/events?{DAY}&format=parquet", headers=HEADERS)
    (row,) = pq.read_table(BytesIO(parquet.data)).to_pylist()
    assert json.loads(row["props"]) == props
    of_visitor = report.post("/admin/visitors/export", json={"site_id": "shop", "user_id": "ann"}, headers=HEADERS)
    assert json.loads(of_visitor.text)["props"] == props


@pytest.mark.parametrize("props", ODD)
def test_a_dead_letter_shows_and_replays_properties_as_they_were_sent(
    ingest: FlaskClient, report: FlaskClient, stores: Stores, database: Database, props: Any
):
    database.command("collMod", "events", validator={"event_type": {"$ne": "order"}})
    try:
        ingest.post("/event", json=EVENT | {"props": props})
        store_waiting(stores, "task")
    finally:
        database.command("collMod", "events", validator={})
    (letter,) = stores.dead_letters.find(LetterFilter())
    shown = report.get(f"/admin/dead-letters/{letter.id}", headers=HEADERS)
    assert json.loads(shown.json["raw"])["props"] == props
    report.post(f"/admin/dead-letters/{letter.id}/replay", headers=HEADERS)
    store_waiting(stores, "task")
    check_exports(report, props)


def test_properties_that_an_earlier_version_stored_are_read_unchanged(report: FlaskClient, database: Database):
    document = {key: value for key, value in EVENT.items() if key != "timestamp"}
    database["events"].insert_one({**document, "timestamp": AT, "props": ODD[0]})
    check_reports(report, ODD[0])
    check_exports(report, ODD[0])


names = st.text("$\\.ab", min_size=1, max_size=4) | st.sampled_from(("$ref", "$id", "$db", "\\$ref", "$$", "__proto__"))


@given(st.dictionaries(names, st.sampled_from(("a", 1, None, True, 0.5)), max_size=6))
def test_any_names_survive_bson(props: dict[str, Any]):
    document = bson.decode(bson.encode({"props": stored_form(props)}))
    assert as_sent(document["props"]) == props
    assert not any(name.startswith("$") for name in document["props"])
