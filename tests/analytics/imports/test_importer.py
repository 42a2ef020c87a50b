"""Imports on real stores: repeated, resumed, removed, counted, and bounded."""

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from analytics.events.account import Account
from analytics.imports.importer import Importer, NobodyStores
from analytics.imports.source import UnreadableFile
from analytics.imports.store import ImportRemoved
from analytics.journal.ledger import Ledger
from analytics.pipeline import store_waiting
from analytics.privacy.visitor import Visitor
from analytics.sites.site import Site
from analytics.sites.store import SiteStore
from tests.analytics.imports.conftest import BEARER, Imports
from tests.ingest_app.test_import import BASE, sent
from tests.support.running_system import wait_for
from tests.support.services import NOW
from tests.support.streams import ZONES, Stream, goals, queries

LINE = (
    '203.0.113.{} - - [02/Nov/2026:{:02}:{:02}:{:02} +0000] "GET /page/{} HTTP/1.1" 200 9 "-" "Mozilla/5.0 (X11; Linux'
    ' x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"\n'
)


def write_log(path: Path, count: int) -> Path:
    path.write_text("".join(LINE.format(n % 200, n // 3600, n // 60 % 60, n % 60, n % 7) for n in range(count)))
    return path


def write_export(imports: Imports, path: Path, site: str = "shop") -> Path:
    form = path.suffix.removeprefix(".")
    answer = imports.report.get(f"/export/events?site_id={site}&format={form}", headers=BEARER)
    assert answer.status_code == 200
    path.write_bytes(answer.data)
    return path


@examples(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@pytest.mark.parametrize("form", ["ndjson", "parquet", "csv"])
def test_an_imported_export_answers_every_query_as_the_first_site_does(
    imports: Imports, ingest: FlaskClient, tmp_path: Path, form: str, data: st.DataObject
):
    for name in ("events", "dirty_hours", "segment_manifests", "imports"):
        imports.database[name].delete_many({})
    assert ingest.post("/events", json=data.draw(sent())).status_code == 200
    imports.drain()
    file, before = write_export(imports, tmp_path / f"events.{form}"), imports.stored()
    if before:
        imports.run(file)
        assert imports.stored() == before, "the same site"
        for _ in range(2):
            imports.run(file, site="copy")
    documents = [document for document in before if document["site_id"] == "shop"]
    stream = Stream(documents, BASE, data.draw(st.sampled_from(ZONES)), ("shop",), data.draw(goals()))
    for _ in range(3):
        query = data.draw(queries(stream))
        reports = imports.services.reports
        assert reports.answer(replace(query, site_id="copy")) == reports.answer(query)
    if form == "ndjson":
        copy = write_export(imports, tmp_path / "copy.ndjson", "copy").read_text().splitlines()
        lines = file.read_text().splitlines()
        assert [json.loads(line) | {"site_id": "shop"} for line in copy] == list(map(json.loads, lines))


def test_an_interrupted_import_continues_where_it_stopped(imports: Imports, tmp_path: Path):
    file = write_log(tmp_path / "access.log", 5000)
    plan = imports.plan(file)
    imports.kill_after(2000, plan, imports.services.imports.save)
    (begun,) = imports.services.imports.list()
    assert (begun.is_finished, begun.rows) == (False, 2000)
    seen: list[int] = []
    record = imports.services.importer.run(imports.plan(file), lambda: None, lambda x: seen.append(x.rows))
    assert seen == [3000, 4000, 5000]
    imports.drain()
    assert (record.rows, record.events, imports.totals()) == (5000, 5000, [200, 200, 5000, 5000])
    assert imports.faults() == []


def test_rows_that_were_sent_before_a_kill_and_again_after_it_are_stored_once(imports: Imports, tmp_path: Path):
    """The record is saved each second, so a kill loses the position of the last second."""
    plan = imports.plan(write_log(tmp_path / "access.log", 3000))
    imports.kill_after(2000, plan)
    imports.database["imports"].update_one({"_id": plan.id}, {"$set": {"rows": 0, "events": 0}})
    record = imports.run(plan.files[0].path)
    assert (record.events, imports.totals()) == (3000, [200, 200, 3000, 3000])
    counts = Ledger(imports.redis, imports.database).read()[Account("shop", NOW.date())]
    assert {name: counts[name] for name in ("accepted", "imported", "stored", "duplicate")} == {
        "accepted": 5000, "imported": 5000, "stored": 3000, "duplicate": 2000,
    }  # fmt: skip
    assert imports.faults() == []


def test_an_import_waits_while_too_many_of_its_events_wait(imports: Imports, tmp_path: Path):
    services, asked = imports.services, threading.Event()
    importer = Importer(
        services.journal,
        services.imports,
        services.aggregates,
        services.salts,
        services.now,
        secret=b"",
        most_waiting=1500,
    )
    plan = imports.plan(write_log(tmp_path / "access.log", 6000))
    thread = threading.Thread(target=importer.run, args=(plan, asked.set))
    thread.start()
    most = 0
    while thread.is_alive():
        wait_for(lambda: asked.is_set() or not thread.is_alive(), "a wake-up")
        asked.clear()
        most = max(most, services.journal.waiting())
        store_waiting(services.stores, "task")
    thread.join()
    imports.drain()
    assert most <= 2500, "1,500 and a group of rows"
    assert imports.totals() == [200, 200, 6000, 6000]


def test_an_import_that_no_worker_stores_ends(imports: Imports, tmp_path: Path):
    x = imports.services
    importer = Importer(x.journal, x.imports, x.aggregates, x.salts, x.now, secret=b"", most_waiting=1500, patience=0.2)
    plan = imports.plan(write_log(tmp_path / "access.log", 6000))
    with pytest.raises(NobodyStores):
        importer.run(plan, lambda: None)
    record = imports.services.importer.run(plan, lambda: None)
    imports.drain()
    assert (record.is_finished, imports.totals()) == (True, [200, 200, 6000, 6000])


def test_an_importer_that_stores_needs_no_worker(imports: Imports, tmp_path: Path):
    x = imports.services
    importer = Importer(x.journal, x.imports, x.aggregates, x.salts, x.now, secret=b"", most_waiting=1500)
    plan = imports.plan(write_log(tmp_path / "access.log", 6000))
    importer.run(plan, lambda: None, make_room=lambda: store_waiting(x.stores, "import"))
    imports.drain()
    assert imports.totals() == [200, 200, 6000, 6000]


def test_an_import_that_is_removed_while_it_waits_sends_nothing_more(imports: Imports, tmp_path: Path):
    x = imports.services
    importer = Importer(x.journal, x.imports, x.aggregates, x.salts, x.now, secret=b"", most_waiting=1500)
    plan = imports.plan(write_log(tmp_path / "access.log", 6000))

    def remove() -> None:
        x.imports.stop(plan.id)
        store_waiting(x.stores, "import")

    with pytest.raises(ImportRemoved):
        importer.run(plan, lambda: None, make_room=remove)
    assert x.journal.waiting() == 0
    assert len(imports.stored()) == 2000


def test_a_removed_import_takes_only_its_own_events_along(imports: Imports, tmp_path: Path):
    imports.run("matomo.json")
    before = imports.stored()
    record = imports.run("access.log")
    store = imports.services.imports
    assert store.count(record) == 5
    store.stop(record.id)
    assert sum(store.remove_all_of(record, None)) == 5
    with pytest.raises(ImportRemoved):
        imports.run("access.log")
    store.forget(record.id)
    assert (imports.stored(), imports.faults()) == (before, [])
    services, later = imports.services, NOW + timedelta(minutes=1)
    importer = Importer(services.journal, store, services.aggregates, services.salts, lambda: later, secret=b"")
    assert importer.run(imports.plan("access.log"), lambda: None).events == 6, "it can be imported again"
    imports.drain()
    assert len(imports.stored()) == len(before) + 5
    assert imports.faults() == []


@pytest.mark.parametrize("owner", ["\ud800", "x" * 300_000])
def test_a_hostile_owner_is_stored_as_a_short_text(imports: Imports, tmp_path: Path, owner: str):
    rows = [
        {"type": "page", "messageId": f"m{n}", "anonymousId": "a", "timestamp": "2026-11-02T09:00:00Z",
         "properties": {"url": "https://shop.example/"}, "writeKey": key}
        for n, key in enumerate((owner, owner, "another"))
    ]  # fmt: skip
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    record = imports.run(tmp_path / "events.jsonl")
    assert (record.events, record.skipped) == (2, {"other_site": 1})
    assert 0 < len(record.owner.encode()) <= 256


def test_a_running_import_stops_when_it_is_removed(imports: Imports, tmp_path: Path):
    plan = imports.plan(write_log(tmp_path / "access.log", 3000))

    def remove(record: Any) -> None:
        imports.services.imports.stop(plan.id)

    with pytest.raises(ImportRemoved):
        imports.services.importer.run(plan, lambda: None, remove)


def test_a_damaged_file_keeps_what_was_read_and_continues_when_it_is_whole(imports: Imports, tmp_path: Path):
    file = tmp_path / "events.jsonl"
    rows = [
        {"type": "page", "messageId": f"m{n}", "anonymousId": "a", "timestamp": "2026-11-02T09:00:00Z",
         "properties": {"url": "https://shop.example/"}}
        for n in range(1500)
    ]  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in rows)
    file.write_text(text + '{"type": "page", "messageId"')
    with pytest.raises(UnreadableFile, match=r"events\.jsonl"):
        imports.run(file)
    imports.drain()
    assert imports.totals() == [1, 1, 1500, 1500]
    file.write_text(text + text.replace(': "m', ': "n'))
    imports.run(file)
    assert imports.totals() == [1, 1, 3000, 3000]


def test_an_export_does_not_bring_an_erased_visitor_back(imports: Imports, ingest: FlaskClient, tmp_path: Path):
    events = [{"site_id": "shop", "event_type": "pageview", "path": "/", "user_id": name} for name in ("ann", "bob")]
    assert ingest.post("/events", json=events).status_code == 200
    imports.drain()
    file = write_export(imports, tmp_path / "events.ndjson")
    imports.services.eraser.erase(Visitor("shop", user_id="ann"))
    imports.run(file)
    assert [each["user_id"] for each in imports.stored()] == ["bob"]
    assert imports.faults() == []


def test_the_rules_of_the_site_apply(imports: Imports, tmp_path: Path):
    site = Site("shop", excluded_paths=("/page/0",), domains=("shop.example",), max_event_bytes=1024)
    SiteStore(imports.database).put(site)
    file = write_log(tmp_path / "access.log", 7)
    with file.open("a") as log:
        log.write(LINE.format(7, 9, 0, 0, "x" * 5000))
        log.write(LINE.format(8, 9, 0, 0, 8).replace("2026", "2027"))
    record = imports.run(file)
    assert (record.events, record.skipped) == (7, {"in_the_future": 1, "too_large": 1})
    assert imports.totals()[2] == 6, "the worker drops the excluded page"


def test_the_preview_stores_nothing_and_says_what_a_worker_would_drop(imports: Imports):
    imports.services.sites.put(Site("shop", domains=("shop.example",)))
    seen = imports.services.importer.preview(imports.plan("access.log"), imports.services.lookups)
    assert (seen.rows, seen.stored) == (10, 5)
    assert dict(seen.skipped) == {"asset": 1, "not_a_get": 2, "not_successful": 1, "bot": 1}
    assert [event.path for event in seen.events[:2]] == ["/", "/pricing"]
    assert seen.events[0].described
    assert (seen.events[0].described["browser"], seen.events[0].described["source"]) == ("Firefox", "newsletter")
    assert imports.services.journal.waiting() == 0
    assert imports.services.imports.list() == []


def test_the_first_and_the_last_event_of_an_import_are_known(imports: Imports):
    record = imports.run("access.log")
    assert record.first == datetime(2026, 11, 2, 8, tzinfo=UTC)
    assert record.last == datetime(2026, 11, 3, 8, tzinfo=UTC)
