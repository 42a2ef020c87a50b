"""Searches a site's events for a value that no index contains. All events of the site are read, by time, in intervals
of at most _MOST_AT_ONCE events. Callers must handle Unavailable, raised if MongoDB is not reachable.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from bson import Decimal128
from pymongo.errors import PyMongoError

from analytics.events.event_index import EventIndex
from analytics.events.selection import Selection
from analytics.events.stored_props import as_sent
from analytics.interval import LATEST, Interval, as_datetime
from analytics.unavailable import raising_unavailable

_MOST_AT_ONCE = 100_000  # of the site's events, which one query reads


class EventSearch(EventIndex):
    def keys(self, site_id: str, which: Selection) -> Iterator[Any]:
        """Yield the `_id`s of the site's events that match. Raises Unavailable."""
        return (document["_id"] for document in self._search(site_id, which, {"_id": 1}))

    def find(self, site_id: str, which: Selection) -> Iterator[dict[str, Any]]:
        """Yield the site's events that match, with all fields that MongoDB holds, as JSON. Raises Unavailable."""
        for document in self._search(site_id, which):
            props = {"props": as_sent(document["props"])} if "props" in document else {}
            yield {name: _as_json(value) for name, value in (document | props).items()}

    def _search(
        self, site_id: str, which: Selection, fields: Mapping[str, int] | None = None
    ) -> Iterator[dict[str, Any]]:
        months = self.months(site_id)
        with raising_unavailable("mongodb", PyMongoError):
            for month in months:
                for part in self._parts(site_id, month):
                    when = {"$gte": as_datetime(part.start), "$lt": as_datetime(part.end)}
                    yield from self._events.find(which | {"timestamp": when}, fields)
            # Documents of other programs.
            odd = [{"timestamp": {"$lt": as_datetime(0)}}, {"timestamp": {"$gte": LATEST}}]
            yield from self._events.find(which | {"$or": [*odd, {"timestamp": {"$not": {"$type": "date"}}}]}, fields)

    def _parts(self, site_id: str, interval: Interval) -> Iterator[Interval]:
        """Yield the interval in parts of few events."""
        count = self.count(site_id, interval, _MOST_AT_ONCE + 1)
        middle = (interval.start + interval.end) // 2
        if count <= _MOST_AT_ONCE or middle == interval.start:
            if count:
                yield interval
        else:
            yield from self._parts(site_id, Interval(interval.start, middle))
            yield from self._parts(site_id, Interval(middle, interval.end))


def _as_json(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat()
        case UUID() | Decimal128():
            return str(value)
        case dict():
            return {name: _as_json(item) for name, item in value.items()}
        case list():
            return [_as_json(item) for item in value]
        case str() | int() | float() | None:
            return value
        case _:
            return repr(value)
