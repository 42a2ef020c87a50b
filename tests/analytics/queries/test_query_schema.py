"""Valid and invalid queries, their error messages, and the moments of periods and labels."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analytics.queries.local_time import time_labels
from analytics.queries.periods import grain_for, previous_period, year_before
from analytics.queries.query import (
    EVENT_DIMENSIONS,
    METRICS,
    OF_NUMBERS,
    TIME_DIMENSIONS,
    VISIT_DIMENSIONS,
    VISIT_NUMBERS,
    And,
    Condition,
    Done,
    Filter,
    Grain,
    Not,
    Or,
    Order,
    Period,
    Query,
    conditions,
    count_labels,
    of_days,
)
from analytics.queries.query_schema import MOST_LABELS, InvalidQuery, load_query, query_json, read_query
from analytics.sites.site import Goal, SavedFilter, Site

NOW = datetime(2026, 11, 22, 12, 34, 56, 789000, tzinfo=UTC)  # a Sunday
BERLIN = ZoneInfo("Europe/Berlin")
SITE = Site("site", goals=(Goal("Signup", event_type="signup"), Goal("Visit /thanks", page="/thanks")))
EPOCH, MINUTE = datetime(1970, 1, 1, tzinfo=UTC), timedelta(minutes=1)
LEAST: dict[str, Any] = {"site_id": "site", "metrics": ["visitors"], "date_range": "day"}


def no_event() -> None:
    return None


def load(now: datetime = NOW, site: Site = SITE, **fields: object) -> Query:
    return load_query(LEAST | fields, site, now, no_event)


def error(**fields: object) -> str:
    with pytest.raises(InvalidQuery) as caught:
        load(**fields)
    return str(caught.value)


def days(date_range: object, now: datetime = NOW, **fields: object) -> tuple[date, date]:
    """The first and last day of a range of whole days."""
    period = load(now, date_range=date_range, **fields).period
    first, last = period.first_day(), period.last_day()
    assert period == of_days(first, last, period.zone)
    return first, last


def filters(*given: object) -> tuple[Filter, ...]:
    return load(filters=list(given)).filters


# The body


def test_the_smallest_query_gets_the_defaults():
    today = of_days(date(2026, 11, 22), date(2026, 11, 22), ZoneInfo("UTC"))
    assert load() == Query("site", ("visitors",), today, order_by=(Order("visitors", True),), goals=SITE.goals)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([], "#: Type mismatch. Expected Object but got Array."),
        (None, "#: Type mismatch. Expected Object but got Null."),
        ({}, "#: Required properties site_id, metrics, date_range were not present."),
        ({"site_id": "site", "metrics": []}, "#: Required property date_range was not present."),
        (LEAST | {"date": "2026-01-01"}, "#/date: Schema does not allow additional properties."),
        (LEAST | {"a/b~c": 1}, "#/a~1b~0c: Schema does not allow additional properties."),
        (LEAST | {"site_id": 1}, "#/site_id: Type mismatch. Expected String but got Integer."),
        (LEAST | {"site_id": ""}, "#/site_id: Expected a string of 1 to 128 characters."),
        (LEAST | {"site_id": "s" * 129}, "#/site_id: Expected a string of 1 to 128 characters."),
        (LEAST | {"site_id": []}, "#/site_id: Expected a minimum of 1 items but got 0."),
        (LEAST | {"site_id": ["site", 1]}, "#/site_id/1: Type mismatch. Expected String but got Integer."),
        (LEAST | {"site_id": ["site", "site"]}, "#/site_id: Expected items to be unique but they were not."),
        (LEAST | {"site_id": ["s"] * 21}, "#/site_id: Expected a maximum of 20 items but got 21."),
    ],
)
def test_a_body_that_names_no_site_is_refused_before_and_while_loading(body: object, expected: str):
    for read in (
        lambda body: read_query(body, pytest.fail, NOW, pytest.fail),
        lambda body: load_query(body, SITE, NOW, no_event),
    ):
        with pytest.raises(InvalidQuery) as caught:
            read(body)
        assert str(caught.value) == expected


def test_an_error_has_a_pointer_and_a_message_or_the_message_alone():
    with pytest.raises(InvalidQuery) as caught:
        load(metrics=["visitors", "baa"])
    assert (caught.value.pointer, caught.value.message) == ("#/metrics/1", 'Invalid metric "baa"')
    with pytest.raises(InvalidQuery) as caught:
        load(metrics=["conversion_rate"])
    assert (caught.value.pointer, str(caught.value)) == ("", caught.value.message)


@pytest.mark.parametrize("field", ["dimensions", "filters", "order_by", "include", "pagination"])
def test_null_is_not_the_same_as_omitted(field: str):
    assert error(**{field: None}).endswith(" but got Null.")


def test_quoted_values_in_errors_are_truncated_and_encodable():
    assert len(error(metrics=["x" * 10_000])) < 300
    error(metrics=["half a pair: \ud800"], **{"\ud800": 1}).encode()
    error(dimensions=["half a pair: \ud800"]).encode()


# Several sites as one


def roll_up(*sites: Site, **fields: object) -> Query:
    names = [site.site_id for site in sites]
    return read_query(LEAST | {"site_id": names} | fields, lambda _: [*sites], NOW, lambda _: NOW)


def test_a_roll_up_has_the_goals_that_all_its_sites_have():
    other = Site("other", goals=(Goal("Signup", event_type="signup"), Goal("Visit /thanks", page="/thank-you")))
    query = roll_up(SITE, other, filters=[["is", "event:goal", ["Signup"]]])
    assert (query.site_ids, query.goals) == (("site", "other"), SITE.goals[:1])
    assert query_json(query, {})["site_id"] == ["site", "other"]
    with pytest.raises(InvalidQuery, match="The goal `Visit /thanks` is not configured"):
        roll_up(SITE, other, filters=[["is", "event:goal", ["Visit /thanks"]]])


def test_two_names_of_one_site_are_one_site():
    assert load_query(LEAST | {"site_id": ["site", "site.example"]}, SITE, NOW, no_event).site_ids == ("site",)


def test_sites_with_different_days_are_not_counted_as_one():
    with pytest.raises(InvalidQuery) as caught:
        roll_up(SITE, Site("other", BERLIN), Site("third"))
    assert caught.value.pointer == "#/site_id"
    assert "same time zone but got site UTC, other Europe/Berlin, third UTC" in caught.value.message


# Metrics


def test_all_metrics_can_be_queried_at_once():
    assert load(metrics=list(METRICS), dimensions=["event:page", "event:goal"]).metrics == METRICS


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        (["visitors", "baa"], '#/metrics/1: Invalid metric "baa"'),
        (["visitors", "event:name"], '#/metrics/1: Invalid metric "event:name"'),
        ([["visitors"]], '#/metrics/0: Invalid metric ["visitors"]'),
        ([], "#/metrics: Expected a minimum of 1 items but got 0."),
        ("visitors", "#/metrics: Type mismatch. Expected Array but got String."),
        (
            ["views_per_visit", "visitors", "visitors"],
            "#/metrics: Expected items to be unique but they were not.",
        ),
        (["visitors"] * 99, f"#/metrics: Expected a maximum of {len(METRICS)} items but got 99."),
    ],
)
def test_an_invalid_metric_is_named_with_its_place(metrics: object, expected: str):
    assert error(metrics=metrics) == expected


@pytest.mark.parametrize("function", OF_NUMBERS)
def test_a_metric_may_be_of_the_numbers_of_a_property(function: str):
    metric = f"{function}:props:a:b c"
    query = load(metrics=["visitors", metric], order_by=[[metric, "desc"]])
    assert query.metrics == ("visitors", metric)
    assert query.order_by == (Order(metric, descending=True),)


@pytest.mark.parametrize(
    "metric", ["sum:props:", "sum:props", "props:price", "total:props:price", "event:props:price", "sum:props:a\0b"]
)
def test_a_function_of_no_property_or_no_function_is_no_metric(metric: str):
    assert error(metrics=[metric]).startswith("#/metrics/0: Invalid metric")
    assert error(metrics=["sum:props:" + "x" * 2048]).startswith("#/metrics/0: Invalid metric")


GOAL_NEEDED = "can only be queried with event:goal filters or dimensions"
IS_SIGNUP = ["is", "event:goal", ["Signup"]]


@pytest.mark.parametrize("metric", ["conversion_rate", "group_conversion_rate"])
def test_a_conversion_rate_needs_a_goal(metric: str):
    load(metrics=[metric], dimensions=["event:goal"])
    load(metrics=[metric], filters=[IS_SIGNUP])
    for others in (
        {},
        {"filters": [["has_done", IS_SIGNUP]]},
        {"filters": [["or", [IS_SIGNUP, ["is", "event:page", ["/"]]]]]},
        {"dimensions": ["event:page"], "filters": [["is", "event:props:author", ["Uku"]]]},
    ):
        assert error(metrics=[metric], **others) == f"Metric `{metric}` {GOAL_NEEDED}"


def test_a_conversion_rate_takes_property_filters_on_the_top_level_only():
    is_large = ["is", "event:props:size", ["L"]]
    asked = {"metrics": ["conversion_rate"], "dimensions": ["event:goal"]}
    load(**asked, filters=[is_large, ["not", is_large], ["has_done", ["or", [is_large]]]])
    assert "custom property filters can only be used on top level" in error(**asked, filters=[["or", [is_large]]])


@pytest.mark.parametrize("metric", ["scroll_depth", "time_on_page"])
def test_metrics_of_pages_need_a_page(metric: str):
    load(metrics=[metric], dimensions=["event:page"])
    load(metrics=[metric], filters=[["and", [["contains_not", "event:page", ["/a"]]]]])
    expected = f"Metric `{metric}` can only be queried with event:page filters or dimensions"
    assert error(metrics=[metric]) == expected
    assert error(metrics=[metric], filters=[["has_done", ["is", "event:page", ["/a"]]]]) == expected


def test_a_percentage_needs_a_dimension():
    load(metrics=["percentage"], dimensions=["visit:os"])
    assert error(metrics=["percentage"]) == "Metric `percentage` can only be queried with dimensions"


def test_metrics_of_visits_work_with_every_dimension_and_filter():
    metrics = ["bounce_rate", "visit_duration", "views_per_visit", "visits"]
    for dimension in ("event:page", "event:name", "event:props:url", "time:day", "visit:exit_page"):
        load(metrics=metrics, dimensions=[dimension], filters=[["is", "event:page", ["/"]]])


# Dimensions


@pytest.mark.parametrize(
    "dimension", [*EVENT_DIMENSIONS, *VISIT_DIMENSIONS, *TIME_DIMENSIONS, "event:props:a", "event:props:ä b.c$"]
)
def test_every_dimension_is_accepted(dimension: str):
    assert load(dimensions=[dimension]).dimensions == (dimension,)


@pytest.mark.parametrize(
    "dimension",
    ["badproperty", "visitors", "event:props:", "event:device", "visit:name", "time:minute", "event:props:\0", "",
     "event:props:\ud800", "event:props:" + "x" * 2_048, 1, None, [], {"a": 1}],
)  # fmt: skip
def test_no_unknown_dimension_is_accepted(dimension: object):
    assert error(dimensions=["event:page", dimension]).startswith("#/dimensions/1: Invalid dimension ")


def test_an_invalid_dimension_is_quoted():
    assert error(dimensions=["badproperty"]) == '#/dimensions/0: Invalid dimension "badproperty"'


@pytest.mark.parametrize(
    ("dimensions", "expected"),
    [
        ("event:page", "#/dimensions: Type mismatch. Expected Array but got String."),
        (["event:page", "event:page"], "#/dimensions: Expected items to be unique but they were not."),
        (["time", "event:page", "time:hour"], "#/dimensions/2: Expected no more than one time dimension."),
        (["event:page"] * 11, "#/dimensions: Expected a maximum of 10 items but got 11."),
    ],
)
def test_dimensions_are_few_and_unique(dimensions: object, expected: str):
    assert error(dimensions=dimensions) == expected


@pytest.mark.parametrize(
    ("last", "grain"),
    [
        ("2022-01-01", "hour"), ("2022-01-02", "hour"), ("2022-01-03", "day"), ("2022-01-31", "day"),
        ("2022-02-10", "day"), ("2022-02-11", "week"), ("2022-03-16", "week"), ("2022-12-31", "week"),
        ("2023-11-16", "month"),
    ],
)  # fmt: skip
def test_time_picks_its_grain_from_the_range(last: str, grain: str):
    query = load(dimensions=["visit:os", "time"], date_range=["2022-01-01", last])
    assert query.dimensions == ("visit:os", f"time:{grain}")
    assert query.grain == grain


def test_two_days_are_shown_by_the_hour_even_where_one_has_25():
    assert grain_for(of_days(date(2026, 10, 24), date(2026, 10, 25), BERLIN)) == "hour"


# Filters


@pytest.mark.parametrize("operator", ["is", "contains", "matches"])
def test_an_operator_makes_a_condition_and_its_opposite_the_opposite(operator: Any):
    condition = Condition(operator, "event:page", ("/a", "/b"), place="#/filters/0")
    assert filters([operator, "event:page", ["/a", "/b"]]) == (condition,)
    assert filters([f"{operator}_not" if operator != "is" else "is_not", "event:page", ["/a", "/b"]]) == (
        Not(condition),
    )


def test_filters_may_be_joined_and_each_condition_has_its_pointer():
    a, b, c = (["is", "visit:os", [letter]] for letter in "abc")
    assert filters(["or", [["and", [a, b]], ["not", c]]], a) == (
        Or(
            (
                And(
                    (
                        Condition("is", "visit:os", ("a",), place="#/filters/0/1/0/1/0"),
                        Condition("is", "visit:os", ("b",), place="#/filters/0/1/0/1/1"),
                    )
                ),
                Not(Condition("is", "visit:os", ("c",), place="#/filters/0/1/1/1")),
            )
        ),
        Condition("is", "visit:os", ("a",), place="#/filters/1"),
    )


def test_behavioral_filters_are_accepted():
    done = Condition("is", "event:goal", ("Signup",), place="#/filters/0/1")
    assert filters(["has_done", IS_SIGNUP]) == (Done(done),)
    assert filters(["has_not_done", IS_SIGNUP]) == (Not(Done(done)),)
    visited = ["has_done", ["and", [["is", "visit:browser", ["Chrome"]], ["not", ["is", "event:page", ["/"]]]]]]
    assert isinstance(filters(["not", visited])[0], Not)


def test_behavioral_filters_may_not_be_nested():
    expected = "#/filters/0/1/1/0: Invalid filters. Behavioral filters (has_done, has_not_done) cannot be nested."
    assert error(filters=[["has_done", ["or", [["has_not_done", IS_SIGNUP]]]]]) == expected


@pytest.mark.parametrize("dimension", VISIT_NUMBERS)
def test_visits_can_be_filtered_by_their_length(dimension: str):
    def condition(operator: Any) -> Condition:
        return Condition(operator, dimension, ("60", "0"), place="#/filters/0")

    for operator in ("is", "greater", "less"):
        assert filters([operator, dimension, [60, 0.0]]) == (condition(operator),)
    assert filters(["is_not", dimension, [60, 0]]) == (Not(condition("is")),)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (["greater", "visit:duration", ["60"]], "#/filters/0/2/0: Type mismatch. Expected Integer but got String."),
        (["less", "visit:views", [1, 1.5]], "#/filters/0/2/1: Type mismatch. Expected Integer but got Number."),
        (["is", "visit:views", [True]], "#/filters/0/2/0: Type mismatch. Expected Integer but got Boolean."),
        (["greater", "visit:duration", [-1]], "#/filters/0/2/0: Expected the value to be >= 0"),
        (["less", "visit:duration", [10**9 + 1]], "#/filters/0/2/0: Expected the value to be <= 1000000000"),
        (["greater", "visit:duration", []], '#/filters/0: Invalid filter ["greater", "visit:duration", []]'),
        (["contains", "visit:views", [1]], '#/filters/0: Invalid filter ["contains", "visit:views", [1]]'),
        (["greater", "visit:source", [1]], '#/filters/0: Invalid filter ["greater", "visit:source", [1]]'),
        (["less", "visit:views", [1], {}], '#/filters/0: Invalid filter ["less", "visit:views", [1], {}]'),
        (
            ["greater", "visit_duration", [1]],
            '#/filters/0: Invalid filter ["greater", "visit_duration", [1]]. Did you mean \'visit:duration\'?',
        ),
    ],
)
def test_a_length_of_visits_that_cannot_be_compared_is_an_error_at_its_place(wrong: Any, expected: str):
    assert error(filters=[wrong]) == expected


@pytest.mark.parametrize("operator", ["is", "is_not", "contains", "contains_not", "matches", "matches_not"])
def test_case_may_be_ignored(operator: str):
    for case_sensitive in (True, False):
        (made,) = filters([operator, "event:page", ["/A"], {"case_sensitive": case_sensitive}])
        condition = made.filter if isinstance(made, Not) else made
        assert isinstance(condition, Condition)
        assert condition.case_sensitive is case_sensitive
    assert filters([operator, "event:page", ["/A"], {}]) == filters([operator, "event:page", ["/A"]])


@pytest.mark.parametrize(
    "wrong",
    [
        "foobar", 1, None, {}, [], ["and"], ["or"], ["and", []], ["or", []], ["or", {}], ["not"], ["is_not"],
        ["is_not", "event:name"], ["has_done"], ["has_not_done"], ["and", [["is", "event:page", ["/"]]], "extra"],
        ["not", ["is", "event:page", ["/"]], 1], ["is", "event:page", ["/"], True], ["is", "event:page", ["/"], None],
        ["is", "event:page", ["/"], {"case_sensitive": 1}], ["is", "event:page", ["/"], {"case": True}],
        ["is", "event:page", ["/"], {"case_sensitive": True, "more": 1}], ["is", "event:page", ["/"], {}, {}],
        ["exists?", "event:name", ["foo"]], ["matches_wildcard", "event:name", ["foo"]], [["is"], "event:name", ["a"]],
        ["is", "event:name", "foo"], ["is", "event:name", []], ["is", "event:planet", ["foo"]],
        ["is", "visit:planet", ["foo"]], ["is", "time:day", ["2026-01-01"]], ["is", "time", ["2026-01-01"]],
        ["is", "event:props:", ["a"]], ["is", ["event:name"], ["a"]],
        ["is", "event:page", [None]], ["is", "event:page", [["/"]]], ["is", "visit:os_version", [123]],
        ["is", "visit:city", [True]], ["is", "visit:city", [1.5]], ["is", "event:props:a", [None]],
        ["is", "event:props:a", [2**64]], ["is", "event:props:a", [float("nan")]],
        ["is_not", "event:goal", ["Signup"]], ["matches", "event:goal", ["Signup"]],
        ["contains_not", "event:goal", ["Signup"]], ["matches_not", "event:goal", ["Signup"]],
    ],
)  # fmt: skip
def test_an_invalid_filter_is_quoted_with_its_place(wrong: object):
    said = json.dumps(wrong)
    assert error(filters=[wrong]) == f"#/filters/0: Invalid filter {said}"
    assert error(filters=[["is", "event:page", ["/"]], ["or", [["not", wrong]]]]) == (
        f"#/filters/1/1/0/1: Invalid filter {said}"
    )


def test_filters_are_a_list():
    assert error(filters="foobar") == "#/filters: Type mismatch. Expected Array but got String."


def test_numbers_in_filters_are_read_as_text():
    (city,) = filters(["is", "visit:city", [588409, "588410"]])
    assert isinstance(city, Condition)
    assert city.values == ("588409", "588410")
    (prop,) = filters(["is", "event:props:a", [7, 1.5, True, False, "x"]])
    assert isinstance(prop, Condition)
    assert prop.values == ("7", "1.5", "true", "false", "x")


def test_a_country_is_two_letters_or_missing():
    for value in ("EE", "ee", "A1", "(not set)"):
        filters(["is", "visit:country", [value]])
    filters(["contains", "visit:country", ["E"]], ["matches", "visit:country", ["^E"]])
    for operator in ("is", "is_not"):
        for value in ("USA", "E", "", "É1"):
            assert error(filters=[[operator, "visit:country", ["EE", value]]]) == (
                "Invalid visit:country filter, visit:country needs to be a valid 2-letter country code"
            )


def test_a_goal_in_a_filter_must_exist():
    filters(["is", "event:goal", ["Signup", "Visit /thanks"]], ["contains", "event:goal", ["nothing"]])
    filters(["is", "event:goal", ["signup"], {"case_sensitive": False}])
    for wrong in (["is", "event:goal", ["Signup", "signup"]], ["has_done", ["is", "event:goal", ["signup"]]]):
        assert error(filters=[wrong]) == (
            "Invalid filters. The goal `signup` is not configured for this site. Did you mean 'Signup'?"
        )
    assert "configured" in error(filters=[["is", "event:goal", ["Login"], {"case_sensitive": False}]])


def test_a_segment_is_the_saved_filter_of_the_site_with_this_id():
    german = '[["is","visit:country",["DE"]],["contains","event:page",["/a","/b"]]]'
    nested = SavedFilter(4, "Nested", '[["is","segment",[3]]]')
    site = replace(SITE, saved_filters=(SavedFilter(3, "German", german), nested))

    def refusal(*entry: object) -> str:
        with pytest.raises(InvalidQuery) as caught:
            load(site=site, filters=[list(entry)])
        return caught.value.message

    query = load(site=site, filters=[["not", ["is", "segment", [3]]]])
    found = [condition.values for condition in conditions(query.filters)]
    assert found == [("DE",), ("/a", "/b")]
    assert isinstance(query.filters[0], Not)
    for wrong in ([9], ["3"], [True], [[3]], [3, 9], [4]):  # no saved filter is a part of another one
        assert "is not a saved filter of this site" in refusal("is", "segment", wrong)
    for entry in (["is_not", "segment", [3]], ["is", "segment", []], ["is", "segment", [3] * 51]):
        assert "Invalid filter" in refusal(*entry)
    assert refusal("is", "segment", [3, 3]) == "Expected items to be unique but they were not."


def test_reading_stops_at_the_limit_even_if_saved_filters_stand_for_more():
    page, wrong = ["is", "event:page", ["/"]], ["is", "event:nothing", ["/"]]
    saved = tuple(SavedFilter(n, f"{n}", json.dumps([page] * 60)) for n in (1, 2))
    site = replace(SITE, saved_filters=saved)
    load(site=site, filters=[["is", "segment", [1]], ["or", [page] * 40]])
    with pytest.raises(InvalidQuery, match="Expected a maximum of 100 conditions but got more"):
        load(site=site, filters=[["or", [["is", "segment", [1, 2]], wrong]]])
    values = replace(SITE, saved_filters=(SavedFilter(1, "1", json.dumps([["is", "event:page", ["/"] * 501]])),))
    with pytest.raises(InvalidQuery, match="Expected a maximum of 1000 values but got more"):
        load(site=values, filters=[["or", [["is", "segment", [1]], ["is", "segment", [1]], wrong]]])


def test_filters_have_limits():
    def nested(depth: int) -> list[Any]:
        entry: list[Any] = ["is", "event:page", ["/"]]
        for _ in range(depth - 1):
            entry = ["not", entry]
        return entry

    filters(nested(10))
    assert (
        error(filters=[nested(11)])
        == "#/filters/0" + "/1" * 10 + ": Expected filters with at most 10 levels of nesting."
    )
    assert error(filters=[nested(5_000)]).startswith("#/filters/0/1/1")
    page = ["is", "event:page", ["/"]]
    filters(["or", [page] * 99], page)
    assert (
        error(filters=[["or", [page] * 100], page]) == "#/filters: Expected a maximum of 100 conditions but got more."
    )
    assert error(filters=[page] * 101) == "#/filters: Expected a maximum of 100 items but got 101."
    many = ["is", "event:page", ["/"] * 500]
    filters(many, many)
    assert error(filters=[many, many, page]) == "#/filters: Expected a maximum of 1000 values but got more."
    long = ["is", "event:page", ["/", "x" * 2_049]]
    assert error(filters=[["not", long]]) == "#/filters/0/1/2/1: Expected a string of at most 2048 characters."
    assert error(filters=[["is", "event:page", ["\ud800"]]]).startswith("#/filters/0/2/0: Expected a string")


# Order, pagination, include


def test_the_order_is_by_time_or_else_by_the_first_metric():
    assert load(metrics=["events", "visitors"]).order_by == (Order("events", descending=True),)
    assert load(dimensions=["event:page", "time:week"]).order_by == (Order("time:week"),)
    assert load(order_by=[]).order_by == (Order("visitors", descending=True),)


def test_an_order_may_only_use_queried_metrics_and_dimensions():
    query = load(
        metrics=["visitors", "events"],
        dimensions=["time", "event:props:a"],
        order_by=[["events", "desc"], ["time", "asc"], ["event:props:a", "desc"]],
    )
    assert query.order_by == (Order("events", True), Order("time:hour"), Order("event:props:a", True))
    assert load(dimensions=["time:hour"], order_by=[["time", "desc"]]).order_by == (Order("time:hour", True),)


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        ("visitors", "#/order_by: Type mismatch. Expected Array but got String."),
        (["visitors"], "#/order_by/0: Type mismatch. Expected Array but got String."),
        ([["visitors"]], "#/order_by/0: Expected a minimum of 2 items but got 1."),
        ([["visitors", "asc", 1]], "#/order_by/0: Expected a maximum of 2 items but got 3."),
        ([["visssss", "desc"]], '#/order_by/0/0: Invalid value in order_by "visssss"'),
        ([["visitors", "up"]], '#/order_by/0/1: Value "up" is not allowed in enum.'),
        ([["visitors", "asc"], [{}, "asc"]], "#/order_by/1/0: Invalid value in order_by {}"),
        (
            [["events", "desc"]],
            """#/order_by/0: Invalid order_by entry '["events", "desc"]'. """
            "Entry is not a queried metric or dimension.",
        ),
        (
            [["time", "desc"]],
            """#/order_by/0: Invalid order_by entry '["time", "desc"]'. """
            "Entry is not a queried metric or dimension.",
        ),
    ],
)
def test_no_other_order_is_accepted(order_by: object, expected: str):
    assert error(order_by=order_by) == expected


