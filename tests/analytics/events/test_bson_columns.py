"""Columns made from BSON are those that are made from decoded documents, whatever a document holds."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import bson
import pyarrow as pa
import pytest
from bson import Binary, CodecOptions, DatetimeConversion, Decimal128, Int64, ObjectId, Regex, Timestamp
from bson.binary import UuidRepresentation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.events.bson_columns import BsonColumns
from analytics.events.bson_fields import PADDING, UnusualDocument
from analytics.events.columns import FIELDS, columns_of
from analytics.events.event import DESCRIBED

OPTIONS: CodecOptions = CodecOptions(
    uuid_representation=UuidRepresentation.STANDARD, datetime_conversion=DatetimeConversion.DATETIME_MS, tz_aware=True
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["", "a", "exactly-12-b", "thirteen-byte", "é" * 9, "page_view", "pageview", "\0", "x" * 70]
)
NUMBERS = st.sampled_from([0, 1, -1, 255, 256, 2**31 - 1, 2**31, -(2**31), 2**63 - 1, Int64(5), True, False])
FLOATS = st.floats(width=64)
AMOUNTS = st.decimals(-(10**15), 10**15, places=3) | st.sampled_from(
    ["0", "-0", "0.0001", "1.5000", "1.5001", "1E+3", "999999999999999.999", "1E+14", "1E+15", "-12.34"]
).map(Decimal)
ODD_AMOUNTS = st.sampled_from(
    ["NaN", "Infinity", "123456789012345678901234567890", "1E-30", "0E+20", "9223372036854775807E-4", "9E+20"]
).map(Decimal)
CURRENCIES = st.sampled_from(["EUR", "USD", ""])
MONEY = st.fixed_dictionaries({"amount": AMOUNTS.map(Decimal128), "currency": CURRENCIES})
ODD_MONEY = st.fixed_dictionaries({"amount": ODD_AMOUNTS.map(Decimal128), "currency": CURRENCIES})
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
PLAIN_NAMES = NAMES.filter(lambda name: name[0] not in "$\\")
SCALARS = TEXTS | NUMBERS | FLOATS | st.none()
PROPS = st.dictionaries(PLAIN_NAMES, SCALARS, max_size=5)
TIMES = st.integers(0, 3).map(lambda n: datetime(2026, 9, 1, tzinfo=UTC) + timedelta(milliseconds=n))
WRITTEN = {
    "event_type": TEXTS, "path": TEXTS, "hostname": TEXTS, "user_id": TEXTS, "visitor_id": st.sampled_from("ab"),
    "interactive": st.just(False), "engagement_time": st.integers(0, 2**31 - 1), "scroll_depth": st.integers(0, 255),
    "revenue": MONEY, "props": PROPS, "sequence": st.sampled_from("123"), **dict.fromkeys(DESCRIBED, TEXTS),
}  # fmt: skip
ODD = st.one_of(
    SCALARS, MONEY, ODD_MONEY, PROPS, st.lists(SCALARS, max_size=2),
    st.dictionaries(NAMES, SCALARS | MONEY | PROPS, max_size=3),
    st.fixed_dictionaries({"amount": SCALARS, "currency": SCALARS, "currency_of": SCALARS}),
    st.sampled_from([ObjectId(bytes(12)), Regex("a"), Timestamp(1, 2), Binary(b"abc"), datetime(2026, 9, 1, tzinfo=UTC),
                     Decimal128("1"), bson.Code("a"), bson.Code("a", {}), bson.MinKey(), bson.DBRef("a", 1)]),
)  # fmt: skip

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # other tests use the same cores


def documents(fields, odd):
    """Lists of encoded documents, in order of time. `odd` values may be of any type."""
    values = {name: strategy | ODD if odd else strategy for name, strategy in fields.items()}
    one = st.fixed_dictionaries({"timestamp": TIMES, "entry_id": st.sampled_from(["1-1", "1-2"])}, optional=values)
    many = st.lists(one, min_size=1, max_size=8).map(lambda found: sorted(found, key=lambda x: x["timestamp"]))
    return many.map(
        lambda found: [bson.encode({"_id": UUID(int=n)} | x, codec_options=OPTIONS) for n, x in enumerate(found)]
    )


def columns(encoded, first=0):
    starts = [sum(map(len, encoded[:n])) for n in range(len(encoded))]
    return BsonColumns(b"".join([*encoded, PADDING]), starts, OPTIONS).batch(first, len(encoded))


def with_site(encoded, site):
    return bson.encode(bson.decode(encoded, OPTIONS) | {"site_id": site}, codec_options=OPTIONS)


def decoded(encoded):
    return columns_of(bson.decode_all(b"".join(encoded), OPTIONS))


@unhurried
@given(documents(WRITTEN, odd=False))
def test_what_a_worker_writes_is_read_without_decoding(encoded):
    found = columns(encoded)
    found.validate(full=True)
    assert same(found, decoded(encoded))


@unhurried
@given(documents(WRITTEN, odd=True))
def test_a_document_of_another_program_is_read_in_the_same_way_or_decoded(encoded):
    try:
        found = columns(encoded)
    except UnusualDocument:
        return
    assert same(found, decoded(encoded))


@unhurried
@given(st.dictionaries(st.sampled_from("abc"), documents(WRITTEN, odd=False), min_size=1))
def test_documents_of_several_sites_have_the_columns_that_they_have_alone(by_site):
    some = {site: [with_site(x, site) for x in encoded] for site, encoded in sorted(by_site.items())}
    encoded = [x for documents in some.values() for x in documents]
    alone = [decoded(by_site[site]) for site in some]
    assert pa.Table.from_batches([columns(encoded)]).to_pylist() == pa.Table.from_batches(alone).to_pylist()
    assert same(columns(encoded), decoded(encoded))


@unhurried
@given(documents(WRITTEN, odd=False), st.data())
def test_some_of_the_documents_have_the_columns_that_they_have_alone(encoded, data):
    first = data.draw(st.integers(0, len(encoded) - 1))
    times = [bson.decode(x)["timestamp"] for x in encoded]
    if first and times[first] == times[first - 1]:
        return  # a millisecond is never divided
    assert same(columns(encoded, first), decoded(encoded[first:]))


@pytest.mark.parametrize("raw", [b"\xff", b"\xed\xa0\x80", b"\xc3"], ids=["no UTF-8", "half a surrogate", "cut off"])
def test_a_text_that_is_not_utf_8_is_decoded_with_replacements(raw):
    moment = datetime(2026, 9, 1, tzinfo=UTC)
    encoded = bson.encode({"_id": 1, "timestamp": moment, "path": "x" * len(raw)}).replace(b"x" * len(raw), raw)
    with pytest.raises(UnusualDocument):
        columns([encoded])
    lenient = OPTIONS.with_options(unicode_decode_error_handler="replace")
    assert "\ufffd" in columns_of([bson.decode(encoded, lenient)])["page"][0].as_py()


def test_two_properties_with_one_name_are_decoded():
    moment = datetime(2026, 9, 1, tzinfo=UTC)
    encoded = bson.encode({"_id": 1, "timestamp": moment, "props": {"aa": "1", "ab": "2"}}).replace(b"ab\0", b"aa\0")
    with pytest.raises(UnusualDocument):
        columns([encoded])


def test_every_field_of_the_projection_is_known():
    assert len({name.encode()[:8] for name in FIELDS}) == len(FIELDS)


def same(found: pa.RecordBatch, expected: pa.RecordBatch) -> bool:
    for name in expected.schema.names:
        assert found[name].to_pylist() == expected[name].to_pylist(), name
    return found.schema.equals(expected.schema)
