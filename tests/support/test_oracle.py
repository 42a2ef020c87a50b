"""The oracle matches the specification, in cases that are small enough to count by hand."""

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from bson import Decimal128
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.queries.query import And, Condition, Done, Filter, Not, Or, Order, Period, Query, midnight, of_days
from analytics.sites.site import Goal
from tests.support.oracle import (
    Document,
    answer,
    funnel,
    journeys,
    page_fits,
    retention,
    rounded,
    stats,
    time_labels,
    visits_of,
)
from tests.support.streams import (
    Batch,
    Erasure,
    Stream,
    arrivals,
    bare_queries,
    funnels,
    grains,
    pages,
    queries,
    streams,
)

DAY = date(2026, 5, 13)  # a Wednesday
TODAY = of_days(DAY, DAY, ZoneInfo("UTC"))
BERLIN = ZoneInfo("Europe/Berlin")


def event(number: int, at: str, event_type: str = "page_view", **fields: Any) -> Document:
    """A document. The visitor is anna by default. `at`: a time of DAY, or a date and time."""
    moment = datetime.fromisoformat(at if "T" in at else f"{DAY}T{at}").replace(tzinfo=UTC)
    document = {"_id": UUID(int=number), "site_id": "site", "event_type": event_type, "timestamp": moment}
    return document | {"user_id": "anna"} | fields


def ask(documents: list[Document], *metrics: str, **fields: Any) -> list[tuple[Any, ...]]:
    """The rows of the answer for DAY, each as one tuple of its dimensions and metrics."""
    query = Query("site", metrics or ("events",), fields.pop("period", TODAY), **fields)
    return [(*row.dimensions, *row.metrics) for row in answer(documents, query).rows]


def one(documents: list[Document], metric: str, **fields: Any) -> Any:
    """The single metric of the single row."""
    ((value,),) = ask(documents, metric, **fields)
    return value


def numbers_of_visits(documents: list[Document]) -> list[list[int]]:
    return sorted([event["_id"].int for event in visit.events] for visit in visits_of(documents))


# Visits


def test_a_gap_of_exactly_thirty_minutes_joins_and_one_millisecond_more_splits():
    documents = [event(1, "10:00"), event(2, "10:30:00.000"), event(3, "11:00:00.001")]
    assert numbers_of_visits(documents) == [[1, 2], [3]]


def test_events_at_the_same_moment_are_in_the_order_of_their_ids():
    documents = [event(2, "10:00", path="/b"), event(1, "10:00", path="/a")]
    assert ask(documents, "visits", dimensions=("visit:entry_page",)) == [("/a", 1)]
    assert ask(documents, "visits", dimensions=("visit:exit_page",)) == [("/b", 1)]


def test_engagement_begins_no_visit_but_keeps_one_alive():
    documents = [
        event(1, "10:00", "engagement"),
        event(2, "10:20"),
        event(3, "10:45", "engagement"),
        event(4, "11:15"),
        event(5, "12:00", "engagement"),
    ]
    assert numbers_of_visits(documents) == [[2, 3, 4]]
    assert one(documents, "visit_duration") == 55 * 60


def test_engagement_between_two_visits_belongs_to_neither():
    documents = [event(1, "10:00"), event(2, "10:31", "engagement"), event(3, "10:40"), event(4, "11:10")]
    assert numbers_of_visits(documents) == [[1], [3, 4]]


def test_an_event_without_a_visitor_belongs_to_no_visit():
    documents = [event(1, "10:00", user_id=None), event(2, "10:00", "signup", user_id="")]
    assert ask(documents, "visitors", "visits", "pageviews", "events", "bounce_rate") == [(0, 0, 1, 2, 0)]


def test_visitors_of_two_sites_are_separate():
    documents = [event(1, "10:00"), event(2, "10:01", site_id="other")]
    assert numbers_of_visits(documents) == [[1], [2]]
    assert one(documents, "events") == 1


def test_a_visit_counts_completely_even_if_the_period_cuts_it():
    documents = [event(1, "2026-05-12T23:50", path="/a", source="x"), event(2, "00:10", path="/b", source="y")]
    assert ask(documents, "pageviews", "visit_duration", "views_per_visit", "bounce_rate") == [(1, 1200, 2.0, 0)]
    assert ask(documents, dimensions=("visit:entry_page", "visit:source")) == [("/a", "x", 1)]


