"""The files of segments. MongoDB lists them (`segments.files`). It also holds their bytes (`segments.chunks`, as GridFS
does), or a storage outside MongoDB does. The list says which, so that files stay readable after the setting was
changed.

A file outside is listed before it is written, as unfinished, so that no file is ever unknown. Its writer may die; the
file is then removed as one that is unfinished for long.

Callers must handle Unavailable, raised if MongoDB or the storage is not reachable.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from bson import Int64
from gridfs import GridFSBucket
from gridfs.errors import CorruptGridFile, NoFile
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.interval import as_datetime
from analytics.segments.storage import SegmentStorage
from analytics.unavailable import Unavailable, raising_unavailable

_CHUNK = 8 * 1024 * 1024  # bytes; a MongoDB document holds less than 16 MB
_AT_ONCE = 8  # small files that are written to the storage at the same time
_FINISHED = {"unfinished": {"$exists": False}}


class StorageNotSet(Exception):
    """The setting is missing on this host."""

    def __init__(self) -> None:
        super().__init__("segments are in a storage outside MongoDB; set SEGMENT_STORAGE on this host as on the others")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file, and the manifest from which its segment was built: the site and the manifest's generation."""

    version: str
    site_id: str
    generation: int


class SegmentFiles:
    """`storage` receives new files; if it is None, MongoDB does."""

    def __init__(self, database: Database[dict[str, Any]], storage: SegmentStorage | None = None) -> None:
        self._bucket = GridFSBucket(database, "segments", chunk_size_bytes=_CHUNK)
        self._files, self._chunks = database["segments.files"], database["segments.chunks"]
        self._storage = storage
        self._indexed = False

    def add(self, file: StoredFile, content: Path) -> None:
        """Raises Unavailable."""
        with content.open("rb") as source:
            if self._storage is None:
                with raising_unavailable("mongodb", PyMongoError):
                    self._bucket.upload_from_stream_with_id(
                        file.version, file.version, source, metadata=_metadata(file)
                    )
            else:
                self._list_unfinished([(file, content.stat().st_size)])
                self._storage.write(file.version, source)
                self._finish([file])

    def add_all(self, files: Sequence[tuple[StoredFile, bytes]]) -> None:
        """Add small files together. Raises Unavailable."""
        if self._storage is None:
            self._add_chunks(files)
            return
        self._list_unfinished([(file, len(content)) for file, content in files])
        write = self._storage.write
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            written = [
                pool.submit(copy_context().run, write, file.version, BytesIO(content)) for file, content in files
            ]
        for each in written:
            each.result()
        self._finish([file for file, _ in files])

    def read(self, version: str, target: BinaryIO) -> bool:
        """Copy the file to `target`, and return whether it is there and complete. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            entry = self._files.find_one({"_id": version}, {"outside": 1})
            if entry is None:
                return False
            if not entry.get("outside"):
                try:
                    self._bucket.download_to_stream(version, target)
                except (NoFile, CorruptGridFile):
                    return False
                return True
        return self._outside().read(version, target)

    def remove(self, version: str) -> None:
        """Remove the file, if it is there. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            entry = self._files.find_one({"_id": version}, {"outside": 1})
            if entry is None or not entry.get("outside"):
                with suppress(NoFile):
                    self._bucket.delete(version)
                return
        self._outside().remove(version)
        with raising_unavailable("mongodb", PyMongoError):
            self._files.delete_one({"_id": version})

    def remove_unfinished(self, before: datetime) -> None:
        """Remove what writers that died left behind, if they began before this time. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            for each in self._chunks.aggregate([{"$group": {"_id": "$files_id"}}]):
                if made_at(each["_id"]) < before and not self._files.find_one({"_id": each["_id"]}, {"_id": 1}):
                    self._chunks.delete_many({"files_id": each["_id"]})
            abandoned = [x["_id"] for x in self._files.find({"unfinished": True, "uploadDate": {"$lt": before}})]
        for version in abandoned:
            self.remove(version)

    def written_before(self, time: datetime, site_id: str | None = None) -> list[StoredFile]:
        """Return the files of all sites, or of one. Raises Unavailable."""
        whose = {} if site_id is None else {"metadata.site_id": site_id}
        with raising_unavailable("mongodb", PyMongoError):
            found = self._files.find({"uploadDate": {"$lt": time}} | whose | _FINISHED)
            return [StoredFile(x["_id"], x["metadata"]["site_id"], x["metadata"]["generation"]) for x in found]

    def existing(self, versions: Iterable[str]) -> set[str]:
        """Return those of the versions that have a file. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            return {x["_id"] for x in self._files.find({"_id": {"$in": sorted(versions)}}, {"_id": 1})}

    def of_site(self, site_id: str) -> list[str]:
        """Return the versions of all the site's files. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            return [x["_id"] for x in self._files.find({"metadata.site_id": site_id} | _FINISHED, {"_id": 1})]

    def _add_chunks(self, files: Sequence[tuple[StoredFile, bytes]]) -> None:
        chunks, entries = [], []
        for file, content in files:
            pieces = [content[start : start + _CHUNK] for start in range(0, len(content), _CHUNK)]
            chunks += [{"files_id": file.version, "n": n, "data": piece} for n, piece in enumerate(pieces)]
            entries.append(_entry(file, len(content)) | {"chunkSize": _CHUNK})
        with raising_unavailable("mongodb", PyMongoError):
            self._make_index()
            self._chunks.insert_many(chunks, ordered=False)
            self._files.insert_many(entries, ordered=False)

    def _make_index(self) -> None:
        """Make the index that GridFS makes when it writes its first file."""
        if not self._indexed:
            self._chunks.create_index([("files_id", 1), ("n", 1)], unique=True)
            self._indexed = True

    def _list_unfinished(self, files: Sequence[tuple[StoredFile, int]]) -> None:
        entries = [_entry(file, size) | {"outside": True, "unfinished": True} for file, size in files]
        with raising_unavailable("mongodb", PyMongoError):
            self._files.insert_many(entries, ordered=False)

    def _finish(self, files: Sequence[StoredFile]) -> None:
        which = {"_id": {"$in": [file.version for file in files]}}
        with raising_unavailable("mongodb", PyMongoError):
            self._files.update_many(which, {"$unset": {"unfinished": ""}, "$set": {"uploadDate": datetime.now(UTC)}})

    def _outside(self) -> SegmentStorage:
        if self._storage is None:
            raise Unavailable("segment storage", StorageNotSet())
        return self._storage


def made_at(version: str) -> datetime:
    """When the version was made. A version is a UUIDv7, which begins with its time."""
    return as_datetime(UUID(version).int >> 80)


def _metadata(file: StoredFile) -> dict[str, Any]:
    return {"site_id": file.site_id, "generation": file.generation}


def _entry(file: StoredFile, size: int) -> dict[str, Any]:
    """The document of a file, as GridFS writes it."""
    entry = {"_id": file.version, "filename": file.version, "length": Int64(size), "uploadDate": datetime.now(UTC)}
    return entry | {"metadata": _metadata(file)}
