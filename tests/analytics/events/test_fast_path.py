"""The fast path of an event's schema agrees with marshmallow: on what it returns, and on what is wrong."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from itertools import product
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError, fields
from msgspec import structs

from analytics.events.event import Event
from analytics.events.schema import (
    NOT_DECODED,
    PLAIN_URL,
    EventSchema,
    ExportedSchema,
    InvalidEvent,
    JournalSchema,
    decode_entry,
    decode_sent,
    decode_several,
    load_event,
    read_entry,
)
from analytics.schema_fields import Code, FastSchema, Flag, Id, Moment, Text, Whole, normalized

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LEAST = {"site_id": "site", "event_type": "page_view"}
FIELDS = JournalSchema().load_fields
FIELDS_OF_CLIENTS = {*EventSchema().load_fields, "ip", "user_agent"}


def slow(schema: FastSchema) -> FastSchema:
    """The schema with fields that take no short cut."""
    for field in schema.load_fields.values():
        field.deserialize = partial(fields.Field.deserialize, field)
    return schema


ENTRY = LEAST | {
    "id": "6f1f1b0e2f5c5d0a9c1e0f00fa11c0de", "timestamp": "2026-11-22T12:00:00.123456+00:00",
    "path": "/\u00e9\U0001f600",
    "props": {"plan": "pro", "n": 10.5, "\u00fc": None}, "revenue": {"amount": "10.10", "currency": "USD"},
    "engagement_time": 7, "interactive": False, "country": "DE", "sequence": "1763632801000-000003",
}  # fmt: skip
HIT = {name: value for name, value in ENTRY.items() if name not in ("id", "sequence")}
HIT |= {"url": "https://shop.example/\u00fc?a=b", "ip": "192.0.2.1", "user_agent": "\u00fc", "event_id": "1"}
PIECES = [b'"', b"\\u00e9", b"\\ud800", b"\\ud83d\\ude00",
          b"\xff", b"\n", b"\0", b"\xc3", b"{", b"}", b",", b"1e9", b"\\",
          b'"site_id":"again",', b'"unknown":"\xff",', b'"id":null,', b"\xef\xbb\xbf"]  # fmt: skip

BOTH = [(schema(), slow(schema())) for schema in (EventSchema, ExportedSchema, JournalSchema)]

texts = st.text(st.characters(exclude_categories=()), max_size=20)  # with halves of surrogate pairs
texts |= st.sampled_from(["", " ", "\0", "null", "\ud800", "\U0001f600"])
numbers = st.integers() | st.integers(-1, 101) | st.sampled_from([2**63, 10**400, 86_400_000, 86_400_001]) | st.floats()
scalars = st.none() | st.booleans() | numbers | numbers.map(str) | texts
anything = scalars | st.lists(scalars, max_size=2) | st.dictionaries(texts, scalars | st.just([]), max_size=2)

DATES = ["2026-11-22", "20261122", "2026-W47-7", "2026-02-30", "1969-12-31", "1970-01-01", "9998-12-31", "9999-01-01",
         "9999-12-31", "0001-01-01", "2026-1-1", ""]  # fmt: skip
SEPARATORS = ["T", "t", " ", "x", "+", "-", "\ud800", ""]
TIMES = ["10:00:00", "00:00", "10", "24:00:00", "24:00:01", "23:59:60", "23:59:59.9999999", "100000", "10:61:00",
         "10:00:00.123987", "10:00:00.1234567890", "10:00:00,5", "10:00:00.", ""]  # fmt: skip
OFFSETS = ["Z", "z", "+00:00", "-00:00", " +00:00", "+05:30", "-23:59", "+24:00", "+0000", "+00:00:01", "ZZ", "+00", ""]
moments = (
    st.builds("{}{}{}{}".format, *map(st.sampled_from, (DATES, SEPARATORS, TIMES, OFFSETS)))
    | st.integers(10**9, 10**13)
    | st.floats(1e9, 1e13)
)
urls = st.from_regex(PLAIN_URL, fullmatch=True) | st.builds(
    "{}{}{}".format,
    st.sampled_from(["https://", "http://", "//", "/", "", "HTTPS://", "about:", "javascript:", "x-y://"]),
    st.sampled_from(["shop.example", "a:8443", "[::1]", "[bad", "a b", "\u00fc.example", "u:p@a", "1.2.3.4", "a..b"]),
    st.sampled_from(["", "/", "/a?b=c#d", "/\u00fc", "/[x]", "/a b", "/\\", "/\n", "?q", "/" + "x" * 8180]),
)  # fmt: skip
codes = st.from_regex("[A-Z]{1,3}(-[A-Z0-9]{0,4})?") | st.from_regex("[0-9]{12,21}-[0-9]{5,21}")
ids = st.uuids().map(str) | st.uuids().map(lambda each: each.hex) | st.text("0aF_- {}\u0660", min_size=32, max_size=32)
money = st.fixed_dictionaries({}, optional={"amount": scalars, "currency": st.sampled_from(["USD", "us"]) | scalars})
props = st.dictionaries(texts, scalars, max_size=4) | st.dictionaries(st.text("ab", min_size=5), scalars, max_size=40)
USUAL = {Moment: moments, Code: codes, Flag: st.booleans(), Id: ids, Whole: numbers}
NAMED = {"props": props, "revenue": money, "url": urls}


def values_of(name: str) -> st.SearchStrategy[Any]:
    """What the field is for, texts around its longest, and anything."""
    field = FIELDS[name]
    its = NAMED[name] if name in NAMED else USUAL.get(type(field), texts)
    if isinstance(field, Text):
        longest = field.validators[0].max
        letters = st.sampled_from(["x", "\u00e9", "\U0001f600"])
        its |= st.builds(str.__mul__, letters, st.sampled_from([longest - 1, longest, longest + 1]))
    return its | anything


bodies = st.builds(
    lambda least, sent, unknown: least | dict(sent) | unknown,
    st.sampled_from([LEAST, LEAST, LEAST, {"site_id": "site"}, {}]),
    st.lists(st.one_of([st.tuples(st.just(name), values_of(name)) for name in FIELDS]), max_size=5),
    st.dictionaries(texts, anything, max_size=1),
)


def result(load: Callable[[Any], dict[str, Any]], body: dict[str, Any]) -> object:
    """What `load` makes of a body, in no order, or None if it rejects the body."""
    try:
        return {name: repr(value) for name, value in load(body).items()}
    except ValidationError:
        return None


def faults(load: Callable[[], object]) -> object:
    try:
        load()
    except ValidationError as error:
        return normalized(error)
    except InvalidEvent as error:
        return error.fields
    return None


def is_decoded(raw: bytes) -> bool:
    """Whether msgspec reads the entry. If it does, json and marshmallow must read the same."""
    try:
        decoded = decode_entry(raw)
    except NOT_DECODED:
        return False
    assert repr(decoded) == repr(read_entry(raw))
    return True


def is_sent_decoded(raw: bytes) -> bool:
    """Whether msgspec reads a client's event. If it does, json and marshmallow must read the same event."""
    try:
        sent = decode_sent(raw)
    except NOT_DECODED:
        return False
    body = json.loads(raw)
    assert repr(event_of(sent)) == repr(event_of(body))
    assert [sent.get("ip"), sent.get("user_agent")] == [body.get("ip"), body.get("user_agent")]
    assert body.keys() <= FIELDS_OF_CLIENTS
    return True


