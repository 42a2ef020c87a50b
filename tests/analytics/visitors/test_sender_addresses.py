"""Counting hits from private addresses, and what the doctor says about them."""

from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from analytics.diagnostics.redis import ENOUGH_HITS, client_addresses, read_redis
from analytics.visitors.client import Client
from analytics.visitors.sender_addresses import _WITH_PRIVATE, SenderAddresses, SenderCounts, is_private
from tests.support.services import NOW

HOME, OFFICE = Client("81.2.69.142"), Client("10.0.0.7")


@pytest.mark.parametrize(
    ("address", "expected"),
    [("10.1.2.3", True), ("192.168.0.1", True), ("127.0.0.1", True), ("::1", True), ("fd00::1", True),
     ("81.2.69.142", False), ("2a02:908::1", False), ("", False), ("unknown", False)],
)  # fmt: skip
def test_private_addresses_are_known(address: str, expected: bool):
    assert is_private(address) is expected


@given(st.ip_addresses())
def test_private_addresses_are_those_of_ipaddress(address: IPv4Address | IPv6Address):
    assert is_private(str(address)) is address.is_private


def test_the_first_numbers_with_private_addresses_are_known():
    for first in range(256):
        some = [IPv4Address(f"{first}.{n}.{third}.1") for n in range(256) for third in (0, 2, 100, 113)]
        if any(address.is_private for address in some):
            assert str(first) in _WITH_PRIVATE


def test_hits_of_two_days_are_counted_and_no_address_is_kept(redis: Redis):
    senders = SenderAddresses(redis)
    senders.count([HOME, OFFICE, Client(), None], NOW - timedelta(days=1))
    senders.count([OFFICE], NOW)
    senders.count([HOME], NOW - timedelta(days=2))
    assert senders.read(NOW) == SenderCounts(known=3, private=2)
    keys = list(redis.scan_iter("footfall:senders:*"))
    assert (len(keys), min(redis.ttl(key) for key in keys) > 86_400) == (3, True)
    assert {name for key in keys for name in redis.hgetall(key)} == {b"known", b"private"}


@pytest.mark.parametrize(
    ("private", "public", "state", "part"),
    [
        (ENOUGH_HITS - 1, 0, "ok", "Too few hits"),
        (ENOUGH_HITS, 0, "warning", "100% of 500 hits"),
        (ENOUGH_HITS, ENOUGH_HITS, "ok", "50% of 1,000 hits"),
    ],
)
def test_the_doctor_warns_if_nearly_all_addresses_are_private(
    redis: Redis, private: int, public: int, state: str, part: str
):
    SenderAddresses(redis).count([OFFICE] * private + [HOME] * public, NOW)
    found = client_addresses(read_redis(redis, NOW.timestamp))
    assert (found.state, part in found.what, "TRUSTED_PROXIES" in found.remedy) == (state, True, state == "warning")
