"""Reads a site's raw events from MongoDB into the columns from which segments are built.

Only this module, analytics/events/bson_columns.py and analytics/events/store.py know MongoDB's names of an event's
fields. A value of another type than the worker writes counts as missing. Text that is not UTF-8, which only another
program can have written, is read with replacement characters. Callers must handle Unavailable.
"""

from __future__ import annotations  # BsonColumns is imported late

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from bson import CodecOptions, DatetimeConversion, Decimal128
from bson.datetime_ms import DatetimeMS
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.ahead import ahead
from analytics.events.arrival import place_of
from analytics.events.event import DESCRIBED, PAGEVIEW_TYPES
from analytics.events.event_index import BY_TIME, EventIndex
from analytics.events.page_patterns import PathRules
from analytics.events.raw_replies import NO_DOCUMENTS, RawDocuments, document_at, find_raw
from analytics.events.stored_props import as_sent
from analytics.interval import Interval, as_datetime, as_ms
from analytics.mongodb import ping
from analytics.unavailable import raising_unavailable

if TYPE_CHECKING:
    from analytics.events.bson_columns import BsonColumns

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
Events = TypeVar("Events", pa.RecordBatch, pa.Table)


@dataclass(frozen=True, slots=True)
class EventsOfSites:
    """Events by site and time. `counts` has the number of each site's events, in the same order."""

    events: pa.RecordBatch
    counts: dict[str, int]


# The values that identify an event of a site: occurred, visitor and tie.
EventPlace = tuple[int, int | None, int]


@dataclass(frozen=True, slots=True)
class EventsAt:
    """The `_id`s of the events at some places, by time and then by arrival. `is_certain` is False if a place may have
    been that of another event, because an event got or lost its user after the places were found.
    """

    ids: list[Any]
    is_certain: bool


AS_STORED = PathRules()
_AT_ONCE = 20_000  # rows of a batch
CROWDED = 32_000_000  # bytes of one millisecond's events; above it they are not held in memory together
LARGEST_TIE = 65_535
_MOST_MONEY = 10**15  # with three decimals, the largest amount that 18 digits hold

_OF_ARRIVAL = ("sequence", "entry_id")
_OF_TIES = ("timestamp", "user_id", "visitor_id", *_OF_ARRIVAL)
_OF_PLACES = (*_OF_TIES, "assigned", "reassigned_at")
# The projection for MongoDB. It has only names, because MongoDB takes 4.5 µs of CPU for an event if it has to compute a
# value, instead of 1.4.
FIELDS = (*_OF_TIES, "event_type", "path", "hostname", "interactive", "engagement_time", "scroll_depth", "revenue",
          "props", *DESCRIBED)  # fmt: skip
_TEXTS = {"path": "page", "hostname": "hostname", **{name: name for name in DESCRIBED}}


def visitor_of(user_id: str) -> int:
    """A 64-bit hash. Two of n visitors share one with a probability of n²/2⁶⁵, which is 0.00000003 for a million
    visitors.
    """
    return int.from_bytes(blake2b(user_id.encode(), digest_size=8).digest(), "little")


