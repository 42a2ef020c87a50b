"""Which hours of which sites have events that no segment knows of yet.

A worker marks them after it has inserted the events and before it settles their journal entries: whatever is stored and
not marked is delivered, and marked, again. Within an hour the slots of ten seconds are told apart, so that a report
reads the last seconds from raw events and not the last hour.

Each mark leaves a token of its own in the slot. Whoever has built a segment clears the slots whose token is still the
one he saw before he read the events; anything else came later and stays dirty.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pymongo
from bson import ObjectId
from pymongo import DeleteOne, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.interval import HOUR, SLOT, Interval, as_datetime, as_ms
from analytics.mongodb import WRITE_LIMIT
from analytics.unavailable import raising_unavailable


@dataclass(frozen=True, slots=True)
class DirtyHour:
    """`slots`: the token of each dirty slot, by the slot's start. `since`: what waits was marked then or later; `last`:
    when the hour was marked last. `marks`: how many events were marked since; a hint, as a redelivery counts again.
    """

    site_id: str
    start: int
    slots: Mapping[int, ObjectId]
    since: datetime
    last: datetime
    marks: int


@dataclass(frozen=True, slots=True)
class Due:
    """Which hours should be in a segment by now: those that began at `over` or before, if nothing came after `rested`
    or something waits since `waited`; and those with so many `marks` since `many_since` or before.
    """

    over: datetime
    rested: datetime
    waited: datetime
    marks: int
    many_since: datetime

    def as_filter(self) -> dict[str, Any]:
        is_quiet = {"$or": [{"last": {"$lte": self.rested}}, {"since": {"$lte": self.waited}}]}
        is_large = {"marks": {"$gte": self.marks}, "since": {"$lte": self.many_since}}
        return {"$or": [{"hour": {"$lte": self.over}} | is_quiet, is_large]}


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many dirty hours there are, and since when the oldest is."""

    hours: int
    since: datetime | None


class DirtyHours:
    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._hours = database["dirty_hours"]
        self._indexed = False

    def mark(self, moments: Iterable[tuple[str, int]], now: datetime) -> None:
        """Something was stored at these (site, milliseconds). Raises Unavailable."""
        if writes := _marks(moments, now):
            with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
                self.make_index()
                self._hours.bulk_write(writes, ordered=False)

    def mark_within(self, session: ClientSession, moments: Iterable[tuple[str, int]], now: datetime) -> None:
        """Something is removed at these, by this transaction; after make_index. Raises PyMongoError, as the transaction
        may have to begin anew.
        """
        if writes := _marks(moments, now):
            self._hours.bulk_write(writes, session=session)

    def of_site(self, site_id: str, interval: Interval | None = None) -> list[DirtyHour]:
        """Those within the interval, or all, in order of time."""
        which: dict[str, Any] = {"site_id": site_id}
        if interval is not None:
            first = as_datetime(max(interval.start, 0) // HOUR * HOUR)
            which["hour"] = {"$gte": first, "$lt": as_datetime(max(interval.end, 0))}
        with raising_unavailable("mongodb", PyMongoError):
            return [_read(document) for document in self._hours.find(which).sort("hour", 1)]

    def sites_due(self, due: Due, limit: int = 1_000) -> list[str]:
        """Those with such an hour, who waits longest first."""
        steps = [{"$match": due.as_filter()}, {"$group": {"_id": "$site_id", "since": {"$min": "$since"}}}]
        with raising_unavailable("mongodb", PyMongoError):
            rows = self._hours.aggregate([*steps, {"$sort": {"since": 1}}, {"$limit": limit}])
            return [row["_id"] for row in rows]

    def is_any_due(self, due: Due) -> bool:
        """Told by the first that is found, however many wait."""
        with raising_unavailable("mongodb", PyMongoError):
            return self._hours.find_one(due.as_filter(), {"_id": 1}) is not None

    def next_due(self, site_id: str, due: Due) -> int | None:
        """The start of the site's first such hour."""
        with raising_unavailable("mongodb", PyMongoError):
            found = self._hours.find_one({"site_id": site_id} | due.as_filter(), {"hour": 1}, sort=[("hour", 1)])
        return as_ms(found["hour"]) if found else None

    def first(self, site_id: str) -> int | None:
        """The start of the site's first dirty hour, due or not."""
        with raising_unavailable("mongodb", PyMongoError):
            found = self._hours.find_one({"site_id": site_id}, {"hour": 1}, sort=[("hour", 1)])
        return as_ms(found["hour"]) if found else None

    def waiting(self, due: Due | None = None) -> Waiting:
        """Of all sites; those that are due, or all."""
        steps = [{"$match": due.as_filter() if due else {}}]
        each = {"_id": None, "hours": {"$sum": 1}, "since": {"$min": "$since"}}
        with raising_unavailable("mongodb", PyMongoError):
            rows = list(self._hours.aggregate([*steps, {"$group": each}]))
        return Waiting(rows[0]["hours"], rows[0]["since"]) if rows else Waiting(0, None)

    def clear(self, seen: Iterable[DirtyHour]) -> None:
        """The slots as they were seen are in a segment now; what was marked since stays."""
        writes: list[UpdateOne | DeleteOne] = []
        for hour in seen:
            key = {"_id": {"site_id": hour.site_id, "hour": as_datetime(hour.start)}}
            for slot, token in hour.slots.items():
                name = f"slots.{(slot - hour.start) // SLOT}"
                # What stays was marked after we looked. Without a new `since` an hour that events keep coming to
                # would have waited for too long for ever.
                change = {"$unset": {name: ""}, "$set": {"marks": 0, "since": hour.last}}
                writes.append(UpdateOne(key | {name: token}, change))
            writes.append(DeleteOne(key | {"slots": {}}))
        if writes:
            with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
                self._hours.bulk_write(writes)  # in order: an hour goes when its last slot went

    def make_index(self) -> None:
        if not self._indexed:
            self._hours.create_index([("site_id", 1), ("hour", 1)], name="site_hour")
            self._hours.create_index([("since", 1)], name="since")
            self._indexed = True


def _marks(moments: Iterable[tuple[str, int]], now: datetime) -> list[UpdateOne]:
    slots: defaultdict[tuple[str, int], dict[str, ObjectId]] = defaultdict(dict)
    marks: defaultdict[tuple[str, int], int] = defaultdict(int)
    token = ObjectId()
    for site_id, ms in moments:
        hour = ms // HOUR * HOUR
        slots[site_id, hour][f"slots.{(ms - hour) // SLOT}"] = token
        marks[site_id, hour] += 1
    return [
        UpdateOne(
            {"_id": {"site_id": site_id, "hour": as_datetime(hour)}},
            {
                "$set": {**names, "last": now},
                "$inc": {"marks": marks[site_id, hour]},
                "$setOnInsert": {"site_id": site_id, "hour": as_datetime(hour), "since": now},
            },
            upsert=True,
        )
        for (site_id, hour), names in slots.items()
    ]


def _read(document: dict[str, Any]) -> DirtyHour:
    start = as_ms(document["hour"])
    slots = {start + int(number) * SLOT: token for number, token in document["slots"].items()}
    return DirtyHour(document["site_id"], start, slots, document["since"], document["last"], document.get("marks", 0))
