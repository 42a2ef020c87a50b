"""Group commit: entries that arrive during a write share the next write, its round trip and its fsync.

Each process has one write in flight, on a thread of its own. `GroupCommit.append` returns at once, with the future of
the write that will contain the entries. The future has the write's error for all of them. On an idle collector the
write begins at once, so there is no added delay.

If several requests shared the last write, the next one begins after a pause. The clients that were just answered then
share it too. With 64 connections, this triples the entries of a write, and requests are answered sooner, because each
write takes CPU of both servers (docs/decisions/0013-event-loop.md).
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")

# Bytes of one write, except for a single larger request. Redis does nothing else during a write.
_MOST_BYTES = 8_000_000
_PAUSE = 0.003  # seconds


class _Batch(Generic[T]):
    """The entries of one write."""

    def __init__(self) -> None:
        self.entries: list[T] = []
        self.requests = 0
        self.size = 0
        self.written: Future[None] = Future()


class GroupCommit(Generic[T]):
    """Collects entries for `write`, which receives those of all requests in their order of arrival.

    `write` must return. `size`: the size of entries. If a request's entries and the waiting ones together exceed
    `most`, the request starts another write. The first append starts the thread, so after the fork.
    """

    def __init__(
        self,
        write: Callable[[Sequence[T]], None],
        most: int = _MOST_BYTES,
        size: Callable[[Sequence[T]], int] = len,
        pause: float = _PAUSE,
    ) -> None:
        self._write = write
        self._most = most
        self._size = size
        self._pause = pause
        self._lock = threading.Lock()
        self._waiting: deque[_Batch[T]] = deque()
        self._work = threading.Semaphore(0)
        self._thread: threading.Thread | None = None

    def append(self, entries: Sequence[T]) -> Future[None]:
        """Returns the future of the write of these entries, of which there must be at least one."""
        size = self._size(entries)
        with self._lock:
            if not self._waiting or self._waiting[-1].size + size > self._most:
                self._waiting.append(_Batch())
                self._work.release()
            batch = self._waiting[-1]
            batch.size += size
            batch.entries += entries
            batch.requests += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="commits", daemon=True)
                self._thread.start()
        return batch.written

    def _run(self) -> None:
        is_shared = False  # the last write
        while self._work.acquire():
            if is_shared:
                time.sleep(self._pause)
            with self._lock:
                batch = self._waiting.popleft()
            is_shared = batch.requests > 1
            try:
                self._write(batch.entries)
            except Exception as error:  # any error becomes the answer to all requests of the batch
                batch.written.set_exception(error)
            else:
                batch.written.set_result(None)
