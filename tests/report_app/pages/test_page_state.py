"""The state of a page in its URL. Pure."""

from datetime import UTC, date, datetime
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from analytics.queries.query import VISIT_NUMBERS, Period
from analytics.queries.query_schema import OPERATORS, OPERATORS_OF_NUMBERS
from report_app.pages.page_state import (
    COMPARISON_NAMES,
    FIGURES,
    PERIODS,
    FilterTerm,
    PageState,
    default_grain,
    grains_of,
    open_bucket,
    read_state,
)
from report_app.url_parameters import SHORT_DIMENSIONS

NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)


def read(query: str) -> PageState:
    return read_state(MultiDict(parse_qsl(query, keep_blank_values=True)), "30d")


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
terms = st.builds(
    FilterTerm,
    st.sampled_from(list(OPERATORS)),
    st.one_of(st.sampled_from(list(SHORT_DIMENSIONS.values())), texts.map("event:props:{}".format)),
    st.lists(texts, min_size=1, max_size=3).map(tuple),
)
number_terms = st.builds(
    FilterTerm,
    st.sampled_from(list(OPERATORS_OF_NUMBERS)),
    st.sampled_from(VISIT_NUMBERS),
    st.lists(st.integers(0, 10**9 - 1).map(str), min_size=1, max_size=3).map(tuple),
)
states = st.builds(
    PageState,
    st.sampled_from(list(PERIODS)),
    compare=st.sampled_from(list(COMPARISON_NAMES)),
    grain=st.sampled_from(["", "hour", "day", "week", "month"]),
    figure=st.sampled_from(FIGURES),
    filters=st.lists(st.lists(terms | number_terms, min_size=1, max_size=2).map(tuple), max_size=3).map(tuple),
    tabs=st.dictionaries(st.sampled_from(["goals", "pages"]), texts, max_size=2).map(
        lambda x: tuple(sorted(x.items()))
    ),
    search=texts.map(str.strip),
    page=st.integers(1, 1000),
    embed=texts,
) | st.builds(
    PageState, st.sampled_from(list(PERIODS)), compare=st.just("custom"), compare_first=st.dates(max_value=NOW.date()),
    compare_last=st.just(NOW.date()),
)  # fmt: skip


@given(states)
def test_a_state_is_read_from_its_url_whatever_its_filters_contain(state: PageState):
    assert read(state.as_query()) == state


def test_a_url_is_short_and_readable():
    state = PageState("7d").with_filter("visit:country", "DE").with_filter("event:page", "/blog")
    assert state.with_tab("pages", "entry").as_query() == ("period=7d&f=is,country,DE&f=is,page,/blog&tabs=pages.entry")


@pytest.mark.parametrize(
    "query",
    ["period=never&compare=x&grain=minute&figure=age", "f=is&f=is,country&f=,,&f=was,country,DE&f=is,planet,Earth",
     "f=contains,duration,60&f=greater,page,60&f=less,views,a&f=is,views&f=is,duration,-1&f=is,views,1234567890",
     "page=0", "page=-1", "page=99999999999", "from=2026-11-22&to=2026-11-01", "from=yesterday&to=2026-11-01",
     "from=20261101&to=2026-W45-1", "x=y"],
)  # fmt: skip
def test_unknown_values_are_ignored(query: str):
    assert read(query) == PageState("30d")


def test_two_dates_are_a_period():
    state = read("from=2026-11-01&to=2026-11-03&period=7d")
    assert (state.period, state.first, state.last) == ("custom", date(2026, 11, 1), date(2026, 11, 3))
    assert state.question("shop", NOW)["date_range"] == ["2026-11-01", "2026-11-03"]
    assert state.with_period("day").as_query() == "period=day"


@pytest.mark.parametrize(
    ("period", "expected"),
    [("yesterday", ["2026-11-21", "2026-11-21"]), ("7d", ["2026-11-16", "2026-11-22"]), ("day", "day"),
     ("30d", ["2026-10-24", "2026-11-22"]), ("last_month", ["2026-10-01", "2026-10-31"]), ("all", "all"),
     ("12mo", ["2025-12-01", "2026-11-22"]), ("month", "month"), ("24h", "24h")],
)  # fmt: skip
def test_periods_end_today(period: str, expected: object):
    assert PageState(period).question("shop", NOW)["date_range"] == expected


