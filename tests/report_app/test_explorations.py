"""POST /api/v2/funnel, /retention, /journeys and GET /stats/visitor over HTTP. Every number is counted by hand."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from pymongo.database import Database

from analytics.queries.exploration_schema import load_funnel
from analytics.queries.query import And, Condition
from analytics.sites.site import Goal, Site
from report_app import Services
from tests.support.services import ADMIN_KEY, NOW, tell

SITE = Site("shop", goals=(Goal("Signed up", event_type="signup"),), shows_visitors=True)
DAY = {"site_id": "shop", "date_range": ["2026-11-21", "2026-11-21"]}
SHOWN = {"site_id": "shop", "date_range": ["2026-11-21T00:00:00+00:00", "2026-11-21T23:59:59+00:00"], "filters": []}
STEPS = [{"page": "/"}, {"page": "/pri*"}, {"goal": "Signed up", "label": "Bought"}]


def ask(report: FlaskClient, what: str, **body: Any) -> Any:
    answer = report.post(f"/api/v2/{what}", json=DAY | body)
    assert answer.status_code == 200, answer.json
    return answer.json


def error(report: FlaskClient, what: str, **body: Any) -> str:
    answer = report.post(f"/api/v2/{what}", json=DAY | body)
    assert answer.status_code == 400
    assert [*answer.json] == ["error"]
    return str(answer.json["error"])


@pytest.fixture(autouse=True)
def site(services: Services) -> None:
    services.sites.put(SITE)


# Funnels


def test_a_funnel_counts_how_many_continue_at_each_step(report: FlaskClient, story: None):
    """Two of the three visits of the 21st begin at /, and one of the two continues."""
    assert ask(report, "funnel", steps=STEPS) == {
        "results": [
            {"label": "Visit /", "count": 2, "share": 100.0, "share_of_previous": 100.0, "dropped": 0},
            {"label": "Visit /pri*", "count": 1, "share": 50.0, "share_of_previous": 50.0, "dropped": 1},
            {"label": "Bought", "count": 1, "share": 50.0, "share_of_previous": 100.0, "dropped": 0},
        ],
        "query": SHOWN | {"window": "visit"},
    }


def test_a_funnel_with_a_window_counts_visitors(report: FlaskClient, story: None):
    """Bob sees the prices 26 hours after /. Ann is one visitor with two visits."""
    steps = [{"page": "/"}, {"page": "/pricing"}, {"event": "signup"}]
    both = {"steps": steps, "date_range": ["2026-11-20", "2026-11-21"]}
    assert [step["count"] for step in ask(report, "funnel", **both, window="26h")["results"]] == [2, 2, 1]
    assert [step["count"] for step in ask(report, "funnel", **both, window="1d")["results"]] == [2, 1, 1]
    assert [step["count"] for step in ask(report, "funnel", **both, window="1m")["results"]] == [2, 0, 0]


def test_a_funnel_without_visitors_is_all_zeros(report: FlaskClient, database: Database):
    for step in ask(report, "funnel", steps=STEPS)["results"]:
        assert {**step, "label": ""} == {"label": "", "count": 0, "share": 0.0, "share_of_previous": 0.0, "dropped": 0}


def test_steps_and_filters_may_be_any_filter(report: FlaskClient, story: None):
    german = ["is", "visit:country", ["DE"]]
    answer = ask(report, "funnel", steps=[{"filter": german}, {"event": "page_view"}], filters=[german])
    assert [(step["label"], step["count"]) for step in answer["results"]] == [("Step 1", 1), ("page_view", 1)]
    assert answer["query"]["filters"] == [german]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, "#/steps: Missing data for required field."),
        ({"steps": STEPS[:1]}, "#/steps: Length must be between 2 and 8."),
        ({"steps": STEPS * 3}, "#/steps: Length must be between 2 and 8."),
        ({"steps": "x"}, "#/steps: Not a valid list."),
        ({"steps": ["x", "y"]}, "#/steps/0: Invalid input type."),
        ({"steps": [*STEPS, {}]}, "#/steps/3: A step has exactly one of goal, page, event and filter."),
        ({"steps": [*STEPS, {"page": "/", "goal": "x"}]},
         "#/steps/3: A step has exactly one of goal, page, event and filter."),
        ({"steps": [*STEPS, {"page": 1}]}, "#/steps/3/page: Not a valid string."),
        ({"steps": [*STEPS, {"pag": "/"}]}, "#/steps/3/pag: Unknown field."),
        ({"steps": [*STEPS, {"goal": "No"}]},
         "Invalid filters. The goal `No` is not configured for this site."),
        ({"steps": [*STEPS, {"filter": ["is"]}]}, '#/steps/3/filter: Invalid filter ["is"]'),
        ({"steps": [*STEPS, {"filter": ["and", [["is", "event:page", ["/"]], 1]]}]},
         "#/steps/3/filter/1/1: Invalid filter 1"),
        ({"steps": STEPS, "filters": [["is"]]}, '#/filters/0: Invalid filter ["is"]'),
        ({"steps": STEPS, "filters": {}}, "#/filters: Not a valid list."),
        ({"steps": STEPS, "window": "1w"}, '#/window: Expected "visit", or minutes, hours or days'),
        ({"steps": STEPS, "window": "367d"}, '#/window: Expected "visit", or minutes, hours or days'),
        ({"steps": STEPS, "window": "0d"}, '#/window: Expected "visit", or minutes, hours or days'),
        ({"steps": STEPS, "nonsense/x": 1}, "#/nonsense~1x: Unknown field."),
        ({"steps": STEPS, "date_range": "never"}, '#/date_range: Invalid date range "never"'),
        ({"steps": STEPS, "site_id": 1}, "#/site_id: Type mismatch. Expected String but got Integer."),
    ],
)  # fmt: skip
def test_an_invalid_funnel_is_reported_with_a_pointer(report: FlaskClient, body: Any, expected: str):
    assert error(report, "funnel", **body).startswith(expected)


@pytest.mark.parametrize(
    ("what", "body", "expected"),
    [
        ("funnel", {"steps": [*STEPS, {"pag": "/"}]}, "#/steps/3/pag: Unknown field. Did you mean 'page'?"),
        ("funnel", {"steps": STEPS, "windw": "visit"}, "#/windw: Unknown field. Did you mean 'window'?"),
        ("funnel", {"steps": STEPS, "page": "/"}, "#/page: Unknown field."),
        ("funnel", {"steps": [*STEPS, {"page": "/", "window": "visit"}]}, "#/steps/3/window: Unknown field."),
        ("retention", {"page": "/"}, "#/page: Unknown field."),
    ],
)
def test_a_suggested_name_is_valid_in_its_place(report: FlaskClient, what: str, body: Any, expected: str):
    assert error(report, what, **body) == expected


@pytest.mark.parametrize("what", ["funnel", "retention", "journeys"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"1"])
def test_other_bodies_are_errors_too(report: FlaskClient, what: str, body: bytes):
    answer = report.post(f"/api/v2/{what}", data=body)
    assert answer.status_code == 400
    assert [*answer.json] == ["error"]


def test_an_invalid_pattern_is_reported_with_its_step(report: FlaskClient, story: None):
    steps = [{"page": "/"}, {"filter": ["matches", "event:page", ["(?=x)"]]}]
    assert error(report, "funnel", steps=steps, filters=[["is", "event:page", ["/"]]]).startswith("#/steps/1/filter")


def test_wildcards_in_a_page_work_as_in_goals_and_all_other_characters_are_literal():
    asked = load_funnel(
        DAY | {"steps": [{"page": "/docs/**/a.b*"}, {"page": "/x.y"}]}, lambda _: [SITE], NOW, lambda _: None
    )
    pageview = Condition("is", "event:name", ("pageview",), place="#/steps/0/page")
    assert asked.steps[0] == And(
        (pageview, Condition("matches", "event:page", (r"\A/docs/(?s:.*)/a\.b[^/]*\z",), place="#/steps/0/page"))
    )
    assert isinstance(asked.steps[1], And)
    assert asked.steps[1].filters[1] == Condition("is", "event:page", ("/x.y",), place="#/steps/1/page")
    assert asked.window is None
    assert asked.query.filters == ()


# Retention


def test_retention_counts_how_many_of_a_cohort_came_again(report: FlaskClient, story: None, database: Database):
    """Bob's first day is the 20th, ann's is the 21st. Bob returns the day after, ann two days after hers."""
    tell(database, {"at": "23 08:00:00"})
    assert ask(report, "retention", date_range=["2026-11-20", "2026-11-23"], grain="day") == {
        "results": [
            {"cohort": "2026-11-20", "visitors": 1, "active": [1, 1, 0, 0], "shares": [100.0, 100.0, 0.0, 0.0]},
            {"cohort": "2026-11-21", "visitors": 1, "active": [1, 0, 1], "shares": [100.0, 0.0, 100.0]},
        ],
        "query": {
            "site_id": "shop",
            "date_range": ["2026-11-20T00:00:00+00:00", "2026-11-23T23:59:59+00:00"],
            "filters": [],
            "grain": "day",
        },
    }


def test_retention_is_by_week_by_default(report: FlaskClient, story: None):
    answer = ask(report, "retention", filters=[["is", "event:page", ["/pricing"]]])
    assert answer["results"] == [{"cohort": "2026-11-16", "visitors": 2, "active": [2], "shares": [100.0]}]
    assert answer["query"]["grain"] == "week"


def test_the_number_of_cohorts_is_limited(report: FlaskClient, database: Database):
    assert error(report, "retention", date_range=["2020-01-01", "2026-01-01"], grain="day").startswith("#/grain: ")
    assert error(report, "retention", date_range=["2026-01-01", "2026-02-01"], grain="hour").startswith("#/grain: ")
    assert error(report, "retention", grain="year").startswith("#/grain: Must be one of")
    assert ask(report, "retention", date_range=["2025-01-01", "2025-12-31"], grain="day")["results"] == []


# Journeys


def test_journeys_show_what_came_before_and_after_a_page(report: FlaskClient, story: None):
    assert ask(report, "journeys", page="/") == {
        "results": {
            "following": [{"page": "/pricing", "count": 1}, {"page": None, "count": 1}],
            "preceding": [{"page": None, "count": 2}],
        },
        "query": SHOWN | {"page": "/", "limit": 10},
    }
    assert ask(report, "journeys", page="/", limit=1)["results"]["following"] == [{"page": "/pricing", "count": 1}]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({}, "#/page"), ({"page": ""}, "#/page"), ({"page": "/", "limit": 0}, "#/limit"),
     ({"page": "/", "limit": "1"}, "#/limit"), ({"page": "/", "filters": [1]}, "#/filters/0")],
)  # fmt: skip
def test_invalid_journeys_are_reported_with_a_pointer(report: FlaskClient, body: Any, pointer: str):
    assert error(report, "journeys", **body).startswith(f"{pointer}: ")


# A visitor

BEARER = {"Authorization": f"Bearer {ADMIN_KEY}"}
ANN = "/stats/visitor?site_id=shop&user_id=ann&from=2026-11-21&to=2026-11-21"


def test_a_visitor_s_visits_come_newest_first_with_all_their_events(report: FlaskClient, story: None):
    assert report.get(ANN, headers=BEARER).json == {
        "site_id": "shop",
        "user_id": "ann",
        "from": "2026-11-21T00:00:00+00:00",
        "to": "2026-11-21T23:59:59+00:00",
        "visits": [
            {
                "began_at": "2026-11-21T15:00:00+00:00",
                "duration": 0,
                "pageviews": 1,
                "bounce": True,
                "entry_page": "/",
                "exit_page": "/",
                "events": [{"timestamp": "2026-11-21T15:00:00+00:00", "name": "pageview", "page": "/"}],
            },
            {
                "began_at": "2026-11-21T10:00:00+00:00",
                "duration": 600,
                "pageviews": 2,
                "bounce": False,
                "entry_page": "/",
                "exit_page": "/pricing",
                "source": "Google",
                "country": "DE",
                "events": [
                    {"timestamp": "2026-11-21T10:00:00+00:00", "name": "pageview", "page": "/"},
                    {"timestamp": "2026-11-21T10:05:00+00:00", "name": "pageview", "page": "/pricing"},
                    {
                        "timestamp": "2026-11-21T10:10:00+00:00",
                        "name": "signup",
                        "revenue": {"value": 49.9, "currency": "USD", "short": "$49.9", "long": "$49.90"},
                        "props": {"plan": "pro"},
                    },
                ],
            },
        ],
    }


def test_the_history_of_a_visitor_has_a_period_and_a_limit(report: FlaskClient, story: None):
    def visits(url: str) -> list[str]:
        return [visit["began_at"][8:16] for visit in report.get(url, headers=BEARER).json["visits"]]

    assert visits(f"{ANN}&limit=1") == ["21T15:00"]
    assert visits("/stats/visitor?site_id=shop&user_id=bob&period=7d") == ["21T11:00", "20T09:00"]
    assert visits("/stats/visitor?site_id=shop&user_id=bob&period=day") == []
    assert visits("/stats/visitor?site_id=shop&user_id=nobody") == []
    assert visits("/stats/visitor?site_id=shop&user_id=bob&period=all") == ["21T11:00", "20T09:00"]


def test_a_site_without_shows_visitors_shows_no_history(report: FlaskClient, services: Services, story: None):
    services.sites.put(Site("shop"))
    answer = report.get(ANN, headers=BEARER)
    assert (answer.status_code, answer.json["error"]["code"]) == (403, "visitors_not_shown")
    assert report.get(ANN).status_code == 401


@pytest.mark.parametrize(
    ("query", "field"),
    [("user_id=ann", "site_id"), ("site_id=shop", "user_id"), ("site_id=shop&user_id=ann&country=DE", "country"),
     ("site_id=shop&user_id=ann&limit=0", "limit"), ("site_id=shop&user_id=ann&period=ever", "period"),
     ("site_id=shop&user_id=" + "x" * 257, "user_id")],
)  # fmt: skip
def test_an_invalid_parameter_is_named(report: FlaskClient, query: str, field: str):
    answer = report.get(f"/stats/visitor?{query}", headers=BEARER)
    assert answer.status_code == 400
    assert [*answer.json["error"]["fields"]] == [field]
