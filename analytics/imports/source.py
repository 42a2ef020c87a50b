"""Reads files of any size row by row: lines, CSV, JSON and Parquet. Files compressed with gzip or zstd are inflated,
and those in a ZIP archive are read from there.

Memory is bounded by LONGEST_ROW, and for Parquet by the file's row groups. Callers must handle UnreadableFile, also
after some rows were read. Its message names the file.
"""

import codecs
import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b, sha256
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import Any, TypeVar
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import msgspec
import zstandard

from analytics.wording import printable

LONGEST_ROW = 16_000_000  # bytes
_PIECE = 65_536  # bytes
_BETWEEN = frozenset(" \t\r\n,")  # characters between the items of a JSON array
_PARQUET_ROWS = 500  # rows that are converted to Python at once
_REMEMBERED_ROWS = 100_000
_ENDS = 1_000_000  # bytes at each end of a file that identify it
_WINDOW = 2**27  # bytes that a zstd frame may refer back to, the default limit of zstd's command
_ZIP = b"PK\x03\x04"
_MOST_MEMBERS = 1_000  # of a ZIP archive
_BROKEN = (EOFError, OSError, BadZipFile, zlib.error, zstandard.ZstdError, csv.Error, ValueError, RecursionError)

csv.field_size_limit(LONGEST_ROW)  # of the whole process; the default is 131,072

T = TypeVar("T")
SourceRow = dict[str, Any]


class UnreadableFile(Exception):
    """The file is missing, damaged, or not in the expected format. The message is a sentence."""


@dataclass(frozen=True, slots=True)
class Head:
    """The begin of a file: the columns of a CSV or Parquet file, the first object of a JSON file, or the first line."""

    columns: frozenset[str] = frozenset()
    item: SourceRow = field(default_factory=dict)
    line: str = ""


@dataclass(slots=True)
class InflatedBytes:
    """How many bytes may still be read, after inflation, from all files that share this. Parquet is refused, because
    its reader inflates more than can be counted.
    """

    left: int

    def spend(self, count: int) -> None:
        """Raises ValueError if they are spent."""
        self.left -= count
        if self.left < 0:
            raise ValueError("inflated, it is too large. Import it with `python -m footfall import`")


def source_files(paths: Iterable[Path], limit: InflatedBytes | None = None) -> list["SourceFile"]:
    """Return the files at these paths, and those in ZIP archives. Raises UnreadableFile."""
    return [file for path in paths for file in _files_at(path, limit)]


def _files_at(path: Path, limit: InflatedBytes | None) -> list["SourceFile"]:
    whole = SourceFile(path, limit=limit)
    return [SourceFile(path, member, limit) for member in whole.members()] or [whole]


class SourceFile:
    """A file to import, or a `member` of a ZIP archive. `done` is how many of its `size` bytes were read."""

    def __init__(self, path: Path, member: ZipInfo | None = None, limit: InflatedBytes | None = None) -> None:
        self.path = path / printable(member.filename) if member else path
        self.size = 0
        self._archive = path
        self._member = member
        self._limit = limit
        self._position: Callable[[], int] = lambda: 0
        with self._explained():
            self.size = member.compress_size if member else path.stat().st_size

    def members(self) -> list[ZipInfo]:
        """Return the files in this ZIP archive, and none if it is another file. Raises UnreadableFile."""
        with self._explained(), self.path.open("rb") as file:
            if file.read(4) != _ZIP:
                return []
            with ZipFile(file) as archive:
                # macOS adds a folder __MACOSX.
                found = [x for x in archive.infolist() if not x.is_dir() and not x.filename.startswith("__MACOSX/")]
        if not 0 < len(found) <= _MOST_MEMBERS:
            raise UnreadableFile(f"{self.path}: it has {len(found):,} files, and not 1 to {_MOST_MEMBERS:,}.")
        if any(each.flag_bits & 1 or each.compress_type not in (ZIP_STORED, ZIP_DEFLATED) for each in found):
            raise UnreadableFile(f"{self.path}: it is encrypted, or compressed in another way than ZIP's usual one.")
        return found

    @property
    def done(self) -> int:
        return self._position()

    def fingerprint(self) -> str:
        """Return a hash of the file's size and of both its ends. A copy under another name has the same."""
        if self._member:
            return f"{self._member.file_size}:{self._member.CRC}"
        with self._explained(), self.path.open("rb") as file:
            first = file.read(_ENDS)
            file.seek(max(self.size - _ENDS, 0))
            return sha256(b"%d:%b%b" % (self.size, first, file.read(_ENDS))).hexdigest()

    def head(self) -> Head:
        if self._is_parquet():
            return Head(columns=frozenset(self._parquet().schema_arrow.names))
        line = next((line for each in self.lines() if (line := each.strip())), "")
        if line.startswith(("{", "[")):
            return Head(item=next(self.json_rows(), {}), line=line)
        return Head(columns=frozenset(next(csv.reader([line]), [])), line=line)

    def rows(self) -> Iterator[SourceRow]:
        """Yield the objects of a JSON or Parquet file, whichever it is."""
        return self.parquet_rows() if self._is_parquet() else self.json_rows()

    def lines(self) -> Iterator[str]:
        """Yield the lines as text, with their ends. Bytes that are not UTF-8 are replaced."""
        with self._opened() as stream:
            for line in _lines(stream):
                yield line.decode(errors="replace")

    def csv_rows(self) -> Iterator[dict[str, str]]:
        """Yield the rows of a CSV file with a header, by the names of its columns."""
        with self._explained():
            size = 0

            def measured() -> Iterator[str]:
                nonlocal size
                for line in self.lines():
                    size += len(line)
                    if size > LONGEST_ROW:
                        raise ValueError(f"a row is longer than {LONGEST_ROW:,} characters")
                    yield line

            reader = csv.reader(measured())
            header = next(reader, [])
            for row in reader:
                size = 0
                yield dict(zip(header, row, strict=False))

    def json_rows(self) -> Iterator[SourceRow]:
        """Yield the objects of a JSON file: one on each line, or one array."""
        with self._opened() as stream:
            is_array = stream.peek(64).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")
            pieces = iter(partial(stream.read, _PIECE), b"")
            items = _items(pieces) if is_array else map(_decoded, filter(bytes.strip, _lines(stream)))
            for item in items:
                if not isinstance(item, dict):
                    raise ValueError("it has a value that is not a JSON object")
                yield item

    def parquet_rows(self) -> Iterator[SourceRow]:
        file = self._parquet()
        total, count = max(file.metadata.num_rows, 1), 0
        self._position = lambda: self.size * count // total
        with self._explained():
            for batch in file.iter_batches(_PARQUET_ROWS, use_threads=False):
                for row in batch.to_pylist():
                    count += 1
                    yield row

    def _is_parquet(self) -> bool:
        if self._member:
            return False
        with self._explained(), self.path.open("rb") as file:
            return file.read(4) == b"PAR1"

    def _parquet(self) -> Any:
        if self._limit:
            raise UnreadableFile(f"{self.path}: it is a Parquet file. Import it with `python -m footfall import`.")
        from pyarrow.parquet import ParquetFile  # noqa: PLC0415 most imports do not need it and save its memory

        with self._explained():
            return ParquetFile(self.path, pre_buffer=False, buffer_size=_PIECE)

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """The inflated bytes, as a stream. Errors of the block become UnreadableFile."""
        with self._explained(), self._archive.open("rb") as file, self._stored(file) as stream:
            done = 0
            try:
                inflated = _inflated(stream)
                yield BufferedReader(_Counted(inflated, self._limit), _PIECE) if self._limit else inflated
                done = self.size
            finally:
                self._position = lambda: done

    @contextmanager
    def _stored(self, file: BufferedReader) -> Iterator[Any]:
        """The bytes of the file, or of the archive's member."""
        member = self._member
        if not member:
            self._position = file.tell
            yield file
            return
        with ZipFile(file) as archive, archive.open(member) as stream:
            self._position = lambda: member.compress_size * stream.tell() // max(member.file_size, 1)
            yield stream

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except _BROKEN as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise UnreadableFile(f"{self.path}: {said or type(error).__name__}.") from None


