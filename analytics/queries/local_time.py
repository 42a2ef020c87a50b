"""Local time over a period: when a zone's offset from UTC changes, and the hours, days, weeks and months of its clocks,
which are numbered buckets with labels, in Python and in SQL. Pure.

zoneinfo does not tell when an offset changes, so each year is sampled once and the changes are found by bisection.
"""

from calendar import isleap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from analytics.interval import DAY, HOUR, QUARTER, VISIT_GAP, Interval, as_ms
from analytics.queries.query import Grain, Period, midnight
from analytics.sql import Sql, put

EPOCH_DAY = date(1970, 1, 1)
_STEP = timedelta(days=2)  # two changes of one zone are at least 4 days apart in all of tzdata
FIRST_CHANGE = 1800  # a year before every change in tzdata
# from this year on, a zone follows the last rule of its tzdata, so years with the same calendar have the same changes
RULES_ONLY = 2100


def offsets(zone: ZoneInfo, interval: Interval) -> list[tuple[int, int]]:
    """Return pairs of (from when, offset from UTC), both in ms: the offset at the interval's start, then each change in
    it.
    """
    first = _moment(interval.start)
    found = [(interval.start, _offset(first, zone))]
    if zone.key == "UTC":
        return found
    for year in range(first.year, _moment(max(interval.start, interval.end - 1)).year + 1):
        found += [change for change in _changes(zone, year) if interval.start < change[0] < interval.end]
    return found


def _changes(zone: ZoneInfo, year: int) -> list[tuple[int, int]]:
    if year < RULES_ONLY:
        return _sampled(zone, year)
    like = _like(date(year, 1, 1).weekday(), isleap(year))
    later = as_ms(datetime(year, 1, 1, tzinfo=UTC)) - as_ms(datetime(like, 1, 1, tzinfo=UTC))
    return [(when + later, offset) for when, offset in _sampled(zone, like)]


@lru_cache
def _like(weekday: int, leap: bool) -> int:
    """The first year from RULES_ONLY on with this calendar."""
    years = range(RULES_ONLY, RULES_ONLY + 400)
    return next(year for year in years if date(year, 1, 1).weekday() == weekday and isleap(year) == leap)


@lru_cache(8_192)  # there are 600 zones; a site's reports use few zones and few years
def _sampled(zone: ZoneInfo, year: int) -> list[tuple[int, int]]:
    """Return the changes in a UTC year."""
    if year < FIRST_CHANGE:
        return []
    found = []
    end = datetime(year + 1, 1, 1, tzinfo=UTC)
    moment = datetime(year, 1, 1, tzinfo=UTC) - timedelta(milliseconds=1)
    offset = _offset(moment, zone)
    while moment < end:
        ahead = min(moment + _STEP, end)
        if (after := _offset(ahead, zone)) != offset:
            low, high = as_ms(moment), as_ms(ahead)
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if _offset(_moment(middle), zone) != offset else (middle, high)
            if high < as_ms(end):
                found.append((high, after))
        moment, offset = ahead, after
    return found


def _offset(moment: datetime, zone: ZoneInfo) -> int:
    return (moment.astimezone(zone).utcoffset() or timedelta(0)) // timedelta(milliseconds=1)


def _moment(ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)


def time_labels(period: Period, grain: Grain) -> list[str]:
    """Return the label of every bucket that the period touches, in order. Its cost grows with the number of labels."""
    return [label(bucket, grain) for bucket in time_buckets(period, grain)]


def time_buckets(period: Period, grain: Grain) -> list[int]:
    """Return every bucket that the period touches, in order.

    Time that clocks skip has no bucket (an hour in spring, Samoa's 30 December 2011). Time that they repeat has one
    bucket.
    """
    whole = period.interval
    if whole.end <= whole.start:
        return []
    found: set[int] = set()
    for (start, offset), (end, _) in pairwise([*offsets(period.zone, whole), (whole.end, 0)]):
        found.update(range(_bucket(start + offset, grain), _bucket(end - 1 + offset, grain) + 1))
    return sorted(found)


def _bucket(local: int, grain: Grain) -> int:
    day = local // DAY
    match grain:
        case "hour":
            return local // HOUR
        case "day":
            return day
        case "week":
            return (day + 3) // 7
        case "month":
            moment = EPOCH_DAY + timedelta(days=day)
            return moment.year * 12 + moment.month - 1


def label(bucket: int, grain: Grain) -> str:
    match grain:
        case "hour":
            return f"{EPOCH_DAY + timedelta(days=bucket // 24)} {bucket % 24:02}:00:00"
        case "day":
            return f"{EPOCH_DAY + timedelta(days=bucket)}"
        case "week":
            return f"{EPOCH_DAY + timedelta(days=bucket * 7 - 3)}"
        case "month":
            return f"{date(bucket // 12, bucket % 12 + 1, 1)}"


def bucket_of(text: str, grain: Grain) -> int:
    """Return the bucket of a label."""
    day = (date.fromisoformat(text[:10]) - EPOCH_DAY).days
    match grain:
        case "hour":
            return day * 24 + int(text[11:13])
        case "day":
            return day
        case "week":
            return (day + 3) // 7
        case "month":
            return int(text[:4]) * 12 + int(text[5:7]) - 1


def labels_of_days(days: Iterable[date], grain: Grain) -> set[str]:
    """Return the labels of the days, weeks or months that these days are in."""
    return {label(bucket_of(f"{day}", grain), grain) for day in days}


