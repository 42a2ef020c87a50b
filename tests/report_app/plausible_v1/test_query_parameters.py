"""The parameters of Plausible's API of version 1 as the JSON of version 2."""

from datetime import date
from typing import Any

import pytest

from analytics.queries.query_schema import InvalidQuery
from report_app.plausible_v1.query_parameters import aggregate_body, breakdown_body, naming_parameters, timeseries_body

TODAY = date(2026, 11, 22)


def filters(text: str) -> Any:
    return aggregate_body({"filters": text}, TODAY)["filters"]


def days(**args: str) -> Any:
    return aggregate_body(args, TODAY)["date_range"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" ; ", []),
        ("visit:browser==Firefox", [["is", "visit:browser", ["Firefox"]]]),
        ("visit:source==Github|Twitter", [["is", "visit:source", ["Github", "Twitter"]]]),
        (r"visit:utm_campaign==one\|two|three", [["is", "visit:utm_campaign", ["one|two", "three"]]]),
        ("visit:country!=FR|DE", [["is_not", "visit:country", ["FR", "DE"]]]),
        ("event:page==/a=b==c", [["is", "event:page", ["/a=b==c"]]]),
        ("event:goal==Visit /a*|Signup", [["is", "event:goal", ["Visit /a*", "Signup"]]]),
        ("event:goal!=Signup", [["not", ["is", "event:goal", ["Signup"]]]]),
        ("event:props:a==b == c ; visit:os==Mac", [["is", "event:props:a", ["b == c"]], ["is", "visit:os", ["Mac"]]]),
        ("event:page==/blog/**|/y.z", [["matches", "event:page", [r"\A/blog/(?s:.*)\z", r"\A/y\.z\z"]]]),
        ("event:hostname!=*.example.com", [["matches_not", "event:hostname", [r"\A(?s:.*)\.example\.com\z"]]]),
    ],
)
def test_filters(text: str, expected: Any):
    assert filters(text) == expected


def test_periods_end_with_the_date():
    assert days() == ["2026-10-24", "2026-11-22"]
    assert days(period="day") == ["2026-11-22", "2026-11-22"]
    assert days(period="7d", date="2026-03-02") == ["2026-02-24", "2026-03-02"]
    assert days(period="month") == ["2026-11-01", "2026-11-30"]
    assert days(period="6mo", date="2026-02-28") == ["2025-09-01", "2026-02-28"]
    assert days(period="12mo") == ["2025-12-01", "2026-11-30"]
    assert days(period="custom", date="2026-01-01, 2026-01-31") == ["2026-01-01", "2026-01-31"]


def test_a_series_has_hours_for_a_day_and_months_for_many_months():
    asked = [{}, {"period": "day"}, {"period": "12mo"}, {"period": "12mo", "interval": "day"}, {"interval": "date"}]
    grains = [timeseries_body(args, TODAY)["dimensions"] for args in asked]
    assert grains == [["time:day"], ["time:hour"], ["time:month"], ["time:day"], ["time:day"]]


def test_a_breakdown_shows_known_values_rates_of_the_group_and_one_page():
    body = breakdown_body({"property": "visit:country", "limit": "5", "page": "3", "metrics": "conversion_rate"}, TODAY)
    assert body["filters"] == [["is_not", "visit:country", ["(not set)"]]]
    assert (body["metrics"], body["pagination"]) == (["group_conversion_rate"], {"limit": 5, "offset": 10})
    by_goal = breakdown_body({"property": "event:goal", "metrics": "conversion_rate"}, TODAY)
    assert (by_goal["metrics"], by_goal["pagination"]) == (["conversion_rate"], {"limit": 100, "offset": 0})
    assert breakdown_body({"property": "visit:os_version"}, TODAY)["dimensions"] == ["visit:os", "visit:os_version"]


@pytest.mark.parametrize(
    ("parameter", "args"),
    [
        ("period", {"period": "realtime"}),
        ("period", {"period": "7D"}),
        ("with_imported", {"with_imported": "yes"}),
        ("date", {"date": "today"}),
        ("date", {"date": "2026-02-30"}),
        ("date", {"date": "0001-01-01"}),
        ("date", {"date": "9999-12-31", "period": "month"}),
        ("date", {"period": "custom"}),
        ("date", {"period": "custom", "date": "2026-01-01"}),
        ("filters", {"filters": "visit:browser=Firefox"}),
        ("filters", {"filters": "=="}),
        ("compare", {"compare": "last_year"}),
    ],
)
def test_an_error_names_the_parameter(parameter: str, args: dict[str, str]):
    with pytest.raises(InvalidQuery, match=f"^`{parameter}`: "), naming_parameters():
        aggregate_body(args, TODAY)


@pytest.mark.parametrize(
    ("parameter", "args"),
    [
        ("property", {}),
        ("limit", {"limit": "1001"}),
        ("limit", {"limit": "0"}),
        ("limit", {"limit": "\u0663"}),
        ("page", {"page": "0"}),
        ("page", {"page": "1" * 5000}),
        ("interval", {"interval": "week"}),
    ],
)
def test_an_error_of_another_route_names_the_parameter_too(parameter: str, args: dict[str, str]):
    read = timeseries_body if parameter == "interval" else breakdown_body
    with pytest.raises(InvalidQuery, match=f"^`{parameter}`: "), naming_parameters():
        read(args if parameter == "property" else {"property": "event:page", **args}, TODAY)
