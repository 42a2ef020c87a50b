"""Segments with a real MongoDB: what is read equals what is stored, however it was built into segments."""

import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import pytest
from bson import ObjectId
from pymongo.database import Database

from analytics.aggregates.store import AggregateStore
from analytics.events.backfill import Backfill
from analytics.events.columns import RawEvents, visitor_of
from analytics.events.dirty_hours import DirtyHours
from analytics.interval import DAY, HOUR, MINUTE, QUARTER, SEGMENT_GRAINS, Interval, as_datetime, as_ms, interval_of
from analytics.reports.imports_reader import ImportsReader
from analytics.segments import builder, snapshot_reader
from analytics.segments.builder import Builder, write
from analytics.segments.duckdb_connection import connect
from analytics.segments.seams import Seams
from analytics.segments.segment_rows import MANY_ROWS
from analytics.segments.snapshot_reader import SnapshotReader
from analytics.segments.storage import SegmentStorage
from analytics.segments.store import SegmentStore
from analytics.segments.visit_sql import COUNTED_COLUMNS, Detail

# Offsets from BASE at which segments are built, chosen at random.
BUILT = [DAY, DAY + HOUR, 2 * DAY - HOUR, 2 * DAY, 3 * DAY]
BASE = as_ms(datetime(2026, 10, 30, tzinfo=UTC))
COLUMNS = ("occurred", "visitor", "visit", "entry", "visit_duration", "visit_pageviews", "visit_bounce", "source",
           "entry_page", "exit_page", "page", "last_quarter", "seen", "prior")  # fmt: skip


class Rig:
    """The stores of one site, and a builder with a clock that the test sets."""

    def __init__(self, database: Database[dict[str, Any]], folder: Path, storage: SegmentStorage | None = None) -> None:
        self.events, self.storage = database["events"], storage
        self.dirty = DirtyHours(database)
        self.segments = SegmentStore(database, folder / "copies", 10**9, storage)
        self.now = datetime.now(UTC)
        raw = RawEvents(database)
        self.connection = connect("500MB", 2, folder / "spill", [folder])
        self.backfill = Backfill(database)
        self.backfill.note_if_there_is_none()
        self.reader = SnapshotReader(self.segments, self.dirty, self.backfill, raw)
        self.imports = ImportsReader(AggregateStore(database))
        self.builder = Builder(self.segments, self.dirty, self.backfill, raw, self.connection.cursor, lambda: self.now)

    def store(self, *documents: dict[str, Any]) -> None:
        self.events.insert_many([dict(document) for document in documents])
        self.dirty.mark([("site", as_ms(document["timestamp"])) for document in documents], self.now)

    def remove(self, document: dict[str, Any]) -> None:
        self.events.delete_one({"_id": document["_id"]})
        self.dirty.mark([("site", as_ms(document["timestamp"]))], self.now)

    def erase(self, user_id: str) -> None:
        found = list(self.events.find({"user_id": user_id}))
        self.events.delete_many({"user_id": user_id})
        self.dirty.mark([("site", as_ms(document["timestamp"])) for document in found], self.now)

    def rows(
        self,
        period: Interval,
        most_fresh: int = 10**9,
        *,
        columns: Iterable[str] = COLUMNS,
        detail: Detail = Detail.ALL,
    ) -> list[tuple[Any, ...]]:
        connection = self.connection.cursor()
        reading = self.reader.open(connection, "site", period, most_fresh, detail=detail)
        sql = reading.rows(period, columns)
        return connection.execute(f"SELECT * FROM ({sql.text}) ORDER BY ALL", sql.values).fetchall()


