"""Footfall's own export (analytics/events/export.py), as NDJSON, Parquet or CSV. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from analytics.imports.format import ImportFormat, SkippedRow, SourceEvent
from analytics.imports.source import Head, SourceFile

_FLAGS, _NUMBERS = ("interactive", "clamped"), ("engagement_time", "scroll_depth")
_NEEDED = {"id", "site_id", "event_type", "timestamp", "received_at"}


def recognises(head: Head) -> bool:
    return (head.item.keys() or head.columns) >= _NEEDED


def read(files: Sequence[SourceFile]) -> Iterator[dict[str, Any]]:
    for file in files:
        head = file.head()
        yield from file.csv_rows() if head.columns and head.line else file.rows()


def translate(row: dict[str, Any]) -> Iterator[SourceEvent | SkippedRow]:
    is_column = "revenue_amount" in row  # a row of Parquet or CSV has all columns
    if is_column and isinstance(row["timestamp"], str):
        row = _from_cells(row)
    yield SourceEvent(_from_columns(row) if is_column else row, owner=str(row.get("site_id") or ""))


def _from_cells(row: dict[str, str]) -> dict[str, Any]:
    """The values of a row of CSV, without the apostrophes that report_app/csv_output.py adds."""
    found: dict[str, Any] = {name: cell.removeprefix("'") for name, cell in row.items() if cell}
    found |= {name: found[name] == "true" for name in _FLAGS if name in found}
    return found | {name: int(found[name]) for name in _NUMBERS if name in found}


def _from_columns(row: dict[str, Any]) -> dict[str, Any]:
    event = {name: _plain(value) for name, value in row.items() if value is not None}
    amount, currency = event.pop("revenue_amount", None), event.pop("revenue_currency", None)
    if amount is not None:
        event["revenue"] = {"amount": str(amount), "currency": currency}
    if "props" in event:
        event["props"] = msgspec.json.decode(str(event["props"]))
    return event


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


FOOTFALL_EXPORT = ImportFormat(
    name="footfall",
    title="Footfall's export",
    mapping={"every field": "the same field", "site_id": "the site that you name with --site"},
    recognises=recognises,
    read=read,
    translate=translate,
    is_export=True,
)
