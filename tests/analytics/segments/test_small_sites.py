"""Small sites that are built together have the segments that they have alone, and keep every guarantee. With a real
MongoDB.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analytics.events.columns import EventsOfSites, RawEvents
from analytics.events.page_patterns import PathRules
from analytics.interval import DAY, HOUR, MINUTE, as_ms, interval_of
from analytics.segments import builder as segmenting
from analytics.segments import small_sites
from analytics.segments.small_sites import SmallSites
from analytics.segments.store import Segment, SegmentStore
from analytics.segments.wide_props import LARGE
from analytics.unavailable import Unavailable
from tests.analytics.segments.test_segment_store import MONTH, NOON, event
from tests.analytics.segments.test_segments import Rig, rig

__all__ = ["rig"]

SITES = ["a", "b", "c"]
ALL = 10**6  # events


def store(rig: Rig, site_id: str, *minutes: int, **fields: Any) -> None:
    events = [event(NOON + minute * MINUTE, site_id=site_id, **fields) for minute in minutes]
    rig.events.insert_many(events)
    rig.dirty.mark([(site_id, as_ms(each["timestamp"])) for each in events], rig.now)


def small(rig: Rig, **parts: Any) -> SmallSites:
    return replace(SmallSites(rig.segments, rig.dirty, rig.builder.raw, lambda: rig.now), **parts)


def build(rig: Rig, **parts: Any) -> set[str]:
    return small(rig, **parts).build(SITES, MONTH, ALL, ALL)


def segments_of(rig: Rig, site_id: str) -> tuple[Segment, ...]:
    return rig.segments.manifest(site_id).segments


def rows_of(rig: Rig, site_id: str) -> list[Any]:
    (segment,) = segments_of(rig, site_id)
    return pq.read_table(rig.segments.fetch(segment)).to_pylist()


def test_sites_that_are_built_together_have_the_segments_that_they_have_alone(rig: Rig):
    store(rig, "a", 0, 0, 1, 40, 60 * 24 * 9, path="/Pricing", props={"plan": "pro"}, user_id="anna")
    store(rig, "b", 0, 0, 1, user_id="anna", source="newsletter", revenue={"amount": 5, "currency": "EUR"})
    store(rig, "b", 2, event_type="engagement", user_id="ben")
    store(rig, "c", *range(0, 600, 7), user_id=None)
    rig.segments.set_paths("a", PathRules(lowers=True), lambda *_: None)
    assert build(rig) == {*SITES}
    assert rig.dirty.all_of(SITES) == []
    together = {site_id: (segments_of(rig, site_id), rows_of(rig, site_id)) for site_id in SITES}
    assert together["a"][1][0]["page"] == "/pricing"
    rig.segments.forget(together["b"][0][0].version)
    assert rows_of(rig, "b") == together["b"][1], "a machine without the copy fetches the file"
    for site_id, (segments, rows) in together.items():
        assert rig.builder.build(site_id, "month", MONTH, from_raw=True)
        (alone,) = segments_of(rig, site_id)
        assert rows_of(rig, site_id) == rows
        varying = {"version": alone.version, "size": alone.size, "digest": alone.digest}
        assert [replace(segment, **varying) for segment in segments] == [alone]


def test_a_build_replaces_the_segments_of_the_month_and_keeps_the_others(rig: Rig):
    store(rig, "a", 0, 60, -60 * 24 * 40)
    for ms in (NOON, NOON + HOUR, NOON - 40 * DAY):
        assert rig.builder.build("a", "hour", interval_of("hour", ms))
    store(rig, "a", 5)
    assert build(rig) == {"a"}
    assert [(each.grain, each.rows) for each in segments_of(rig, "a")] == [("hour", 1), ("month", 3)]
    assert len(rig.events.database["segment_manifests"].find_one({"_id": "a"})["left"]) >= 2


def test_events_that_arrive_during_a_build_stay_dirty(rig: Rig):
    store(rig, "a", 0)
    store(rig, "b", 0)

    class Late(RawEvents):
        def read_sites(self, *args: Any) -> EventsOfSites:
            found = super().read_sites(*args)
            store(rig, "a", 0, 7)
            return found

    assert build(rig, raw=Late(rig.events.database)) == {"a", "b"}
    assert [each.site_id for each in rig.dirty.all_of(SITES)] == ["a"]
    assert build(rig) == {"a", "b"}
    assert segments_of(rig, "a")[0].rows == 3


def test_of_two_builders_the_slower_one_changes_nothing_and_the_other_sites_are_built(rig: Rig):
    for site_id in SITES:
        store(rig, site_id, 0)

    class Overtaken(RawEvents):
        def read_sites(self, *args: Any) -> EventsOfSites:
            found = super().read_sites(*args)
            rig.builder.build("b", "month", MONTH)
            store(rig, "b", 1)
            return found

    assert build(rig, raw=Overtaken(rig.events.database)) == {"a", "c"}
    assert [each.site_id for each in rig.dirty.all_of(SITES)] == ["b"]
    assert build(rig) == {*SITES}
    assert [segments_of(rig, site_id)[0].rows for site_id in SITES] == [1, 2, 1]


def test_a_site_that_another_process_builds_is_left_to_it(rig: Rig):
    for site_id in SITES:
        store(rig, site_id, 0)
    with rig.segments.leases(["b", "other"], lambda: rig.now) as ours:
        assert ours == ["b", "other"]
        assert build(rig) == {"a", "c"}
        with rig.segments.leases(["a", "b"], lambda: rig.now) as theirs:
            assert theirs == ["a"]
    assert build(rig) == {*SITES}


class Dies(SegmentStore):
    def replace_all(self, changes: Any, now: datetime) -> set[str]:
        super().replace_all(changes[:1], now)
        raise Unavailable("mongodb", TimeoutError())


def test_a_builder_that_dies_between_two_sites_leaves_none_that_counts_wrongly(rig: Rig):
    for site_id in SITES:
        store(rig, site_id, 0, 1)
    with pytest.raises(Unavailable):
        build(rig, segments=Dies(rig.events.database, rig.segments.folder, 10**9))
    assert sum(len(segments_of(rig, site_id)) for site_id in SITES) == 1
    assert {each.site_id for each in rig.dirty.all_of(SITES)} == {*SITES}, "all are read from raw events"
    assert build(rig) == set(), "the lease of the dead builder"
    rig.now += timedelta(seconds=61)
    assert build(rig) == {*SITES}
    assert [segments_of(rig, site_id)[0].rows for site_id in SITES] == [2, 2, 2]
    assert rig.segments.collect(datetime.now(UTC) + timedelta(minutes=13)) == 3
    assert [len(rows_of(rig, site_id)) for site_id in SITES] == [2, 2, 2]


def test_sites_with_many_or_large_events_are_left_for_a_build_of_their_own(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    store(rig, "a", 0, 1)
    store(rig, "b", 0, props={"text": "x" * 2 * LARGE})
    store(rig, "c", *range(50))
    assert small(rig).build(SITES, MONTH, ALL, 49) == {"a"}
    store(rig, "a", 2)
    assert small(rig).build(SITES, MONTH, 1, 49) == set(), "reading what is in segments again is slow"
    monkeypatch.setattr(small_sites, "MOST_TOGETHER", 1)
    monkeypatch.setattr("analytics.events.columns._AT_ONCE", 2)
    assert build(rig) == set(), "MongoDB may have more events of the only site that was read"
    assert rig.builder.build_due() == 0
    rig.now += timedelta(minutes=10)
    assert rig.builder.build_due() == 3
    assert [segments_of(rig, site_id)[0].rows for site_id in SITES] == [3, 1, 50]


def test_as_many_sites_as_fit_are_read_whole(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    for site_id in SITES:
        store(rig, site_id, *range(5))
    monkeypatch.setattr(small_sites, "MOST_TOGETHER", 1)
    monkeypatch.setattr("analytics.events.columns._AT_ONCE", 12)
    assert build(rig) == {"a", "b"}
    monkeypatch.setattr("analytics.events.columns._AT_ONCE", 15)
    assert build(rig) >= {"a", "b"}


def test_documents_of_another_program_are_read_beside_others(rig: Rig):
    store(rig, "a", 0, 0, 1, user_id="anna")
    store(rig, "b", 1, 1, path=5, user_id="anna")
    assert build(rig) == {"a", "b"}
    assert [[row["tie"] for row in rows_of(rig, site_id)] for site_id in ("a", "b")] == [[0, 1, 0], [0, 1]]


def test_an_error_that_one_site_causes_is_not_an_error_of_the_others(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    for site_id in SITES:
        store(rig, site_id, 0)
    make: Callable[..., Any] = small_sites.small_files

    def failing(*args: Any) -> Any:
        raise pa.ArrowInvalid

    monkeypatch.setattr(small_sites, "small_files", failing)
    rig.now += timedelta(minutes=10)
    assert rig.builder.build_due() == 3, "each alone"
    monkeypatch.setattr(small_sites, "small_files", make)
    assert build(rig) == {*SITES}


def test_the_backfill_builds_small_sites_together_and_the_others_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(segmenting, "SMALL", 3)
    for site_id, number in zip(SITES, (1, 5, 3), strict=True):
        rig.events.insert_many(event(NOON + n, site_id=site_id) for n in range(number))
        rig.backfill.add(site_id, [MONTH])
    assert ("b", MONTH) in [(past.site_id, past.month) for past in rig.backfill.all_left()]
    assert rig.builder.build_due(until=rig.now) == 2
    assert [past.site_id for past in rig.backfill.all_left()] == ["b"]
    assert rig.builder.build_due() == 1
    assert rig.backfill.all_left() == []
    assert [segments_of(rig, site_id)[0].rows for site_id in SITES] == [1, 5, 3]
