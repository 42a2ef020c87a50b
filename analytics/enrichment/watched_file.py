"""A file that other programs replace from time to time. It is read again when it has changed.

If the file is missing or unreadable, this is logged once, and the previous content stays.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger()

LOOKED_AT = 60.0  # seconds between two checks of the file's modification time

T = TypeVar("T")


class WatchedFile(Generic[T]):
    """The parsed content of a file. `read` parses the file. The exceptions in `wrong` mean that the file is invalid.
    `clock` must be monotonic.
    """

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
        """Return the content, or None if the file was never readable."""
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
