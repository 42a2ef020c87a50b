"""IP addresses: all spellings of an address become one form."""

from ipaddress import ip_network

import pytest

from analytics.addresses import plain_address, plain_network


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("203.0.113.9", "203.0.113.9"),
        (" 203.0.113.9:4711 ", "203.0.113.9"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8:1::1]:443", "2001:db8:1::1"),
        ('"[2001:db8:1::1]:443"', "2001:db8:1::1"),
        ("::ffff:10.0.0.5", "10.0.0.5"),
        ("::FFFF:a00:5", "10.0.0.5"),
        ("[::ffff:10.0.0.5]:443", "10.0.0.5"),
        ("::ffff:10.0.0.5:443", "10.0.0.5"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0]:443", "fe80::1"),
        ("::1", "::1"),
        ("2001:db8::1:443", "2001:db8::1:443"),  # its port cannot be distinguished from its last part
    ],
)
def test_an_address_has_one_form_for_every_spelling(written: str, plain: str):
    assert plain_address(written) == plain


@pytest.mark.parametrize(
    "written",
    ["", "unknown", "localhost", "203.0.113", "203.0.113.09", "203.0.113.256",
     "203.0.113.9:", "203.0.113.9:x", "203.0.113.9:123456", "[203.0.113.9",
     "[2001:db8::1]443", "[2001:db8::1]:x", "2001:db8::g", "_hidden", "1" * 10_000, "203.0.113.9, 198.51.100.7"],
)  # fmt: skip
def test_an_invalid_address_gives_none(written: str):
    assert plain_address(written) == ""


@pytest.mark.parametrize(
    ("written", "network"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("[2001:db8::1]", "2001:db8::1/128"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::/0", "::/0"),
    ],
)
def test_a_network_of_mapped_addresses_is_an_ipv4_network(written: str, network: str):
    assert plain_network(written) == ip_network(network)
