"""Raw events of a site, read from MongoDB into the columns of which segments are made.

MongoDB's names of an event's fields stand here and in event_store.py. What the worker did not write, a value of another
type than it would have, counts as missing.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any
from uuid import UUID

import pyarrow as pa
from bson import Decimal128
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.event import DESCRIBED, PAGEVIEW_TYPES, id_from_document
from analytics.mongodb import ping
from analytics.stretch import LATEST, Stretch, as_datetime, as_ms, stretch_of
from analytics.unavailable import trouble_with

# `occurred`: milliseconds since 1970. `tie`: the order of one visitor's events within a millisecond, by id. `visitor`:
# a 64-bit hash of the user_id, or else of the visitor_id. `name`: the event_type, "pageview" for both spellings of it.
RAW = pa.schema([
    ("occurred", pa.int64()), ("tie", pa.uint16()), ("visitor", pa.uint64()),
    ("name", pa.string()), ("page", pa.string()), ("hostname", pa.string()),
    ("interactive", pa.bool_()), ("engagement_time", pa.int32()), ("scroll_depth", pa.uint8()),
    ("revenue", pa.decimal128(18, 3)), ("currency", pa.string()), ("props", pa.map_(pa.string(), pa.string())),
    *((name, pa.string()) for name in DESCRIBED),
])  # fmt: skip
AT_ONCE = 20_000  # rows of a batch
PIECE = 2_000  # documents in Python at a time: those that the processor's cache holds take two thirds of the time
LARGEST_TIE = 65_535
MOST_MONEY = 10**15  # with three decimals, what 18 digits hold

# What is asked of MongoDB: the time as an integer, which decodes faster than a datetime.
_TEXTS = ("hostname", *DESCRIBED)
_OTHERS = ("interactive", "engagement_time", "scroll_depth", "revenue", "props")
_FIELDS: dict[str, Any] = {
    "occurred": {"$toLong": "$timestamp"},
    **dict.fromkeys(("user_id", "visitor_id", "event_type", "path", *_TEXTS, *_OTHERS), 1),
}  # fmt: skip
_BY_TIME = [("site_id", 1), ("timestamp", 1)]  # the index site_time


def visitor_of(user_id: str) -> int:
    """64 bits of a hash: two of n visitors share one with a probability of n²/2⁶⁵, for a million of 0.00000003."""
    return int.from_bytes(blake2b(user_id.encode(), digest_size=8).digest(), "little")


class RawEvents:
    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._events = database["events"]

    def read(self, site_id: str, stretches: Sequence[Stretch]) -> Iterator[pa.RecordBatch]:
        """The site's events in these stretches, each of which is read in order of time. Raises Unavailable."""
        for stretch in stretches:
            batches: list[pa.RecordBatch] = []
            for documents in self._pieces(site_id, stretch):
                batches.append(_batch(documents))
                if sum(batch.num_rows for batch in batches) >= AT_ONCE:
                    yield pa.concat_batches(batches)
                    batches = []
            if batches:
                yield pa.concat_batches(batches)

    def _pieces(self, site_id: str, stretch: Stretch) -> Iterator[list[dict[str, Any]]]:
        """Each ends between two milliseconds, so that ties are seen together."""
        documents: list[dict[str, Any]] = []
        for document in self._find(site_id, stretch):
            if len(documents) >= PIECE and document["occurred"] != documents[-1]["occurred"]:
                yield documents
                documents = []
            documents.append(document)
        if documents:
            yield documents

    def check(self) -> None:
        """Raises Unavailable where MongoDB does not answer within a second."""
        ping(self._events.database)

    def count(self, site_id: str, stretch: Stretch, most: int) -> int:
        """How many there are, counted up to `most`, from the index."""
        when = {"$gte": as_datetime(stretch.start), "$lt": as_datetime(stretch.end)}
        with trouble_with("mongodb", PyMongoError):
            return self._events.count_documents({"site_id": site_id, "timestamp": when}, limit=most)

    def sites(self) -> Iterator[str]:
        """Each found by its place in the index, however many events it has."""
        with trouble_with("mongodb", PyMongoError):
            site_id = ""
            while found := self._events.find_one({"site_id": {"$gt": site_id}}, {"site_id": 1}, sort=_BY_TIME):
                site_id = found["site_id"]
                yield site_id

    def months(self, site_id: str) -> list[Stretch]:
        """Those in which the site has events, found likewise."""
        months: list[Stretch] = []
        with trouble_with("mongodb", PyMongoError):
            after = as_datetime(0)
            while found := self._events.find_one(
                {"site_id": site_id, "timestamp": {"$gte": after, "$lt": LATEST}}, {"timestamp": 1}, sort=_BY_TIME
            ):
                months.append(stretch_of("month", as_ms(found["timestamp"])))
                after = as_datetime(months[-1].end)
        return months

    def _find(self, site_id: str, stretch: Stretch) -> Iterator[dict[str, Any]]:
        when = {"$gte": as_datetime(stretch.start), "$lt": as_datetime(stretch.end)}
        with trouble_with("mongodb", PyMongoError):
            yield from (
                self._events.find({"site_id": site_id, "timestamp": when}, _FIELDS, batch_size=PIECE)
                .sort(_BY_TIME)
                .allow_disk_use(False)
            )