def test_a_query_may_have_limit_and_offset():
    query = load(pagination={"limit": 100.0, "offset": 200})  # in JSON, 100.0 is a whole number
    assert (query.limit, query.offset) == (100, 200)


@pytest.mark.parametrize(
    ("pagination", "expected"),
    [
        ([], "#/pagination: Type mismatch. Expected Object but got Array."),
        ({"limit": 100_000}, "#/pagination/limit: Expected the value to be <= 10000"),
        ({"limit": 0}, "#/pagination/limit: Expected the value to be >= 1"),
        ({"limit": True}, "#/pagination/limit: Type mismatch. Expected Integer but got Boolean."),
        ({"offset": -5}, "#/pagination/offset: Expected the value to be >= 0"),
        ({"offset": 10**30}, "#/pagination/offset: Expected the value to be <= 1000000000"),
        ({"offset": 1.5}, "#/pagination/offset: Type mismatch. Expected Integer but got Number."),
        ({"page": 1}, "#/pagination/page: Schema does not allow additional properties."),
    ],
)
def test_a_page_has_limits(pagination: object, expected: str):
    assert error(pagination=pagination) == expected


def test_options_in_include_are_read():
    query = load(dimensions=["time"], include={"imports": True, "time_labels": True, "total_rows": True})
    assert query.time_labels
    assert query.total_rows
    assert query.imports
    assert not load().imports, "as in Plausible"


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        ("foobar", "#/include: Type mismatch. Expected Object but got String."),
        ({"imports": 1}, "#/include/imports: Type mismatch. Expected Boolean but got Integer."),
        ({"history": True}, "#/include/history: Schema does not allow additional properties."),
        ({"time_labels": True}, "Invalid include.time_labels: requires a time dimension."),
        ({"comparisons": None}, "#/include/comparisons: Type mismatch. Expected Object but got Null."),
        ({"comparisons": {}}, "#/include/comparisons: Required property mode was not present."),
        ({"comparisons": {"mode": "x"}}, '#/include/comparisons/mode: Value "x" is not allowed in enum.'),
        ({"comparisons": {"mode": "custom"}}, "#/include/comparisons: Required property date_range was not present."),
        (
            {"comparisons": {"mode": "custom", "date_range": "month"}},
            '#/include/comparisons/date_range: Invalid date range "month"',
        ),
        (
            {"comparisons": {"mode": "previous_period", "date_range": ["2024-01-01", "2024-01-31"]}},
            '#/include/comparisons/date_range: Expected a date_range only with the mode "custom".',
        ),
        (
            {"comparisons": {"mode": "previous_period", "match_day_of_week": "yes"}},
            "#/include/comparisons/match_day_of_week: Type mismatch. Expected Boolean but got String.",
        ),
    ],
)
def test_unknown_options_in_include_are_refused(include: object, expected: str):
    assert error(include=include) == expected


