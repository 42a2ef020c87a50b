"""What one question may take: time, of which DuckDB and MongoDB are given the same, and bytes of its answer. Pure.

Raises Refused where the time is over, from whichever loop asks.
"""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from analytics.reports.results import Refused

_TOO_LONG = "This takes longer than {} s; ask about a shorter period, or with fewer dimensions."

T = TypeVar("T")


class Budget:
    """Begins with its making. `seconds`: for all of the question, from its planning to the last row of its answer.
    `key`: the id of the API key that asks, "" for none; slots are shared between keys.
    """

    def __init__(self, seconds: float, key: str = "") -> None:
        self.seconds = seconds
        self.key = key
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def check(self) -> None:
        if time.monotonic() > self._end:
            raise self.refusal()

    def refusal(self) -> Refused:
        return Refused("time_limit", _TOO_LONG.format(f"{self.seconds:g}"))

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """The items, as long as there is time."""
        for item in items:
            self.check()
            yield item
