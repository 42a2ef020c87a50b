"""An event as a document: the bytes are those that MongoDB's driver would send, and reading them gives the event."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import bson
import pytest
from bson.codec_options import CodecOptions
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from analytics.events.documents import UNSENDABLE, DocumentWriter, event_of
from analytics.events.event import DESCRIBED, Event, Revenue, sequence_of
from analytics.interval import as_datetime
from tests.support.services import NOW

OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True, uuid_representation=4)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=5)
MOMENTS = st.integers(-(10**12), 10**14).map(as_datetime)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXTS
EVENTS = st.builds(
    Event,
    id=st.uuids(),
    site_id=TEXTS,
    event_type=TEXTS,
    occurred_at=MOMENTS,
    received_at=MOMENTS,
    **{name: st.none() | TEXTS for name in ("hostname", "path", "user_id", "visitor_id")},
    sequence=st.none() | TEXTS.filter(bool),
    described=st.none() | st.dictionaries(st.sampled_from(DESCRIBED), TEXTS.filter(bool), min_size=1),
    interactive=st.booleans(),
    engagement_time=st.none() | st.integers(0, 86_400_000),
    scroll_depth=st.none() | st.integers(0, 100),
    revenue=st.none() | st.just(Revenue(Decimal("-10.500"), "EUR")),
    props=st.none() | st.dictionaries(NAMES, SCALARS, max_size=3),
    clamped=st.booleans(),
    exported_id=st.none() | st.uuids(),
)


@given(event=EVENTS)
def test_what_is_written_is_the_drivers_bson_and_is_read_as_the_same_event(event: Event):
    writer = DocumentWriter(NOW)
    raw = writer.write("1763632801000-3", event)
    assert writer.write("1763632801000-3", event) == raw, "remembered texts change nothing"
    document = bson.decode(raw, OPTIONS)
    assert bson.encode(document, codec_options=OPTIONS) == raw
    assert (document["entry_id"], document["created_at"]) == ("1763632801000-3", NOW)
    assert event_of(document) == structs.replace(event, sequence=event.sequence or sequence_of("1763632801000-3"))


@pytest.mark.parametrize("change", [{"path": "\ud800"}, {"props": {"a\0b": 1}}, {"described": {"city": "x" * 2**24}}])
def test_what_mongodb_cannot_hold_raises(change: dict[str, Any]):
    event = Event(id=UUID(int=1), site_id="s", event_type="e", occurred_at=NOW, received_at=NOW, **change)
    with pytest.raises(UNSENDABLE):
        DocumentWriter(NOW).write("0-1", event)