@pytest.mark.parametrize(
    ("grain", "last", "says"),
    [
        ("hour", "1971-02-20", None),  # 416 days
        ("hour", "1971-02-21", "10008 hours, and the maximum is 10000. Use a grain of day or week or month"),
        ("day", "1997-05-18", None),
        ("day", "1997-05-19", "10001 days, and the maximum is 10000. Use a grain of week or month"),
        ("week", "2161-08-23", None),
        ("week", "2161-08-24", "10001 weeks, and the maximum is 10000. Use a grain of month"),
        ("month", "2803-04-30", None),
        ("month", "2803-05-01", "10001 months, and the maximum is 10000. Use a shorter period."),
        ("hour", "9998-12-31", "70380768 hours, and the maximum is 10000. Use a shorter period."),
    ],
)
def test_the_number_of_time_labels_is_limited(grain: str, last: str, says: str | None):
    asked = {"date_range": ["1970-01-01", last], "dimensions": [f"time:{grain}"]}
    assert len(load(**asked).dimensions) == 1
    compared = {"mode": "custom", "date_range": ["1970-01-01", last]}
    for name, value in (("time_labels", True), ("comparisons", compared)):
        if says is None:
            query = load(**asked, include={name: value})
            assert count_labels(query.period, query.grain) == len(time_labels(query.period, query.grain)) <= MOST_LABELS
        else:
            assert says in error(**asked, include={name: value})
            assert error(**asked, include={name: value}).startswith(f"#/include/{name}: The period has ")


