"""Makes the next item in a thread while the caller uses one. numpy, pyarrow and drivers release the interpreter's lock,
so both run at the same time.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import chain
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield the items. One more item than the caller's is in memory. Raises what making an item raises."""
    made, context = chain(([item] for item in items), [[]]), copy_context()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        coming = thread.submit(context.run, made.__next__)
        while found := coming.result():
            coming = thread.submit(context.run, made.__next__)
            yield found.pop()
