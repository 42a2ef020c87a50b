"""Writes a backup into empty stores.

Both stores first note that their data is not complete. No process of Footfall starts until the note is removed at the
end. A restore that was killed continues: the same backup is written again, and documents that are there are skipped.

Callers must handle BackupError, Unavailable, and OSError.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import pymongo
from bson import json_util
from bson.raw_bson import RawBSONDocument
from pymongo import IndexModel
from pymongo.errors import BulkWriteError, PyMongoError

from analytics.backup.archive import BackupError, BackupManifest, Progress, read_documents
from analytics.backup.backup import (
    ERASURES_FILE,
    JOURNAL_FILE,
    LEDGER_FILE,
    RECEIVED_FILE,
    BackupStores,
    collections,
    file_of,
)
from analytics.journal.checkpoint import RawFields
from analytics.segments.restoration import rebuild_files_outside
from analytics.store_notes import STORE_FORMAT
from analytics.unavailable import raising_unavailable

_DOCUMENTS_AT_ONCE, _BYTES_AT_ONCE = 1_000, 8_000_000
_WRITE_LIMIT = 60.0  # seconds for one group of documents
_DUPLICATE_KEY = 11000


def restore_backup(folder: Path, manifest: BackupManifest, into: BackupStores, wrote: Progress) -> None:
    """Restore a backup. `manifest` is from read_manifest, which has compared all files. `wrote` is called with numbers
    of documents. Raises BackupError, Unavailable and OSError.
    """
    if manifest.store_format > STORE_FORMAT:
        raise BackupError(f"The backup is of Footfall {manifest.footfall}, which is later. Install that version.")
    _check_that_nothing_is_there(into, manifest)
    into.notes.begin_restore(manifest.id)
    for name in manifest.collections:
        _make_indexes(into, name, manifest)  # before the documents: an index of millions of them takes minutes
        for some in _groups(folder / file_of(name)):
            _insert(into, name, some)
            wrote(len(some))
    rebuild_files_outside(into.database)
    _write_redis(folder, into, manifest)
    into.notes.note_format(manifest.store_format)
    into.notes.end_restore()


def _check_that_nothing_is_there(into: BackupStores, manifest: BackupManifest) -> None:
    unfinished = into.notes.restoring()
    if unfinished == manifest.id:
        return
    if unfinished:
        raise BackupError(
            f"The restore of another backup, {unfinished}, did not finish. Restore that one again to continue it, or"
            " empty MongoDB and Redis."
        )
    with raising_unavailable("mongodb", PyMongoError):
        names = [name for name in collections(into.database) if into.database[name].find_one({}, {"_id": 1})]
    there = [*names, *into.checkpoints.what_is_there()]
    if there:
        raise BackupError(
            f"The stores are not empty: {', '.join(there)}. Restore into an empty MongoDB and an empty Redis: set"
            " another database in MONGODB_URI and another Redis, or empty them."
        )


def _groups(path: Path) -> Iterator[list[RawBSONDocument]]:
    group: list[RawBSONDocument] = []
    size = 0
    for raw in read_documents(path):
        if group and (len(group) == _DOCUMENTS_AT_ONCE or size + len(raw) > _BYTES_AT_ONCE):
            yield group
            group, size = [], 0
        group.append(RawBSONDocument(raw))
        size += len(raw)
    if group:
        yield group


def _insert(into: BackupStores, name: str, documents: list[RawBSONDocument]) -> None:
    with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(_WRITE_LIMIT):
        try:
            into.database[name].insert_many(documents, ordered=False)
        except BulkWriteError as error:
            faults = {fault["code"] for fault in error.details["writeErrors"]}
            if error.details["writeConcernErrors"] or faults - {_DUPLICATE_KEY}:
                raise


def _make_indexes(into: BackupStores, name: str, manifest: BackupManifest) -> None:
    definitions: list[dict[str, Any]] = json_util.loads(json.dumps(manifest.collections[name]))
    models = [IndexModel(list(x.pop("key").items()), **x) for x in definitions]
    if models:
        with raising_unavailable("mongodb", PyMongoError):
            into.database[name].create_indexes(models)


def _write_redis(folder: Path, into: BackupStores, manifest: BackupManifest) -> None:
    received = {key: value for _, fields in _hashes(folder / RECEIVED_FILE) for key, value in fields.items()}
    entries, counts = _hashes(folder / JOURNAL_FILE), _hashes(folder / LEDGER_FILE)
    into.checkpoints.write(manifest.last_id, entries, counts, received)
    (document,) = read_documents(folder / ERASURES_FILE)
    into.erasures.put_key(bson.decode(document)["key"])


def _hashes(path: Path) -> Iterator[tuple[bytes, RawFields]]:
    for raw in read_documents(path):
        document = bson.decode(raw)
        yield document["id"], dict(document["fields"])
