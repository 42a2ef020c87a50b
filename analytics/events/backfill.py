"""Events that were stored before there were segments, whose hours nobody marked: the months of them that no segment has
yet. Until they have, a reading takes such a month from raw events, all of it.

In MongoDB: `segment_state` says whether the months were listed, and whether all are done; `segment_history` has those
that are not. Whoever dies while he lists lists again. Wrong can go: MongoDB away is Unavailable.
"""

from dataclasses import dataclass
from typing import Any

from pymongo import UpdateOne
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.events.event_index import EventIndex
from analytics.interval import Interval, as_datetime, as_ms, interval_of
from analytics.unavailable import raising_unavailable

STATE = {"_id": "history"}


@dataclass(frozen=True, slots=True)
class Past:
    """A site's month that is to be built from raw events."""

    site_id: str
    month: Interval


class Backfill:
    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._state = database["segment_state"]
        self._months = database["segment_history"]
        self._events = database["events"]
        self._index = EventIndex(database)
        self._is_done = False  # for good, once it is

    def left(self, site_id: str) -> list[Interval]:
        """The site's months that no segment may be trusted with yet. Two look-ups by the index a month where nobody
        listed them, else one in all, and none once all are done.
        """
        if self._is_done:
            return []
        with raising_unavailable("mongodb", PyMongoError):
            state = self._state.find_one(STATE)
            if state is None:
                return self._index.months(site_id)
            self._is_done = state["done"]
            if self._is_done:
                return []
            return [_read(found).month for found in self._months.find({"site_id": site_id}).sort("month", 1)]

    def is_done(self) -> bool:
        with raising_unavailable("mongodb", PyMongoError):
            return self._state.find_one({**STATE, "done": True}) is not None

    def all_left(self) -> list[Past]:
        """Of all sites, the newest month first, as it is asked for most. The first call lists them."""
        with raising_unavailable("mongodb", PyMongoError):
            if self._state.find_one(STATE) is None:
                self._list()
            found = [_read(each) for each in self._months.find().sort([("month", -1), ("site_id", 1)])]
            if not found:
                self._state.update_one(STATE, {"$set": {"done": True}})
        return found

    def finish(self, past: Past) -> None:
        """It is in a segment."""
        with raising_unavailable("mongodb", PyMongoError):
            self._months.delete_one(_key(past))
            if self._months.find_one({}, {"_id": 1}) is None:
                self._state.update_one(STATE, {"$set": {"done": True}})  # where they were listed

    def note_if_there_is_none(self) -> None:
        """To be asked before the first event is stored: from then on every event is marked."""
        with raising_unavailable("mongodb", PyMongoError):
            if self._state.find_one(STATE) is None and self._events.find_one({}, {"_id": 1}) is None:
                self._state.update_one(STATE, {"$setOnInsert": {"done": True}}, upsert=True)

    def _list(self) -> None:
        for site_id in self._index.sites():
            months = [Past(site_id, month) for month in self._index.months(site_id)]
            fields = [{"site_id": site_id, "month": as_datetime(past.month.start)} for past in months]
            writes = [UpdateOne(_key(past), {"$set": f}, upsert=True) for past, f in zip(months, fields, strict=True)]
            if writes:
                self._months.bulk_write(writes, ordered=False)
        self._months.create_index([("site_id", 1), ("month", 1)], name="site_month")
        self._state.update_one(STATE, {"$setOnInsert": {"done": False}}, upsert=True)


def _key(past: Past) -> dict[str, Any]:
    return {"_id": {"site_id": past.site_id, "month": as_datetime(past.month.start)}}


def _read(document: dict[str, Any]) -> Past:
    return Past(document["site_id"], interval_of("month", as_ms(document["month"])))
