"""Local time over a period: when a zone's offset from UTC changes, and the hours, days, weeks and months of its clocks.
Pure.

zoneinfo does not tell when an offset changes, so each year is sampled once and the changes are found by bisection.
"""

from calendar import isleap
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from analytics.interval import DAY, HOUR, Interval, as_ms
from analytics.queries.query import Grain, Period

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
    """Return the label of every bucket that the period touches, in order. Its cost grows with the number of labels.

    Time that clocks skip has no label (an hour in spring, Samoa's 30 December 2011). Time that they repeat has one
    label.
    """
    whole = Interval(as_ms(period.start), as_ms(period.end))
    if whole.end <= whole.start:
        return []
    found: set[int] = set()
    for (start, offset), (end, _) in pairwise([*offsets(period.zone, whole), (whole.end, 0)]):
        found.update(range(_bucket(start + offset, grain), _bucket(end - 1 + offset, grain) + 1))
    return [label(bucket, grain) for bucket in sorted(found)]


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