def test_all_time_by_month_begins_with_the_first_event():
    body = LEAST | {"date_range": "all", "dimensions": ["time"], "include": {"time_labels": True}}
    query = load_query(body, SITE, NOW, lambda: EPOCH + timedelta(seconds=5))
    assert query.grain == "month"
    labels = time_labels(query.period, "month")
    assert (labels[0], labels[-1], len(labels)) == ("1970-01-01", "2026-11-01", 683)


# Periods


def test_a_named_period_has_days_of_the_site_s_time_zone():
    for name, first, last in (
        ("day", date(2021, 5, 5), date(2021, 5, 5)),
        ("7d", date(2021, 4, 28), date(2021, 5, 4)),
        ("10d", date(2021, 4, 25), date(2021, 5, 4)),
        ("28d", date(2021, 4, 7), date(2021, 5, 4)),
        ("30d", date(2021, 4, 5), date(2021, 5, 4)),
        ("91d", date(2021, 2, 3), date(2021, 5, 4)),
        ("5000d", date(2007, 8, 27), date(2021, 5, 4)),
        ("month", date(2021, 5, 1), date(2021, 5, 31)),
        ("3mo", date(2021, 2, 1), date(2021, 4, 30)),
        ("6mo", date(2020, 11, 1), date(2021, 4, 30)),
        ("12mo", date(2020, 5, 1), date(2021, 4, 30)),
        ("year", date(2021, 1, 1), date(2021, 12, 31)),
    ):
        assert days(name, datetime(2021, 5, 5, 12, 30, tzinfo=UTC)) == (first, last), name
        late_in_sydney = datetime(2021, 5, 4, 22, tzinfo=UTC)
        assert days(name, late_in_sydney, site=Site("site", ZoneInfo("Australia/Sydney"))) == (first, last), name