class RawEvents(EventIndex):
    def __init__(self, database: Database[dict[str, Any]]) -> None:
        super().__init__(database)
        self._options = self._events.codec_options.with_options(
            datetime_conversion=DatetimeConversion.DATETIME_MS, unicode_decode_error_handler="replace"
        )

    def read(
        self, site_id: str, intervals: Sequence[Interval], paths: PathRules = AS_STORED
    ) -> Iterator[pa.RecordBatch]:
        """Yield the site's events in these intervals, with their pages by these rules. Each interval is read in order
        of time. A batch has _AT_ONCE events, or MongoDB's 16 MB of them. Raises Unavailable.
        """
        return (with_pages(batch, paths) for batch in self._read(site_id, intervals))

    def read_sites(self, site_ids: Sequence[str], interval: Interval, most_bytes: int) -> EventsOfSites:
        """Return the events of the sites in this interval, with their pages as they are stored. Sites for which
        `most_bytes` of documents have no room are left out, and so are those without events. Raises Unavailable.
        """
        replies, size, is_whole = [], 0, True
        for reply in self._find({"$in": [*site_ids]}, interval, (*FIELDS, "site_id")):
            replies.append(reply)
            size += len(reply.raw)
            if size > most_bytes and not reply.is_last:
                is_whole = False
                break
        documents = _Documents(replies, self._options)
        counts = documents.count_by_site()
        if not is_whole:
            counts.popitem()  # MongoDB may have more events of the last site
        return EventsOfSites(documents.batch(0, sum(counts.values())), counts)

    def _read(self, site_id: str, intervals: Sequence[Interval]) -> Iterator[pa.RecordBatch]:
        for interval in intervals:
            # A batch ends between two milliseconds, so that all ties are in one batch.
            waiting, crowded = NO_DOCUMENTS, None
            for reply in self._find(site_id, interval):
                found = _Documents((waiting, reply), self._options)
                first = 0 if crowded is None else bisect_right(found.times, crowded)
                last = int(found.times[-1])
                whole = len(found.times) if reply.is_last else bisect_left(found.times, last)
                if whole > first:
                    yield found.batch(first, whole)
                waiting = found.after(max(first, whole))
                if len(waiting.raw) > CROWDED:
                    yield from self._crowded(site_id, last)
                    waiting, crowded = NO_DOCUMENTS, last
                del found, reply  # its 16 MB are not held while more are decoded
            if waiting.starts:
                found = _Documents((waiting,), self._options)
                yield found.batch(0, len(found.times))

    def _crowded(self, site_id: str, ms: int) -> Iterator[pa.RecordBatch]:
        """Yield the events of a millisecond that are too large to hold at once. Their ties are computed first, from
        small fields.
        """
        moment = Interval(ms, ms + 1)
        small = self._find(site_id, moment, _OF_TIES)
        documents = [x for reply in small for x in _Documents((reply,), self._options).decoded()]
        ties = {place_of(document): tie for document, tie in zip(documents, _ties(documents), strict=True)}
        for reply in self._find(site_id, moment):
            some = _Documents((reply,), self._options).decoded()
            yield _batch(some, [ties.get(place_of(document), LARGEST_TIE) for document in some])

    def at(self, site_id: str, places: Collection[EventPlace], since: datetime) -> EventsAt:
        """Return the events at these places, which were found later than `since`. An event that was assigned to a user
        meanwhile is found at the place that it had before. Raises Unavailable.
        """
        wanted = set(places)
        when = {"$in": [as_datetime(occurred) for occurred in {occurred for occurred, _, _ in wanted}]}
        events = self._events.with_options(self._options)
        with raising_unavailable("mongodb", PyMongoError):
            found = list(events.find({"site_id": site_id, "timestamp": when}, _OF_PLACES).sort(BY_TIME))
        now, before = _places(found), _places([x | {"user_id": None} if x.get("assigned") else x for x in found])
        lost, lost_before = (Counter(time for time, _, _ in wanted.difference(each)) for each in (now, before))
        at = [old if lost_before[new[0]] < lost[new[0]] else new for new, old in zip(now, before, strict=True)]
        chosen = [document for place, document in zip(at, found, strict=True) if place in wanted]
        left = {time for time, _, _ in wanted.difference(at)}
        others = (x for place, x in zip(at, found, strict=True) if place[0] in left and place not in wanted)
        ids = [x["_id"] for x in sorted(chosen, key=lambda x: (x["timestamp"], place_of(x)))]
        may_be_lost = any(x.get("visitor_id") and not x.get("user_id") for x in others)
        return EventsAt(ids, not may_be_lost and not _is_any_exchanged(found, as_ms(since)))

    def check(self) -> None:
        """Raises Unavailable if MongoDB does not answer within a second."""
        ping(self._events.database)

    def _find(
        self, site_id: str | dict[str, list[str]], interval: Interval, fields: Sequence[str] = FIELDS
    ) -> Iterator[RawDocuments]:
        """Yield documents in order of their site and time, as many as MongoDB sends at once. `site_id`: a site, or a
        condition.
        """
        when = {"$gte": as_datetime(interval.start), "$lt": as_datetime(interval.end)}
        with raising_unavailable("mongodb", PyMongoError):
            command = {
                "find": self._events.name, "filter": {"site_id": site_id, "timestamp": when},
                "projection": dict.fromkeys(fields, 1), "sort": dict(BY_TIME), "batchSize": _AT_ONCE,
                "allowDiskUse": False,
            }  # fmt: skip
            replies = find_raw(self._events.database, command)
            for reply in replies:
                yield from [reply] if reply.is_last else ahead(chain([reply], replies))


def with_pages(events: Events, paths: PathRules) -> Events:
    """Return the events with their pages by these rules."""
    if paths == AS_STORED:
        return events
    pages = events.column("page")
    different = pc.unique(pages)
    ruled = pa.array([page and paths.apply(page) for page in different.to_pylist()], pa.string())
    ruled = pc.take(ruled, pc.index_in(pages, different))
    return events.set_column(RAW.get_field_index("page"), RAW.field("page"), ruled)


