"""Group commit: requests that arrive during a write share the next write, its round trip and its fsync.

When GroupCommit.append returns, the entries are written. The write's error is raised for every request that shared it.
On an idle collector the first request writes at once, on its own thread, so there is no added delay.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

# Bytes of one write, except for a single larger request. Redis does nothing else during a write.
_MOST_BYTES = 8_000_000


class _Batch(Generic[T]):
    """The entries of one write. `waiting`: one lock per waiting request, released when the request may continue.

    A shared Event would make each request take a common lock again when it wakes up.
    """

    def __init__(self) -> None:
        self.entries: list[T] = []
        self.size = 0
        self.waiting: list[threading.Lock] = []
        self.error: Exception | None = RuntimeError("not written")  # replaced when the write ends


class GroupCommit(Generic[T]):
    """Collects entries for `write`, which receives those of all waiting requests in their order of arrival.

    `write` must return. `size`: the size of entries. If a request's entries and the waiting ones together exceed
    `most`, the request starts another write.
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
        """Writes the entries, of which there must be at least one. Raises the error of `write`."""
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
        """Writes a batch for all of its requests, on the thread of the first one.

        Until the previous write ends, others join.
        """
        with self._turn:
            with self._joining:
                if self._open is batch:
                    self._open = _Batch[T]()
            try:
                self._write(batch.entries)
                batch.error = None
            except Exception as error:  # any error becomes the answer to all waiting requests
                batch.error = error
            finally:
                for request in batch.waiting:
                    request.release()