@pytest.fixture
def rig(database: Database[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    # segments of few events are joined, as those of many are
    monkeypatch.setattr(builder, "FEW_EVENTS", dict.fromkeys(SEGMENT_GRAINS, 0))
    rig = Rig(database, tmp_path)
    yield rig
    rig.connection.close()


def document(chance: random.Random) -> dict[str, Any]:
    kind = chance.choice(["page_view", "pageview", "click", "engagement"])
    soon = [chance.randrange(5 * DAY), DAY + chance.randrange(2 * HOUR), 2 * DAY + chance.randrange(-HOUR, HOUR)]
    near = chance.choice(soon)
    found = {
        "_id": UUID(int=chance.getrandbits(128)), "site_id": "site", "event_type": kind,
        "timestamp": as_datetime(BASE + near // (5 * MINUTE) * 5 * MINUTE + chance.choice([0, 1])),
        "path": chance.choice(["/a", "/b", None, "/c"]), "source": chance.choice(["x", "y", None]),
        "user_id": chance.choice(["anna", "ben", "carl", None]),
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


def expected(documents: list[dict[str, Any]], period: Interval) -> set[tuple[Any, ...]]:
    """Visits as a plain loop finds them: the columns without `seen` and `prior`."""
    found = set()
    by_visitor: dict[str | None, list[dict[str, Any]]] = {}
    for each in sorted(documents, key=lambda d: (d["timestamp"], d["_id"])):
        by_visitor.setdefault(each.get("user_id"), []).append(each)
    for user, theirs in by_visitor.items():
        if user is None:
            continue
        spans: list[list[dict[str, Any]]] = []
        for each in theirs:
            if spans and each["timestamp"] - spans[-1][-1]["timestamp"] <= timedelta(minutes=30):
                spans[-1].append(each)
            else:
                spans.append([each])
        for span in spans:
            found |= _rows_of(user, span)
    for each in by_visitor.get(None, []):
        ms = as_ms(each["timestamp"])
        path, quarter = each.get("path"), ms // QUARTER
        found.add((ms, None, None, False, None, None, None, each.get("source"), None, None, path, quarter))
    return {row for row in found if period.start <= row[0] < period.end}


def _rows_of(user: str, span: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    visitor, found = visitor_of(user), set()
    first = next((n for n, e in enumerate(span) if e["event_type"] != "engagement"), len(span))
    for each in span[:first]:
        ms = as_ms(each["timestamp"])
        path, quarter = each.get("path"), ms // QUARTER
        found.add((ms, visitor, None, False, None, None, None, each.get("source"), None, None, path, quarter))
    visit = span[first:]
    if not visit:
        return found
    start, end = as_ms(visit[0]["timestamp"]), as_ms(visit[-1]["timestamp"])
    views = [e for e in visit if e["event_type"] in ("page_view", "pageview")]
    acted = any(e["event_type"] == "click" for e in visit)
    for n, each in enumerate(visit):
        found.add((
            as_ms(each["timestamp"]), visitor, visitor ^ start, n == 0, end - start, len(views),
            len(views) == 1 and not acted, visit[0].get("source"),
            views[0].get("path") if views else None, views[-1].get("path") if views else None, each.get("path"),
            -1 if n else end // QUARTER,
        ))  # fmt: skip
    return found


def test_sorting_day_by_day_gives_the_same_file_as_sorting_at_once(rig: Rig, tmp_path: Path):
    chance = random.Random(1)
    rig.store(*(document(chance) for _ in range(300)))
    connection, month = rig.connection.cursor(), interval_of("month", BASE + DAY)
    reading = rig.reader.open(connection, "site", month, 10**9)
    found = []
    for rows in (0, MANY_ROWS + 1):
        file = tmp_path / f"{rows}.parquet"
        content = write(connection, reading, month, rows, file)
        found.append((content, connection.execute("SELECT * FROM read_parquet(?)", [[str(file)]]).fetchall()))
    assert found[0][0].rows > 100
    assert found[0] == found[1]


@pytest.mark.parametrize("seed", range(12))
def test_readings_equal_the_stored_events_however_segments_were_built(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, seed: int
):
    chance = random.Random(seed)
    documents: list[dict[str, Any]] = []
    for step in range(8):
        new = [document(chance) for _ in range(chance.randrange(1, 25))]
        documents += new
        rig.store(*new)
        if step == 5:
            rig.erase("ben")
            documents = [d for d in documents if d.get("user_id") != "ben"]
        for _ in range(chance.randrange(4)):
            grain = chance.choice(SEGMENT_GRAINS)
            monkeypatch.setattr(builder, "FEW_EVENTS", dict.fromkeys(SEGMENT_GRAINS, chance.choice([0, 5_000])))
            rig.builder.build("site", grain, interval_of(grain, BASE + chance.choice(BUILT)))
        lo = BASE + chance.randrange(6 * DAY)
        for period in (
            Interval(BASE + DAY, BASE + 2 * DAY),
            Interval(BASE - DAY, BASE + 7 * DAY),
            Interval(lo, lo + chance.randrange(1, DAY)),
        ):
            rows = rig.rows(period)
            assert {row[:12] for row in rows} == expected(documents, period), (step, period)
            assert len(rows) == sum(period.start <= as_ms(d["timestamp"]) < period.end for d in documents)
            if period.start % QUARTER == 0:
                firsts = {row[1] for row in rows if row[12] is None or row[12] < period.start // QUARTER}
                assert firsts >= {row[1] for row in rows if row[1]}, "each visitor has a first event"


def test_a_reading_with_less_detail_counts_the_same(rig: Rig):
    chance, period = random.Random(7), Interval(BASE, BASE + 5 * DAY)
    rig.store(*(document(chance) for _ in range(80)))
    for start in range(BASE, BASE + 4 * DAY, DAY):
        rig.builder.build("site", "day", Interval(start, start + DAY))
    rig.store(*(document(chance) for _ in range(8)))
    found = [rig.rows(period, columns=sorted(COUNTED_COLUMNS), detail=detail) for detail in Detail]
    assert len(found[0]) == 88
    assert found[0] == found[1] == found[2]


def hour_of(number: int) -> Interval:
    return Interval(BASE + number * HOUR, BASE + number * HOUR + HOUR)


def views(**moments: list[int]) -> list[dict[str, Any]]:
    """Pageviews of visitors, at these minutes after BASE."""
    return [
        {
            "_id": uuid5(NAMESPACE_OID, f"{user_id} {minute}"), "site_id": "site", "event_type": "pageview",
            "path": "/a", "user_id": user_id, "timestamp": as_datetime(BASE + minute * MINUTE),
        }
        for user_id, minutes in moments.items()
        for minute in minutes
    ]  # fmt: skip


def test_only_visits_that_continue_in_the_next_segment_are_derived_again(rig: Rig):
    rig.store(*views(anna=[24 * 60 - 1, 24 * 60 + 1], ben=[24 * 60 - 1]))
    for start in (BASE, BASE + DAY):
        rig.builder.build("site", "day", Interval(start, start + DAY))
    reading = rig.reader.open(rig.connection.cursor(), "site", Interval(BASE, BASE + 2 * DAY), 0)
    between: Any = reading.files[0]
    assert between.whose["visitor"].to_pylist() == [visitor_of("anna")] * 2
    assert between.rows.count == 2


@pytest.fixture
def all_derived(monkeypatch: pytest.MonkeyPatch) -> list[Seams]:
    """The seams of which all visits were derived."""
    found: list[Seams] = []

    def noted(seams: Seams, connection: Any, derive: Any = Seams.derive) -> Any:
        found.append(seams)
        return derive(seams, connection)

    monkeypatch.setattr(Seams, "derive", noted)
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("in_memory", [snapshot_reader.IN_MEMORY, 0])
def test_after_a_segment_was_replaced_only_the_visits_beside_it_are_derived_again(
    rig: Rig, all_derived: list[Seams], monkeypatch: pytest.MonkeyPatch, seed: int, in_memory: int
):
    """Visits that extend over several segments, and segments that are replaced, added and removed."""
    monkeypatch.setattr(snapshot_reader, "IN_MEMORY", in_memory)
    chance, period = random.Random(seed), Interval(BASE, BASE + DAY)
    stored: list[dict[str, Any]] = []

    def store(hour: int) -> None:
        minutes = (60 * hour + chance.choice([0, 1, 15, 29, 31, 45, 59]) for _ in range(chance.randrange(1, 6)))
        users = {chance.choice(["anna", "ben", "carl"]): [minute] for minute in minutes}
        new = [each for each in views(**users) if each["_id"] not in {x["_id"] for x in stored}]
        if new:
            rig.store(*new)
            stored.extend(new)

    for hour in range(24):
        store(hour)
        rig.builder.build("site", "hour", hour_of(hour))
    for step in range(12):
        hour = chance.randrange(24)
        store(hour)
        if step == 8:
            gone = chance.choice(["anna", "ben", "carl"])
            rig.erase(gone)
            stored[:] = [each for each in stored if each["user_id"] != gone]
            for each in range(24):
                rig.builder.build("site", "hour", hour_of(each))
        elif step % 3 == 2:
            lost = stored.pop(chance.randrange(len(stored)))
            rig.remove(lost)
            rig.builder.build("site", "hour", interval_of("hour", as_ms(lost["timestamp"])))
        elif chance.random() < 0.8:
            rig.builder.build("site", "hour", hour_of(hour))
        rows = rig.rows(period, detail=chance.choice([Detail.DESCRIBED, Detail.ALL]))
        assert {row[:12] for row in rows} == expected(stored, period), step
        assert len(rows) == len(stored)
    assert len(all_derived) <= 6


def test_after_a_day_was_merged_only_the_visits_beside_it_are_derived_again(rig: Rig, all_derived: list[Seams]):
    days = [Interval(start, start + DAY) for start in range(BASE, BASE + 8 * DAY, DAY)]
    period, morning = Interval(days[0].start, days[-1].end), (3 * DAY + 10 * HOUR) // MINUTE
    of_anna = [n * 24 * 60 + minute for n in range(8) for minute in (1, 24 * 60 - 1)]
    stored = views(anna=of_anna, ben=[morning - 5], carl=[6 * 24 * 60 - 1, 6 * 24 * 60 + 1])
    for each in views(somebody=[morning - 9, morning + 70]):
        del each["user_id"]
        stored.append(each)
    rig.store(*stored)
    for day in days:
        rig.builder.build("site", "day", day)
    late = views(ben=[morning + 5])
    rig.store(*late)
    rig.builder.build("site", "hour", hour_of(3 * 24 + 10))
    assert {row[:12] for row in rig.rows(period)} == expected([*stored, *late], period)
    before = len(all_derived)
    rig.builder.build("site", "day", days[3])
    rows = rig.rows(period)
    assert {row[:12] for row in rows} == expected([*stored, *late], period)
    assert len(rows) == len(stored) + 1
    assert len(all_derived) == before


def test_a_visit_continues_although_a_coarser_segment_holds_an_older_part_of_it(rig: Rig):
    period = Interval(BASE, BASE + DAY)
    rig.store(*views(anna=[10]))
    rig.builder.build("site", "day", period)
    rig.store(*views(anna=[0, 25, 50, 65]))
    for start in (BASE, BASE + HOUR):
        rig.builder.build("site", "hour", Interval(start, start + HOUR))
    found = rig.rows(period, columns=("occurred", "entry", "visit_pageviews"))
    assert [row[1:] for row in found] == [(True, 5), *[(False, 5)] * 4]


def test_ids_of_other_programs_are_read_beside_ours(rig: Rig):
    each = {"site_id": "site", "event_type": "click", "user_id": "anna", "timestamp": as_datetime(BASE)}
    rig.store(*({**each, "_id": key} for key in (UUID(int=1), "7", ObjectId(), 8)))
    assert len(rig.rows(Interval(BASE, BASE + DAY))) == 4
    assert rig.builder.build("site", "hour", interval_of("hour", BASE))
