"""Writes events as files in pieces: NDJSON, whose lines `POST /events` accepts, Parquet, and table rows. Pure.

The number of events is not limited. Only the current piece is in memory, and its size is bounded in bytes. Exceptions
of the events' source pass through and leave an incomplete file: a Parquet file has its index at its end.
"""

import json
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
from pyarrow.parquet import ParquetWriter

from analytics.events.event import DESCRIBED, Event
from analytics.events.event_size import characters
from analytics.events.schema import dump_exported_event

_PIECE = 65_536  # bytes sent at once, plus the rest of the last line
EXPORT_ROW_GROUP, ROW_GROUP_TEXT = 10_000, 8_000_000  # rows, and characters of their texts; whichever is reached first
_MOST_MONEY = Decimal(10) ** 15  # what decimal128(18, 3) holds

EXPORT_COLUMNS = pa.schema([
    ("id", pa.string()), ("sequence", pa.string()), ("site_id", pa.string()), ("event_type", pa.string()),
    ("timestamp", pa.timestamp("ms", "UTC")), ("clamped", pa.bool_()), ("received_at", pa.timestamp("ms", "UTC")),
    ("hostname", pa.string()), ("path", pa.string()), ("user_id", pa.string()), ("visitor_id", pa.string()),
    ("interactive", pa.bool_()), ("engagement_time", pa.int64()), ("scroll_depth", pa.int64()),
    ("revenue_amount", pa.decimal128(18, 3)), ("revenue_currency", pa.string()), ("props", pa.string()),
    *((name, pa.string()) for name in DESCRIBED),
])  # fmt: skip


def ndjson(events: Iterable[Event]) -> Iterator[bytes]:
    return in_pieces(dump_exported_event(event) + b"\n" for event in events)


def in_pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Join lines to pieces of at least _PIECE bytes."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        piece.append(line)
        size += len(line)
        if size >= _PIECE:
            yield b"".join(piece)
            piece, size = [], 0
    yield b"".join(piece)


def parquet(events: Iterable[Event]) -> Iterator[bytes]:
    """Yield a Parquet file. `props` are JSON text, so that each property keeps its type. Without events, the file has
    no rows.
    """
    sink = _Sink()
    # Statistics for all columns would keep the longest texts of each row group in memory until the file ends.
    writer = ParquetWriter(sink, EXPORT_COLUMNS, compression="zstd", write_statistics=["timestamp"])
    for rows in _row_groups(events):
        writer.write_table(pa.Table.from_pylist(rows, schema=EXPORT_COLUMNS))
        yield sink.drain()
    writer.close()
    yield sink.drain()


def _row_groups(events: Iterable[Event]) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    size = 0
    for event in events:
        rows.append(row_of(event))
        size += characters(event)
        if len(rows) == EXPORT_ROW_GROUP or size >= ROW_GROUP_TEXT:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def row_of(event: Event) -> dict[str, Any]:
    """Return the event's values by the names of EXPORT_COLUMNS."""
    money = event.revenue if event.revenue and abs(event.revenue.amount) < _MOST_MONEY else None
    return {
        "id": str(event.exported_id or event.id),
        "sequence": event.sequence,
        "site_id": event.site_id,
        "event_type": event.event_type,
        "timestamp": event.occurred_at,
        "clamped": event.clamped,
        "received_at": event.received_at,
        "hostname": event.hostname,
        "path": event.path,
        "user_id": event.user_id,
        "visitor_id": event.visitor_id,
        "interactive": event.interactive,
        "engagement_time": event.engagement_time,
        "scroll_depth": event.scroll_depth,
        "revenue_amount": round(money.amount, 3) if money else None,
        "revenue_currency": money.currency if money else None,
        "props": None if event.props is None else json.dumps(event.props, ensure_ascii=False),
        **(event.described or {}),
    }


class _Sink:
    """The file object for a ParquetWriter, with only the methods that it needs. Bytes wait here until they are
    drained.
    """

    closed = False

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._written = 0

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._waiting.append(piece)
        self._written += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        return

    def close(self) -> None:
        return

    def drain(self) -> bytes:
        piece = b"".join(self._waiting)
        self._waiting.clear()
        return piece
