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
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import Any
from urllib.parse import quote, unquote

from analytics.file_storage import FileStorage
from analytics.unavailable import raising_unavailable

_SITE, _DATE = "site_id=", "date="
_FILE = "events.parquet"


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
    """`url`: see FileStorage."""

    def __init__(self, url: str) -> None:
        self._storage = FileStorage(url, "archive", "ARCHIVE")

    def holds(self, which: ArchivedDay) -> bool:
        """Raises Unavailable."""
        with self._working() as storage:
            return bool(storage.files.get_file_info(which.file).is_file)

    def write(self, which: ArchivedDay, pieces: Iterable[bytes]) -> None:
        """Write the file, in place of an earlier one. Raises Unavailable, and what `pieces` raises."""
        # All pieces are on this machine before the first is sent. An object of S3 that is begun cannot be given up.
        with self._working() as storage, TemporaryFile(prefix="footfall-archive-") as whole:
            whole.writelines(pieces)
            whole.seek(0)
            if not storage.is_s3:
                storage.files.create_dir(which.folder)
            storage.write(which.file, whole)

    def remove(self, which: ArchivedDay) -> bool:
        """Remove the file, and return whether it was there. Raises Unavailable."""
        was_there = self.holds(which)
        if was_there:
            with self._working() as storage:
                storage.files.delete_dir(which.folder)
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
        with self._working() as storage, to.open("wb") as target:
            storage.read(which.file, target)

    def _inside(self, path: str, recursive: bool = False) -> list[Any]:
        from pyarrow.fs import FileSelector  # noqa: PLC0415 most processes use no archive, and save its memory

        with self._working() as storage:
            found: list[Any] = storage.files.get_file_info(
                FileSelector(path, recursive=recursive, allow_not_found=True)
            )
        return found

    @contextmanager
    def _working(self) -> Iterator[FileStorage]:
        """The folder's files. An error of the block becomes Unavailable."""
        with raising_unavailable("archive", OSError):
            yield self._storage


def _folder_of(site_id: str) -> str:
    return f"{_SITE}{quote(site_id, safe='')}"


def _day_of(path: str) -> date:
    return date.fromisoformat(PurePosixPath(path).parent.name.removeprefix(_DATE))
