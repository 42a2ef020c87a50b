"""Files that people upload to import them, until they are imported. The files are in MongoDB, because the worker that
reads them may be another machine.

    coming    the first parts of the file are here, and its browser sends the others
    new       a worker reads the file and says what would be imported
    shown     a person sees that, and starts the import or discards the file
    wanted    a worker imports it; its progress is in the record of the import (analytics/imports/store.py)
    failed    the file cannot be imported; `said` says why

A worker claims an upload for a while. If it dies, another one begins again, and an import continues where it stopped.
Callers must handle Unavailable.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, Literal

from gridfs import GridFSBucket
from gridfs.errors import NoFile
from pymongo import ReturnDocument
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.events.event import new_id
from analytics.mongodb import looking, reading, writing
from analytics.unavailable import raising_unavailable

LARGEST_PART = 4_500_000  # bytes; web/http_connection.py accepts 5 MB
MOST_PARTS = 110
LARGEST_UPLOAD = MOST_PARTS * LARGEST_PART
MOST_UPLOADS = 5  # of a site
MOST_ROWS_READ = 100_000  # to show what would be imported
UPLOAD_KEPT_FOR = timedelta(days=1)
CLAIMED_FOR = timedelta(seconds=660)  # longer than a task may take (tasks/imports.py)
MOST_TRIES = 3  # in each state, or since the import progressed by PROGRESS
PROGRESS = 10_000  # rows
_LONGEST_NAME = 100  # characters

UploadState = Literal["coming", "new", "shown", "wanted", "failed"]


class TooManyUploads(Exception):
    """The site has MOST_UPLOADS already."""


class UploadTooLarge(Exception):
    """The file has more than MOST_PARTS parts."""


@dataclass(frozen=True, slots=True)
class Upload:
    """`shown` is what a worker found in the file: format, mapping, rows, events, skipped. `record` is the id of the
    import that the file would be. `tries`: how often a worker has begun in this state, or since the import had read
    `rows` rows. `parts`: the files in GridFS that make up the file, in their order.
    """

    id: str
    site_id: str
    name: str
    size: int
    state: UploadState
    at: datetime
    parts: Sequence[str]
    said: str = ""
    record: str = ""
    tries: int = 0
    rows: int = 0
    shown: Mapping[str, Any] = field(default_factory=dict)


class UploadStore:
    def __init__(self, database: Database[dict[str, Any]], now: Callable[[], datetime]) -> None:
        self._database = database
        self._uploads = database["uploads"]
        self._bucket = GridFSBucket(database, "uploads")
        self._now = now

    def keep(self, site_id: str, name: str, file: IO[bytes], *, is_whole: bool = True) -> Upload:
        """Keep a file, or its first part. Raises TooManyUploads and Unavailable."""
        upload_id = new_id().hex
        state: UploadState = "new" if is_whole else "coming"
        with raising_unavailable("mongodb", PyMongoError):
            size = self._write(upload_id, upload_id, file)
            upload = Upload(upload_id, site_id, name[-_LONGEST_NAME:], size, state, self._now(), [upload_id])
            self._uploads.insert_one({"_id": upload_id, **_without_id(upload)})
        if len(self.list(site_id)) > MOST_UPLOADS:  # counted after the write: others may upload meanwhile
            self.remove(upload_id)
            raise TooManyUploads
        return upload

    def extend(self, site_id: str, upload_id: str, number: int, part: IO[bytes], *, is_last: bool) -> bool:
        """Keep another part of a file, of LARGEST_PART bytes at most. The first is number 0. A part that is sent again
        changes nothing. Returns False if no such part is expected. Raises UploadTooLarge and Unavailable.
        """
        with raising_unavailable("mongodb", PyMongoError):
            found = self._uploads.find_one({"_id": upload_id, "site_id": site_id})
            if found is None or number > len(found["parts"]):
                return False
            if number < len(found["parts"]):
                return True
            if number >= MOST_PARTS:
                self.remove(upload_id)
                raise UploadTooLarge
            part_id = new_id().hex
            size = self._write(upload_id, part_id, part)
            change: dict[str, Any] = {"$inc": {"size": size}, "$push": {"parts": part_id}}
            change |= {"$set": {"state": "new" if is_last else "coming", "at": self._now()}}
            which = {"_id": upload_id, "state": "coming", "parts": {"$size": number}}
            if not self._uploads.update_one(which, change).matched_count:  # discarded, or another request was faster
                self._bucket.delete(part_id)
        return True

    def list(self, site_id: str) -> Sequence[Upload]:
        """The site's uploads, the latest first. Raises Unavailable."""
        with reading(self._database):
            return [_read(x) for x in self._uploads.find({"site_id": site_id}).sort("_id", -1)]

    def want(self, site_id: str, upload_id: str) -> bool:
        """Let the workers import the file. Returns False if there is no such upload to import. Raises Unavailable."""
        which = {"_id": upload_id, "site_id": site_id, "state": "shown"}
        with writing(self._database):
            change = {"$set": {"state": "wanted", "tries": 0, "at": self._now()}}
            return self._uploads.update_one(which, change).matched_count > 0

    def discard(self, site_id: str, upload_id: str) -> bool:
        """Remove the file, unless it is to be imported. Returns whether it was removed. Raises Unavailable."""
        which = {"_id": upload_id, "site_id": site_id, "state": {"$ne": "wanted"}}
        with writing(self._database):
            found = self._uploads.find_one_and_delete(which)
            if found:
                self._remove_parts(upload_id)
        return found is not None

    def remove(self, upload_id: str) -> None:
        """Remove the file in any state, if there is one. Raises Unavailable."""
        with writing(self._database):
            self._uploads.delete_one({"_id": upload_id})
            self._remove_parts(upload_id)

    def is_any_due(self) -> bool:
        """Whether a worker has something to do: a file to read, to import or to remove. Raises Unavailable."""
        which = {"$or": [self._due(), self._old()]}
        with looking():
            return self._uploads.find_one(which, {"_id": 1}) is not None

    def claim(self) -> Upload | None:
        """Return an upload that no other worker has, or None. The one that was claimed the longest ago is the first, so
        that a long import does not delay other files. Raises Unavailable.
        """
        now = self._now()
        change = {"$set": {"claimed_at": now, "claimed_until": now + CLAIMED_FOR}, "$inc": {"tries": 1}}
        first = [("claimed_at", 1), ("_id", 1)]
        with writing(self._database):
            found = self._uploads.find_one_and_update(
                self._due(), change, sort=first, return_document=ReturnDocument.AFTER
            )
        return _read(found) if found else None

    def release(self, upload: Upload, *, counts: bool) -> None:
        """End the claim, unless the state is another one. `counts`: whether this was one of MOST_TRIES. Raises
        Unavailable.
        """
        change = {"$unset": {"claimed_until": ""}, "$inc": {"tries": 0 if counts else -1}}
        with writing(self._database):
            which = {"_id": upload.id, "state": upload.state, "claimed_until": {"$exists": True}}
            self._uploads.update_one(which, change)

    def note_progress(self, upload: Upload, rows: int) -> None:
        """Note that the import has read so many rows, and count the tries from this one. Raises Unavailable."""
        with writing(self._database):
            self._uploads.update_one({"_id": upload.id}, {"$set": {"rows": rows, "tries": 1}})

    def fetch(self, upload: Upload, path: Path) -> None:
        """Write the file to this path. Raises Unavailable, and NoFile if it was discarded."""
        with raising_unavailable("mongodb", PyMongoError), path.open("wb") as target:
            for part_id in upload.parts:
                self._bucket.download_to_stream(part_id, target)

    def note(self, upload: Upload, state: UploadState, **found: Any) -> None:
        """Note what a worker found, and end its claim. Raises Unavailable."""
        change = {"$set": {"state": state, "tries": 0, **found}, "$unset": {"claimed_until": ""}}
        with writing(self._database):
            self._uploads.update_one({"_id": upload.id}, change)

    def note_record(self, upload: Upload, record_id: str) -> None:
        """Note which import the file becomes. Raises Unavailable."""
        with writing(self._database):
            self._uploads.update_one({"_id": upload.id}, {"$set": {"record": record_id}})

    def remove_old(self) -> None:
        """Remove uploads that nothing happened to for a day, and files that a process left when it crashed. A file that
        is to be imported stays. Raises Unavailable.
        """
        with reading(self._database):
            old = list(self._uploads.find(self._old(), {"site_id": 1}))
            files = {x.name for x in self._bucket.find({"uploadDate": {"$lt": self._now() - UPLOAD_KEPT_FOR}})}
            known = {x["_id"] for x in self._uploads.find({"_id": {"$in": [*files]}}, {"_id": 1})}
        for each in old:
            self.discard(each["site_id"], each["_id"])
        for upload_id in files - known:
            self.remove(upload_id)

    def _old(self) -> dict[str, Any]:
        return {"at": {"$lt": self._now() - UPLOAD_KEPT_FOR}, "state": {"$ne": "wanted"}}

    def _due(self) -> dict[str, Any]:
        return {"state": {"$in": ["new", "wanted"]}, "claimed_until": {"$not": {"$gt": self._now()}}}

    def _write(self, upload_id: str, part_id: str, part: IO[bytes]) -> int:
        """Write a part into GridFS, and return its bytes."""
        with self._bucket.open_upload_stream_with_id(part_id, upload_id) as stream:
            stream.write(part)
        size: int = stream.length
        return size

    def _remove_parts(self, upload_id: str) -> None:
        for part in self._bucket.find({"filename": upload_id}):
            with suppress(NoFile):
                self._bucket.delete(part._id)


def _without_id(upload: Upload) -> dict[str, Any]:
    return {name: value for name, value in asdict(upload).items() if name != "id"}


def _read(document: Mapping[str, Any]) -> Upload:
    known = {name: document[name] for name in Upload.__dataclass_fields__ if name in document}
    return Upload(**known | {"id": document["_id"]})
