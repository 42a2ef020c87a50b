"""Segments stay correct if several processes build them, crash, or lose files. With a real MongoDB. Tests about files
also run with S3-compatible storage and with a shared folder.
"""

import fcntl
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pytest
from bson import Decimal128
from pymongo.database import Database

from analytics.events.columns import RawEvents, visitor_of
from analytics.events.dirty_hours import DirtyHours
from analytics.events.event import DESCRIBED, Event
from analytics.events.store import EventStore
from analytics.interval import (
    DAY,
    HOUR,
    MINUTE,
    QUARTER,
    SEGMENT_GRAINS,
    SLOT,
    Interval,
    as_datetime,
    as_ms,
    interval_of,
)
from analytics.queries.query import Query, of_days
from analytics.reports.budget import Budget
from analytics.reports.engine import Reports
from analytics.segments import builder as segmenting
from analytics.segments import store as segment_store
from analytics.segments.builder import Builder, due_at, rebuild
from analytics.segments.scratch import Workplace, alone, sweep
from analytics.segments.storage import SegmentStorage
from analytics.segments.store import Content, SegmentLost, SegmentStore
from analytics.segments.visit_sql import WIDE_FORMAT
from analytics.unavailable import Unavailable
from tests.analytics.segments.test_segments import Rig
from tests.support.s3 import s3_bucket

NOON = as_ms(datetime(2026, 10, 15, 12, tzinfo=UTC))
MONTH = interval_of("month", NOON)
SOON = timedelta(minutes=10)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_bucket("segments") as url:
        yield url


