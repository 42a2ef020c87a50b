"""A piece of SQL, for all that puts statements together. Pure."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sql:
    """The text is ours, to the last letter; what goes into its question marks are the values."""

    text: str
    values: tuple[Any, ...] = ()
