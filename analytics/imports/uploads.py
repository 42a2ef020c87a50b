"""Files that people upload to import them, until they are imported. The files are in MongoDB, because the worker that
reads them may be another machine.

    new       a worker reads the file and says what would be imported
    shown     a person sees that, and starts the import or discards the file
    wanted    a worker imports it; its progress is in the record of the import (analytics/imports/store.py)
    failed    the file cannot be imported; `said` says why

A worker claims an upload for a while. If it dies, another one begins again, and an import continues where it stopped.
Callers must handle Unavailable.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, Literal

import pymongo
from gridfs import GridFSBucket
from gridfs.errors import NoFile
from pymongo import ReturnDocument
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.events.event import new_id
from analytics.mongodb import LOOK_LIMIT, reading, writing
from analytics.unavailable import raising_unavailable

LARGEST_UPLOAD = 4_500_000  # bytes; web/http_connection.py accepts 5 MB
MOST_UPLOADS = 5  # of a site
MOST_ROWS_READ = 100_000  # to show what would be imported
UPLOAD_KEPT_FOR = timedelta(days=1)
CLAIMED_FOR = timedelta(seconds=660)  # longer than a task may take (tasks/imports.py)
MOST_TRIES = 3  # in each state, or since the import progressed by PROGRESS
PROGRESS = 10_000  # rows
_LONGEST_NAME = 100  # characters

UploadState = Literal["new", "shown", "wanted", "failed"]


class TooManyUploads(Exception):
    """The site has MOST_UPLOADS already."""


@dataclass(frozen=True, slots=True)
class Upload:
    """`shown` is what a worker found in the file: format, mapping, rows, events, skipped. `record` is the id of the
    import that the file would be. `tries`: how often a worker has begun in this state, or since the import had read
    `rows` rows.
    """

    id: str
    site_id: str
    name: str
    size: int
    state: UploadState
    at: datetime
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

    def keep(self, site_id: str, name: str, file: IO[bytes]) -> Upload:
        """Keep a file. Raises TooManyUploads and Unavailable."""
        upload_id = new_id().hex
        with raising_unavailable("mongodb", PyMongoError):
            with self._bucket.open_upload_stream_with_id(upload_id, upload_id) as stream:
                stream.write(file)
            upload = Upload(upload_id, site_id, name[-_LONGEST_NAME:], stream.length, "new", self._now())
            self._uploads.insert_one({"_id": upload_id, **_without_id(upload)})
        if len(self.list(site_id)) > MOST_UPLOADS:  # counted after the write: others may upload meanwhile
            self.remove(upload_id)
            raise TooManyUploads
        return upload

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
                self._remove_file(upload_id)
        return found is not None

    def remove(self, upload_id: str) -> None:
        """Remove the file in any state, if there is one. Raises Unavailable."""
        with writing(self._database):
            self._uploads.delete_one({"_id": upload_id})
            self._remove_file(upload_id)

    def is_any_due(self) -> bool:
        """Whether a worker has something to do: a file to read, to import or to remove. Raises Unavailable."""
        which = {"$or": [self._due(), self._old()]}
        with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(LOOK_LIMIT):
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
            self._bucket.download_to_stream(upload.id, target)

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
            files = [x._id for x in self._bucket.find({"uploadDate": {"$lt": self._now() - UPLOAD_KEPT_FOR}})]
            known = {x["_id"] for x in self._uploads.find({"_id": {"$in": files}}, {"_id": 1})}
        for each in old:
            self.discard(each["site_id"], each["_id"])
        for upload_id in {*files} - known:
            self.remove(upload_id)

    def _old(self) -> dict[str, Any]:
        return {"at": {"$lt": self._now() - UPLOAD_KEPT_FOR}, "state": {"$ne": "wanted"}}

    def _due(self) -> dict[str, Any]:
        return {"state": {"$in": ["new", "wanted"]}, "claimed_until": {"$not": {"$gt": self._now()}}}

    def _remove_file(self, upload_id: str) -> None:
        try:
            self._bucket.delete(upload_id)
        except NoFile:
            return


def _without_id(upload: Upload) -> dict[str, Any]:
    return {name: value for name, value in asdict(upload).items() if name != "id"}


def _read(document: Mapping[str, Any]) -> Upload:
    known = {name: document[name] for name in Upload.__dataclass_fields__ if name in document}
    return Upload(**known | {"id": document["_id"]})