@dataclass(frozen=True)
class LocalClock:
    """SQL for local time within a period. `extent` holds all existing events, and changes of the offset outside it are
    omitted. If it is None, events may be anywhere.

    `unit` is the unit, in ms, of the column that is read: `quarter` or `occurred`. It is `quarter` if all offsets and
    both ends of the period are whole quarters of an hour, and if local hours follow one another. This is almost always
    true, and `quarter` is read in a fifth of the time.
    """

    period: Period
    extent: Interval | None = None

    @property
    def unit(self) -> int:
        return _grid(self.period.zone, self.period.interval)[0]

    @property
    def no_visit_leaps(self) -> bool:
        """Whether a visit has an event in every bucket between its first and its last event. This is true if no bucket,
        and no part of a bucket at the ends of the period, is shorter than the longest gap in a visit.
        """
        return _grid(self.period.zone, self.period.interval)[1]

    @cached_property
    def changes(self) -> list[tuple[int, int]]:
        """Pairs of (from when, offset), in units; the first is valid from the beginning."""
        start, end = self.period.interval.start, self.period.interval.end
        if self.extent is not None:
            start = min(max(start, self.extent.start), end)
            end = max(min(end, self.extent.end), start)
        found = offsets(self.period.zone, Interval(start, end))
        return [(when // self.unit, offset // self.unit) for when, offset in found]

    @property
    def column(self) -> str:
        return "quarter" if self.unit == QUARTER else "occurred"

    @property
    def start(self) -> int:
        return self.period.interval.start // self.unit

    @property
    def end(self) -> int:
        return self.period.interval.end // self.unit

    def bucket(self, column: str, grain: Grain) -> str:
        """SQL for the number of the local hour, day, week or month."""
        local = f"({column} + {_offset_at(column, self.changes)})"
        day = f"({local} // {DAY // self.unit})"
        match grain:
            case "hour":
                return f"({local} // {HOUR // self.unit})"
            case "day":
                return day
            case "week":
                return f"(({day} + 3) // 7)"
            case "month":
                moment = f"(DATE '1970-01-01' + {day}::INTEGER)"
                return f"(year({moment}) * 12 + month({moment}) - 1)"

    def days(self, most: int) -> list[tuple[int, Interval]] | None:
        """Return the days of the period with their numbers, or None if there are more than `most`."""
        if self.period.days() > most:
            return None
        found = []
        day, last = self.period.first_day(), self.period.last_day()
        while day <= last:
            start, end = midnight(day, self.period.zone), midnight(day + timedelta(days=1), self.period.zone)
            interval = Interval(as_ms(max(start, self.period.start)), as_ms(min(end, self.period.end)))
            found.append(((day - EPOCH_DAY).days, interval))
            day += timedelta(days=1)
        return found

    def is_new(self, column: str, grain: Grain | None) -> str:
        """SQL for whether the quarter `column` is in another bucket than the row, or before the period. Valid only if
        `unit` is QUARTER.
        """
        if grain is None:
            return f"({column} < {self.start})"
        return f"({column} < {self.start} OR {self.bucket(column, grain)} <> {self.bucket('quarter', grain)})"

    def touched(self, openings: Sql, grain: Grain) -> Sql:
        """Return the openings of the period, once for each bucket that they touch, with a `quarter` in that bucket.
        Valid only if `no_visit_leaps`. An opening that continues into a bucket has no `seen` there, because its visitor
        was not seen earlier in the bucket. If events stand for themselves, a visitor may appear several times in a
        bucket; such buckets count distinct visitors. The openings are read once: they may be in many files.
        """
        first, last = f"greatest(quarter, {self.start})", f"least(last_quarter, {self.end - 1})"
        own = f"SELECT * REPLACE ({first} AS quarter) FROM openings"
        later = (
            f"SELECT * REPLACE (unnest(range({first} + 1, {last} + 1)) AS quarter, NULL AS seen) FROM openings"
            f" WHERE {self.bucket(first, grain)} < {self.bucket(last, grain)}"
        )
        begins = f"{self.bucket('quarter', grain)} <> {self.bucket('(quarter - 1)', grain)}"
        both = f"{own} UNION ALL BY NAME SELECT * FROM ({later}) WHERE {begins}"
        return put(f"WITH openings AS MATERIALIZED ({{}}) {both}", openings)


@lru_cache(256)
def _grid(zone: ZoneInfo, interval: Interval) -> tuple[int, bool]:
    """Return LocalClock's `unit` and `no_visit_leaps`."""
    changes = offsets(zone, interval)
    whole = all(when % QUARTER == 0 and offset % QUARTER == 0 for when, offset in changes)
    if not whole or not _in_order(changes) or interval.end % QUARTER:
        return 1, False
    edges = [*changes, (interval.end, changes[-1][1])]
    edges += [(when, before) for (_, before), (when, _) in pairwise(changes)]
    return QUARTER, all((when + offset) % VISIT_GAP == 0 for when, offset in edges)


def _offset_at(column: str, changes: Sequence[tuple[int, int]]) -> str:
    """Select the offset by bisection: a site with a century of events has 200 changes, and each row is compared with 8
    of them.
    """
    if len(changes) == 1:
        return str(changes[0][1])
    middle = len(changes) // 2
    before, after = _offset_at(column, changes[:middle]), _offset_at(column, changes[middle:])
    return f"CASE WHEN {column} < {changes[middle][0]} THEN {before} ELSE {after} END"


def _in_order(changes: Sequence[tuple[int, int]]) -> bool:
    """Whether each hour and day ends before the next one begins. This is false if clocks go back by two hours. The
    previous event then does not tell whether an event is the first in its bucket.
    """
    return all(
        (when + before - 1) // HOUR <= (when + after) // HOUR for (_, before), (when, after) in pairwise(changes)
    )
