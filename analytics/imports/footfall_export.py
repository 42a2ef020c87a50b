"""Footfall's own export (analytics/events/export.py), as NDJSON or Parquet. Pure."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from analytics.imports.format import ImportFormat, SkippedRow, SourceEvent, rows_of
from analytics.imports.source import Head

_NEEDED = {"id", "site_id", "event_type", "timestamp", "received_at"}


def recognises(head: Head) -> bool:
    return (head.item.keys() or head.columns) >= _NEEDED


def translate(row: dict[str, Any]) -> Iterator[SourceEvent | SkippedRow]:
    is_column = "revenue_amount" in row  # a row of Parquet has all columns
    yield SourceEvent(_from_columns(row) if is_column else row, owner=str(row.get("site_id") or ""))


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
    read=rows_of,
    translate=translate,
    is_export=True,
)
