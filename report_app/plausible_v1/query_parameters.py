"""Translates the parameters of Plausible's Stats API v1 into the JSON of POST /api/v2/query. Pure.

The facts are from https://plausible.io/docs/stats-api-v1. Callers must handle InvalidQuery, which names the parameter.
As in Plausible, an unknown parameter has no effect. Unlike in Plausible, `!=` accepts several values.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any, NoReturn

from analytics.queries.periods import ONE_DAY
from analytics.queries.query import PROPS, missing
from analytics.queries.query_schema import DATE, InvalidQuery, day_of
from analytics.suggestion import did_you_mean

Args = Mapping[str, str]

PERIODS_V1 = ("day", "7d", "30d", "month", "6mo", "12mo", "custom")
INTERVALS = ("day", "month")
FLAGS_V1 = ("true", "false")
COMPARE = "previous_period"
MOST_RESULTS = 1000
FARTHEST_PAGE = 1_000_000
_DAYS = {"day": 1, "7d": 7, "30d": 30}
_MONTHS = {"month": 1, "6mo": 6, "12mo": 12}
# A breakdown by one of these has no row for a missing value.
_ONLY_KNOWN = {
    f"visit:{name}"
    for name in (
        "country", "region", "city", "entry_page", "exit_page",
        "utm_medium", "utm_source", "utm_campaign", "utm_content", "utm_term",
    )
}  # fmt: skip
# A version is shown with the name of what has it.
_WITH = {"visit:browser_version": "visit:browser", "visit:os_version": "visit:os"}
_FILTER = re.compile(r"(.+?)(==|!=)(.*)", re.DOTALL)
_OR = re.compile(r"(?<!\\)\|")
_PARAMETERS = {"date_range": "date", "dimensions": "property", "include": "compare", "pagination": "limit"}


def aggregate_body(args: Args, today: date) -> dict[str, Any]:
    """`today` is the site's day."""
    body = _body(args, today)
    if compared := _one_of("compare", args.get("compare", ""), ("", COMPARE)):
        body["include"]["comparisons"] = {"mode": compared}
    return body


def timeseries_body(args: Args, today: date) -> dict[str, Any]:
    by_default = {"day": "hour", "6mo": "month", "12mo": "month"}.get(args.get("period", ""), "day")
    interval = {"date": "day"}.get(args.get("interval", ""), args.get("interval", ""))
    grain = _one_of("interval", interval, INTERVALS) if interval else by_default
    body = _body(args, today)
    return body | {"dimensions": [f"time:{grain}"], "include": body["include"] | {"time_labels": True}}


def breakdown_body(args: Args, today: date) -> dict[str, Any]:
    body = _body(args, today)
    by = args.get("property") or _wrong("property", "It is required: send a property such as event:page.")
    if by in _ONLY_KNOWN:
        body["filters"].append(["is_not", by, [missing(by)]])
    if by != "event:goal" and not by.startswith(PROPS):  # a rate among the visitors of the same group
        body["metrics"] = [{"conversion_rate": "group_conversion_rate"}.get(name, name) for name in body["metrics"]]
    limit = whole_number("limit", args.get("limit", "100"), MOST_RESULTS)
    offset = limit * (whole_number("page", args.get("page", "1"), FARTHEST_PAGE) - 1)
    dimensions = [*filter(None, (_WITH.get(by), by))]
    return body | {"dimensions": dimensions, "pagination": {"limit": limit, "offset": offset}}


def metrics_asked(args: Args) -> list[str]:
    return [name.strip() for name in (args.get("metrics") or "visitors").split(",")]


@contextmanager
def naming_parameters() -> Iterator[None]:
    """Converts an InvalidQuery about the JSON into one about the parameter from which the JSON was made."""
    try:
        yield
    except InvalidQuery as error:
        name = error.pointer.removeprefix("#/").partition("/")[0]
        parameter = _PARAMETERS.get(name, name)
        raise wrong_parameter(parameter, error.message) from None


def wrong_parameter(parameter: str, message: str) -> InvalidQuery:
    """The error as the answer shows it. `parameter` is "" if the error is about the whole request."""
    return InvalidQuery("", f"`{parameter}`: {message}" if parameter else message)


def whole_number(parameter: str, text: str, most: int) -> int:
    """A number from 1 to `most`. Raises InvalidQuery."""
    if not re.fullmatch("[0-9]{1,9}", text) or not 0 < int(text) <= most:
        raise wrong_parameter(parameter, f"It is not a number from 1 to {most}.")
    return int(text)


def _body(args: Args, today: date) -> dict[str, Any]:
    return {
        "site_id": args.get("site_id"),
        "metrics": metrics_asked(args),
        "date_range": _days(args, today),
        "filters": [_filter(each) for each in args.get("filters", "").split(";") if each.strip()],
        "include": {"imports": _one_of("with_imported", args.get("with_imported", "false"), FLAGS_V1) == "true"},
    }


def _days(args: Args, today: date) -> list[str]:
    """The first and the last day. The last day of a number of days is `date`; months are whole months."""
    period = _one_of("period", args.get("period", "30d"), PERIODS_V1)
    if period == "custom":
        days = [each.strip() for each in args.get("date", "").split(",")]
        if len(days) != 2 or not all(map(DATE.fullmatch, days)):
            _wrong("date", "With the period custom, send two days, YYYY-MM-DD,YYYY-MM-DD.")
        return days
    last = _day(args["date"]) if "date" in args else today
    try:
        if period in _DAYS:
            return [(last - (_DAYS[period] - 1) * ONE_DAY).isoformat(), last.isoformat()]
        months = last.year * 12 + last.month - 1
        first, end = (_month(months + each) for each in (1 - _MONTHS[period], 1))
        return [first.isoformat(), (end - timedelta(days=1)).isoformat()]
    except (ValueError, OverflowError):  # before the year 1, or after 9999
        _wrong("date", "It is not a day that can be queried.")


def _month(number: int) -> date:
    return date(number // 12, number % 12 + 1, 1)


def _day(text: str) -> date:
    return day_of(text) or _wrong("date", "It is not a day, YYYY-MM-DD.")


def _filter(text: str) -> list[Any]:
    """`property==a|b`, `property!=a`, or with `*` for any text. `\\|` is a | that does not separate values."""
    found = _FILTER.fullmatch(text.strip())
    if not found:
        _wrong("filters", f"{text[:100]!r} is not a filter such as visit:browser==Firefox.")
    dimension, operator, value = found[1].strip(), found[2], found[3].strip()
    values = [each.replace("\\|", "|") for each in _OR.split(value)]
    negated = operator == "!="
    if dimension == "event:goal":
        wanted: list[Any] = ["is", dimension, values]
        return ["not", wanted] if negated else wanted
    if "*" in value:
        return ["matches_not" if negated else "matches", dimension, [*map(_pattern, values)]]
    return ["is_not" if negated else "is", dimension, values]


def _pattern(value: str) -> str:
    """RE2 for a whole value, in which one or several `*` stand for any text."""
    return rf"\A{'(?s:.*)'.join(map(re.escape, re.split('[*]+', value)))}\z"


def _one_of(parameter: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        names = ", ".join(filter(None, known))
        _wrong(parameter, f"{value[:100]!r} is not one of {names}.{did_you_mean(value, known)}")
    return value


def _wrong(parameter: str, message: str) -> NoReturn:
    raise wrong_parameter(parameter, message)
