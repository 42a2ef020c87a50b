"""GET /export/events against documents in a real MongoDB: everything, of a period, in pieces, or broken off."""

import csv
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bson import Decimal128, Int64
from flask.testing import FlaskClient
from msgspec import structs
from pymongo import MongoClient
from pymongo.database import Database
from werkzeug.test import TestResponse

from analytics.events.event import DESCRIBED, Event
from analytics.events.export import EXPORT_COLUMNS, EXPORT_ROW_GROUP, ndjson, parquet
from analytics.events.schema import load_event
from analytics.events.store import READ_AT_ONCE, EventStore
from analytics.journal.journal import Journal
from analytics.reports.query_slots import QuerySlots
from analytics.sites.site import Site
from analytics.unavailable import Unavailable
from config.settings import Settings
from footfall.embedded_servers import pick_port
from report_app import Services, create_app
from report_app.export import as_csv
from tests.support.running_system import running_alone, wait_for
from tests.support.services import ADMIN_KEY, NOW, make_services, tell

BEARER = {"Authorization": f"Bearer {ADMIN_KEY}"}
DAY = "site_id=shop&from=2026-11-21&to=2026-11-21"
FULL: dict[str, Any] = {
    "event_type": "order",
    "hostname": "shop.example",
    "path": "/ü",
    "user_id": "ann",
    **dict.fromkeys(DESCRIBED, "x"),
    "country": "DE",
    "region": "DE-BE",
    "interactive": False,
    "engagement_time": 1200,
    "scroll_depth": 80,
    "revenue": {"amount": "49.900", "currency": "USD"},
    "props": {"plan": "pro", "seats": 3, "rate": 0.5, "new": True, "gone": None},
}


def export(report: FlaskClient, query: str = DAY) -> TestResponse:
    return report.get(f"/export/events?{query}", headers=BEARER)


def lines(answer: TestResponse) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.json
    return [json.loads(line) for line in answer.text.splitlines()]


def test_a_line_has_all_fields_of_an_event_and_can_be_sent_again(report: FlaskClient, database: Database):
    tell(database, {"at": "21 10:00:00.123", **FULL})
    (line,) = lines(export(report))
    assert UUID(line.pop("id")) == database["events"].find_one()["_id"]
    assert line.pop("sequence") == "0000000000000-000001", "that of the entry 0-1"
    assert line == FULL | {
        "site_id": "shop",
        "timestamp": "2026-11-21T10:00:00.123000+00:00",
        "received_at": "2026-11-22T12:00:00.123000+00:00",
    }
    (stored,) = EventStore(database).find("shop", NOW - timedelta(days=2), NOW)
    assert structs.replace(load_event(line, NOW), id=stored.id, sequence=stored.sequence) == stored


def test_fields_that_an_event_does_not_have_are_left_out(report: FlaskClient, database: Database):
    tell(database, {"at": "21 10:00:00", "user_id": None})
    (line,) = lines(export(report))
    assert set(line) == {"id", "sequence", "site_id", "event_type", "timestamp", "received_at"}


def test_events_are_ordered_by_time_and_only_of_the_period(report: FlaskClient, services: Services, database: Database):
    hours = ["21 14:59:59.999", "21 15:00:00", "22 14:59:59.999", "22 15:00:00", "22 03:00:00"]
    tell(database, *[{"at": at, "path": f"/{at}"} for at in hours], {"at": "22 03:00:00", "site_id": "other"})
    services.sites.put(Site("shop", zone=ZoneInfo("Asia/Tokyo")))  # its 22nd begins at 15:00 UTC on the 21st
    answer = export(report, "site_id=shop&from=2026-11-22&to=2026-11-22")
    assert [line["path"][1:] for line in lines(answer)] == [hours[1], hours[4], hours[2]]
    assert answer.headers["Content-Disposition"] == "attachment; filename=events-2026-11-22-2026-11-22.ndjson"
    assert answer.content_type.startswith("application/x-ndjson")
    for everything in ("site_id=shop&period=all", "site_id=shop"):
        answer = export(report, everything)
        assert [line["path"][1:] for line in lines(answer)] == [hours[0], hours[1], hours[4], hours[2], hours[3]]
        assert answer.headers["Content-Disposition"] == "attachment; filename=events.ndjson"
    assert lines(export(report, "site_id=nobody")) == []