def test_two_dates_are_a_comparison_until_another_is_chosen():
    state = read("period=7d&compare=none&compare_from=2026-10-01&compare_to=2026-10-07&f=is,country,DE")
    comparison = {"mode": "custom", "date_range": ["2026-10-01", "2026-10-07"]}
    assert state.question("shop", NOW)["include"]["comparisons"] == comparison
    assert state.with_comparison("none").as_query() == "period=7d&compare=none&f=is,country,DE"
    assert state.with_period("28d").question("shop", NOW)["include"]["comparisons"] == comparison
    for wrong in ("compare_from=2026-10-01", "compare_from=2026-10-07&compare_to=2026-10-01", "compare=custom"):
        assert read(f"period=7d&{wrong}") == PageState("7d")


def test_a_period_that_ends_in_the_future_is_compared_up_to_now_and_all_time_with_nothing():
    assert PageState("day").question("shop", NOW)["include"] == {
        "trim_relative_date_range": True,
        "imports": True,
        "comparisons": {"mode": "previous_period"},
    }
    assert PageState("all").question("shop", NOW)["include"] == {"imports": True}
    assert PageState("7d", compare="none").question("shop", NOW)["include"] == {"imports": True}


def test_imported_data_count_until_the_address_says_no():
    assert (read("period=7d").imports, read("period=7d&imports=1").imports) == (True, True)
    state = read("period=7d&compare=none&imports=no")
    assert state.question("shop", NOW)["include"] == {}
    assert (state.as_query(), state.as_query(imports=True)) == (
        "period=7d&compare=none&imports=no", "period=7d&compare=none",
    )  # fmt: skip
    assert not state.asks_as(read("period=7d&compare=none"))


def test_a_click_replaces_an_earlier_one_on_the_same_dimension_and_keeps_other_filters():
    state = read("f=is,country,DE&f=is_not,country,FR&f=is,country,DE;is,page,/")
    assert state.with_filter("visit:country", "US").as_query() == (
        "period=30d&f=is_not,country,FR&f=is,country,DE;is,page,/&f=is,country,US"
    )
    assert state.without_filter(1).as_query() == "period=30d&f=is,country,DE&f=is,country,DE;is,page,/"


def test_the_filter_builder_adds_a_condition_that_is_joined_by_and_or_or():
    form = "&dimension=page&operator=contains&value=/blog"
    assert read(f"f=is,country,DE{form}").as_query() == "period=30d&f=is,country,DE&f=contains,page,/blog"
    either = read(f"f=is,country,DE{form}&join=or")
    assert either.as_query() == "period=30d&f=is,country,DE;contains,page,/blog"
    assert either.question("shop", NOW)["filters"] == [
        ["or", [["is", "visit:country", ["DE"]], ["contains", "event:page", ["/blog"]]]]
    ]
    assert read("dimension=prop.&key=plan&operator=is&value=pro").filters[0][0].dimension == "event:props:plan"
    assert read("dimension=page&operator=is&value=") == PageState("30d")


@pytest.mark.parametrize(
    ("value", "seconds"), [("90", 90), ("1:30", 90), ("0:05", 5), ("1:00:01", 3601), ("12:345", None), ("1m", None)]
)
def test_the_filter_builder_reads_a_length_as_seconds_or_with_colons(value: str, seconds: int | None):
    state = read(f"dimension=duration&operator=greater&value={value}")
    expected = [] if seconds is None else [["greater", "visit:duration", [seconds]]]
    assert state.question("shop", NOW)["filters"] == expected


def test_only_what_panels_answer_makes_them_ask_again():
    state = PageState("7d")
    assert state.asks_as(read("period=7d&grain=hour&figure=visits&tabs=pages.exit"))
    assert not state.asks_as(read("period=7d&f=is,country,DE"))
    assert not state.asks_as(read("period=7d&compare=none"))


def period(first: str, last: str) -> Period:
    return Period(datetime.fromisoformat(first), datetime.fromisoformat(last), ZoneInfo("Europe/Berlin"))


def test_grains_are_those_that_a_chart_can_show():
    day = period("2026-11-21T23:00Z", "2026-11-22T23:00Z")
    month = period("2026-10-31T23:00Z", "2026-11-30T23:00Z")
    decade = period("2015-12-31T23:00Z", "2025-12-31T23:00Z")
    assert grains_of(day) == ["hour"]
    assert grains_of(month) == ["hour", "day", "week"]
    assert grains_of(decade) == ["week", "month"]
    assert [default_grain(each) for each in (day, month, decade)] == ["hour", "day", "month"]


def test_the_open_bucket_is_the_one_that_now_is_in():
    month = period("2026-10-31T23:00Z", "2026-11-30T23:00Z")
    assert open_bucket(month, "day", NOW) == "2026-11-22"
    assert open_bucket(month, "hour", NOW) == "2026-11-22 13:00:00"
    assert open_bucket(month, "day", datetime(2026, 12, 1, tzinfo=UTC)) is None
