"""The realtime report: the last minutes of a site, counted by MongoDB directly from raw events. Also recent visitors,
and the names of properties.

The index (site_id, timestamp) limits a query to the documents of its minutes. Callers must handle Unavailable,
raised if MongoDB is not reachable or exceeds the time limit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import pymongo
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.events.event import PAGEVIEW_TYPES
from analytics.events.stored_props import as_sent
from analytics.json_schema import Count, Keywords
from analytics.mongodb import ping
from analytics.queries.query import Period
from analytics.unavailable import raising_unavailable

SHORT, LONG = timedelta(minutes=5), timedelta(minutes=30)
_MOST_PAGES = 10
_WHOSE = {"$ifNull": ["$user_id", "$visitor_id"]}
_RECENT = timedelta(days=1)
_MOST_READ, _MOST_RECENT = 5_000, 100  # events that are read to find recent visitors or names, and visitors
_MOST_NAMES = 1_000


@dataclass(frozen=True, slots=True)
class PageViews:
    page: str
    pageviews: Count


@dataclass(frozen=True, slots=True)
class Lately:
    """`visitors` counts distinct visitors; an event without a visitor counts for none. `top_pages` holds the ten most
    viewed pages; ties are ordered by page.
    """

    visitors: Count
    pageviews: Count
    top_pages: Annotated[list[PageViews], Keywords(maxItems=_MOST_PAGES)]


@dataclass(frozen=True, slots=True)
class Realtime:
    """The minutes up to `as_of`. An event with a later time does not count yet."""

    as_of: datetime
    last_5_minutes: Lately
    last_30_minutes: Lately


@dataclass(frozen=True, slots=True)
class RecentVisitor:
    """`visitor` is the user_id, or else the anonymous id. `events` are those of the last day, of the latest _MOST_READ
    of the site. `page` and `country` are those of the last event; "" means none.
    """

    visitor: str
    last_at: datetime
    events: int
    page: str
    country: str


class RealtimeReader:
    def __init__(self, database: Database[dict[str, Any]], time_limit: float, clock: Callable[[], datetime]) -> None:
        self._events = database["events"]
        self._time_limit = time_limit
        self._clock = clock

    def read(self, site_id: str) -> Realtime:
        now = self._clock()
        # reports an unreachable MongoDB after a second instead of at the query's time limit
        ping(self._events.database)
        with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(self._time_limit):
            (found,) = self._events.aggregate(realtime_pipeline(site_id, now))
        return Realtime(now, _lately(found, "short"), _lately(found, "long"))

    def visitors(self, site_id: str, period: Period) -> int:
        """Return the number of visitors in the period, which should be short. Raises Unavailable."""
        ping(self._events.database)
        with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(self._time_limit):
            return _count(list(self._events.aggregate(visitors_pipeline(site_id, period))))

    def recent_visitors(self, site_id: str) -> list[RecentVisitor]:
        """Return the visitors of the last day, the latest first, at most _MOST_RECENT. Raises Unavailable."""
        now = self._clock()
        ping(self._events.database)
        with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(self._time_limit):
            found = list(self._events.aggregate(recent_visitors_pipeline(site_id, now)))
        texts = ((_text(row.get("page")), _text(row.get("country"))) for row in found)
        return [RecentVisitor(row["_id"], row["at"], row["n"], *each) for row, each in zip(found, texts, strict=True)]

    def property_names(self, site_id: str) -> dict[str, int]:
        """Return the names of the properties of the latest _MOST_READ events, the most frequent first, with the number
        of events that have each. Raises Unavailable.
        """
        ping(self._events.database)
        with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(self._time_limit):
            found = list(self._events.aggregate(property_names_pipeline(site_id, self._clock())))
        return {name: row["n"] for row in found for name in as_sent({row["_id"]: None}) or ()}


def visitors_pipeline(site_id: str, period: Period) -> list[dict[str, Any]]:
    return [
        {"$match": {"site_id": site_id, "timestamp": {"$gte": period.start, "$lt": period.end}}},
        {"$project": {"_id": 0, "visitor": _WHOSE}},
        {"$match": {"visitor": {"$type": "string"}}},
        {"$group": {"_id": "$visitor"}},
        {"$count": "n"},
    ]


def property_names_pipeline(site_id: str, now: datetime) -> list[dict[str, Any]]:
    return [
        {"$match": {"site_id": site_id, "timestamp": {"$lte": now}}},
        {"$sort": {"timestamp": -1}},
        {"$limit": _MOST_READ},
        {"$match": {"props": {"$type": "object"}}},
        {"$project": {"prop": {"$objectToArray": "$props"}}},
        {"$unwind": "$prop"},
        {"$group": {"_id": "$prop.k", "n": {"$sum": 1}}},
        {"$sort": {"n": -1, "_id": 1}},
        {"$limit": _MOST_NAMES},
    ]


def recent_visitors_pipeline(site_id: str, now: datetime) -> list[dict[str, Any]]:
    return [
        {"$match": {"site_id": site_id, "timestamp": {"$gt": now - _RECENT, "$lte": now}}},
        {"$sort": {"timestamp": -1}},
        {"$limit": _MOST_READ},
        {"$project": {"timestamp": 1, "path": 1, "country": 1, "visitor": _WHOSE}},
        {"$match": {"visitor": {"$type": "string", "$ne": ""}}},
        {
            "$group": {
                "_id": "$visitor",
                "at": {"$max": "$timestamp"},
                "n": {"$sum": 1},
                "page": {"$first": "$path"},
                "country": {"$first": "$country"},
            }
        },
        {"$sort": {"at": -1, "_id": 1}},
        {"$limit": _MOST_RECENT},
    ]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def realtime_pipeline(site_id: str, now: datetime) -> list[dict[str, Any]]:
    """Return a pipeline that reads the half hour's events once for all six results."""
    recent = {"$match": {"recent": True}}
    facets: dict[str, Any] = {}
    for name, stages in (("short", [recent]), ("long", [])):
        pageviews = [*stages, {"$match": {"event_type": {"$in": list(PAGEVIEW_TYPES)}}}]
        visitors = {"$match": {"visitor": {"$type": "string"}}}
        facets |= {
            f"{name}_visitors": [*stages, visitors, {"$group": {"_id": "$visitor"}}, {"$count": "n"}],
            f"{name}_pageviews": [*pageviews, {"$count": "n"}],
            f"{name}_pages": [
                *pageviews,
                {"$match": {"path": {"$type": "string"}}},
                {"$group": {"_id": "$path", "pageviews": {"$sum": 1}}},
                {"$sort": {"pageviews": -1, "_id": 1}},
                {"$limit": _MOST_PAGES},
            ],
        }
    recently = {"$gt": ["$timestamp", now - SHORT]}
    return [
        {"$match": {"site_id": site_id, "timestamp": {"$gt": now - LONG, "$lte": now}}},
        {"$project": {"_id": 0, "event_type": 1, "path": 1, "visitor": _WHOSE, "recent": recently}},
        {"$facet": facets},
    ]


def _lately(found: dict[str, Any], name: str) -> Lately:
    pages = [PageViews(row["_id"], row["pageviews"]) for row in found[f"{name}_pages"]]
    return Lately(_count(found[f"{name}_visitors"]), _count(found[f"{name}_pageviews"]), pages)


def _count(facet: list[dict[str, Any]]) -> int:
    return int(facet[0]["n"]) if facet else 0