@pytest.fixture(params=["mongodb", "folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> SegmentStorage | None:
    if request.param == "mongodb":
        return None
    return SegmentStorage(str(tmp_path / "shared") if request.param == "folder" else request.getfixturevalue("s3"))


@pytest.fixture
def rig(
    database: Database[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    storage: SegmentStorage | None,
) -> Iterator[Rig]:
    # segments of few events are joined, as those of many are
    monkeypatch.setattr(segmenting, "FEW_EVENTS", dict.fromkeys(SEGMENT_GRAINS, 0))
    rig = Rig(database, tmp_path, storage)
    yield rig
    rig.connection.close()


def event(ms: int, **fields: Any) -> dict[str, Any]:
    given = {"site_id": "site", "event_type": "page_view", "path": "/", "user_id": "anna"}
    return {"_id": uuid4(), "timestamp": as_datetime(ms)} | given | fields


def count(rig: Rig) -> int:
    return len(rig.rows(MONTH))


# Marks


def test_a_mark_made_between_reading_and_clearing_stays(database: Database[dict[str, Any]]):
    dirty, now = DirtyHours(database), datetime.now(UTC)
    dirty.mark([("site", NOON), ("site", NOON + SLOT)], now)
    seen = dirty.of_site("site")
    dirty.mark([("site", NOON)], now + timedelta(seconds=3))
    dirty.clear(seen)
    (left,) = dirty.of_site("site")
    assert list(left.slots) == [NOON]
    assert left.slots[NOON] != seen[0].slots[NOON]
    dirty.clear(dirty.of_site("site"))
    assert dirty.of_site("site") == []


def test_an_hour_that_was_built_waits_again_even_if_events_arrived_meanwhile(database: Database[dict[str, Any]]):
    dirty, now = DirtyHours(database), datetime.now(UTC).replace(microsecond=0)
    dirty.mark([("site", NOON)], now - timedelta(hours=1))
    dirty.mark([("site", NOON)], now - timedelta(seconds=2))
    assert dirty.sites_due(due_at(now)) == {"site": NOON}
    seen = dirty.of_site("site")
    dirty.mark([("site", NOON + SLOT)], now - timedelta(seconds=1))
    dirty.clear(seen)
    assert dirty.of_site("site")[0].since == now - timedelta(seconds=2)
    assert dirty.sites_due(due_at(now)) == {}
    assert dirty.sites_due(due_at(now + timedelta(seconds=4))) == {"site": NOON}


def test_the_current_hour_is_due_only_if_it_has_many_new_events(database: Database[dict[str, Any]]):
    dirty, now = DirtyHours(database), datetime.now(UTC)
    dirty.mark([("small", as_ms(now))] * 10, now)
    dirty.mark([("large", as_ms(now))] * 5_000, now)
    assert dirty.sites_due(due_at(now)) == {}
    assert dirty.sites_due(due_at(now + timedelta(seconds=30))) == {"large": as_ms(now) // HOUR * HOUR}
    assert dirty.next_due("large", due_at(now + timedelta(seconds=30))) == as_ms(now) // HOUR * HOUR
    assert sorted(dirty.sites_due(due_at(now + timedelta(hours=2)))) == ["large", "small"]


def test_a_crash_between_insert_and_mark_is_repaired_by_the_redelivery(rig: Rig, database: Database[dict[str, Any]]):
    rig.store(event(NOON))
    rig.builder.build("site", "hour", interval_of("hour", NOON))
    late, now = event(NOON, user_id="ben", entry_id="1-0"), datetime.now(UTC)
    rig.events.insert_one(late)  # no mark: its worker crashes
    assert count(rig) == 1
    again = Event(
        id=late["_id"], site_id="site", event_type="page_view", occurred_at=late["timestamp"], received_at=now, path="/"
    )
    assert EventStore(database).store([("1-0", again)], now).duplicate == frozenset()
    assert count(rig) == 2


# Several builders


def test_of_two_builders_the_slower_one_changes_nothing(rig: Rig):
    rig.store(*(event(NOON + n * MINUTE) for n in range(30)))
    fast = rig.builder

    class Overtaken(RawEvents):
        def read(self, *args: Any) -> Iterator[pa.RecordBatch]:
            fast.build("site", "hour", interval_of("hour", NOON))
            rig.store(event(NOON + MINUTE, user_id="ben"))
            return super().read(*args)

    slow = Builder(rig.segments, rig.dirty, rig.backfill, Overtaken(rig.events.database), fast.connect, fast.now)
    assert not slow.build("site", "month", MONTH)
    assert [s.grain for s in rig.segments.manifest("site").segments] == ["hour"]
    assert count(rig) == 31
    assert fast.build("site", "month", MONTH)
    assert count(rig) == 31
    assert rig.dirty.of_site("site") == []


def test_a_site_is_leased_to_one_builder_and_free_again_a_minute_after_it_died(rig: Rig):
    def now() -> datetime:
        return rig.now

    with rig.segments.lease("site", now) as first, rig.segments.lease("site", now) as second:
        assert (first, second) == (True, False)
    with pytest.raises(ZeroDivisionError), rig.segments.lease("site", now):
        _ = 1 / 0  # a failing site may fail again, so other sites are first
    with rig.segments.lease("site", now) as ours:
        assert not ours
    rig.now += timedelta(seconds=61)
    with rig.segments.lease("site", now) as ours:
        assert ours


def test_a_lease_is_renewed_while_its_block_runs(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(segment_store, "RENEWED", 0.01)
    with rig.segments.lease("site", lambda: rig.now):
        rig.now += timedelta(hours=1)
        manifests, deadline = rig.events.database["segment_manifests"], time.monotonic() + 10
        while manifests.count_documents({"leased_until": {"$gt": rig.now}}) == 0:
            assert time.monotonic() < deadline


def test_a_site_whose_segment_is_lost_does_not_keep_the_others_from_being_built(rig: Rig):
    rig.store(event(NOON), event(NOON, site_id="other"))
    rig.dirty.mark([("other", NOON)], rig.now)
    rig.now += SOON
    assert rig.builder.build_due() == 2
    lose(rig)
    rig.store(event(NOON + MINUTE), event(NOON + MINUTE, site_id="other"))
    rig.dirty.mark([("other", NOON + MINUTE)], rig.now)
    rig.now += SOON
    assert rig.builder.build_due() == 1
    assert rig.segments.manifest("other").segments[0].rows == 2


def lose(rig: Rig) -> None:
    (segment,) = rig.segments.manifest("site").segments
    rig.segments.files.remove(segment.version)
    rig.segments.forget(segment.version)


# Files


def test_a_lost_file_is_named_with_the_command_that_rebuilds_it(rig: Rig):
    rig.store(event(NOON), event(NOON + MINUTE))
    rig.builder.build("site", "month", MONTH)
    lose(rig)
    with pytest.raises(SegmentLost, match="python -m footfall segments rebuild"):
        count(rig)
    (rebuilt,) = rebuild(rig.builder, "site", [MONTH])
    assert rebuilt.rows == count(rig) == 2


def spoil(rig: Rig, version: str, data: bytes) -> None:
    """Replaces what is stored as the file."""
    if rig.storage is None:
        rig.events.database["segments.chunks"].update_one({}, {"$set": {"data": data}})
    else:
        rig.storage.write(version, BytesIO(data))


def test_a_stored_file_that_was_changed_is_lost(rig: Rig):
    rig.store(event(NOON))
    rig.builder.build("site", "month", MONTH)
    (segment,) = rig.segments.manifest("site").segments
    rig.segments.forget(segment.version)
    spoil(rig, segment.version, b"x" * segment.size)
    with pytest.raises(SegmentLost):
        count(rig)


def test_a_copy_that_was_cut_short_is_fetched_again(rig: Rig):
    rig.store(event(NOON))
    rig.builder.build("site", "month", MONTH)
    (copy,) = rig.segments.folder.glob("*.parquet")
    copy.write_bytes(copy.read_bytes()[:100])
    assert count(rig) == 1


def test_a_copy_that_a_build_cannot_read_is_fetched_again(rig: Rig):
    rig.store(event(NOON))
    rig.builder.build("site", "month", MONTH)
    (copy,) = rig.segments.folder.glob("*.parquet")
    copy.write_bytes(b"x" * copy.stat().st_size)
    rig.store(event(NOON + MINUTE))
    rig.now += SOON
    assert rig.builder.build_due() == 1
    assert count(rig) == 2


def test_a_rebuild_drops_the_segments_of_a_month_that_has_no_events_any_more(rig: Rig):
    rig.store(event(NOON))
    rig.builder.build("site", "day", interval_of("day", NOON))
    rig.events.delete_many({})
    (rebuilt,) = rebuild(rig.builder, "site", [MONTH])
    assert rebuilt.rows == count(rig) == 0
    assert rig.segments.manifest("site").segments == ()


def test_files_that_left_the_manifest_are_collected_when_no_query_can_read_them_any_more(rig: Rig):
    rig.store(event(NOON))
    rig.builder.build("site", "hour", interval_of("hour", NOON))
    (old,) = rig.segments.manifest("site").segments
    rig.builder.build("site", "day", interval_of("day", NOON))
    now = datetime.now(UTC)
    # The old file was written long ago, and replaced just now.
    rig.events.database["segments.files"].update_many({}, {"$set": {"uploadDate": now - timedelta(days=1)}})
    assert rig.segments.collect(now) == 0
    assert rig.segments.fetch(old).exists()
    assert rig.segments.collect(now + timedelta(minutes=11)) == 1
    with pytest.raises(SegmentLost):
        rig.segments.fetch(old)
    assert rig.events.database["segment_manifests"].count_documents({"left": {"$ne": []}}) == 0
    assert count(rig) == 1


def test_a_file_that_a_builder_may_still_name_is_not_collected(rig: Rig):
    rig.store(event(NOON))

    class Slow(SegmentStore):
        def keep(self, *args: Any, **more: Any) -> Any:
            kept = super().keep(*args, **more)
            assert rig.segments.collect(datetime.now(UTC) + timedelta(hours=1)) == 0
            return kept

    slow = Slow(rig.events.database, rig.segments.folder, 10**9, rig.storage)
    Builder(slow, rig.dirty, rig.backfill, rig.builder.raw, rig.connection.cursor).build(
        "site", "hour", interval_of("hour", NOON)
    )
    assert count(rig) == 1


def test_files_and_pieces_that_no_manifest_will_name_are_collected(rig: Rig):
    rig.store(event(NOON))

    class Dies(SegmentStore):
        def replace(self, *_: Any) -> bool:
            raise Unavailable("mongodb", TimeoutError())

    dies = Dies(rig.events.database, rig.segments.folder, 10**9, rig.storage)
    with pytest.raises(Unavailable):
        Builder(dies, rig.dirty, rig.backfill, rig.builder.raw, rig.connection.cursor).build("site", "month", MONTH)
    rig.builder.build("site", "month", MONTH)  # afterwards the manifest has a later generation
    chunks, version = rig.events.database["segments.chunks"], segment_store.new_id().hex
    half = {"_id": uuid4(), "files_id": version, "n": 0, "data": b"x"}
    chunks.insert_one(half)
    assert rig.segments.collect(datetime.now(UTC) + timedelta(minutes=11)) == 1
    assert chunks.count_documents({"files_id": half["files_id"]}) == 1
    assert rig.segments.collect(datetime.now(UTC) + timedelta(days=2)) == 0
    assert chunks.count_documents({"files_id": half["files_id"]}) == 0
    assert count(rig) == 1


# Local copies


def fetch_all(uri: str, storage: str | None, folder: str, most: int, seconds: float) -> None:
    """Acts as a process of the reporting app: reads every segment repeatedly."""
    from config.clients import make_database
    from config.settings import Settings

    database = make_database(Settings(mongodb_uri=uri))
    store = SegmentStore(database, Path(folder), most, SegmentStorage(storage) if storage else None)
    end = time.monotonic() + seconds
    with database.client:
        while time.monotonic() < end:
            for segment in store.manifest("site").segments:
                with store.fetch(segment).open("rb") as file:
                    assert len(file.read()) == segment.size


def test_copies_stay_within_their_limit_whichever_process_fetches(
    rig: Rig, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for day in range(12):
        rig.store(*(event(MONTH.start + day * DAY + n * MINUTE, path=f"/{day}/{n}") for n in range(50)))
        rig.builder.build("site", "day", interval_of("day", MONTH.start + day * DAY))
    sizes = [s.size for s in rig.segments.manifest("site").segments]
    most, folder = sum(sizes) // 3, tmp_path / "other node"
    context = multiprocessing.get_context("spawn")
    url = rig.storage._storage._url if rig.storage else None
    args = (settings.mongodb_uri, url, str(folder), most, 3.0)
    processes = [context.Process(target=fetch_all, args=args) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    copies = list(folder.glob("*.parquet"))
    assert len(copies) == 12, "what was used just now stays"
    for n, copy in enumerate(sorted(copies)):
        os.utime(copy, (time.time() - 1_000 + n,) * 2)
    SegmentStore(rig.events.database, folder, most).make_room()
    kept = sorted(folder.glob("*.parquet"))
    assert sum(copy.stat().st_size for copy in kept) <= most
    assert kept == sorted(copies)[-len(kept) :], "the oldest went"
    assert len(kept) >= 3


def test_files_of_dead_processes_are_removed_and_files_of_living_ones_stay(tmp_path: Path):
    ours = Workplace(tmp_path)
    with ours.folder() as folder:
        dead = tmp_path / "work-dead"
        dead.mkdir()
        (dead / "spilled").write_text("x")
        sweep(tmp_path)
        assert dead.exists(), "it may be about to be locked"
        for place in tmp_path.iterdir():
            os.utime(place, (0, 0))
        sweep(tmp_path)
        assert not dead.exists()
        assert folder.exists()


def test_values_that_no_worker_writes_count_as_missing(rig: Rig):
    odd: dict[str, Any] = {
        "event_type": 5, "path": 5, "user_id": 5, "interactive": "no", "engagement_time": 2**40, "scroll_depth": 3.5,
        "props": [1], "source": {}, "revenue": {"amount": Decimal128(Decimal("1E+40")), "currency": "USD"},
    }  # fmt: skip
    rig.store(*(event(NOON + n * MINUTE, **{name: value}) for n, (name, value) in enumerate(odd.items())))
    rig.store(event(NOON, revenue={"amount": Decimal128("NaN"), "currency": "USD"}, scroll_depth=-1))
    rig.builder.build("site", "month", MONTH)
    assert count(rig) == len(odd) + 1


def test_a_period_without_events_has_no_rows(rig: Rig):
    assert rig.rows(Interval(NOON, NOON + HOUR)) == []


def test_a_lock_is_held_by_one_process_at_a_time(tmp_path: Path):
    with alone(tmp_path / "lock") as first, alone(tmp_path / "lock") as second:
        assert (first, second) == (True, False)
    with alone(tmp_path / "lock") as third:
        assert third


def test_the_lock_of_a_workplace_is_held(tmp_path: Path):
    ours = Workplace(tmp_path)
    (lock,) = tmp_path.glob("*/lock")
    with lock.open("a") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert ours


def test_a_site_with_much_to_build_does_not_keep_the_others_waiting(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(segmenting, "SMALL", 0)  # every hour separately
    rig.store(*(event(NOON + n * HOUR) for n in range(30)))
    rig.now += timedelta(seconds=1)
    rig.events.insert_one(event(NOON, site_id="other"))
    rig.dirty.mark([("other", NOON)], rig.now)
    rig.now += SOON
    begun = rig.now

    def ticking() -> datetime:
        rig.now += timedelta(seconds=0.2)
        return rig.now

    replace(rig.builder, now=ticking).build_due(until=begun + timedelta(seconds=20))
    assert rig.dirty.of_site("site")
    assert not rig.dirty.of_site("other")


@pytest.fixture
def copied(rig: Rig) -> Reports:
    """The reports of a site whose segment was copied to this machine, and read from the copy."""
    paths = ("/", "/pricing", "/docs", None)

    def numbered(n: int) -> dict[str, Any]:
        more = {"source": f"source {n % 7}", "props": {"plan": f"plan {n % 11}", "text": "x" * (n % 40)}}
        return event(NOON + n * 1000, user_id=f"visitor {n % 90}", path=paths[n % 4], **more)

    rig.store(*map(numbered, range(600)))
    rig.builder.build("site", "month", MONTH)
    return Reports(rig.reader, rig.imports, rig.connection.cursor, time_limit=60, most_fresh=10)


def all_of(reports: Reports) -> list[Any]:
    """Answers that read every column of every row."""
    period = of_days(date(2026, 10, 1), date(2026, 10, 31), ZoneInfo("UTC"))
    by = ("event:page", "visit:source", "event:props:plan", "event:props:text")
    query = Query("site", ("visitors", "visits", "events", "bounce_rate", "visit_duration"), period, limit=10_000)
    answers = [reports.answer(replace(query, dimensions=(one,))) for one in by]
    return [*answers, reports.stats("site", None), reports.visitor_history("site", "visitor 7", period, 1_000)]


DAMAGE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "no bytes": lambda copy, _: copy[:0],
    "half of it": lambda copy, _: copy[: len(copy) // 2],
    "zeros": lambda copy, _: bytes(len(copy)),
    "no footer": lambda copy, _: copy[:-8],
    "longer": lambda copy, _: copy + b"x",
    "a byte of the header": lambda copy, chance: flipped(copy, chance.randrange(4)),
    "a byte of the footer": lambda copy, chance: flipped(copy, chance.randrange(len(copy) - 4_000, len(copy))),
    "a byte of the pages": lambda copy, chance: flipped(copy, chance.randrange(4, len(copy) - 4_000)),
}


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_copy_changes_no_answer(rig: Rig, copied: Reports, kind: str):
    """Of 600 files with one flipped byte, DuckDB read 400 wrongly and without an error."""
    chance, expected = random.Random(kind), all_of(copied)
    (copy,) = rig.segments.folder.glob("*.parquet")
    whole = copy.read_bytes()
    for _ in range(10 if "byte of" in kind else 1):
        copy.write_bytes(DAMAGE[kind](whole, chance))
        assert all_of(copied) == expected
        assert copy.read_bytes() == whole


def test_a_copy_that_is_damaged_while_in_use_is_found_when_it_cannot_be_read(rig: Rig, copied: Reports):
    """If a disk changes a byte, the file's times do not change."""
    expected = all_of(copied)
    (copy,) = rig.segments.folder.glob("*.parquet")
    state = copy.stat()
    copy.write_bytes(bytes(state.st_size))
    os.utime(copy, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert all_of(copied) == expected


def test_a_copy_that_is_gone_when_it_is_read_is_fetched_again(rig: Rig, copied: Reports):
    tries = []

    def ask(connection: duckdb.DuckDBPyConnection, _: Budget) -> int:
        sql = rig.reader.open(connection, "site", MONTH, 10).rows(MONTH, ("occurred",))
        tries.append(sql)
        if len(tries) == 1:
            for copy in rig.segments.folder.glob("*.parquet"):
                copy.unlink()
        return len(connection.execute(sql.text, sql.values).fetchall())

    assert copied._ask(["site"], ask, None) == 600
    assert len(tries) == 2


def test_an_error_in_a_query_keeps_the_copies(rig: Rig, copied: Reports):
    expected = all_of(copied)
    (copy,) = rig.segments.folder.glob("*.parquet")
    file = copy.stat().st_ino
    with pytest.raises(duckdb.Error, match="wrong"):
        copied._ask(["site"], lambda c, _: c.execute("SELECT error('a question that is wrong')").fetchall(), None)
    assert copy.stat().st_ino == file
    assert all_of(copied) == expected


def test_a_damaged_stored_file_is_named_with_the_command_that_repairs_it(rig: Rig, copied: Reports):
    (segment,) = rig.segments.manifest("site").segments
    rig.segments.forget(segment.version)
    spoil(rig, segment.version, bytes(segment.size))
    with pytest.raises(SegmentLost, match="python -m footfall segments rebuild"):
        copied.stats("site", None)


# Formats


def test_a_file_from_before_openings_is_read_as_if_they_were_marked(rig: Rig):
    """A file as the builder wrote it before `last_quarter` was a column, and before openings came first."""
    rig.store(event(NOON - MINUTE, event_type="engagement"), *(event(NOON + n * 16 * MINUTE) for n in range(4)))
    rig.store(event(NOON, user_id=None), event(NOON + 5 * HOUR))
    assert rig.builder.build("site", "day", interval_of("day", NOON))
    manifest = rig.segments.manifest("site")
    (segment,) = manifest.segments
    old = rig.segments.workplace.unused(".parquet")
    rig.connection.execute(
        f"COPY (SELECT * EXCLUDE (last_quarter) FROM read_parquet('{rig.segments.fetch(segment)}')"
        f" ORDER BY visitor, occurred, tie) TO '{old}' (FORMAT parquet)"
    )

    def read() -> list[tuple[Any, ...]]:
        connection = rig.connection.cursor()
        reading = rig.reader.open(connection, "site", MONTH, 10**9)
        sql = reading.rows(MONTH, ("occurred", "visitor", "entry"), openings=True)
        return connection.execute(f"SELECT * FROM ({sql.text}) ORDER BY ALL", sql.values).fetchall()

    anna, noon = visitor_of("anna"), NOON // QUARTER
    expected = [(NOON - MINUTE, anna, False, noon - 1), (NOON, anna, True, noon + 3), (NOON, None, False, noon)]
    assert read() == [*expected, (NOON + 5 * HOUR, anna, True, noon + 20)]
    content = Content(segment.rows, segment.first, segment.last)
    before = rig.segments.keep(old, manifest, "day", segment.interval, content)
    assert rig.segments.replace(manifest, [replace(before, format=2)], datetime.now(UTC))
    assert read() == [*expected, (NOON + 5 * HOUR, anna, True, noon + 20)]


def test_a_file_from_before_screens_is_read_without_screens(rig: Rig, tmp_path: Path):
    """A file as the builder wrote it before `screen` was a column, beside files that have it."""
    visit = [event(NOON, source="x"), event(NOON + MINUTE, source="y"), event(NOON + 2 * MINUTE, user_id=None)]
    rig.store(*visit)
    assert rig.builder.build("site", "day", interval_of("day", NOON))
    manifest = rig.segments.manifest("site")
    (segment,) = manifest.segments
    old = rig.segments.workplace.unused(".parquet")
    kept = ", ".join(f"{name} := own.{name}" for name in DESCRIBED if name != "screen")
    rig.connection.execute(
        "COPY (SELECT * EXCLUDE (screen, last_quarter)"
        f" REPLACE (CASE WHEN own IS NOT NULL THEN struct_pack({kept}) END AS own)"
        f" FROM read_parquet('{rig.segments.fetch(segment)}')) TO '{old}' (FORMAT parquet)"
    )
    content = Content(segment.rows, segment.first, segment.last)
    before = rig.segments.keep(old, manifest, "day", segment.interval, content)
    assert rig.segments.replace(manifest, [replace(before, format=1)], datetime.now(UTC))

    def read() -> list[tuple[Any, ...]]:
        connection = rig.connection.cursor()
        reading = rig.reader.open(connection, "site", MONTH, 10**9)
        sql = reading.rows(MONTH, ("occurred", "source", "screen"))
        return connection.execute(f"SELECT * FROM ({sql.text}) ORDER BY ALL", sql.values).fetchall()

    of_old = [(NOON, "x", None), (NOON + MINUTE, "x", None), (NOON + 2 * MINUTE, None, None)]
    assert read() == of_old
    rig.store(event(NOON + 3 * MINUTE, screen="Mobile", source="z"))  # continues the visit in the old file
    rig.store(event(NOON + DAY, screen="Mobile"))
    assert rig.builder.build("site", "day", interval_of("day", NOON + DAY))
    later = [(NOON + 3 * MINUTE, "x", None), (NOON + DAY, None, "Mobile")]
    assert read() == [*of_old, *later]
    assert rig.builder.build("site", "month", MONTH)
    assert [s.format for s in rig.segments.manifest("site").segments] == [3]
    assert read() == [*of_old, *later]


def test_a_manifest_without_formats_has_the_first_format(rig: Rig, database: Database[dict[str, Any]]):
    rig.store(event(NOON))
    assert rig.builder.build("site", "day", interval_of("day", NOON))
    database["segment_manifests"].update_one({}, {"$unset": {"segments.0.format": ""}})
    assert [s.format for s in rig.segments.manifest("site").segments] == [1]


def test_a_segment_of_a_later_version_is_unavailable_to_this_one(rig: Rig, database: Database[dict[str, Any]]):
    rig.store(event(NOON))
    assert rig.builder.build("site", "day", interval_of("day", NOON))
    later = {"$set": {"segments.0.format": WIDE_FORMAT + 1, "segments.0.unheard_of": "then"}}
    database["segment_manifests"].update_one({}, later)
    with pytest.raises(Unavailable, match=f"format {WIDE_FORMAT + 1}.*Start the later version"):
        rig.rows(MONTH)
