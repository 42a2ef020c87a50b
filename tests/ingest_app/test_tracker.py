"""The answer of /js/footfall.js. tests/system/test_tracker_in_browser.py tests what the script does."""

import gzip

import pytest
from flask.testing import FlaskClient

from ingest_app.js.build import BUILT, MOST_BYTES, build

URL = "/js/footfall.js"


def test_the_served_tracker_is_what_make_tracker_builds():
    assert build() == BUILT.read_bytes(), "run `make tracker`"


def test_the_tracker_is_below_2048_bytes_gzipped_as_it_is_served(ingest: FlaskClient):
    answer = ingest.get(URL, headers={"Accept-Encoding": "gzip, deflate, br, zstd"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert int(answer.headers["Content-Length"]) == len(answer.data) < MOST_BYTES == 2048
    assert gzip.decompress(answer.data) == BUILT.read_bytes()


@pytest.mark.parametrize("accepted", [None, "identity", "gzip;q=0", "br"])
def test_a_client_that_does_not_accept_gzip_gets_the_plain_file(ingest: FlaskClient, accepted: str | None):
    answer = ingest.get(URL, headers={"Accept-Encoding": accepted} if accepted else {})
    assert "Content-Encoding" not in answer.headers
    assert answer.data == BUILT.read_bytes()


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
    assert "cookie" not in BUILT.read_text()
