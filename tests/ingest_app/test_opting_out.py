"""The opt-out page as a browser sees it, and the collector that honours the choice."""

import pytest
from flask.testing import FlaskClient

from analytics.journal.journal import Journal

EVENT = {"site_id": "shop", "event_type": "pageview"}
URL = "/opt-out?site_id=shop"


def choose(ingest: FlaskClient, choice: str, base: str = "https://stats.example", **headers: str):
    return ingest.post("/opt-out", base_url=base, data={"site_id": "shop", "choice": choice}, headers=headers)


def test_a_visitor_who_opts_out_is_not_counted_until_they_opt_in_again(ingest: FlaskClient, journal: Journal):
    assert "may be counted" in ingest.get(URL).text
    assert "is not counted" in choose(ingest, "out").text
    page = ingest.get(URL, base_url="https://stats.example")
    assert "is not counted" in page.text
    assert 'value="in"' in page.text
    answer = ingest.post("/events", json=[EVENT, EVENT | {"user_id": "ann"}], base_url="https://stats.example")
    assert (answer.status_code, answer.json["accepted"], answer.json["dropped"]) == (200, 0, 2)
    assert journal.waiting() == 0
    choose(ingest, "in")
    assert "may be counted" in ingest.get(URL, base_url="https://stats.example").text
    assert ingest.post("/event", json=EVENT, base_url="https://stats.example").status_code == 200
    assert journal.waiting() == 1


def test_over_https_browsers_send_the_cookie_from_pages_of_other_sites(ingest: FlaskClient):
    (cookie,) = choose(ingest, "out").headers.getlist("Set-Cookie")
    assert cookie.startswith("footfall_optout=1;")
    for part in ("Secure", "SameSite=None", "HttpOnly", "Path=/", "Max-Age=34560000"):
        assert part in cookie
    (cookie,) = choose(ingest, "out", "http://stats.example").headers.getlist("Set-Cookie")
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie


def test_the_page_holds_no_script_and_shows_a_name_as_text(ingest: FlaskClient):
    answer = ingest.get("/opt-out", query_string={"site_id": '"><script>alert(1)</script>{x}', "fbclid": "1"})
    assert answer.status_code == 200
    assert answer.mimetype == "text/html"
    assert "<script" not in answer.text
    assert "&lt;script&gt;" in answer.text
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_s_page_cannot_choose(ingest: FlaskClient, site: str):
    answer = choose(ingest, "in", **{"Sec-Fetch-Site": site})
    assert (answer.status_code, answer.json["error"]["code"]) == (403, "other_site")
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://other.example"},
        {"Origin": "https://stats.example.other.example"},
        {"Origin": "https://stats.example:8443"},
        {"Origin": "null"},
        {"Origin": "https://["},
        {"Referer": "https://other.example/page"},
        {"Origin": "https://other.example", "Referer": "https://stats.example/opt-out"},
    ],
)
def test_another_origin_cannot_choose_where_a_browser_does_not_say_sec_fetch_site(
    ingest: FlaskClient, headers: dict[str, str]
):
    answer = choose(ingest, "in", **headers)
    assert (answer.status_code, answer.json["error"]["code"]) == (403, "other_site")
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://stats.example"},
        {"Origin": "https://Stats.example:443"},
        {"Origin": "http://stats.example"},  # a proxy terminates TLS
        {"Referer": "https://stats.example/opt-out?site_id=shop"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://stats.public.example"},  # a proxy sends another Host
    ],
)
def test_the_page_s_own_form_can_choose_in_every_browser(ingest: FlaskClient, headers: dict[str, str]):
    assert choose(ingest, "out", **headers).status_code == 200
    assert ingest.get(URL).headers["Referrer-Policy"] == "same-origin"


@pytest.mark.parametrize("data", [{}, {"choice": "maybe"}, {"choice": "out", "site_id": "x" * 129}])
def test_an_invalid_choice_is_a_400(ingest: FlaskClient, data: dict[str, str]):
    assert ingest.post("/opt-out", data=data).status_code == 400
    assert ingest.get("/opt-out", query_string={"site_id": "x" * 129}).status_code == 400
