"""The running system builds segments by itself, beside everything else, also if processes are killed meanwhile."""

import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest
from pymongo.database import Database

from analytics.events.backfill import Backfill
from analytics.events.dirty_hours import DirtyHours
from analytics.interval import DAY, HOUR, MINUTE, Interval, as_datetime, as_ms, interval_of
from analytics.segments.due import DueBuilds
from analytics.segments.engine import Segments
from analytics.segments.snapshot_reader import SnapshotReader
from config.services import Services
from config.settings import Settings
from tests.support.running_system import System, wait_for
from tests.support.services import make_services

LARGE = 250_000  # events, which take seconds to build


@pytest.fixture(scope="module")
def segments(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Segments]:
    """The segments of the running system, as another machine sees them."""
    folder = tmp_path_factory.mktemp("other machine")
    with closing(Services(Settings(mongodb_uri=system.mongodb_uri, segment_dir=str(folder)))) as services:
        yield services.segments


def count(segments: Segments, site: str, most_fresh: int = 10_000) -> int:
    now = as_ms(datetime.now(UTC))
    period = Interval(now - 400 * DAY, now + DAY)
    with segments.connect() as connection:
        rows = segments.reader.open(connection, site, period, most_fresh).rows(period, ["visitor"])
        ((found,),) = connection.execute(f"SELECT count(*) FROM ({rows.text})", rows.values).fetchall()
    return int(found)


def post(system: System, site: str, moment: datetime) -> None:
    event = {"site_id": site, "event_type": "page_view", "user_id": "anna", "timestamp": moment.isoformat()}
    assert httpx.post(f"{system.ingest}/event", json=event).status_code == 200


def built(segments: Segments, site: str) -> bool:
    return bool(segments.store.manifest(site).segments) and not segments.dirty.of_site(site)


def test_an_event_is_readable_when_it_is_stored_and_in_a_segment_when_its_hour_is_over(
    system: System, segments: Segments
):
    now = datetime.now(UTC)
    post(system, "site", now)
    wait_for(lambda: count(segments, "site") == 1, "the event")
    assert segments.store.manifest("site").segments == ()
    for hours in (3, 4, 5):
        post(system, "site", now - timedelta(hours=hours))
    wait_for(lambda: count(segments, "site") == 4, "the others")
    wait_for(lambda: segments.store.manifest("site").segments, "a segment", 60)
    assert count(segments, "site") == 4


def test_a_month_from_before_there_were_segments_is_built(system: System, segments: Segments):
    wait_for(segments.backfill.is_done, "the end of the backfill")
    with system.database() as database:
        database["events"].insert_many(large("old", 10))
        database["segment_state"].delete_many({})
        # Like a process that has just started: it does not know yet that everything is built. Only this test undoes
        # that.
        started = replace(
            segments, reader=SnapshotReader(segments.store, segments.dirty, Backfill(database), segments.raw)
        )
        assert count(started, "old") == 10
        wait_for(lambda: built(segments, "old"), "a segment", 60)
        assert count(started, "old") == 10


def large(site: str, number: int) -> list[dict[str, Any]]:
    start = interval_of("month", as_ms(datetime.now(UTC)) - 60 * DAY).start
    return [
        {"_id": uuid4(), "site_id": site, "event_type": "page_view", "path": f"/{n % 100}", "user_id": f"{n % 5_000}",
         "timestamp": as_datetime(start + 12 * HOUR + n % (30 * MINUTE))}
        for n in range(number)
    ]  # fmt: skip


def is_building(database: Database[dict[str, Any]]) -> bool:
    return database["segment_manifests"].count_documents({"_id": "large", "lease": {"$exists": True}}) == 1


@pytest.mark.timeout(240)
def test_a_worker_that_stops_or_is_killed_during_a_build_leaves_correct_segments(system: System, segments: Segments):
    with system.database() as database:
        events = large("large", LARGE)
        database["events"].insert_many(events, ordered=False)
        DirtyHours(database).mark([("large", as_ms(e["timestamp"])) for e in events], datetime.now(UTC))

        wait_for(lambda: is_building(database), "a build", 60)
        post(system, "beside", datetime.now(UTC))
        wait_for(lambda: database["events"].count_documents({"site_id": "beside"}) == 1, "an event beside it")
        assert is_building(database), "which did not wait for the build"

        worker = system.part("tasks worker")[0]
        worker.send_signal(signal.SIGTERM)
        psutil.wait_procs([worker], timeout=20)
        assert not worker.is_running(), "it did not wait for the build"
        wait_for(lambda: "stopped, or out of time" in system.output(), "its last line, which the supervisor passes on")
        forget_lease(database)

        wait_for(lambda: is_building(database), "the next worker's", 60)
        for process in system.part("tasks worker"):
            process.kill()
        assert segments.store.manifest("large").segments == ()
        forget_lease(database)
    wait_for(lambda: built(segments, "large") and segments.backfill.is_done(), "the last one's", 90)
    assert count(segments, "large") == LARGE


def forget_lease(database: Database[dict[str, Any]]) -> None:
    """Removes the lease, which otherwise expires after a minute."""
    database["segment_manifests"].update_one({"_id": "large"}, {"$unset": {"lease": "", "leased_until": ""}})


def test_no_build_is_owed_if_no_segment_is_due(database: Database[dict[str, Any]], settings: Settings):
    builder, now = make_services(settings, database=database).segments.builder, datetime.now(UTC)
    due = DueBuilds(builder.dirty, builder.backfill)
    assert due.is_any(), "whether there is a history nobody has looked"
    assert builder.build_due() == 0
    assert not due.is_any()
    builder.dirty.mark([("site", as_ms(now))], now)
    assert not due.is_any(), "its hour goes on"
    builder.dirty.mark([("site", as_ms(now - timedelta(hours=3)))], now - timedelta(minutes=1))
    assert due.is_any()
    assert due.waiting()[0].hours == 2
    assert due.waiting()[1].hours == 1
