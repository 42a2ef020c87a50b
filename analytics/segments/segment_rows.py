"""Makes the rows of segments from raw events, and writes their files, without DuckDB. Reports use it for few events.

DuckDB takes 25 ms of CPU to plan the statements that derive visits (analytics/segments/visit_sql.py), and then more for
each event. Both ways give the same rows with the same types. Many events are read in order of time, and only a part of
them is in memory at once. Events of visits that may continue are processed again with the next part.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analytics.ahead import ahead
from analytics.events.event import DESCRIBED
from analytics.interval import DAY, QUARTER, VISIT_GAP, Interval
from analytics.segments.store import Content
from analytics.segments.visit_sql import VISIT_ROW_COLUMNS

_Numbers = npt.NDArray[Any]
_Mask = npt.NDArray[np.bool_]

RAW_IN_MEMORY = 24_000_000  # bytes of raw events; a process that builds then has less than 500 MB
MOST_UNFINISHED = RAW_IN_MEMORY // 2  # of those that are read again
# Rows of a row group, which one thread reads: DuckDB's default, and twice as many in large files. At ten million
# events, the larger row group took 107 ms instead of 133 ms for all time and 136 ms instead of 166 ms for filtered
# pages, and made the file 4 % smaller. Half as many rows were slower.
ROW_GROUP, LARGE_ROW_GROUP = 122_880, 245_760
MANY_ROWS = 1_000_000

_TEXTS = ("name", "page", "hostname", "currency", *DESCRIBED)
_OTHERS = ("tie", "interactive", "engagement_time", "scroll_depth", "revenue", "props")
# Only these tell a query which row groups it can skip. The statistics of all columns took 7 of 23 ms for 13,000 rows.
_BY_TIME = ["occurred", "quarter", "last_quarter", "visitor", "span_start", "span_end", "edge"]
# Times as differences and other numbers without a dictionary made the file smaller. Numbers with few values are read
# in two thirds of the time if they are in a dictionary: 12 and 7 ms for `quarter` of 2 million rows.
_IN_DICTIONARY = (
    *("quarter", "seen", "last_quarter", "visit_pageviews"),
    *("name", "page", "hostname", "currency", "entry_page", "entry_page_hostname", "exit_page", "exit_page_hostname"),
    *DESCRIBED,
)
_WRITTEN: dict[str, Any] = {
    "store_schema": False, "store_decimal_as_integer": True, "write_statistics": _BY_TIME,
    "use_dictionary": [*_IN_DICTIONARY], "column_encoding": {"occurred": "DELTA_BINARY_PACKED"},
    "max_rows_per_page": 8_192,  # a query with filters skips pages; with 20,000, one that skips nothing is slower, too
}  # fmt: skip
_COMPRESSED = {"compression": "zstd", "compression_level": 3}  # as DuckDB does
_QUICKLY = {"compression": "lz4"}  # a file of 200 events takes 1.4 instead of 2.5 ms, and is a sixth larger
_NONE = -1  # the number of no event, and the code of no text


class LongVisits(Exception):
    """The events of visits that may continue do not fit into memory."""


def write_segment(batches: Iterable[pa.RecordBatch], interval: Interval, file: Path) -> Content:
    """Write the file of the interval's segment, with the types and the compression of DuckDB's files. `batches` are all
    its raw events, in order of time. Without events, there is no file. Raises LongVisits.
    """
    with _SegmentFile(file) as target:
        for openings, others in ahead(_parts(batches, interval)):
            target.write(openings, others)
    return target.content


def _parts(batches: Iterable[pa.RecordBatch], interval: Interval) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yield the segment's rows, those of visits that have ended as soon as many events are in memory: openings, and
    other rows.
    """
    waiting: list[pa.RecordBatch] = []
    size, seen = 0, _Seen.none()
    for batch in (each for each in batches if each.num_rows):
        if size + batch.nbytes > RAW_IN_MEMORY and waiting:
            part = _Ended(pa.Table.from_batches(waiting), batch["occurred"][0].as_py())
            yield part.rows(interval, seen)
            waiting, size, seen = part.unfinished.to_batches(), part.unfinished.nbytes, part.seen(seen)
            del part
            if size > MOST_UNFINISHED:
                raise LongVisits
        waiting.append(batch)
        size += batch.nbytes
    if waiting:
        rows = rows_of(pa.Table.from_batches(waiting), interval, seen=seen)
        openings = pc.sum(pc.greater_equal(rows["last_quarter"], 0)).as_py()
        yield rows.slice(0, openings), rows.slice(openings)


