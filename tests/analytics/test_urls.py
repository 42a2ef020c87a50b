"""Hosts, origins and URLs: all spellings become one form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.urls import ascii_host, plain_host, plain_origin, split_url

BUECHER = "xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("shop.example", "shop.example"),
        ("WWW.Shop.Example.", "shop.example"),
        ("shop.example:8443", "shop.example"),
        ("bücher.example", BUECHER),
        ("BÜCHER.example.", BUECHER),
        ("bu\u0308cher.example", BUECHER),
        ("XN--BCHER-KVA.example:443", BUECHER),
        ("b%C3%BCcher.example", BUECHER),
        ("bücher\u3002example", BUECHER),
        ("straße.example", "xn--strae-oqa.example"),
        ("i❤.example", "xn--i-7iq.example"),
        ("my_shop.example", "my_shop.example"),
        ("bü_cher.example", "xn--b_cher-3ya.example"),
        ("https://anna:secret@shop.example:8443/a?token=S", "shop.example"),
        ("shop.example/a?token=S", "shop.example"),
        ("anna@shop.example", "shop.example"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("localhost:3000", "localhost"),
        ("", ""),
    ],
)
def test_a_host_has_one_form_for_every_spelling(written: str, host: str):
    assert plain_host(written) == host


@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("https://Shop.example/", "https://shop.example"),
        ("https://shop.example:443", "https://shop.example"),
        ("https://shop.example.", "https://shop.example"),
        ("https://shop.example:8443", "https://shop.example:8443"),
        ("https://www.shop.example", "https://www.shop.example"),
        ("https://bücher.example", f"https://{BUECHER}"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("null", None),
        ("shop.example", None),
        ("https://shop.example/a", None),
        ("https://anna@shop.example", None),
        ("https://shop.example?a", None),
        ("", None),
    ],
)
def test_an_origin_has_one_form(written: str, origin: str | None):
    assert plain_origin(written) == origin


@given(st.text(st.characters()) | st.text("abü%:/\\@?#[].* \t1").map(lambda text: f"https://{text}"))
def test_any_text_is_accepted_as_a_host_or_rejected_without_an_error(text: str):
    for read in (ascii_host, plain_host, plain_origin):
        read(text)
    try:
        url = split_url(text)
    except ValueError:
        return
    assert not {*"@/?#\\ "} & {*url.host}
