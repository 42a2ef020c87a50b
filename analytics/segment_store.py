"""Segments: which a site has (its manifest), their Parquet files in MongoDB, and a bounded copy of them on this disk.

A segment is never changed: a new one gets a new version, and the manifest, one document, goes from the old list to the
new one in a single write that fails where somebody else was faster. So whoever reads a manifest sees a whole state. The
files of segments that left it stay for a while, for those who still read them.

Wrong can go: MongoDB away is `Unavailable`; a file that is gone or damaged is `SegmentLost`, which a rebuild mends.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from bson import ObjectId
from gridfs import GridFSBucket
from gridfs.errors import NoFile
from pymongo import ReturnDocument
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, PyMongoError

from analytics.event import new_id
from analytics.stretch import Grain, Stretch, as_datetime
from analytics.unavailable import trouble_with

log = structlog.get_logger()

CHUNK = 8 * 1024 * 1024  # bytes; a document of MongoDB holds less than 16 MB
KEPT_AFTER = timedelta(minutes=10)  # files of replaced segments; longer than any query may take


class SegmentLost(Exception):
    """The file of a segment in the manifest is not in MongoDB, or not what was written."""

    def __init__(self, version: str) -> None:
        super().__init__(f"segment {version} is lost; `python -m footfall segments rebuild` makes it again")


@dataclass(frozen=True, slots=True)
class Content:
    """How many rows a file has, and the times of its first and last event, ms."""

    rows: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Segment:
    """`digest`: SHA-256 of its file, `size` its bytes; the rest of `Content` as there."""

    grain: Grain
    start: int
    end: int
    version: str
    size: int
    digest: str
    rows: int
    first: int
    last: int

    @property
    def stretch(self) -> Stretch:
        return Stretch(self.start, self.end)

    @property
    def built_at(self) -> datetime:
        """Its version, a UUIDv7, says so."""
        return as_datetime(UUID(self.version).int >> 80)


@dataclass(frozen=True, slots=True)
class Manifest:
    site_id: str
    generation: int = 0
    segments: tuple[Segment, ...] = ()


class SegmentStore:
    def __init__(self, database: Database[dict[str, Any]], folder: Path, most_bytes: int) -> None:
        """`folder`: this node's copies, `most_bytes` together; any number of processes may share it."""
        self._manifests = database["segment_manifests"]
        self._bucket = GridFSBucket(database, "segments", chunk_size_bytes=CHUNK)
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._most_bytes = most_bytes

    def manifest(self, site_id: str) -> Manifest:
        with trouble_with("mongodb", PyMongoError):
            found = self._manifests.find_one({"_id": site_id})
        return _read(site_id, found)

    def sites(self) -> Iterator[str]:
        with trouble_with("mongodb", PyMongoError):
            yield from (document["_id"] for document in self._manifests.find({}, {"_id": 1}).sort("_id", 1))

    def replace(self, before: Manifest, segments: Sequence[Segment]) -> bool:
        """The site has these segments now. False where somebody else changed the manifest since `before` was read."""
        change = {"segments": [asdict(s) for s in segments], "generation": before.generation + 1}
        with trouble_with("mongodb", PyMongoError):
            try:
                which = {"_id": before.site_id, "generation": before.generation}
                done = self._manifests.update_one(which, {"$set": change}, upsert=before.generation == 0)
            except DuplicateKeyError:
                return False
        return bool(done.matched_count or done.upserted_id)

    def lease(self, site_id: str, now: datetime, seconds: float) -> ObjectId | None:
        """The right to build this site's segments, for so long; None where another worker has it. It saves work: what
        keeps two builders apart is `replace`.
        """
        token = ObjectId()
        which = {"_id": site_id, "leased_until": {"$not": {"$gt": now}}}
        until = now + timedelta(seconds=seconds)
        change = {"$set": {"leased_until": until, "lease": token}, "$setOnInsert": {"generation": 0}}
        with trouble_with("mongodb", PyMongoError):
            try:
                self._manifests.find_one_and_update(
                    which, change, upsert=True, projection=["_id"], return_document=ReturnDocument.AFTER
                )
            except DuplicateKeyError:
                return None
        return token

    def release(self, site_id: str, lease: ObjectId) -> None:
        with trouble_with("mongodb", PyMongoError):
            self._manifests.update_one({"_id": site_id, "lease": lease}, {"$unset": {"lease": "", "leased_until": ""}})

    def keep(self, file: Path, site_id: str, grain: Grain, stretch: Stretch, content: Content) -> Segment:
        """Put a Parquet file, which lies within our folder, into MongoDB and among this node's copies."""
        version, digest, size = new_id().hex, _digest(file), file.stat().st_size
        with trouble_with("mongodb", PyMongoError), file.open("rb") as source:
            self._bucket.upload_from_stream_with_id(version, version, source, metadata={"site_id": site_id})
        file.replace(self._path(version))
        return Segment(grain, stretch.start, stretch.end, version, size, digest, *astuple(content))

    def fetch(self, segment: Segment) -> Path:
        """The segment's file on this disk, fetched where it is not there yet. Raises SegmentLost."""
        path = self._path(segment.version)
        with suppress(FileNotFoundError):
            os.utime(path)  # used just now: the oldest go first
            return path
        part = path.with_suffix(f".{new_id().hex}.part")
        try:
            with trouble_with("mongodb", PyMongoError), part.open("wb") as target:
                self._bucket.download_to_stream(segment.version, target)
            if _digest(part) != segment.digest:
                raise SegmentLost(segment.version)
            part.replace(path)
        except NoFile:
            raise SegmentLost(segment.version) from None
        finally:
            part.unlink(missing_ok=True)
        self.make_room()
        return path

    def make_room(self) -> None:
        """Remove the copies that were used longest ago, down to the limit. An open file is read on, removed or not."""
        found = []
        for path in self.folder.glob("*.parquet"):
            with suppress(FileNotFoundError):
                found.append((path.stat().st_mtime, path.stat().st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._most_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size

    def forget(self, version: str) -> None:
        """Remove this node's copy, which is damaged."""
        self._path(version).unlink(missing_ok=True)

    def collect(self, now: datetime, patience: Callable[[], bool] = lambda: True) -> int:
        """Remove files that no manifest names, and that were written a while ago. Returns how many."""
        removed = 0
        with trouble_with("mongodb", PyMongoError):
            old = self._bucket.find({"uploadDate": {"$lt": now - KEPT_AFTER}})
            candidates = {file._id: file.metadata["site_id"] for file in old}
            for site_id in set(candidates.values()):
                used = {segment.version for segment in self.manifest(site_id).segments}
                for version, owner in candidates.items():
                    if owner == site_id and version not in used and patience():
                        with suppress(NoFile):
                            self._bucket.delete(version)
                        self.forget(version)
                        removed += 1
        return removed

    def _path(self, version: str) -> Path:
        return self.folder / f"{version}.parquet"


def _digest(file: Path) -> str:
    digest = sha256()
    with file.open("rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read(site_id: str, document: dict[str, Any] | None) -> Manifest:
    if document is None:
        return Manifest(site_id)
    segments = (Segment(**fields) for fields in document.get("segments", ()))
    return Manifest(site_id, document["generation"], tuple(segments))
