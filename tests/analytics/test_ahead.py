"""The next item is made while the caller uses one."""

import threading
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

from analytics.ahead import ahead


def test_items_come_in_order_and_one_is_made_ahead():
    made: list[int] = []
    second = threading.Event()

    def numbers() -> Iterator[int]:
        for n in range(4):
            made.append(n)
            if n == 1:
                second.set()
            yield n

    items = ahead(numbers())
    assert next(items) == 0
    assert second.wait(10), "while the caller has the first"
    assert made == [0, 1]
    assert [*items] == [1, 2, 3]
    assert [*ahead([])] == []


def test_an_error_is_raised_after_the_items_before_it():
    def failing() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    items = ahead(failing())
    assert next(items) == 1
    with pytest.raises(ZeroDivisionError):
        next(items)


def test_a_caller_that_stops_leaves_no_thread():
    items = ahead(iter(range(9)))
    next(items)
    items.close()
    assert not any(thread.name.startswith("ahead") for thread in threading.enumerate())


def test_items_are_made_with_the_limits_of_the_caller():
    limit: ContextVar[int] = ContextVar("limit", default=0)
    limit.set(5)
    assert [*ahead(limit.get() for _ in range(2))] == [5, 5]
