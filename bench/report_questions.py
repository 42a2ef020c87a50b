"""The questions of `make bench-reports`, each as a call of Reports and as an aggregation pipeline of MongoDB.

Both return the same plain value, so that they can be compared. The pipelines are the cheapest known ones: the first
event of a visit is recognised by the event before it ($setWindowFields), and only questions about whole visits number
the visits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from analytics.events.event import PAGEVIEW_TYPES
from analytics.interval import DAY, VISIT_GAP, Interval, as_datetime
from analytics.queries.local_time import time_labels
from analytics.queries.query import Condition, Order, Period, Query
from analytics.reports.engine import UTC_ZONE, Reports
from bench.report_data import MONTH

PERIOD = Period(as_datetime(MONTH.start), as_datetime(MONTH.end), UTC_ZONE)
ONE_DAY = Interval(MONTH.start + 16 * DAY, MONTH.start + 17 * DAY)
FROM, DEVICE = "DE", "Mobile"
STEPS = (
    Condition("is", "event:page", ("/",)),
    Condition("is", "event:page", ("/pricing",)),
    Condition("is", "event:name", ("purchase",)),
)
Pipeline = list[dict[str, Any]]


@dataclass(frozen=True)
class Question:
    """`target`: ms on all events. `on_tenth`: the pipeline takes minutes on all events, so it runs on a tenth."""

    name: str
    ask: Callable[[Reports, str], Any]
    pipeline: Callable[[str], Pipeline]
    read: Callable[[list[dict[str, Any]]], Any]
    target: float | None = None
    on_tenth: bool = False


def _query(site: str, *metrics: str, **more: Any) -> Query:
    return Query(site, metrics, PERIOD, **more)


def _stats(reports: Reports, site: str, day: date | None) -> Any:
    found = reports.stats(site, day)
    return found.total_views, found.unique_users, [(row.path, row.views) for row in found.top_paths]


def _rows(reports: Reports, query: Query) -> Any:
    return [(*row.dimensions, *row.metrics) for row in reports.answer(query).rows]


def _retention(reports: Reports, site: str) -> Any:
    weeks = time_labels(PERIOD, "week")
    return {
        (cohort.label, weeks[weeks.index(cohort.label) + n]): count
        for cohort in reports.retention(_query(site, "visitors"), "week")
        for n, count in enumerate(cohort.active)
        if count
    }


def _match(site: str, interval: Interval | None = MONTH) -> dict[str, Any]:
    which: dict[str, Any] = {"site_id": site}
    if interval is not None:
        which["timestamp"] = {"$gte": as_datetime(interval.start), "$lt": as_datetime(interval.end)}
    return {"$match": which}


def _pipeline_of_stats(site: str, interval: Interval | None) -> Pipeline:
    pageview = {"$match": {"event_type": {"$in": list(PAGEVIEW_TYPES)}}}
    top = [{"$group": {"_id": "$path", "n": {"$sum": 1}}}, {"$sort": {"n": -1, "_id": 1}}, {"$limit": 10}]
    facets = {
        "views": [pageview, {"$count": "n"}],
        "users": [{"$group": {"_id": "$user_id"}}, {"$count": "n"}],
        "paths": [pageview, *top],
    }
    fields = {"_id": 0, "event_type": 1, "path": 1, "user_id": 1}
    return [_match(site, interval), {"$project": fields}, {"$facet": facets}]


def _read_stats(found: list[dict[str, Any]]) -> Any:
    ((views,), (users,), paths) = (found[0][name] for name in ("views", "users", "paths"))
    return views["n"], users["n"], [(row["_id"], row["n"]) for row in paths]


_EVENTS_IN_ORDER = {"partitionBy": "$user_id", "sortBy": {"timestamp": 1, "_id": 1}}
_BEFORE = {
    "$setWindowFields": _EVENTS_IN_ORDER
    | {"output": {"before": {"$shift": {"output": "$timestamp", "by": -1, "default": None}}}}
}
_BEGINS = {"$or": [{"$eq": ["$before", None]}, {"$gt": [{"$subtract": ["$timestamp", "$before"]}, VISIT_GAP]}]}
_DAY = {"$dateTrunc": {"date": "$timestamp", "unit": "day"}}


def _numbered(site: str, *names: str) -> Pipeline:
    """Events with the number of their visit among the visitor's visits."""
    until_here = {"n": {"$sum": "$begins", "window": {"documents": ["unbounded", "current"]}}}
    return [
        _match(site),
        {"$project": dict.fromkeys(("user_id", "timestamp", *names), 1)},
        _BEFORE,
        {"$set": {"begins": {"$cond": [_BEGINS, 1, 0]}}},
        {"$setWindowFields": _EVENTS_IN_ORDER | {"output": until_here}},
    ]


def pipeline_of_timeseries(site: str, interval: Interval = MONTH) -> Pipeline:
    first_of_day = {"$or": [_BEGINS, {"$lt": ["$before", "$day"]}]}
    return [
        _match(site, interval),
        {"$project": {"user_id": 1, "timestamp": 1}},
        _BEFORE,
        {"$set": {"day": _DAY}},
        {"$group": {"_id": {"d": "$day", "u": "$user_id"}, "visits": {"$sum": {"$cond": [first_of_day, 1, 0]}}}},
        {"$group": {"_id": "$_id.d", "visitors": {"$sum": 1}, "visits": {"$sum": "$visits"}}},
        {"$sort": {"_id": 1}},
    ]