def event_of(body: object) -> Event:
    """The event, without an id that is random."""
    event = load_event(body, NOW)
    return event if event.id.version == 5 else structs.replace(event, id=UUID(int=0))


def assert_agrees(body: dict[str, Any]) -> None:
    for is_ascii in (True, False):
        raw = json.dumps(body, ensure_ascii=is_ascii).encode(errors="surrogatepass")
        is_decoded(raw)
        is_sent_decoded(raw)
    for fast, marshmallow in BOTH:
        assert result(fast.load_fast, body) == result(marshmallow.load, body)
        assert faults(lambda: fast.load(body)) == faults(lambda: marshmallow.load(body))  # noqa: B023
    wrong = faults(lambda: BOTH[0][1].load(body))
    assert faults(lambda: load_event(body, NOW)) == wrong
    assert (faults(lambda: load_event(body, NOW, explain=False)) is None) == (wrong is None)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(bodies)
@example({})
@example(LEAST | {"site_id": None})
def test_both_agree_on_bodies_of_any_fields(body: dict[str, Any]):
    assert_agrees(body)


@pytest.mark.parametrize(
    "name", ["site_id", "hostname", "event_id", "url", "id", "timestamp", "props", "revenue", "country", "interactive",
             "engagement_time"]
)  # fmt: skip
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_both_agree_on_every_kind_of_field(name: str, data: st.DataObject):
    assert_agrees(LEAST | {name: data.draw(values_of(name))})


