"""GET /api/v1/stats/... over HTTP. The numbers are those of version 2, and every one here is counted by hand."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from pymongo.database import Database

from analytics.sites.site import Goal, Site
from report_app import Services
from tests.support.services import tell

DAY = "site_id=shop&period=day&date=2026-11-21"


def ask(report: FlaskClient, path: str) -> Any:
    answer = report.get(f"/api/v1/stats/{path}")
    assert answer.status_code == 200, answer.json
    return answer.json


def test_an_aggregate_has_a_value_for_each_metric(report: FlaskClient, story: None):
    assert ask(report, f"aggregate?{DAY}&metrics=visitors,pageviews,bounce_rate") == {
        "results": {"visitors": {"value": 2}, "pageviews": {"value": 5}, "bounce_rate": {"value": 67}}
    }
    assert ask(report, f"aggregate?{DAY}&filters=visit:country==DE|FR;event:page==/pri*") == {
        "results": {"visitors": {"value": 2}}
    }


def test_an_aggregate_is_compared_with_the_previous_period(report: FlaskClient, story: None):
    assert ask(report, f"aggregate?{DAY}&metrics=visitors,visit_duration&compare=previous_period") == {
        "results": {
            "visitors": {"value": 2, "comparison_value": 1, "change": 100},
            "visit_duration": {"value": 200, "comparison_value": 0, "change": None},
        }
    }


def test_a_series_has_every_bucket(report: FlaskClient, story: None):
    answer = ask(report, "timeseries?site_id=shop&period=custom&date=2026-11-19,2026-11-21&metrics=visitors,pageviews")
    assert answer["results"] == [
        {"date": "2026-11-19", "visitors": 0, "pageviews": 0},
        {"date": "2026-11-20", "visitors": 1, "pageviews": 1},
        {"date": "2026-11-21", "visitors": 2, "pageviews": 5},
    ]
    assert len(ask(report, f"timeseries?{DAY}")["results"]) == 24
    assert ask(report, "timeseries?site_id=shop&period=6mo")["results"][-1] == {"date": "2026-11-01", "visitors": 2}


def test_a_breakdown_has_rows_by_the_property(report: FlaskClient, story: None):
    assert ask(report, f"breakdown?{DAY}&property=event:page&metrics=visitors,pageviews&limit=1")["results"] == [
        {"page": "/pricing", "visitors": 2, "pageviews": 2}
    ]
    assert ask(report, f"breakdown?{DAY}&property=event:page&limit=1&page=2")["results"] == [
        {"page": "(not set)", "visitors": 1}
    ]
    by_country = ask(report, f"breakdown?{DAY}&property=visit:country&metrics=visits")["results"]
    assert by_country == [{"country": "DE", "visits": 1}, {"country": "FR", "visits": 1}]
    by_plan = ask(report, f"breakdown?{DAY}&property=event:props:plan&metrics=events")["results"]
    assert by_plan == [{"plan": "(none)", "events": 5}, {"plan": "pro", "events": 1}]


def test_goals_filter_and_have_rates(report: FlaskClient, story: None, services: Services):
    services.sites.put(Site("shop", goals=(Goal("Signed up", event_type="signup"),)))
    goal = "filters=event:goal==Signed+up"
    assert ask(report, f"aggregate?{DAY}&metrics=conversion_rate&{goal}")["results"]["conversion_rate"]["value"] == 50.0
    rows = ask(report, f"breakdown?{DAY}&property=visit:source&metrics=visitors,conversion_rate&{goal}")["results"]
    assert rows == [{"source": "Google", "visitors": 1, "conversion_rate": 100.0}]


def test_current_visitors_are_a_number(report: FlaskClient, database: Database):
    tell(
        database, {"at": "22 11:58:00"}, {"at": "22 11:59:00", "user_id": "bob"}, {"at": "22 11:40:00", "user_id": "c"}
    )
    assert ask(report, "realtime/visitors?site_id=shop") == 2


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("aggregate", "`site_id`: Expected a string of 1 to 128 characters."),
        ("realtime/visitors", "`site_id`: Expected a string of 1 to 128 characters."),
        (f"aggregate?{DAY}&metrics=visitor", "`metrics`: Invalid metric \"visitor\". Did you mean 'visitors'?"),
        ("aggregate?site_id=shop&period=week",
         "`period`: 'week' is not one of day, 7d, 30d, month, 6mo, 12mo, custom."),
        (f"breakdown?{DAY}&property=event:pages",
         "`property`: Invalid dimension \"event:pages\". Did you mean 'event:page'?"),
        (f"aggregate?{DAY}&filters=event:goal==a", "Invalid filters. The goal `a` is not configured for this site."),
    ],
)  # fmt: skip
def test_errors_have_plausible_s_shape_and_name_the_parameter(report: FlaskClient, path: str, error: str):
    answer = report.get(f"/api/v1/stats/{path}")
    assert (answer.status_code, answer.json) == (400, {"error": error})


def test_parameters_that_plausible_ignores_have_no_effect(report: FlaskClient, story: None):
    assert ask(report, f"aggregate?{DAY}&with_imported=true&anything=1") == {"results": {"visitors": {"value": 2}}}
