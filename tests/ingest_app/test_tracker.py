"""The scripts as they are served. The browser tests in tests/system test what they do."""

import gzip
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from ingest_app.js.build import MOST_BYTES, build
from ingest_app.tracker import EXTRAS, STAND_IN, TRACKER

URL = "/js/footfall.js"
SERVED = {
    URL: TRACKER,
    "/js/footfall.extras.js": EXTRAS,
    "/script.js": STAND_IN,
    "/js/script.js": STAND_IN,
    "/js/plausible.js": STAND_IN,
    "/js/script.hash.outbound-links.js": STAND_IN,
    "/js/plausible.manual.js": STAND_IN,
}


@pytest.mark.parametrize("script", [TRACKER, STAND_IN, EXTRAS])
def test_a_served_script_is_what_make_tracker_builds(script: Path):
    assert build(script) == script.read_bytes(), "run `make tracker`"


@pytest.mark.parametrize(("url", "script"), SERVED.items())
def test_a_script_is_served_below_its_limit_of_bytes(ingest: FlaskClient, url: str, script: Path):
    answer = ingest.get(url, headers={"Accept-Encoding": "gzip, deflate, br, zstd"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert int(answer.headers["Content-Length"]) == len(answer.data) < MOST_BYTES[script]
    assert gzip.decompress(answer.data) == script.read_bytes()


def test_the_tracker_and_the_extras_have_at_most_2048_bytes_each():
    assert MOST_BYTES[TRACKER] == MOST_BYTES[EXTRAS] == 2048


@pytest.mark.parametrize("url", ["/js/other.js", "/js/scripts.js", "/js/script..js/x", "/plausible.js"])
def test_other_names_are_no_script(ingest: FlaskClient, url: str):
    assert ingest.get(url).status_code == 404


@pytest.mark.parametrize("accepted", [None, "identity", "gzip;q=0", "br"])
def test_a_client_that_does_not_accept_gzip_gets_the_plain_file(ingest: FlaskClient, accepted: str | None):
    answer = ingest.get(URL, headers={"Accept-Encoding": accepted} if accepted else {})
    assert "Content-Encoding" not in answer.headers
    assert answer.data == TRACKER.read_bytes()


def test_any_page_may_load_the_tracker(ingest: FlaskClient):
    answer = ingest.get(URL, headers={"Origin": "https://shop.example"})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Accept-Encoding" in answer.headers["Vary"]
    assert "Set-Cookie" not in answer.headers


def test_the_tracker_is_cached_for_an_hour_and_revalidated_by_its_etag(ingest: FlaskClient):
    plain, packed = (ingest.get(URL, headers={"Accept-Encoding": coding}) for coding in ("identity", "gzip"))
    assert packed.cache_control.public
    assert packed.cache_control.max_age == 3600
    assert "stale-while-revalidate=86400" in packed.headers["Cache-Control"]
    assert plain.headers["ETag"] != packed.headers["ETag"]
    again = ingest.get(URL, headers={"Accept-Encoding": "gzip", "If-None-Match": packed.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["Cache-Control"] == packed.headers["Cache-Control"]


def test_the_tracker_sets_no_cookie():
    assert "cookie" not in TRACKER.read_text()
