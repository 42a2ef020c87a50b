"""The id of an event: the same event always has the same id, and other events have other ids."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from analytics.events.event import EVENT_IDS, id_from_client, id_from_entry, new_id


def test_the_same_event_id_of_the_same_site_is_the_same_id():
    assert id_from_client("site", "order-1") == id_from_client("site", "order-1")


def test_derived_ids_never_change_between_versions():
    assert str(id_from_client("site-abc-123", "order-1")) == "1ed6cdc8-2bb3-5aba-a75e-52fa4af9ec71"
    assert str(id_from_entry("footfall:journal", "1-0")) == "8bc03ac7-c771-56bb-b040-ba9a9e1c792f"


@given(st.text(), st.text())
def test_an_id_is_the_uuid_of_version_5_that_python_derives(site_id: str, event_id: str):
    assert id_from_client(site_id, event_id) == uuid.uuid5(EVENT_IDS, f"{len(site_id)}:{site_id}{event_id}")


def test_two_sites_may_use_the_same_event_id():
    assert id_from_client("one", "1") != id_from_client("two", "1")


def test_the_boundary_between_site_and_event_id_changes_the_id():
    assert id_from_client("ab", "c") != id_from_client("a", "bc")
    assert id_from_client("1", "2:a") != id_from_client("12:", "a")


def test_a_new_id_is_a_uuid_of_version_7_and_later_than_the_one_before():
    first, second = new_id(), new_id()
    assert first.version == second.version == 7
    assert first < second
