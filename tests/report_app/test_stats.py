"""GET /stats/timeseries, /stats/breakdown and /stats/realtime over HTTP. Every number here is counted by hand."""

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psutil
import pytest
from flask.testing import FlaskClient
from pymongo import MongoClient
from pymongo.database import Database

from analytics.events.schema import load_event
from analytics.events.store import EventStore
from analytics.queries.query import EVENT_DIMENSIONS, VISIT_DIMENSIONS, Period
from analytics.reports.realtime import RealtimeReader, realtime_pipeline, visitors_pipeline
from analytics.sites.site import Goal, Site
from analytics.unavailable import Unavailable
from footfall.embedded_servers import pick_port
from report_app import Services
from report_app.url_parameters import SHORT_DIMENSIONS
from tests.support.running_system import frozen
from tests.support.services import ADMIN_KEY, NOW, tell

DAY = "site_id=shop&from=2026-11-21&to=2026-11-21"


def rows(report: FlaskClient, url: str) -> list[list[Any]]:
    answer = report.get(url)
    assert answer.status_code == 200, answer.json
    return [list(row.values()) for row in answer.json["results"]]


def wrong(report: FlaskClient, url: str) -> dict[str, list[str]]:
    answer = report.get(url)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "invalid_query"), answer.json
    fields: dict[str, list[str]] = answer.json["error"]["fields"]
    return fields


def test_a_time_series_has_every_bucket_by_name(report: FlaskClient, story: None):
    assert report.get("/stats/timeseries?site_id=shop&from=2026-11-19&to=2026-11-21&grain=day").json == {
        "site_id": "shop",
        "from": "2026-11-19T00:00:00+00:00",
        "to": "2026-11-21T23:59:59+00:00",
        "results": [
            {"time": "2026-11-19", "visitors": 0, "visits": 0, "pageviews": 0},
            {"time": "2026-11-20", "visitors": 1, "visits": 1, "pageviews": 1},
            {"time": "2026-11-21", "visitors": 2, "visits": 3, "pageviews": 5},
        ],
    }


def test_a_repeated_site_counts_the_sites_as_one(report: FlaskClient, story: None, database: Database):
    tell(database, {"at": "21 10:20:00", "site_id": "blog", "path": "/"})
    answer = report.get(f"/stats/breakdown?{DAY}&site_id=blog&by=page&metrics=visitors,pageviews").json
    assert answer["site_id"] == ["shop", "blog"]
    assert [[*row.values()] for row in answer["results"]][:2] == [["/", 2, 4], ["/pricing", 2, 2]]
    assert rows(report, f"/stats/timeseries?{DAY}&site_id=blog&grain=day&metrics=visits") == [["2026-11-21", 4]]
    assert wrong(report, f"/stats/breakdown?{DAY}&site_id=") == {
        "site_id": ["Expected a string of 1 to 128 characters."]
    }


def test_without_a_grain_a_time_series_has_the_grain_that_suits_the_period(report: FlaskClient, story: None):
    hours = rows(report, f"/stats/timeseries?{DAY}&metrics=events")
    assert len(hours) == 24
    assert hours[10:13] == [["2026-11-21 10:00:00", 3], ["2026-11-21 11:00:00", 1], ["2026-11-21 12:00:00", 1]]
    days = rows(report, "/stats/timeseries?site_id=shop&metrics=events")
    assert (len(days), days[0], days[-1]) == (30, ["2026-10-24", 0], ["2026-11-22", 0]), "30 days, today the last one"
    assert rows(report, "/stats/timeseries?site_id=shop&period=month&grain=month&metrics=events") == [["2026-11-01", 7]]


def test_all_time_is_by_month_from_the_first_event(report: FlaskClient, database: Database):
    event = {"site_id": "shop", "event_type": "pageview", "timestamp": "1970-01-01T00:00:05Z"}
    EventStore(database).store([("0-1", load_event(event, NOW))], NOW)
    all_time = "/stats/timeseries?site_id=shop&period=all&metrics=pageviews"
    months = rows(report, all_time)
    assert (len(months), months[0], months[-1]) == (683, ["1970-01-01", 1], ["2026-11-01", 0])
    assert rows(report, f"{all_time}&grain=month") == months
    weeks = rows(report, f"{all_time}&grain=week")
    assert (len(weeks), weeks[0], weeks[-1]) == (2969, ["1969-12-29", 1], ["2026-11-16", 0])
    says = "The period has 20780 days, and the maximum is 10000. Use a grain of week or month, or a shorter period."
    assert wrong(report, f"{all_time}&grain=day") == {"grain": [says]}


