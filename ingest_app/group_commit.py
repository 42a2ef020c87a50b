"""Group commit: entries that arrive during a write share the next write, its round trip and its fsync.

Each process has one write in flight, on the server's event loop, or otherwise on a thread of its own.
`GroupCommit.append` returns at once, with the future of the write that will contain the entries. The future has the
write's error for all of them. On an idle collector the write begins at once, so there is no added delay.

If several requests shared the last write, the next one begins later, so that the clients that were just answered share
it too: on the loop when _TURNS turns have brought no further request, at most after the pause, and on a thread after
the pause. With 64 connections, this nearly doubles the entries of a write, and each write takes CPU of both servers
(docs/decisions/0013-event-loop.md).
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")
AsyncWrite = AbstractAsyncContextManager[Callable[[Sequence[T]], Awaitable[None]]]

# Bytes of one write, except for a single larger request. Redis does nothing else during a write, and the loop prepares
# it in one turn, which takes 5 ms for 8,000 events.
_MOST_BYTES = 2_000_000
_PAUSE = 0.002  # seconds; on the loop at most
_TURNS = 3  # of the loop; an empty turn takes 10 µs, and a client needs 14 for its next request


class _Batch(Generic[T]):
    """The entries of one write."""

    def __init__(self) -> None:
        self.entries: list[T] = []
        self.requests = 0
        self.size = 0
        self.written: Future[None] = Future()

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Any error of the block becomes the answer to all requests of the batch."""
        try:
            yield
        except Exception as error:
            self.written.set_exception(error)
        else:
            self.written.set_result(None)


class GroupCommit(Generic[T]):
    """Collects entries for `write`, which receives those of all requests in their order of arrival.

    `write` must return. `size`: the size of entries. If a request's entries and the waiting ones together exceed
    `most`, the request starts another write. Without an event loop, the first append starts a thread: call it after
    the fork.
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
        self._has_begun = False
        self._announce: Callable[[], object] = self._work.release  # another batch

    def append(self, entries: Sequence[T]) -> Future[None]:
        """Returns the future of the write of these entries, of which there must be at least one."""
        size = self._size(entries)
        with self._lock:
            if not self._waiting or self._waiting[-1].size + size > self._most:
                self._waiting.append(_Batch())
                self._announce()
            batch = self._waiting[-1]
            batch.size += size
            batch.entries += entries
            batch.requests += 1
            if not self._has_begun:
                self._has_begun = True
                threading.Thread(target=self._run, name="commits", daemon=True).start()
        return batch.written

    def use_loop(self, loop: asyncio.AbstractEventLoop, writing: AsyncWrite[T]) -> None:
        """From now on a task of `loop` writes, in the context `writing`. Call it before the first append."""
        work = asyncio.Semaphore(0)
        self._has_begun = True
        self._announce = lambda: loop.call_soon_threadsafe(work.release)
        self._task = loop.create_task(self._run_on_loop(work, writing))  # the loop itself has only weak references

    def _run(self) -> None:
        is_shared = False  # the last write
        while self._work.acquire():
            if is_shared:
                time.sleep(self._pause)
            batch = self._next()
            is_shared = batch.requests > 1
            with batch.settled():
                self._write(batch.entries)

    async def _run_on_loop(self, work: asyncio.Semaphore, writing: AsyncWrite[T]) -> None:
        is_shared = False
        async with writing as write:
            while await work.acquire():
                if is_shared:
                    await self._others()
                batch = self._next()
                is_shared = batch.requests > 1
                with batch.settled():
                    await write(batch.entries)

    async def _others(self) -> None:
        """Waits for the requests that will share the next write."""
        batch, quiet = self._waiting[0], 0
        end = time.monotonic() + self._pause
        while quiet < _TURNS and time.monotonic() < end:
            seen = batch.requests
            await asyncio.sleep(0)
            quiet = quiet + 1 if batch.requests == seen else 0

    def _next(self) -> _Batch[T]:
        with self._lock:
            return self._waiting.popleft()