def test_parquet_has_a_column_for_everything(report: FlaskClient, database: Database):
    tell(database, {"at": "21 10:00:00.123", **FULL}, {"at": "21 11:00:00", "user_id": None})
    answer = export(report, f"{DAY}&format=parquet")
    assert answer.headers["Content-Disposition"] == "attachment; filename=events-2026-11-21-2026-11-21.parquet"
    full, empty = pq.read_table(BytesIO(answer.data)).to_pylist()
    events = {str(event["_id"]) for event in database["events"].find()}
    assert {full.pop("id"), empty.pop("id")} == events
    assert json.loads(full.pop("props")) == FULL["props"]
    expected = {key: value for key, value in FULL.items() if key not in ("props", "revenue")}
    assert full == expected | {
        "site_id": "shop",
        "timestamp": datetime(2026, 11, 21, 10, 0, 0, 123000, UTC),
        "sequence": "0000000000000-000001",
        "clamped": False,
        "received_at": NOW,
        "visitor_id": None,
        "revenue_amount": Decimal("49.900"),
        "revenue_currency": "USD",
    }
    assert {name: value for name, value in empty.items() if value is not None} == {
        "site_id": "shop",
        "event_type": "pageview",
        "timestamp": datetime(2026, 11, 21, 11, tzinfo=UTC),
        "sequence": "0000000000000-000001",
        "clamped": False,
        "received_at": NOW,
        "interactive": True,
    }


def test_parquet_without_events_has_its_columns(report: FlaskClient, database: Database):
    table = pq.read_table(BytesIO(export(report, f"{DAY}&format=parquet").data))
    assert (table.num_rows, len(table.column_names)) == (0, 17 + len(DESCRIBED))


def test_a_document_of_another_program_in_mongodb_does_not_break_an_export(report: FlaskClient, database: Database):
    at = datetime(2026, 11, 21, 10, tzinfo=UTC)
    foreign: list[dict[str, Any]] = [
        {"_id": 7},
        {"event_type": 1, "path": ["/"], "user_id": 5, "props": "x", "revenue": 3, "interactive": "no"},
        {"event_type": "order", "engagement_time": True, "scroll_depth": 1.5, "received_at": "now", "country": None},
        {"event_type": "order", "revenue": {"amount": Decimal128("NaN"), "currency": "USD"}},
        {"event_type": "order", "revenue": {"amount": Decimal128("1E+20"), "currency": "USD"}},
        {"event_type": "x", "engagement_time": Int64(5), "props": {"a": {"b": 1}, "c": Int64(2)}},
    ]
    database["events"].insert_many([{"site_id": "shop", "timestamp": at, **each} for each in foreign])
    found = lines(export(report))
    assert len(found) == 6
    assert len({line["id"] for line in found}) == 6
    assert [line["props"] for line in found if "props" in line] == [{"c": 2}]
    assert lines(export(report)) == found
    assert pq.read_table(BytesIO(export(report, f"{DAY}&format=parquet").data)).num_rows == 6


def test_without_a_period_everything_is_exported(report: FlaskClient, database: Database):
    tell(database, {"at": "22 11:00:00"}, {"at": "01 00:00:00"})
    old = {"site_id": "shop", "event_type": "x", "timestamp": "1970-01-01T00:00:05Z"}
    EventStore(database).store([("0-1", load_event(old, NOW))], NOW)
    assert len(lines(export(report, "site_id=shop"))) == 3
    assert len(lines(export(report, "site_id=shop&from=2026-11-01"))) == 2


@pytest.mark.parametrize(
    ("query", "field"),
    [("", "site_id"), (f"{DAY}&format=xls", "format"), (f"{DAY}&land=DE", "land"), (f"{DAY}&bom=yes", "bom"),
     (f"{DAY}&filters=country", "filters"), (f'{DAY}&filters=[["is","visit:land",["DE"]]]', "filters"),
     (f"{DAY}&filters={'[' * 5000}", "filters"), (f"{DAY}&country=Germany", "country"),
     ("site_id=shop&to=2026-11-21", "from"), ("site_id=shop&from=x&to=y", "from")],
)  # fmt: skip
def test_an_invalid_parameter_is_named(report: FlaskClient, query: str, field: str):
    answer = export(report, query)
    assert (answer.status_code, [*answer.json["error"]["fields"]]) == (400, [field])


# As a table


