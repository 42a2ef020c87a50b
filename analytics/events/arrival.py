"""The order in which events arrived, from MongoDB's documents. Pure; nothing is raised."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from analytics.events.event import id_from_document, sequence_of


def place_of(document: Mapping[str, Any]) -> tuple[str, UUID]:
    """The sort key of documents with one timestamp. No two documents have the same key."""
    return arrival_of(document), id_of(document["_id"])


def arrival_of(document: Mapping[str, Any]) -> str:
    """The sequence of the event, or of the entry that stored it. A document of another program sorts first."""
    given = document.get("sequence")
    return given if isinstance(given, str) else sequence_of(str(document.get("entry_id", "")))


def id_of(key: Any) -> UUID:
    """The event's id. The `_id` of another program may have any type."""
    return key if isinstance(key, UUID) else id_from_document(str(key))