def _pipeline_of_pages(site: str) -> Pipeline:
    match = _match(site)
    match["$match"] |= {"country": FROM, "device": DEVICE}
    return [
        match,
        {"$group": {"_id": {"p": "$path", "u": "$user_id"}}},
        {"$group": {"_id": "$_id.p", "visitors": {"$sum": 1}}},
        {"$sort": {"visitors": -1, "_id": 1}},
        {"$limit": 10},
    ]


def _pipeline_of_sources(site: str) -> Pipeline:
    is_view = {"$in": ["$event_type", list(PAGEVIEW_TYPES)]}
    bounces = {"$cond": [{"$and": [{"$eq": ["$views", 1]}, {"$eq": ["$acts", 0]}]}, 1, 0]}
    return [
        *_numbered(site, "event_type", "source"),
        {
            "$group": {
                "_id": {"u": "$user_id", "n": "$n"},
                "source": {"$first": "$source"},
                "views": {"$sum": {"$cond": [is_view, 1, 0]}},
                "acts": {"$sum": {"$cond": [is_view, 0, 1]}},
            }
        },
        {
            "$group": {
                "_id": {"s": {"$ifNull": ["$source", "Direct / None"]}, "u": "$_id.u"},
                "visits": {"$sum": 1},
                "bounces": {"$sum": bounces},
            }
        },
        {
            "$group": {
                "_id": "$_id.s",
                "visitors": {"$sum": 1},
                "visits": {"$sum": "$visits"},
                "bounces": {"$sum": "$bounces"},
            }
        },
        {"$sort": {"visitors": -1, "_id": 1}},
    ]


def _read_sources(found: list[dict[str, Any]]) -> Any:
    return [(r["_id"], r["visitors"], (200 * r["bounces"] + r["visits"]) // (2 * r["visits"])) for r in found]


def _pipeline_of_funnel(site: str) -> Pipeline:
    fits = [{"$eq": ["$path", "/"]}, {"$eq": ["$path", "/pricing"]}, {"$eq": ["$event_type", "purchase"]}]
    step = {"$cond": [{"$arrayElemAt": ["$$this", "$$value"]}, {"$add": ["$$value", 1]}, "$$value"]}
    onward = {"$cond": [{"$lt": ["$$value", len(fits)]}, step, "$$value"]}
    return [
        *_numbered(site, "path", "event_type"),
        {"$match": {"$or": [{"path": {"$in": ["/", "/pricing"]}}, {"event_type": "purchase"}]}},
        {"$set": {"fits": fits}},
        {"$group": {"_id": {"u": "$user_id", "n": "$n"}, "fits": {"$push": "$fits"}}},
        {"$project": {"got": {"$reduce": {"input": "$fits", "initialValue": 0, "in": onward}}}},
        {"$group": {"_id": "$got", "visits": {"$sum": 1}}},
    ]


def _read_funnel(found: list[dict[str, Any]]) -> Any:
    return [sum(row["visits"] for row in found if row["_id"] > step) for step in range(len(STEPS))]


def _pipeline_of_retention(site: str) -> Pipeline:
    week = {"$dateTrunc": {"date": "$timestamp", "unit": "week", "startOfWeek": "monday"}}
    return [
        _match(site),
        {"$group": {"_id": {"u": "$user_id", "w": week}}},
        {"$group": {"_id": "$_id.u", "first": {"$min": "$_id.w"}, "weeks": {"$push": "$_id.w"}}},
        {"$unwind": "$weeks"},
        {"$group": {"_id": {"first": "$first", "week": "$weeks"}, "visitors": {"$sum": 1}}},
    ]


def _read_retention(found: list[dict[str, Any]]) -> Any:
    return {(f"{r['_id']['first'].date()}", f"{r['_id']['week'].date()}"): r["visitors"] for r in found}


ALL_TIME, TIMESERIES = "/stats, all time", "30 days: visitors and visits of each day"
QUESTIONS = [
    Question(ALL_TIME, lambda r, site: _stats(r, site, None), lambda site: _pipeline_of_stats(site, None), _read_stats),
    Question(
        "/stats, one day",
        lambda r, site: _stats(r, site, datetime.fromtimestamp(ONE_DAY.start / 1000, UTC).date()),
        lambda site: _pipeline_of_stats(site, ONE_DAY),
        _read_stats,
        target=25,
    ),
    Question(
        TIMESERIES,
        lambda r, site: _rows(r, _query(site, "visitors", "visits", dimensions=("time:day",), time_labels=True)),
        pipeline_of_timeseries,
        lambda found: [(f"{row['_id'].date()}", row["visitors"], row["visits"]) for row in found],
        target=150,
        on_tenth=True,
    ),
    Question(
        "top 10 pages, of a country and a device",
        lambda r, site: _rows(
            r,
            _query(
                site,
                "visitors",
                dimensions=("event:page",),
                filters=(Condition("is", "visit:country", (FROM,)), Condition("is", "visit:device", (DEVICE,))),
                order_by=(Order("visitors", descending=True),),
                limit=10,
            ),
        ),
        _pipeline_of_pages,
        lambda found: [(row["_id"], row["visitors"]) for row in found],
        target=300,
    ),
    Question(
        "sources with bounce rate",
        lambda r, site: _rows(r, _query(site, "visitors", "bounce_rate", dimensions=("visit:source",))),
        _pipeline_of_sources,
        _read_sources,
        on_tenth=True,
    ),
    Question(
        "funnel of 3 steps",
        lambda r, site: r.funnel(_query(site, "visitors"), STEPS, None),
        _pipeline_of_funnel,
        _read_funnel,
        target=1500,
        on_tenth=True,
    ),
    Question(
        "weekly retention",
        _retention,
        _pipeline_of_retention,
        _read_retention,
        target=1500,
        on_tenth=True,
    ),
]
