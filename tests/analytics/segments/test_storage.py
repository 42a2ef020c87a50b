"""Segments outside MongoDB, also if the storage does not answer, the setting changes, or a backup is restored."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pymongo.database import Database

from analytics.interval import as_ms, interval_of
from analytics.segments.files import SegmentFiles, StoredFile
from analytics.segments.restoration import rebuild_files_outside
from analytics.segments.storage import SegmentStorage
from analytics.segments.store import SegmentStore, new_id
from analytics.unavailable import Unavailable
from config.settings import Settings
from footfall.process_checks import settings_segments
from report_app import create_app
from tests.analytics.segments.test_segments import Rig
from tests.support.s3 import s3_bucket
from tests.support.services import make_services

NOON = datetime(2026, 10, 15, 12, tzinfo=UTC)
MONTH = interval_of("month", as_ms(NOON))
REFUSING = "s3://key:secret@bucket/x?endpoint_override=127.0.0.1:1&scheme=http&region=us-east-1"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_bucket("one/two") as url:
        yield url


@pytest.fixture(params=["folder", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "shared") if request.param == "folder" else request.getfixturevalue("s3")


@pytest.fixture
def rig(database: Database[dict[str, Any]], tmp_path: Path, url: str) -> Iterator[Rig]:
    rig = Rig(database, tmp_path, SegmentStorage(url))
    yield rig
    rig.connection.close()


def store(rig: Rig, user_id: str = "ann") -> None:
    event = {"site_id": "site", "event_type": "pageview", "path": "/", "user_id": user_id, "timestamp": NOON}
    rig.store(event | {"_id": uuid4()})


def build(rig: Rig) -> None:
    assert rig.builder.build("site", "month", MONTH)


def other_host(rig: Rig, folder: Path, storage: SegmentStorage | None) -> SegmentStore:
    return SegmentStore(rig.events.database, folder / "other host", 10**9, storage)


def test_hosts_share_only_mongodb_and_the_storage(rig: Rig, tmp_path: Path, url: str):
    store(rig)
    build(rig)
    (segment,) = rig.segments.manifest("site").segments
    copy = other_host(rig, tmp_path, SegmentStorage(url)).fetch(segment)
    assert copy.read_bytes() == rig.segments.fetch(segment).read_bytes()
    assert rig.events.database["segments.chunks"].count_documents({}) == 0


def test_hosts_may_check_the_storage_at_the_same_moment(url: str):
    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(SegmentStorage(url).probe) for _ in range(64)]:
            each.result()


def test_a_removed_file_is_gone_from_the_storage(rig: Rig, tmp_path: Path):
    store(rig)
    build(rig)
    (segment,) = rig.segments.manifest("site").segments
    rig.events.delete_many({})
    build(rig)
    assert rig.segments.collect(datetime.now(UTC) + timedelta(minutes=11)) == 1
    assert not rig.storage.read(segment.version, BytesIO())
    assert rig.segments.versions("site") == []
    assert not any(rig.segments.folder.glob("*.parquet"))


class Dies(SegmentStorage):
    def write(self, *args: Any) -> None:
        super().write(*args)
        _ = 1 / 0


def test_a_file_whose_writer_died_is_removed_a_day_later(rig: Rig, tmp_path: Path, url: str):
    version = new_id().hex
    content = tmp_path / "content"
    content.write_bytes(b"x" * 10)
    files = SegmentFiles(rig.events.database, Dies(url))
    with pytest.raises(ZeroDivisionError):
        files.add(StoredFile(version, "site", 1), content)
    assert rig.segments.versions("site") == []
    assert rig.segments.collect(datetime.now(UTC) + timedelta(hours=1)) == 0
    assert rig.storage.read(version, BytesIO())
    rig.segments.collect(datetime.now(UTC) + timedelta(days=2))
    assert not rig.storage.read(version, BytesIO())
    assert rig.events.database["segments.files"].count_documents({}) == 0


def test_files_in_mongodb_stay_readable_after_the_storage_was_set(rig: Rig, tmp_path: Path, url: str):
    before = Rig(rig.events.database, tmp_path / "before")
    before.connection.close()
    store(before)
    build(before)
    assert len(rig.rows(MONTH)) == 1
    store(rig, "ben")
    build(rig)
    assert rig.segments.collect(datetime.now(UTC) + timedelta(minutes=11)) == 1
    assert rig.events.database["segments.chunks"].count_documents({}) == 0
    assert len(rig.rows(MONTH)) == 2


def test_a_host_without_the_setting_says_so(rig: Rig, tmp_path: Path):
    store(rig)
    build(rig)
    (segment,) = rig.segments.manifest("site").segments
    with pytest.raises(Unavailable, match="set SEGMENT_STORAGE on this host"):
        other_host(rig, tmp_path, None).fetch(segment)


def test_an_unreachable_storage_loses_nothing_and_copies_are_still_read(
    database: Database[dict[str, Any]], tmp_path: Path, s3: str
):
    rig = Rig(database, tmp_path, SegmentStorage(s3))
    store(rig)
    build(rig)
    away = Rig(database, tmp_path, SegmentStorage(REFUSING))  # with the same local copies
    store(away, "ben")
    with pytest.raises(Unavailable, match="segment storage is unavailable"):
        build(away)
    assert len(away.rows(MONTH)) == 2, "the copy and the raw event"
    (segment,) = away.segments.manifest("site").segments
    with pytest.raises(Unavailable, match="segment storage is unavailable"):
        other_host(away, tmp_path, SegmentStorage(REFUSING)).fetch(segment)
    build(rig)
    assert len(rig.rows(MONTH)) == 2
    assert rig.dirty.of_site("site") == []
    for each in (rig, away):
        each.connection.close()


def test_a_report_says_503_if_the_storage_does_not_answer(
    database: Database[dict[str, Any]], settings: Settings, tmp_path: Path, s3: str
):
    rig = Rig(database, tmp_path, SegmentStorage(s3))
    store(rig)
    build(rig)
    cold = replace(settings, segment_storage=REFUSING, segment_dir=str(tmp_path / "cold"))
    services = make_services(cold, database=database)
    answer = (
        create_app(cold, services)
        .test_client()
        .get("/stats?site_id=site", headers={"Authorization": f"Bearer {settings.admin_key}"})
    )
    services.close()
    rig.connection.close()
    assert answer.status_code == 503
    assert "SEGMENT_STORAGE is not reachable" in answer.get_data(as_text=True)


def test_a_restored_system_builds_again_what_was_outside(rig: Rig, database: Database[dict[str, Any]]):
    store(rig)
    build(rig)
    (old,) = rig.segments.manifest("site").segments
    rebuild_files_outside(database)
    rebuild_files_outside(database)
    assert rig.segments.manifest("site").segments == ()
    restored = Rig(database, rig.segments.folder.parent, rig.storage)
    assert len(restored.rows(MONTH)) == 1, "from the events"
    assert restored.builder.build_due() == 1
    (new,) = restored.segments.manifest("site").segments
    assert new.version != old.version
    assert len(restored.rows(MONTH)) == 1
    assert rig.storage.read(old.version, BytesIO()), "the system that was backed up may still use it"
    restored.connection.close()


def test_the_doctor_says_whether_the_storage_can_be_written(settings: Settings, url: str):
    assert settings_segments(settings).state == "ok"
    assert settings_segments(replace(settings, segment_storage=url)).state == "ok"
    found = settings_segments(replace(settings, segment_storage=REFUSING))
    assert (found.state, "SEGMENT_STORAGE" in found.remedy) == ("problem", True)
    assert "secret" not in found.what
