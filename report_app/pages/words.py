"""How pages show numbers, changes, times and the values of dimensions, in the spoken language. Pure.

A date is written by a pattern of Unicode CLDR, such as "EEE d MMM". A catalogue translates the pattern.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext
from functools import cache, lru_cache
from gettext import NullTranslations, translation
from zoneinfo import ZoneInfo

import pycountry
from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.numbers import format_currency, format_decimal, format_percent

from analytics.events.event import PAGEVIEW_TYPES
from analytics.languages import format_number, gettext, ngettext, spoken_language
from analytics.queries.query import PROPS, Grain, Period, missing
from analytics.reports.results import Metric, MoneyAmount
from report_app.metric_format import ALL_DIGITS
from report_app.metric_format import change as change_in_percent
from report_app.pages.page_state import SEGMENT, FilterTerm
from report_app.texts import lazy
from report_app.url_parameters import short

_MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"
_PATHS = ("event:page", "visit:entry_page", "visit:exit_page", "visit:referrer")
_LONGEST_WHOLE, _TAIL = 24, 14  # characters of a name: longer ones are cut before the tail

METRIC_LABELS = {
    "visitors": lazy("Visitors"),
    "visits": lazy("Visits"),
    "pageviews": lazy("Pageviews"),
    "events": lazy("Events"),
    "views_per_visit": lazy("Views a visit"),
    "bounce_rate": lazy("Bounce rate"),
    "visit_duration": lazy("Visit duration"),
    "time_on_page": lazy("Time on page"),
    "scroll_depth": lazy("Scroll depth"),
    "conversion_rate": lazy("Rate"),
    "percentage": lazy("Share"),
    "total_revenue": lazy("Revenue"),
}
# Over narrow columns.
SHORT_LABELS = {"time_on_page": lazy("Time"), "scroll_depth": lazy("Scroll")}
FUNCTION_LABELS = {
    "sum": lazy("Sum"),
    "average": lazy("Average"),
    "median": lazy("Median"),
    "p75": lazy("75th percentile"),
    "p90": lazy("90th percentile"),
}
_PERCENTS = ("bounce_rate", "scroll_depth", "conversion_rate", "percentage")
_DURATIONS = ("visit_duration", "time_on_page")
GRAIN_NAMES = {"hour": lazy("Hour"), "day": lazy("Day"), "week": lazy("Week"), "month": lazy("Month")}

OPERATOR_NAMES = {
    "is": lazy("is"),
    "is_not": lazy("is not"),
    "contains": lazy("contains"),
    "contains_not": lazy("does not contain"),
    "matches": lazy("matches"),
    "matches_not": lazy("does not match"),
    "greater": lazy("is more than"),
    "less": lazy("is less than"),
}
DIMENSION_NAMES = {
    "event:page": lazy("Page"),
    "visit:entry_page": lazy("Entry page"),
    "visit:exit_page": lazy("Exit page"),
    "event:hostname": lazy("Host"),
    "visit:source": lazy("Source"),
    "visit:channel": lazy("Channel"),
    "visit:referrer": lazy("Referrer"),
    "visit:utm_campaign": lazy("Campaign"),
    "visit:utm_source": lazy("UTM source"),
    "visit:utm_medium": lazy("UTM medium"),
    "visit:utm_content": lazy("UTM content"),
    "visit:utm_term": lazy("UTM term"),
    "visit:country": lazy("Country"),
    "visit:region": lazy("Region"),
    "visit:city": lazy("City"),
    "visit:language": lazy("Language"),
    "visit:device": lazy("Device"),
    "visit:browser": lazy("Browser"),
    "visit:browser_version": lazy("Browser version"),
    "visit:os": lazy("System"),
    "visit:os_version": lazy("System version"),
    "visit:screen": lazy("Screen"),
    "event:goal": lazy("Goal"),
    "event:name": lazy("Event"),
    "visit:duration": lazy("Visit duration"),
    "visit:views": lazy("Views in the visit"),
}


# Values that are not from visitors.
_MISSING_NAMES = {
    "(not set)": lazy("(not set)"),
    "(none)": lazy("(none)"),
    "Direct / None": lazy("Direct / None"),
}
CHANNEL_NAMES = {
    "Cross-network": lazy("Cross-network"),
    "Direct": lazy("Direct"),
    "Paid Shopping": lazy("Paid Shopping"),
    "Paid Search": lazy("Paid Search"),
    "Paid Social": lazy("Paid Social"),
    "Paid Video": lazy("Paid Video"),
    "Display": lazy("Display"),
    "Paid Other": lazy("Paid Other"),
    "AI Assistants": lazy("AI Assistants"),
    "Organic Shopping": lazy("Organic Shopping"),
    "Organic Social": lazy("Organic Social"),
    "Organic Video": lazy("Organic Video"),
    "Organic Search": lazy("Organic Search"),
    "Email": lazy("Email"),
    "Affiliates": lazy("Affiliates"),
    "Audio": lazy("Audio"),
    "SMS": lazy("SMS"),
    "Mobile Push Notifications": lazy("Mobile Push Notifications"),
    "Referral": lazy("Referral"),
    "Unassigned": lazy("Unassigned"),
}
_DEVICE_NAMES = {
    "Desktop": lazy("Desktop"),
    "Laptop": lazy("Laptop"),
    "Tablet": lazy("Tablet"),
    "Mobile": lazy("Mobile"),
    "TV": lazy("TV"),
    "Console": lazy("Console"),
}
_VALUE_NAMES = {
    "visit:channel": CHANNEL_NAMES,
    "visit:device": _DEVICE_NAMES,
    "visit:screen": _DEVICE_NAMES,
}


def number(metric: str, value: Metric) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, MoneyAmount):
        return str(format_currency(value.amount, value.currency, locale=spoken_language()))
    if isinstance(value, Decimal):
        return decimal(value)
    if metric in _PERCENTS:
        return percent(value)
    if metric in _DURATIONS:
        return duration(value)
    return format_number(value) if isinstance(value, int) else format_number(value, 1)


def decimal(value: Decimal) -> str:
    """Two decimals, or four if the value is less than 1. Zeros at the end are left out."""
    least = Decimal("0.01") if abs(value) >= 1 else Decimal("0.0001")
    rounded = value.quantize(least, ROUND_HALF_UP, ALL_DIGITS).normalize(ALL_DIGITS)
    with localcontext(ALL_DIGITS):
        return str(format_decimal(rounded, locale=spoken_language(), decimal_quantization=False)) if rounded else "0"


def percent(value: float) -> str:
    """Whole percents; small shares that are not 0 are shown as such."""
    return f"<{_percents(1)}" if 0 < value < 1 else _percents(value)


def _percents(value: float) -> str:
    return str(format_percent(value / 100, locale=spoken_language()))


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return gettext("%(hours)dh %(minutes)02dm", hours=hours, minutes=minutes)
    if minutes:
        return gettext("%(minutes)dm %(seconds)02ds", minutes=minutes, seconds=rest)
    return gettext("%(seconds)ds", seconds=rest)


def file_size(size: int) -> str:
    """A number of bytes in the largest unit of which there is at least one: "1.5 MB"."""
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "kB")):
        if size >= 1000**power:
            return f"{format_number(size / 1000**power, 1)} {unit}"
    return ngettext("%(count)s byte", "%(count)s bytes", size)


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
        return Change(gettext("new") if now and before == 0 else NOTHING)
    amount = abs(difference)
    text = gettext("%(points)s pt", points=format_number(amount)) if is_share else _percents(amount)
    if difference == 0:
        return Change(text)
    is_good = (difference > 0) != (metric == "bounce_rate")
    return Change(f"{'+' if difference > 0 else _MINUS}{text}", "up" if is_good else "down")


# Values of dimensions


def value_name(dimension: str, value: str) -> str:  # noqa: PLR0911  one for each kind
    """What people call a value: the name of a country instead of its code."""
    if value == missing(dimension):
        return str(_MISSING_NAMES[value])
    match dimension:
        case "visit:country" if value.upper() in (names := _locale(spoken_language()).territories):
            return str(names[value.upper()])
        case "visit:region" if found := _region(value):
            return _region_names(spoken_language()).gettext(found)
        case "visit:language":
            return _language(value)
        case "visit:duration":
            return duration(int(value))
        case "event:name" if value in PAGEVIEW_TYPES:
            return gettext("Pageview")
    return str(_VALUE_NAMES.get(dimension, {}).get(value, value))


def countries_called(text: str) -> list[str]:
    """The codes of the countries whose names in the spoken language contain the text."""
    names = _locale(spoken_language()).territories.items()
    return [code for code, name in names if len(code) == 2 and code.isalpha() and text.casefold() in name.casefold()]


@cache
def _locale(language: str) -> Locale:
    return Locale(language)


@cache
def _region(code: str) -> str:
    """The name of a region as ISO 3166-2 has it, "" if there is no such region."""
    found = pycountry.subdivisions.get(code=code)  # type: ignore[no-untyped-call]
    return str(found.name) if found else ""


@cache
def _region_names(language: str) -> NullTranslations:
    """Regions in a language, by these names."""
    return translation("iso3166-2", pycountry.LOCALES_DIR, [language], fallback=True)


def _language(tag: str) -> str:
    try:
        return str(Locale.parse(tag, sep="-").get_display_name(spoken_language()) or tag)
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
        return gettext("Saved filter"), OPERATOR_NAMES[term.operator], [saved.get(each, each) for each in term.values]
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
            return f"{day_of_week(day)}, {label[11:16]}"
        case "day":
            return day_of_week(day)
        case "week":
            return gettext("Week of %(day)s", day=day_name(day))
        case "month":
            return written(day, gettext("MMMM y"))


def tick_name(label: str, grain: Grain, *, one_day: bool) -> str:
    """A bucket at the axis of the chart, in short."""
    day = date.fromisoformat(label[:10])
    if grain == "hour" and one_day:
        return label[11:16]
    return written(day, gettext("MMM y") if grain == "month" else gettext("d MMM"))


def period_name(period: Period) -> str:
    """The days of a period: "29 Oct \N{EN DASH} 27 Nov 2026"."""
    first, last = period.first_day(), period.last_day()
    if first == last:
        return day_name(last)
    start = written(first, gettext("d MMM")) if first.year == last.year else day_name(first)
    return f"{start} \N{EN DASH} {day_name(last)}"


def clock(moment: datetime, zone: ZoneInfo) -> str:
    return f"{moment.astimezone(zone):%H:%M:%S}"


def day_name(day: date) -> str:
    """ "27 Nov 2026"."""
    return written(day, gettext("d MMM y"))


def day_of_week(day: date) -> str:
    """ "Fri 27 Nov"."""
    return written(day, gettext("EEE d MMM"))


def full_day(day: date) -> str:
    """ "Fri 27 Nov 2026"."""
    return written(day, gettext("EEE d MMM y"))


def written(day: date, pattern: str) -> str:
    """The day by a pattern of Unicode CLDR, with names of the spoken language."""
    return _written(day, pattern, spoken_language())


@lru_cache(2000)
def _written(day: date, pattern: str, language: str) -> str:
    return str(format_date(day, pattern, locale=language))