def test_csv_has_the_columns_of_parquet_and_no_formula(report: FlaskClient, database: Database):
    more = {"path": "=1+1", "revenue": {"amount": "-3.25", "currency": "USD"}, "props": {"a": 'x,"y"\n', "$ref": 1}}
    tell(database, {"at": "21 10:00:00.123", **FULL}, {"at": "21 11:00:00", "user_id": "@ann", **more})
    answer = export(report, f"{DAY}&format=csv")
    assert answer.headers["Content-Disposition"] == "attachment; filename=events-2026-11-21-2026-11-21.csv"
    assert answer.content_type == "text/csv; charset=utf-8"
    names, full, formula = csv.reader(StringIO(answer.text))
    assert names == EXPORT_COLUMNS.names
    first = dict(zip(names, full, strict=True))
    (line, _) = lines(export(report))
    assert {first["id"].replace("-", ""), first["sequence"]} == {line["id"], line["sequence"]}
    assert (first["timestamp"], first["interactive"]) == ("2026-11-21T10:00:00.123000+00:00", "false")
    assert (first["path"], first["country"], first["engagement_time"]) == ("/ü", "DE", "1200")
    assert json.loads(first["props"]) == FULL["props"]
    second = dict(zip(names, formula, strict=True))
    assert (second["path"], second["user_id"], second["revenue_amount"]) == ("'=1+1", "'@ann", "-3.250")
    assert json.loads(second["props"]) == more["props"]
    assert (second["country"], second["clamped"]) == ("", "false")
    assert export(report, f"{DAY}&format=csv&bom=1").data == b"\xef\xbb\xbf" + answer.data


# With filters


def test_an_export_accepts_the_filters_of_a_query(report: FlaskClient, story: None):
    def paths(query: str) -> list[str | None]:
        return [line.get("path") for line in lines(export(report, f"site_id=shop&{query}"))]

    assert paths("country=DE&page=/pricing") == ["/pricing"]
    assert paths("country!=DE&period=all") == ["/", "/pricing", "/", "/"]
    assert paths('filters=[["has_done",["is","event:name",["signup"]]]]') == ["/", "/pricing", None]
    assert paths('filters=[["is","event:props:plan",["pro"]]]&country=DE') == [None]
    assert paths('filters=[["is","visit:exit_page",["/pricing"]]]&from=2026-11-21&to=2026-11-21') == [
        "/", "/pricing", None, "/pricing",
    ]  # fmt: skip
    assert paths("country=US") == []
    assert paths("filters=") == ["/", "/", "/pricing", None, "/pricing", "/", "/"]


def test_filters_work_with_every_format(report: FlaskClient, story: None):
    table = pq.read_table(BytesIO(export(report, "site_id=shop&country=FR&format=parquet").data))
    assert table["user_id"].to_pylist() == ["bob"]
    rows = list(csv.DictReader(StringIO(export(report, "site_id=shop&country=FR&format=csv").text)))
    assert [row["user_id"] for row in rows] == ["bob"]


def test_an_export_that_no_client_reads_blocks_only_exports(settings: Settings, services: Services, database: Database):
    EventStore(database).store([("0-1", event) for event in many(2_000)], NOW)
    services.reports._slots = QuerySlots(1, 0.1)
    report = create_app(replace(settings, web_threads=2), services).test_client()
    query = f"{DAY}&page!=/"
    held = report.get(f"/export/events?{query}", headers=BEARER, buffered=False)
    assert held.status_code == 200
    busy = export(report)
    assert (busy.status_code, busy.json["error"]["code"], "Retry-After" in busy.headers) == (503, "busy", True)
    asked = report.get(f"/stats/breakdown?{DAY}", headers=BEARER)
    assert asked.json["results"][0]["visitors"] == 2_000
    assert len(b"".join(held.iter_encoded()).splitlines()) == 2_000
    held.close()
    assert len(lines(export(report, query))) == 2_000
    assert export(report, f"{DAY}&filters=[1]").status_code == 400
    assert len(lines(export(report))) == 2_000, "what was refused holds no place"


def test_a_filtered_export_that_would_lack_fresh_events_is_refused_before_its_first_byte(
    services: Services, report: FlaskClient, database: Database
):
    """An export without filters needs no segments."""
    EventStore(database).store([("0-1", event) for event in many(50)], NOW)
    services.reports.most_fresh = 10
    refused = export(report, f"{DAY}&page!=/")
    assert (refused.status_code, refused.json["error"]["code"], "Retry-After" in refused.headers) == (
        503, "unavailable", True,
    )  # fmt: skip
    assert len(lines(export(report))) == 50
    services.reports.most_fresh = 100
    assert len(lines(export(report, f"{DAY}&page!=/"))) == 50