def test_the_period_includes_its_start_and_not_its_end():
    documents = [event(1, "00:00"), event(2, "2026-05-14T00:00"), event(3, "23:59:59.999")]
    assert one(documents, "events") == 2


# Metrics


def test_visitors_visits_pageviews_and_events():
    documents = [
        event(1, "10:00"),
        event(2, "10:01", "pageview"),
        event(3, "10:02", "engagement"),
        event(4, "12:00", "signup"),
        event(5, "12:00", user_id="bob"),
    ]
    assert ask(documents, "visitors", "visits", "pageviews", "events") == [(2, 3, 3, 4)]


def test_without_events_there_is_one_row_of_zeros_and_missing_values():
    metrics = ("visitors", "visits", "pageviews", "events", "bounce_rate", "visit_duration", "views_per_visit")
    assert ask([], *metrics) == [(0, 0, 0, 0, 0, 0, 0.0)]
    assert ask([], "conversion_rate", "scroll_depth", "time_on_page", "total_revenue") == [(0.0, None, None, None)]


@pytest.mark.parametrize(
    ("others", "bounce_rate"),
    [
        ([], 100),
        ([("engagement", {})], 100),
        ([("signup", {"interactive": False})], 100),
        ([("signup", {})], 0),
        ([("signup", {"interactive": True})], 0),
        ([("pageview", {})], 0),
    ],
)
def test_a_bounce_is_one_pageview_without_interaction(others: list[tuple[str, dict[str, Any]]], bounce_rate: int):
    documents = [event(1, "10:00"), *[event(2, "10:05", kind, **fields) for kind, fields in others]]
    assert one(documents, "bounce_rate") == bounce_rate


def test_a_visit_without_a_pageview_is_no_bounce():
    assert one([event(1, "10:00", "signup", interactive=False)], "bounce_rate") == 0


def test_bounce_rate_is_a_whole_number_rounded_up_from_a_half():
    one_of_eight = [event(1, "10:00", user_id="0")]
    rest = [event(n * 2 + k, f"10:0{k}", user_id=f"{n}") for n in range(1, 8) for k in (0, 1)]
    assert one(one_of_eight + rest, "bounce_rate") == 13  # 12.5


def test_numbers_of_visits_are_of_the_distinct_whole_visits_in_the_group():
    documents = [
        event(1, "10:00", path="/a"),
        event(2, "10:00:02", path="/a"),
        event(3, "10:00:03", path="/b"),
        event(4, "12:00", path="/a"),
    ]
    metrics = ("visits", "visit_duration", "views_per_visit", "bounce_rate")
    assert ask(documents, *metrics, dimensions=("event:page",)) == [("/a", 2, 2, 2.0, 50), ("/b", 1, 3, 3.0, 0)]


def test_percentage_is_of_all_who_fit_the_filters():
    documents = [event(n, "10:00", user_id=f"{n}", path="/a" if n < 2 else "/b") for n in range(3)]
    documents.append(event(9, "10:00", "signup", user_id="9"))
    pageviews = (Condition("is", "event:name", ("pageview",)),)
    assert ask(documents, "percentage", dimensions=("event:page",), filters=pageviews) == [
        ("/a", 66.67),
        ("/b", 33.33),
    ]


SIGN_UP = Goal("Sign up", event_type="signup")
READ_A = Goal("Read a", page="/a*")
GOALS = (SIGN_UP, READ_A)
CONVERSIONS = [
    event(1, "10:00", path="/a", source="x"),
    event(2, "10:01", "signup", props={"plan": "pro"}),
    event(3, "11:00", path="/a1", user_id="bob", source="y"),
    event(4, "11:00", path="/b", user_id="cleo", source="x"),
    event(5, "11:01", path="/b", user_id="dora", source="y"),
]


def test_an_event_counts_for_each_goal_it_meets_and_none_for_nothing():
    goals = (*GOALS, Goal("Any", page="**"))
    rows = ask(CONVERSIONS, "visitors", "conversion_rate", dimensions=("event:goal",), goals=goals)
    assert rows == [("Any", 4, 100.0), ("Read a", 2, 50.0), ("Sign up", 1, 25.0)]


