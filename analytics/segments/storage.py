"""Keeps the files of segments in S3-compatible storage, or in a folder that all hosts share, instead of in MongoDB. A
file appears when it is complete.

Callers must handle Unavailable, raised if the storage does not answer or refuses.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from analytics.unavailable import Breaker, Unavailable

_BLOCK = 8 * 1024 * 1024  # bytes; pyarrow requests each block of an object by itself
_PROBE = "doctor"
# A read from S3 fails after 8.4 s instead of 102 s if the server accepts connections and does not answer (measured).
_LIMITS = {"connect_timeout": 2.0, "request_timeout": 4.0}  # seconds
_TRIES = 2


class SegmentStorage:
    """`url`: a folder, or s3://KEY:SECRET@bucket/prefix?endpoint_override=host:port, as pyarrow reads it. Connects when
    it is first used, which must be after the fork.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._is_s3 = url.startswith("s3://")
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
        with self._working() as files:
            with files.open_output_stream(_PROBE) as stream:
                stream.write(b"may be removed")
            with files.open_input_stream(_PROBE) as stream:
                stream.read()
            files.delete_file(_PROBE)

    @contextmanager
    def _working(self) -> Iterator[Any]:
        """The files of the storage. An error of the block becomes Unavailable."""
        with self._breaker.closed():
            yield self._files

    @cached_property
    def _files(self) -> Any:
        # Most processes use no storage, and save its memory.
        from pyarrow.fs import AwsStandardS3RetryStrategy, FileSystem, SubTreeFileSystem  # noqa: PLC0415

        url = self._url
        if not self._is_s3:
            Path(url).mkdir(mode=0o700, parents=True, exist_ok=True)  # segments are personal data
            url = str(Path(url).absolute())
        try:
            files, path = FileSystem.from_uri(url)
        except ValueError:  # its message may show the secret in the URL
            cause = ValueError("SEGMENT_STORAGE is not a URL that pyarrow.fs reads")
            raise Unavailable("segment storage", cause) from None
        if self._is_s3:
            # A URL cannot hold limits, so they are added to the options with which pyarrow pickles a file system.
            # A small file is written with one request instead of three.
            rebuilt, (options,) = files.__reduce__()
            limits = _LIMITS | {"retry_strategy": AwsStandardS3RetryStrategy(max_attempts=_TRIES)}
            files = rebuilt(options | limits | {"allow_delayed_open": True})
        return SubTreeFileSystem(path, files)


def _file(version: str) -> str:
    return f"{version}.parquet"


def _partial(version: str) -> str:
    return f"{version}.partial"