def test_24_hours_end_now_even_if_clocks_change():
    period = load(datetime(2026, 3, 29, 12, 0, 0, 5000, tzinfo=UTC), Site("site", BERLIN), date_range="24h").period
    assert period.end == datetime(2026, 3, 29, 12, 0, 1, tzinfo=UTC)
    assert period.end - period.start == timedelta(hours=24)


def test_all_begins_with_the_day_of_the_first_event():
    def loaded(first: datetime | None) -> Period:
        return load_query(LEAST | {"date_range": "all"}, Site("site", BERLIN), NOW, lambda: first).period

    today = date(2026, 11, 22)
    assert loaded(datetime(2020, 1, 1, 23, 30, tzinfo=UTC)) == of_days(date(2020, 1, 2), today, BERLIN)
    assert loaded(None) == of_days(today, today, BERLIN)
    assert loaded(datetime(2030, 1, 1, tzinfo=UTC)) == of_days(today, today, BERLIN), "somebody's clock is ahead"


def test_the_first_event_is_looked_up_only_if_it_is_needed():
    def fail() -> None:
        pytest.fail("asked")

    load_query(LEAST | {"date_range": "12mo"}, SITE, NOW, fail)


def test_two_dates_are_both_in_the_period():
    assert load(date_range=["2024-02-29", "2024-03-01"], site=Site("site", BERLIN)).period == Period(
        datetime(2024, 2, 28, 23, tzinfo=UTC), datetime(2024, 3, 1, 23, tzinfo=UTC), BERLIN
    )


@pytest.mark.parametrize(
    ("date_range", "start", "end"),
    [
        (["2024-01-01T00:00:00Z", "2024-01-02T23:59:59Z"], "2024-01-01T00:00:00Z", "2024-01-03T00:00:00Z"),
        (["2024-08-29T07:12:34-07:00", "2024-08-29T10:12:34-07:00"], "2024-08-29T14:12:34Z", "2024-08-29T17:12:35Z"),
        (["2024-01-01T00:00Z", "2024-01-01T00:00Z"], "2024-01-01T00:00:00Z", "2024-01-01T00:00:01Z"),
        (["2024-01-01T00:00:00.000Z", "2024-01-01T23:59:59.999Z"], "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"),
    ],
)
def test_two_times_are_both_in_the_period_to_the_second(date_range: list[str], start: str, end: str):
    expected = Period(datetime.fromisoformat(start), datetime.fromisoformat(end), SITE.zone)
    assert load(date_range=date_range).period == expected


@pytest.mark.parametrize(
    "date_range",
    [
        "bad_period", "", "-1d", "0d", "07d", "5001d", "101mo", "999999999mo", "٣d", "30m", "realtime", "48h", 7, None,
        {}, [],
        ["2024-01-01"], ["2024-01-01"] * 3, ["2024-01-02", "2024-01-01"], ["2024-02-30", "2024-03-01"], [1, 2],
        ["21415-00", "eee"], ["20240101", "20240102"], ["2024-W01-1", "2024-W01-2"], ["1969-12-31", "2024-01-01"],
        ["2024-01-01", "9999-01-01"], ["0001-01-01", "0001-01-02"], ["2024-01-01\n", "2024-01-02"],
        ["2021-02-03T00:00:00", "2021-02-03T23:59:59"], ["2021-02-03T00:00:00-25:00", "2021-02-03T23:59:59-25:00"],
        ["2021-02-03T00:00:00Z", "2021-02-04"], ["2021-02-03T12:00:00Z", "2021-02-03T11:00:00Z"],
        ["0001-01-01T00:00:00+14:00", "2021-02-03T11:00:00Z"], ["2021-02-03T24:00:00Z", "2021-02-05T00:00:00Z"],
        ["2021-02-03T00:00:00Z", "9999-12-31T23:59:59-14:00"],
    ],
)  # fmt: skip
def test_an_invalid_date_range_is_quoted(date_range: object):
    assert (
        error(date_range=date_range) == f"#/date_range: Invalid date range {json.dumps(date_range, ensure_ascii=False)}"
    )


