"""Keeps the files of segments in S3-compatible storage, or in a folder that all hosts share, instead of in MongoDB. A
file appears when it is complete.

Callers must handle Unavailable, raised if the storage does not answer or refuses.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any, BinaryIO
from uuid import uuid4

from analytics.file_storage import is_s3, open_storage
from analytics.unavailable import Breaker

_BLOCK = 8 * 1024 * 1024  # bytes; pyarrow requests each block of an object by itself
# A read from S3 fails after 8.4 s instead of 102 s if the server accepts connections and does not answer (measured).
_LIMITS: dict[str, Any] = {"connect_timeout": 2.0, "request_timeout": 4.0}  # seconds
_TRIES = 2


class SegmentStorage:
    """`url`: see analytics/file_storage.py. Connects when it is first used, which must be after the fork."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._is_s3 = is_s3(url)
        self._breaker = Breaker("segment storage", OSError)

    def write(self, version: str, source: BinaryIO) -> None:
        """Raises Unavailable."""
        # A file in S3 appears when it is complete. In a folder, it must be moved to its name.
        name = _file(version) if self._is_s3 else _partial(version)
        with self._working() as files:
            with files.open_output_stream(name) as stream:
                while block := source.read(_BLOCK):
                    stream.write(block)
            if not self._is_s3:
                files.move(name, _file(version))

    def read(self, version: str, target: BinaryIO) -> bool:
        """Copy the file to `target`, and return whether it is there. Raises Unavailable."""
        with self._working() as files, suppress(FileNotFoundError):
            with files.open_input_stream(_file(version)) as stream:
                while block := stream.read(_BLOCK):
                    target.write(block)
            return True
        return False

    def remove(self, version: str) -> None:
        """Remove the file if it is there, also if it is incomplete. Raises Unavailable."""
        names = [_file(version)] if self._is_s3 else [_file(version), _partial(version)]
        with self._working() as files:
            for name in names:
                with suppress(FileNotFoundError):
                    files.delete_file(name)

    def probe(self) -> None:
        """Write, read and remove a small file. Raises Unavailable if any of it fails."""
        name = f"doctor-{uuid4().hex}"  # another host may do the same at this moment
        with self._working() as files:
            with files.open_output_stream(name) as stream:
                stream.write(b"may be removed")
            with files.open_input_stream(name) as stream:
                stream.read()
            files.delete_file(name)

    @contextmanager
    def _working(self) -> Iterator[Any]:
        """The files of the storage. An error of the block becomes Unavailable."""
        with self._breaker.closed():
            yield self._files

    @cached_property
    def _files(self) -> Any:
        return open_storage(self._url, "segment storage", "SEGMENT_STORAGE", _s3_options)


def _s3_options() -> dict[str, Any]:
    from pyarrow.fs import AwsStandardS3RetryStrategy  # noqa: PLC0415 see open_storage

    # A small file is then written with one request instead of three.
    return _LIMITS | {"retry_strategy": AwsStandardS3RetryStrategy(max_attempts=_TRIES), "allow_delayed_open": True}


def _file(version: str) -> str:
    return f"{version}.parquet"


def _partial(version: str) -> str:
    return f"{version}.partial"