def _batch(documents: list[dict[str, Any]]) -> pa.RecordBatch:
    """By columns: what a Python loop does for each value, it does seldom."""

    def given(name: str) -> list[Any]:
        return [document.get(name) for document in documents]

    occurred, users = given("occurred"), _words(given("user_id"))
    visitors = _visitors([user or other for user, other in zip(users, _words(given("visitor_id")), strict=True)])
    money = [_money(value) if value else (None, None) for value in given("revenue")]
    columns: dict[str, list[Any]] = {
        "occurred": occurred, "tie": _ties(documents, occurred, visitors), "visitor": visitors,
        "name": [_name(value) for value in given("event_type")], "page": _words(given("path")),
        **{name: _words(given(name)) for name in _TEXTS},
        "interactive": [value is not False for value in given("interactive")],
        "engagement_time": _numbers(given("engagement_time"), 2**31 - 1),
        "scroll_depth": _numbers(given("scroll_depth"), 255),
        "revenue": [amount for amount, _ in money], "currency": [currency for _, currency in money],
        "props": [_texts(value) if value else None for value in given("props")],
    }  # fmt: skip
    return pa.RecordBatch.from_arrays([pa.array(columns[field.name], type=field.type) for field in RAW], schema=RAW)


def _ties(documents: list[dict[str, Any]], times: list[int], visitors: list[int | None]) -> list[int]:
    ties = [0] * len(times)
    row = 1
    while row < len(times):
        if times[row] == times[row - 1]:
            first = row - 1
            while row < len(times) and times[row] == times[first]:
                row += 1
            before: dict[int | None, int] = {}
            for each in sorted(range(first, row), key=lambda n: _id(documents[n]["_id"])):
                ties[each] = min(before.get(visitors[each], 0), LARGEST_TIE)
                before[visitors[each]] = ties[each] + 1
        row += 1
    return ties


def _id(key: Any) -> UUID:
    """What somebody else wrote under a `_id` of his own may stand beside ours."""
    return key if isinstance(key, UUID) else id_from_document(str(key))


def _words(values: list[Any]) -> list[str | None]:
    """Text, and None for what is empty or is none."""
    return [value if type(value) is str and value else None for value in values]


def _visitors(users: list[str | None]) -> list[int | None]:
    """The hash of each one's user_id, or else visitor_id; in the order of time, most of them come again soon."""
    known = {user: visitor_of(user) for user in set(users) if user is not None}
    return [None if user is None else known[user] for user in users]


def _name(value: Any) -> str | None:
    if type(value) is not str:
        return None
    return "pageview" if value in PAGEVIEW_TYPES else value


def _numbers(values: list[Any], most: int) -> list[int | None]:
    return [value if type(value) is int and 0 <= value <= most else None for value in values]


def _money(value: Any) -> tuple[Any, Any]:
    match value:
        case {"amount": Decimal128() as amount, "currency": str(currency)} if _fits(amount.to_decimal()):
            return amount.to_decimal(), currency
        case _:
            return None, None


def _fits(amount: Decimal) -> bool:
    return amount.is_finite() and abs(amount) < MOST_MONEY and amount == round(amount, 3)


def _texts(props: Any) -> list[tuple[str, str]] | None:
    if not isinstance(props, dict):
        return None
    return [(name, text) for name, value in props.items() if (text := _text(value))] or None


def _text(value: Any) -> str | None:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return value
        case _:
            return None
