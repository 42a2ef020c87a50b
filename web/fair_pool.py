"""A pool of threads that serves its clients in turn. No client can use it up, whatever it sends and however much.

One client gets at most three quarters of the threads, half of the places in the queue, and half of the queue's bytes.
All methods run on the thread of the event loop.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import structlog

log = structlog.get_logger()

Work = Callable[[], Any]
Then = Callable[[Any], None]


@dataclass(slots=True)
class _Jobs:
    """The jobs of one client. `count` and `size` include those that run."""

    waiting: deque[tuple[int, Work, Then]] = field(default_factory=deque)
    running: int = 0
    count: int = 0
    size: int = 0


class FairPool:
    """`most_jobs`, `most_bytes`: of the jobs that run or wait."""

    def __init__(self, loop: asyncio.AbstractEventLoop, threads: int, most_jobs: int, most_bytes: int) -> None:
        self._loop = loop
        self._executor = ThreadPoolExecutor(threads, "request")
        self._free = threads
        self._most_of_one = max(1, threads * 3 // 4)
        self._most_jobs = most_jobs
        self._most_bytes = most_bytes
        self._count = self._size = 0
        self._jobs: dict[str, _Jobs] = {}  # by client; the first one is next

    def accepts(self, client: str, size: int) -> bool:
        """Whether there is room for another job of this client. `size`: bytes that the job keeps."""
        own = self._jobs.get(client, _Jobs())
        has_share = own.count < self._most_jobs // 2 and own.size + size <= self._most_bytes // 2
        return self._count < self._most_jobs and self._size + size <= self._most_bytes and has_share

    def submit(self, client: str, size: int, work: Work, then: Then) -> None:
        """Runs `work` in a thread, and calls `then` with its result on the loop, or with None if it fails."""
        own = self._jobs.setdefault(client, _Jobs())
        own.waiting.append((size, work, then))
        own.count += 1
        own.size += size
        self._count += 1
        self._size += size
        self._start()

    def close(self) -> None:
        """Drops what waits. Does not wait for what runs."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        while self._free:
            name = next((x for x, y in self._jobs.items() if y.waiting and y.running < self._most_of_one), None)
            if name is None:
                return
            own = self._jobs[name] = self._jobs.pop(name)  # it is last now
            size, work, then = own.waiting.popleft()
            own.running += 1
            self._free -= 1
            self._run(name, size, work, then)

    def _run(self, client: str, size: int, work: Work, then: Then) -> None:
        def ended(future: Future[Any]) -> None:
            own = self._jobs[client]
            own.running -= 1
            own.count -= 1
            own.size -= size
            if not own.count:
                del self._jobs[client]
            self._free += 1
            self._count -= 1
            self._size -= size
            self._start()
            then(future.result())

        future = self._executor.submit(_logging_errors, work)
        future.add_done_callback(lambda done: self._loop.call_soon_threadsafe(ended, done))


def _logging_errors(work: Work) -> Any:
    try:
        return work()
    except Exception:
        log.exception("request_failed")
        return None