def small_files(events: pa.Table, counts: Sequence[int], interval: Interval) -> Iterator[tuple[bytes, Content]]:
    """Yield the file of each site's segment of the interval. `events` are the raw events of all these sites, by site
    and then time, and `counts` the number of each site's events.
    """
    sites = np.repeat(np.arange(len(counts)), counts)
    # Without dictionaries: each slice would be written with the whole dictionary.
    rows, first = _with_texts(rows_of(events, interval, sites=sites), lambda column: column.dictionary_decode()), 0
    for count in counts:
        of_site = rows.slice(first, count)
        file = pa.BufferOutputStream()
        pq.write_table(of_site, file, **_WRITTEN, **_QUICKLY)
        yield file.getvalue().to_pybytes(), _content_of(of_site)
        first += count


def rows_of(
    events: pa.Table, interval: Interval, *, sites: _Numbers | None = None, seen: "_Seen | None" = None
) -> pa.Table:
    """Return the rows of the segment in the order of its file. `sites` are the numbers of the events' sites, in order:
    the rows are then those of each site's segment, in the same order.
    """
    found = _events_by_visitor(events, sites)
    return _rows(found, _visits(found), interval, seen or _Seen.none(), np.arange(len(found.occurred)))


def visit_rows(events: pa.Table) -> pa.Table:
    """Return the rows that DERIVED in visit_sql.py derives of these events. `events` has `seen` and the raw columns of
    a detail (raw_columns), and the rows have the columns of this detail.
    """
    found = _events_by_visitor(events, None)
    visits, order = _visits(found), np.arange(len(found.occurred))
    given = found.others.pop("seen")
    seen = given.fill_null(0).to_numpy(), given.is_valid().to_numpy(zero_copy_only=False)
    follows = visits.in_visit & ~visits.is_entry & visits.is_known
    has_texts = "page" in found.texts
    columns = {
        **found.others,
        **_columns_of_visits(found, visits, seen, order),
        **(_texts(found, visits, order) if has_texts else {"name": found.texts["name"].at(order)}),
        "prior": pa.array((visits.before // QUARTER).astype(np.int32), mask=~follows),
    }
    return _with_texts(pa.table(columns), lambda column: column.dictionary_decode())


class _Ended:
    """The visits that have ended if the next event is at `next_at`. `unfinished` are the raw events of the others."""

    def __init__(self, events: pa.Table, next_at: int) -> None:
        self._found = _events_by_visitor(events, None)
        self._visits = _visits(self._found)
        self._has_ended = ~self._found.has_visitor | (next_at - self._visits.span_end > VISIT_GAP)
        self.unfinished = events.take(pa.array(self._found.order[~self._has_ended]))

    def rows(self, interval: Interval, seen: "_Seen") -> tuple[pa.Table, pa.Table]:
        """Openings, and other rows. They share no memory, so that each can be kept without the other."""
        is_opening = self._visits.last_quarter >= 0
        openings, others = (
            _rows(self._found, self._visits, interval, seen, np.flatnonzero(self._has_ended & chosen))
            for chosen in (is_opening, ~is_opening)
        )
        return openings, others

    def seen(self, before: "_Seen") -> "_Seen":
        chosen = self._has_ended & self._found.has_visitor
        return before.and_then(self._found.visitor[chosen], self._found.occurred[chosen] // QUARTER)


def _rows(found: "_Events", visits: "_Visits", interval: Interval, seen: "_Seen", chosen: _Numbers) -> pa.Table:
    near_end = (visits.span_start < interval.start + VISIT_GAP) | (visits.span_end >= interval.end - VISIT_GAP)
    is_edge = near_end & found.has_visitor
    keys = (is_edge, found.occurred // DAY, visits.last_quarter < 0, found.sites)
    order = chosen[_order(*(key if key is None else key[chosen] for key in keys))]
    columns = {
        **{name: found.others[name].take(pa.array(order)) for name in _OTHERS},
        **_columns_of_visits(found, visits, _seen_before(found, visits, seen), order),
        **_texts(found, visits, order),
        "edge": pa.array(is_edge[order]),
    }
    return pa.table({name: columns[name] for name in (*VISIT_ROW_COLUMNS, "edge")})


def _order(*keys: _Numbers | None) -> _Numbers:
    """The order by these keys, the last one first."""
    return np.lexsort([key for key in keys if key is not None])


def _content_of(rows: pa.Table) -> Content:
    times = pc.min_max(rows["occurred"])
    return Content(rows.num_rows, times["min"].as_py(), times["max"].as_py())


def _with_texts(rows: pa.Table, change: Callable[[pa.DictionaryArray], pa.Array]) -> pa.Table:
    """The rows with each column of texts changed."""
    columns = {name: column.combine_chunks() for name, column in zip(rows.column_names, rows.columns, strict=True)}
    changed = {name: change(column) for name, column in columns.items() if pa.types.is_dictionary(column.type)}
    if "own" in columns:
        own = columns["own"]
        texts = [change(own.field(name)) for name in DESCRIBED]
        changed["own"] = pa.StructArray.from_arrays(texts, DESCRIBED, mask=own.is_null())
    return pa.table(columns | changed)


def _used(column: pa.DictionaryArray) -> pa.DictionaryArray:
    """The column with a dictionary of the texts that occur in it. A row group is written with its whole dictionary."""
    codes = column.indices.fill_null(_NONE).to_numpy()
    is_used = np.zeros(len(column.dictionary) + 1, bool)
    is_used[codes] = True  # the last place is that of no text
    if is_used[:-1].all():
        return column
    places = np.append(np.cumsum(is_used[:-1]) - 1, _NONE)
    dictionary = column.dictionary.filter(pa.array(is_used[:-1]))
    return pa.DictionaryArray.from_arrays(pa.array(places[codes], mask=codes == _NONE), dictionary)


class _SegmentFile:
    """Openings and other rows have row groups of their own, so that a query about visits reads no others. Only the last
    row groups may have both.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._open = file, ExitStack()
        self._writer: pq.ParquetWriter | None = None
        self._openings: list[pa.Table] = []
        self._others: list[pa.Table] = []
        self.content = Content(0, 0, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._open:
            if kind is None and (left := [*self._openings, *self._others]):
                self._put(pa.concat_tables(left))

    def write(self, openings: pa.Table, others: pa.Table) -> None:
        self._openings = self._written(self._openings, openings)
        self._others = self._written(self._others, others)

    def _written(self, waiting: list[pa.Table], added: pa.Table) -> list[pa.Table]:
        """Write whole row groups, and return the rows that are left."""
        if not added.num_rows:
            return waiting
        content, times = self.content, pc.min_max(added["occurred"])
        first = min(content.first, times["min"].as_py()) if content.rows else times["min"].as_py()
        self.content = Content(content.rows + added.num_rows, first, max(content.last, times["max"].as_py()))
        rows = pa.concat_tables([*waiting, added])
        whole = rows.num_rows // self._row_group * self._row_group
        if not whole:
            return [*waiting, added]
        self._put(rows.slice(0, whole))
        return [rows.slice(whole)]

    def _put(self, rows: pa.Table) -> None:
        if self._writer is None:
            self._writer = self._open.enter_context(
                pq.ParquetWriter(self._file, rows.schema, **_WRITTEN, **_COMPRESSED)
            )
        rows = rows.unify_dictionaries()
        for first in range(0, rows.num_rows, self._row_group):
            self._writer.write_table(_with_texts(rows.slice(first, self._row_group), _used), self._row_group)

    @property
    def _row_group(self) -> int:
        return ROW_GROUP if self.content.rows <= MANY_ROWS else LARGE_ROW_GROUP


@dataclass(frozen=True, slots=True)
class _Seen:
    """The quarter of an hour in which each visitor was last seen, by visitor."""

    visitors: _Numbers
    quarters: _Numbers

    @classmethod
    def none(cls) -> "_Seen":
        return cls(np.zeros(0, np.uint64), np.zeros(0, np.int64))

    def and_then(self, visitors: _Numbers, quarters: _Numbers) -> "_Seen":
        """`visitors` and `quarters` are those of later events, of each visitor in order of time."""
        visitors, quarters = (np.concatenate(x) for x in ((self.visitors, visitors), (self.quarters, quarters)))
        order = np.argsort(visitors, kind="stable")
        last = order[np.append(visitors[order][1:] != visitors[order][:-1], True)[: len(order)]]
        return _Seen(visitors[last], quarters[last])

    def of(self, visitors: _Numbers) -> tuple[_Numbers, _Mask]:
        """The quarter of each of these visitors, and whether there is one."""
        if not len(self.visitors):
            return np.zeros(len(visitors), np.int64), np.zeros(len(visitors), bool)
        places = np.minimum(np.searchsorted(self.visitors, visitors), len(self.visitors) - 1)
        return self.quarters[places], self.visitors[places] == visitors


@dataclass(frozen=True, slots=True)
class _Text:
    """A column of texts. A code is the place of the text in the dictionary, or _NONE."""

    codes: _Numbers
    dictionary: pa.Array

    def are(self, text: str) -> _Mask:
        found: _Mask = (self.codes == self.dictionary.index(text).as_py()) & (self.codes != _NONE)
        return found

    def at(self, numbers: _Numbers) -> pa.DictionaryArray:
        """The texts of these events."""
        codes = np.append(self.codes, _NONE)[numbers]
        return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes == _NONE), self.dictionary)


@dataclass(frozen=True, slots=True)
class _Events:
    """Raw events by site, visitor, time and tie. Those without a visitor are last. `sites` is None if there is one.
    `order` are their numbers before they were put in order.
    """

    sites: _Numbers | None
    order: _Numbers
    occurred: _Numbers
    visitor: _Numbers
    has_visitor: _Mask
    texts: dict[str, _Text]
    others: dict[str, pa.Array]


def _events_by_visitor(events: pa.Table, sites: _Numbers | None) -> _Events:
    columns = {name: events[name].combine_chunks() for name in events.column_names}
    occurred, tie = columns["occurred"].to_numpy(), columns["tie"].to_numpy()
    has_visitor = columns["visitor"].is_valid().to_numpy(zero_copy_only=False)
    visitor = columns["visitor"].fill_null(0).to_numpy()
    order = _order(tie, occurred, visitor, ~has_visitor, sites)
    texts = {}
    for name in columns.keys() & {*_TEXTS}:
        encoded = columns[name].dictionary_encode()
        codes = encoded.indices.fill_null(_NONE).to_numpy()
        texts[name] = _Text(codes[order], encoded.dictionary)
    others = {name: columns[name].take(pa.array(order)) for name in columns.keys() & {*_OTHERS, "seen"}}
    return _Events(sites, order, occurred[order], visitor[order], has_visitor[order], texts, others)


class _Spans:
    """The spans of events by visitor and time. An event without a visitor is a span of its own."""

    def __init__(self, events: _Events) -> None:
        count = len(events.occurred)
        self.is_new = ~events.has_visitor
        for key in (events.visitor, events.sites):
            if key is not None:
                self.is_new |= np.append(True, key[1:] != key[:-1])[:count]
        self.before = np.append(0, events.occurred[:-1])[:count]  # of a visitor who is not new
        begins = self.is_new | (events.occurred - self.before > VISIT_GAP)
        self.of_event = np.cumsum(begins) - 1
        self.first = np.flatnonzero(begins)
        self.last = np.append(self.first[1:], count)[: len(self.first)] - 1

    def running(self, chosen: _Mask) -> _Numbers:
        """How many of the chosen events each span has up to each event."""
        total = np.cumsum(chosen)
        before: _Numbers = total[self.first] - chosen[self.first]
        found: _Numbers = total - before[self.of_event]
        return found

    def count(self, chosen: _Mask) -> _Numbers:
        """How many of the chosen events the span of each event has."""
        counts: _Numbers = np.bincount(self.of_event[chosen], minlength=len(self.first))
        of_events: _Numbers = counts[self.of_event]
        return of_events

    def first_of(self, chosen: _Mask) -> _Numbers:
        """The number of the first chosen event in the span of each event, or _NONE."""
        return self._one_of(np.flatnonzero(chosen)[::-1])

    def last_of(self, chosen: _Mask) -> _Numbers:
        return self._one_of(np.flatnonzero(chosen))

    def _one_of(self, numbers: _Numbers) -> _Numbers:
        chosen = np.full(len(self.first), _NONE)
        chosen[self.of_event[numbers]] = numbers  # of several values for one place, numpy keeps the last
        of_events: _Numbers = chosen[self.of_event]
        return of_events


@dataclass(frozen=True, slots=True)
class _Visits:
    """The visit of each event. `entry`, `first_view` and `last_view` are numbers of events, or _NONE."""

    in_visit: _Mask
    is_entry: _Mask
    is_known: _Mask  # whether it is the entry; an event without a name is not
    is_new: _Mask
    before: _Numbers
    span_start: _Numbers
    span_end: _Numbers
    last_quarter: _Numbers
    pageviews: _Numbers
    bounce: _Mask
    entry: _Numbers
    first_view: _Numbers
    last_view: _Numbers


def _visits(events: _Events) -> _Visits:
    """The same as DERIVED in visit_sql.py."""
    spans, names = _Spans(events), events.texts["name"]
    is_view, is_named = names.are("pageview") & events.has_visitor, names.codes != _NONE
    is_part = is_named & ~names.are("engagement") & events.has_visitor
    nth, span_end = spans.running(is_part), events.occurred[spans.last][spans.of_event]
    is_entry = is_part & (nth == 1)
    of_opening = np.where(is_entry, span_end, events.occurred) // QUARTER
    acts = is_part & ~is_view & events.others["interactive"].to_numpy(zero_copy_only=False)
    pageviews = spans.count(is_view)
    return _Visits(
        in_visit=nth > 0,
        is_entry=is_entry,
        is_known=is_named | (nth != 1),
        is_new=spans.is_new,
        before=spans.before,
        span_start=events.occurred[spans.first][spans.of_event],
        span_end=span_end,
        last_quarter=np.where(is_entry | (nth == 0), of_opening, -1),
        pageviews=pageviews,
        bounce=(pageviews == 1) & (spans.count(acts) == 0),
        entry=spans.first_of(is_entry),
        first_view=spans.first_of(is_view),
        last_view=spans.last_of(is_view),
    )


def _seen_before(events: _Events, visits: _Visits, before: _Seen) -> tuple[_Numbers, _Mask]:
    """The quarter of the previous event of each event's visitor, and whether there is one."""
    seen, is_seen = visits.before // QUARTER, ~visits.is_new
    first = np.flatnonzero(visits.is_new & events.has_visitor)
    seen[first], is_seen[first] = before.of(events.visitor[first])
    return seen, is_seen


def _columns_of_visits(
    events: _Events, visits: _Visits, seen: tuple[_Numbers, _Mask], order: _Numbers
) -> dict[str, pa.Array]:
    """`seen`: see _seen_before."""
    quarter, start = events.occurred // QUARTER, events.occurred[visits.entry]
    visit = events.visitor ^ start.astype(np.uint64)

    def column(values: _Numbers, kind: pa.DataType, is_valid: _Mask | None = None) -> pa.Array:
        return pa.array(values[order], kind, mask=None if is_valid is None else ~is_valid[order])

    return {
        "occurred": column(events.occurred, pa.int64()),
        "quarter": column(quarter.astype(np.int32), pa.int32()),
        "seen": column(
            np.where(events.has_visitor, seen[0], quarter).astype(np.int32), pa.int32(), seen[1] | ~events.has_visitor
        ),
        "visitor": column(events.visitor, pa.uint64(), events.has_visitor),
        "visit": column(visit, pa.uint64(), visits.in_visit),
        "entry": column(visits.is_entry, pa.bool_(), visits.is_known | ~events.has_visitor),
        "last_quarter": column(visits.last_quarter.astype(np.int32), pa.int32()),
        "visit_duration": column(visits.span_end - start, pa.int64(), visits.in_visit),
        "visit_pageviews": column(visits.pageviews.astype(np.int32), pa.int32(), visits.in_visit),
        "visit_bounce": column(visits.bounce, pa.bool_(), visits.in_visit),
        "span_start": column(visits.span_start, pa.int64()),
        "span_end": column(visits.span_end, pa.int64()),
    }


def _texts(events: _Events, visits: _Visits, order: _Numbers) -> dict[str, pa.Array]:
    texts = events.texts
    first, last = (np.where(visits.in_visit, views, _NONE)[order] for views in (visits.first_view, visits.last_view))
    entry = np.where(visits.in_visit, visits.entry, np.arange(len(visits.entry)))
    differs = np.zeros(len(entry), bool)
    for name in DESCRIBED:
        differs |= texts[name].codes != texts[name].codes[entry]
    own = np.where(differs, np.arange(len(entry)), _NONE)[order]
    return {
        **{name: texts[name].at(order) for name in ("name", "page", "hostname", "currency")},
        "entry_page": texts["page"].at(first),
        "entry_page_hostname": texts["hostname"].at(first),
        "exit_page": texts["page"].at(last),
        "exit_page_hostname": texts["hostname"].at(last),
        **{name: texts[name].at(entry[order]) for name in DESCRIBED},
        "own": pa.StructArray.from_arrays(
            [texts[name].at(own) for name in DESCRIBED], DESCRIBED, mask=pa.array(own == _NONE)
        ),
    }
