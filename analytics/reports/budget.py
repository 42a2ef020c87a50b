"""The budget of one query: its time, which also limits DuckDB and MongoDB, and the bytes of its answer. Pure.

Raises Refused when the time is over, from any loop that checks it.
"""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from analytics.reports.results import Refused

_TOO_LONG = "The query takes longer than {} s. Query a shorter period or fewer dimensions."

T = TypeVar("T")


class Budget:
    """The time of one query, from its planning to the last row of its answer. It begins when the object is created.
    `seconds` is the time limit. `key` is the id of the API key that sends the query, "" without one. Query slots are
    shared between keys.
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
        """Yield the items, and raise Refused when the time is over."""
        for item in items:
            self.check()
            yield item
