"""A backup on disk: a folder with files of BSON documents, compressed with zstd, and a manifest.

The files are written into a folder with the suffix `.partial`, which gets its name when everything is on disk. So a
folder without the suffix is complete. The manifest has the SHA-256 of every file, and `manifest.sha256` has that of the
manifest. A decompressed file is what mongodump writes: BSON documents, one after the other.

Callers must handle BackupError, and OSError: the disk is full, or the folder cannot be used.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import sha256
from io import BufferedReader
from pathlib import Path
from stat import S_ISDIR, S_IWGRP, S_IWOTH
from typing import Any, BinaryIO

from zstandard import ZstdCompressor, ZstdDecompressor

BACKUP_FORMAT = 1
MANIFEST_FILE, DIGEST_FILE, SETTINGS_FILE = "manifest.json", "manifest.sha256", "settings.env"
PARTIAL = ".partial"
_DOCUMENTS_SUFFIX = ".bson.zst"
_LENGTH = 4  # bytes at the start of a BSON document, little endian, that hold its length
_LARGEST_MANIFEST = 50_000_000  # bytes
_READ_AT_ONCE = 1 << 20  # bytes

Progress = Callable[[int], object]  # called with numbers of documents

_private = partial(os.open, mode=0o600)


class BackupError(Exception):
    """The message says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """`documents` is their number in the file, and None for a file that has no documents."""

    bytes: int
    sha256: str
    documents: int | None = None


@dataclass(frozen=True)
class BackupManifest:
    """What a backup holds. `collections` has the definitions of indexes, by collection. `last_id` is the id of the last
    entry that the journal ever had. `store_format`: see analytics/store_notes.py.
    """

    id: str
    footfall: str
    store_format: int
    started_at: str
    ended_at: str
    last_id: str
    collections: Mapping[str, list[dict[str, Any]]]
    files: Mapping[str, ArchivedFile] = field(default_factory=dict)
    format: int = BACKUP_FORMAT

    @property
    def documents(self) -> int:
        return sum(file.documents or 0 for file in self.files.values())


class _Digested:
    """A file to which zstd writes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        self.size += len(data)
        return self._file.write(data)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


class BackupFolder:
    """The folder of a backup that is being written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, ArchivedFile] = {}

    @property
    def files(self) -> Mapping[str, ArchivedFile]:
        return self._files

    def write_documents(self, name: str, pieces: Iterable[bytes], wrote: Progress) -> None:
        """Write a file from pieces of whole documents. `wrote` is called with the number of documents of each piece."""
        total = 0
        with open(self._folder / name, "xb", opener=_private) as file:
            digested = _Digested(file)
            with ZstdCompressor().stream_writer(digested, closefd=False) as stream:  # type: ignore[arg-type]
                for piece in pieces:
                    stream.write(piece)
                    documents = _count(piece)
                    total += documents
                    wrote(documents)
            _sync(file)
        self._files[name] = ArchivedFile(digested.size, digested.hexdigest(), total)

    def write_text(self, name: str, text: str) -> None:
        self._files[name] = self._write(name, text.encode())

    def finish(self, manifest: BackupManifest) -> None:
        """Write the manifest, last."""
        text = json.dumps(asdict(manifest), indent=1).encode()
        digest = self._write(MANIFEST_FILE, text).sha256
        self._write(DIGEST_FILE, f"{digest}  {MANIFEST_FILE}\n".encode())  # what sha256sum reads

    def _write(self, name: str, data: bytes) -> ArchivedFile:
        with open(self._folder / name, "xb", opener=_private) as file:
            file.write(data)
            _sync(file)
        return ArchivedFile(len(data), sha256(data).hexdigest())


