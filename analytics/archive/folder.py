"""The folder of the archive: a Parquet file for each day (UTC) of a site, on this machine or in S3-compatible storage.

    site_id=shop/date=2026-11-21/events.parquet

DuckDB, ClickHouse and Spark read these names as columns (hive partitioning). A file appears when it is complete. One
process at a time may write a site's files. Callers must handle Unavailable, raised if the folder cannot be read or
written.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path, PurePosixPath
from shutil import copyfileobj
from typing import Any
from urllib.parse import quote, unquote

from analytics.file_storage import open_storage
from analytics.unavailable import raising_unavailable

_SITE, _DATE = "site_id=", "date="
_FILE, _PARTIAL = "events.parquet", "events.partial"


@dataclass(frozen=True, slots=True, order=True)
class ArchivedDay:
    """A site's file for a day. `size`: bytes."""

    site_id: str
    day: date
    size: int = 0

    @property
    def folder(self) -> str:
        return f"{_folder_of(self.site_id)}/{_DATE}{self.day}"

    @property
    def file(self) -> str:
        return f"{self.folder}/{_FILE}"


class ArchiveFolder:
    """`url`: see analytics/file_storage.py."""

    def __init__(self, url: str) -> None:
        self._url = url

    def holds(self, which: ArchivedDay) -> bool:
        """Raises Unavailable."""
        with self._working() as files:
            return bool(files.get_file_info(which.file).is_file)

    def write(self, which: ArchivedDay, pieces: Iterable[bytes]) -> None:
        """Write the file, in place of an earlier one. Raises Unavailable."""
        partial = f"{which.folder}/{_PARTIAL}"
        with self._working() as files:
            files.create_dir(which.folder)
            with files.open_output_stream(partial) as stream:
                for piece in pieces:
                    stream.write(piece)
            files.move(partial, which.file)

    def remove(self, which: ArchivedDay) -> bool:
        """Remove the file, and return whether it was there. Raises Unavailable."""
        was_there = self.holds(which)
        if was_there:
            with self._working() as files:
                files.delete_dir(which.folder)
        return was_there

    def sites(self) -> list[str]:
        """Raises Unavailable."""
        names = (PurePosixPath(each.path).name for each in self._inside(""))
        return sorted(unquote(name.removeprefix(_SITE)) for name in names if name.startswith(_SITE))

    def days(self, site_id: str) -> list[ArchivedDay]:
        """Return the site's files, in the order of their days. Raises Unavailable."""
        files = (each for each in self._inside(_folder_of(site_id), recursive=True) if each.base_name == _FILE)
        return sorted(ArchivedDay(site_id, _day_of(each.path), each.size) for each in files)

    def copy(self, which: ArchivedDay, to: Path) -> None:
        """Copy the file to a path on this machine. Raises Unavailable."""
        with self._working() as files, files.open_input_stream(which.file) as source, to.open("wb") as target:
            copyfileobj(source, target)

    def _inside(self, path: str, recursive: bool = False) -> list[Any]:
        from pyarrow.fs import FileSelector  # noqa: PLC0415 most processes use no archive, and save its memory

        with self._working() as files:
            found: list[Any] = files.get_file_info(FileSelector(path, recursive=recursive, allow_not_found=True))
        return found

    @contextmanager
    def _working(self) -> Iterator[Any]:
        """The files of the folder. An error of the block becomes Unavailable."""
        with raising_unavailable("archive", OSError):
            yield self._files

    @cached_property
    def _files(self) -> Any:
        return open_storage(self._url, "archive", "ARCHIVE")


def _folder_of(site_id: str) -> str:
    return f"{_SITE}{quote(site_id, safe='')}"


def _day_of(path: str) -> date:
    return date.fromisoformat(PurePosixPath(path).parent.name.removeprefix(_DATE))
