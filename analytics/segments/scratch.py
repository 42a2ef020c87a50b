"""Folders for what is half done, and locks between the processes of one machine: both go with the process, however it
ends. A lock of the kernel's ends with a kill -9; a folder stays, and goes when somebody sees that its lock is free.
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
YOUNG = 60.0  # seconds; whoever makes a folder has not locked it yet


class Workplace:
    """A folder of this process's own within `parent`, which other processes share. Make it after the fork."""

    def __init__(self, parent: Path) -> None:
        sweep(parent)
        self._place = parent / f"{_PREFIX}{new_id().hex}"
        self._place.mkdir(mode=0o700, parents=True)
        lock = os.open(self._place / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        weakref.finalize(self, _leave, self._place, lock, os.getpid())

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """One that is there while the block runs."""
        with tempfile.TemporaryDirectory(dir=self._place) as name:
            yield Path(name)

    def unused(self, suffix: str = "") -> Path:
        """The name of a file or folder that is not there yet."""
        return self._place / f"{new_id().hex}{suffix}"


def _leave(place: Path, lock: int, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked child
        shutil.rmtree(place, ignore_errors=True)
        os.close(lock)


def sweep(parent: Path) -> None:
    """Remove the folders of processes that are gone."""
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
    """Whether nobody else on this machine has the lock, which is ours until the block ends."""
    with lock.open("a") as file:
        yield _is_free(file)


def _is_free(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