@pytest.mark.parametrize("name", ["event_id", "visitor_id", "client", "url"])
def test_an_empty_text_that_means_null_is_null_in_both(name: str):
    assert_agrees(LEAST | {name: ""})


@pytest.mark.parametrize("name", ["hostname", "path", "user_id", "referrer"])
def test_an_empty_text_that_does_not_mean_null_is_decoded_by_msgspec(name: str):
    assert is_decoded(json.dumps(LEAST | {name: ""}).encode())
    assert_agrees(LEAST | {name: ""})


def test_both_agree_on_every_way_to_write_a_time():
    field = Moment()
    shortly = lambda value: {"": field.deserialize(value)}  # noqa: E731
    fully = lambda value: {"": fields.Field.deserialize(field, value)}  # noqa: E731
    for parts in product(DATES, SEPARATORS, TIMES, OFFSETS):
        written = "".join(parts)
        assert result(shortly, written) == result(fully, written), written


@settings(deadline=None)
@given(st.data())
def test_damaged_entries_are_read_by_msgspec_as_by_json_or_not_at_all(data: st.DataObject):
    entry = data.draw(st.sampled_from([ENTRY, HIT]))
    raw = json.dumps(entry, ensure_ascii=False).encode()
    start = data.draw(st.integers(0, len(raw)))
    piece = data.draw(st.sampled_from(PIECES) | st.binary(max_size=4))
    damaged = raw[:start] + piece + raw[start + data.draw(st.integers(0, 3)) :]
    is_decoded(damaged)
    is_sent_decoded(damaged)


def test_a_usual_entry_is_decoded_by_msgspec():
    assert is_decoded(json.dumps(ENTRY).encode())
    assert is_decoded(json.dumps(LEAST).encode())


@pytest.mark.parametrize("body", [HIT, LEAST, LEAST | {"ip": None, "path": "", "timestamp": 1763632801}])
def test_a_usual_event_of_a_client_is_decoded_by_msgspec(body: dict[str, Any]):
    assert is_sent_decoded(json.dumps(body).encode())


@pytest.mark.parametrize("wrong", [{"more": 1}, {"ip": 5}, {"id": "0" * 32}, {"site_id": ""}, {"url": "no url"}])
def test_other_events_of_clients_are_left_to_json(wrong: dict[str, Any]):
    assert not is_sent_decoded(json.dumps(HIT | wrong).encode())


def test_several_events_are_decoded_as_one():
    one = decode_sent(json.dumps(HIT).encode())
    assert decode_several(json.dumps([HIT, HIT]).encode()) == ([one, one], None)
    assert decode_several(json.dumps({"events": [HIT], "sent_at": 5}).encode()) == ([one], 5)
    for body in (HIT, [HIT, 5], {"events": HIT}, {"events": [HIT], "more": 1}, [HIT | {"url": "no url"}], 5, None):
        with pytest.raises(NOT_DECODED):
            decode_several(json.dumps(body).encode())


@pytest.mark.parametrize("value", ["1e400", "-0", "-0.0", "9" * 400, "12345678901234567890.5", "NaN", "[" * 100_000])
def test_numbers_and_nesting_are_decoded_as_json_or_not_at_all(value: str):
    for name in ("props", "revenue"):
        is_decoded(f'{{"site_id":"a","event_type":"b","{name}":{{"amount":{value},"currency":"USD"}}}}'.encode())
