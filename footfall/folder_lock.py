"""A lock on a folder of data, held for as long as any process uses the folder.

The lock belongs to an open file, not to a process. A server that inherits the file (`fileno`) goes on holding the lock
when its supervisor is killed, even if the server is frozen, and the kernel frees the lock when the last of them ends.
"""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from footfall.start_error import StartError

_NAME = "lock"  # of the file in the folder; it holds the id of the process that uses the folder


class FolderLock:
    def __init__(self, folder: Path, user: str, patience: float = 0) -> None:
        """Makes the folder if it is not there, readable for its owner only. `user` says what uses such a folder.

        Raises StartError if the folder cannot be used, or if another process still holds the lock after `patience`
        seconds.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if not self._take(patience):
                holder = os.pread(self._file, 20, 0).decode(errors="replace").strip()
                raise StartError(
                    f"{folder} is in use by {user}, process {holder}. Stop it, or set DATA_DIR to another folder."
                )
            self._write(os.getpid())
        except OSError as error:
            raise StartError(
                f"DATA_DIR cannot be used: {error.strerror}: {folder}. Make it writable, or set another DATA_DIR."
            ) from error

    def fileno(self) -> int:
        return self._file

    def note_holder(self, pid: int) -> None:
        """Notes which process uses the folder, so that a refusal can name it."""
        with suppress(OSError):
            self._write(pid)

    def _write(self, pid: int) -> None:
        os.pwrite(self._file, f"{pid:<20}".encode(), 0)

    def _take(self, patience: float) -> bool:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= end:
                    return False
                time.sleep(0.05)
            else:
                return True
