"""A file that somebody else replaces now and then: what it says, read again when it is another one.

Wrong can go: a file that is gone or cannot be read is logged once, and what was read before stays.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger()

LOOKED_AT = 60.0  # seconds between two looks at a file's time

T = TypeVar("T")


class WatchedFile(Generic[T]):
    """`read`: what becomes of the file; what it raises, of `wrong`, is the file's fault. `clock`: only goes up."""

    def __init__(
        self,
        path: Path,
        read: Callable[[Path], T],
        wrong: tuple[type[Exception], ...] = (OSError, ValueError),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._read = read
        self._wrong: tuple[type[Exception], ...] = (OSError, *wrong)
        self._clock = clock
        self._look_at = 0.0
        self._seen: object = None
        self._value: T | None = None

    def get(self) -> T | None:
        """None where nothing could be read yet."""
        if self._clock() >= self._look_at:
            self._look_at = self._clock() + LOOKED_AT
            self._look()
        return self._value

    def _look(self) -> None:
        try:
            status = self._path.stat()
            seen: object = (status.st_ino, status.st_size, status.st_mtime_ns)
            if seen != self._seen:
                self._value = self._read(self._path)
                log.info("file_read", path=str(self._path))
        except self._wrong as error:
            seen = type(error), str(error)
            if seen != self._seen:
                log.warning("file_not_read", path=str(self._path), error=str(error))
        self._seen = seen
