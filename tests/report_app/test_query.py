"""POST /api/v2/query over HTTP, against events in a real MongoDB. Every number here is counted by hand."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask.testing import FlaskClient
from pymongo.database import Database
from werkzeug.test import TestResponse

from analytics.queries.query import Query
from analytics.queries.query_schema import InvalidQuery
from analytics.reports.budget import Budget
from analytics.reports.results import Answer, MoneyAmount, Refused, Row
from analytics.segments.store import SegmentLost
from analytics.sites.site import Goal, Site
from config.settings import Settings
from report_app import Services, create_app
from report_app.errors import LOST
from report_app.metric_format import SUMMED_OVER_SITES, change, figure, share
from tests.support.services import make_services, tell

DAY = ["2026-11-21", "2026-11-21"]


class StandIn:
    """Replaces Reports in tests of how an answer is shown, not how it is computed."""

    def __init__(self, answer: Answer | Exception) -> None:
        self._answer = answer

    def budget(self, key: str) -> Budget:
        return Budget(5, key)

    def answer(self, query: Query, budget: Budget) -> Answer:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def earliest_of(self, site_ids: list[str], budget: Budget) -> None:
        return

    def check(self) -> None:
        return


Answering = Callable[[Answer | Exception], FlaskClient]


@pytest.fixture
def answering(settings: Settings, services: Services) -> Answering:
    def app(answer: object) -> FlaskClient:
        given = vars(services) | {"reports": StandIn(answer)}
        return create_app(settings, make_services(settings, **given)).test_client()

    return app


def ask(report: FlaskClient, query: str = "", headers: Any = None, **body: Any) -> TestResponse:
    body = {"site_id": "shop", "metrics": ["visitors"], "date_range": DAY} | body
    return report.post(f"/api/v2/query{query}", json=body, headers=headers)


def results(report: FlaskClient, **body: Any) -> list[Any]:
    answer = ask(report, **body)
    assert answer.status_code == 200, answer.json
    return [[*row["dimensions"], *row["metrics"]] for row in answer.json["results"]]


def test_an_answer_has_results_meta_and_the_query_as_it_was_read(report: FlaskClient, story: None):
    metrics = ["visitors", "visits", "pageviews", "events", "bounce_rate", "visit_duration", "views_per_visit"]
    assert ask(report, metrics=metrics).json == {
        "results": [{"dimensions": [], "metrics": [2, 3, 5, 6, 67, 200, 1.33]}],
        "meta": {},
        "query": {
            "site_id": "shop",
            "metrics": metrics,
            "date_range": ["2026-11-21T00:00:00+00:00", "2026-11-21T23:59:59+00:00"],
            "filters": [],
            "dimensions": [],
            "order_by": [["visitors", "desc"]],
            "include": {},
            "pagination": {"offset": 0, "limit": 10000},
        },
    }


def test_a_site_without_events_has_one_row_of_zeros(report: FlaskClient, database: Database):
    assert results(report, metrics=["visitors", "bounce_rate", "total_revenue"]) == [[0, 0, None]]


def test_groups_have_their_values_and_words_for_missing_values(report: FlaskClient, story: None):
    by_page = results(report, dimensions=["event:page"], metrics=["visitors", "pageviews"])
    assert by_page == [["/pricing", 2, 2], ["(not set)", 1, 0], ["/", 1, 3]]
    by_source = results(report, dimensions=["visit:source"], metrics=["visits", "percentage"])
    assert by_source == [["Direct / None", 2, 100.0], ["Google", 1, 50.0]]
    assert results(report, dimensions=["event:props:plan"], metrics=["events"]) == [["(none)", 5], ["pro", 1]]


def test_time_labels_fill_the_gaps_and_are_in_meta(report: FlaskClient, story: None):
    body = {"dimensions": ["time:day"], "metrics": ["pageviews"], "date_range": ["2026-11-19", "2026-11-21"]}
    assert results(report, **body) == [["2026-11-20", 1], ["2026-11-21", 5]]
    answer = ask(report, **body, include={"time_labels": True}).json
    assert answer["meta"] == {"time_labels": ["2026-11-19", "2026-11-20", "2026-11-21"]}
    assert [row["metrics"] for row in answer["results"]] == [[0], [1], [5]]


def test_several_sites_are_counted_as_one_and_their_visitors_add_up(
    report: FlaskClient, story: None, services: Services, database: Database
):
    services.sites.put(Site("blog", domains=("blog.example",)))
    tell(database, {"at": "21 10:20:00", "site_id": "blog", "path": "/"})
    answer = ask(report, site_id=["shop", "www.blog.example"], metrics=["visitors", "visits", "pageviews"]).json
    assert answer["results"] == [{"dimensions": [], "metrics": [3, 4, 6]}], "ann is a visitor of both sites"
    assert answer["query"]["site_id"] == ["shop", "blog"]
    warnings = answer["meta"]["metric_warnings"]
    assert list(warnings) == ["visitors", "visits"], "pageviews are exact"
    assert warnings["visitors"] == {"code": "summed_over_sites", "warning": SUMMED_OVER_SITES}
    assert "metric_warnings" not in ask(report, site_id=["blog"], metrics=["visitors"]).json["meta"]
    table = report.get("/stats/timeseries?site_id=shop&site_id=blog&metrics=events,bounce_rate&period=7d").json
    assert list(table["metric_warnings"]) == ["bounce_rate"]
    assert "metric_warnings" not in report.get("/stats/timeseries?site_id=shop&period=7d").json
    assert results(report, site_id=["blog"], date_range="all", metrics=["visits"]) == [[1]]
    by_page = {"dimensions": ["event:page"], "date_range": "all", "metrics": ["pageviews"]}
    assert results(report, site_id=["blog", "shop"], **by_page) == [["/", 5], ["/pricing", 2], ["(not set)", 0]]
    funnel = {"site_id": ["shop", "blog"], "date_range": DAY, "steps": [{"page": "/"}, {"page": "/pricing"}]}
    answer = report.post("/api/v2/funnel", json=funnel).json
    assert [step["count"] for step in answer["results"]] == [3, 1]
    assert answer["warning"] == SUMMED_OVER_SITES
    assert "warning" not in report.post("/api/v2/funnel", json=funnel | {"site_id": "shop"}).json
    for path, more in (("retention", {}), ("journeys", {"page": "/"})):
        asked = {"site_id": ["shop", "blog"], "date_range": DAY} | more
        assert report.post(f"/api/v2/{path}", json=asked).json["warning"] == SUMMED_OVER_SITES


def test_total_rows_are_those_without_limit_and_offset(report: FlaskClient, story: None):
    answer = ask(
        report, dimensions=["event:page"], include={"total_rows": True}, pagination={"limit": 1, "offset": 1}
    ).json
    assert answer["meta"] == {"total_rows": 3}
    assert answer["results"] == [{"dimensions": ["(not set)"], "metrics": [1]}]
    assert answer["query"]["pagination"] == {"offset": 1, "limit": 1}


def test_revenue_is_a_value_and_two_texts(report: FlaskClient, story: None, database: Database):
    tell(database, {"at": "21 16:00:00", "event_type": "order", "revenue": {"amount": "1450.1", "currency": "USD"}})
    assert results(report, metrics=["total_revenue", "average_revenue"]) == [
        [
            {"value": 1500.0, "currency": "USD", "short": "$1.5K", "long": "$1,500.00"},
            {"value": 750.0, "currency": "USD", "short": "$750", "long": "$750.00"},
        ]
    ]


@pytest.fixture
def orders(database: Database) -> None:
    prices = [10, "2.5", 0.1, 0.2, "12 EUR", True]
    bought = [{"at": f"21 10:0{n}:00", "event_type": "buy", "props": {"price": p}} for n, p in enumerate(prices)]
    left = {"at": "21 10:09:00", "event_type": "engagement", "props": {"price": 999}}
    tell(database, *bought, left, {"at": "20 10:00:00", "event_type": "buy", "props": {"price": 6.4}})


OF_PRICES = [f"{function}:props:price" for function in ("count", "sum", "average", "median", "p75", "p90")]


def test_numbers_of_a_property_are_exact_and_other_values_are_left_out(report: FlaskClient, orders: None):
    assert results(report, metrics=OF_PRICES) == [[4, 12.8, 3.2, 1.35, 4.375, 7.75]]
    assert results(report, metrics=["events"], filters=[["is_not", "event:props:price", ["(none)"]]]) == [[6]]
    nothing = [0, None, None, None, None, None]
    assert results(report, metrics=OF_PRICES, filters=[["is", "event:name", ["pageview"]]]) == [nothing]
    compared = ask(report, metrics=OF_PRICES, include={"comparisons": {"mode": "previous_period"}}).json
    assert compared["results"][0]["comparison"] == {
        "dimensions": [], "metrics": [1, 6.4, 6.4, 6.4, 6.4, 6.4], "change": [300, 100, -50, -79, -32, 21],
    }  # fmt: skip


def test_numbers_of_a_property_by_dimension_in_order_and_as_csv(report: FlaskClient, orders: None):
    body = {
        "metrics": ["sum:props:price", "p90:props:price", "count:props:price"],
        "dimensions": ["event:props:price"],
        "order_by": [["sum:props:price", "desc"]],
    }
    assert [row[:2] for row in results(report, **body)] == [
        ["10", 10], ["2.5", 2.5], ["0.2", 0.2], ["0.1", 0.1], ["12 EUR", None], ["999", None], ["true", None],
    ]  # fmt: skip
    lines = ask(report, "?format=csv", **body).text.splitlines()
    assert lines[0] == "event:props:price,sum:props:price,p90:props:price,count:props:price"
    assert [lines[3], lines[5]] == ["0.2,0.2,0.2,1", "12 EUR,,,0"]


def test_a_large_sum_is_exact(report: FlaskClient, database: Database):
    bought = {"event_type": "buy", "props": {"id": 2**63 - 1}}
    tell(database, {"at": "21 10:00:00"} | bought, {"at": "21 10:01:00"} | bought)
    assert results(report, metrics=["sum:props:id", "median:props:id"]) == [[2**64 - 2, 2**63 - 1]]
    text = ask(report, "?format=csv", metrics=["sum:props:id"]).text
    assert text.splitlines()[1] == str(2**64 - 2)


def test_a_change_beyond_all_measure_is_a_number():
    assert change(Decimal("9" * 19), Decimal("1e-9")) == pytest.approx(1e30)


def test_visits_are_filtered_by_their_length(report: FlaskClient, story: None):
    def visits(*filters: Any) -> int:
        (found,) = results(report, metrics=["visits"], filters=list(filters))
        return int(found[0])

    assert visits(["is", "visit:duration", [600]]) == 1
    assert visits(["greater", "visit:duration", [600]]) == 0
    assert visits(["less", "visit:duration", [600]]) == visits(["is", "visit:views", [1]]) == 2
    assert visits(["greater", "visit:views", [1]], ["not", ["less", "visit:duration", [600]]]) == 1
    assert results(report, metrics=["events"], filters=[["is_not", "visit:views", [1]]]) == [[4]]  # one has no visit


def test_goals_and_their_rates(report: FlaskClient, story: None, services: Services):
    services.sites.put(Site("shop", goals=(Goal("Signed up", event_type="signup"), Goal("Prices", page="/pricing"))))
    rows = results(report, dimensions=["event:goal"], metrics=["visitors", "conversion_rate"])
    assert rows == [["Prices", 2, 100.0], ["Signed up", 1, 50.0]]


def test_filters_and_a_site_s_own_days(report: FlaskClient, story: None, services: Services):
    assert results(report, filters=[["is", "visit:country", ["DE"]]], metrics=["visitors", "pageviews"]) == [[1, 2]]
    assert results(report, filters=[["matches_not", "event:page", ["^/p"]]], metrics=["pageviews"]) == [[3]]
    services.sites.put(Site("shop", zone=ZoneInfo("Asia/Tokyo")))
    answer = ask(report, dimensions=["time:hour"], metrics=["events"]).json
    assert answer["query"]["date_range"] == ["2026-11-21T00:00:00+09:00", "2026-11-21T23:59:59+09:00"]
    assert answer["results"][0] == {"dimensions": ["2026-11-21 19:00:00"], "metrics": [3]}


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Africa/Casablanca", "Asia/Kathmandu"])
def test_a_query_over_all_years_is_fast(report: FlaskClient, story: None, services: Services, zone: str):
    """It took more than 10 s of Python, in which the process did nothing else."""
    services.sites.put(Site("shop", zone=ZoneInfo(zone)))
    began = time.process_time()
    for dimension in ("time:hour", "time:day", "time:week", "time:month"):
        rows = results(report, metrics=["events"], dimensions=[dimension], date_range=["1970-01-01", "9998-12-31"])
        assert sum(row[1] for row in rows) == 7
    assert time.process_time() - began < 3


def test_each_row_is_compared_with_the_same_row_of_the_other_period(report: FlaskClient, story: None):
    previous = {"comparisons": {"mode": "previous_period"}}
    answer = ask(report, metrics=["visitors", "pageviews", "total_revenue"], include=previous).json
    assert answer["results"][0]["comparison"] == {"dimensions": [], "metrics": [1, 1, None], "change": [100, 400, None]}
    assert answer["query"]["comparison_date_range"] == ["2026-11-20T00:00:00+00:00", "2026-11-20T23:59:59+00:00"]
    answer = ask(report, dimensions=["event:page"], metrics=["pageviews"], include=previous).json
    assert answer["results"] == [
        {"dimensions": ["/"], "metrics": [3], "comparison": {"dimensions": ["/"], "metrics": [1], "change": [200]}},
        {"dimensions": ["/pricing"], "metrics": [2],
         "comparison": {"dimensions": ["/pricing"], "metrics": [0], "change": [None]}},
        {"dimensions": ["(not set)"], "metrics": [0],
         "comparison": {"dimensions": ["(not set)"], "metrics": [0], "change": [None]}},
    ]  # fmt: skip


def test_a_bucket_is_compared_with_that_of_its_position(report: FlaskClient, story: None):
    answer = ask(
        report,
        dimensions=["time:day"],
        metrics=["pageviews"],
        date_range=["2026-11-20", "2026-11-21"],
        include={"comparisons": {"mode": "custom", "date_range": ["2026-11-19", "2026-11-20"]}, "time_labels": True},
    ).json
    assert [row["comparison"] for row in answer["results"]] == [
        {"dimensions": ["2026-11-19"], "metrics": [0], "change": [None]},
        {"dimensions": ["2026-11-20"], "metrics": [1], "change": [400]},
    ]


@pytest.mark.parametrize(
    ("now", "before", "expected"),
    [
        (3, 2, 50),
        (1, 3, -67),
        (0, 4, -100),
        (1, 8, -88),  # 87.5, rounded half away from zero
        (9, 8, 13),
        (5, 0, None),
        (0, 0, None),
        (None, 3, None),
        (3, None, None),
        (1.5, 1.0, 50),
        (MoneyAmount(Decimal(3), "EUR"), MoneyAmount(Decimal(2), "EUR"), 50),
        (MoneyAmount(Decimal(3), "EUR"), MoneyAmount(Decimal(2), "USD"), None),
        (MoneyAmount(Decimal(3), "EUR"), None, None),
    ],
)
def test_a_change_is_in_whole_percent_and_null_if_there_was_nothing_before(now: Any, before: Any, expected: int | None):
    assert change(now, before) == expected


def test_shares_are_rounded_as_in_the_engine_and_a_share_of_no_visitors_is_zero():
    assert [share(1, 3), share(1, 800), share(2, 2), share(0, 0)] == [33.33, 0.13, 100.0, 0.0]


def test_money_of_every_currency_can_be_shown():
    assert figure(MoneyAmount(Decimal("1234567.891"), "JPY")) == {
        "value": 1234567.891, "currency": "JPY", "short": "¥1.2M", "long": "¥1,234,568"
    }  # fmt: skip
    assert figure(MoneyAmount(Decimal("-2.5"), "ZZZ")) == {
        "value": -2.5, "currency": "ZZZ", "short": "-ZZZ2.5", "long": "-ZZZ2.50"
    }  # fmt: skip


# As CSV


def test_the_same_results_as_csv(report: FlaskClient, story: None):
    body = {"dimensions": ["event:page"], "metrics": ["visitors", "total_revenue"]}
    first = "event:page,visitors,total_revenue,total_revenue_currency"
    expected = "\r\n".join([first, "/pricing,2,,", "(not set),1,49.9,USD", "/,1,,", ""])
    for answer in ask(report, "?format=csv", **body), ask(report, headers={"Accept": "text/csv"}, **body):
        assert answer.content_type == "text/csv; charset=utf-8"
        assert answer.text == expected
    for accept in ("*/*", "application/json", "text/html", "application/json, text/csv;q=0.5"):
        assert ask(report, headers={"Accept": accept}, **body).is_json, accept
    assert ask(report, "?format=json", {"Accept": "text/csv"}, **body).is_json


def test_a_csv_has_the_compared_value_beside_each_metric(report: FlaskClient, story: None):
    previous = {"comparisons": {"mode": "previous_period"}}
    answer = ask(report, "?format=csv", dimensions=["event:page"], metrics=["pageviews"], include=previous)
    assert answer.text.splitlines()[:3] == [
        "event:page,pageviews,pageviews_before,pageviews_change", "/,3,1,200", "/pricing,2,0,",
    ]  # fmt: skip


@pytest.mark.parametrize("begin", list("=+-@\t\r"))
def test_text_from_visitors_is_never_a_formula_in_csv(report: FlaskClient, database: Database, begin: str):
    tell(database, {"at": "21 10:00:00", "event_type": "x", "props": {"note": f'{begin}HYPERLINK("http://x")'}})
    text = ask(report, "?format=csv", dimensions=["event:props:note"]).text
    assert f'"\'{begin}HYPERLINK(""http://x"")",1' in text


def test_negative_numbers_stay_numbers_in_csv(answering: Answering):
    report = answering(Answer((Row((), (1, MoneyAmount(Decimal("-5.000"), "USD")), (2, None)),)))
    include = {"comparisons": {"mode": "previous_period"}}
    text = ask(report, "?format=csv", metrics=["visitors", "total_revenue"], include=include).text
    assert text.splitlines()[1] == "1,-5,USD,2,,,-50,"


# Errors


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"metrics": ["visitors", "baa"]}, '#/metrics/1: Invalid metric "baa"'),
        ({"dimensions": ["badproperty"]}, '#/dimensions/0: Invalid dimension "badproperty"'),
        ({"date_range": "bad_period"}, '#/date_range: Invalid date range "bad_period"'),
        ({"metrics": ["conversion_rate"]},
         "Metric `conversion_rate` can only be queried with event:goal filters or dimensions"),
        ({"nonsense": 1}, "#/nonsense: Schema does not allow additional properties."),
    ],
)  # fmt: skip
def test_errors_have_the_shape_and_words_of_plausible(report: FlaskClient, database: Database, body: Any, error: str):
    answer = ask(report, **body)
    assert (answer.status_code, answer.json) == (400, {"error": error})


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_body_that_is_not_json_is_a_400_in_the_same_shape(report: FlaskClient, body: bytes):
    answer = report.post("/api/v2/query", data=body[:60_000])
    assert (answer.status_code, answer.json) == (400, {"error": "The body is not JSON."})


@pytest.mark.parametrize("body", [[], 1, "text", {}])
def test_json_that_is_not_an_object_is_a_400_too(report: FlaskClient, body: Any):
    answer = report.post("/api/v2/query", json=body)
    assert answer.status_code == 400
    assert [*answer.json] == ["error"]
    assert answer.json["error"].startswith("#: ")


def test_every_other_error_of_the_route_has_the_same_shape(report: FlaskClient, settings: Settings, services: Services):
    assert report.get("/api/v2/query").status_code == 405
    for answer in (
        report.get("/api/v2/query"),
        report.post("/api/v2/nothing"),
        report.post("/api/v2/query", data=b"x" * 65537),
        ask(report, "?format=xml"),
        ask(create_app(replace(settings, report_key="a-key-of-16-or-more"), services).test_client()),
    ):
        assert [*answer.json] == ["error"]
        assert isinstance(answer.json["error"], str)


def test_a_pattern_that_re2_rejects_is_a_400_with_its_pointer(report: FlaskClient, story: None):
    answer = ask(report, filters=[["is", "event:page", ["/"]], ["matches", "event:page", ["(?=x)"]]])
    assert answer.status_code == 400
    assert answer.json["error"].startswith("#/filters/1")


@pytest.mark.parametrize(
    ("error", "message", "retry"),
    [
        (Refused("time_limit", "Ask for less."), "Ask for less.", None),
        (Refused("memory_limit", "Ask for less."), "Ask for less.", None),
        (Refused("busy", "Too many reports at once."), "Too many reports at once.", "1"),
        (SegmentLost("v1"), LOST, "1"),
    ],
)  # fmt: skip
def test_a_refused_query_and_a_lost_segment_are_a_503(
    answering: Answering, error: Exception, message: str, retry: str | None
):
    answer = ask(answering(error))
    assert (answer.status_code, answer.json) == (503, {"error": message})
    assert answer.headers.get("Retry-After") == retry
    ours = answering(error).get("/stats/breakdown?site_id=shop")
    assert (ours.status_code, ours.json["error"]["message"]) == (503, message)
    assert ours.json["error"]["code"] == (error.code if isinstance(error, Refused) else "unavailable")
    assert ours.headers.get("Retry-After") == retry


def test_a_query_that_the_engine_rejects_is_a_400(answering: Answering):
    answer = ask(answering(InvalidQuery("#/filters/0", "Invalid regex")))
    assert (answer.status_code, answer.json) == (400, {"error": "#/filters/0: Invalid regex"})


def test_an_answer_that_is_not_up_to_date_says_as_of_when_it_is(answering: Answering):
    report = answering(Answer((Row((), (1,)),), as_of=datetime(2026, 11, 22, 11, 59, tzinfo=UTC)))
    assert ask(report).json["meta"] == {"as_of": "2026-11-22T11:59:00+00:00"}
