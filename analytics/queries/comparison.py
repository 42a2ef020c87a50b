"""Assigns each bucket of one period to the bucket of another period with which it is compared. Pure."""

from analytics.queries.local_time import bucket_of, label, time_labels
from analytics.queries.query import Grain, Period, midnight


def counterparts(period: Period, other: Period, grain: Grain) -> dict[str, str]:
    """Return, for each label of `period`, the label of `other` with which it is compared. Labels without a counterpart
    are omitted.

    Buckets are compared by the clock and the calendar, not by position. 14 h is compared with 14 h on the day the
    clocks change. The third day is compared with the third day even if a zone skipped the second. If both periods begin
    on the same date of different years, each date is compared with the same date: 1 March with 1 March, and 29 February
    with nothing.
    """
    others = set(time_labels(other, grain))
    same_dates = grain in ("hour", "day") and _same_date_of_other_years(period, other)
    first, first_of_other = _first_bucket(period, grain), _first_bucket(other, grain)
    years = other.first_day().year - period.first_day().year

    def counterpart(text: str) -> str:
        if same_dates:
            return f"{int(text[:4]) + years:04}{text[4:]}"
        return label(bucket_of(text, grain) - first + first_of_other, grain)

    found = {text: counterpart(text) for text in time_labels(period, grain)}
    return {text: then for text, then in found.items() if then in others}


def _same_date_of_other_years(period: Period, other: Period) -> bool:
    first, first_of_other = period.first_day(), other.first_day()
    return first.year != first_of_other.year and f"{first}"[4:] == f"{first_of_other}"[4:]


def _first_bucket(period: Period, grain: Grain) -> int:
    """The bucket with which the period begins. If a day begins at 1 h because the clocks skipped midnight, it is the
    bucket of 0 h.
    """
    first = period.first_day()
    start = period.start.astimezone(period.zone)
    hour = 0 if period.start == midnight(first, period.zone) else start.hour
    return bucket_of(f"{first} {hour:02}:00:00", grain)
