"""The address of a page: the parts of a URL or a path that are kept."""

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.enrichment.sources import read_referrer
from analytics.events.coercion import page
from analytics.events.page_urls import FROM_ROOT, PLAIN_URL, bare_hostname, read_path, read_url
from analytics.urls import plain_host, split_url


@given(st.from_regex(PLAIN_URL, fullmatch=True) | st.from_regex(FROM_ROOT, fullmatch=True))
def test_a_url_that_is_not_split_to_be_checked_is_one(text: str):
    url = split_url(text)
    assert url.has_netloc if url.scheme else url.path.startswith("/")


@pytest.mark.parametrize(
    ("url", "hostname", "path"),
    [
        ("https://shop.example/pricing", "shop.example", "/pricing"),
        ("https://WWW.Shop.Example", "shop.example", "/"),
        ("http://shop.example:8080/a/?q=anna%40mail.example#top", "shop.example", "/a/"),
        ("https://shop.example/#/cart", "shop.example", "/#/cart"),
        ("https://shop.example/app#!/cart?token=1", "shop.example", "/app#!/cart"),
        ("https://shop.example/#prices", "shop.example", "/"),
        ("https://shop.example/caf%C3%A9/a%20b", "shop.example", "/café/a b"),
        ("https://shop.example/a%2Fb%3Fc%23d%25e%00", "shop.example", "/a%2Fb%3Fc%23d%25e%00"),
        ("https://shop.example/%ff%zz", "shop.example", "/%ff%zz"),
        ("https://anna:secret@shop.example/a", "shop.example", "/a"),
        ("https://xn--bcher-kva.example/a", "xn--bcher-kva.example", "/a"),
        ("https://b\u00fccher.example./a", "xn--bcher-kva.example", "/a"),
        ("https://b%C3%BCcher.example:8443/a", "xn--bcher-kva.example", "/a"),
        ("https://STRA\u00dfE.example/a", "xn--strae-oqa.example", "/a"),
        ("https://i\u2764.example/a", "xn--i-7iq.example", "/a"),
        ("HTTPS:\\\\anna:secret@shop.example\\a?token=S", "shop.example", "/a"),
        ("https://shop\n.example/a\t?token=S", "shop.example", "/a"),
        ("https://shop.example/reset%3Ftoken=S", "shop.example", "/reset"),
        ("https://shop.example/reset%253Ftoken%253DS/x", "shop.example", "/reset"),
        ("https://shop.example/wiki/Who%3F", "shop.example", "/wiki/Who%3F"),
        ("https://shop.example/a;jsessionid=S/b", "shop.example", "/a/b"),
        ("https://shop.example/#/access_token=S&x=1", "shop.example", "/#/"),
        ("https://shop.example/#/cart;id=7?token=S", "shop.example", "/#/cart"),
        ("https://[2001:db8::1]/a", "2001:db8::1", "/a"),
        ("app://localhost/start", "localhost", "/start"),
        ("file:///C:/page.html", None, "/C:/page.html"),
        ("/relative?a=1", None, "/relative"),
        ("https://shop.example/" + "a" * 9000, "shop.example", "/" + "a" * 2047),
    ],
)
def test_a_url_becomes_hostname_and_path(url: str, hostname: str | None, path: str):
    page = read_url(url)
    assert page
    assert (page.hostname, page.path) == (hostname, path)


@pytest.mark.parametrize(
    "url",
    ["data:text/html,hello", "javascript:void(0)", "about:blank", "https://[::1", "blob:x", "not a url", "pricing",
     "https:///x?token=S", "http://[bad/?token=S", "https://a b/", "shop.example:8443/a", "https://shop.example:x/"],
)  # fmt: skip
def test_a_url_that_is_not_a_page_gives_none(url: str):
    assert read_url(url) is None


def test_only_the_parameters_that_a_site_names_stay_in_a_path_in_its_order():
    page = read_url("https://shop.example/search?email=anna&Page=2&q=red+shoes&page=3", ("q", "page"))
    assert page
    assert page.path == "/search?q=red+shoes&page=2"
    assert page.parameter("q") == "red shoes"
    assert page.parameter("missing", "email") == "anna"


