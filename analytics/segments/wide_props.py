"""Keeps the properties of very large events in a separate file while their visits are derived and sorted.

DuckDB processes 2,048 rows at once, and sorts with all their columns in memory. Properties of 60 kB take 120 MB for
each step, and a sort of a gigabyte failed with a limit of a gigabyte. The properties of a batch with large rows
therefore go to a file, and a reference replaces them. The finished segment gets them back piece by piece, in row groups
of few rows, so that later reads also hold few rows at once.
"""

import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from analytics.events.columns import RAW
from analytics.events.event import new_id

LARGE = 4_096  # bytes of a row's properties, on average over a batch; 2,048 such rows take 8 MB
WIDE_ROW_GROUP = 8_000_000  # bytes of properties
_MOST_ROWS = 122_880  # of a row group
READ_AT_ONCE_ROWS = 2_048  # rows, without their properties

_PROPS = pa.schema([RAW.field("props")])


class WideProps:
    def __init__(self, folder: Path) -> None:
        self._file = folder / "props.arrow"
        self._writer: pa.RecordBatchFileWriter | None = None
        self._mark = new_id().hex  # of a reference; no client can send this name
        self._ends: list[int] = []  # the number of rows up to the end of each batch

    @property
    def is_some(self) -> bool:
        return bool(self._ends)

    def aside(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the same batches, with references in place of large properties."""
        place = RAW.get_field_index("props")
        for batch in batches:
            props = batch.column(place)
            if is_wide(props):
                yield batch.set_column(place, RAW.field(place), self._put(props))
            else:
                yield batch

    def _put(self, props: pa.Array) -> pa.Array:
        if self._writer is None:
            self._writer = pa.ipc.new_file(self._file, _PROPS)
        self._writer.write_batch(pa.record_batch([props], schema=_PROPS))
        first = self._ends[-1] if self._ends else 0
        self._ends.append(first + len(props))
        references = [[(self._mark, f"{len(self._ends) - 1} {row}")] for row in range(len(props))]
        return pa.array(references, RAW.field("props").type)

    def restore(self, file: Path) -> Path:
        """Return the path of a copy of the segment's file, with the properties in place of the references."""
        assert self._writer is not None  # noqa: S101  there are some
        self._writer.close()
        target = file.with_stem(f"{file.stem}-whole")
        source = pq.ParquetFile(file)
        with self._file.open("rb") as opened:
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        kept = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped)))
        batches = [kept.get_batch(number).column(0) for number in range(kept.num_record_batches)]
        with pq.ParquetWriter(target, source.schema_arrow, compression="zstd") as writer:
            for piece in _pieces(source.iter_batches(READ_AT_ONCE_ROWS), batches, self._mark):
                writer.write_table(piece)
                mapped.madvise(mmap.MADV_DONTNEED)  # otherwise the whole file stays in this process's memory
        return target


def is_wide(props: pa.Array) -> bool:
    """Whether the properties of these events are large."""
    return bool(props.nbytes > LARGE * len(props))


def _pieces(narrow: Iterable[pa.RecordBatch], kept: list[pa.Array], mark: str) -> Iterator[pa.Table]:
    """Yield row groups."""
    waiting: list[pa.RecordBatch] = []
    size = 0
    for batch in narrow:
        place = batch.schema.get_field_index("props")
        rows = [_row(cell, kept, mark) for cell in batch.column(place)]
        first = 0
        for row, (_, its_size) in enumerate(rows):
            size += its_size
            if size > WIDE_ROW_GROUP or sum(b.num_rows for b in waiting) + row - first >= _MOST_ROWS:
                waiting.append(_filled(batch.slice(first, row + 1 - first), rows[first : row + 1], place))
                yield pa.Table.from_batches(waiting)
                waiting, size, first = [], 0, row + 1
        if first < batch.num_rows:
            waiting.append(_filled(batch.slice(first), rows[first:], place))
    if waiting:
        yield pa.Table.from_batches(waiting)


def _row(cell: pa.MapScalar, kept: list[pa.Array], mark: str) -> tuple[pa.Array, int]:
    """Return the properties of one row, as an array of length one, and their bytes."""
    match cell.as_py():
        case [(name, reference)] if name == mark:
            number, row = map(int, reference.split())
            props = kept[number].slice(row, 1)
            return props, props.nbytes
        case _:
            return pa.array([cell], cell.type), 0


def _filled(batch: pa.RecordBatch, rows: list[tuple[pa.Array, int]], place: int) -> pa.RecordBatch:
    field = batch.schema.field(place)
    props = pa.concat_arrays([row.cast(field.type) for row, _ in rows])
    return batch.set_column(place, field, props)
