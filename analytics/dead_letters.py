"""Dead letters: events that failed for their own fault, kept as they came, with the reason.

A dead letter has the id that the event has or would have had, so a second delivery replaces the first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import pymongo
from bson import Binary
from pymongo import ReplaceOne
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.mongodb import WRITE_LIMIT
from analytics.unavailable import trouble_with

# What a dead letter keeps of a payload at most: MongoDB takes documents up to 16 MB.
MOST_RAW = 1_000_000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """`reason` is a fixed word (`invalid_event`, `refused`), `detail` says more; `raw` is the journal's payload."""

    id: UUID
    entry_id: str
    reason: str
    detail: dict[str, Any]
    raw: bytes


class DeadLetterStore:
    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._letters = database["dead_letters"]

    def keep(self, letters: Sequence[DeadLetter], at: datetime) -> None:
        """Write all of them; again is harmless. Raises Unavailable."""
        if not letters:
            return
        with trouble_with("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
            self._letters.bulk_write([ReplaceOne({"_id": x.id}, _document(x, at), upsert=True) for x in letters])


def _document(letter: DeadLetter, at: datetime) -> dict[str, Any]:
    return {
        "_id": letter.id,
        "entry_id": letter.entry_id,
        "reason": letter.reason,
        "detail": letter.detail,
        "raw": _readable(letter.raw[:MOST_RAW]),
        "raw_bytes": len(letter.raw),
        "dead_at": at,
    }


def _readable(raw: bytes) -> str | Binary:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return Binary(raw)
