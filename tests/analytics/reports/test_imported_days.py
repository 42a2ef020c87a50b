"""Queries that imported daily totals answer, alone and with events. The sample is Plausible's export, made by hand."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from analytics.queries.query import Query, of_days
from analytics.reports.imported_days import ImportsPlan, plan_imports
from analytics.reports.results import Refused, ranges_of_days
from analytics.sites.site import Site
from tests.analytics.imports.conftest import BEARER, Imports, imports
from tests.analytics.imports.test_plausible_export import visitors, zipped

__all__ = ["imports"]

DAYS = ["2025-01-01", "2025-01-03"]
ALL_VISITS = ["visitors", "visits", "pageviews", "views_per_visit", "bounce_rate", "visit_duration"]


@pytest.fixture
def sample(imports: Imports, tmp_path: Path) -> Imports:
    imports.run(zipped(tmp_path / "export.zip"))
    return imports


def ask(imports: Imports, metrics: list[str], *dimensions: str, **more: Any) -> dict[str, Any]:
    include = {"imports": True} | more.pop("include", {})
    body = {
        "site_id": "shop", "metrics": metrics, "date_range": DAYS, "dimensions": dimensions, "include": include,
    } | more  # fmt: skip
    answer = imports.report.post("/api/v2/query", json=body, headers=BEARER)
    assert answer.status_code == 200, answer.json
    found: dict[str, Any] = answer.json
    return found


def rows(imports: Imports, metrics: list[str], *dimensions: str, **more: Any) -> list[list[Any]]:
    answer = ask(imports, metrics, *dimensions, **more)
    assert answer["meta"]["imports_included"], answer["meta"]
    return [[*row["dimensions"], *row["metrics"]] for row in answer["results"]]


@pytest.fixture
def own(sample: Imports, tmp_path: Path) -> Callable[..., None]:
    """Stores a visit of the site's own, one pageview a minute from 10:00 UTC."""

    def store(day: str, user: str, *paths: str, **more: str) -> None:
        documents = [
            {"_id": f"{day}{user}{n}", "site_id": "shop", "event_type": "pageview", "path": path, "user_id": user,
             "timestamp": datetime.fromisoformat(f"{day}T10:0{n}:00+00:00"), **more}
            for n, path in enumerate(paths)
        ]  # fmt: skip
        sample.database["events"].insert_many(documents)

    return store


def test_the_totals_of_the_period_are_those_counted_by_hand(sample: Imports):
    assert rows(sample, ALL_VISITS) == [[9, 11, 16, 1.45, 45, 55]]
    assert rows(sample, ALL_VISITS, date_range=["2025-01-02", "2025-01-02"]) == [[2, 2, 3, 1.5, 50, 45]]
    assert rows(sample, ["events"]) == [[22]], "16 pageviews, and 6 custom events"


def test_without_include_there_are_only_events(sample: Imports):
    answer = ask(sample, ["visitors"], include={"imports": False})
    assert (answer["results"][0]["metrics"], answer["meta"]) == ([0], {})


def test_the_answer_says_which_days_are_imported_and_which_metrics_are_sums(sample: Imports):
    summed = {
        "code": "sum_of_days",
        "warning": "Imported visitors are counted by day. A visitor who came on several of these days counts several"
        " times.",
    }
    assert ask(sample, ["visitors", "visits"])["meta"] == {
        "imports_included": True, "imports_days": [DAYS], "metric_warnings": {"visitors": summed},
    }  # fmt: skip
    assert ask(sample, ["visitors"], "time:day")["meta"] == {"imports_included": True, "imports_days": [DAYS]}
    assert "metric_warnings" not in ask(sample, ["visits"])["meta"]


def test_by_day_week_and_month(sample: Imports):
    days = rows(sample, ["visitors", "bounce_rate", "visit_duration"], "time:day", include={"time_labels": True})
    assert days == [["2025-01-01", 3, 25, 90], ["2025-01-02", 2, 50, 45], ["2025-01-03", 4, 60, 30]]
    assert rows(sample, ["visits"], "time:week") == [["2024-12-30", 11]]
    assert rows(sample, ["visits"], "time:month") == [["2025-01-01", 11]]


