"""Reads a site's raw events from MongoDB into the columns from which segments are built.

Only this module and analytics/events/store.py know MongoDB's names of an event's fields. A value of another type than
the worker writes counts as missing. Callers must handle Unavailable.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from hashlib import blake2b
from operator import itemgetter
from typing import Any, cast

import bson
import pyarrow as pa
from bson import Decimal128
from pymongo.errors import PyMongoError

from analytics.events.arrival import place_of
from analytics.events.event import DESCRIBED, PAGEVIEW_TYPES
from analytics.events.event_index import BY_TIME, EventIndex
from analytics.events.stored_props import as_sent
from analytics.interval import Interval, as_datetime
from analytics.mongodb import ping
from analytics.unavailable import raising_unavailable

# `occurred` is in milliseconds since 1970. `tie` orders one visitor's events within a millisecond, by arrival.
# `visitor` is a 64-bit hash of the user_id, or else of the visitor_id. `name` is the event_type, "pageview" for both
# spellings.
RAW = pa.schema([
    ("occurred", pa.int64()), ("tie", pa.uint16()), ("visitor", pa.uint64()),
    ("name", pa.string()), ("page", pa.string()), ("hostname", pa.string()),
    ("interactive", pa.bool_()), ("engagement_time", pa.int32()), ("scroll_depth", pa.uint8()),
    ("revenue", pa.decimal128(18, 3)), ("currency", pa.string()), ("props", pa.map_(pa.string(), pa.string())),
    *((name, pa.string()) for name in DESCRIBED),
])  # fmt: skip
# The values that identify an event of a site: occurred, visitor and tie.
EventPlace = tuple[int, int | None, int]
_AT_ONCE = 20_000  # rows of a batch
CROWDED = 32_000_000  # bytes of one millisecond's events; above it they are not held in memory together
LARGEST_TIE = 65_535
_MOST_MONEY = 10**15  # with three decimals, the largest amount that 18 digits hold

_OF_ARRIVAL = ("sequence", "entry_id")
_VISITOR = {"$ifNull": ["$user_id", "$visitor_id"]}
# The projection for MongoDB. Times are integers, which decode faster than datetimes.
_FIELDS: dict[str, Any] = {
    "occurred": {"$toLong": "$timestamp"}, "visitor": _VISITOR,
    "name": "$event_type", "page": "$path",
    **dict.fromkeys(_OF_ARRIVAL, 1),
    **dict.fromkeys(("hostname", "interactive", "engagement_time", "scroll_depth", "revenue", "props", *DESCRIBED), 1),
}  # fmt: skip
_FIELDS_OF_TIES = {name: _FIELDS[name] for name in ("occurred", "visitor", *_OF_ARRIVAL)}
_TEXTS = frozenset(("page", "hostname", *DESCRIBED))


def visitor_of(user_id: str) -> int:
    """A 64-bit hash. Two of n visitors share one with a probability of n²/2⁶⁵, which is 0.00000003 for a million
    visitors.
    """
    return int.from_bytes(blake2b(user_id.encode(), digest_size=8).digest(), "little")


class RawEvents(EventIndex):
    def read(self, site_id: str, intervals: Sequence[Interval]) -> Iterator[pa.RecordBatch]:
        """Yield the site's events in these intervals. Each interval is read in order of time. A batch has _AT_ONCE
        events, or MongoDB's 16 MB of them. Raises Unavailable.
        """
        for interval in intervals:
            # A batch ends between two milliseconds, so that all ties are in one batch.
            waiting: list[dict[str, Any]] = []
            size, crowded = 0, None
            for documents, their_size in self._find(site_id, interval):
                if crowded is not None:
                    documents = [document for document in documents if document["occurred"] != crowded]  # noqa: PLW2901
                waiting += documents
                size += their_size
                last = waiting[-1]["occurred"] if waiting else None
                whole = bisect_left(waiting, last, key=itemgetter("occurred")) if waiting else 0
                if whole:
                    done, waiting, size = waiting[:whole], waiting[whole:], their_size
                    yield _batch(done, _ties(done))
                elif size > CROWDED and last is not None:
                    yield from self._crowded(site_id, last)
                    waiting, size, crowded = [], 0, last
            if waiting:
                yield _batch(waiting, _ties(waiting))

    def _crowded(self, site_id: str, ms: int) -> Iterator[pa.RecordBatch]:
        """Yield the events of a millisecond that are too large to hold at once. Their ties are computed first, from
        small fields.
        """
        moment = Interval(ms, ms + 1)
        documents = [d for some, _ in self._find(site_id, moment, _FIELDS_OF_TIES) for d in some]
        ties = {place_of(document): tie for document, tie in zip(documents, _ties(documents), strict=True)}
        for some, _ in self._find(site_id, moment):
            yield _batch(some, [ties.get(place_of(document), LARGEST_TIE) for document in some])

    def ids_at(self, site_id: str, places: Collection[EventPlace]) -> list[Any]:
        """Return the `_id`s of the events at these places, by time and then by arrival. Raises Unavailable."""
        wanted = set(places)
        when = {"$in": [as_datetime(occurred) for occurred in {occurred for occurred, _, _ in wanted}]}
        with raising_unavailable("mongodb", PyMongoError):
            found = list(self._events.find({"site_id": site_id, "timestamp": when}, _FIELDS_OF_TIES).sort(BY_TIME))
        times, visitors = [x["occurred"] for x in found], [_visitor(x.get("visitor")) for x in found]
        at = zip(times, visitors, _ties(found), strict=True)
        chosen = [document for place, document in zip(at, found, strict=True) if place in wanted]
        return [x["_id"] for x in sorted(chosen, key=lambda x: (x["occurred"], place_of(x)))]

    def check(self) -> None:
        """Raises Unavailable if MongoDB does not answer within a second."""
        ping(self._events.database)

    def count(self, site_id: str, interval: Interval, most: int) -> int:
        """Count the events from the index, up to `most`. Raises Unavailable."""
        when = {"$gte": as_datetime(interval.start), "$lt": as_datetime(interval.end)}
        with raising_unavailable("mongodb", PyMongoError):
            return self._events.count_documents({"site_id": site_id, "timestamp": when}, limit=most)

    def _find(
        self, site_id: str, interval: Interval, fields: Mapping[str, Any] = _FIELDS
    ) -> Iterator[tuple[list[dict[str, Any]], int]]:
        """Yield documents in order of time, as many as MongoDB sends at once, with their bytes."""
        when = {"$gte": as_datetime(interval.start), "$lt": as_datetime(interval.end)}
        with raising_unavailable("mongodb", PyMongoError):
            found = self._events.find_raw_batches(
                {"site_id": site_id, "timestamp": when},
                fields,
                sort=BY_TIME,
                batch_size=_AT_ONCE,
                allow_disk_use=False,
            )
            for raw in cast(Iterator[bytes], found):
                yield bson.decode_all(raw, self._events.codec_options), len(raw)


def _batch(documents: Sequence[dict[str, Any]], ties: Sequence[int]) -> pa.RecordBatch:
    count = len(documents)
    columns: dict[str, list[Any]] = {name: [None] * count for name in RAW.names}
    columns["interactive"] = [True] * count
    for row, document in enumerate(documents):
        for name, value in document.items():
            if name in _TEXTS:
                if value and type(value) is str:
                    columns[name][row] = value
            elif name == "revenue":
                columns["revenue"][row], columns["currency"][row] = _money(value)
            elif name != "_id" and name not in _OF_ARRIVAL:
                columns[name][row] = _READ[name](value)
    columns["tie"] = [*ties]
    return pa.RecordBatch.from_arrays([pa.array(columns[field.name], type=field.type) for field in RAW], schema=RAW)


def _ties(documents: Sequence[dict[str, Any]]) -> list[int]:
    """The place of each event among the events of its visitor and millisecond. `documents` must hold all events of a
    millisecond.
    """
    times = [document["occurred"] for document in documents]
    ties = [0] * len(times)
    row = 1
    while row < len(times):
        if times[row] == times[row - 1]:
            first = row - 1
            while row < len(times) and times[row] == times[first]:
                row += 1
            before: dict[int | None, int] = {}
            for each in sorted(range(first, row), key=lambda n: place_of(documents[n])):
                visitor = _visitor(documents[each].get("visitor"))
                ties[each] = min(before.get(visitor, 0), LARGEST_TIE)
                before[visitor] = ties[each] + 1
        row += 1
    return ties


def _visitor(value: Any) -> int | None:
    return visitor_of(value) if value and type(value) is str else None


def _name(value: Any) -> str | None:
    if type(value) is not str:
        return None
    return "pageview" if value in PAGEVIEW_TYPES else value


def _number(most: int) -> Callable[[Any], int | None]:
    return lambda value: value if type(value) is int and 0 <= value <= most else None


def _money(value: Any) -> tuple[Any, Any]:
    match value:
        case {"amount": Decimal128() as amount, "currency": str(currency)} if _fits(amount.to_decimal()):
            return amount.to_decimal(), currency
        case _:
            return None, None


def _fits(amount: Decimal) -> bool:
    return amount.is_finite() and abs(amount) < _MOST_MONEY and amount == round(amount, 3)


def _texts(props: Any) -> list[tuple[str, str]] | None:
    return [(name, text) for name, value in (as_sent(props) or {}).items() if (text := _text(value))] or None


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


# How each of the other columns is read.
_READ: dict[str, Callable[[Any], Any]] = {
    "occurred": lambda value: value, "visitor": _visitor, "name": _name,
    "interactive": lambda value: value is not False, "engagement_time": _number(2**31 - 1),
    "scroll_depth": _number(255), "props": _texts,
}  # fmt: skip
