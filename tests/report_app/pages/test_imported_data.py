"""The dashboard shows imported daily totals, marks them, and leaves them out on request."""

import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from pymongo.database import Database

from tests.analytics.imports.conftest import Imports, imports
from tests.analytics.imports.test_plausible_export import zipped
from tests.report_app.pages.test_routes import HTML

__all__ = ["imports"]

PERIOD = "from=2025-01-01&to=2025-01-04"
SHOWN = PERIOD.replace("&", "&amp;")
NOTED, NOT_NOTED = "with imported data", "without imported data"


@pytest.fixture
def imported(imports: Imports, tmp_path: Path) -> Imports:
    imports.run(zipped(tmp_path / "export.zip"))
    return imports


def get(report: FlaskClient, path: str) -> str:
    answer = report.get(path, headers=HTML)
    assert answer.status_code == 200, answer.text
    return answer.text


def figures(page: str) -> list[str]:
    return re.findall(r'<span class="v">([^<]*)</span>', page)


def points(page: str) -> list[tuple[str, bool]]:
    """The value of each bucket, and whether it is marked as imported."""
    found = re.findall(r'<tr data-tick="[^"]*" data-now="([^"]*)"([^>]*)>', page)
    return [(value, "data-imported" in marks) for value, marks in found]


def test_a_site_with_imported_data_only_has_a_dashboard(report: FlaskClient, imported: Imports):
    page = get(report, f"/site/shop?{PERIOD}&compare=none")
    assert figures(page) == ["9", "11", "16", "1.4", "45%", "55s"]
    assert points(page) == [("3", True), ("2", True), ("4", True), ("0", False)]
    assert page.count("<small>imported</small>") == 3
    assert "The visitors of several imported days are the sum" in page
    assert f'href="/site/shop?{SHOWN}&amp;compare=none&amp;imports=no">Hide imported data' in page


def test_imported_data_can_be_left_out(report: FlaskClient, imported: Imports):
    page = get(report, f"/parts/hero/shop?{PERIOD}&compare=none&imports=no")
    assert (figures(page)[0], points(page), NOTED in page) == ("0", [], False)
    assert f'href="/site/shop?{SHOWN}&amp;compare=none">Show imported data' in page
    assert NOTED not in get(report, f"/parts/panel/places/shop?{PERIOD}&imports=no")


def test_a_day_of_the_site_s_own_is_not_marked(report: FlaskClient, imported: Imports):
    imported.run("ga4.jsonl")  # in November 2026
    page = get(report, "/parts/hero/shop?from=2024-12-01&to=2026-11-30&compare=none&grain=month")
    marks = [(value, mark) for value, mark in points(page) if value != "0"]
    assert marks == [("9", True), ("2", False)]


@pytest.mark.parametrize(
    ("panel", "said"),
    [
        ("pages", NOTED),
        ("sources", NOTED),
        ("places", NOTED),
        ("devices", NOTED),
        ("places&tabs=places.city", NOT_NOTED),
        ("devices&tabs=devices.screen", NOT_NOTED),
        ("goals&tabs=goals.event", NOTED),
        ("goals&tabs=goals.outbound", NOTED),
        ("goals&tabs=goals.prop%252Eplan", NOTED),
    ],
)
def test_panels_say_whether_they_have_imported_data(report: FlaskClient, imported: Imports, panel: str, said: str):
    name, _, tabs = panel.partition("&")
    for part in ("parts/panel", "list"):
        page = get(report, f"/{part}/{name}/shop?{PERIOD}&{tabs.replace('%252E', '.')}")
        assert f">{said}<" in page, page


def test_a_site_without_imports_has_no_word_of_them(report: FlaskClient, imports: Imports, database: Database):
    imports.run("ga4.jsonl")
    for path in ("/site/shop", "/parts/panel/places/shop", "/list/goals/shop"):
        page = get(report, f"{path}?from=2026-11-01&to=2026-11-30&tabs=places.city")
        assert "imported data" not in page.lower()


def test_a_filter_that_daily_totals_cannot_answer_is_told(report: FlaskClient, imported: Imports):
    page = get(report, f"/parts/hero/shop?{PERIOD}&f=is,city,Berlin")
    assert (f">{NOT_NOTED}<" in page, "Hide imported data" in page) == (True, False)


def test_the_table_of_the_chart_marks_imported_rows(report: FlaskClient, imported: Imports):
    table = get(report, f"/csv/chart/shop?{PERIOD}&compare=none").split()
    assert table == ["time:day,visitors,imported", "2025-01-01,3,1", "2025-01-02,2,1", "2025-01-03,4,1",
                     "2025-01-04,0,0"]  # fmt: skip
    assert get(report, f"/csv/devices/shop?{PERIOD}&tabs=devices.device").split() == [
        "visit:device,visitors,percentage,visits,bounce_rate,visit_duration",
        "Desktop,7,77.78,9,44,57",
        "Mobile,2,22.22,2,50,45",
    ]
