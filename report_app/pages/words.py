"""How pages show numbers, changes, times and the values of dimensions, in English. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from zoneinfo import ZoneInfo

import pycountry
from babel import Locale, UnknownLocaleError

from analytics.events.event import PAGEVIEW_TYPES
from analytics.queries.query import PROPS, Grain, Period
from analytics.reports.results import Metric, MoneyAmount
from report_app.metric_format import ALL_DIGITS, figure
from report_app.metric_format import change as change_in_percent
from report_app.pages.page_state import SEGMENT, FilterTerm
from report_app.url_parameters import short

_ENGLISH = Locale("en")
_MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"
_PATHS = ("event:page", "visit:entry_page", "visit:exit_page", "visit:referrer")
_LONGEST_WHOLE, _TAIL = 24, 14  # characters of a name: longer ones are cut before the tail

METRIC_LABELS = {
    "visitors": "Visitors",
    "visits": "Visits",
    "pageviews": "Pageviews",
    "events": "Events",
    "views_per_visit": "Views a visit",
    "bounce_rate": "Bounce rate",
    "visit_duration": "Visit duration",
    "time_on_page": "Time on page",
    "scroll_depth": "Scroll depth",
    "conversion_rate": "Rate",
    "percentage": "Share",
    "total_revenue": "Revenue",
}
FUNCTION_LABELS = {
    "sum": "Sum",
    "average": "Average",
    "median": "Median",
    "p75": "75th percentile",
    "p90": "90th percentile",
}
_PERCENTS = ("bounce_rate", "scroll_depth", "conversion_rate", "percentage")
_DURATIONS = ("visit_duration", "time_on_page")

OPERATOR_NAMES = {
    "is": "is",
    "is_not": "is not",
    "contains": "contains",
    "contains_not": "does not contain",
    "matches": "matches",
    "matches_not": "does not match",
    "greater": "is more than",
    "less": "is less than",
}
DIMENSION_NAMES = {
    "event:page": "Page",
    "visit:entry_page": "Entry page",
    "visit:exit_page": "Exit page",
    "event:hostname": "Host",
    "visit:source": "Source",
    "visit:channel": "Channel",
    "visit:referrer": "Referrer",
    "visit:utm_campaign": "Campaign",
    "visit:utm_source": "UTM source",
    "visit:utm_medium": "UTM medium",
    "visit:utm_content": "UTM content",
    "visit:utm_term": "UTM term",
    "visit:country": "Country",
    "visit:region": "Region",
    "visit:city": "City",
    "visit:language": "Language",
    "visit:device": "Device",
    "visit:browser": "Browser",
    "visit:browser_version": "Browser version",
    "visit:os": "System",
    "visit:os_version": "System version",
    "visit:screen": "Screen",
    "event:goal": "Goal",
    "event:name": "Event",
    "visit:duration": "Visit duration",
    "visit:views": "Views in the visit",
}


def number(metric: str, value: Metric) -> str:  # noqa: PLR0911  one for each kind
    if value is None:
        return NOTHING
    if isinstance(value, MoneyAmount):
        return str(figure(value)["long"])  # type: ignore[index]
    if isinstance(value, Decimal):
        return decimal(value)
    if metric in _PERCENTS:
        return percent(value)
    if metric in _DURATIONS:
        return duration(value)
    if isinstance(value, Decimal):
        return f"{round(value, 2).normalize():,f}" if value else "0"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def decimal(value: Decimal) -> str:
    """Two decimals, or four if the value is less than 1. Zeros at the end are left out."""
    least = Decimal("0.01") if abs(value) >= 1 else Decimal("0.0001")
    rounded = value.quantize(least, ROUND_HALF_UP, ALL_DIGITS)
    return f"{rounded.normalize(ALL_DIGITS):,f}" if rounded else "0"


def percent(value: float) -> str:
    """Whole percents; small shares that are not 0 are shown as such."""
    return "<1%" if 0 < value < 1 else f"{value:.0f}%"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {rest:02}s" if minutes else f"{rest}s"


@dataclass(frozen=True, slots=True)
class Change:
    """`text`: "+18%" or, for a share, "+2 pt", and "new" if it was 0 before. `kind`: "up" if it is good, "down" if it
    is bad, "" if it is neither.
    """

    text: str
    kind: str = ""


def change_of(metric: str, now: Metric, before: Metric) -> Change:
    """The change of a metric. Fewer bounces are good."""
    is_share = metric in _PERCENTS
    if is_share and before and isinstance(now, int | float) and isinstance(before, int | float):
        difference: int | None = round(now - before)
    else:
        difference = change_in_percent(now, before)
    if difference is None:
        return Change("new" if now and before == 0 else NOTHING)
    unit = " pt" if is_share else "%"
    if difference == 0:
        return Change(f"0{unit}")
    is_good = (difference > 0) != (metric == "bounce_rate")
    return Change(f"{'+' if difference > 0 else _MINUS}{abs(difference):,}{unit}", "up" if is_good else "down")


# Values of dimensions


def value_name(dimension: str, value: str) -> str:
    """What people call a value: the name of a country instead of its code."""
    match dimension:
        case "visit:country":
            return str(_ENGLISH.territories.get(value.upper(), value))
        case "visit:region":
            return _region(value)
        case "visit:language":
            return _language(value)
        case "visit:duration":
            return duration(int(value))
        case "event:name" if value in PAGEVIEW_TYPES:
            return "Pageview"
    return value


@cache
def _region(code: str) -> str:
    found = pycountry.subdivisions.get(code=code)  # type: ignore[no-untyped-call]
    return str(found.name) if found else code


def _language(tag: str) -> str:
    try:
        return str(Locale.parse(tag, sep="-").get_display_name("en") or tag)
    except (ValueError, UnknownLocaleError):
        return tag


def dimension_name(dimension: str) -> str:
    return DIMENSION_NAMES.get(dimension) or dimension.removeprefix(PROPS)


def cut_name(dimension: str, name: str) -> tuple[str, str]:
    """The name in two parts. A page cuts the end of the first part if there is too little room, and never the second:
    paths differ at their ends.
    """
    if dimension not in _PATHS or len(name) <= _LONGEST_WHOLE:
        return name, ""
    return name[:-_TAIL], name[-_TAIL:]


def term_words(term: FilterTerm, saved: Mapping[str, str]) -> tuple[str, str, list[str]]:
    """A condition as dimension, operator and values. `saved`: the names of saved filters by their ids."""
    if term.dimension == SEGMENT:
        return "Saved filter", OPERATOR_NAMES[term.operator], [saved.get(each, each) for each in term.values]
    values = [value_name(term.dimension, value) for value in term.values]
    return dimension_name(term.dimension), OPERATOR_NAMES[term.operator], values


def filter_dimensions() -> dict[str, str]:
    """The dimensions that the filter builder offers: the short name and what it is called."""
    return {short(dimension): name for dimension, name in DIMENSION_NAMES.items()}


# Times


def bucket_name(label: str, grain: Grain) -> str:
    """A bucket of the chart, in full: "Sat 21 Nov, 14:00", "Week of 16 Nov 2026"."""
    day = date.fromisoformat(label[:10])
    match grain:
        case "hour":
            return f"{day:%a} {day.day} {day:%b}, {label[11:16]}"
        case "day":
            return f"{day:%a} {day.day} {day:%b}"
        case "week":
            return f"Week of {day.day} {day:%b %Y}"
        case "month":
            return f"{day:%B %Y}"


def tick_name(label: str, grain: Grain, *, one_day: bool) -> str:
    """A bucket at the axis of the chart, in short."""
    day = date.fromisoformat(label[:10])
    if grain == "hour" and one_day:
        return label[11:16]
    return f"{day:%b %Y}" if grain == "month" else f"{day.day} {day:%b}"


def period_name(period: Period) -> str:
    """The days of a period: "29 Oct \N{EN DASH} 27 Nov 2026"."""
    first, last = period.first_day(), period.last_day()
    if first == last:
        return _day_name(last)
    start = f"{first.day} {first:%b}" if first.year == last.year else _day_name(first)
    return f"{start} \N{EN DASH} {_day_name(last)}"


def clock(moment: datetime, zone: ZoneInfo) -> str:
    return f"{moment.astimezone(zone):%H:%M:%S}"


def _day_name(day: date) -> str:
    return f"{day.day} {day:%b %Y}"
