"""A part of an SQL statement, for all modules that compose statements. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sql:
    """SQL with parameters. `text` comes only from this program. `values` are the values of its question marks."""

    text: str
    values: tuple[Any, ...] = ()


TRUE, FALSE = Sql("true"), Sql("false")


def put(text: str, *parts: Sql) -> Sql:
    """Return `text` with a part in place of each `{}`."""
    pieces = text.split("{}")
    assert len(pieces) == len(parts) + 1, text  # noqa: S101 a programming error, which any test finds
    whole = pieces[0] + "".join(part.text + piece for part, piece in zip(parts, pieces[1:], strict=True))
    return Sql(whole, tuple(value for part in parts for value in part.values))


def value(given: object) -> Sql:
    return Sql("?", (given,))


def joined_by(word: str, parts: Iterable[Sql]) -> Sql:
    found = list(parts)
    return Sql(word.join(p.text for p in found), tuple(v for p in found for v in p.values))


def select(what: str, source: Sql, limits: Sequence[Sql]) -> Sql:
    where = f" WHERE {' AND '.join(limit.text for limit in limits)}" if limits else ""
    values = (value for limit in limits for value in limit.values)
    return Sql(f"SELECT {what} FROM {source.text}{where}", (*source.values, *values))


def negated(condition: Sql) -> Sql:
    return Sql(f"NOT {condition.text}", condition.values)


def any_of(conditions: Iterable[Sql]) -> Sql:
    found = list(conditions)
    text = " OR ".join(each.text for each in found)
    return Sql(f"({text})", tuple(value for each in found for value in each.values))