def test_conversion_rate_ignores_filters_on_goals_and_props_only():
    only = (Condition("is", "event:goal", ("Sign up",)), Not(Condition("is", "event:props:plan", ("(none)",))))
    assert one(CONVERSIONS, "conversion_rate", filters=only, goals=GOALS) == 25.0
    of_x = (*only, Condition("is", "visit:source", ("x",)))
    assert one(CONVERSIONS, "conversion_rate", filters=of_x, goals=GOALS) == 50.0
    nested = (And(only),)
    assert one(CONVERSIONS, "conversion_rate", filters=nested, goals=GOALS) == 100.0


def test_group_conversion_rate_keeps_the_other_dimensions():
    rows = ask(
        CONVERSIONS,
        "visitors",
        "conversion_rate",
        "group_conversion_rate",
        dimensions=("event:goal", "visit:source"),
        goals=GOALS,
    )
    assert rows == [("Read a", "x", 1, 25.0, 50.0), ("Read a", "y", 1, 25.0, 50.0), ("Sign up", "x", 1, 25.0, 50.0)]


def test_conversion_rate_is_of_its_time_bucket():
    rows = ask(CONVERSIONS, "conversion_rate", dimensions=("time:hour", "event:goal"), goals=GOALS)
    assert rows == [
        ("2026-05-13 10:00:00", "Read a", 100.0),
        ("2026-05-13 10:00:00", "Sign up", 100.0),
        ("2026-05-13 11:00:00", "Read a", 33.33),
    ]


def test_scroll_depth_is_the_mean_of_each_visitors_deepest_on_each_page():
    documents = [
        event(1, "10:00", "engagement", path="/a", scroll_depth=80),
        event(2, "10:01", "engagement", path="/a", scroll_depth=10),
        event(3, "10:02", "engagement", path="/b", scroll_depth=0),
        event(4, "10:03", "engagement", path="/a", scroll_depth=41, user_id="bob"),
        event(5, "10:03", "engagement", path="/a", scroll_depth=99, user_id=None),
        event(6, "10:04", path="/c"),
    ]
    assert one(documents, "scroll_depth") == 40  # (80 + 0 + 41) / 3
    rows = ask(documents, "scroll_depth", dimensions=("event:page",))
    assert rows == [("/a", 61), ("/b", 0), ("/c", None)]  # 60.5; None is last


def test_time_on_page_is_for_each_visit():
    documents = [
        event(1, "10:00", path="/a"),
        event(2, "10:01", "engagement", path="/a", engagement_time=2000),
        event(3, "10:02", "engagement", path="/a", engagement_time=1000),
        event(4, "10:00", path="/a", user_id="bob"),
        event(5, "10:00", path="/b", user_id="bob"),
    ]
    assert ask(documents, "time_on_page", dimensions=("event:page",)) == [("/a", 2), ("/b", None)]  # 1.5
    nobody = [event(1, "10:00", "engagement", engagement_time=5000)]
    assert one(nobody, "time_on_page") == 0


def revenue(amount: str, currency: str = "USD") -> dict[str, Any]:
    return {"amount": Decimal128(amount), "currency": currency}


def test_revenue_is_exact_and_of_one_currency():
    documents = [
        event(1, "10:00", "purchase", revenue=revenue("1234.50"), path="/a"),
        event(2, "10:00", "purchase", revenue=revenue("0.001"), path="/a"),
        event(3, "10:00", "purchase", revenue=revenue("3", "JPY"), path="/b"),
        event(4, "10:00", path="/c"),
    ]
    total = {"value": 1234.501, "currency": "USD", "short": "$1.2K", "long": "$1,234.50"}
    average = {"value": 617.251, "currency": "USD", "short": "$617.251", "long": "$617.25"}  # 617.2505
    yen = {"value": 3.0, "currency": "JPY", "short": "¥3", "long": "¥3"}
    rows = ask(documents, "total_revenue", "average_revenue", dimensions=("event:page",))
    assert rows == [("/a", total, average), ("/b", yen, yen), ("/c", None, None)]
    assert one(documents, "total_revenue") is None
    cheapest = ask(documents, "total_revenue", dimensions=("event:page",), order_by=(Order("total_revenue"),))
    assert [path for path, _ in cheapest] == ["/b", "/a", "/c"]


def test_a_goal_that_brings_money_counts_its_own_currency():
    documents = [event(n, "10:00", "buy", revenue=revenue("5", code)) for n, code in enumerate(("USD", "EUR"))]
    goals = (Goal("Any money", event_type="buy"), Goal("Euros", event_type="buy", currency="EUR"))
    ((euros, found), (any_money, nothing)) = ask(documents, "total_revenue", dimensions=("event:goal",), goals=goals)
    assert (euros, found["value"], found["currency"]) == ("Euros", 5.0, "EUR")
    assert (any_money, nothing) == ("Any money", None)


