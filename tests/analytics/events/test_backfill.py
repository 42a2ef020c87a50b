"""Events that are older than the first segment: a report includes them before a segment does, and afterwards."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pymongo.database import Database

from analytics.events.backfill import Backfill
from analytics.events.columns import RawEvents
from analytics.interval import DAY, HOUR, MINUTE, Interval, as_datetime, as_ms, interval_of
from analytics.segments import builder as segmenting
from analytics.segments import derivation as deriving
from analytics.segments import segment_rows
from analytics.segments.builder import Builder
from analytics.segments.small_sites import SmallSites
from analytics.unavailable import Unavailable
from tests.analytics.segments.test_segment_store import event
from tests.analytics.segments.test_segments import BASE, Rig, document, expected

AUGUST, OCTOBER = (as_ms(datetime(2026, month, 15, 12, tzinfo=UTC)) for month in (8, 10))


@pytest.fixture
def old(database: Database[dict[str, Any]]) -> Database[dict[str, Any]]:
    """A database with events of two sites and three months, and nothing else."""
    database["events"].create_index([("site_id", 1), ("timestamp", 1)], name="site_time")
    database["events"].insert_many([
        *(event(AUGUST + n * MINUTE) for n in range(5)),
        *(event(OCTOBER + n * MINUTE) for n in range(10)),
        *(event(OCTOBER + n * MINUTE, site_id="other") for n in range(3)),
    ])  # fmt: skip
    return database


ALL = Interval(AUGUST - 60 * DAY, OCTOBER + 60 * DAY)


def test_sites_and_months_are_found_by_the_index(old: Database[dict[str, Any]]):
    raw = RawEvents(old)
    assert list(raw.sites()) == ["other", "site"]
    assert raw.months("site") == [interval_of("month", AUGUST), interval_of("month", OCTOBER)]
    assert raw.months("nobody") == []


def test_old_months_are_read_before_any_build_and_after_one_build(old: Database[dict[str, Any]], tmp_path: Path):
    rig = Rig(old, tmp_path)
    before = rig.rows(ALL)
    assert len(before) == 15
    assert rig.builder.build_due() == 3
    assert rig.backfill.is_done()
    assert [s.rows for s in rig.segments.manifest("site").segments] == [5, 10]
    assert [row[:12] for row in rig.rows(ALL)] == [row[:12] for row in before]
    assert rig.builder.build_due() == 0


def test_a_builder_that_died_continues_where_it_stopped_with_the_newest_month_first(
    old: Database[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(segmenting, "SITES_AT_ONCE", 1)
    rig = Rig(old, tmp_path)
    assert rig.builder.build_due(until=rig.now) == 1, "one at least"
    past = rig.backfill.all_left()[0]
    # The process crashes after this build, before it records the build.
    rig.builder.build(past.site_id, "month", past.month, from_raw=True)
    assert [len(rig.rows(ALL)), past.month] == [15, interval_of("month", OCTOBER)]
    assert rig.builder.build_due() == 2
    assert len(rig.rows(ALL)) == 15


def test_new_events_between_old_ones_are_read_once_at_any_time(old: Database[dict[str, Any]], tmp_path: Path):
    rig = Rig(old, tmp_path)
    rig.store(event(OCTOBER + 30_000), event(OCTOBER + 40 * MINUTE))
    assert len(rig.rows(ALL)) == 17
    rig.builder.build("site", "hour", interval_of("hour", OCTOBER))  # only of what was marked
    assert len(rig.rows(ALL)) == 17
    rig.builder.build_due()
    assert len(rig.rows(ALL)) == 17
    rig.store(event(OCTOBER + 41 * MINUTE))
    assert len(rig.rows(ALL)) == 18


def test_too_many_old_events_are_refused_instead_of_answered_wrongly(old: Database[dict[str, Any]], tmp_path: Path):
    rig = Rig(old, tmp_path)
    assert len(rig.rows(Interval(OCTOBER - HOUR, OCTOBER + HOUR), most_fresh=10)) == 10
    with pytest.raises(Unavailable, match="still building segments, and more than"):
        rig.rows(ALL, most_fresh=14)
    rig.builder.build_due()
    assert len(rig.rows(ALL, most_fresh=14)) == 15


def test_a_new_database_needs_no_backfill_and_an_old_one_does_even_if_checked_later(old: Database[dict[str, Any]]):
    backfill = Backfill(old)
    backfill.note_if_there_is_none()
    assert not backfill.is_done()
    old["events"].delete_many({})
    backfill.note_if_there_is_none()
    assert backfill.is_done()
    assert backfill.left("site") == []
    assert backfill.all_left() == []


@pytest.mark.parametrize("seed", range(4))
def test_visits_across_old_and_new_events_are_whole(
    database: Database[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
):
    monkeypatch.setattr(segment_rows, "RAW_IN_MEMORY", 1_000)
    monkeypatch.setattr(segment_rows, "MOST_UNFINISHED", 10_000 * (seed % 2))  # for odd seeds, by DuckDB
    monkeypatch.setattr(deriving, "_IN_MEMORY", 1_000)
    monkeypatch.setattr(deriving, "_PART", 10)  # events, so that visits are derived in several parts
    monkeypatch.setattr(SmallSites, "build", lambda *_: set())  # each site alone
    chance = random.Random(seed)
    documents = [document(chance) for _ in range(80)]
    database["events"].insert_many([dict(each) for each in documents[:50]])
    rig = Rig(database, tmp_path)
    rig.store(*documents[50:65])
    for step in range(4):
        for _ in range(4):
            start = BASE + DAY + chance.randrange(2 * DAY)
            period = Interval(start, start + chance.randrange(1, 6 * HOUR))
            assert {row[:12] for row in rig.rows(period)} == expected(documents[: 65 + 5 * step], period), step
        if step == 3:
            break
        rig.store(*documents[65 + 5 * step : 70 + 5 * step])
        rig.builder.build_due(until=as_datetime(0))
    rig.builder.build_due()
    assert rig.backfill.is_done()


def test_a_month_that_cannot_be_built_does_not_stop_the_others(
    old: Database[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rig = Rig(old, tmp_path)
    build = Builder.build

    def failing(self: Builder, site_id: str, *rest: Any, **more: Any) -> bool:
        if site_id == "site":
            raise duckdb.OutOfMemoryException
        return build(self, site_id, *rest, **more)

    monkeypatch.setattr(SmallSites, "build", lambda *_: set())  # each site alone
    monkeypatch.setattr(Builder, "build", failing)
    assert rig.builder.build_due() == 1
    assert not rig.backfill.is_done()
    monkeypatch.undo()
    rig.now += timedelta(seconds=61)
    assert rig.builder.build_due() == 2
    assert len(rig.rows(ALL)) == 15
