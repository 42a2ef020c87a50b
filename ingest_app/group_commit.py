"""Group commit: requests that arrive while a write is in flight share the next one, its round trip and its fsync.

In: what one request must have written. Out: nothing; returning means that it is written. The write's error is raised
for every request that shared it. An idle collector adds nothing: the first request writes at once, on its own thread.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

_MOST_BYTES = 8_000_000  # of one write, but for a request that is larger by itself: Redis does nothing else meanwhile


class _Batch(Generic[T]):
    """`waiting`: a lock for each request that waits, released when it may go on. An Event for all of them makes each
    take a common lock again when it wakes up.
    """

    def __init__(self) -> None:
        self.entries: list[T] = []
        self.size = 0
        self.waiting: list[threading.Lock] = []
        self.error: Exception | None = RuntimeError("not written")  # until it is


class GroupCommit(Generic[T]):
    """`write` takes the entries of all waiting requests, in the order of their arrival. It must come to an end. A
    request whose entries are larger than `most` together with those that wait begins another write. `size`: of entries.
    """

    def __init__(
        self, write: Callable[[Sequence[T]], None], most: int = _MOST_BYTES, size: Callable[[Sequence[T]], int] = len
    ) -> None:
        self._write = write
        self._most = most
        self._size = size
        self._joining = threading.Lock()
        self._turn = threading.Lock()
        self._open = _Batch[T]()

    def append(self, entries: Sequence[T]) -> None:
        """At least one entry."""
        size = self._size(entries)
        with self._joining:
            if self._open.entries and self._open.size + size > self._most:
                self._open = _Batch[T]()
            batch = self._open
            batch.size += size
            is_first = not batch.entries
            batch.entries += entries
            if not is_first:
                written = threading.Lock()
                written.acquire()
                batch.waiting.append(written)
        if is_first:
            self._lead(batch)
        else:
            written.acquire()
        if batch.error:
            raise batch.error

    def _lead(self, batch: _Batch[T]) -> None:
        """The first of a batch writes it for all, once the write before is through; until then others join."""
        with self._turn:
            with self._joining:
                if self._open is batch:
                    self._open = _Batch[T]()
            try:
                self._write(batch.entries)
                batch.error = None
            except Exception as error:  # whatever it was, it is the answer to all who wait
                batch.error = error
            finally:
                for request in batch.waiting:
                    request.release()