@pytest.mark.parametrize(
    ("dimensions", "found"),
    [
        (["visit:source"], [["Direct / None", 4, 5], ["Google", 3, 4], ["Hacker News", 1, 1], ["newsletter", 1, 1]]),
        (["visit:channel"], [["Direct", 4, 5], ["Email", 1, 1], ["Organic Search", 3, 4], ["Organic Social", 1, 1]]),
        (["visit:utm_campaign"], [["(not set)", 8, 10], ["winter", 1, 1]]),
        (["visit:country_name"], [["France", 1, 1], ["Germany", 8, 10]]),
        (["visit:country", "visit:region"], [["DE", "DE-BE", 4, 5], ["DE", "DE-BY", 4, 5], ["FR", "FR-IDF", 1, 1]]),
        (["visit:device"], [["Desktop", 7, 9], ["Mobile", 2, 2]]),
        (["visit:browser"], [["Chrome", 8, 10], ["Firefox", 1, 1]]),
        (["visit:os", "visit:os_version"], [["Linux", "(not set)", 4, 5], ["iOS", "18.2", 2, 2],
                                            ["macOS", "10.15", 3, 4]]),
        (["visit:entry_page"], [["/", 9, 11]]),
        (["visit:exit_page"], [["/", 8, 9], ["/pricing", 2, 2]]),
        (["event:page"], [["/", 9, 11], ["/pricing", 2, 2]]),
        (["event:page", "event:hostname"], [["/", "blog.shop.example", 1, 2], ["/", "shop.example", 8, 9],
                                            ["/pricing", "shop.example", 2, 2]]),
    ],
)  # fmt: skip
def test_by_the_dimensions_of_a_table(sample: Imports, dimensions: list[str], found: list[list[Any]]):
    assert sorted(rows(sample, ["visitors", "visits"], *dimensions)) == found


def test_by_page_there_are_times_and_depths(sample: Imports):
    asked = rows(sample, ["pageviews", "time_on_page", "scroll_depth"], "event:page")
    # 195 s in 7 visits, 430 % in 5; 80 s in 2 visits, 160 % in 2
    assert sorted(asked) == [["/", 13, 28, 86], ["/pricing", 3, 40, 80]]


def test_custom_events_and_their_properties(sample: Imports):
    names = sorted(rows(sample, ["visitors", "events"], "event:name"))
    assert names == [["Outbound Link: Click", 2, 3], ["Signup", 3, 3], ["pageview", 9, 16]]
    clicked = {"filters": [["is", "event:name", ["Outbound Link: Click"]]]}
    assert rows(sample, ["events"], "event:props:url", **clicked) == [["https://pay.example/", 3]]
    assert sorted(rows(sample, ["events"], "event:props:plan")) == [["free", 1], ["pro", 2]]
    assert rows(sample, ["visitors"], "event:props:author") == [["Ann", 3]]
    assert rows(sample, ["events"], filters=[["is", "event:props:plan", ["pro"]]]) == [[2]]


@pytest.mark.parametrize(
    ("filters", "visits"),
    [
        ([["is", "visit:country", ["DE"]]], 10),
        ([["is_not", "visit:country", ["DE"]]], 1),
        ([["contains", "visit:country_name", ["fran"], {"case_sensitive": False}]], 1),
        ([["matches", "visit:browser", ["^Chr"]]], 10),
        ([["or", [["is", "visit:source", ["Google"]], ["is", "visit:utm_medium", ["email"]]]]], 5),
        ([["is", "visit:source", ["Direct / None"]]], 5),
        ([["is", "event:page", ["/pricing"]]], 2),
        ([["is", "visit:country", ["(not set)"]]], 0),
    ],
)
def test_filters_mean_the_same_as_for_events(sample: Imports, filters: list[Any], visits: int):
    assert rows(sample, ["visits"], filters=filters) == [[visits]]


def test_percentages_are_of_all_visitors(sample: Imports):
    """9 visitors. The pages have 11 visitors together, because two saw both pages."""
    assert sorted(rows(sample, ["percentage"], "visit:country")) == [["DE", 88.89], ["FR", 11.11]]
    assert sorted(rows(sample, ["percentage"], "event:page")) == [["/", 100.0], ["/pricing", 22.22]]
    known = {"filters": [["is_not", "visit:utm_campaign", ["(not set)"]]]}
    assert rows(sample, ["percentage"], "visit:utm_campaign", **known) == [["winter", 100.0]]


def test_a_day_with_events_counts_only_these(sample: Imports, own: Callable[..., None]):
    """The site was tried out on the second day, and has sent events since the fourth."""
    own("2025-01-02", "tester", "/", "/pricing", country="FR")
    own("2025-01-04", "ann", "/", country="DE")
    answer = ask(sample, ["visitors", "visits", "pageviews", "bounce_rate"], date_range=["2025-01-01", "2025-01-04"])
    assert answer["meta"]["imports_days"] == [["2025-01-01"] * 2, ["2025-01-03"] * 2]
    assert answer["results"][0]["metrics"] == [3 + 1 + 4 + 1, 4 + 1 + 5 + 1, 7 + 2 + 6 + 1, 45]  # 5 of 11
    by_day = rows(sample, ["visitors"], "time:day", date_range=["2025-01-01", "2025-01-04"])
    assert by_day == [["2025-01-01", 3], ["2025-01-02", 1], ["2025-01-03", 4], ["2025-01-04", 1]]
    by_place = rows(sample, ["visits"], "visit:country", date_range=["2025-01-01", "2025-01-04"])
    assert by_place == [["DE", 3 + 5 + 1], ["FR", 1 + 1]]


