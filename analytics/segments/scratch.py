"""Temporary folders, and locks between the processes of one machine. Both end with the process, no matter how it ends.
The kernel releases a lock even after kill -9. A folder stays until another process finds that its lock is free and
removes it.
"""

import fcntl
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from analytics.events.event import new_id

_PREFIX = "work-"
LOCK = "lock"
YOUNG = 60.0  # seconds; a process that has just made a folder may not have locked it yet


class Workplace:
    """A folder of this process within `parent`, which other processes share. Create it after the fork."""

    def __init__(self, parent: Path) -> None:
        sweep(parent)
        self._place = parent / f"{_PREFIX}{new_id().hex}"
        self._place.mkdir(mode=0o700, parents=True)
        lock = os.open(self._place / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        weakref.finalize(self, _leave, self._place, lock, os.getpid())

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Yield a folder that exists while the block runs."""
        with tempfile.TemporaryDirectory(dir=self._place) as name:
            yield Path(name)

    def unused(self, suffix: str = "") -> Path:
        """Return the path of a file or folder that does not exist yet."""
        return self._place / f"{new_id().hex}{suffix}"


def _leave(place: Path, lock: int, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked child
        shutil.rmtree(place, ignore_errors=True)
        os.close(lock)


def sweep(parent: Path) -> None:
    """Remove the folders of processes that have ended."""
    for place in parent.glob(f"{_PREFIX}*"):
        with suppress(FileNotFoundError):
            if time.time() - place.stat().st_mtime < YOUNG:
                continue
            (place / LOCK).touch()
            with alone(place / LOCK) as is_ours:
                if is_ours:
                    shutil.rmtree(place, ignore_errors=True)


@contextmanager
def alone(lock: Path) -> Iterator[bool]:
    """Yield whether this process got the lock. It holds the lock until the block ends, and no other process on this
    machine holds it.
    """
    with lock.open("a") as file:
        yield _is_free(file)


def _is_free(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
