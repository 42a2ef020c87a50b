"""What the schema accepts and rejects, and that the journal returns exactly what it was given."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack
from msgspec.structs import replace

from analytics.events.event import DESCRIBED, Event, Revenue, packed
from analytics.events.schema import EventSchema, InvalidEvent, dump_event, load_event, load_journal_event, readable

NOW = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
ENTRY_ID = UUID("00000000-0000-5000-8000-000000000001")
LEAST = {"site_id": "site", "event_type": "page_view"}
TEXTS = {
    "hostname": 253, "referrer": 2048, "source": 255, "channel": 128, "utm_medium": 255, "utm_source": 255,
    "utm_campaign": 255, "utm_content": 255, "utm_term": 255, "device": 128, "browser": 128, "browser_version": 128,
    "os": 128, "os_version": 128, "city": 128, "language": 35,
}  # fmt: skip
DESCRIPTIVE = ["hostname", *DESCRIBED, "interactive", "engagement_time", "scroll_depth", "revenue"]


def faults(**fields: object) -> dict[str, list[str]]:
    with pytest.raises(InvalidEvent) as caught:
        load_event(LEAST | fields, NOW)
    return caught.value.fields


def test_an_event_needs_a_site_and_a_type_and_no_more():
    event = load_event(LEAST, NOW)
    assert (event.site_id, event.event_type) == ("site", "page_view")
    assert (event.path, event.user_id, event.props) == (None, None, None)
    assert event.occurred_at == event.received_at == NOW.replace(microsecond=123000)


def test_all_invalid_fields_are_named_at_once():
    with pytest.raises(InvalidEvent) as caught:
        load_event({"path": 3, "props": []}, NOW)
    assert caught.value.fields == {
        "site_id": ["Missing data for required field."],
        "event_type": ["Missing data for required field."],
        "path": ["Not a valid string."],
        "props": ["Not an object."],
    }


@pytest.mark.parametrize(
    ("field", "longest"),
    [("site_id", 128), ("event_type", 128), ("path", 2048), ("user_id", 256), ("event_id", 100), *TEXTS.items()],
)
def test_a_text_may_not_exceed_its_documented_length(field: str, longest: int):
    load_event(LEAST | {field: "x" * longest}, NOW)
    assert list(faults(**{field: "x" * (longest + 1)})) == [field]


@pytest.mark.parametrize("field", ["site_id", "event_type"])
def test_ids_may_not_be_empty(field: str):
    assert list(faults(**{field: ""})) == [field]


@pytest.mark.parametrize("field", ["site_id", "event_type", "path", "user_id", "event_id", "country", "region", *TEXTS])
@pytest.mark.parametrize("value", [1, True, [], {}, 1.5, "half a pair: \ud800"])
def test_values_that_are_not_text_are_refused(field: str, value: object):
    assert list(faults(**{field: value})) == [field]


@pytest.mark.parametrize("field", ["path", "user_id", "timestamp", "event_id", "props", *DESCRIPTIVE])
def test_null_is_the_same_as_omitted(field: str):
    event = load_event(LEAST | {field: None}, NOW)
    assert event == replace(load_event(LEAST, NOW), id=event.id)


@pytest.mark.parametrize("field", DESCRIPTIVE)
def test_empty_optional_fields_count_as_omitted(field: str):
    event = load_event(LEAST | {field: ""}, NOW)
    assert event == replace(load_event(LEAST, NOW), id=event.id)


@pytest.mark.parametrize("field", ["timestamp", "event_id", "url"])
def test_an_empty_time_id_or_url_counts_as_omitted(field: str):
    event = load_event(LEAST | {field: ""}, NOW)
    assert event == replace(load_event(LEAST, NOW), id=event.id)


@pytest.mark.parametrize(
    "url", ["not a url", "pricing", "shop.example:8443/a", "http://", "http://[bad/", "https://a b/"]
)
def test_an_invalid_url_is_refused(url: str):
    (error,) = faults(url=url)["url"]
    assert error.startswith("Not a URL such as https://")


@pytest.mark.parametrize(
    "url", ["https://shop.example", "/a?b", "//shop.example/a", "about:blank", "app://localhost/a"]
)
def test_a_url_of_any_scheme_is_accepted(url: str):
    assert load_event(LEAST | {"url": url}, NOW).url == url


def test_an_empty_user_id_names_no_visitor():
    assert load_event(LEAST | {"user_id": ""}, NOW).user_id is None


def test_unknown_fields_are_kept_out():
    assert not hasattr(load_event(LEAST | {"ip": "192.0.2.1"}, NOW), "ip")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-11-22T10:00:00Z", datetime(2026, 11, 22, 10, tzinfo=UTC)),
        ("2026-11-22T10:00:00+05:30", datetime(2026, 11, 22, 4, 30, tzinfo=UTC)),
        ("2026-11-22T10:00:00", datetime(2026, 11, 22, 10, tzinfo=UTC)),
        ("2026-11-22T10:00:00.123987Z", datetime(2026, 11, 22, 10, 0, 0, 123000, tzinfo=UTC)),
        ("2026-11-22t10:00:00z", datetime(2026, 11, 22, 10, tzinfo=UTC)),
        ("2026-11-22 10:00:00.5 -0530", datetime(2026, 11, 22, 15, 30, 0, 500000, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        ("2016-12-31T23:59:60.5+00:00", datetime(2017, 1, 1, 0, 0, 0, 500000, tzinfo=UTC)),
        ("2026-11-22T24:00:00Z", datetime(2026, 11, 23, tzinfo=UTC)),
        ("2026-11-22T24:00+02:00", datetime(2026, 11, 22, 22, tzinfo=UTC)),
        ("2026-11-22", datetime(2026, 11, 22, tzinfo=UTC)),
        ("2026-11-22+00:00", datetime(2026, 11, 22, tzinfo=UTC)),
        (1795255200, datetime(2026, 11, 21, 10, tzinfo=UTC)),
        ("1795255200", datetime(2026, 11, 21, 10, tzinfo=UTC)),
        (1795255200.25, datetime(2026, 11, 21, 10, 0, 0, 250000, tzinfo=UTC)),
        (1795255200123, datetime(2026, 11, 21, 10, 0, 0, 123000, tzinfo=UTC)),
        ("1795255200123", datetime(2026, 11, 21, 10, 0, 0, 123000, tzinfo=UTC)),
    ],
)
def test_a_timestamp_is_utc_in_whole_milliseconds(written: object, meant: datetime):
    event = load_event(LEAST | {"timestamp": written}, NOW)
    assert event.occurred_at == meant
    assert event.occurred_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "written",
    ["yesterday", 170000000, True, "2026-11-22T16:00:27.029:Z", "2026-11-22T24:01:00Z", "2026-11-22T10:61:00Z",
     "17000000000", 10**20, float("inf"), "2026-02-30T00:00:00Z",
     "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00",
     "1969-12-31T23:59:59Z", ["2026-11-22T10:00:00Z"]],
)  # fmt: skip
def test_an_invalid_timestamp_is_refused(written: object):
    assert list(faults(timestamp=written)) == ["timestamp"]


def test_props_may_be_any_scalar_under_any_name():
    props = {"plan": "pro", "seats": 3, "price": 9.5, "trial": False, "none": None, "a.b": 1, "$c": 2**63 - 1, "": "x"}
    assert list(faults(props=props)) == ["props"]
    del props[""]
    assert load_event(LEAST | {"props": props}, NOW).props == props


@pytest.mark.parametrize(
    "props",
    [{"a": []}, {"a": {}}, {"a": 2**63}, {"a": float("nan")}, {"a": float("inf")}, {"a": "\udfff"}, {"\ud800": 1},
     {"a\0b": 1}, {str(n): n for n in range(31)}, "plan=pro"],
)  # fmt: skip
def test_props_that_cannot_be_stored_are_refused(props: object):
    assert list(faults(props=props)) == ["props"]


def test_an_event_may_have_thirty_props():
    assert len(load_event(LEAST | {"props": {str(n): n for n in range(30)}}, NOW).props or {}) == 30


def test_optional_fields_are_kept_by_name():
    assert set(DESCRIBED) < set(EventSchema().fields)
    event = load_event(
        LEAST | {"source": "Google", "country": "US", "region": "US-CA", "city": "", "hostname": "a"}, NOW
    )
    assert event.described == {"source": "Google", "country": "US", "region": "US-CA"}
    assert event.hostname == "a"
    assert load_event(LEAST, NOW).described is None


@pytest.mark.parametrize(
    ("field", "value"),
    [*[("country", bad) for bad in ("us", "USA", "U", "U1", "ÄÖ", "US\n")],
     *[("region", bad) for bad in ("CA", "US-", "US-CALI", "us-ca", "US_CA", "US-CA\n")]],
)  # fmt: skip
def test_codes_must_have_their_form(field: str, value: str):
    assert list(faults(**{field: value})) == [field]


@pytest.mark.parametrize(
    ("field", "value"),
    [*[("interactive", bad) for bad in ("false", "yes", 0, 1, 1.0, 2, [], {})],
     *[("engagement_time", bad) for bad in (-1, 86_400_001, 1.5, "7", True, [])],
     *[("scroll_depth", bad) for bad in (-1, 101, 50.5, "50", False, {})]],
)  # fmt: skip
def test_invalid_engagement_numbers_are_refused(field: str, value: object):
    assert list(faults(**{field: value})) == [field]


def test_a_whole_number_is_accepted_in_every_json_notation():
    assert load_event(LEAST | {"scroll_depth": 70.0}, NOW).scroll_depth == 70
    assert type(load_event(LEAST | {"scroll_depth": 70.0}, NOW).scroll_depth) is int


def test_an_event_is_interactive_by_default():
    assert load_event(LEAST, NOW).interactive is True
    assert load_event(LEAST | {"interactive": True}, NOW).interactive is True
    assert load_event(LEAST | {"interactive": False}, NOW).interactive is False


@pytest.mark.parametrize(
    ("written", "meant"),
    [(10.1, "10.1"), ("10.1", "10.1"), (3, "3"), (0, "0"), (-5.25, "-5.25"), (0.0005, "0.001"), ("0.0004999", "0"),
     (-0.0005, "-0.001"), (2.6755, "2.676"), (1e-7, "0"), ("999999999999.9994", "999999999999.999"), ("+7", "7"),
     ("0." + "3" * 5000, "0.333")],
)  # fmt: skip
def test_an_amount_has_three_decimals(written: object, meant: str):
    event = load_event(LEAST | {"revenue": {"amount": written, "currency": "EUR", "more": 1}}, NOW)
    assert event.revenue == Revenue(Decimal(meant), "EUR")
    assert event.revenue.amount.as_tuple().exponent == -3


@pytest.mark.parametrize(
    "amount",
    [None, True, "", "ten", "$10", ".5", "5.", "1E3", "1e3", "10 USD", "\u20ac5",
     "1,5", "1_000", " 1", "NaN", "Infinity", "٣", float("nan"), float("inf"), 10**12, -(10**12),
     "999999999999.9996", 1e300, 10**400, "9" * 5000, "1e99999999999999999999", [], {}],
    ids=lambda amount: repr(amount)[:30],
)  # fmt: skip
def test_an_invalid_amount_is_refused(amount: object):
    (error,) = faults(revenue={"amount": amount, "currency": "USD"})["revenue"]
    assert error.startswith('amount: Not a number such as 10.1 or "10.10"')


@pytest.mark.parametrize("currency", [None, "", "usd", "US", "USDT", "US1", "USD\n", "ÄÖÜ", 840, ["USD"]])
def test_a_currency_is_three_capital_letters(currency: object):
    assert faults(revenue={"amount": 1, "currency": currency}) == {
        "revenue": ["currency: Not an ISO 4217 code such as USD."]
    }


@pytest.mark.parametrize("revenue", [1, "1 USD", [1, "USD"], {}, {"amount": 1}, {"currency": "USD"}])
def test_revenue_is_an_amount_and_a_currency(revenue: object):
    assert list(faults(revenue=revenue)) == ["revenue"]


@pytest.mark.parametrize("body", [None, [], "text", 3])
def test_a_body_that_is_not_an_object_is_refused(body: object):
    with pytest.raises(InvalidEvent) as caught:
        load_event(body, NOW)
    assert caught.value.fields == {"body": ["Not a JSON object."]}


def test_an_event_is_the_same_after_the_journal():
    written = {"path": "/ü", "user_id": "u", "timestamp": "2026-11-22T10:00:00+02:00", "props": {"a": 1.5, "ж": None}}
    assert_is_the_same_after_the_journal(load_event(LEAST | written, NOW))


def assert_is_the_same_after_the_journal(event: Event) -> None:
    for form in (packed(event), dump_event(event)):
        assert load_journal_event(form, lambda: ENTRY_ID, lambda: NOW + timedelta(hours=1)) == event
        assert readable(form) == dump_event(event)


EVERY_FIELD = Event(
    id=UUID("6f1f1b0e-2f5c-5d0a-9c1e-0f00fa11c0de"),
    site_id="site",
    event_type="page_view",
    occurred_at=datetime(2026, 11, 22, 10, tzinfo=UTC),
    received_at=NOW.replace(microsecond=123000),
    hostname="ü",
    path="/a",
    user_id="u",
    visitor_id="v",
    described={"referrer": "r"},
    interactive=False,
    engagement_time=7,
    scroll_depth=100,
    revenue=Revenue(Decimal("10.100"), "USD"),
    props={"n": 1.5, "b": None, "i": -5},
    clamped=True,
    url="https://x/",
    client="2026-11-22.AA",
    sequence="1763632801000-000003",
    exported_id=UUID(int=5),
    import_id="i",
)
# What version 0.2.0 writes for it. Later versions must read the same event from it.
PACKED_BY_0_2 = bytes.fromhex(
    "dc001601c4106f1f1b0e2f5c5d0a9c1e0f00fa11c0dea473697465a9706167655f76696577d6ff6b02bd20d7ff1d5353006b02d940a2c3bca2"
    "2f61a175a17681a87265666572726572a172c2076482a6616d6f756e74a631302e313030a863757272656e6379a355534483a16ecb3ff80000"
    "00000000a162c0a169fbc3aa68747470733a2f2f782fad323032362d31312d32322e4141b4313736333633323830313030302d303030303033"
    "c41000000000000000000000000000000005a169"
)


def test_an_event_with_every_field_is_packed_as_in_version_0_2():
    assert packed(EVERY_FIELD) == PACKED_BY_0_2
    assert_is_the_same_after_the_journal(EVERY_FIELD)
    assert None not in [getattr(EVERY_FIELD, name) for name in Event.__struct_fields__]


def test_a_packed_event_may_lack_the_last_fields_and_have_unknown_ones_after_them():
    values = msgpack.decode(PACKED_BY_0_2)
    assert load_packed(values[:-1]) == replace(EVERY_FIELD, import_id=None)
    assert load_packed([*values, "of a later version"]) == EVERY_FIELD


def load_packed(values: list[object]) -> Event:
    return load_journal_event(msgpack.encode(values), lambda: ENTRY_ID, lambda: NOW)


@pytest.mark.parametrize(
    ("place", "value"), [(0, 2), (0, None), (1, b"short"), (2, None), (2, 5), (4, "noon"), (4, 5), (10, {"a": 1}),
                         (11, None), (12, "7"), (14, {"amount": "ten", "currency": "USD"}), (15, {"a": []}), (15, 5)]
)  # fmt: skip
def test_a_packed_value_of_another_type_is_refused_and_shown_as_it_is(place: int, value: object):
    values = msgpack.decode(PACKED_BY_0_2)
    values[place] = value
    with pytest.raises(InvalidEvent, match="body: Not a packed event: "):
        load_packed(values)
    assert readable(msgpack.encode(values)) == msgpack.encode(values)


@given(st.integers(1, len(PACKED_BY_0_2)), st.binary(max_size=4))
def test_damaged_packed_bytes_give_an_event_or_are_refused(place: int, piece: bytes):
    damaged = PACKED_BY_0_2[:place] + piece + PACKED_BY_0_2[place + len(piece) :]
    try:
        event = load_journal_event(damaged, lambda: ENTRY_ID, lambda: NOW)
    except InvalidEvent:
        assert readable(damaged) == damaged
    else:
        assert readable(damaged) == dump_event(event)


def test_packed_bytes_that_are_not_utf_8_are_refused():
    with pytest.raises(InvalidEvent):
        load_journal_event(PACKED_BY_0_2.replace(b"site", b"sit\xff"), lambda: ENTRY_ID, lambda: NOW)


def test_packed_bytes_that_are_cut_are_refused():
    for n in range(1, len(PACKED_BY_0_2)):
        with pytest.raises(InvalidEvent):
            load_journal_event(PACKED_BY_0_2[:n], lambda: ENTRY_ID, lambda: NOW)


codes = {"country": st.sampled_from(["US", "DE"]), "region": st.sampled_from(["US-CA", "DE-BE", "FR-75C", "FJ-1"])}
texts = {field: st.text(st.characters(exclude_categories=["Cs"]), max_size=longest) for field, longest in TEXTS.items()}
amounts = st.integers(-(10**12) + 1, 10**12 - 1) | st.floats(-1e11, 1e11) | st.decimals(-1000, 1000, places=5).map(str)
numbers = {
    "interactive": st.booleans(),
    "engagement_time": st.integers(0, 86_400_000),
    "scroll_depth": st.integers(0, 100),
    "revenue": st.fixed_dictionaries({"amount": amounts, "currency": st.sampled_from(["USD", "JPY"])}),
}


@given(st.fixed_dictionaries({}, optional={**texts, **codes, **numbers}))
def test_any_optional_fields_are_the_same_after_the_journal(described: dict[str, object]):
    assert_is_the_same_after_the_journal(load_event(LEAST | described, NOW))


def test_an_entry_of_another_program_gets_the_entry_s_id_and_time():
    event = load_journal_event(json.dumps(LEAST).encode(), lambda: ENTRY_ID, lambda: NOW)
    assert (event.id, event.received_at) == (ENTRY_ID, NOW.replace(microsecond=123000))


def test_an_event_id_in_an_entry_gives_the_same_id_as_at_the_collector():
    body = LEAST | {"event_id": "order-1"}
    assert load_journal_event(json.dumps(body).encode(), lambda: ENTRY_ID, lambda: NOW).id == load_event(body, NOW).id


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xff\xfe", b"[" * 100_000, b"1" * 5000, b'{"site_id": "s"}', b'{"site_id":"s","event_type":"e","id":"x"}',
     b'{"site_id":"s","event_type":"e","props":{"a":"' + b"x" * 1_000_000 + b'"}}'],
    ids=["empty", "not utf-8", "deep", "long number", "no type", "bad id", "large"],
)  # fmt: skip
def test_an_entry_that_is_not_an_event_is_refused(raw: bytes):
    with pytest.raises(InvalidEvent):
        load_journal_event(raw, lambda: ENTRY_ID, lambda: NOW)


def test_times_with_any_offset_come_out_in_utc():
    local = datetime(2026, 3, 29, 2, 30, tzinfo=timezone(timedelta(hours=-9, minutes=-30)))
    assert load_event(LEAST | {"timestamp": local.isoformat()}, NOW).occurred_at == local
