"""`python start_redis.py FOLDER COMMAND...`: mends the append-only file in FOLDER, and becomes the Redis of COMMAND.

A Redis that is killed while it writes a transaction leaves the beginning of it at the end of its file. Redis 6 and 7
discard that when they start, but not all of it from the file: what they append later is read as a part of the
transaction, and after the next start half of it may be executed. redis-check-aof finds where the last whole
transaction ends. The file is cut there. A file that is damaged elsewhere stays as it is, and Redis refuses it.

It uses the standard library only, so that it takes some milliseconds. redis-check-aof reads the whole file.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ENDS_TOO_EARLY = re.compile(r"Reached EOF before reading EXEC for MULTI|Expected to read \d+ bytes, got \d+ bytes")
WHOLE = re.compile(r"\bok_up_to=(\d+)")


def mend(binary: str, folder: Path) -> None:
    """Cuts off the beginning of a transaction or of a command at the end of the file."""
    file = _last_file(folder)
    if file is None:
        return
    # redis-server is redis-check-aof under another name.
    command = ["redis-check-aof", str(file)]
    found = subprocess.run(command, executable=binary, check=False, capture_output=True, text=True, errors="replace")
    whole = WHOLE.search(found.stdout)
    if found.returncode and whole and ENDS_TOO_EARLY.search(found.stdout):
        os.truncate(file, int(whole[1]))


def _last_file(folder: Path) -> Path | None:
    """The file to which Redis appends. Redis 7 names it in a manifest."""
    manifest = folder / "appendonlydir" / "appendonly.aof.manifest"
    if manifest.exists():
        names = [line.split()[1] for line in manifest.read_text().splitlines() if line.endswith(" type i")]
        return manifest.parent / names[-1] if names else None
    file = folder / "appendonly.aof"
    return file if file.exists() else None


if __name__ == "__main__":
    folder, *command = sys.argv[1:]
    mend(command[0], Path(folder))
    os.execv(command[0], command)  # noqa: S606
