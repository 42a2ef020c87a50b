"""The archive of past days, in a folder and in S3-compatible storage."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pytest

from analytics.archive.archiver import Archived, Archiver
from analytics.archive.folder import ArchivedDay, ArchiveFolder
from analytics.events.schema import load_event
from analytics.interval import as_ms, interval_of
from analytics.journal.journal import Line
from analytics.pipeline import store_waiting
from analytics.privacy.visitor import Visitor
from analytics.store_notes import state_of
from analytics.unavailable import Unavailable
from config.services import Services
from tests.support.running_system import wait_for
from tests.support.s3 import s3_bucket
from tests.support.services import NOW

SITE = "a/shop =1"  # a name that a folder cannot have
Days = dict[str, int]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of a bucket."""
    with s3_bucket("archives/one") as url:
        yield url


@pytest.fixture(params=["folder", "s3"])
def archiver(request: pytest.FixtureRequest, services: Services, tmp_path: Path) -> Archiver:
    url = str(tmp_path / "archive") if request.param == "folder" else request.getfixturevalue("s3")
    folder = ArchiveFolder(url)
    for site_id in folder.sites():  # of the test before
        for each in folder.days(site_id):
            folder.remove(each)
    return replace(services.archiver, folder=folder)


@pytest.fixture
def local(services: Services, tmp_path: Path) -> Archiver:
    return replace(services.archiver, folder=ArchiveFolder(str(tmp_path / "archive")))


def send(services: Services, *days: int, user: str = "ann", site_id: str = SITE) -> None:
    """Stores an event on each of these days of November, and builds segments of the days."""
    body = {"site_id": site_id, "event_type": "pageview", "user_id": user, "url": "https://shop.example/a?b"}
    times = [datetime(2026, 11, day, 10, 30, tzinfo=UTC) for day in days]
    services.journal.append([Line.of(load_event(body | {"timestamp": at.isoformat()}, NOW)) for at in times])
    while services.journal.waiting():
        store_waiting(services.stores, "task")
    for at in set(times):
        services.segments.builder.build(site_id, "day", interval_of("day", as_ms(at)))


def files(archiver: Archiver, site_id: str = SITE) -> list[int]:
    return [each.day.day for each in archiver.folder.days(site_id)]


def rows(archiver: Archiver, copies: Path) -> Counter[tuple[str, date]]:
    """What DuckDB counts by the columns that are in the names of the folders."""
    for site_id in archiver.folder.sites():
        for each in archiver.folder.days(site_id):
            (copies / each.folder).mkdir(parents=True, exist_ok=True)
            archiver.folder.copy(each, copies / each.file)
    found = duckdb.sql(f"""
        SELECT site_id, date, count(*) FROM read_parquet('{copies}/*/*/*.parquet', hive_partitioning = true)
        WHERE "timestamp"::date = date GROUP BY ALL""").fetchall()
    return Counter({(site_id, day): count for site_id, day, count in found})


def test_past_days_are_files_that_duckdb_reads_by_site_and_date(archiver: Archiver, services: Services, tmp_path: Path):
    send(services, 19, 19, 21, 22)
    send(services, 20, site_id="blog")
    assert archiver.run() == Archived(written=3)
    assert (archiver.folder.sites(), files(archiver), files(archiver, "blog")) == ([SITE, "blog"], [19, 21], [20])
    expected = {(SITE, date(2026, 11, 19)): 2, (SITE, date(2026, 11, 21)): 1, ("blog", date(2026, 11, 20)): 1}
    assert rows(archiver, tmp_path / "copies") == expected
    assert archiver.run() == Archived(), "nothing changed"


def test_late_events_reach_the_archive_and_erased_visitors_leave_it(
    archiver: Archiver, services: Services, tmp_path: Path
):
    send(services, 19, 20, 21)
    send(services, 21, user="bob")
    assert archiver.run() == Archived(written=3)
    send(services, 19, user="bob")
    assert archiver.run() == Archived(written=1)
    services.eraser.erase(Visitor(SITE, user_id="ann"))
    wait_for(lambda: services.eraser.rewriter.rewrite_due() or not services.removals.is_rewrite_owed(), "new segments")
    assert archiver.run() == Archived(written=2, removed=1)
    assert rows(archiver, tmp_path / "copies") == {(SITE, date(2026, 11, 19)): 1, (SITE, date(2026, 11, 21)): 1}
    assert archiver.run() == Archived()


def test_a_day_waits_until_all_its_events_are_in_segments(local: Archiver, services: Services):
    send(services, 19, 20)
    services.segments.dirty.mark([(SITE, as_ms(datetime(2026, 11, 19, 3, tzinfo=UTC)))], NOW)
    assert local.run() == Archived(written=1)
    assert files(local) == [20]


def test_files_are_kept_for_some_days(local: Archiver, services: Services):
    send(services, 15, 19, 21)
    assert local.run() == Archived(written=3)
    brief = replace(local, kept_days=3)
    assert brief.run() == Archived(removed=1)
    assert (files(brief), brief.run()) == ([19, 21], Archived())


def test_a_new_system_does_not_replace_the_files_of_the_one_before(local: Archiver, services: Services, tmp_path: Path):
    local.folder.write(ArchivedDay(SITE, date(2026, 11, 19)), [b"of the system before"])
    send(services, 19, 20)
    assert local.run() == Archived(written=1, foreign=1)
    assert b"of the system before" in (tmp_path / "archive" / ArchivedDay(SITE, date(2026, 11, 19)).file).read_bytes()
    local.notes.note(SITE, [date(2026, 11, 19)])  # as a restore does
    assert local.run() == Archived(written=1)


def test_a_run_that_was_killed_within_a_file_is_continued(local: Archiver, services: Services):
    send(services, 19)

    def killed() -> Iterator[bytes]:
        yield b"a part"
        raise KeyboardInterrupt

    day = ArchivedDay(SITE, date(2026, 11, 19))
    local.notes.note(SITE, [day.day])
    with pytest.raises(KeyboardInterrupt):
        local.folder.write(day, killed())
    assert (files(local), local.run()) == ([], Archived(written=1))


def test_a_run_stops_in_time_and_leaves_out_sites_whose_segments_are_built(local: Archiver, services: Services):
    send(services, 19, 20)
    assert local.run(until=NOW) == Archived(written=1, is_done=False)
    with services.segments.store.lease(SITE, lambda: NOW):
        assert local.run() == Archived(busy=1)
    assert local.run() == Archived(written=1)
    services.segments.builder.build(SITE, "month", interval_of("month", as_ms(NOW)))
    assert local.run() == Archived(written=2), "a segment of the month replaced those of the days"


@pytest.mark.parametrize("url", ["/dev/null/archive", "s3://key:hidden@a bucket", "s3://key:hidden@bucket?no_option=1"])
def test_an_archive_that_cannot_be_used_is_named_without_its_secret(local: Archiver, services: Services, url: str):
    send(services, 19)
    with pytest.raises(Unavailable, match="archive is unavailable") as raised:
        replace(local, folder=ArchiveFolder(url)).run()
    assert "hidden" not in str(raised.value)
    assert state_of(services.database)["archive_failure"] == str(raised.value)
    local.run()
    noted = state_of(services.database)
    assert (noted["archive_failure"], noted["archived_at"]) == ("", NOW)