def test_buckets_in_the_future_may_be_trimmed():
    trim = {"include": {"trim_relative_date_range": True}}
    assert days("month", **trim) == (date(2026, 11, 1), date(2026, 11, 22))
    assert days("year", **trim) == (date(2026, 1, 1), date(2026, 11, 22))
    assert days("7d", **trim) == (date(2026, 11, 15), date(2026, 11, 21))
    today = load(date_range="day", **trim).period
    assert (today.start, today.end) == (datetime(2026, 11, 22, tzinfo=UTC), datetime(2026, 11, 22, 13, tzinfo=UTC))
    in_nepal = load(site=Site("site", ZoneInfo("Asia/Kathmandu")), date_range="day", **trim).period  # 18:19 there
    assert in_nepal.end == datetime(2026, 11, 22, 13, 15, tzinfo=UTC)


# Suggestions


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"metrics": ["visitor"]}, "#/metrics/0: Invalid metric \"visitor\". Did you mean 'visitors'?"),
        ({"metrics": ["visits", "bounceRate"]},
         "#/metrics/1: Invalid metric \"bounceRate\". Did you mean 'bounce_rate'?"),
        ({"dimensions": ["page"]}, "#/dimensions/0: Invalid dimension \"page\". Did you mean 'event:page'?"),
        ({"dimensions": ["visit:contry"]},
         "#/dimensions/0: Invalid dimension \"visit:contry\". Did you mean 'visit:country'?"),
        ({"dimensions": ["time:days"]}, "#/dimensions/0: Invalid dimension \"time:days\". Did you mean 'time:day'?"),
        ({"date_range": "today"}, "#/date_range: Invalid date range \"today\". Did you mean 'day'?"),
        ({"date_range": "7D"}, "#/date_range: Invalid date range \"7D\". Did you mean '7d'?"),
        ({"date_range": "30 days"}, "#/date_range: Invalid date range \"30 days\". Did you mean '30d'?"),
        ({"date_range": "last_month"}, "#/date_range: Invalid date range \"last_month\". Did you mean '1mo'?"),
        ({"date_range": "2weeks"}, "#/date_range: Invalid date range \"2weeks\". Did you mean '14d'?"),
        ({"filters": [["isnt", "visit:os", ["X"]]]},
         "#/filters/0: Invalid filter [\"isnt\", \"visit:os\", [\"X\"]]. Did you mean 'is_not'?"),
        ({"filters": [["is", "os", ["X"]]]},
         "#/filters/0: Invalid filter [\"is\", \"os\", [\"X\"]]. Did you mean 'visit:os'?"),
        ({"filters": [["is", "event:goal", ["Sign-up"]]]},
         "Invalid filters. The goal `Sign-up` is not configured for this site. Did you mean 'Signup'?"),
        ({"filters": [["is", "event:device", ["X"]]]},
         "#/filters/0: Invalid filter [\"is\", \"event:device\", [\"X\"]]. Did you mean 'visit:device'?"),
        ({"filters": [["is", "visit:name", ["X"]]]},
         "#/filters/0: Invalid filter [\"is\", \"visit:name\", [\"X\"]]. Did you mean 'event:name'?"),
        ({"dimensions": ["week"]}, "#/dimensions/0: Invalid dimension \"week\". Did you mean 'time:week'?"),
        ({"order_by": [["visitor", "asc"]]},
         "#/order_by/0/0: Invalid value in order_by \"visitor\". Did you mean 'visitors'?"),
        ({"include": {"total_row": True}},
         "#/include/total_row: Schema does not allow additional properties. Did you mean 'total_rows'?"),
        ({"filter": []}, "#/filter: Schema does not allow additional properties. Did you mean 'filters'?"),
    ],
)  # fmt: skip
def test_a_suggestion_is_added_to_the_message(fields: dict[str, object], expected: str):
    assert error(**fields) == expected


# Comparisons


def compared(date_range: object, mode: str, match: bool = False, **fields: Any) -> tuple[date, date]:
    comparisons = {"mode": mode, "match_day_of_week": match}
    period = load(date_range=date_range, include={"comparisons": comparisons}, **fields).compare_with
    assert period is not None
    assert period == of_days(period.first_day(), period.last_day(), period.zone)
    return period.first_day(), period.last_day()


def test_the_previous_period_is_as_many_days_before():
    assert compared(["2021-01-07", "2021-01-13"], "previous_period") == (date(2020, 12, 31), date(2021, 1, 6))
    assert compared("month", "previous_period") == (date(2026, 10, 2), date(2026, 10, 31))
    assert compared("28d", "previous_period", True) == compared("28d", "previous_period")
    in_berlin = {"site": Site("site", BERLIN)}
    assert compared(["2026-03-29", "2026-03-29"], "previous_period", **in_berlin) == (date(2026, 3, 28),) * 2


def test_the_same_dates_a_year_before_know_leap_years():
    assert compared(["2024-02-29", "2024-02-29"], "year_over_year") == (date(2023, 2, 28),) * 2
    assert compared(["2024-02-01", "2024-02-29"], "year_over_year") == (date(2023, 2, 1), date(2023, 2, 28))
    assert compared(["2025-02-01", "2025-02-28"], "year_over_year") == (date(2024, 2, 1), date(2024, 2, 28))


def test_the_day_of_the_week_may_be_matched():
    sunday = ["2023-01-01", "2023-01-03"]
    assert compared(sunday, "year_over_year", True) == (date(2022, 1, 2), date(2022, 1, 4))
    assert compared(sunday, "previous_period", True) == (date(2022, 12, 25), date(2022, 12, 27))
    assert compared("day", "previous_period", True) == (date(2026, 11, 15),) * 2


@example(date(2012, 12, 28), 0, "Pacific/Apia")
@example(date(2012, 12, 28), 363, "Pacific/Apia")
@given(
    st.dates(date(1971, 1, 1), date(2100, 1, 1)),
    st.integers(0, 800),
    st.sampled_from(["UTC", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia"]),
)
def test_a_previous_period_never_overlaps_and_matches_the_weekday(first: date, more: int, zone: str):
    period = of_days(first, first + timedelta(days=more), ZoneInfo(zone))
    assert previous_period(period, False).end <= period.start
    matching = previous_period(period, True)
    assert matching.end <= period.start
    for before in (matching, year_before(period, True)) if period.days() else ():
        # Samoa had no 30 December 2011, so a period from that day begins on the 31st.
        is_skipped = (zone, before.first_day()) == ("Pacific/Apia", date(2011, 12, 31))
        assert is_skipped or before.first_day().weekday() == first.weekday()


def test_hours_are_compared_with_the_hours_before_or_of_the_day_before():
    def before(date_range: object, mode: str = "previous_period", **include: Any) -> tuple[datetime, datetime]:
        include = {"comparisons": {"mode": mode}} | include
        period = load(date_range=date_range, include=include).compare_with
        assert period is not None
        return period.start, period.end

    three_hours = ["2024-08-29T07:00:00Z", "2024-08-29T09:59:59Z"]
    assert before(three_hours) == (datetime(2024, 8, 29, 4, tzinfo=UTC), datetime(2024, 8, 29, 7, tzinfo=UTC))
    assert before(three_hours, "year_over_year")[0] == datetime(2023, 8, 29, 7, tzinfo=UTC)
    assert before("24h")[1] == load(date_range="24h").period.start
    so_far = before("day", trim_relative_date_range=True)
    assert so_far == (datetime(2026, 11, 21, tzinfo=UTC), datetime(2026, 11, 21, 13, tzinfo=UTC))


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 3, 29), 15), (date(2026, 10, 25), 14)])
def test_the_first_hours_of_the_day_that_clocks_change_are_compared_up_to_the_same_hour(day: date, hours: int):
    """By the clock it is 14:30, or 13:30. The hour that has begun counts."""
    now = datetime(day.year, day.month, day.day, 12, 30, tzinfo=UTC)
    include = {"comparisons": {"mode": "previous_period"}, "trim_relative_date_range": True}
    period = load(now, Site("site", BERLIN), date_range="day", include=include).compare_with
    assert period is not None
    assert period.end - period.start == timedelta(hours=hours)


