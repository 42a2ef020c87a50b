"""The state of a dashboard, which its URL holds: period, comparison, grain, figure, filters, open tabs, and the sites
that are shown as one. Pure.

`?period=30d&compare=year_over_year&f=is,country,DE,FR&f=contains,page,/blog&tabs=pages.entry`. Each `f` is a filter,
and all filters must match. Within a filter, commas separate values, and semicolons separate conditions of which one
must match. read_state ignores parameters that it does not know, and replaces values that it does not know by the
default.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Self
from urllib.parse import unquote, urlencode

from werkzeug.datastructures import MultiDict

from analytics.queries.local_time import time_labels
from analytics.queries.periods import ONE_DAY, grain_for
from analytics.queries.query import GRAINS, PROPS, VISIT_NUMBERS, Grain, Period, count_labels
from analytics.queries.query_schema import MOST_SITES, OPERATORS, OPERATORS_OF_NUMBERS, day_of
from report_app.texts import lazy
from report_app.url_parameters import PROP, SHORT_DIMENSIONS, short

# The periods of the menu, by the name in the URL: what they are called, and the key that chooses them.
PERIODS: dict[str, tuple[str, str]] = {
    "day": (lazy("Today"), "d"),
    "yesterday": (lazy("Yesterday"), "e"),
    "24h": (lazy("Last 24 hours"), "h"),
    "7d": (lazy("Last 7 days"), "w"),
    "28d": (lazy("Last 28 days"), "f"),
    "30d": (lazy("Last 30 days"), "t"),
    "91d": (lazy("Last 91 days"), "n"),
    "month": (lazy("Month to date"), "m"),
    "last_month": (lazy("Last month"), "p"),
    "year": (lazy("Year to date"), "y"),
    "12mo": (lazy("Last 12 months"), "l"),
    "all": (lazy("All time"), "a"),
}
CUSTOM = "custom"
COMPARISON_NAMES = {
    "previous_period": lazy("Previous period"),
    "year_over_year": lazy("Year before"),
    "none": lazy("No comparison"),
}
FIGURES = ("visitors", "visits", "pageviews", "views_per_visit", "bounce_rate", "visit_duration")
OTHER_SITES = "with"  # the parameter of each site that is shown as one with that of the page
SEGMENT = "segment"  # instead of a dimension: the values are the ids of saved filters
_TRIMMED = ("day", "month", "year")  # they end in the future
_MOST_POINTS = 750  # of the chart: a month of hours
_MOST_FILTERS = 20
_NO = "no"
_MOST_PAGE = 1_000_000
_NUMBERS = {short(dimension): dimension for dimension in VISIT_NUMBERS}
# A number, or a time such as 1:30, which has 90 seconds. It has at most nine digits.
_TIME = re.compile(r"[0-9]{1,9}|([0-9]{1,4}:)?[0-9]{1,2}:[0-9]{2}")


@dataclass(frozen=True, slots=True)
class FilterTerm:
    """One condition of a filter. `operator` is a key of OPERATORS, `dimension` a dimension of a query. With a dimension
    of VISIT_NUMBERS, `operator` is a key of OPERATORS_OF_NUMBERS, and the values are whole numbers.
    """

    operator: str
    dimension: str
    values: tuple[str, ...]

    def as_json(self) -> list[Any]:
        is_number = self.dimension == SEGMENT or self.dimension in VISIT_NUMBERS
        return [self.operator, self.dimension, [int(value) if is_number else value for value in self.values]]

    def as_text(self) -> str:
        name = SEGMENT if self.dimension == SEGMENT else short(self.dimension)
        return ",".join(map(_quoted, (self.operator, name, *self.values)))


PageFilter = tuple[FilterTerm, ...]  # one of the conditions must match


@dataclass(frozen=True, slots=True)
class PageState:
    """`first` and `last` are set if, and only if, `period` is CUSTOM. So are `compare_first` and `compare_last`, if
    `compare` is. `grain` is "" for the default of the period.
    `tabs` holds the open tab of each panel that does not show its first one. `search` and `page` are those of a full
    list; the first page is 1. `imports`: whether imported daily totals count. `embed` is the token of a page in a frame
    (page_access.py). `others` are the sites that are shown as one with the site of the page.
    """

    period: str
    first: date | None = None
    last: date | None = None
    compare: str = "previous_period"
    compare_first: date | None = None
    compare_last: date | None = None
    grain: str = ""
    figure: str = "visitors"
    filters: tuple[PageFilter, ...] = ()
    tabs: tuple[tuple[str, str], ...] = ()
    search: str = ""
    page: int = 1
    imports: bool = True
    embed: str = ""
    others: tuple[str, ...] = ()

    # What it asks

    def question(self, site_id: str, now: datetime) -> dict[str, Any]:
        """The body of a v2 query without metrics and dimensions. `now` is in the zone of the site."""
        include: dict[str, Any] = {"trim_relative_date_range": True} if self.period in _TRIMMED else {}
        if self.imports:
            include["imports"] = True
        if self.is_compared:
            days = [day.isoformat() for day in (self.compare_first, self.compare_last) if day]
            include["comparisons"] = {"mode": self.compare} | ({"date_range": days} if days else {})
        return {
            "site_id": [site_id, *self.others] if self.others else site_id,
            "date_range": self._date_range(now.date()),
            "filters": [_as_json(each) for each in self.filters],
            "include": include,
        }

    @property
    def saved_filters(self) -> set[int]:
        """The ids of the saved filters among its filters."""
        terms = (term for each in self.filters for term in each if term.dimension == SEGMENT)
        return {int(value) for term in terms for value in term.values}

    @property
    def is_compared(self) -> bool:
        """Whether there is a comparison. All time has no period before it."""
        return self.compare != "none" and self.period != "all"

    def _date_range(self, today: date) -> str | list[str]:
        """Periods that are a number of days or months include today, unlike those of /api/v2/query."""
        match self.period:
            case "yesterday":
                days = today - ONE_DAY, today - ONE_DAY
            case "7d" | "28d" | "30d" | "91d":
                days = today - (int(self.period[:-1]) - 1) * ONE_DAY, today
            case "last_month":
                last = today.replace(day=1) - ONE_DAY
                days = last.replace(day=1), last
            case "12mo":
                days = _months_before(today, 11), today
            case "custom" if self.first and self.last:
                days = self.first, self.last
            case name:
                return name
        return [day.isoformat() for day in days]

    # What it becomes

    def with_period(self, period: str) -> Self:
        return replace(self, period=period, first=None, last=None, grain="", page=1)

    def with_comparison(self, compare: str) -> Self:
        return replace(self, compare=compare, compare_first=None, compare_last=None)

    def with_filter(self, dimension: str, value: str) -> Self:
        """The state after a click on a row. It replaces a filter for another value of the same dimension."""
        others = (each for each in self.filters if not _is_click(each, dimension))
        return replace(self, filters=(*others, (FilterTerm("is", dimension, (value,)),)), search="", page=1)

    def with_saved(self, filter_id: int) -> Self:
        """The state with a saved filter instead of its filters."""
        return replace(self, filters=((FilterTerm("is", SEGMENT, (str(filter_id),)),),), search="", page=1)

    def without_filter(self, number: int) -> Self:
        return replace(self, filters=self.filters[:number] + self.filters[number + 1 :], page=1)

    def with_term(self, term: FilterTerm, joined: bool) -> Self:
        """The state with another condition. `joined`: it is an alternative to the last filter."""
        if joined and self.filters:
            return replace(self, filters=(*self.filters[:-1], (*self.filters[-1], term)), page=1)
        return replace(self, filters=(*self.filters, (term,)), page=1)

    def with_tab(self, panel: str, tab: str) -> Self:
        return replace(self, tabs=tuple(sorted((dict(self.tabs) | {panel: tab}).items())), search="", page=1)

    def tab_of(self, panel: str) -> str | None:
        return dict(self.tabs).get(panel)

    # As a URL

    def as_query(self, **changes: Any) -> str:
        """The query string of the URL of this state, or of the state with these changes."""
        return urlencode(replace(self, **changes).as_pairs(), safe=",/;:")

    def as_pairs(self) -> list[tuple[str, str]]:
        """The parameters of the URL. Defaults are left out."""
        if self.first and self.last:
            pairs = [("from", self.first.isoformat()), ("to", self.last.isoformat())]
        else:
            pairs = [("period", self.period)]
        plain = PageState(self.period)
        if self.compare_first and self.compare_last:
            pairs += [("compare_from", self.compare_first.isoformat()), ("compare_to", self.compare_last.isoformat())]
        elif self.compare != plain.compare:
            pairs.append(("compare", self.compare))
        names = ("grain", "figure", "search", "page", "embed")
        pairs += [(name, str(getattr(self, name))) for name in names if getattr(self, name) != getattr(plain, name)]
        pairs += [] if self.imports else [("imports", _NO)]
        pairs += [(OTHER_SITES, each) for each in self.others]
        pairs += [("f", ";".join(term.as_text() for term in each)) for each in self.filters]
        if self.tabs:
            pairs.append(("tabs", ",".join(f"{panel}.{_quoted(tab)}" for panel, tab in self.tabs)))
        return pairs

    def asks_as(self, other: Self) -> bool:
        """Whether panels have the same answers in both states."""
        return replace(self, grain="", figure="", tabs=()) == replace(other, grain="", figure="", tabs=())


def read_state(args: MultiDict[str, str], default_period: str) -> PageState:
    """Reads the state from the parameters of a URL."""
    first, last = _days(args, "from", "to")
    compare_first, compare_last = _days(args, "compare_from", "compare_to")
    compare = _one_of(args.get("compare"), COMPARISON_NAMES, "previous_period")
    period = _one_of(args.get("period"), PERIODS, default_period)
    filters = filter(None, map(_filter, args.getlist("f")[:_MOST_FILTERS]))
    state = PageState(
        period=CUSTOM if first else period,
        first=first,
        last=last,
        compare=CUSTOM if compare_first else compare,
        compare_first=compare_first,
        compare_last=compare_last,
        grain=_one_of(args.get("grain"), GRAINS, ""),
        figure=_one_of(args.get("figure"), FIGURES, "visitors"),
        filters=tuple(filters),
        tabs=_tabs(args.get("tabs", "")),
        search=args.get("search", "").strip(),
        page=page_number(args.get("page", "")),
        imports=args.get("imports") != _NO,
        embed=args.get("embed", ""),
        others=tuple(dict.fromkeys(args.getlist(OTHER_SITES)[:MOST_SITES])),
    )
    added = _added(args)
    return state.with_term(added, joined=args.get("join") == "or") if added else state


def grains_of(period: Period) -> list[Grain]:
    """The grains that the chart of a period offers, the finest first. There is at least one."""
    found: list[Grain] = [grain for grain in GRAINS if 1 < count_labels(period, grain) <= _MOST_POINTS]
    return found or ["day"]


def default_grain(period: Period) -> Grain:
    offered = grains_of(period)
    grain = grain_for(period)
    return grain if grain in offered else offered[0]


def open_bucket(period: Period, grain: Grain, now: datetime) -> str | None:
    """The label of the bucket that `now` is in, which more events may enter. None if the period is over."""
    if not period.start <= now < period.end:
        return None
    return time_labels(Period(now, now + timedelta(milliseconds=1), period.zone), grain)[0]


def dimension_called(name: str) -> str | None:
    """The dimension with this short name, or None."""
    if name.startswith(PROP) and name != PROP:
        return PROPS + name.removeprefix(PROP)
    return SHORT_DIMENSIONS.get(name)


def _added(args: MultiDict[str, str]) -> FilterTerm | None:
    """The condition that the filter builder's form adds."""
    name = args.get("dimension", "")
    values = [value for value in args.getlist("value") if value]
    return _term_of(args.get("operator", ""), PROP + args.get("key", "") if name == PROP else name, values)


