"""Tells other processes in the same folder where the servers of a running `make run` are.

`make run` moves a server to another port if its own is taken, so it publishes the addresses in `servers.json` in
DATA_DIR. It holds a lock on the file as long as it runs. The kernel releases the lock however the process ends, so a
file without a lock is stale and is ignored.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

NAME = "servers.json"
_LARGEST = 10_000  # bytes


@dataclass(frozen=True)
class RunningServer:
    """`wanted_port`: the configured port. `url`: the address with the actual port."""

    name: str
    wanted_port: int
    url: str


@contextmanager
def published(folder: Path, servers: Iterable[RunningServer]) -> Iterator[None]:
    """Keeps the file, readable by its owner only, until the block ends. Raises OSError."""
    path = folder / NAME
    with NamedTemporaryFile("w", dir=folder, prefix=f"{NAME}.", delete=False) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # locked before it has its name, so that readers never see it unlocked
            json.dump([asdict(server) for server in servers], file)
            file.flush()
            os.replace(file.name, path)
            yield
        finally:
            for left in (Path(file.name), path):
                left.unlink(missing_ok=True)


def find_servers(folder: Path) -> dict[str, RunningServer]:
    """The servers by name. Empty if no `make run` runs in this folder."""
    with suppress(OSError, ValueError, TypeError, LookupError, RecursionError), (folder / NAME).open() as file:
        if _is_locked(file.fileno()):
            return {each["name"]: RunningServer(**each) for each in json.loads(file.read(_LARGEST))}
    return {}


def _is_locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
