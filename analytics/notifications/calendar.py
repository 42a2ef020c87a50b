"""The days, weeks and months of a site's zone in which rules notify once. Pure."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from analytics.notifications.rule import RulePeriod
from analytics.queries.query import Period, of_days

SUMMARY_HOUR = 6  # from this hour of the zone on, a summary of the period before is sent


def current_period(grain: RulePeriod, now: datetime, zone: ZoneInfo) -> Period:
    """Return the day, the week from Monday, or the month that holds `now`."""
    today = now.astimezone(zone).date()
    match grain:
        case "day":
            return of_days(today, today, zone)
        case "week":
            monday = today - timedelta(days=today.weekday())
            return of_days(monday, monday + timedelta(days=6), zone)
        case "month":
            return of_days(today.replace(day=1), _next_month(today) - timedelta(days=1), zone)


def summarized_period(grain: RulePeriod, now: datetime, zone: ZoneInfo) -> Period:
    """Return the last period whose summary is due: it is over, and the hour of summaries has come."""
    ended = current_period(grain, now - timedelta(hours=SUMMARY_HOUR), zone)
    return period_before(grain, ended)


def period_before(grain: RulePeriod, period: Period) -> Period:
    """Return the day, week or month before this one."""
    return current_period(grain, period.start - timedelta(milliseconds=1), period.zone)


def _next_month(day: date) -> date:
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)