@contextmanager
def new_backup(folder: Path) -> Iterator[BackupFolder]:
    """Write a backup in the block. The folder has its name after the block, and does not exist if the block fails.

    Raises BackupError if the folder exists, if another process writes it, or if what is there is not what a killed
    backup left.
    """
    if folder.exists():
        raise BackupError(f"{folder} exists already. Choose the name of a new folder.")
    unfinished = folder.with_name(folder.name + PARTIAL)
    try:
        unfinished.mkdir(mode=0o700, parents=True)
    except FileExistsError:  # of a backup that was killed
        _check_ours(unfinished)
    with _locked(unfinished):
        for left in _files_of_backup(unfinished):
            left.unlink()
        try:
            yield BackupFolder(unfinished)
            _sync_folder(unfinished)
            unfinished.rename(folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        _sync_folder(folder.parent)


def _check_ours(folder: Path) -> None:
    """Raises BackupError if another user may have made the folder, or what it leads to."""
    found = folder.lstat()
    if not S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & (S_IWGRP | S_IWOTH):
        raise BackupError(
            f"{folder} is not a folder of this user that only this user may write to. Remove it, or choose the name of"
            " another folder."
        )


def _files_of_backup(folder: Path) -> list[Path]:
    """Return the files in the folder. Raises BackupError if one of them is not of a backup."""
    found = list(folder.iterdir())
    for file in found:
        if file.name not in (MANIFEST_FILE, DIGEST_FILE, SETTINGS_FILE) and not file.name.endswith(_DOCUMENTS_SUFFIX):
            raise BackupError(f"{file} is not a file of a backup. Move it, or choose the name of another folder.")
    return found


def read_manifest(folder: Path) -> BackupManifest:
    """Return the manifest after all files were compared with it, which reads all of them. Raises BackupError, which
    names the file that is missing or differs.
    """
    text = _read_small(folder, MANIFEST_FILE)
    if _read_small(folder, DIGEST_FILE).split()[:1] != [sha256(text).hexdigest().encode()]:
        raise _damaged(folder, MANIFEST_FILE, f"differs from {DIGEST_FILE}")
    content = json.loads(text)
    if content["format"] > BACKUP_FORMAT:
        raise BackupError(
            f"{folder} was written by Footfall {content['footfall']}, in format {content['format']}. This version"
            f" reads {BACKUP_FORMAT} at most. Install the later version."
        )
    files = {name: ArchivedFile(**each) for name, each in content.pop("files").items()}
    for name, expected in files.items():
        _check(folder, name, expected)
    return BackupManifest(**content, files=files)


def read_documents(path: Path) -> Iterator[bytes]:
    """Yield the documents of a file as BSON, read as the caller consumes them."""
    with path.open("rb") as file, ZstdDecompressor().stream_reader(file) as stream:
        source = BufferedReader(stream, _READ_AT_ONCE)
        while start := source.read(_LENGTH):
            yield start + source.read(int.from_bytes(start, "little") - _LENGTH)


def _check(folder: Path, name: str, expected: ArchivedFile) -> None:
    digest = sha256()
    try:
        with (folder / name).open("rb") as file:
            if (size := os.fstat(file.fileno()).st_size) != expected.bytes:
                raise _damaged(folder, name, f"has {size:,} bytes instead of {expected.bytes:,}")
            while block := file.read(_READ_AT_ONCE):
                digest.update(block)
    except FileNotFoundError:
        raise _damaged(folder, name, "is missing") from None
    if digest.hexdigest() != expected.sha256:
        raise _damaged(folder, name, "was altered: its SHA-256 differs")


def _read_small(folder: Path, name: str) -> bytes:
    try:
        with (folder / name).open("rb") as file:
            return file.read(_LARGEST_MANIFEST)
    except FileNotFoundError:
        if not folder.is_dir():
            raise BackupError(f"{folder} is not a folder with a backup.") from None
        raise _damaged(folder, name, "is missing") from None


def _damaged(folder: Path, name: str, what: str) -> BackupError:
    return BackupError(f"{folder / name} {what}. Nothing was restored. Use another backup.")


def _count(piece: bytes) -> int:
    documents, at = 0, 0
    while at < len(piece):
        at += int.from_bytes(piece[at : at + _LENGTH], "little")
        documents += 1
    return documents


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. The kernel frees it if the process is killed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(f"Another process writes {folder}. Choose the name of another folder.") from None
        yield
    finally:
        os.close(descriptor)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
