"""A snapshot: a consistent view of a site's events, from segments and from rows that were derived for it, or of the
events of several sites (RollUp). Pure: it returns SQL.

Each moment has exactly one source: a dirty slot is read from raw events, and all else from the finest segment that
holds it. Rows of visits that cannot have changed come directly from the files. Visits near a seam (the end of a
segment, a dirty slot, a finer segment) are derived again from all their events, by the same SQL that derives segments.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Protocol

from analytics.events.columns import visitor_of
from analytics.interval import QUARTER, SEGMENT_GRAINS, VISIT_GAP, Interval, joined
from analytics.segments.store import Manifest, Segment
from analytics.segments.visit_sql import FILES, Detail, raw_columns
from analytics.sql import FALSE, TRUE, Sql, any_of, joined_by, negated, put, select

_EDGE = Sql("edge")


@dataclass(frozen=True, slots=True)
class SegmentSource:
    """One segment's part of a snapshot. Other sources replace it in two kinds of intervals: finer segments in `finer`,
    and raw events in `fresh`. `fresh` includes intervals that are beside the segment.
    """

    segment: Segment
    path: str
    finer: tuple[Interval, ...] = ()
    fresh: tuple[Interval, ...] = ()

    @property
    def holes(self) -> list[Interval]:
        return joined([*self.finer, *self.fresh])

    def in_holes(self) -> Sql:
        return any_of(map(inside, self.holes))

    def outside_holes(self) -> list[Sql]:
        return [*map(outside, self.holes)]

    def finer_seams(self) -> list[Sql]:
        """Conditions for rows whose visits may change when they are joined with rows of finer segments."""
        return [*map(_touching, joined(hole.widened(VISIT_GAP) for hole in self.finer))]

    def fresh_seams(self) -> list[Sql]:
        """Conditions for rows whose visits may change when they are joined with raw events."""
        return [*map(_touching, joined(hole.widened(VISIT_GAP) for hole in self.fresh))]


class Snapshot(Protocol):
    """What a report reads: the events of one site (SiteSnapshot) or of several sites (RollUp)."""

    @property
    def as_of(self) -> datetime | None: ...

    @property
    def extent(self) -> Interval | None: ...

    def rows(self, period: Interval, columns: Iterable[str], *, openings: bool = False) -> Sql: ...

    def holds_whole(self, interval: Interval) -> bool: ...


@dataclass(frozen=True)
class SiteSnapshot:
    """A consistent view of a site's events. It includes everything stored until `as_of`, and only some later events. If
    `as_of` is None, it includes all events. `fresh` holds the dirty slots that are read from raw events.

    `extra` is a relation with the events that are not read from segments. With `visits`, these are the events at
    seams; without, the events of dirty slots. It is None if there are only segments, because an empty relation costs a
    millisecond. `active` is a relation of visitors, or None. Of the visits that touch dirty slots, `extra` then holds
    only those of these visitors. The segment's rows are valid for the other visitors. `at_ends`: which rows of visits
    at the ends of segments are valid; `extra` holds the other ones. `cut`: visits of this interval end at its ends, no
    matter which events lie beyond. `extent` holds all existing events, if it is known. `files` are the files of
    `extra`, which are removed when no snapshot refers to them.
    """

    sources: tuple[SegmentSource, ...]
    fresh: tuple[Interval, ...]
    extra: Sql | None
    visits: bool = True
    as_of: datetime | None = None
    cut: Interval | None = None
    active: str | None = None
    at_ends: Sql = FALSE
    extent: Interval | None = None
    files: tuple[object, ...] = ()

    def rows(self, period: Interval, columns: Iterable[str], *, openings: bool = False) -> Sql:
        """Return the events of the period. `columns` are columns of VISIT_ROW_COLUMNS and `prior`. Without visits, they
        are columns of EVENT_COLUMNS.

        With `openings`, return fewer rows, which stand for all of them: the openings (analytics/segments/visit_sql.py)
        whose quarters overlap the period, with their `last_quarter`. The period must begin and end with a quarter. If
        an opening is not known, each event stands for itself.
        """
        names = list(dict.fromkeys([*columns, "last_quarter"] if openings else columns)) or ["name"]
        whole = sorted((s for s in self.sources if not s.holes and s.segment.interval.within(period)), key=_format)
        within = _of_openings(period) if openings else []
        parts = []
        for _, alike in groupby(whole, _format):
            sources = list(alike)
            parts += [self._part(sources, names, [*limits, *within]) for limits in self._limits(sources[0])]
        for source in self.sources:
            if source.segment.interval.overlaps(period) and source not in whole:
                known = openings and (self.visits or not source.holes)
                within = _of_openings(period) if known else _within(source.segment, period)
                what = [*map(_standing_for_itself, names)] if openings and not known else names
                parts += [self._part([source], what, [*limits, *within]) for limits in self._limits(source)]
        if self.extra is not None:
            found = ", ".join(names if self.visits else map(_from_raw, names))
            limits = [Sql("occurred >= ?", (period.start,)), Sql("occurred < ?", (period.end,))]
            parts.append(select(found, self.extra, _of_openings(period) if openings and self.visits else limits))
        if not parts:
            parts.append(self._part(self.sources[:1], names, [Sql("false")]))
        return joined_by(" UNION ALL ", parts)

    def holds_whole(self, interval: Interval) -> bool:
        """Whether one segment holds all events of the interval. If so, the first event of each visitor in it has a
        `seen` outside the interval, and no other event has.
        """
        holders = [s for s in self.sources if s.segment.interval.overlaps(interval) and not _filled(interval, s.holes)]
        return len(holders) == 1 and not any(hole.overlaps(interval) for hole in [*holders[0].holes, *self.fresh])

    def _part(self, sources: Sequence[SegmentSource], names: Sequence[str], limits: Sequence[Sql]) -> Sql:
        """Select columns from sources of one format."""
        what, values = [], []
        holes = [hole for source in sources for hole in source.holes]
        for name in names:
            if name == "prior":
                what.append("CASE WHEN NOT entry AND visit_bounce IS NOT NULL THEN seen END AS prior")
            elif name == "seen" and holes:
                what.append(_seen(holes))
                values += _quarters(holes)
            else:
                what.append(name)
        part = select(", ".join(what), files_of(sources), limits)
        return Sql(part.text, (*values, *part.values))

    def _limits(self, source: SegmentSource) -> list[list[Sql]]:
        """Return the conditions of each part of the source that is valid, considering all its holes."""
        if not self.visits:
            return [source.outside_holes()]
        away, at_fresh = [*map(negated, source.finer_seams())], source.fresh_seams()
        if self.cut is not None:
            away.append(Sql("span_start >= ? AND span_end < ?", (self.cut.start, self.cut.end)))
        settled = [*away, *map(negated, at_fresh)]
        parts = [settled if self.at_ends == TRUE else [negated(_EDGE), *settled]]
        if self.at_ends not in (TRUE, FALSE):
            parts.append([_EDGE, *settled, self.at_ends])
        if at_fresh and self.active:
            settled = [*away, any_of([negated(_EDGE), self.at_ends]), *source.outside_holes()]
            parts.append([*settled, any_of(at_fresh), of_other_visitors(self.active)])
        return parts


def _format(source: SegmentSource) -> int:
    return source.segment.format


@dataclass(frozen=True)
class RollUp:
    """The events of several sites as one, with the snapshot of each site by its id. A visitor and a visit belong to one
    site: a `user_id` that two sites have is two visitors.
    """

    snapshots: Mapping[str, SiteSnapshot]

    @property
    def as_of(self) -> datetime | None:
        return min((each.as_of for each in self.snapshots.values() if each.as_of), default=None)

    @property
    def extent(self) -> Interval | None:
        found = [each.extent for each in self.snapshots.values() if each.extent]
        if len(found) < len(self.snapshots):
            return None
        return Interval(min(each.start for each in found), max(each.end for each in found))

    def rows(self, period: Interval, columns: Iterable[str], *, openings: bool = False) -> Sql:
        """The same as SiteSnapshot.rows."""
        names = list(columns)
        of_sites = (
            _of_site(site_id, names, each.rows(period, names, openings=openings))
            for site_id, each in self.snapshots.items()
        )
        return joined_by(" UNION ALL ", of_sites)

    def holds_whole(self, interval: Interval) -> bool:
        return all(each.holds_whole(interval) for each in self.snapshots.values())


def _of_site(site_id: str, names: Sequence[str], rows: Sql) -> Sql:
    """The rows, with ids that no other site has. A hash stays a hash: xor with a constant keeps distinct ids distinct,
    and gives the same id on two sites two values.
    """
    own = [Sql(f"xor({name}, ?::UBIGINT) AS {name}", (visitor_of(site_id),)) for name in _IDS if name in names]
    return put("SELECT * REPLACE ({}) FROM ({})", joined_by(", ", own), rows) if own else rows


_IDS = ("visitor", "visit")


def of_visitors(relation: str) -> Sql:
    return Sql(f"visitor IN (SELECT visitor FROM {relation})")


def of_other_visitors(relation: str) -> Sql:
    return Sql(f"(visitor IS NULL OR visitor NOT IN (SELECT visitor FROM {relation}))")


_SPAN = "xor(visitor, span_start::UBIGINT)"


def _of_spans(relation: str) -> Sql:
    """Rows of segments whose spans are in the relation, which has `visitor` and `span_start`."""
    return Sql(f"{_SPAN} IN (SELECT {_SPAN} FROM {relation})")


def of_other_spans(relation: str) -> Sql:
    return Sql(f"{_SPAN} NOT IN (SELECT {_SPAN} FROM {relation})")


def _seen(holes: Sequence[Interval]) -> str:
    """If the previous event was in a hole, its quarter is unknown, and the event counts as the visitor's first."""
    replaced = "".join(" WHEN seen >= ? AND seen < ? THEN NULL" for _ in holes)
    return f"CASE{replaced} ELSE seen END AS seen" if replaced else "seen"


