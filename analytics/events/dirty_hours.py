"""The dirty hours: hours of a site with events that no segment contains yet.

A worker marks the hours after it has inserted the events and before it settles their journal entries. If it dies in
between, the events are delivered again and marked then. Each hour is divided into slots of ten seconds, so that a
report reads the last seconds from raw events instead of the last hour.

Each mark writes a new token into the slot. The segment builder notes the tokens before it reads the events, and later
clears only the slots whose token is still the same. A slot with another token was marked later and stays dirty.

Callers must handle Unavailable.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
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
from analytics.mongodb import UNREPLICATED, WRITE_LIMIT, reading
from analytics.unavailable import raising_unavailable


@dataclass(frozen=True, slots=True)
class DirtyHour:
    """`slots` maps the start of each dirty slot to its token. `since`: all waiting events were marked then or later.
    `last` is when the hour was last marked. `marks` is how many events were marked since; it is approximate, because a
    redelivery counts again.
    """

    site_id: str
    start: int
    slots: Mapping[int, ObjectId]
    since: datetime
    last: datetime
    marks: int


@dataclass(frozen=True, slots=True)
class Due:
    """Which hours should be in a segment by now. An hour is due if it began at `over` or before, and either no event
    was marked after `rested` or its events wait since `waited` or earlier. An hour with at least `marks` marks is also
    due if its events wait since `many_since` or earlier.
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
    """How many dirty hours there are, and since when the oldest is dirty."""

    hours: int
    since: datetime | None


class DirtyHours:
    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._hours = database["dirty_hours"]
        self._indexed = False

    def mark(self, moments: Iterable[tuple[str, int]], now: datetime) -> None:
        """Mark the hours of events stored at these (site, milliseconds). Raises Unavailable."""
        if writes := _marks(moments, now):
            with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
                self.make_index()
                self._hours.bulk_write(writes, ordered=False)

    def mark_within(self, session: ClientSession, moments: Iterable[tuple[str, int]], now: datetime) -> None:
        """Mark the hours of events that this transaction removes. Call make_index first. Raises PyMongoError, because
        the caller may have to restart the transaction.
        """
        if writes := _marks(moments, now):
            self._hours.bulk_write(writes, session=session)

    def of_site(self, site_id: str, interval: Interval | None = None) -> list[DirtyHour]:
        """Return the site's dirty hours within the interval, or all of them, in order of time. Raises Unavailable."""
        return self.all_of([site_id], interval)

    def all_of(self, site_ids: Sequence[str], interval: Interval | None = None) -> list[DirtyHour]:
        """Return the dirty hours of several sites, as `of_site` does, in order of time. Raises Unavailable."""
        which: dict[str, Any] = {"site_id": {"$in": [*site_ids]}}
        if interval is not None:
            first = as_datetime(max(interval.start, 0) // HOUR * HOUR)
            which["hour"] = {"$gte": first, "$lt": as_datetime(max(interval.end, 0))}
        with raising_unavailable("mongodb", PyMongoError):
            return [_read(document) for document in self._hours.find(which).sort("hour", 1)]

    def sites_due(self, due: Due, limit: int = 1_000) -> dict[str, int]:
        """Return the sites with a due hour, the longest waiting first, and the start of the first due hour of each, in
        milliseconds. Raises Unavailable.
        """
        first = {"_id": "$site_id", "since": {"$min": "$since"}, "hour": {"$min": "$hour"}}
        steps: list[dict[str, Any]] = [
            {"$match": due.as_filter()},
            {"$group": first},
            {"$sort": {"since": 1}},
            {"$limit": limit},
        ]
        with raising_unavailable("mongodb", PyMongoError):
            return {row["_id"]: as_ms(row["hour"]) for row in self._hours.aggregate(steps)}

    def is_any_due(self, due: Due) -> bool:
        """Whether any hour is due. It reads one document, no matter how many hours wait. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            return self._hours.find_one(due.as_filter(), {"_id": 1}) is not None

    def next_due(self, site_id: str, due: Due) -> int | None:
        """Return the start of the site's first due hour, in milliseconds. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            found = self._hours.find_one({"site_id": site_id} | due.as_filter(), {"hour": 1}, sort=[("hour", 1)])
        return as_ms(found["hour"]) if found else None

    def first(self, site_id: str) -> int | None:
        """Return the start of the site's first dirty hour, due or not, in milliseconds. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            found = self._hours.find_one({"site_id": site_id}, {"hour": 1}, sort=[("hour", 1)])
        return as_ms(found["hour"]) if found else None

    def waiting(self, due: Due | None = None) -> Waiting:
        """Count the due hours of all sites, or all their dirty hours if `due` is None. Raises Unavailable."""
        steps: list[dict[str, Any]] = [{"$match": due.as_filter() if due else {}}]
        each = {"_id": None, "hours": {"$sum": 1}, "since": {"$min": "$since"}}
        with raising_unavailable("mongodb", PyMongoError):
            rows = list(self._hours.aggregate([*steps, {"$group": each}]))
        return Waiting(rows[0]["hours"], rows[0]["since"]) if rows else Waiting(0, None)

    def of_sites(self) -> Counter[str]:
        """Return how many dirty hours each site has. Raises Unavailable."""
        with reading(self._database):
            rows = self._hours.aggregate([{"$group": {"_id": "$site_id", "hours": {"$sum": 1}}}])
            return Counter({row["_id"]: row["hours"] for row in rows})

    def clear(self, seen: Iterable[DirtyHour]) -> None:
        """Clear the slots that are in a segment now. Slots that were marked since stay dirty. Raises Unavailable."""
        cleared: list[UpdateOne] = []
        emptied: list[DeleteOne] = []
        for hour in seen:
            key = {"_id": {"site_id": hour.site_id, "hour": as_datetime(hour.start)}}
            for slot, token in hour.slots.items():
                name = f"slots.{(slot - hour.start) // SLOT}"
                # The remaining slots were marked after they were read. Without a new `since`, an hour that receives
                # events continuously would always count as waiting too long.
                change = {"$unset": {name: ""}, "$set": {"marks": 0, "since": hour.last}}
                cleared.append(UpdateOne(key | {name: token}, change))
            emptied.append(DeleteOne(key | {"slots": {}}))
        if emptied:
            with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
                # Two writes: alternating updates and deletes would be one command each, 1 ms for each hour.
                hours = self._hours.with_options(write_concern=UNREPLICATED)  # a slot that stays dirty is read again
                if cleared:
                    hours.bulk_write(cleared, ordered=False)
                hours.bulk_write(emptied, ordered=False)

    def make_index(self) -> None:
        if not self._indexed:
            self._hours.create_index([("site_id", 1), ("hour", 1)], name="site_hour")
            self._hours.create_index([("since", 1)], name="since")
            self._indexed = True


def _marks(moments: Iterable[tuple[str, int]], now: datetime) -> list[UpdateOne]:
    slots: defaultdict[tuple[str, int], dict[str, ObjectId]] = defaultdict(dict)
    marks: Counter[tuple[str, int]] = Counter()
    token = ObjectId()
    for (site_id, slot), n in Counter((site_id, ms // SLOT) for site_id, ms in moments).items():
        hour = slot * SLOT // HOUR * HOUR
        slots[site_id, hour][f"slots.{slot - hour // SLOT}"] = token
        marks[site_id, hour] += n
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
