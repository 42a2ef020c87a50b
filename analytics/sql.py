"""A part of an SQL statement, for all modules that compose statements. Pure."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sql:
    """SQL with parameters. `text` comes only from this program. `values` are the values of its question marks."""

    text: str
    values: tuple[Any, ...] = ()
