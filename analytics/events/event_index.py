"""Which sites and months have events, from the index of MongoDB alone. Callers handle Unavailable (MongoDB is down)."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.interval import LATEST, Interval, as_datetime, as_ms, interval_of
from analytics.unavailable import raising_unavailable

BY_TIME = [("site_id", 1), ("timestamp", 1)]  # the index site_time


class EventIndex:
    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._events = database["events"]

    def sites(self) -> Iterator[str]:
        """Yield all sites with events. Each costs one index look-up, no matter how many events it has. Raises
        Unavailable.
        """
        with raising_unavailable("mongodb", PyMongoError):
            site_id = ""
            while found := self._events.find_one({"site_id": {"$gt": site_id}}, {"site_id": 1}, sort=BY_TIME):
                site_id = found["site_id"]
                yield site_id

    def months(self, site_id: str) -> list[Interval]:
        """Return the months in which the site has events, with one index look-up each. Raises Unavailable."""
        months: list[Interval] = []
        with raising_unavailable("mongodb", PyMongoError):
            after = as_datetime(0)
            while found := self._events.find_one(
                {"site_id": site_id, "timestamp": {"$gte": after, "$lt": LATEST}}, {"timestamp": 1}, sort=BY_TIME
            ):
                months.append(interval_of("month", as_ms(found["timestamp"])))
                after = as_datetime(months[-1].end)
        return months

    def count(self, site_id: str, interval: Interval, most: int) -> int:
        """Count the events up to `most`. Raises Unavailable."""
        when = {"$gte": as_datetime(interval.start), "$lt": as_datetime(interval.end)}
        with raising_unavailable("mongodb", PyMongoError):
            return self._events.count_documents({"site_id": site_id, "timestamp": when}, limit=most)

    def last_at(self, site_id: str) -> datetime | None:
        """Return the time of the site's latest event. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            found = self._events.find_one({"site_id": site_id}, {"timestamp": 1}, sort=[("timestamp", -1)])
        return found["timestamp"] if found else None

    def keys_by_name(self) -> Mapping[str, Any]:
        """Return MongoDB's description of each index of events, by its name. Raises PyMongoError."""
        return self._events.index_information()

    def total(self) -> int:
        """About how many events there are. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            return self._events.estimated_document_count()