class _Documents:
    """Documents as MongoDB sends them, by time. `times` are their times in milliseconds."""

    def __init__(self, parts: Sequence[RawDocuments], options: CodecOptions[dict[str, Any]]) -> None:
        # numpy takes 16 MB, and only a process that reads events needs it
        from analytics.events.bson_columns import BsonColumns  # noqa: PLC0415
        from analytics.events.bson_fields import PADDING, UnusualDocument  # noqa: PLC0415

        self._padded, self._options = b"".join((*(part.raw for part in parts), PADDING)), options
        self._end = len(self._padded) - len(PADDING)
        places = accumulate((len(part.raw) for part in parts), initial=0)
        self._starts = [place + start for place, part in zip(places, parts, strict=False) for start in part.starts]
        self._unusual = UnusualDocument
        self._columns: BsonColumns | None = None
        self.times: Any
        try:
            self._columns = BsonColumns(self._padded, self._starts, options)
            self.times = self._columns.times
        except UnusualDocument:
            self.times = [int(document["timestamp"]) for document in self.decoded()]

    def count_by_site(self) -> dict[str, int]:
        """Count the documents of each site, in their order. All of them must have a site_id."""
        if self._columns is None:
            return Counter(document["site_id"] for document in self.decoded())
        return self._columns.count_by_site()

    def batch(self, first: int, end: int) -> pa.RecordBatch:
        """Return the columns of the documents from `first` up to, but not including, `end`."""
        with suppress(self._unusual):
            if self._columns is not None:
                return self._columns.batch(first, end)
        return columns_of(self.decoded(first, end))

    def after(self, first: int) -> RawDocuments:
        """Return the documents from `first` on."""
        if first == len(self._starts):
            return NO_DOCUMENTS
        begin = self._starts[first]
        return RawDocuments(self._padded[begin : self._end], [start - begin for start in self._starts[first:]])

    def decoded(self, first: int = 0, end: int | None = None) -> list[dict[str, Any]]:
        return [document_at(self._padded, start, self._options) for start in self._starts[first:end]]


def columns_of(documents: Sequence[dict[str, Any]]) -> pa.RecordBatch:
    """Return the columns of decoded documents. They must be in order of time, or of their site and time, and hold all
    events of a millisecond.
    """
    return _batch(documents, _ties(documents))


def _batch(documents: Sequence[dict[str, Any]], ties: Sequence[int]) -> pa.RecordBatch:
    count = len(documents)
    columns: dict[str, list[Any]] = {name: [None] * count for name in RAW.names}
    columns["interactive"] = [True] * count
    for row, document in enumerate(documents):
        columns["visitor"][row] = _visitor(document)
        for name, value in document.items():
            if name in _TEXTS:
                if value and type(value) is str:
                    columns[_TEXTS[name]][row] = value
            elif name == "revenue":
                columns["revenue"][row], columns["currency"][row] = _money(value)
            elif name in _READ:
                column, read = _READ[name]
                columns[column][row] = read(value)
    columns["tie"] = [*ties]
    return pa.RecordBatch.from_arrays([pa.array(columns[field.name], type=field.type) for field in RAW], schema=RAW)


def _places(documents: Sequence[dict[str, Any]]) -> list[EventPlace]:
    times = (int(document["timestamp"]) for document in documents)
    return list(zip(times, map(_visitor, documents), _ties(documents), strict=True))


def _is_any_exchanged(documents: Sequence[dict[str, Any]], since: int) -> bool:
    """Whether an event got or lost its user since then (ms), in the millisecond of the sign-in. Which of the two has
    which place depends on whether they have the same user.
    """
    known = [(int(x["timestamp"]), name, x) for x in documents if type(name := x.get("visitor_id")) is str]
    sign_ins = {(time, name) for time, name, x in known if x.get("user_id") and not x.get("assigned")}
    return any(
        (time, name) in sign_ins and isinstance(at := x.get("reassigned_at"), DatetimeMS) and int(at) >= since
        for time, name, x in known
    )


def _ties(documents: Sequence[dict[str, Any]]) -> list[int]:
    """The place of each event among the events of its visitor and millisecond. `documents` must hold all events of a
    millisecond.
    """
    times = [(document.get("site_id"), int(document["timestamp"])) for document in documents]
    ties = [0] * len(times)
    row = 1
    while row < len(times):
        if times[row] == times[row - 1]:
            first = row - 1
            while row < len(times) and times[row] == times[first]:
                row += 1
            before: dict[int | None, int] = {}
            for each in sorted(range(first, row), key=lambda n: place_of(documents[n])):
                visitor = _visitor(documents[each])
                ties[each] = min(before.get(visitor, 0), LARGEST_TIE)
                before[visitor] = ties[each] + 1
        row += 1
    return ties


def _visitor(document: Mapping[str, Any]) -> int | None:
    value = document.get("user_id")
    if value is None:
        value = document.get("visitor_id")
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


# The column of each of the other fields, and how it is read.
_READ: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "timestamp": ("occurred", int), "event_type": ("name", _name),
    "interactive": ("interactive", lambda value: value is not False),
    "engagement_time": ("engagement_time", _number(2**31 - 1)), "scroll_depth": ("scroll_depth", _number(255)),
    "props": ("props", _texts),
}  # fmt: skip