def test_a_custom_comparison_period_is_accepted():
    custom = {"mode": "custom", "date_range": ["2021-04-05", "2021-05-04"]}
    assert load(include={"comparisons": custom}).compare_with == of_days(date(2021, 4, 5), date(2021, 5, 4), SITE.zone)


def test_no_period_begins_before_the_first_year():
    ages = ["1970-01-01", "9998-12-31"]
    expected = "#/include/comparisons: Expected a date range with an earlier one to compare with."
    assert error(date_range=ages, include={"comparisons": {"mode": "previous_period"}}) == expected
    load(date_range=ages, include={"comparisons": {"mode": "year_over_year"}})


# Clock changes


def labels(first: str, last: str, zone: str, grain: Grain) -> list[str]:
    return time_labels(of_days(date.fromisoformat(first), date.fromisoformat(last), ZoneInfo(zone)), grain)


def test_a_plain_day_has_24_labels():
    hours = labels("2024-09-10", "2024-09-10", "UTC", "hour")
    assert hours == [f"2024-09-10 {hour:02}:00:00" for hour in range(24)]


def test_an_hour_that_clocks_skip_has_no_label_and_one_they_repeat_has_one():
    spring = labels("2026-03-29", "2026-03-29", "Europe/Berlin", "hour")
    assert len(spring) == 23
    assert "2026-03-29 02:00:00" not in spring
    autumn = of_days(date(2026, 10, 25), date(2026, 10, 25), BERLIN)
    assert autumn.end - autumn.start == timedelta(hours=25)
    assert time_labels(autumn, "hour") == [f"2026-10-25 {hour:02}:00:00" for hour in range(24)]


def test_a_day_without_midnight_begins_at_one():
    day = of_days(date(2017, 10, 15), date(2017, 10, 15), ZoneInfo("America/Sao_Paulo"))
    assert (day.start, day.end) == (datetime(2017, 10, 15, 3, tzinfo=UTC), datetime(2017, 10, 16, 2, tzinfo=UTC))
    assert time_labels(day, "hour")[0] == "2017-10-15 01:00:00"
    assert len(time_labels(day, "hour")) == 23
    assert labels("2017-10-14", "2017-10-16", "America/Sao_Paulo", "day") == ["2017-10-14", "2017-10-15", "2017-10-16"]
    query = load(date_range=["2017-10-15", "2017-10-15"], site=Site("site", ZoneInfo("America/Sao_Paulo")))
    assert query.period == day
    assert query_json(query, {})["date_range"] == ["2017-10-15T01:00:00-02:00", "2017-10-15T23:59:59-02:00"]


def test_clocks_that_change_by_half_an_hour_skip_and_repeat_no_label():
    for day in ("2024-10-06", "2024-04-07"):
        assert labels(day, day, "Australia/Lord_Howe", "hour") == [f"{day} {hour:02}:00:00" for hour in range(24)]


def test_a_day_that_a_zone_skipped_has_no_label():
    assert labels("2011-12-29", "2011-12-31", "Pacific/Apia", "day") == ["2011-12-29", "2011-12-31"]
    assert labels("2011-12-30", "2011-12-30", "Pacific/Apia", "day") == []
    for match in (True, False):
        for mode in ("previous_period", "year_over_year"):
            load(
                date_range=["2011-12-30", "2011-12-30"],
                site=Site("site", ZoneInfo("Pacific/Apia")),
                include={"comparisons": {"mode": mode, "match_day_of_week": match}},
            )


def test_a_day_that_clocks_go_back_to_is_listed_with_the_next():
    """At 00:01 on the 7th, clocks go back to 23:01 on the 6th."""
    assert labels("2010-11-07", "2010-11-07", "America/St_Johns", "day") == ["2010-11-06", "2010-11-07"]
    assert labels("2010-11-07", "2010-11-07", "America/St_Johns", "hour")[:2] == [
        "2010-11-06 23:00:00",
        "2010-11-07 00:00:00",
    ]


def test_weeks_and_months_are_called_by_their_first_day_even_before_the_period():
    assert labels("2026-11-22", "2026-11-24", "UTC", "week") == ["2026-11-16", "2026-11-23"]
    assert labels("2026-11-22", "2026-12-01", "UTC", "month") == ["2026-11-01", "2026-12-01"]


def test_a_period_that_begins_within_an_hour_has_its_label():
    period = load(date_range=["2026-01-01T10:59:59Z", "2026-01-01T12:00:00Z"]).period
    assert time_labels(period, "hour") == [f"2026-01-01 {hour}:00:00" for hour in (10, 11, 12)]