def test_halves_are_rounded_away_from_zero():
    assert [rounded(Fraction(n, 2), 0) for n in (1, 3, 5, -1, -5)] == [1, 2, 3, -1, -3]
    assert float(rounded(Fraction(1, 8), 2)) == 0.13


# Dimensions


@pytest.mark.parametrize(
    ("dimension", "values"),
    [
        ("event:page", ["/a", "(not set)", "(not set)"]),
        ("event:hostname", ["(not set)", "h", "(not set)"]),
        ("event:name", ["pageview", "signup", "pageview"]),
        ("event:props:plan", ["pro", "(none)", "(none)"]),
        ("visit:source", ["Direct / None", "Direct / None", "Direct / None"]),
        ("visit:utm_medium", ["mail", "mail", "(not set)"]),
        ("visit:entry_page", ["/a", "/a", "(not set)"]),
        ("visit:entry_page_hostname", ["(not set)", "(not set)", "(not set)"]),
        ("visit:country_name", ["Germany", "Germany", "XX"]),
        ("visit:region_name", ["California", "California", "XX-1"]),
        ("visit:city_name", ["Berlin", "Berlin", "(not set)"]),
        ("visit:country", ["DE", "DE", "XX"]),
    ],
)
def test_a_dimension_says_what_an_event_has_or_its_visits_entry_had(dimension: str, values: list[str]):
    described = {"utm_medium": "mail", "country": "DE", "region": "US-CA", "city": "Berlin"}
    documents = [
        event(1, "10:00", path="/a", props={"plan": "pro"}, **described),
        event(2, "10:01", "signup", hostname="h", source="late", utm_medium="late", props={"plan": None}),
        event(3, "10:00", user_id=None, path="", source="", props={"plan": ""}, country="XX", region="XX-1"),
    ]
    counted = {value: values.count(value) for value in values}
    assert dict(ask(documents, dimensions=(dimension,))) == counted


def test_an_event_of_no_visit_has_its_own_description_and_no_entry_or_exit():
    documents = [event(1, "10:00", path="/a", source="own", user_id=None), event(2, "10:00", "engagement", source="e")]
    rows = ask(documents, "pageviews", dimensions=("visit:source", "visit:entry_page", "visit:exit_page"))
    assert rows == [("own", "(not set)", "(not set)", 1), ("e", "(not set)", "(not set)", 0)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (1, "1"),
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (1e22, "1e+22"),
        (2**63 - 1, "9223372036854775807"),
        ("1", "1"),
    ],
)
def test_a_property_is_text(value: object, text: str):
    assert ask([event(1, "10:00", props={"a.b": value})], dimensions=("event:props:a.b",)) == [(text, 1)]


@pytest.mark.parametrize(
    ("grain", "label"),
    [("hour", "2026-05-13 01:00:00"), ("day", "2026-05-13"), ("week", "2026-05-11"), ("month", "2026-05-01")],
)
def test_time_is_that_of_the_zone(grain: str, label: str):
    period = of_days(DAY, DAY, BERLIN)
    assert ask([event(1, "2026-05-12T23:30")], dimensions=(f"time:{grain}",), period=period) == [(label, 1)]


def test_a_repeated_hour_is_one_bucket_and_a_skipped_hour_is_none():
    autumn = of_days(date(2026, 10, 25), date(2026, 10, 25), BERLIN)
    documents = [event(1, "2026-10-25T00:30"), event(2, "2026-10-25T01:30")]
    assert ask(documents, dimensions=("time:hour",), period=autumn) == [("2026-10-25 02:00:00", 2)]
    assert len(time_labels(autumn, "hour")) == 24
    spring = time_labels(of_days(date(2026, 3, 29), date(2026, 3, 29), BERLIN), "hour")
    assert len(spring) == 23
    assert "2026-03-29 02:00:00" not in spring