# In pieces


def many(count: int, path: str = "/" + "x" * 200) -> Iterator[Event]:
    at = {"site_id": "shop", "event_type": "pageview", "path": path, "timestamp": "2026-11-21T10:00:00Z"}
    return (load_event(at | {"user_id": f"user-{n}"}, NOW) for n in range(count))


@pytest.mark.parametrize("form", [ndjson, parquet])
def test_an_export_holds_only_one_piece_in_memory(form: Any):
    tracemalloc.start()
    try:
        size = sum(len(piece) for piece in form(many(5 * EXPORT_ROW_GROUP)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 100_000
    assert peak < 45_000_000, "a row group's events take 20 MB; all of them, 100"


def csv_of(events: Iterator[Event]) -> Iterator[bytes]:
    return as_csv(events, bom=False)


@pytest.mark.parametrize("form", [ndjson, parquet, csv_of])
def test_large_events_take_no_more_memory_than_small_ones(form: Any):
    """50 kB each, 150 MB in total."""
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 800)))
    props = {f"name-{n}": text[n:] + text[:n] for n in range(20)}
    events = (structs.replace(event, props={name: f"{n}{text}" for name, text in props.items()}) for n, event in
              enumerate(many(3_000)))  # fmt: skip
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    most = 0
    try:
        for _ in form(events):
            most = max(most, pa.total_allocated_bytes() - before)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 60_000_000
    assert most < 60_000_000


def test_a_row_group_is_sent_as_soon_as_it_is_full():
    pieces = list(parquet(many(EXPORT_ROW_GROUP + 1)))
    assert len(pieces) == 3
    table = pq.ParquetFile(BytesIO(b"".join(pieces)))
    assert [table.metadata.row_group(n).num_rows for n in range(2)] == [EXPORT_ROW_GROUP, 1]


# MongoDB fails


@pytest.mark.usefixtures("usual_limits")
def test_an_error_before_the_first_byte_is_a_503(settings: Settings, journal: Journal, report: FlaskClient):
    nobody = MongoClient(f"mongodb://127.0.0.1:{pick_port(0)}", serverSelectionTimeoutMS=100)
    services = make_services(settings, database=nobody["footfall"], journal=journal)
    answer = export(create_app(settings, services).test_client())
    nobody.close()
    assert (answer.status_code, answer.json["error"]["code"]) == (503, "unavailable")


@pytest.mark.parametrize("form", ["ndjson", "parquet"])
def test_an_error_after_the_first_byte_ends_the_connection(report: FlaskClient, database: Database, form: str):
    EventStore(database).store([("0-1", event) for event in many(EXPORT_ROW_GROUP + 3 * READ_AT_ONCE)], NOW)
    answer = report.get(f"/export/events?{DAY}&format={form}", headers=BEARER, buffered=False)
    assert answer.status_code == 200
    database.client.admin.command("killAllSessions", [])  # as when MongoDB changes its primary: the cursor is lost
    with pytest.raises(Unavailable):
        b"".join(answer.iter_encoded())


def test_an_aborted_export_does_not_look_complete(settings: Settings, database: Database, tmp_path: Path):
    """Over a real connection, whose buffers hold less than the export."""
    EventStore(database).store([("0-1", event) for event in many(10 * READ_AT_ONCE, path="/" + "x" * 2000)], NOW)
    port = pick_port(0)
    environment = settings.as_environment() | {"REPORTING_PORT": str(port), "DATA_DIR": str(tmp_path)}
    line = "gunicorn -c report_app/gunicorn.py report_app.wsgi:app"
    url = f"http://127.0.0.1:{port}/export/events?{DAY}"
    with running_alone(line, tmp_path / "log", **environment), httpx.Client(headers=BEARER) as client:
        wait_for(lambda: is_up(port), "the reporting app")
        with client.stream("GET", url) as answer:
            pieces = answer.iter_raw()
            assert next(pieces)
            database.client.admin.command("killAllSessions", [])
            with pytest.raises(httpx.RemoteProtocolError):
                list(pieces)
    assert "export_aborted" in (tmp_path / "log").read_text()


def is_up(port: int) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    return False
