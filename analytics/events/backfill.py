"""The backfill: months of events that were stored before segments existed, and that no segment contains yet. Until a
month is in a segment, reports read the whole month from raw events. An operator can also add months, to rebuild them.

In MongoDB, `segment_state` says whether the months are listed and whether all of them are done. `segment_history` holds
the months that are not done. A process that dies while it lists the months starts over.

Listing a month writes a new token. A builder notes the token before it reads the events, and later removes the month
only if the token is still the same. A month that was listed again meanwhile stays, and is built again.

Callers must handle Unavailable, raised if MongoDB is unreachable.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bson import ObjectId
from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.events.event_index import EventIndex
from analytics.interval import Interval, as_datetime, as_ms, interval_of
from analytics.mongodb import UNREPLICATED, reading, writing
from analytics.unavailable import raising_unavailable

STATE = {"_id": "history"}  # stored by earlier versions under this name; so is `segment_history`


@dataclass(frozen=True, slots=True)
class Past:
    """A site's month that must be built from raw events. `token` is that of its listing; None if it is not listed, or
    was listed by an earlier version.
    """

    site_id: str
    month: Interval
    token: ObjectId | None = None


class Backfill:
    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._state = database["segment_state"]
        self._months = database["segment_history"]
        self._events = database["events"]
        self._index = EventIndex(database)
        self._is_done = False  # stays true once it is true

    def left(self, site_id: str) -> list[Interval]:
        """Return the site's months that no segment contains completely. This costs two index look-ups for each month if
        the months are not listed, one query if they are listed, and none once all months are done. Raises Unavailable.
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
            return self._listed(site_id)

    def listed(self, site_id: str) -> list[Interval]:
        """Return the site's months that are to be built, also those that were added later. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            return self._listed(site_id)

    def is_done(self) -> bool:
        """Whether no month is left to build. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            was_done = self._state.find_one({**STATE, "done": True}) is not None
            return was_done and self._months.find_one({}, {"_id": 1}) is None

    def add(self, site_id: str, months: Iterable[Interval]) -> None:
        """Let the workers build these months again from raw events. Once the backfill is done, reports use the
        existing segments until then. Raises Unavailable.
        """
        if writes := _listings(site_id, months):
            with writing(self._database):
                self._months.bulk_write(writes, ordered=False)

    def add_within(self, session: ClientSession, site_id: str, months: Iterable[Interval]) -> None:
        """The same within a transaction. Raises pymongo's errors, which the transaction handles."""
        if writes := _listings(site_id, months):
            self._months.bulk_write(writes, ordered=False, session=session)

    def add_missing(self, site_id: str, months: Iterable[Interval]) -> None:
        """Let the workers build these months, which are in no segment any more. Until then, reports read them from raw
        events. Call it while no process reads segments. Raises Unavailable.
        """
        self.add(site_id, months)
        with writing(self._database):
            self._state.update_one(STATE, {"$set": {"done": False}})  # if no months are listed, all of them are read

    def of_sites(self) -> Counter[str]:
        """Return how many months of each site are left to build. Raises Unavailable."""
        with reading(self._database):
            rows = self._months.aggregate([{"$group": {"_id": "$site_id", "months": {"$sum": 1}}}])
            return Counter({row["_id"]: row["months"] for row in rows})

    def all_left(self) -> list[Past]:
        """Return the months of all sites, the newest first because it is queried most. The first call lists them.
        Raises Unavailable.
        """
        with raising_unavailable("mongodb", PyMongoError):
            if self._state.find_one(STATE) is None:
                self._list()
            found = [_read(each) for each in self._months.find().sort([("month", -1), ("site_id", 1)])]
            if not found:
                self._state.update_one(STATE, {"$set": {"done": True}})
        return found

    def past(self, site_id: str, month: Interval) -> Past:
        """Return the month as it is listed now. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            found = self._months.find_one(_key(site_id, month))
        return _read(found) if found else Past(site_id, month)

    def finish(self, *past: Past) -> None:
        """Note that these months are in segments, unless they were listed again since they were read. Raises
        Unavailable.
        """
        with raising_unavailable("mongodb", PyMongoError):
            # A month that stays listed is built again.
            which = {"$or": [_key(each.site_id, each.month) | {"token": each.token} for each in past]}
            self._months.with_options(write_concern=UNREPLICATED).delete_many(which)
            if self._months.find_one({}, {"_id": 1}) is None:
                self._state.update_one(STATE, {"$set": {"done": True}})  # changes nothing if the months are not listed

    def note_if_there_is_none(self) -> None:
        """Note that no backfill is needed if no event is stored. Call this before the first event is stored. From then
        on, every event is marked. Raises Unavailable.
        """
        with raising_unavailable("mongodb", PyMongoError):
            if self._state.find_one(STATE) is None and self._events.find_one({}, {"_id": 1}) is None:
                self._state.update_one(STATE, {"$setOnInsert": {"done": True}}, upsert=True)

    def _listed(self, site_id: str) -> list[Interval]:
        return [_read(found).month for found in self._months.find({"site_id": site_id}).sort("month", 1)]

    def _list(self) -> None:
        for site_id in self._index.sites():
            if writes := _listings(site_id, self._index.months(site_id)):
                self._months.bulk_write(writes, ordered=False)
        self._months.create_index([("site_id", 1), ("month", 1)], name="site_month")
        self._state.update_one(STATE, {"$setOnInsert": {"done": False}}, upsert=True)


def _listings(site_id: str, months: Iterable[Interval]) -> list[UpdateOne]:
    keys = [_key(site_id, month) for month in months]
    return [UpdateOne(key, {"$set": key["_id"] | {"token": ObjectId()}}, upsert=True) for key in keys]


def _key(site_id: str, month: Interval) -> dict[str, Any]:
    return {"_id": {"site_id": site_id, "month": as_datetime(month.start)}}


def _read(document: dict[str, Any]) -> Past:
    return Past(document["site_id"], interval_of("month", as_ms(document["month"])), document.get("token"))
