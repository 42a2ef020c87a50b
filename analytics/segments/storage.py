"""Keeps the files of segments in S3-compatible storage, or in a folder that all hosts share, instead of in MongoDB. A
file appears when it is complete.

Callers must handle Unavailable, raised if the storage does not answer or refuses.
"""

from contextlib import suppress
from io import BytesIO
from typing import BinaryIO

from analytics.events.event import new_id
from analytics.file_storage import FileStorage, partial_of
from analytics.unavailable import Breaker


class SegmentStorage:
    """`url`: see FileStorage."""

    def __init__(self, url: str) -> None:
        self._storage = FileStorage(url, "segment storage", "SEGMENT_STORAGE")
        self._breaker = Breaker("segment storage", OSError)

    def write(self, version: str, source: BinaryIO) -> None:
        """Raises Unavailable."""
        with self._breaker.closed():
            self._storage.write(_file(version), source)

    def read(self, version: str, target: BinaryIO) -> bool:
        """Copy the file to `target`, and return whether it is there. Raises Unavailable."""
        with self._breaker.closed(), suppress(FileNotFoundError):
            self._storage.read(_file(version), target)
            return True
        return False

    def remove(self, version: str) -> None:
        """Remove the file if it is there, also if it is incomplete. Raises Unavailable."""
        names = [_file(version)] if self._storage.is_s3 else [_file(version), partial_of(_file(version))]
        with self._breaker.closed():
            for name in names:
                with suppress(FileNotFoundError):
                    self._storage.files.delete_file(name)

    def probe(self) -> None:
        """Write, read and remove a small file. Raises Unavailable if any of it fails."""
        name = f"doctor-{new_id().hex}"  # two hosts may do so at the same time
        with self._breaker.closed():
            self._storage.write(name, BytesIO(b"may be removed"))
            self._storage.read(name, BytesIO())
            self._storage.files.delete_file(name)


def _file(version: str) -> str:
    return f"{version}.parquet"