def test_the_days_are_those_of_the_site(sample: Imports, own: Callable[..., None]):
    sample.services.sites.put(Site("shop", zone=ZoneInfo("Asia/Tokyo")))
    own("2025-01-02", "ann", "/")
    sample.database["events"].update_many({}, {"$set": {"timestamp": datetime(2025, 1, 2, 15, tzinfo=UTC)}})
    assert rows(sample, ["visits"], "time:day") == [["2025-01-01", 4], ["2025-01-02", 2], ["2025-01-03", 1]]


def test_an_import_compares_with_events_and_with_an_import(sample: Imports, own: Callable[..., None]):
    own("2025-01-04", "ann", "/", "/pricing")
    before = {"comparisons": {"mode": "previous_period"}}
    answer = ask(sample, ["visits"], date_range=["2025-01-03", "2025-01-04"], include=before)
    (row,) = answer["results"]
    assert (row["metrics"], row["comparison"]["metrics"]) == ([6], [6])
    answer = ask(sample, ["visits"], "time:day", date_range=["2025-01-04", "2025-01-04"], include=before)
    assert answer["results"][0]["comparison"]["metrics"] == [5]
    assert answer["meta"]["imports_skip_reason"] == "out_of_range"


def test_order_limit_and_offset_apply_to_all_rows(sample: Imports, own: Callable[..., None]):
    own("2025-01-04", "ann", "/", source="Google")
    own("2025-01-04", "bob", "/", source="Bing")
    more = {"date_range": ["2025-01-01", "2025-01-04"], "order_by": [["visitors", "desc"], ["visit:source", "asc"]]}
    page = {"pagination": {"limit": 2, "offset": 1}, "include": {"total_rows": True}}
    answer = ask(sample, ["visitors"], "visit:source", **more, **page)
    assert [row["dimensions"][0] for row in answer["results"]] == ["Google", "Bing"]
    assert answer["meta"]["total_rows"] == 5


@pytest.mark.parametrize(
    ("asked", "reason", "said"),
    [
        ({"metrics": ["visitors"], "dimensions": ["time:hour"]}, "unsupported_interval", "by hour"),
        ({"date_range": ["2025-01-01T00:00:00Z", "2025-01-01T11:59:59Z"]}, "unsupported_interval", "whole days"),
        ({"dimensions": ["visit:country", "visit:browser"]}, "unsupported_query", "by visit:country and visit:browser"),
        ({"dimensions": ["visit:country"], "filters": [["is", "visit:os", ["iOS"]]]}, "unsupported_query",
         "of visitors by visit:country with a filter for visit:os"),
        ({"dimensions": ["visit:city"]}, "unsupported_query", "by visit:city"),
        ({"metrics": ["bounce_rate"], "dimensions": ["event:page"]}, "unsupported_query", "of bounce_rate"),
        ({"metrics": ["visitors", "events"]}, "unsupported_query", "of visitors, events"),
        ({"metrics": ["total_revenue"]}, "unsupported_query", "of total_revenue"),
        ({"metrics": ["sum:props:price"]}, "unsupported_query", "of sum:props:price"),
        ({"filters": [["contains", "event:page", ["/"]]]}, "unsupported_query", "event:page"),
        ({"filters": [["has_done", ["is", "visit:os", ["iOS"]]]]}, "unsupported_query", "visit:os"),
        ({"filters": [["not", ["has_done", ["is", "visit:os", ["iOS"]]]]]}, "unsupported_query", "visit:os"),
        ({"filters": [["greater", "visit:duration", [5]]]}, "unsupported_query", "visit:duration"),
        ({"filters": [["is", "event:props:plan", ["pro"]], ["is", "event:name", ["Signup"]]]}, "unsupported_query",
         "event:props:plan and event:name"),
        ({"metrics": ["events"], "dimensions": ["event:props:plan", "event:props:author"]}, "unsupported_query", "by"),
        ({"date_range": ["2025-02-01", "2025-02-28"]}, "out_of_range", ""),
        ({"site_id": "blog"}, "no_imported_data", ""),
    ],
)  # fmt: skip
def test_a_question_that_daily_totals_cannot_answer_is_answered_from_events_and_says_so(
    sample: Imports, asked: dict[str, Any], reason: str, said: str
):
    more = {"metrics": ["visitors"]} | asked
    answer = ask(sample, more.pop("metrics"), *more.pop("dimensions", []), **more)
    meta = answer["meta"]
    assert (meta["imports_included"], meta["imports_skip_reason"]) == (False, reason)
    assert said in meta.get("imports_warning", "")
    assert ("imports_warning" in meta) == bool(said)
    assert all(row["metrics"] in ([0], [0, 0], [None]) for row in answer["results"])


