"""`python -m footfall export` on real stores: Plausible's tables, which are imported into another site."""

import csv
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from analytics.queries.query import of_days
from analytics.reports.plausible_tables import days_with_events, write_plausible_tables
from analytics.sites.site import Site
from config.services import Services
from config.settings import Settings
from footfall.export import export_command
from tests.analytics.imports.conftest import Imports, imports
from tests.ingest_app.test_import import sent

__all__ = ["imports"]

Run = Callable[..., Result]
OF_VISITS = ["visitors", "visits", "pageviews", "bounce_rate", "visit_duration"]
OF_PAGES = ["visitors", "visits", "pageviews", "time_on_page", "scroll_depth"]
UTM = ("utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term")
# The questions that each table answers. A visitor may be in several rows of a day, so that only visits and events are
# added over rows.
QUESTIONS: list[tuple[list[str], list[str]]] = [
    (OF_VISITS, []),
    (OF_PAGES, ["event:page", "event:hostname"]),
    (OF_VISITS, ["visit:entry_page"]),
    (OF_VISITS, ["visit:exit_page"]),
    (OF_VISITS, [f"visit:{name}" for name in ("source", "referrer", *UTM)]),
    (["visits", "pageviews"], ["visit:source", "visit:utm_campaign"]),
    (OF_VISITS, ["visit:country", "visit:region"]),
    (OF_VISITS, ["visit:device"]),
    (OF_VISITS, ["visit:browser", "visit:browser_version"]),
    (OF_VISITS, ["visit:os", "visit:os_version"]),
    (["visitors", "events"], ["event:name", "event:props:url", "event:props:path"]),
    (["events"], ["event:name"]),
]


@pytest.fixture
def run(settings: Settings) -> Run:
    return lambda *words: CliRunner().invoke(export_command, [str(word) for word in words], obj=settings)


def answers(imports: Imports, site: str) -> list[Any]:
    more: dict[str, Any] = {"site": site, "include": {"imports": True}}
    found = []
    for metrics, dimensions in QUESTIONS:
        if "event:name" in dimensions:
            more["filters"] = [["is_not", "event:name", ["pageview", "engagement"]]]
        answer = imports.ask(metrics, "time:day", *dimensions, **more)
        found.append(sorted([value or 0 for value in row] for row in answer))  # a time of 0 is None in daily totals
    return found


def rows(folder: Path, table: str) -> list[dict[str, str]]:
    """The rows of all files of a table."""
    found: list[dict[str, str]] = []
    for path in folder.glob(f"imported_{table}_*.csv"):
        with path.open() as file:
            found += csv.DictReader(file)
    return found


def test_the_files_bring_the_totals_of_each_day_into_another_site(run: Run, imports: Imports, tmp_path: Path):
    imports.run("umami_website_event.csv", "umami_session.csv", "umami_event_data.csv")
    imports.run("access.log")
    ran = run(tmp_path / "files", "--site", "shop")
    assert (ran.exit_code, "The totals of 2 days with events" in ran.stdout) == (0, True), ran.output
    files = sorted((tmp_path / "files").iterdir())
    assert [path.name for path in files[:2]] == [
        "imported_browsers_20261102_20261103.csv", "imported_custom_events_20261102_20261103.csv",
    ]  # fmt: skip
    assert len(files) == 10
    assert imports.run(*files, site="back").skipped == {}
    assert answers(imports, "back") == answers(imports, "shop")


def test_systems_have_plausible_s_names_and_cities_are_0(run: Run, imports: Imports, tmp_path: Path):
    imports.run("umami_website_event.csv", "umami_session.csv")
    assert run(tmp_path, "--site", "shop", "--to", "2026-11-02").exit_code == 0
    assert run(tmp_path, "--site", "shop", "--from", "2026-11-03").exit_code == 0
    systems, places = rows(tmp_path, "operating_systems"), rows(tmp_path, "locations")
    assert {row["operating_system"] for row in systems} == {"Windows", "Mac", "iOS"}
    assert {(row["country"], row["city"]) for row in places} == {("DE", "0"), ("US", "0"), ("FR", "0")}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--site", "shpo"], "There is no site 'shpo'. Did you mean 'shop'?"),
        (["--site", "shop"], "the site has no events on these days."),
        (["--site", "shop", "--from", "2026-11-02", "--to", "2026-11-01"], "the site has no events on these days."),
    ],
)
def test_an_export_without_totals_is_refused_with_the_reason(
    run: Run, services: Services, tmp_path: Path, words: list[str], said: str
):
    services.sites.put(Site("shop"))
    ran = run(tmp_path, *words)
    assert (ran.exit_code, said in ran.stderr) == (1, True), ran.output


@examples(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=sent(), zone=st.sampled_from(["UTC", "Asia/Tokyo", "America/New_York"]))
def test_any_events_give_the_same_visitors_visits_and_events_by_day(
    imports: Imports, ingest: FlaskClient, tmp_path: Path, body: Any, zone: str
):
    for name in ("events", "dirty_hours", "segment_manifests", "imports", "imported_days"):
        imports.database[name].delete_many({})
    for path in tmp_path.glob("*.csv"):
        path.unlink()
    services = imports.services
    site = Site("shop", zone=ZoneInfo(zone))
    services.sites.put(site)
    services.sites.put(Site("back", zone=ZoneInfo(zone)))
    events = [event | {"country": "US"} if "region" in event else event for event in body]  # a region alone is not read
    assert ingest.post("/events", json=events).status_code == 200
    imports.drain()
    ask, period = services.reports.answer, of_days(date(2026, 11, 1), date(2026, 11, 30), site.zone)
    days = days_with_events(ask, site, period)
    if days:
        assert [*write_plausible_tables(ask, site, days, tmp_path)] == days
        assert imports.run(*sorted(tmp_path.glob("*.csv")), site="back").skipped == {}
    assert answers(imports, "back") == answers(imports, "shop")