def test_parameters_of_a_hash_route_count_too():
    page = read_url("https://shop.example/#/cart?utm_source=mail&empty=&%20=1")
    assert page
    assert (page.path, page.parameter("utm_source"), page.parameter("empty")) == ("/#/cart", "mail", None)


def test_a_value_is_text_that_can_be_stored():
    page = read_url("https://shop.example/?a=%ED%A0%80%00x&b=" + "%C3%BC" * 300)
    assert page
    assert (page.parameter("a") or "").encode().endswith(b" x")
    assert page.parameter("b") == "ü" * 255


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/pricing", "/pricing"),
        ("/a%20b//c/", "/a%20b//c/"),
        ("/a#top", "/a"),
        ("/a#access_token=S", "/a"),
        ("/a%3Ftoken=S", "/a"),
        ("/a\t?token=S", "/a"),
        ("pricing", "/pricing"),
        (" /pricing ", "/pricing"),
        ("\\pricing", "/pricing"),
        ("https://shop.example/pricing?token=S#top", "/pricing"),
        ("HTTPS:\\\\anna:secret@shop.example\\pricing?token=S", "/pricing"),
        ("//anna:secret@shop.example/pricing?token=S", "/pricing"),
        ("https:anna:secret@shop.example/pricing", "/"),
        ("anna:secret@shop.example/pricing", "/"),
        ("http://[bad/?token=S", "/"),
        ("#/cart", "/#/cart"),
        ("//double//slash", "//double//slash"),
        ("/a?email=anna", "/a"),
        ("/a?q=1&email=anna#top", "/a?q=1"),
        ("/?x=1#/cart", "/#/cart"),
        ("?x=1", "/"),
        ("not a path", "/not a path"),
    ],
)
def test_a_path_that_was_given_only_loses_its_query(path: str, kept: str):
    assert read_path(path, ("q",)).path == kept


def test_a_fragment_that_the_url_has_too_is_a_route_of_the_client():
    """Footfall's tracker with data-hash and Plausible's `h` put it into both."""
    assert read_path("/app#cart", fragment="cart?token=S").path == "/app#cart"
    assert read_path("/app#cart", fragment="other").path == "/app"
    assert read_path("/app#token=S", fragment="token=S").path == "/app"


@pytest.mark.parametrize(
    ("written", "path"),
    [("/pricing/", "/pricing"), ("/pricing", "/pricing"), ("/", "/"), ("/a//", "/a"), ("/a/?q=1&x=2", "/a?q=1"),
     ("/a/#/b/", "/a#/b"), ("pricing/", "/pricing")],
)  # fmt: skip
def test_a_site_may_drop_the_last_slash(written: str, path: str):
    assert read_path(written, ("q",), keeps_slash=False).path == path
    if written.startswith("/"):
        page = read_url(f"https://shop.example{written}", ("q",), keeps_slash=False)
        assert page
        assert page.path == path


def test_a_hostname_has_the_form_of_site_domains():
    assert bare_hostname("WWW.Shop.Example.") == "shop.example"
    assert bare_hostname("") is None
    assert bare_hostname(None) is None


def test_a_host_longer_than_any_valid_host_is_not_normalized():
    """One such host took a quarter of a second, at the collector and in a worker."""
    long = "\u0300\u0327" * 4000
    began = process_time()
    for url in (f"https://{long}.example/", f" \thttps:/\t/{long}.example/", f"//{long}"):
        assert read_url(url) is None or len(read_url(url).hostname or "") <= 253
        read_referrer(url)
        page(url)
    assert plain_host(long) == long[:253]
    assert process_time() - began < 0.1
    assert read_url("https://b\u00fccher.example/a").hostname == "xn--bcher-kva.example"
    assert read_url(f"https://shop.example/{long}").hostname == "shop.example"