def test_labels_are_of_every_bucket_that_the_period_touches():
    kolkata = ZoneInfo("Asia/Kolkata")
    start = datetime(2026, 2, 28, 18, 29, 59, 999000, tzinfo=UTC)  # a millisecond before March in Kolkata
    assert time_labels(Period(start, start + timedelta(milliseconds=2), kolkata), "month") == (
        "2026-02-01",
        "2026-03-01",
    )
    assert time_labels(Period(start, start + timedelta(milliseconds=1), kolkata), "week") == ("2026-02-23",)
    assert time_labels(Period(start, start, kolkata), "day") == ()
    lord_howe = ZoneInfo("Australia/Lord_Howe")  # 02:00 to 02:30 does not exist
    half_hours = time_labels(of_days(date(2026, 10, 4), date(2026, 10, 4), lord_howe), "hour")
    assert len(half_hours) == 24
    assert midnight(date(2026, 10, 4), lord_howe) == datetime(2026, 10, 3, 13, 30, tzinfo=UTC)


def test_time_labels_give_every_group_every_bucket():
    period = of_days(DAY, DAY + timedelta(days=1), ZoneInfo("UTC"))
    documents = [event(1, "10:00", path="/a"), event(2, "2026-05-14T10:00", path="/b")]
    rows = ask(
        documents, "visitors", "scroll_depth", dimensions=("time:day", "event:page"), period=period, time_labels=True
    )
    assert rows == [
        ("2026-05-13", "/a", 1, None),
        ("2026-05-13", "/b", 0, None),
        ("2026-05-14", "/a", 0, None),
        ("2026-05-14", "/b", 1, None),
    ]
    assert ask([], dimensions=("time:day",), period=period, time_labels=True) == [("2026-05-13", 0), ("2026-05-14", 0)]
    assert ask([], dimensions=("time:day", "event:page"), period=period, time_labels=True) == []


# Goals


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("/a", "/a", True),
        ("/a", "/a/", False),
        ("/a*", "/a", True),
        ("/a/*", "/a/b", True),
        ("/a/*", "/a/b/c", False),
        ("/a/**", "/a/b/c", True),
        ("/a**", "/a", True),
        ("/*/c", "/b/c", True),
        ("/*/c", "/a/b/c", False),
        ("**c", "/a/b/c", True),
        ("/a.c", "/abc", False),
        ("/**/c", "/c", False),
    ],
)
def test_wildcards_of_a_page_goal_match_paths(pattern: str, path: str, fits: bool):
    assert page_fits(pattern, path) is fits


def test_goals_by_event_know_both_spellings_of_a_pageview_and_pages_are_viewed():
    documents = [event(1, "10:00"), event(2, "10:00", "pageview"), event(3, "10:00", "signup", path="/a")]
    goals = (Goal("View", event_type="page_view"), Goal("A", page="/a"))
    assert ask(documents, dimensions=("event:goal",), goals=goals) == [("View", 2)]


# Filters

FILTERED = [
    event(1, "10:00", path="/a"),
    event(2, "10:01", path="/A/b"),
    event(3, "10:02", "signup"),
    event(4, "12:00", path="/a/b%"),
    event(5, "10:00", path="/Ünï", user_id=None),
]


def page(operator: Any, *values: str, sensitive: bool = True) -> Condition:
    return Condition(operator, "event:page", values, sensitive)


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (page("is", "/a"), {1}),
        (page("is", "/a", "/a/b%"), {1, 4}),
        (page("is", "/A/B", sensitive=False), {2}),
        (page("is", "(not set)"), {3}),
        (page("is", ""), set()),
        (page("contains", "b"), {2, 4}),
        (page("contains", "%"), {4}),
        (page("contains", "not"), set()),
        (page("contains", "NOT", sensitive=False), set()),
        (page("matches", "not|^$"), set()),
        (Not(page("contains", "not")), {1, 2, 3, 4, 5}),
        (page("contains", "üN", sensitive=False), {5}),
        (page("matches", "^/a$", "%$"), {1, 4}),
        (page("matches", "/a"), {1, 4}),
        (page("matches", "^/A", sensitive=False), {1, 2, 4}),
        (page("matches", "x|ü", sensitive=False), {5}),
        (Not(page("is", "/a")), {2, 3, 4, 5}),
        (And((page("contains", "a"), page("contains", "b"))), {4}),
        (Or((page("is", "/a"), page("is", "(not set)"))), {1, 3}),
        (Done(Condition("is", "event:name", ("signup",))), {1, 2, 3}),
        (Not(Done(Condition("is", "event:name", ("signup",)))), {4, 5}),
        (Done(page("is", "/Ünï")), set()),  # not even the event itself, because it belongs to no visit
        (Condition("is", "event:goal", ("A", "Sign up")), {1, 3}),
        (Condition("contains", "event:goal", ("sign",), False), {3}),
        (Not(Condition("contains", "event:goal", ("",))), {2, 4, 5}),
        (Condition("is", "visit:exit_page", ("/A/b",)), {1, 2, 3}),
        (Condition("is", "visit:source", ("Direct / None",)), {1, 2, 3, 4, 5}),
    ],
)
def test_filters_match_events_and_visits(wanted: Filter, numbers: set[int]):
    goals = (Goal("A", page="/a"), SIGN_UP)
    documents = [document | {"props": {"number": document["_id"].int}} for document in FILTERED]
    rows = ask(documents, dimensions=("event:props:number",), filters=(wanted,), goals=goals)
    assert {int(number) for number, _ in rows} == numbers


