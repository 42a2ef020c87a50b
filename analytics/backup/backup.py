"""Makes a backup while events arrive: MongoDB at one moment, and the journal and the ledger in Redis.

A checkpoint of Redis is taken first, then a snapshot of MongoDB is opened. Between the two, workers may store entries
of the checkpoint. MongoDB recognises them after a restore, as it does after a worker has died. An event that came after
the checkpoint must not be in the snapshot, because the ledger would not know it. So if a task has claimed such an event
meanwhile, both are taken again. docs/decisions/0017-backup.md has the whole argument.

Callers must handle BackupError, Unavailable, and OSError.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import bson
from bson import json_util
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError

from analytics.backup.archive import SETTINGS_FILE, BackupError, BackupFolder, BackupManifest, Progress, new_backup
from analytics.batched import batched
from analytics.journal.checkpoint import Checkpoint, Checkpoints, RawFields
from analytics.privacy.erasure_log import Erasures
from analytics.store_notes import META, StoreNotes
from analytics.unavailable import Unavailable, raising_unavailable

JOURNAL_FILE, LEDGER_FILE, RECEIVED_FILE = "redis.journal.bson.zst", "redis.ledger.bson.zst", "redis.received.bson.zst"
ERASURES_FILE = "redis.erasures.bson.zst"
_LEFT_OUT = frozenset((META, "uploads", "uploads.files", "uploads.chunks"))  # analytics/imports/uploads.py
_MOMENT_LIMIT = 30.0  # seconds until a moment is found
_FIELDS_AT_ONCE = 1_000  # of a hash, in one document
# What MongoDB answers if it does not keep the snapshot any more: SnapshotTooOld, SnapshotUnavailable.
_SNAPSHOT_GONE = (239, 246)
_KEEP_LONGER = (
    "MongoDB did not keep the snapshot until it was copied. Let it keep snapshots for an hour: `mongosh --eval"
    " 'db.adminCommand({setParameter: 1, minSnapshotHistoryWindowInSeconds: 3600})'`, and make the backup again."
)


@dataclass(frozen=True)
class BackupStores:
    """The stores that a backup copies, or that a restore writes."""

    database: Database[dict[str, Any]]
    checkpoints: Checkpoints
    erasures: Erasures
    notes: StoreNotes

    def count(self) -> int:
        """Return about how many documents there are, for a progress bar. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            return sum(self.database[name].estimated_document_count() for name in collections(self.database))


def make_backup(stores: BackupStores, folder: Path, *, version: str, settings: str, wrote: Progress) -> BackupManifest:
    """Write a backup into a new folder. `settings` is the text of its file of settings. `wrote` is called with numbers
    of documents. Raises BackupError, Unavailable and OSError; the folder then does not exist.
    """
    with new_backup(folder) as target, _moment(stores) as (checkpoint, session, names):
        started_at = datetime.now(UTC)
        target.write_text(SETTINGS_FILE, settings)
        _write_redis(target, stores, checkpoint)
        stores.checkpoints.discard(checkpoint)
        for name in names:
            target.write_documents(file_of(name), _raw_batches(stores.database, name, session), wrote)
        manifest = BackupManifest(
            id=uuid4().hex,
            footfall=version,
            store_format=stores.notes.format(),
            started_at=started_at.isoformat(),
            ended_at=datetime.now(UTC).isoformat(),
            last_id=checkpoint.last_id,
            collections={name: _indexes(stores.database, name) for name in names},
            files=target.files,
        )
        target.finish(manifest)
    with suppress(Unavailable):  # the backup is complete without this note, which `footfall doctor` reads
        stores.notes.note_backup(started_at)
    return manifest


def collections(database: Database[dict[str, Any]]) -> list[str]:
    """Return the collections that a backup holds. Uploaded files are not in it, because a backup is kept for longer
    than they are. Raises PyMongoError.
    """
    names = database.list_collection_names(filter={"type": "collection"})
    return sorted(name for name in names if name not in _LEFT_OUT and not name.startswith("system."))


def file_of(collection: str) -> str:
    return f"mongodb.{quote(collection, safe='')}.bson.zst"


@contextmanager
def _moment(stores: BackupStores) -> Iterator[tuple[Checkpoint, ClientSession, list[str]]]:
    """Find a moment at which Redis and MongoDB fit together. Yields the checkpoint, a session that reads MongoDB's
    snapshot, and the collections of the snapshot.
    """
    end = time.monotonic() + _MOMENT_LIMIT
    while time.monotonic() < end:
        with raising_unavailable("mongodb", PyMongoError):
            names = collections(stores.database)
            session = stores.database.client.start_session(snapshot=True)
        with session:
            checkpoint = stores.checkpoints.take()
            try:
                if _opens_at(stores, session, checkpoint, names):
                    yield checkpoint, session, names
                    return
            finally:
                with suppress(Unavailable):  # the copy expires
                    stores.checkpoints.discard(checkpoint)
    raise BackupError(
        f"Found no moment within {_MOMENT_LIMIT:.0f} s at which no event was being claimed. Try again when fewer events"
        " arrive."
    )


def _opens_at(stores: BackupStores, session: ClientSession, checkpoint: Checkpoint, names: list[str]) -> bool:
    """Open the session's snapshot. Whether it fits the checkpoint, and has these collections."""
    with raising_unavailable("mongodb", PyMongoError):
        stores.database[META].find_one({}, session=session)
        is_current = stores.checkpoints.is_current(checkpoint)
        return is_current and collections(stores.database) == names


def _raw_batches(database: Database[dict[str, Any]], name: str, session: ClientSession) -> Iterator[bytes]:
    """Yield the documents of a collection in the snapshot, up to 16 MB at once."""
    with raising_unavailable("mongodb", PyMongoError):
        try:
            yield from database[name].find_raw_batches({}, session=session)
        except OperationFailure as error:
            if error.code in _SNAPSHOT_GONE:
                raise BackupError(_KEEP_LONGER) from error
            raise


def _indexes(database: Database[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The definitions of a collection's indexes, in JSON that keeps MongoDB's types."""
    with raising_unavailable("mongodb", PyMongoError):
        found = [dict(index) for index in database[name].list_indexes()]
    kept = [{key: value for key, value in index.items() if key not in ("v", "ns")} for index in found]
    return [json.loads(json_util.dumps(index)) for index in kept if index["name"] != "_id_"]


def _write_redis(target: BackupFolder, stores: BackupStores, checkpoint: Checkpoint) -> None:
    entries = stores.checkpoints.entries(checkpoint)
    target.write_documents(JOURNAL_FILE, (bson.encode({"id": key, "fields": _pairs(x)}) for key, x in entries), _quiet)
    target.write_documents(LEDGER_FILE, _hashes(checkpoint.counts), _quiet)
    target.write_documents(RECEIVED_FILE, _hashes({b"": stores.checkpoints.last_received()}), _quiet)
    target.write_documents(ERASURES_FILE, [bson.encode({"key": stores.erasures.key()})], _quiet)


def _hashes(hashes: Mapping[bytes, RawFields]) -> Iterator[bytes]:
    for key, fields in hashes.items():
        for some in batched(fields.items(), _FIELDS_AT_ONCE):
            yield bson.encode({"id": key, "fields": [list(pair) for pair in some]})


def _pairs(fields: RawFields) -> list[list[bytes]]:
    return [list(pair) for pair in fields.items()]


def _quiet(_documents: int) -> None:
    """Only the documents of MongoDB are counted."""