def test_a_time_series_may_be_split(report: FlaskClient, story: None):
    assert rows(report, f"/stats/timeseries?{DAY}&grain=day&by=country&metrics=visits") == [
        ["2026-11-21", "(not set)", 1],
        ["2026-11-21", "DE", 1],
        ["2026-11-21", "FR", 1],
    ]


def test_a_breakdown_is_by_page_by_default(report: FlaskClient, story: None):
    assert report.get(f"/stats/breakdown?{DAY}").json == {
        "site_id": "shop",
        "from": "2026-11-21T00:00:00+00:00",
        "to": "2026-11-21T23:59:59+00:00",
        "total_rows": 3,
        "results": [
            {"page": "/pricing", "visitors": 2, "pageviews": 2},
            {"page": "(not set)", "visitors": 1, "pageviews": 0},
            {"page": "/", "visitors": 1, "pageviews": 3},
        ],
    }
    assert rows(report, f"/stats/breakdown?{DAY}&by=source, country&metrics=visits") == [
        ["Direct / None", "(not set)", 1], ["Direct / None", "FR", 1], ["Google", "DE", 1],
    ]  # fmt: skip
    assert rows(report, f"/stats/breakdown?{DAY}&by=prop.plan&metrics=events") == [["(none)", 5], ["pro", 1]]
    answer = report.get(f"/stats/breakdown?{DAY}&limit=1&offset=2").json
    assert (answer["total_rows"], answer["results"]) == (3, [{"page": "/", "visitors": 1, "pageviews": 3}])


@pytest.mark.parametrize(
    ("filters", "events"),
    [
        ("country=DE", 3),
        ("country=DE&country=FR", 4),
        ("country=DE&page=/", 1),
        ("country!=DE", 3),
        ("country!=DE&country!=FR", 2),
        ("page=/&page=/pricing&source!=Google", 3),
        ("prop.plan=pro", 1),
        ("prop.plan!=pro", 5),
        ("name=signup", 1),
        ("country=(not set)", 2),
    ],
)
def test_filters_are_parameters(report: FlaskClient, story: None, filters: str, events: int):
    assert rows(report, f"/stats/timeseries?{DAY}&grain=month&metrics=events&{filters}") == [["2026-11-01", events]]


def test_every_dimension_has_a_unique_short_name():
    assert len(SHORT_DIMENSIONS) == len(EVENT_DIMENSIONS) + len(VISIT_DIMENSIONS)


def test_goals_can_be_queried(report: FlaskClient, story: None, services: Services):
    services.sites.put(Site("shop", goals=(Goal("Signed up", event_type="signup"),)))
    url = f"/stats/breakdown?{DAY}&by=goal&metrics=visitors,conversion_rate"
    assert rows(report, url) == [["Signed up", 1, 50.0]]
    assert rows(report, f"{url}&goal=Signed up") == [["Signed up", 1, 50.0]]
    assert "goal" in wrong(report, f"{url}&goal=Other")


def test_numbers_of_a_property_in_a_url(report: FlaskClient, database: Database):
    bought = ({"at": f"21 10:0{n}:00", "event_type": "buy", "props": {"price": n + 0.5}} for n in range(3))
    tell(database, *bought)
    metrics = "metrics=sum:props:price,median:props:price"
    assert rows(report, f"/stats/breakdown?{DAY}&by=name&{metrics}") == [["buy", 4.5, 1.5]]
    assert rows(report, f"/stats/timeseries?{DAY}&grain=day&{metrics}") == [["2026-11-21", 4.5, 1.5]]
    assert "metrics" in wrong(report, f"/stats/breakdown?{DAY}&metrics=sum:props:")


def test_time_series_and_breakdowns_come_as_csv_too(report: FlaskClient, story: None):
    answer = report.get(f"/stats/breakdown?{DAY}&metrics=visitors,total_revenue&format=csv")
    assert answer.content_type == "text/csv; charset=utf-8"
    assert answer.text.splitlines() == [
        "page,visitors,total_revenue,total_revenue_currency", "/pricing,2,,", "(not set),1,49.9,USD", "/,1,,",
    ]  # fmt: skip
    answer = report.get(f"/stats/timeseries?{DAY}&grain=week", headers={"Accept": "text/csv"})
    assert answer.text.splitlines() == ["time,visitors,visits,pageviews", "2026-11-16,2,3,5"]