def test_events_before_the_period_do_not_count_for_behavioral_filters():
    documents = [event(1, "2026-05-12T23:50", "signup"), event(2, "00:05")]
    assert one(documents, "events", filters=(Done(Condition("is", "event:name", ("signup",))),)) == 0


# Order and pages


def test_the_first_metric_leads_and_ties_are_by_code_point():
    documents = [event(n, "10:00", path=path) for n, path in enumerate(("/b", "/ä", "/B", "/a", "/a"))]
    assert ask(documents, dimensions=("event:page",)) == [("/a", 2), ("/B", 1), ("/b", 1), ("/ä", 1)]
    by_page = (Order("event:page", descending=True),)
    assert [row[0] for row in ask(documents, dimensions=("event:page",), order_by=by_page)] == ["/ä", "/b", "/a", "/B"]


def test_missing_values_come_last_in_both_orders():
    documents = [event(1, "10:00", path="/a"), event(2, "10:00", path="/b", scroll_depth=5)]
    for descending in (False, True):
        order = (Order("scroll_depth", descending),)
        rows = ask(documents, "scroll_depth", dimensions=("event:page",), order_by=order)
        assert rows == [("/b", 5), ("/a", None)]


def test_limit_and_offset_apply_last_and_do_not_change_the_total():
    documents = [event(n, "10:00", path=f"/{n}") for n in range(5)]
    found = answer(documents, Query("site", ("events",), TODAY, ("event:page",), limit=2, offset=1))
    assert [row.dimensions for row in found.rows] == [("/1",), ("/2",)]
    assert found.total_rows == 5


# The other reports


def test_stats_of_a_day_and_of_all_time():
    documents = [
        event(1, "00:00", path="/b"),
        event(2, "10:00", path="/a", user_id=None),
        event(3, "10:00", "pageview", user_id="bob"),
        event(4, "10:00", "signup", path="/c", user_id="cleo"),
        event(5, "2026-05-14T00:00", path="/b", user_id="dora"),
    ]
    day = {"total_views": 3, "unique_users": 3, "top_paths": [{"path": "/a", "views": 1}, {"path": "/b", "views": 1}]}
    assert stats(documents, DAY) == day
    ever = {"total_views": 4, "unique_users": 4, "top_paths": [{"path": "/b", "views": 2}, {"path": "/a", "views": 1}]}
    assert stats(documents, None) == ever
    assert len(stats([event(n, "10:00", path=f"/{n}") for n in range(11)], None)["top_paths"]) == 10


def steps_of(*paths: str) -> list[Filter]:
    return [page("is", path) for path in paths]


BARE = Query("site", ("visitors",), TODAY)


def test_a_funnel_takes_the_best_start():
    documents = [
        event(1, "10:00", path="/a"),
        event(2, "10:30", path="/b"),
        event(3, "10:40", path="/a"),
        event(4, "10:50", path="/b"),
        event(5, "11:40", path="/c"),
    ]
    hour = timedelta(hours=1)
    assert funnel(documents, BARE, steps_of("/a", "/b", "/c"), hour) == [1, 1, 1]
    assert funnel(documents, BARE, steps_of("/a", "/b", "/c"), hour - timedelta(milliseconds=1)) == [1, 1, 0]


