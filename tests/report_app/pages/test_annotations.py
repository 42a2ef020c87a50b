"""Annotations of the chart: where they are shown, and who may change them."""

import re
from datetime import date
from typing import Any

import pytest
from flask.testing import FlaskClient
from pymongo.database import Database

from analytics.dashboards.annotations import MOST_ANNOTATIONS, Annotation
from config.services import Services
from tests.support.accounts import Browser, path_of
from tests.support.services import tell

PAGE = "/site/shop?period=7d&figure=visits"
HOSTILE = "\"><img src=x onerror=alert(1)><script>alert('x')</script>{{7*7}}"


@pytest.fixture
def owner(owner: Browser, database: Database[dict[str, Any]]) -> Browser:
    tell(database, {"at": "16 10:00:00", "path": "/"}, {"at": "20 10:00:00", "path": "/"})
    return owner


def annotate(browser: Browser, day: str, text: str) -> Any:
    return browser.post("/annotate/shop?period=7d&figure=visits", page=PAGE, day=day, text=text)


def flags(page: str) -> list[tuple[str, str]]:
    """The buckets of the chart that have a note."""
    return re.findall(r'<tr [^>]*data-note="([^"]*)"[^>]*><th scope="row">([^<]*)</th>', page)


def test_an_annotation_is_a_flag_at_its_day_in_every_grain(owner: Browser, services: Services):
    assert path_of(annotate(owner, "2026-11-18", "  Launch  day ")) == PAGE
    annotate(owner, "2026-11-18", "Launch day")  # sent twice, it is one
    annotate(owner, "2026-11-18", "Newsletter")
    annotate(owner, "2026-10-01", "Before the period")
    assert flags(owner.get(PAGE).text) == [("Launch day; Newsletter", "Wed 18 Nov")]
    for grain, bucket in (("hour", "Wed 18 Nov, 00:00"), ("week", "Week of 16 Nov 2026"), ("month", "November 2026")):
        page = owner.get(f"/parts/hero/shop?period=30d&grain={grain}").text
        assert flags(page) == [("Launch day; Newsletter", bucket)], grain
    found = services.annotations.list("shop", date(2026, 11, 18), date(2026, 11, 18))
    owner.post(f"/remove-annotation/{found[0].id}/shop?period=7d", page=PAGE)
    services.annotations.remove("other", found[1].id)
    assert flags(owner.get(PAGE).text) == [("Newsletter", "Wed 18 Nov")]


@pytest.mark.parametrize(
    ("day", "text"),
    [
        ("", "x"),
        ("tomorrow", "x"),
        ("2026-11-31", "x"),
        ("20261118", "x"),
        ("2026-11-18", " "),
        ("2026-11-18", "x" * 121),
    ],
)
def test_an_invalid_annotation_is_refused(owner: Browser, services: Services, day: str, text: str):
    assert annotate(owner, day, text).status_code == 400
    assert services.annotations.list("shop", date.min, date.max) == []


def test_a_site_has_a_limit_of_annotations(owner: Browser, services: Services, database: Database[dict[str, Any]]):
    database["annotations"].insert_many(
        {"_id": f"{n}", "site_id": "shop", "day": "2026-01-01", "text": f"{n}"} for n in range(MOST_ANNOTATIONS)
    )
    assert "at most 500 annotations" in annotate(owner, "2026-11-18", "one more").text
    database["annotations"].delete_one({"_id": "0"})
    for _ in range(2):  # sent twice, it is one
        assert annotate(owner, "2026-11-18", "the last").status_code == 303


def test_a_viewer_sees_annotations_and_cannot_change_them(
    report: FlaskClient, services: Services, database: Database[dict[str, Any]]
):
    tell(database, {"at": "18 10:00:00", "path": "/"})
    services.annotations.add(Annotation("shop", date(2026, 11, 18), HOSTILE))
    page = report.get(PAGE).text
    assert len(flags(page)) == 1
    assert "<img" not in page
    assert "/annotate/" not in page
    assert "/remove-annotation/" not in page
