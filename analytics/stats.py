"""The numbers of one site, of a day or of all time, counted by MongoDB from the raw events.

In: a site and a UTC day or none. Out: `SiteStats`. Wrong can go: MongoDB away or over its time limit is `Unavailable`.
The index (site_id, timestamp) keeps a day's query on the day's documents; all time reads every event of the site.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pymongo
import structlog
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.event import PAGEVIEW_TYPES
from analytics.mongodb import ping
from analytics.unavailable import Unavailable

log = structlog.get_logger()

MOST_PATHS = 10


@dataclass(frozen=True, slots=True)
class PathViews:
    path: str
    views: int


@dataclass(frozen=True, slots=True)
class SiteStats:
    """total_views: pageviews. unique_users: distinct user_ids over all events; an event without one is nobody's.

    top_paths: the ten most viewed, ties by path; a pageview that brought no path counts in total_views only.
    """

    total_views: int
    unique_users: int
    top_paths: list[PathViews]


class StatsReader:
    def __init__(self, database: Database[dict[str, Any]], time_limit: float) -> None:
        self._events = database["events"]
        self._time_limit = time_limit

    def read(self, site_id: str, day: date | None) -> SiteStats:
        try:
            ping(self._events.database)  # a MongoDB that is away is known after a second, not after the query's limit
            with pymongo.timeout(self._time_limit):
                (found,) = self._events.aggregate(stats_pipeline(site_id, day))
        except (PyMongoError, Unavailable) as error:
            log.warning("stats_unavailable", site_id=site_id, error=type(error).__name__)
            raise error if isinstance(error, Unavailable) else Unavailable("mongodb", error) from error
        return SiteStats(
            total_views=_count(found["views"]),
            unique_users=_count(found["users"]),
            top_paths=[PathViews(row["_id"], row["views"]) for row in found["paths"]],
        )

    def check(self) -> None:
        """Raises Unavailable where MongoDB does not answer within a second."""
        ping(self._events.database)


def stats_pipeline(site_id: str, day: date | None) -> list[dict[str, Any]]:
    match: dict[str, Any] = {"site_id": site_id}
    if day is not None:
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        match["timestamp"] = {"$gte": midnight, "$lt": midnight + timedelta(days=1)}
    pageview = {"$match": {"event_type": {"$in": list(PAGEVIEW_TYPES)}}}
    return [
        {"$match": match},
        {"$project": {"_id": 0, "event_type": 1, "path": 1, "user_id": 1}},
        {
            "$facet": {
                "views": [pageview, {"$count": "n"}],
                "users": [{"$match": {"user_id": {"$ne": None}}}, {"$group": {"_id": "$user_id"}}, {"$count": "n"}],
                "paths": [
                    pageview,
                    {"$match": {"path": {"$ne": None}}},
                    {"$group": {"_id": "$path", "views": {"$sum": 1}}},
                    {"$sort": {"views": -1, "_id": 1}},
                    {"$limit": MOST_PATHS},
                ],
            }
        },
    ]


def _count(facet: list[dict[str, int]]) -> int:
    return facet[0]["n"] if facet else 0