@settings(deadline=None)
@given(
    st.sampled_from(
        ["Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia",
         "Asia/Kathmandu", "Africa/Casablanca", "America/Havana", "Africa/Monrovia", "Antarctica/Troll"]
    ),
    st.integers(0, 60 * 24 * 365 * 67),
    st.integers(1, 60 * 24 * 3),
    st.sampled_from(["hour", "day", "week", "month"]),
)  # fmt: skip
@example("America/St_Johns", (datetime(2010, 11, 7, 2, 29, tzinfo=UTC) - EPOCH) // MINUTE, 60 * 24, "hour")
@example("Pacific/Apia", (datetime(2011, 12, 29, 10, tzinfo=UTC) - EPOCH) // MINUTE, 60 * 48, "day")
@example("Africa/Monrovia", (datetime(1970, 1, 1, 12, 44, tzinfo=UTC) - EPOCH) // MINUTE, 1, "hour")
def test_the_labels_are_those_of_every_minute(zone: str, first: int, minutes: int, grain: Grain):
    start = EPOCH + first * MINUTE
    period = Period(start, start + minutes * MINUTE, ZoneInfo(zone))
    # A bucket may begin within the last minute: Monrovia was 44:30 behind UTC until 1972.
    moments = [*(start + minute * MINUTE for minute in range(minutes)), period.end - timedelta(milliseconds=1)]
    each = [moment.astimezone(period.zone) for moment in moments]
    name: dict[str, Callable[[datetime], str]] = {
        "hour": lambda local: local.strftime("%Y-%m-%d %H:00:00"),
        "day": lambda local: local.strftime("%Y-%m-%d"),
        "week": lambda local: (local.date() - timedelta(days=local.weekday())).isoformat(),
        "month": lambda local: local.strftime("%Y-%m-01"),
    }
    assert time_labels(period, grain) == sorted({name[grain](local) for local in each})


# The shown query


def test_the_answer_shows_the_query_as_it_was_read():
    body = LEAST | {
        "metrics": ["visitors", "pageviews"],
        "date_range": "month",
        "dimensions": ["time", "visit:os"],
        "filters": [["is_not", "visit:os", ["Linux"], {"case_sensitive": False}]],
        "include": {"imports": True, "total_rows": False, "comparisons": {"mode": "year_over_year"}},
        "pagination": {"limit": 5},
    }
    query = load_query(body, Site("site", BERLIN), datetime(2026, 3, 2, tzinfo=UTC), no_event)
    assert query_json(query, body) == {
        "site_id": "site",
        "metrics": ["visitors", "pageviews"],
        "date_range": ["2026-03-01T00:00:00+01:00", "2026-03-31T23:59:59+02:00"],
        "filters": body["filters"],
        "dimensions": ["time:day", "visit:os"],
        "order_by": [["time:day", "asc"]],
        "include": {"imports": True, "comparisons": {"mode": "year_over_year"}},
        "pagination": {"offset": 0, "limit": 5},
        "comparison_date_range": ["2025-03-01T00:00:00+01:00", "2025-03-31T23:59:59+02:00"],
    }


def test_the_smallest_answer_equals_that_of_plausible():
    body = LEAST | {"date_range": ["2024-09-04", "2024-09-10"]}
    assert query_json(load_query(body, SITE, NOW, no_event), body) == {
        "site_id": "site",
        "metrics": ["visitors"],
        "date_range": ["2024-09-04T00:00:00+00:00", "2024-09-10T23:59:59+00:00"],
        "filters": [],
        "dimensions": [],
        "order_by": [["visitors", "desc"]],
        "include": {},
        "pagination": {"offset": 0, "limit": 10000},
    }


# Random input

WORDS = [
    *LEAST, "dimensions", "filters", "order_by", "include", "pagination", "limit", "offset", "comparisons", "mode",
    "date_range", "match_day_of_week", "previous_period", "year_over_year", "custom", "time_labels", "total_rows",
    "case_sensitive", "trim_relative_date_range", "is", "is_not", "contains", "matches", "and", "or", "not", "has_done",
    "has_not_done", "segment", "event:goal", "Signup", "event:page", "event:props:a", "visit:city", "visit:country",
    "time", "time:hour", "time:month", "visitors", "conversion_rate", "scroll_depth", "percentage", "asc", "desc",
    "day", "24h", "7d", "12mo", "year", "all", "2024-02-29", "2011-12-30", "1970-01-01", "9998-12-31",
    "2024-01-01T00:00:00+03:00", "9998-12-31T23:59:59-12:00",
]  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(st.characters(exclude_categories=()), max_size=20)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | st.text(), inner, max_size=4),
)
IS_PAGE, IS_NOT_OS = ["matches", "event:page", ["^/a"]], ["is_not", "visit:os", ["a"], {"case_sensitive": False}]
VALID: list[dict[str, Any]] = [
    LEAST,
    LEAST
    | {
        "metrics": ["visitors", "percentage", "scroll_depth"],
        "date_range": ["2024-01-01T00:00:00+03:00", "2024-01-02T12:00:00+03:00"],
        "dimensions": ["time", "event:page", "event:props:a"],
        "filters": [
            IS_PAGE,
            ["or", [IS_NOT_OS, ["and", [IS_PAGE, ["not", ["has_done", IS_SIGNUP]]]]]],
            ["is", "visit:city", [1]],
        ],
        "order_by": [["visitors", "desc"], ["time", "asc"]],
        "include": {
            "imports": True,
            "time_labels": True,
            "total_rows": True,
            "trim_relative_date_range": True,
            "comparisons": {"mode": "custom", "date_range": ["2024-01-01", "2024-01-02"], "match_day_of_week": True},
        },
        "pagination": {"limit": 10, "offset": 10},
    },
    LEAST
    | {
        "date_range": "year",
        "dimensions": ["time:month"],
        "include": {"comparisons": {"mode": "year_over_year", "match_day_of_week": True}},
    },
]
SITES = [Site("site", ZoneInfo(zone), SITE.goals) for zone in ("UTC", "America/Sao_Paulo", "Pacific/Apia")]


def check(body: Any, site: Site, now: datetime) -> None:
    try:
        query = load_query(body, site, now, lambda: now - timedelta(days=900))
    except InvalidQuery as invalid:
        said, pointer = str(invalid), invalid.pointer
        said.encode()
        assert len(said) < 1_000
        assert not pointer or pointer.startswith("#")
        return
    answer = query_json(query, body)
    json.dumps(answer).encode()
    again = {"date_range": answer["date_range"], "dimensions": answer["dimensions"], "order_by": answer["order_by"]}
    if query.period.start < query.period.end and query.period.start.year >= 1970:
        include = answer["include"] | {"trim_relative_date_range": False}
        repeated = load_query(body | again | {"include": include}, site, now, no_event)
        assert repeated.period == query.period, "what is shown, asked again, is the same"
        assert repeated.order_by == query.order_by
    if query.time_labels and query.grain:
        assert len(time_labels(query.period, query.grain)) <= 10_100


MOMENTS = st.integers(0, 60 * 24 * 365 * 130).map(lambda minutes: EPOCH + minutes * MINUTE)


@settings(max_examples=300, deadline=None)
@given(JSON, st.sampled_from(SITES), MOMENTS)
def test_any_json_is_a_query_or_an_error(body: Any, site: Site, now: datetime):
    check(body, site, now)
    if isinstance(body, dict):
        check(LEAST | body, site, now)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A valid query with a part replaced, left out, doubled or wrapped."""
    body = json.loads(json.dumps(draw(st.sampled_from(VALID))))
    for _ in range(draw(st.integers(1, 3))):
        places = [(body, key) for key in body]
        for parent, key in places:
            child = parent[key]
            if isinstance(child, dict):
                places += [(child, inner) for inner in child]
            elif isinstance(child, list):
                places += [(child, i) for i in range(len(child))]
        if not places:
            break
        parent, key = draw(st.sampled_from(places))
        match draw(st.sampled_from(["replace", "word", "remove", "wrap", "double", "many"])):
            case "replace":
                parent[key] = draw(JSON)
            case "word":
                parent[key] = draw(st.sampled_from(WORDS))
            case "remove":
                del parent[key]
            case "wrap":
                parent[key] = [parent[key]]
            case "double":
                parent[key] = [parent[key], parent[key]]
            case "many":
                parent[key] = [parent[key]] * 101
    return body


@settings(max_examples=1_000, deadline=None)
@given(mutated(), st.sampled_from(SITES), MOMENTS)
def test_any_change_of_a_valid_query_gives_a_query_or_an_error(body: Any, site: Site, now: datetime):
    check(body, site, now)


@pytest.mark.parametrize("field", [*LEAST, "dimensions", "filters", "order_by", "include", "pagination"])
def test_the_deepest_and_the_largest_json_are_errors(field: str):
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    error(**{field: deep})
    error(**{field: [deep]})
    error(**{field: 10**5_000})
    error(**{field: [10**5_000]})
