"""`python -m footfall segments`: correct segments pass, each fault is found, and a rebuild repairs it."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner, Result
from pymongo.database import Database

from analytics.events.backfill import Backfill, Past
from analytics.events.columns import RawEvents
from analytics.interval import DAY, HOUR, MINUTE, Interval, as_datetime, as_ms, interval_of
from analytics.segments.builder import Builder, apply_path_rules, due_at, rebuild
from analytics.segments.engine import Segments
from analytics.segments.verification import Verified, months_of, verify
from analytics.sites.site import Site as SiteSettings
from config.settings import Settings
from footfall.segments import segments_group
from tests.analytics.segments.test_segment_store import MONTH, NOON, event
from tests.analytics.segments.test_segments import BASE, document
from tests.support.services import make_services


class Site:
    """A site whose events are stored and marked as a worker does."""

    def __init__(self, database: Database[dict[str, Any]], segments: Segments) -> None:
        self.events = database["events"]
        self.segments = segments

    def store(self, *documents: dict[str, Any]) -> None:
        self.events.insert_many([dict(document) for document in documents])
        moments = [("site", as_ms(document["timestamp"])) for document in documents]
        self.segments.dirty.mark(moments, datetime.now(UTC) - timedelta(minutes=10))

    def verify(self) -> list[Verified]:
        return list(verify(self.segments, "site", months_of(self.segments, "site"), 50_000))


@pytest.fixture
def site(database: Database[dict[str, Any]], settings: Settings) -> Site:
    segments = make_services(settings, database=database).segments
    segments.backfill.note_if_there_is_none()
    return Site(database, segments)


@pytest.mark.parametrize("seed", range(3))
def test_segments_built_in_any_way_are_verified_as_correct(site: Site, seed: int):
    chance = random.Random(seed)
    for _ in range(3):
        site.store(*(document(chance) for _ in range(40)))
        site.segments.builder.build("site", "day", interval_of("day", BASE + chance.randrange(4 * DAY)))
        assert [found.differences for found in site.verify()] == [(), ()]
    site.segments.builder.build_due()
    assert sum(found.events for found in site.verify()) == 120


def test_an_event_that_was_never_marked_is_found_and_repaired(site: Site, command: "Command"):
    site.store(event(NOON), event(NOON + HOUR, user_id="ben"))
    site.segments.builder.build_due()
    assert command("verify").exit_code == 0
    site.events.insert_one(event(NOON + HOUR + MINUTE, user_id="carl", path="/unmarked"))
    (found,) = site.verify()
    assert [(d.hour, d.stored, d.read) for d in found.differences] == [(NOON + HOUR, 2, 1)]
    said = command("verify", "--site", "site")
    assert said.exit_code == 1
    assert "python -m footfall segments rebuild --site site --from 2026-10 --to 2026-10" in said.output
    said = command("rebuild", "--site", "site", "--from", "2026-10", "--to", "2026-10")
    assert "3 events in" in said.output
    assert command("verify").exit_code == 0


@pytest.mark.parametrize("change", [{"path": "/b"}, {"user_id": "ben"}, {"props": {"a": 1}}, {"interactive": False}])
def test_a_changed_event_is_found_in_every_column(site: Site, change: dict[str, Any]):
    first = event(NOON, props={"a": 2}, source="x")
    site.store(first, event(NOON + MINUTE, event_type="click"))
    site.segments.builder.build_due()
    site.events.update_one({"_id": first["_id"]}, {"$set": change})
    assert [len(found.differences) for found in site.verify()] == [1]


def test_a_lost_segment_is_found(site: Site, command: "Command"):
    site.store(event(NOON))
    site.segments.builder.build_due()
    (segment,) = site.segments.store.manifest("site").segments
    site.segments.store.files.remove(segment.version)
    site.segments.store.forget(segment.version)
    said = command("verify")
    assert said.exit_code == 1
    assert "is lost" in said.output
    assert command("rebuild").exit_code == 0
    assert command("verify").exit_code == 0


def test_a_month_whose_events_are_gone_loses_its_segments(site: Site, command: "Command"):
    site.store(event(NOON))
    site.segments.builder.build_due()
    site.events.delete_many({})
    assert command("verify").exit_code == 1
    assert "no events, segments deleted" in command("rebuild").output
    assert "hour" not in command("list").output
    assert command("verify").exit_code == 0


def test_events_that_arrive_during_the_verification_are_no_difference(site: Site):
    chance, stop = random.Random(1), threading.Event()
    site.store(*(event(NOON + n * MINUTE, user_id=f"{n % 7}") for n in range(60)))
    site.segments.builder.build_due()
    writer = make_segments_of(site)

    def write() -> None:
        while not stop.wait(0.02):
            writer.store(event(NOON + chance.randrange(HOUR), user_id=f"{chance.randrange(7)}"))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert [found.differences for found in site.verify()] == [()]
    finally:
        stop.set()
        thread.join()
    assert [found.differences for found in site.verify()] == [()]


def make_segments_of(site: Site) -> Site:
    return Site(site.events.database, site.segments)


def test_a_visit_that_lasts_for_days_is_compared_whole(site: Site):
    steps = range(0, 5 * DAY, 29 * MINUTE)
    site.store(*(event(MONTH.end - 3 * DAY + step, path=f"/{step}") for step in steps))
    site.segments.builder.build("site", "month", MONTH)
    site.segments.builder.build_due()
    assert [found.differences for found in site.verify()] == [(), ()]


def test_the_list_has_a_line_for_each_segment(site: Site, command: "Command"):
    site.store(event(NOON))
    site.segments.builder.build("site", "hour", interval_of("hour", NOON))
    line = command("list").output.splitlines()[1].split()
    assert line[:4] == ["hour", "2026-10-15", "12:00", "1"]
    assert line[-1] == "site"
    assert UUID(site.segments.store.manifest("site").segments[0].version).version == 7
    assert due_at(as_datetime(NOON)).over < as_datetime(NOON)


@pytest.mark.usefixtures("usual_limits")
def test_an_unreachable_database_is_reported_in_one_line(settings: Settings, tmp_path: Any):
    away = replace(settings, mongodb_uri="mongodb://127.0.0.1:1/x", segment_dir=str(tmp_path))
    for name in ("list", "verify", "rebuild"):
        said = CliRunner().invoke(segments_group, [name], obj=away)
        assert said.exit_code == 2
        assert "footfall: MongoDB does not answer at 127.0.0.1:1: the connection was refused." in said.output


class Command:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __call__(self, *words: str) -> Result:
        return CliRunner().invoke(segments_group, list(words), obj=self.settings, catch_exceptions=False)


@pytest.fixture
def command(settings: Settings) -> Command:
    return Command(settings)


def test_overlapping_intervals_have_an_intersection():
    assert Interval(0, 10).intersection(Interval(5, 20)) == Interval(5, 10)


def test_stored_pages_follow_the_rules_when_they_are_applied_and_return_without_rules(
    site: Site, command: Command, settings: Settings, database: Database[dict[str, Any]]
):
    sites, segments = make_services(settings, database=database).sites, site.segments
    old = NOON - 40 * DAY

    def shown() -> dict[str, int]:
        rows = [event for month in months_of(segments, "site") for event in pages_in(segments, month)]
        return dict(sorted(Counter(rows).items()))

    stored = {"/User/1": 1, "/user/2": 2, "/user/2/": 1}
    ruled = {"/user/:id": 4}
    site.store(event(old, path="/User/1"), event(old + HOUR, path="/user/2"))
    segments.builder.build_due()
    site.store(event(NOON, path="/user/2"), event(NOON + MINUTE, path="/user/2/"))
    sites.put(SiteSettings("site", path_rules=("/user/:id",), path_case="lower", trailing_slash="drop"))
    assert shown() == stored
    assert [command("verify").exit_code for _ in range(2)] == [0, 0]
    for _ in range(2):
        assert command("apply-path-rules", "site").exit_code == 0
        assert shown() == ruled
        assert command("verify").exit_code == 0
        assert not segments.backfill.of_sites()
    site.store(event(NOON + 2 * MINUTE, path="/USER/3"))
    assert shown() == {"/user/:id": 5}, "events that no segment has follow the rules too"
    assert database["events"].count_documents({"path": "/User/1"}) == 1
    sites.put(SiteSettings("site"))
    assert shown() == {"/user/:id": 5}
    assert command("apply-path-rules", "site").exit_code == 0
    assert shown() == dict(sorted({**stored, "/USER/3": 1}.items()))
    assert command("verify").exit_code == 0


def test_a_build_that_began_under_the_rules_of_before_changes_nothing(site: Site):
    site.store(event(NOON, path="/user/1"))
    month = interval_of("month", NOON)
    rules = SiteSettings("site", path_rules=("/user/:id",))
    raw = site.segments.raw

    class Interrupted(RawEvents):
        """The rules are applied while the events are read."""

        def read(self, *args: Any, **kwargs: Any) -> Any:
            apply_path_rules(site.segments.builder, rules, [month])
            return raw.read(*args, **kwargs)

    builder = replace(site.segments.builder, raw=Interrupted(site.events.database))
    assert not builder.build("site", "month", month, from_raw=True)
    assert [past.month for past in site.segments.backfill.all_left()] == [month]
    site.segments.builder.build_due()
    assert pages_in(site.segments, month) == ["/user/:id"]
    assert not site.segments.backfill.of_sites()


@pytest.mark.parametrize(
    "build", [lambda builder: builder.build_due(), lambda builder: [*rebuild(builder, "site", [MONTH])]]
)
def test_a_month_that_is_listed_again_after_it_was_built_is_built_again(site: Site, build: Callable[[Builder], object]):
    site.store(event(NOON, path="/user/1"))
    site.segments.backfill.add("site", [MONTH])
    rules = SiteSettings("site", path_rules=("/user/:id",))

    class Interrupted(Backfill):
        """The rules are applied before the builder notes that the month is built."""

        def finish(self, *past: Past) -> None:
            apply_path_rules(site.segments.builder, rules, [MONTH])
            super().finish(*past)

    build(replace(site.segments.builder, backfill=Interrupted(site.events.database)))
    assert pages_in(site.segments, MONTH) == ["/user/1"]
    assert site.segments.backfill.listed("site") == [MONTH]
    site.segments.builder.build_due()
    assert pages_in(site.segments, MONTH) == ["/user/:id"]
    assert not site.segments.backfill.listed("site")


def test_rules_that_are_applied_list_the_months_to_build_at_the_same_moment(site: Site):
    """A process that dies in between would leave months that no worker builds under the new rules."""
    site.store(event(NOON, path="/user/1"))
    assert site.segments.builder.build("site", "month", MONTH)
    rules = SiteSettings("site", path_rules=("/user/:id",))

    class Killed(BaseException): ...

    class Dying(Backfill):
        def add_within(self, *_: Any) -> None:
            raise Killed

    with pytest.raises(Killed):
        apply_path_rules(replace(site.segments.builder, backfill=Dying(site.events.database)), rules, [MONTH])
    site.store(event(NOON + HOUR, path="/user/2"))
    assert pages_in(site.segments, MONTH) == ["/user/1", "/user/2"]
    assert site.segments.store.manifest("site").paths != rules.rules_for_paths()
    apply_path_rules(site.segments.builder, rules, [MONTH])
    site.segments.builder.build_due()
    assert pages_in(site.segments, MONTH) == ["/user/:id", "/user/:id"]


def test_a_month_that_gets_its_first_segment_while_rules_are_applied_follows_them(site: Site):
    """The months were found before the segment was built."""
    rules = SiteSettings("site", path_rules=("/user/:id",))
    months = months_of(site.segments, "site")
    site.store(event(NOON, path="/user/1"))
    assert site.segments.builder.build("site", "day", interval_of("day", NOON))
    apply_path_rules(site.segments.builder, rules, months)
    assert site.segments.backfill.listed("site") == [MONTH]
    site.segments.builder.build_due()
    assert pages_in(site.segments, MONTH) == ["/user/:id"]


def test_months_that_are_to_be_built_under_new_rules_are_no_fault(site: Site, command: Command):
    """A visit crosses the end of the month, so the month before differs too."""
    site.store(event(MONTH.end - MINUTE, path="/user/1"), event(MONTH.end + MINUTE, path="/user/2"))
    while site.segments.builder.build_due():
        pass  # a month of a small site each time
    apply_path_rules(
        site.segments.builder, SiteSettings("site", path_rules=("/user/:id",)), months_of(site.segments, "site")
    )
    assert [*rebuild(site.segments.builder, "site", [MONTH])]
    assert [(found.waits, len(found.differences)) for found in site.verify()] == [(True, 1), (True, 1)]
    said = command("verify")
    assert said.exit_code == 0
    assert said.output.count("1 hours differ until it is built again") == 2
    assert "agree" not in said.output
    site.segments.builder.build_due()
    assert "Segments and events agree." in command("verify").output
    site.events.insert_one(event(MONTH.end + HOUR))
    assert command("verify").exit_code == 1


def pages_in(segments: Segments, month: Interval) -> list[str]:
    """The pages that a report of the month reads, with and without visits."""
    found = []
    for visits in (False, True):
        with closing(segments.connect()) as connection:
            rows = segments.reader.open(connection, "site", month, 50_000, visits=visits).rows(month, ["page"])
            found.append(sorted(page for (page,) in connection.execute(rows.text, rows.values).fetchall()))
    assert found[0] == found[1]
    return found[0]
