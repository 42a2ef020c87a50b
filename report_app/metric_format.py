"""How the numbers of an answer look: in JSON, in a table's cells, and beside those of another period. Pure."""

from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal

from babel.numbers import format_compact_currency, format_currency

from analytics.queries.query import OF_MONEY, OF_PAGES
from analytics.reports.results import Metric, MoneyAmount

LOCALE = "en_US"  # Plausible's
Cell = str | int | float | Decimal | None


def figure(metric: Metric) -> object:
    if not isinstance(metric, MoneyAmount):
        return metric
    return {
        "value": float(metric.amount),
        "currency": metric.currency,
        "short": format_compact_currency(metric.amount, metric.currency, locale=LOCALE, fraction_digits=1),
        "long": format_currency(metric.amount, metric.currency, locale=LOCALE),
    }


def columns(metric: str) -> Iterator[str]:
    """What a table calls the cells of this metric; money has two."""
    yield metric
    if metric in OF_MONEY:
        yield f"{metric}_currency"


def cells(metric: str, value: Metric) -> Iterator[Cell]:
    money = value if isinstance(value, MoneyAmount) else None
    yield _plain(money.amount) if money else value  # type: ignore[misc]
    if metric in OF_MONEY:
        yield money.currency if money else None


def nothing(metric: str) -> Metric:
    """Of a group that nobody was in."""
    return None if metric in (*OF_PAGES, *OF_MONEY) else 0


def change(now: Metric, before: Metric) -> int | None:
    """In whole percent; None where there was nothing, of which nothing is a percentage, or where money changed its
    currency.
    """
    match now, before:
        case MoneyAmount(), MoneyAmount():
            return _percent(now.amount, before.amount) if now.currency == before.currency else None
        case int() | float(), int() | float():
            return _percent(Decimal(str(now)), Decimal(str(before)))
    return None


def _plain(amount: Decimal) -> Decimal:
    """As short as it can be written without an exponent: 49.900 is 49.9."""
    return Decimal(f"{amount.normalize():f}")


def _percent(now: Decimal, before: Decimal) -> int | None:
    if not before:
        return None
    return int((100 * (now - before) / abs(before)).quantize(Decimal(1), ROUND_HALF_UP))


def share(part: int, whole: int) -> float:
    """In percent, as the engine's are: two decimals, half away from zero; 0 of nothing."""
    return float((Decimal(100 * part) / whole).quantize(Decimal("0.01"), ROUND_HALF_UP)) if whole else 0.0