def keyed(rows: Iterable[T], text_of: Callable[[T], str]) -> Iterator[tuple[str, T]]:
    """Yield each row with a key that is the same in each run: the hash of its text, and how often the same text came
    before. The rows of some formats have no id.

    It remembers the last 100,000 different rows or more. Equal rows have the same time, so they are close together.
    """
    older: dict[bytes, int] = {}
    newer: dict[bytes, int] = {}
    for row in rows:
        name = blake2b(text_of(row).encode(errors="surrogatepass"), digest_size=16).digest()
        count = newer.get(name, older.get(name, 0))
        newer[name] = count + 1
        yield f"{name.hex()}-{count}", row
        if len(newer) >= _REMEMBERED_ROWS:
            older, newer = newer, {}


class _Counted(RawIOBase):
    """The bytes of a stream, counted when they are read."""

    def __init__(self, stream: Any, limit: InflatedBytes) -> None:
        self._stream = stream
        self._limit = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count: int = self._stream.readinto1(buffer)
        self._limit.spend(count)
        return count


def _inflated(file: Any) -> Any:
    magic = file.peek(4)[:4]
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if magic == b"\x28\xb5\x2f\xfd":
        reader = zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(file, read_across_frames=True)
        return BufferedReader(reader, _PIECE)
    return file


def _lines(stream: Any) -> Iterator[bytes]:
    """Yield the lines, without the mark that begins some texts. Raises ValueError."""
    is_first = True
    while line := stream.readline(LONGEST_ROW):
        if len(line) == LONGEST_ROW:
            raise ValueError(f"a line is longer than {LONGEST_ROW:,} bytes")
        yield line.removeprefix(codecs.BOM_UTF8) if is_first else line
        is_first = False


def _decoded(line: bytes) -> Any:
    """Read a JSON text in a fifth of json's time. json also reads what msgspec refuses, such as NaN."""
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return json.loads(line)


def _items(pieces: Iterable[bytes]) -> Iterator[Any]:
    """Yield the items of a JSON array. Only one item, and as much text again, is in memory. `at` is where the next item
    begins in `text`, which is cut only when more of it is read.
    """
    decoder = json.JSONDecoder()
    texts = codecs.iterdecode(pieces, "utf-8-sig", errors="replace")
    text, at = next(texts, "").lstrip()[1:], 0  # without the bracket
    while True:
        while text[at : at + 1] in _BETWEEN:
            at += 1
        if text.startswith("]", at):
            return
        try:
            item, end = decoder.raw_decode(text, at) if at < len(text) else (None, 0)
        except json.JSONDecodeError:
            end = 0
        if end:
            yield item
            at = end
            continue
        text, at = text[at:], 0
        more = _more(texts, len(text))
        if not more:
            raise ValueError("the JSON array has no end, or is not valid")
        text += more
        if len(text) > 2 * LONGEST_ROW:
            raise ValueError(f"an item of the JSON array is longer than {LONGEST_ROW:,} bytes, or is not valid")


def _more(texts: Iterator[str], least: int) -> str:
    """Return at least as many characters as are waiting, so that an item is not parsed again for each line of it."""
    found: list[str] = []
    size = 0
    for text in texts:
        found.append(text)
        size += len(text)
        if size >= max(least, _PIECE):
            break
    return "".join(found)
