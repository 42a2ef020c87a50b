"""Files in a folder of this machine, or in S3-compatible storage, by the URL of a setting."""

from functools import cached_property
from pathlib import Path
from shutil import copyfileobj
from typing import Any, BinaryIO

from analytics.unavailable import Unavailable

_BLOCK = 8 * 1024 * 1024  # bytes; pyarrow requests each block of an object by itself
# A read from S3 fails after 8.4 s instead of 102 s if the server accepts connections and does not answer (measured).
_LIMITS: dict[str, Any] = {"connect_timeout": 2.0, "request_timeout": 4.0}  # seconds
_TRIES = 2


class FileStorage:
    """`url` is a folder, or s3://KEY:SECRET@bucket/prefix with options such as ?endpoint_override=host:port. Errors
    name the `store` and its `setting`. Connects when it is first used, which must be after the fork.

    Callers must handle OSError, and Unavailable if the URL is invalid.
    """

    def __init__(self, url: str, store: str, setting: str) -> None:
        self.is_s3 = url.startswith("s3://")
        self._url = url
        self._store = store
        self._setting = setting

    def write(self, name: str, source: BinaryIO) -> None:
        """Write a file, in place of an earlier one. It appears when it is complete. The folder must exist."""
        # A file in S3 appears when it is complete. In a folder, it must be moved to its name.
        written = name if self.is_s3 else partial_of(name)
        with self.files.open_output_stream(written) as stream:
            copyfileobj(source, stream, _BLOCK)
        if written != name:
            self.files.move(written, name)

    def read(self, name: str, target: BinaryIO) -> None:
        """Copy a file to `target`. Raises FileNotFoundError."""
        with self.files.open_input_stream(name) as stream:
            copyfileobj(stream, target, _BLOCK)

    @cached_property
    def files(self) -> Any:
        """The file system of pyarrow below the URL."""
        from pyarrow.fs import FileSystem, SubTreeFileSystem  # noqa: PLC0415 most processes open none, and save its memory

        place = self._url
        if not self.is_s3:
            Path(place).mkdir(mode=0o700, parents=True, exist_ok=True)  # events and segments are personal data
            place = str(Path(place).absolute())
        try:
            files, path = FileSystem.from_uri(place)
        except ValueError:  # its message may show the secret in the URL
            why = ValueError(f"{self._setting} is not a URL that pyarrow.fs reads")
            raise Unavailable(self._store, why) from None
        if self.is_s3:  # the URL cannot hold these options
            rebuilt, (options,) = files.__reduce__()  # the options with which pyarrow pickles a file system
            files = rebuilt(options | _s3_options())
        return SubTreeFileSystem(path, files)


def partial_of(name: str) -> str:
    """Return the name of the file in a folder while it is incomplete."""
    return f"{name}.partial"


def _s3_options() -> dict[str, Any]:
    from pyarrow.fs import AwsStandardS3RetryStrategy  # noqa: PLC0415 see FileStorage.files

    # A small file is then written with one request instead of three.
    return _LIMITS | {"retry_strategy": AwsStandardS3RetryStrategy(max_attempts=_TRIES), "allow_delayed_open": True}
