"""Stretches of time in which segments and dirty slots are counted. Pure; whole milliseconds since 1970, UTC.

A stretch is [start, end). Segments are of an hour, a day or a month; a slot is the smallest piece that is read again
from raw events.
"""

from calendar import monthrange
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

SECOND = 1_000
MINUTE = 60 * SECOND
QUARTER = 15 * MINUTE  # every clock of the world since 1973 is off UTC by whole quarters of an hour
HOUR = 60 * MINUTE
DAY = 24 * HOUR
SLOT = 10 * SECOND
VISIT_GAP = 30 * MINUTE  # a visit ends with the first gap that is longer

Grain = Literal["hour", "day", "month"]
GRAINS: tuple[Grain, ...] = ("hour", "day", "month")  # the finer one replaces the coarser where both hold a moment


@dataclass(frozen=True, slots=True, order=True)
class Stretch:
    start: int
    end: int

    def meets(self, other: "Stretch") -> bool:
        return self.start < other.end and other.start < self.end

    def within(self, other: "Stretch") -> bool:
        return other.start <= self.start and self.end <= other.end

    def part(self, other: "Stretch") -> "Stretch":
        """What both hold, where they meet."""
        return Stretch(max(self.start, other.start), min(self.end, other.end))

    def widened(self, by: int) -> "Stretch":
        return Stretch(self.start - by, self.end + by)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 12, 31, tzinfo=UTC)


def as_ms(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(milliseconds=1)


def as_datetime(ms: int) -> datetime:
    """Kept within the years that a datetime knows."""
    return EPOCH + timedelta(milliseconds=min(max(ms, 0), as_ms(LATEST)))


def stretch_of(grain: Grain, ms: int) -> Stretch:
    """The hour, day or month that holds the moment."""
    match grain:
        case "hour":
            return Stretch(ms // HOUR * HOUR, ms // HOUR * HOUR + HOUR)
        case "day":
            return Stretch(ms // DAY * DAY, ms // DAY * DAY + DAY)
        case "month":
            moment = as_datetime(ms)
            start = as_ms(datetime(moment.year, moment.month, 1, tzinfo=UTC))
            return Stretch(start, start + monthrange(moment.year, moment.month)[1] * DAY)


def joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """The same moments in as few stretches as possible, in order."""
    found: list[Stretch] = []
    for each in sorted(stretches):
        if found and each.start <= found[-1].end:
            found[-1] = Stretch(found[-1].start, max(found[-1].end, each.end))
        else:
            found.append(each)
    return found