def test_a_table_for_excel_begins_with_a_byte_order_mark(report: FlaskClient, story: None):
    for url in (f"/stats/breakdown?{DAY}", f"/stats/timeseries?{DAY}&grain=week"):
        assert wrong(report, f"{url}&bom=yes") == {"bom": ["bom must be 0 or 1."]}
        table = report.get(f"{url}&format=csv").data
        assert table[:3] != b"\xef\xbb\xbf"
        assert report.get(f"{url}&format=csv&bom=1").data == b"\xef\xbb\xbf" + table
        assert report.get(f"{url}&format=csv&bom=0").data == table
        assert wrong(report, f"{url}&format=csv&bom=yes") == {"bom": ["bom must be 0 or 1."]}
    body = {"site_id": "shop", "metrics": ["visitors"], "date_range": "all"}
    answer = report.post("/api/v2/query?format=csv&bom=1", json=body)
    assert answer.data == b"\xef\xbb\xbfvisitors\r\n2\r\n"
    assert report.post("/api/v2/query?format=csv&bom=2", json=body).json == {
        "error": "The request is not valid: bom must be 0 or 1."
    }


def test_every_default_period_includes_today(report: FlaskClient, services: Services, database: Database):
    """In the site's own days: at noon UTC on the 22nd, it is the 23rd in Kiritimati."""
    services.sites.put(Site("shop", zone=ZoneInfo("Pacific/Kiritimati"), shows_visitors=True))
    tell(database, {"at": "22 11:00:00", "path": "/"})
    assert rows(report, "/stats/breakdown?site_id=shop") == [["/", 1, 1]]
    assert report.get("/stats/timeseries?site_id=shop").json["results"][-1] == {
        "time": "2026-11-23", "visitors": 1, "visits": 1, "pageviews": 1
    }  # fmt: skip
    history = report.get(
        "/stats/visitor?site_id=shop&user_id=ann", headers={"Authorization": f"Bearer {ADMIN_KEY}"}
    ).json
    assert (history["from"][:10], history["to"][:10], len(history["visits"])) == ("2026-10-25", "2026-11-23", 1)
    assert rows(report, "/stats/breakdown?site_id=shop&period=30d") == [], "as in Plausible, without today"


def test_from_without_to_ends_now(report: FlaskClient, database: Database):
    tell(database, {"at": "22 11:00:00", "path": "/"})
    answer = report.get("/stats/timeseries?site_id=shop&from=2026-11-20&metrics=events").json
    assert (answer["from"], answer["to"]) == ("2026-11-20T00:00:00+00:00", "2026-11-22T23:59:59+00:00")
    assert answer["results"][-1] == {"time": "2026-11-22", "events": 1}
    answer = report.get("/stats/timeseries?site_id=shop&from=2026-11-22T10:30:00Z&metrics=events").json
    assert (answer["from"], answer["to"]) == ("2026-11-22T10:30:00+00:00", "2026-11-22T12:00:00+00:00")
    assert [row["events"] for row in answer["results"]] == [0, 1, 0]


@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        ("", "site_id", "Missing"),
        ("site_id=", "site_id", "Missing"),
        ("site_id=" + "x" * 129, "site_id", "1 to 128"),
        (f"{DAY}&contry=DE", "contry", "Did you mean 'country'?"),
        (f"{DAY}&peroid=7d", "peroid", "Did you mean 'period'?"),
        (f"{DAY}&prop.=x", "prop.", "Unknown parameter. /docs lists all of them."),
        (f"{DAY}&\u00e4=x", "\u00e4", "Unknown parameter. /docs lists all of them."),
        (f"{DAY}&by=contry", "by", "'contry' is not a dimension. Did you mean 'country'?"),
        (f"{DAY}&by=page,page", "by", "unique"),
        (f"{DAY}&metrics=visitors,hits", "metrics", 'Invalid metric "hits"'),
        (f"{DAY}&metrics=conversion_rate", "metrics", "event:goal"),
        (f"{DAY}&limit=ten", "limit", "whole number"),
        (f"{DAY}&limit=0", "limit", ">= 1"),
        (f"{DAY}&offset=-1", "offset", "whole number"),
        (f"{DAY}&limit=1&limit=2", "limit", "more than once"),
        (f"{DAY}&period=7d", "period", "Send either"),
        (f"{DAY}&format=xml", "format", "json or csv"),
        (f"{DAY}&country=Germany", "country", "2-letter"),
        (f"{DAY}&page=/&country!=Germany", "country!", "2-letter"),
        ("site_id=shop&to=2026-11-21", "from", "Missing"),
        ("site_id=shop&from=2026-11-23", "from", "Invalid date range"),
        (f"{DAY}&metrics=visitor", "metrics", "Did you mean 'visitors'?"),
        ("site_id=shop&period=today", "period", "Did you mean 'day'?"),
        ("site_id=shop&from=2026-11-22&to=2026-11-21", "from", "Invalid date range"),
        ("site_id=shop&from=today&to=2026-11-21", "from", "Invalid date range"),
        ("site_id=shop&period=fortnight", "period", "Invalid date range"),
    ],
)
def test_an_invalid_parameter_is_named(report: FlaskClient, database: Database, query: str, field: str, says: str):
    for route in "timeseries", "breakdown":
        fields = wrong(report, f"/stats/{route}?{query}")
        assert [*fields] == [field]
        assert says in fields[field][0]


