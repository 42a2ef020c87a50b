"""A lock on a data folder, held while any process uses the folder.

The lock belongs to an open file, not to a process. A server that inherits the file (`fileno`) keeps the lock if its
supervisor is killed, even if the server is frozen. The kernel frees the lock when the last of them ends. Callers must
handle StartError.
"""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from footfall.start_error import StartError

_NAME = "lock"  # a file in the folder with the id of the process that uses the folder


class FolderLock:
    def __init__(self, folder: Path, user: str, patience: float = 0) -> None:
        """Creates the folder if it does not exist, readable by its owner only.

        `user`: a description of the folder's user.

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
        """Stores the id of the process that uses the folder, so that an error message can name it."""
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