def _filter(text: str) -> PageFilter | None:
    terms = list(map(_term, text.split(";")))
    return tuple(term for term in terms if term) if all(terms) else None


def _term(text: str) -> FilterTerm | None:
    match [unquote(part) for part in text.split(",")]:
        case ["is", "segment", *ids] if ids and all(_is_id(each) for each in ids):
            return FilterTerm("is", SEGMENT, tuple(ids))
        case [operator, name, *values]:
            return _term_of(operator, name, values)
    return None


def _term_of(operator: str, name: str, values: list[str]) -> FilterTerm | None:
    """The condition, or None if it is not valid."""
    number, dimension = _NUMBERS.get(name), dimension_called(name)
    if number and operator in OPERATORS_OF_NUMBERS and values and all(map(_TIME.fullmatch, values)):
        return FilterTerm(operator, number, tuple(str(_seconds(value)) for value in values))
    if dimension and operator in OPERATORS and values:
        return FilterTerm(operator, dimension, tuple(values))
    return None


def _seconds(text: str) -> int:
    """The seconds of a time, or the number if it has no colon."""
    return sum(int(part) * 60**n for n, part in enumerate(reversed(text.split(":"))))


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10


def _as_json(alternatives: PageFilter) -> list[Any]:
    terms = [term.as_json() for term in alternatives]
    return terms[0] if len(terms) == 1 else ["or", terms]