def test_an_event_counts_for_one_step_only_and_events_of_one_moment_are_ordered_by_id():
    documents = [event(1, "10:00", path="/a"), event(2, "10:00", path="/b")]
    window = timedelta(hours=1)
    assert funnel(documents, BARE, steps_of("/a", "/a"), window) == [1, 0]
    assert funnel(documents, BARE, steps_of("/a", "/b"), window) == [1, 1]
    assert funnel(documents, BARE, steps_of("/b", "/a"), window) == [1, 0]


def test_a_funnel_without_a_window_is_within_one_visit_and_counts_visits():
    documents = [
        event(1, "10:00", path="/a"),
        event(2, "12:00", path="/b"),
        event(3, "14:00", path="/a"),
        event(4, "14:01", path="/b"),
        event(5, "14:01", path="/a", user_id=None),
    ]
    assert funnel(documents, BARE, steps_of("/a", "/b"), None) == [2, 1]
    assert funnel(documents, BARE, steps_of("/a", "/b"), timedelta(hours=2)) == [1, 1]


def test_retention_counts_visitors_of_each_cohort_by_period():
    documents = [
        event(1, "2026-05-13T10:00"),
        event(2, "2026-05-15T10:00"),
        event(3, "2026-05-13T10:00", user_id="bob"),
        event(4, "2026-05-14T10:00", user_id="bob"),
        event(5, "2026-05-15T10:00", user_id="cleo"),
        event(6, "2026-05-16T00:00", user_id="cleo"),
        event(7, "2026-05-14T10:00", user_id=None),
    ]
    three_days = of_days(DAY, DAY + timedelta(days=2), ZoneInfo("UTC"))
    assert retention(documents, BARE.in_period(three_days), "day") == [
        ("2026-05-13", 2, [2, 1, 1]),
        ("2026-05-15", 1, [1]),
    ]


def test_journeys_list_the_pages_before_and_after():
    documents = [
        event(1, "2026-05-12T23:55", path="/before"),
        event(2, "00:05", path="/a"),
        event(3, "00:06", "signup", path="/x"),
        event(4, "00:07", path="/a"),
        event(5, "12:00", path="/a"),
        event(6, "12:00", path="/a", user_id="bob"),
        event(7, "12:01", user_id="bob"),
        event(8, "12:00", path="/a", user_id=None),
    ]
    following, previous = journeys(documents, BARE, "/a")
    assert following == [(None, 2), ("(not set)", 1), ("/a", 1)]
    assert previous == [(None, 2), ("/a", 1), ("/before", 1)]
    assert journeys(documents[1:4], BARE, "/a")[0] == [("/a", 1), (None, 1)]
    assert journeys(documents, BARE, "(not set)") == ([(None, 1)], [("/a", 1)])


# Hypothesis's streams

anything = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])


@anything
@given(st.data())
def test_every_question_has_an_answer_that_does_not_depend_on_the_order_of_events(data: st.DataObject):
    stream: Stream = data.draw(streams(most_events=5))
    query = data.draw(queries(stream))
    found = answer(stream.documents, query)
    assert answer(stream.documents[::-1], query) == found
    assert len(found.rows) == max(0, min(found.total_rows - query.offset, query.limit))
    assert len({row.dimensions for row in found.rows}) == len(found.rows)


@anything
@given(st.data())
def test_funnels_never_grow_and_cohorts_begin_at_100_percent(data: st.DataObject):
    stream: Stream = data.draw(streams(most_events=5))
    reached = funnel(stream.documents, *data.draw(funnels(stream)))
    assert reached == sorted(reached, reverse=True)
    query = data.draw(bare_queries(stream))
    assert all(size == came[0] for _, size, came in retention(stream.documents, query, data.draw(grains())))
    following, previous = journeys(stream.documents, query, data.draw(pages()))
    assert sum(count for _, count in following) == sum(count for _, count in previous)


@anything
@given(st.data())
def test_all_events_that_arrive_and_are_not_erased_remain(data: st.DataObject):
    stream: Stream = data.draw(streams(most_events=4))
    arriving = data.draw(arrivals(stream))
    stored: dict[UUID, Document] = {}
    for step in arriving.steps:
        match step:
            case Batch(documents):
                stored |= {document["_id"]: document for document in documents}
            case Erasure(site_id, visitor):
                gone = [i for i, x in stored.items() if (x["site_id"], x.get("user_id")) == (site_id, visitor)]
                assert gone
                for id_ in gone:
                    del stored[id_]
    assert sorted(stored) == sorted(document["_id"] for document in arriving.remaining)