@pytest.mark.parametrize(
    ("route", "name", "says"),
    [
        ("realtime", "siteId", "Unknown field. Did you mean 'site_id'?"),
        ("realtime", "country", "Unknown field."),
        ("ledger", "form", "Unknown field. Did you mean 'from'?"),
        ("ledger", "first", "Unknown field."),
    ],
)
def test_reports_without_filters_suggest_the_closest_parameter_too(
    report: FlaskClient, database: Database, route: str, name: str, says: str
):
    assert wrong(report, f"/stats/{route}?site_id=shop&{name}=x") == {name: [says]}


def test_a_grain_is_one_of_four_and_only_time_series_accept_it(report: FlaskClient, database: Database):
    assert "grain" in wrong(report, f"/stats/timeseries?{DAY}&grain=year")
    assert "Did you mean 'day'?" in wrong(report, f"/stats/timeseries?{DAY}&grain=days")["grain"][0]
    assert "grain" in wrong(report, f"/stats/breakdown?{DAY}&grain=day")
    assert "grain" in wrong(report, "/stats/timeseries?site_id=shop&from=1990-01-01&to=2020-01-01&grain=hour")


# Realtime


def test_realtime_counts_the_last_minutes_up_to_now(report: FlaskClient, database: Database):
    minutes = [("a", 0), ("a", 1), ("b", 4.9), ("b", 5), ("c", 29), ("d", 30), ("e", -1), (None, 2)]
    for user, ago in minutes:
        at = (NOW - timedelta(minutes=ago)).strftime("%d %H:%M:%S.%f")[:-3]
        tell(database, {"at": at, "user_id": user, "path": f"/{user}"})
    tell(database, {"at": "22 11:59:00", "user_id": "f", "event_type": "signup", "path": "/f"})
    tell(database, {"at": "22 11:59:00", "user_id": "g", "site_id": "other"})
    assert report.get("/stats/realtime?site_id=shop").json == {
        "site_id": "shop",
        "as_of": "2026-11-22T12:00:00.123000+00:00",
        "last_5_minutes": {
            "visitors": 3,
            "pageviews": 4,
            "top_pages": [
                {"page": "/a", "pageviews": 2}, {"page": "/None", "pageviews": 1}, {"page": "/b", "pageviews": 1},
            ],
        },
        "last_30_minutes": {
            "visitors": 4,
            "pageviews": 6,
            "top_pages": [
                {"page": "/a", "pageviews": 2}, {"page": "/b", "pageviews": 2}, {"page": "/None", "pageviews": 1},
                {"page": "/c", "pageviews": 1},
            ],
        },
    }  # fmt: skip


def test_realtime_is_zero_without_events(report: FlaskClient, database: Database):
    nobody = {"visitors": 0, "pageviews": 0, "top_pages": []}
    answer = report.get("/stats/realtime?site_id=shop").json
    assert (answer["last_5_minutes"], answer["last_30_minutes"]) == (nobody, nobody)
    assert wrong(report, "/stats/realtime") == {"site_id": ["Missing data for required field."]}
    assert "country" in wrong(report, "/stats/realtime?site_id=shop&country=DE")


@pytest.mark.parametrize(
    "pipeline",
    [
        realtime_pipeline("shop", NOW),
        visitors_pipeline("shop", Period(NOW - timedelta(hours=2), NOW - timedelta(hours=1), ZoneInfo("UTC"))),
    ],
    ids=["the last half hour", "an hour"],
)
def test_realtime_reads_only_documents_of_its_minutes(database: Database, pipeline: list[dict[str, Any]]):
    tell(database, *[{"at": f"22 {hour:02}:45:00"} for hour in range(12)])
    command = {"aggregate": "events", "pipeline": pipeline, "cursor": {}}
    plan = database.command("explain", command, verbosity="executionStats")
    assert plan["stages"][0]["$cursor"]["executionStats"]["totalDocsExamined"] == 1


@pytest.mark.usefixtures("usual_limits")
def test_an_unreachable_or_frozen_mongodb_is_a_503(report: FlaskClient, services: Services, database: Database):
    nobody = MongoClient(f"mongodb://127.0.0.1:{pick_port(0)}", serverSelectionTimeoutMS=100)
    with pytest.raises(Unavailable):
        RealtimeReader(nobody["footfall"], 1, lambda: NOW).read("shop")
    nobody.close()
    pid = database.command("serverStatus")["pid"]
    with frozen([psutil.Process(pid)]):
        answer = report.get("/stats/realtime?site_id=shop")
    assert (answer.status_code, answer.json["error"]["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "1"