def test_additive_numbers_need_no_single_page(sample: Imports):
    assert rows(sample, ["pageviews"], filters=[["contains", "event:page", ["/p"]]]) == [[3]]
    assert rows(sample, ["pageviews"], "event:hostname") == [["shop.example", 14], ["blog.shop.example", 2]]


def test_all_time_begins_with_the_first_imported_day(sample: Imports, own: Callable[..., None]):
    own("2025-03-01", "ann", "/")
    answer = ask(sample, ["visits"], date_range="all")
    assert (answer["results"][0]["metrics"], answer["query"]["date_range"][0][:10]) == ([12], "2025-01-01")


def test_several_sites_as_one_have_the_imports_of_all(sample: Imports, own: Callable[..., None], tmp_path: Path):
    sample.run(zipped(tmp_path / "blog.zip", visitors(("2025-01-02", 20), ("2025-01-03", 30))), site="blog")
    own("2025-01-03", "ann", "/")  # of the first site, which then has no import on that day
    answer = ask(sample, ["visits"], "time:day", site_id=["shop", "blog"])
    assert [row["metrics"][0] for row in answer["results"]] == [4, 2 + 20, 1 + 30]
    assert answer["meta"]["imports_days"] == [DAYS]


def test_a_csv_has_imported_data_too(sample: Imports):
    body = {"site_id": "shop", "metrics": ["visits"], "date_range": DAYS, "dimensions": ["visit:device"],
            "include": {"imports": True}}  # fmt: skip
    answer = sample.report.post("/api/v2/query?format=csv", json=body, headers=BEARER)
    assert answer.text.split() == ["visit:device,visits", "Desktop,9", "Mobile,2"]


@pytest.mark.parametrize(("flag", "visits"), [("true", 11), ("false", 0)])
def test_version_1_includes_imports_as_plausible_does(sample: Imports, flag: str, visits: int):
    asked = f"site_id=shop&period=custom&date=2025-01-01,2025-01-03&metrics=visits&with_imported={flag}"
    answers = {
        name: sample.report.get(f"/api/v1/stats/{name}?{asked}{more}", headers=BEARER).json["results"]
        for name, more in (("aggregate", "&compare=previous_period"), ("timeseries", ""),
                           ("breakdown", "&property=visit:device"))
    }  # fmt: skip
    assert answers["aggregate"]["visits"]["value"] == visits
    assert sum(row["visits"] for row in answers["timeseries"]) == visits
    assert sum(row["visits"] for row in answers["breakdown"]) == visits


def test_a_removed_import_does_not_count(sample: Imports):
    (record,) = sample.services.imports.list("shop")
    assert sum(sample.services.imports.remove_all_of(record, None)) == 46
    assert ask(sample, ["visits"])["meta"] == {"imports_included": False, "imports_skip_reason": "no_imported_data"}


def test_a_query_of_too_many_totals_is_refused(sample: Imports, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("analytics.reports.imports_reader.MOST_IMPORTED_SUMS", 5)
    period = of_days(date(2025, 1, 1), date(2025, 1, 3), ZoneInfo("UTC"))
    query = Query("shop", ("visits",), period, ("visit:source",), imports=True)
    with pytest.raises(Refused) as refused:
        sample.services.reports.answer(replace(query, dimensions=("visit:source", "time:day")))
    assert refused.value.code == "memory_limit"
    assert len(sample.services.reports.answer(query).rows) == 4


def test_a_zone_whose_clocks_go_back_by_two_hours_has_no_rates_of_imported_visits():
    """Visits are then told apart by their events (LocalClock.unit)."""
    period = of_days(date(2025, 10, 1), date(2025, 10, 31), ZoneInfo("Antarctica/Troll"))
    assert isinstance(plan_imports(Query("shop", ("visits",), period)), ImportsPlan)
    assert not isinstance(plan_imports(Query("shop", ("bounce_rate",), period)), ImportsPlan)


def test_ranges_of_days():
    days = [date(2025, 1, 31), date(2025, 2, 1), date(2025, 2, 3)]
    assert ranges_of_days(days) == [(days[0], days[1]), (days[2], days[2])]
    assert ranges_of_days([]) == []
