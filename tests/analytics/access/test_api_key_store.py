"""API keys in MongoDB: how long a secret is valid, and when its use is recorded."""

from dataclasses import replace
from datetime import timedelta

import pytest
from pymongo.database import Database

from analytics.access.api_key import READ_SCOPE
from analytics.access.store import ApiKeyStore
from analytics.published_copy import COPY_KEPT_FOR
from tests.support.services import NOW


def test_an_api_key_ends_when_it_expires_or_is_revoked_or_with_its_grace(database: Database):
    now, clock = [NOW], [1000.0]
    keys = ApiKeyStore(database, lambda: now[0], lambda: clock[0])
    other = ApiKeyStore(database, lambda: now[0], lambda: clock[0])  # another process
    key, secret = keys.create("ci", [READ_SCOPE], ["shop"], NOW + timedelta(days=9))

    def finds(store: ApiKeyStore, secret: str) -> bool:
        found = store.find(secret)
        assert found is None or replace(found, last_used_at=None) == key
        return found is not None

    assert finds(keys, secret)
    assert finds(other, secret)
    _, new = keys.rotate(key.id, timedelta(hours=1)) or pytest.fail("not rotated")
    assert new != secret
    clock[0] += COPY_KEPT_FOR
    assert all(finds(store, either) for store in (keys, other) for either in (secret, new))
    now[0] += timedelta(hours=1)
    assert not finds(keys, secret)
    assert not finds(other, secret)
    assert finds(keys, new)
    assert finds(other, new)
    _, newest = keys.rotate(key.id, timedelta(0)) or pytest.fail("not rotated")
    assert not finds(keys, new)
    assert finds(other, new)  # as long as the copy is kept
    clock[0] += COPY_KEPT_FOR
    assert not finds(other, new)
    assert finds(keys, newest)
    keys.revoke(key.id)
    assert not finds(keys, newest)
    assert keys.rotate(key.id, timedelta(0)) is None
    _, secret = keys.create("ci", [READ_SCOPE], None, now[0] + timedelta(seconds=1))
    assert keys.find(secret) is not None
    now[0] += timedelta(seconds=1)
    assert keys.find(secret) is None  # at once, although it is cached


def test_a_grace_does_not_grow_when_a_key_is_rotated_again(database: Database):
    now = [NOW]
    keys = ApiKeyStore(database, lambda: now[0])
    key, first = keys.create("ci", [READ_SCOPE], None, None)
    keys.rotate(key.id, timedelta(hours=1))
    _, third = keys.rotate(key.id, timedelta(days=9)) or pytest.fail("not rotated")
    assert keys.find(first)
    now[0] += timedelta(hours=1)
    assert not keys.find(first)
    assert keys.find(third)


def test_the_use_of_a_key_is_recorded_once_a_minute(database: Database):
    clock, writes = [1000.0], []
    keys = ApiKeyStore(database, lambda: NOW, lambda: clock[0])
    carry = keys.carry
    keys.carry = lambda uses: [writes.append(uses), carry(uses)]  # counts, and calls the original
    key, secret = keys.create("ci", [READ_SCOPE], None, None)
    for _ in range(100):
        keys.find(secret)
        clock[0] += 1
    assert writes == [{key.id: NOW}] * 2
    assert [found.last_used_at for found in keys.list()] == [NOW]
