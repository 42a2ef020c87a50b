"""Selections of stored events, to search or to remove them. Callers pass them on, and only analytics/events knows their
content, which has MongoDB's names of an event's fields. Pure.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NewType

Selection = NewType("Selection", dict[str, Any])


def of_visitor(site_id: str, name: str, visitor: str) -> Selection:
    """`name` is user_id or visitor_id."""
    return Selection({"site_id": site_id, name: visitor})


def of_import(site_id: str, import_id: str, times: tuple[datetime, datetime] | None) -> Selection:
    """`times` are those of the first and the last event, if they are known: MongoDB can then use its index."""
    when = {} if times is None else {"timestamp": {"$gte": times[0], "$lte": times[1]}}
    return Selection({"site_id": site_id, "import_id": import_id} | when)


def of_entries(entry_ids: Iterable[str]) -> Selection:
    """The events that these journal entries stored."""
    return Selection({"entry_id": {"$in": list(entry_ids)}})


def older_than(site_id: str, moment: datetime) -> Selection:
    return Selection({"site_id": site_id, "timestamp": {"$lt": moment}})
