"""Opens a folder of this machine, or S3-compatible storage, by the URL of a setting."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from analytics.unavailable import Unavailable


def is_s3(url: str) -> bool:
    return url.startswith("s3://")


def open_storage(url: str, store: str, setting: str, s3_options: Callable[[], Mapping[str, Any]] = dict) -> Any:
    """Return the file system of pyarrow below `url`, which is a folder, or s3://KEY:SECRET@bucket/prefix with options
    such as ?endpoint_override=host:port. Errors name the `store` and its `setting`. `s3_options` returns options of
    pyarrow's S3FileSystem that a URL cannot hold. Raises Unavailable, and OSError if the folder cannot be created.
    """
    from pyarrow.fs import FileSystem, SubTreeFileSystem  # noqa: PLC0415 most processes open none, and save its memory

    place = url
    if not is_s3(url):
        Path(url).mkdir(mode=0o700, parents=True, exist_ok=True)  # events and segments are personal data
        place = str(Path(url).absolute())
    try:
        files, path = FileSystem.from_uri(place)
    except ValueError:  # its message may show the secret in the URL
        raise Unavailable(store, ValueError(f"{setting} is not a URL that pyarrow.fs reads")) from None
    if is_s3(url) and (more := s3_options()):
        rebuilt, (options,) = files.__reduce__()  # the options with which pyarrow pickles a file system
        files = rebuilt(options | more)
    return SubTreeFileSystem(path, files)
