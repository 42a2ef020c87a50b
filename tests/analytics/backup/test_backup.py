"""Backups of real stores, made between the steps of workers, and restored into other stores."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from pymongo.database import Database
from pymongo.errors import OperationFailure
from redis import Redis

from analytics.backup.archive import (
    DIGEST_FILE,
    MANIFEST_FILE,
    PARTIAL,
    SETTINGS_FILE,
    BackupError,
    BackupManifest,
    new_backup,
    read_documents,
    read_manifest,
)
from analytics.backup.backup import file_of, make_backup
from analytics.backup.restore import restore_backup
from analytics.events.event import id_from_client, new_id
from analytics.events.schema import load_journal_event
from analytics.events.store import INDEXES
from analytics.journal.audit import Audit, Audited, audit
from analytics.journal.checkpoint import Checkpoint, Checkpoints
from analytics.journal.dead_letters import LetterFilter
from analytics.journal.journal import JOURNAL_KEY
from analytics.journal.site_shares import HELD
from analytics.pipeline import store_waiting
from analytics.privacy.visitor import Visitor
from analytics.sites.site import Site
from analytics.store_notes import StoresNotReady
from analytics.unavailable import Unavailable
from analytics.visitors.salts import SALTS
from config.services import Services
from config.settings import Settings
from config.start_check import check_stores_before_start
from footfall.embedded_servers import mongo_server, pick_port
from ingest_app import create_app as create_ingest_app
from tests.support.described_client import described_client
from tests.support.running_system import running, wait_for
from tests.support.services import NOW, WakeUps, make_services

PAGE = {"site_id": "shop", "event_type": "pageview", "path": "/"}


@pytest.fixture
def other(settings: Settings) -> Settings:
    """The settings of another system, on the same servers."""
    return replace(
        settings,
        redis_url=settings.redis_url.removesuffix("/0") + "/1",
        mongodb_uri=settings.mongodb_uri.replace("/footfall?", "/restored?"),
    )


@pytest.fixture
def target(other: Settings, redis: Redis) -> Iterator[Services]:
    """The services of the other system, whose stores are empty."""
    with closing(make_services(other)) as services:
        services.database.client.drop_database("restored")
        yield services
        services.database.client.drop_database("restored")


@pytest.fixture
def target_ingest(other: Settings, target: Services) -> FlaskClient:
    return described_client(create_ingest_app(other, target, WakeUps()))


def post(ingest: FlaskClient, *numbers: int, **fields: Any) -> None:
    for n in numbers:
        answer = ingest.post("/event", json=PAGE | {"event_id": f"{n}", "user_id": f"user {n % 7}"} | fields)
        assert answer.status_code == 200


def store(services: Services) -> None:
    store_waiting(services.stores, "task")


def drain(services: Services) -> None:
    while services.journal.waiting():
        store(services)


def audited(services: Services) -> Audit:
    return audit(Audited(services.ledger, services.journal, services.events, services.dead_letters))


def back_up(services: Services, folder: Path, checkpoints: Checkpoints | None = None) -> BackupManifest:
    stores = replace(services.backup_stores, checkpoints=checkpoints or services.backup_stores.checkpoints)
    return make_backup(stores, folder, version="1", settings="APP_ENV='production'\n", wrote=lambda _: None)


def restore(folder: Path, target: Services, wrote: Callable[[int], object] = lambda _: None) -> None:
    restore_backup(folder, read_manifest(folder), target.backup_stores, wrote)


def ids(database: Database[dict[str, Any]]) -> set[Any]:
    return set(database["events"].distinct("_id"))


def ids_of(*numbers: int) -> set[Any]:
    return {id_from_client("shop", f"{n}") for n in numbers}


class Interrupted(Checkpoints):
    """Checkpoints after which something happens, before the snapshot of MongoDB."""

    def __init__(self, redis: Redis, *then: Callable[[], object]) -> None:
        super().__init__(redis)
        self._then = list(then)
        self.taken = 0

    def take(self) -> Checkpoint:
        checkpoint = super().take()
        self.taken += 1
        if self._then:
            self._then.pop(0)()
        return checkpoint


def test_a_restored_system_has_the_same_events_and_continues(
    ingest: FlaskClient, services: Services, target: Services, tmp_path: Path
):
    post(ingest, *range(30))
    post(ingest, 3)
    ingest.post("/event", json=PAGE | {"timestamp": "never"})
    services.redis.xadd(JOURNAL_KEY, {"event": b"not JSON"})
    drain(services)
    post(ingest, *range(30, 40))
    manifest = back_up(services, tmp_path / "one")
    restore(tmp_path / "one", target)
    assert target.journal.waiting() == 10
    assert target.redis.hgetall(HELD) == services.redis.hgetall(HELD)
    drain(services)
    drain(target)
    ours, theirs = audited(services), audited(target)
    assert theirs.faults == []
    assert theirs == ours
    assert list(target.database["events"].find({}, {"created_at": 0}).sort("_id")) == list(
        services.database["events"].find({}, {"created_at": 0}).sort("_id")
    )
    assert [x.raw for x in target.dead_letters.find(LetterFilter())] == [b"not JSON"]
    assert target.ledger.last_received("shop") == services.ledger.last_received("shop")
    assert manifest.files[file_of("events")].documents == 30
    for name, keys in INDEXES.items():
        assert target.database["events"].index_information()[name]["key"] == keys


def test_a_backup_of_several_journals_is_restored_into_one(
    settings: Settings, redis: Redis, database: Database[dict[str, Any]], target: Services, tmp_path: Path
):
    """One journal holds events that are stored and not settled, and two entries have one id."""
    url = settings.redis_url.removesuffix("/0")
    several = replace(settings, journal_urls=f"b={url}/2,c={url}/3")
    with closing(make_services(several, redis=redis, database=database)) as services:
        ingest = described_client(create_ingest_app(several, services, WakeUps()))
        for n in range(40):
            post(ingest, n, site_id=f"site {n % 8}")
        drain(services)
        for n in range(40, 60):
            post(ingest, n, site_id=f"site {n % 8}")
        assert all(part.waiting() for part in services.journal.parts)
        for part in services.journal.parts:
            part.held("dies")
            entries = part.claim("dies")
            services.events.store(
                [(x.entry_id, load_journal_event(x.raw, new_id, lambda: NOW)) for x in entries[:2]], NOW
            )
        for each in services.further_redis.values():
            each.xadd(JOURNAL_KEY, {"event": b"not JSON"}, id="9000000000000-0")
        back_up(services, tmp_path / "one")
        restore(tmp_path / "one", target)
        assert target.journal.waiting() == services.journal.waiting() == 22
        ids_of_entries = [{entry.entry_id for entry in x.journal.entries()} for x in (services, target)]
        assert ids_of_entries[0] == ids_of_entries[1]
        drain(services)
        drain(target)
        assert audited(target) == audited(services)
        assert sum(x.stored for x in audited(target).balances) == 60
        assert audited(target).faults == []
        assert target.ledger.last_received("site 3") == services.ledger.last_received("site 3")
        assert len(list(target.dead_letters.find(LetterFilter()))) == 2


def test_an_event_that_was_stored_or_waited_is_a_duplicate_after_the_restore(
    ingest: FlaskClient, services: Services, target: Services, target_ingest: FlaskClient, tmp_path: Path
):
    post(ingest, 1)
    drain(services)
    post(ingest, 2)
    back_up(services, tmp_path / "one")
    restore(tmp_path / "one", target)
    post(target_ingest, 1, 2, 3)
    drain(target)
    assert ids(target.database) == ids_of(1, 2, 3)
    (balance,) = audited(target).balances
    assert (balance.accepted, balance.stored, balance.duplicate, balance.faults) == (5, 3, 2, [])


def test_an_event_that_is_stored_between_checkpoint_and_snapshot_counts_once(
    ingest: FlaskClient, services: Services, target: Services, tmp_path: Path
):
    post(ingest, *range(10))
    post(ingest, 3)
    checkpoints = Interrupted(services.redis, lambda: drain(services))
    back_up(services, tmp_path / "one", checkpoints)
    assert checkpoints.taken == 1
    restore(tmp_path / "one", target)
    assert ids(target.database) == ids_of(*range(10))
    assert target.journal.waiting() == 11
    drain(target)
    assert audited(target) == audited(services)
    assert audited(target).faults == []


def test_both_are_taken_again_if_a_later_event_is_stored_in_between(
    ingest: FlaskClient, services: Services, target: Services, tmp_path: Path
):
    def another(number: int) -> None:
        post(ingest, number)
        drain(services)

    post(ingest, 1)
    checkpoints = Interrupted(services.redis, lambda: another(2), lambda: another(3))
    back_up(services, tmp_path / "one", checkpoints)
    assert checkpoints.taken == 3
    restore(tmp_path / "one", target)
    drain(target)
    assert ids(target.database) == ids_of(1, 2, 3)
    assert audited(target).faults == []


def test_both_are_taken_again_if_counts_are_moved_or_a_collection_is_made_in_between(
    ingest: FlaskClient, services: Services, target: Services, tmp_path: Path
):
    post(ingest, 1)
    drain(services)
    checkpoints = Interrupted(
        services.redis,
        lambda: services.ledger.carry(NOW.date() + timedelta(days=1)),
        lambda: services.database.create_collection("made_in_between"),
    )
    try:
        back_up(services, tmp_path / "one", checkpoints)
    finally:
        services.database.drop_collection("made_in_between")
    assert checkpoints.taken == 3
    restore(tmp_path / "one", target)
    assert audited(target) == audited(services)
    assert audited(target).faults == []


def test_a_system_that_never_rests_is_copied_and_the_copy_adds_up(
    ingest: FlaskClient, services: Services, target: Services, tmp_path: Path
):
    """Events arrive and are stored all the time, some of them twice and some of them wrong."""
    stop = threading.Event()
    sent: list[int] = []

    def send() -> None:
        while not stop.is_set():
            post(ingest, len(sent), len(sent) // 2)
            ingest.post("/event", json=PAGE | {"timestamp": "never"})
            sent.append(len(sent))

    def work() -> None:
        while not stop.is_set():
            store(services)

    threads = [threading.Thread(target=each) for each in (send, work)]
    for thread in threads:
        thread.start()
    try:
        for n in range(5):
            sent_before = len(sent)
            back_up(services, tmp_path / f"{n}")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    restore(tmp_path / "4", target)
    drain(target)
    found = audited(target)
    assert found.faults == []
    assert sum(balance.accepted for balance in found.balances) >= 2 * sent_before > 0
    assert ids_of(*range(sent_before)) <= ids(target.database) <= ids_of(*sent, len(sent))


def test_people_keys_sites_and_erasures_are_restored_and_sessions_and_salts_are_not(
    ingest: FlaskClient, services: Services, target: Services, tmp_path: Path
):
    services.sites.put(Site("shop", domains=("shop.example",)))
    services.api_keys.create("mine", ["stats:read"], None, None)
    services.accounts.invite_owner("olga@example.org")
    post(ingest, 1, user_id=None)
    assert services.redis.exists(SALTS)
    visitor = Visitor("shop", user_id="ann")
    services.erasures.note(visitor, NOW)
    back_up(services, tmp_path / "one")
    restore(tmp_path / "one", target)
    assert target.sites.get("shop").domains == ("shop.example",)
    assert target.api_keys.published() == services.api_keys.published() != {}
    assert target.database["invitations"].count_documents({}) == 1
    assert target.erasures.namer()(visitor) in target.erasures.since(NOW)
    assert not [key for key in target.redis.scan_iter() if b"salt" in key or b"session" in key]


def test_an_erased_visitor_whose_event_waited_does_not_come_back(
    ingest: FlaskClient, services: Services, target: Services, tmp_path: Path
):
    post(ingest, 1, user_id="ann")
    post(ingest, 2, user_id="bob")
    services.eraser.erase(Visitor("shop", user_id="ann"))
    back_up(services, tmp_path / "one")
    restore(tmp_path / "one", target)
    drain(target)
    assert ids(target.database) == ids_of(2)
    assert audited(target).faults == []


@pytest.fixture
def backup(ingest: FlaskClient, services: Services, tmp_path: Path) -> Path:
    """A backup of 1,200 stored events and 5 that wait."""
    assert ingest.post("/events", json=[PAGE | {"event_id": f"{n}"} for n in range(600)]).status_code == 200
    assert ingest.post("/events", json=[PAGE | {"event_id": f"{n}"} for n in range(600, 1200)]).status_code == 200
    drain(services)
    post(ingest, *range(1200, 1205))
    back_up(services, tmp_path / "backup")
    return tmp_path / "backup"


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    "name", [file_of("events"), SETTINGS_FILE, MANIFEST_FILE, DIGEST_FILE, "redis.ledger.bson.zst"]
)
@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
def test_a_damaged_backup_is_refused_by_the_name_of_the_file_and_nothing_is_written(
    backup: Path, target: Services, name: str, damage: Callable[[Path], None]
):
    damage(backup / name)
    if name == DIGEST_FILE and damage is cut:
        return restore(backup, target)  # only its newline was cut
    with pytest.raises(BackupError, match=MANIFEST_FILE if (name, damage) == (DIGEST_FILE, flip) else name):
        restore(backup, target)
    assert target.database.list_collection_names() == []
    assert target.redis.keys() == []
    return None


def test_stores_that_are_not_empty_are_named_and_keep_their_data(
    backup: Path, services: Services, target: Services, target_ingest: FlaskClient
):
    post(target_ingest, 1)
    target.sites.put(Site("shop"))
    with pytest.raises(BackupError, match=r"not empty: .*sites, .*footfall:journal, footfall:books\."):
        restore(backup, target)
    drain(target)
    assert ids(target.database) == ids_of(1)


@pytest.mark.parametrize("after", [0, 1000, 1200])
def test_a_restore_that_ended_early_lets_no_process_start_and_continues(
    backup: Path, other: Settings, services: Services, target: Services, after: int
):
    class Killed(Exception): ...

    done = 0

    def wrote(documents: int) -> None:
        nonlocal done
        done += documents
        if done > after:
            raise Killed

    with pytest.raises(Killed):
        restore(backup, target, wrote)
    for store_name in ("redis", "mongodb"):
        with pytest.raises(StoresNotReady, match="Run the same `footfall restore` again"):
            check_stores_before_start(other, store_name)
    back_up(services, backup.with_name("another"))
    with pytest.raises(BackupError, match="restore of another backup"):
        restore(backup.with_name("another"), target)
    restore(backup, target)
    check_stores_before_start(other, "redis", "mongodb")
    drain(services)
    drain(target)
    assert ids(target.database) == ids_of(*range(1205))
    assert audited(target) == audited(services)


def test_a_backup_is_private_and_exists_only_when_it_is_complete(services: Services, tmp_path: Path, backup: Path):
    assert backup.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in backup.iterdir()} == {0o600}
    assert (backup / SETTINGS_FILE).read_text() == "APP_ENV='production'\n"
    with pytest.raises(BackupError, match="exists already"):
        back_up(services, backup)

    def fail(_documents: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        make_backup(services.backup_stores, tmp_path / "full", version="1", settings="", wrote=fail)
    assert {path.name for path in tmp_path.iterdir()} == {"backup"}
    assert services.redis.keys("footfall:journal:checkpoint:*") == []


@pytest.mark.usefixtures("usual_limits")
def test_a_mongodb_that_dies_during_the_copy_is_named_and_nothing_is_left(
    settings: Settings, redis: Redis, tmp_path: Path
):
    server = mongo_server(tmp_path / "mongodb", pick_port(0))
    own = replace(settings, mongodb_uri=server.url)
    with running(server) as process, closing(Services(own)) as services:
        services.database["events"].insert_many({"noise": os.urandom(1_000_000)} for _ in range(40))

        def kill(_documents: int) -> None:
            process.kill()
            process.wait()

        with pytest.raises(Unavailable, match="mongodb is unavailable"):
            make_backup(services.backup_stores, tmp_path / "one", version="1", settings="", wrote=kill)
    assert {path.name for path in tmp_path.iterdir()} == {"mongodb"}


def test_uploaded_files_are_in_no_backup(services: Services, tmp_path: Path):
    services.uploads.keep("shop", "history.csv", BytesIO(b"203.0.113.9"))
    assert {"uploads", "uploads.files", "uploads.chunks"} <= set(services.database.list_collection_names())
    assert [name for name in back_up(services, tmp_path / "one").collections if name.startswith("uploads")] == []


def test_what_a_killed_backup_left_is_replaced(services: Services, backup: Path):
    left = backup.with_name("next" + PARTIAL)
    left.mkdir(mode=0o700)
    (left / MANIFEST_FILE).write_text("{}")
    back_up(services, backup.with_name("next"))
    assert not left.exists()


@pytest.mark.parametrize("kind", ["link", "open to all", "a file of another program"])
def test_a_partial_folder_that_no_backup_left_is_refused_and_kept(tmp_path: Path, kind: str):
    own, left = tmp_path / "own", tmp_path / f"next{PARTIAL}"
    own.mkdir(mode=0o700)
    (own / ("letter.txt" if kind.startswith("a file") else MANIFEST_FILE)).write_text("mine")
    left.symlink_to(own) if kind == "link" else own.rename(left)
    if kind == "open to all":
        left.chmod(0o777)
    with pytest.raises(BackupError, match=r"next\.partial"), new_backup(tmp_path / "next"):
        pass
    assert [file.read_text() for file in left.iterdir()] == ["mine"]


def test_a_backup_of_a_later_version_is_refused(backup: Path, target: Services):
    for name, message in (("format", "in format 99"), ("store_format", "which is later")):
        manifest = json.loads((backup / MANIFEST_FILE).read_text())
        text = json.dumps(manifest | {name: 99})
        (backup / MANIFEST_FILE).write_text(text)
        (backup / DIGEST_FILE).write_text(sha256(text.encode()).hexdigest())
        with pytest.raises(BackupError, match=message):
            restore(backup, target)
        (backup / MANIFEST_FILE).write_text(json.dumps(manifest))


def test_a_snapshot_that_mongodb_does_not_keep_is_explained(
    services: Services, backup: Path, monkeypatch: pytest.MonkeyPatch
):
    admin, name = services.database.client.admin, "minSnapshotHistoryWindowInSeconds"
    before = admin.command("getParameter", 1, **{name: 1})[name]
    admin.command("setParameter", 1, **{name: 0})
    events = services.database["events"]

    def wait_until_it_is_gone() -> None:
        """The server forgets a snapshot when later writes are a majority's and it has advanced its history."""
        with services.database.client.start_session(snapshot=True) as session:
            events.find_one({}, session=session)

            def is_gone() -> bool:
                events.update_one({}, {"$inc": {"touched": 1}})
                try:
                    events.find_one({}, session=session)
                except OperationFailure:
                    return True
                return False

            wait_for(is_gone, "a snapshot that is gone")

    seen = []

    def wrote(documents: int) -> None:
        if not seen:
            seen.append(documents)
            wait_until_it_is_gone()

    try:
        with pytest.raises(BackupError, match="minSnapshotHistoryWindowInSeconds"):
            make_backup(services.backup_stores, backup.with_name("slow"), version="1", settings="", wrote=wrote)
    finally:
        admin.command("setParameter", 1, **{name: before})
    assert not backup.with_name("slow").exists()


def test_a_redis_without_room_for_the_copy_of_the_journal_is_explained(
    ingest: FlaskClient, services: Services, tmp_path: Path
):
    post(ingest, *range(100), props={"text": "x" * 1_900})
    used = services.redis.info("memory")["used_memory"]
    services.redis.config_set("maxmemory", int(used * 1.2))
    try:
        with pytest.raises(Unavailable, match="no room for a copy of the journal"):
            back_up(services, tmp_path / "one")
    finally:
        services.redis.config_set("maxmemory", 2**30)
    assert list(tmp_path.iterdir()) == []


def test_the_documents_of_a_file_are_bson_one_after_the_other(backup: Path):
    assert len(list(read_documents(backup / file_of("events")))) == 1200
