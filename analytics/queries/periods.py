"""Named periods, such as "month", and the periods with which they are compared. Pure.

Days are those of the period's zone. A day may have 23, 24 or 25 hours, or none (Samoa's 30 December 2011).
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from analytics.queries.query import Grain, Period, midnight, of_days

SECOND, ONE_HOUR, ONE_DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
BACK = re.compile(r"([1-9][0-9]{0,3})(d|mo)")
MOST_BACK = {"d": 5_000, "mo": 100}
NAMED_PERIODS = ("day", "month", "year", "all")
SPELLED_OUT = re.compile(
    r"(last[ _-]?)?([1-9][0-9]{0,3})?[ _-]?(h(?:our)?|d(?:ay)?|w(?:eek)?|mo(?:nth)?|y(?:ear)?)s?", re.IGNORECASE
)
_UNITS = {"h": (1, "h"), "d": (1, "d"), "w": (7, "d"), "m": (1, "mo"), "y": (12, "mo")}  # by the first letter


def period_called(name: str, now: datetime, zone: ZoneInfo, earliest: Callable[[], datetime | None]) -> Period | None:
    """Return the period with this name, or None if there is none. As in Plausible 3, a number of days or months ends
    before the current one, which would be incomplete. "day", "month" and "year" are the current ones, up to their end.

    `earliest` returns the time of the site's first event. It is called only for "all".
    """
    if name == "24h":
        end = whole_seconds(now) + SECOND
        return Period(end - ONE_DAY, end, zone)
    today = now.astimezone(zone).date()
    days = _back(name, today) or _current(name, today, zone, earliest)
    return of_days(*days, zone) if days else None


def period_meant(text: str) -> str | None:
    """Return the name of the period that "30 days", "last_month" or "week" describes, or None for any other text."""
    found = SPELLED_OUT.fullmatch(text)
    if not found or not (found[1] or found[2] or found[3] == "week"):
        return None
    size, unit = _UNITS[found[3][0].lower()]
    number = int(found[2] or 1) * size
    return f"{number}{unit}" if number <= MOST_BACK.get(unit, 0) or (number, unit) == (24, "h") else None


def _back(name: str, today: date) -> tuple[date, date] | None:
    back = BACK.fullmatch(name)
    if not back or int(back[1]) > MOST_BACK[back[2]]:
        return None
    if back[2] == "d":
        return today - int(back[1]) * ONE_DAY, today - ONE_DAY
    return _months_after(today, -int(back[1])), _months_after(today, 0) - ONE_DAY


def _current(
    name: str, today: date, zone: ZoneInfo, earliest: Callable[[], datetime | None]
) -> tuple[date, date] | None:
    match name:
        case "day":
            return today, today
        case "month":
            return _months_after(today, 0), _months_after(today, 1) - ONE_DAY
        case "year":
            return date(today.year, 1, 1), date(today.year, 12, 31)
        case "all":
            first = earliest()
            return min(today, first.astimezone(zone).date()) if first else today, today
    return None


def trimmed(period: Period, name: object, now: datetime) -> Period:
    """Return the period without its future part: the future days of the current month or year, or the future hours of
    today.
    """
    local = now.astimezone(period.zone)
    match name:
        case "month" | "year":
            return of_days(period.first_day(), local.date(), period.zone)
        case "day":
            hour = now.astimezone(UTC) - timedelta(
                minutes=local.minute, seconds=local.second, microseconds=local.microsecond
            )
            return Period(period.start, min(period.end, hour + ONE_HOUR), period.zone)
    return period


def grain_for(period: Period) -> Grain:
    """Return the most suitable grain, by the same limits as Plausible."""
    length = period.end - period.start - SECOND
    if length < 49 * ONE_HOUR:
        return "hour"
    if length < 41 * ONE_DAY:
        return "day"
    return "week" if length < 53 * 7 * ONE_DAY else "month"


def previous_period(period: Period, match_day_of_week: bool = False) -> Period:
    """Return the period before this one. A period that begins at midnight moves back by its number of days, so the
    first hours of a day move to the same hours of an earlier day. Any other period moves back by its length. With
    `match_day_of_week`, it moves back by up to six more days, because a period must not be compared with a part of
    itself.

    Raises OverflowError before the year 1.
    """
    length = period.end - period.start
    from_midnight = period.start == midnight(period.first_day(), period.zone)
    if not from_midnight and not match_day_of_week:
        return Period(period.start - length, period.start, period.zone)
    days = max(1, period.days() if from_midnight else -(-length // ONE_DAY))
    if match_day_of_week:
        days += -days % 7
    return _moved(period, lambda day: day - days * ONE_DAY)


def year_before(period: Period, match_day_of_week: bool = False) -> Period:
    """Return the same dates a year earlier. With `match_day_of_week`, they move by up to three days. Raises ValueError
    before the year 1.
    """
    first = period.first_day()
    days = 0
    if match_day_of_week:
        days = (first.weekday() - _same_date_a_year_before(first).weekday() + 3) % 7 - 3
    return _moved(period, lambda day: _same_date_a_year_before(day) + days * ONE_DAY)


def whole_seconds(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)


def _moved(period: Period, to: Callable[[date], date]) -> Period:
    """Move a period. Whole days become whole days. Any other period keeps the times of day at which it starts and ends,
    so that 14 hours of the day the clocks change are 14 hours of another day.
    """
    first = period.first_day()
    last = max(first, period.last_day())  # on a day that clocks skipped, the last moment is on the day before
    if period == of_days(first, last, period.zone):
        return of_days(to(first), to(last), period.zone)
    start, end = (_moved_moment(moment, period.zone, to) for moment in (period.start, period.end))
    if end <= start:  # both are within the hour that the clocks repeat
        end = start + (period.end - period.start)
    return Period(start, end, period.zone)


def _moved_moment(moment: datetime, zone: ZoneInfo, to: Callable[[date], date]) -> datetime:
    """Move a moment. The beginning of a day becomes the beginning of a day, no matter what the clocks show then."""
    local = moment.astimezone(zone)
    if moment == midnight(local.date(), zone):
        return midnight(to(local.date()), zone)
    return datetime.combine(to(local.date()), local.time(), zone).astimezone(UTC)


def _same_date_a_year_before(day: date) -> date:
    day_of_month = 28 if (day.month, day.day) == (2, 29) else day.day
    return date(day.year - 1, day.month, day_of_month)


def _months_after(day: date, months: int) -> date:
    """Return the first day of the month that is `months` after the month of `day`."""
    years, month = divmod(day.month - 1 + months, 12)
    return date(day.year + years, month + 1, 1)