def _is_click(alternatives: PageFilter, dimension: str) -> bool:
    return [(term.operator, term.dimension) for term in alternatives] == [("is", dimension)]


def _tabs(text: str) -> tuple[tuple[str, str], ...]:
    pairs = (each.partition(".") for each in text.split(",") if each)
    return tuple(sorted({panel: unquote(tab) for panel, _, tab in pairs}.items()))


def _quoted(text: str) -> str:
    """The text without commas and semicolons, which separate texts. unquote reads it."""
    return text.replace("%", "%25").replace(",", "%2C").replace(";", "%3B")


def page_number(text: str) -> int:
    return min(int(text), _MOST_PAGE) if text.isascii() and text.isdigit() and 0 < len(text) < 8 and int(text) else 1


def _days(args: MultiDict[str, str], start: str, end: str) -> tuple[date, date] | tuple[None, None]:
    """The first and the last day, if both are given and in order."""
    first, last = day_of(args.get(start, "")), day_of(args.get(end, ""))
    return (first, last) if first and last and first <= last else (None, None)


def _one_of(name: str | None, known: Iterable[str] | Mapping[str, Any], default: str) -> str:
    return name if name is not None and name in known else default


def _months_before(day: date, months: int) -> date:
    years, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    return date(years, month + 1, 1)
