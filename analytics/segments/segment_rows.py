"""Makes the rows of a segment from raw events in memory, and writes its file, without DuckDB.

DuckDB takes 25 ms of CPU to plan the statements that derive visits (analytics/segments/visit_sql.py), and then more for
each event. Both ways give the same rows in the same order, with the same types. This one needs all events of the
segment in memory.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analytics.events.event import DESCRIBED
from analytics.interval import DAY, QUARTER, VISIT_GAP, Interval
from analytics.segments.store import Content
from analytics.segments.visit_sql import VISIT_ROW_COLUMNS

_Numbers = npt.NDArray[Any]
_Mask = npt.NDArray[np.bool_]

_TEXTS = ("name", "page", "hostname", "currency", *DESCRIBED)
_OTHERS = ("tie", "interactive", "engagement_time", "scroll_depth", "revenue", "props")
# Only these tell a query which row groups it can skip. The statistics of all columns took 7 of 23 ms for 13,000 rows.
_BY_TIME = ["occurred", "quarter", "last_quarter", "visitor", "span_start", "span_end", "edge"]
# Numbers without a dictionary, and times as differences, made the file 6 % smaller.
_IN_DICTIONARY = (
    *("name", "page", "hostname", "currency", "entry_page", "entry_page_hostname", "exit_page", "exit_page_hostname"),
    *DESCRIBED,
)
_NONE = -1  # the number of no event, and the code of no text


def write_segment(events: pa.Table, interval: Interval, file: Path, row_group: int) -> Content:
    """Write the file of the interval's segment, with the types and the compression of DuckDB's files. `events` are all
    its raw events.
    """
    if not events.num_rows:
        return Content(0, 0, 0)
    rows = rows_of(events, interval)
    pq.write_table(
        rows, file, row_group_size=row_group, compression="zstd", compression_level=3, store_schema=False,
        store_decimal_as_integer=True, write_statistics=_BY_TIME, use_dictionary=list(_IN_DICTIONARY),
        column_encoding={"occurred": "DELTA_BINARY_PACKED"},
    )  # fmt: skip
    times = pc.min_max(rows["occurred"])
    return Content(rows.num_rows, times["min"].as_py(), times["max"].as_py())


def rows_of(events: pa.Table, interval: Interval) -> pa.Table:
    """Return the rows of the segment in the order of its file."""
    found = _events_by_visitor(events)
    visits = _visits(found)
    near_end = (visits.span_start < interval.start + VISIT_GAP) | (visits.span_end >= interval.end - VISIT_GAP)
    is_edge = near_end & found.has_visitor
    order = np.lexsort((is_edge, found.occurred // DAY, visits.last_quarter < 0))
    columns = {
        **{name: found.others[name].take(pa.array(order)) for name in _OTHERS},
        **_columns_of_visits(found, visits, order),
        **_texts(found, visits, order),
        "edge": pa.array(is_edge[order]),
    }
    return pa.table({name: columns[name] for name in (*VISIT_ROW_COLUMNS, "edge")})


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
    """Raw events by visitor, time and tie. Those without a visitor are last."""

    occurred: _Numbers
    visitor: _Numbers
    has_visitor: _Mask
    texts: dict[str, _Text]
    others: dict[str, pa.Array]


def _events_by_visitor(events: pa.Table) -> _Events:
    columns = {name: events[name].combine_chunks() for name in events.column_names}
    occurred, tie = columns["occurred"].to_numpy(), columns["tie"].to_numpy()
    has_visitor = columns["visitor"].is_valid().to_numpy(zero_copy_only=False)
    visitor = columns["visitor"].fill_null(0).to_numpy()
    order = np.lexsort((tie, occurred, visitor, ~has_visitor))
    texts = {}
    for name in _TEXTS:
        encoded = columns[name].dictionary_encode()
        codes = encoded.indices.fill_null(_NONE).to_numpy()
        texts[name] = _Text(codes[order], encoded.dictionary)
    others = {name: columns[name].take(pa.array(order)) for name in _OTHERS}
    return _Events(occurred[order], visitor[order], has_visitor[order], texts, others)


class _Spans:
    """The spans of events by visitor and time. An event without a visitor is a span of its own."""

    def __init__(self, events: _Events) -> None:
        count = len(events.occurred)
        self.is_new = np.append(True, events.visitor[1:] != events.visitor[:-1])[:count] | ~events.has_visitor
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


def _columns_of_visits(events: _Events, visits: _Visits, order: _Numbers) -> dict[str, pa.Array]:
    quarter, start = events.occurred // QUARTER, events.occurred[visits.entry]
    seen = np.where(events.has_visitor, visits.before // QUARTER, quarter)
    visit = events.visitor ^ start.astype(np.uint64)

    def column(values: _Numbers, kind: pa.DataType, is_valid: _Mask | None = None) -> pa.Array:
        return pa.array(values[order], kind, mask=None if is_valid is None else ~is_valid[order])

    return {
        "occurred": column(events.occurred, pa.int64()),
        "quarter": column(quarter.astype(np.int32), pa.int32()),
        "seen": column(seen.astype(np.int32), pa.int32(), ~visits.is_new | ~events.has_visitor),
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
