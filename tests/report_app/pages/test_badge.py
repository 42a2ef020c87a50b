"""The badge of a public site."""

from typing import Any
from xml.etree import ElementTree

from flask.testing import FlaskClient
from pymongo.database import Database

from analytics.sites.site import Site
from config.services import Services
from report_app.pages.badge import BADGE_KEPT
from tests.support.services import tell


def test_a_public_site_has_a_badge_and_no_other(report: FlaskClient, services: Services, story: None):
    services.sites.put(Site("shop", domains=("shop.example",)))
    services.sites.put(Site("not-public"))
    services.sharing.set_public("shop", True)
    answer = report.get("/badge/shop.svg")
    assert (answer.status_code, answer.mimetype) == (200, "image/svg+xml")
    assert answer.headers["Cache-Control"] == f"public, max-age={BADGE_KEPT}"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src")
    assert "Set-Cookie" not in answer.headers
    query = {"site_id": "shop", "metrics": ["visitors"], "date_range": "30d"}
    visitors = report.post("/api/v2/query", json=query).json["results"][0]["metrics"][0]
    image = ElementTree.fromstring(answer.text)  # noqa: S314  our own image
    texts = ["".join(each.itertext()) for each in image.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["visitors in 30 days", str(visitors)]
    assert visitors > 1
    assert report.get("/badge/shop.example.svg").text == answer.text
    closed, unknown = (report.get(f"/badge/{site}.svg") for site in ("not-public", "not-existing"))
    assert (closed.status_code, unknown.status_code) == (404, 404)
    assert closed.text.replace("not-public", "not-existing") == unknown.text
    services.sharing.set_public("shop", False)
    assert report.get("/badge/shop.svg").status_code == 404


def test_the_number_of_a_badge_is_kept(report: FlaskClient, services: Services, database: Database[Any], story: None):
    services.sharing.set_public("shop", True)
    first = report.get("/badge/shop.svg").text
    tell(database, {"at": "21 16:00:00", "user_id": "carl", "path": "/"})
    assert report.get("/badge/shop.svg").text == first
