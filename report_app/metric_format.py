"""The format of an answer's numbers: in JSON, in the cells of a table, and compared with another period. Pure."""

from collections.abc import Iterator, Mapping
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Annotated, TypedDict

from babel.numbers import format_compact_currency, format_currency

from analytics.queries.query import METRICS, OF_MONEY, OF_PAGES, Query, function_of_numbers
from analytics.reports.results import Metric, MoneyAmount

LOCALE = "en_US"  # the locale of Plausible
ALL_DIGITS = Context(prec=100)  # a sum of numbers may have more than the default of 28
Cell = str | int | float | Decimal | None


class MoneyJson(TypedDict):
    value: float
    currency: str
    short: str
    long: str


Figure = float | MoneyJson | None


class WarningJson(TypedDict):
    code: str
    warning: str


Warnings = Annotated[Mapping[str, WarningJson], "What to know about the number of a metric, by the metric's name."]
SUMMED_OVER_SITES = (
    "A visitor and a visit belong to one site. A person who visits two of these sites counts as two visitors."
)
_OF_EVENTS = ("pageviews", "events", *OF_MONEY)  # other metrics depend on who a visitor is


def metric_warnings(query: Query) -> dict[str, WarningJson]:
    """The warnings about the metrics of a query about several sites. Empty if it is about one."""
    if not query.others:
        return {}
    warning: WarningJson = {"code": "summed_over_sites", "warning": SUMMED_OVER_SITES}
    return {metric: warning for metric in query.metrics if metric in METRICS and metric not in _OF_EVENTS}


def figure(metric: Metric) -> Figure:
    if isinstance(metric, Decimal):
        return int(metric) if metric == int(metric) else float(metric)
    if not isinstance(metric, MoneyAmount):
        return metric
    return {
        "value": float(metric.amount),
        "currency": metric.currency,
        "short": format_compact_currency(metric.amount, metric.currency, locale=LOCALE, fraction_digits=1),
        "long": format_currency(metric.amount, metric.currency, locale=LOCALE),
    }


def columns(metric: str) -> Iterator[str]:
    """The columns of a metric in a table. Money has two."""
    yield metric
    if metric in OF_MONEY:
        yield f"{metric}_currency"


def cells(metric: str, value: Metric) -> Iterator[Cell]:
    amount = value.amount if isinstance(value, MoneyAmount) else value
    yield _plain(amount) if isinstance(amount, Decimal) else amount
    if metric in OF_MONEY:
        yield value.currency if isinstance(value, MoneyAmount) else None


def nothing(metric: str) -> Metric:
    """The value of a metric for an empty group."""
    asked = function_of_numbers(metric)
    return None if metric in (*OF_PAGES, *OF_MONEY) or (asked and asked[0] != "count") else 0


def change(now: Metric, before: Metric) -> int | None:
    """The change in whole percent. None if the earlier value is 0 or missing, or if the currencies differ."""
    match now, before:
        case MoneyAmount(), MoneyAmount():
            return _percent(now.amount, before.amount) if now.currency == before.currency else None
        case int() | float() | Decimal(), int() | float() | Decimal():
            return _percent(Decimal(str(now)), Decimal(str(before)))
    return None


def _plain(amount: Decimal) -> Decimal:
    """The amount without trailing zeros and without an exponent: 49.900 becomes 49.9."""
    return Decimal(f"{amount.normalize(ALL_DIGITS):f}")


def _percent(now: Decimal, before: Decimal) -> int | None:
    if not before:
        return None
    return int((100 * (now - before) / abs(before)).quantize(Decimal(1), ROUND_HALF_UP, ALL_DIGITS))


def share(part: int, whole: int) -> float:
    """The share in percent, rounded as the engine does: two decimals, half away from zero. 0 if `whole` is 0."""
    return float((Decimal(100 * part) / whole).quantize(Decimal("0.01"), ROUND_HALF_UP)) if whole else 0.0