def _quarters(holes: Iterable[Interval]) -> list[int]:
    return [quarter for hole in holes for quarter in (hole.start // QUARTER, -(-hole.end // QUARTER))]


_SEEN_IN_RAW = f"CASE WHEN visitor IS NULL THEN (occurred // {QUARTER})::INTEGER END AS seen"


def _from_raw(name: str) -> str:
    """Return a segment's column computed from raw events."""
    quarter = f"(occurred // {QUARTER})::INTEGER AS "
    made = {"quarter": f"{quarter}quarter", "last_quarter": f"{quarter}last_quarter", "seen": _SEEN_IN_RAW}
    return made.get(name, name)


def _standing_for_itself(name: str) -> str:
    return "quarter AS last_quarter" if name == "last_quarter" else name


def _within(segment: Segment, period: Interval) -> list[Sql]:
    limits = [_since(period.start)] if segment.start < period.start else []
    return [*limits, _until(period.end)] if period.end < segment.end else limits


def _of_openings(period: Interval) -> list[Sql]:
    start = max(period.start, 0)  # in a time zone east of UTC, 1970 began earlier; no opening has -1
    return [Sql("last_quarter >= ?", (start // QUARTER,)), Sql("quarter < ?", (period.end // QUARTER,))]


def inside(interval: Interval) -> Sql:
    return Sql("(occurred >= ? AND occurred < ?)", (interval.start, interval.end))


def outside(interval: Interval) -> Sql:
    return negated(inside(interval))


def _at_ends(reach: Interval) -> Sql:
    """Of the ends of segments, only those within `reach` count."""
    return Sql("(edge AND span_end >= ? AND span_start < ?)", (reach.start, reach.end))


def _touching(seam: Interval) -> Sql:
    return Sql("(span_end >= ? AND span_start < ?)", (seam.start, seam.end))


def _since(ms: int) -> Sql:
    """Use the quarter if it is exact: it is read in a fifth of the time."""
    return Sql("occurred >= ?", (ms,)) if ms % QUARTER else Sql("quarter >= ?", (ms // QUARTER,))


def _until(ms: int) -> Sql:
    return Sql("occurred < ?", (ms,)) if ms % QUARTER else Sql("quarter < ?", (ms // QUARTER,))


def _filled(interval: Interval, holes: Sequence[Interval]) -> bool:
    return any(interval.within(hole) for hole in holes)


def source_of(
    segment: Segment, path: str, manifest: Manifest, fresh: Sequence[Interval], scope: Interval
) -> SegmentSource:
    """Return the part of the segment that is valid within the scope. `path` is the segment's file."""
    finer = [
        other.interval
        for other in manifest.segments
        if SEGMENT_GRAINS.index(other.grain) < SEGMENT_GRAINS.index(segment.grain)
        and other.interval.within(segment.interval)
    ]

    def met(holes: Iterable[Interval], reach: Interval) -> tuple[Interval, ...]:
        return tuple(hole for hole in joined(holes) if hole.overlaps(reach) and hole.overlaps(scope))

    near = segment.interval.widened(VISIT_GAP)
    return SegmentSource(segment, path, met(finer, segment.interval), met(fresh, near))


def crossing_spans(sources: Sequence[SegmentSource], scope: Interval) -> Sql:
    """Select the spans (`visitor`, `span_start`) whose visits may change when the segments are joined: those at the
    ends of segments with less than a visit's gap to another one, and all of the visitors with events near finer
    segments. Openings tell, because each span has one.
    """
    reach = scope.widened(VISIT_GAP)
    spans = []
    for alike in _alike(sources):
        files, outside_holes = files_of(alike), alike[0].outside_holes()
        limits = [_at_ends(reach), Sql("last_quarter >= 0"), *outside_holes]
        spans.append(select("visitor, span_start, span_end, false AS at_finer", files, limits))
        if seams := alike[0].finer_seams():
            limits = [any_of(seams), Sql("visitor IS NOT NULL"), *outside_holes]
            spans.append(select("visitor, span_start, span_end, true AS at_finer", files, limits))
    of_visitor = "(PARTITION BY visitor ORDER BY span_start)"
    gaps = put(
        f"SELECT visitor, span_start, span_start - lag(span_end) OVER {of_visitor} AS before,"
        f" lead(span_start) OVER {of_visitor} - span_end AS after,"
        " bool_or(at_finer) OVER (PARTITION BY visitor) AS at_finer FROM ({})",
        joined_by(" UNION ALL ", spans),
    )
    joining = " OR ".join(f"({gap} > 0 AND {gap} <= {VISIT_GAP})" for gap in ("before", "after"))
    return put(f"SELECT DISTINCT visitor, span_start FROM ({{}}) WHERE at_finer OR {joining}", gaps)


def seam_rows(
    sources: Sequence[SegmentSource],
    scope: Interval,
    cut: Interval | None = None,
    *,
    crossing: str | None = None,
    detail: Detail = Detail.ALL,
) -> Sql:
    """Return the rows of visits at seams, as raw columns and `seen`. `crossing` is a relation of spans: other spans
    are omitted.
    """
    reach = scope.widened(VISIT_GAP)
    parts = []
    for alike in _alike(sources):
        source = alike[0]
        seams = [_at_ends(reach), *source.finer_seams(), *source.fresh_seams()]
        limits = source.outside_holes()
        if crossing is not None:
            limits.append(any_of([Sql("visitor IS NULL"), _of_spans(crossing)]))
        if cut is not None:
            seams.append(Sql("span_start < ? OR span_end >= ?", (cut.start, cut.end)))
            limits.append(inside(cut))
        parts.append(as_raw(files_of(alike), source.holes, [any_of(seams), *limits], detail))
    return joined_by(" UNION ALL BY NAME ", parts)


def rows_near_fresh(source: SegmentSource, active: str, at_ends: Sql, *, detail: Detail) -> Sql:
    """Return the source's rows of active visitors that are near raw events, as `seam_rows` does."""
    limits = [any_of(source.fresh_seams()), *map(negated, source.finer_seams()), *source.outside_holes()]
    limits += [any_of([negated(_EDGE), at_ends]), of_visitors(active)]
    return as_raw(files_of([source]), source.holes, limits, detail)


def as_raw(rows: Sql, holes: Sequence[Interval], limits: Sequence[Sql], detail: Detail) -> Sql:
    part = select(f"{raw_columns(detail, of_row=True)}, {_seen(holes)}", rows, limits)
    return Sql(part.text, (*_quarters(holes), *part.values))


def _alike(sources: Sequence[SegmentSource]) -> Iterator[list[SegmentSource]]:
    """Group the sources of one format without holes, because they are read under the same conditions."""
    for _, found in groupby(sorted((s for s in sources if not s.holes), key=_format), _format):
        yield list(found)
    yield from ([source] for source in sources if source.holes)


def files_of(sources: Sequence[SegmentSource]) -> Sql:
    """The files of sources of one format."""
    return Sql(FILES[_format(sources[0])], ([source.path for source in sources],))
