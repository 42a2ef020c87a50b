"""Intervals for segments and dirty slots. Pure. Times are whole milliseconds since 1970, UTC.

An interval is [start, end). A segment is of an hour, a day or a month. A slot is the smallest interval that is read
again from raw events when something in it has changed.
"""

from calendar import monthrange
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

_SECOND = 1_000
MINUTE = 60 * _SECOND
QUARTER = 15 * MINUTE  # since 1973, the offset of every clock from UTC is a whole number of quarters of an hour
HOUR = 60 * MINUTE
DAY = 24 * HOUR
SLOT = 10 * _SECOND
VISIT_GAP = 30 * MINUTE  # a visit ends with the first longer gap

SegmentGrain = Literal["hour", "day", "month"]
SEGMENT_GRAINS: tuple[SegmentGrain, ...] = (
    "hour",
    "day",
    "month",
)  # the finer segment replaces the coarser one if both hold a moment


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    start: int
    end: int

    def overlaps(self, other: "Interval") -> bool:
        return self.start < other.end and other.start < self.end

    def within(self, other: "Interval") -> bool:
        return other.start <= self.start and self.end <= other.end

    def intersection(self, other: "Interval") -> "Interval":
        """Return the part that both intervals hold, if they overlap."""
        return Interval(max(self.start, other.start), min(self.end, other.end))

    def widened(self, by: int) -> "Interval":
        return Interval(self.start - by, self.end + by)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 12, 31, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def as_ms(moment: datetime) -> int:
    return (moment - EPOCH) // _MILLISECOND


def moment_text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def whole_milliseconds(moment: datetime) -> datetime:
    """Return the moment with the precision that MongoDB stores."""
    rest = moment.microsecond % 1000
    return moment - timedelta(0, 0, rest) if rest else moment  # `replace` and keywords take twice as long


def as_datetime(ms: int) -> datetime:
    """Return the moment, limited to the years that a datetime can hold."""
    return EPOCH + timedelta(milliseconds=min(max(ms, 0), as_ms(LATEST)))


def interval_of(grain: SegmentGrain, ms: int) -> Interval:
    """Return the hour, day or month that holds the moment."""
    match grain:
        case "hour":
            return Interval(ms // HOUR * HOUR, ms // HOUR * HOUR + HOUR)
        case "day":
            return Interval(ms // DAY * DAY, ms // DAY * DAY + DAY)
        case "month":
            moment = as_datetime(ms)
            start = as_ms(datetime(moment.year, moment.month, 1, tzinfo=UTC))
            return Interval(start, start + monthrange(moment.year, moment.month)[1] * DAY)


def joined(intervals: Iterable[Interval]) -> list[Interval]:
    """Return the same moments in as few intervals as possible, in order."""
    found: list[Interval] = []
    for each in sorted(intervals):
        if found and each.start <= found[-1].end:
            found[-1] = Interval(found[-1].start, max(found[-1].end, each.end))
        else:
            found.append(each)
    return found
