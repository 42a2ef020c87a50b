"""Removes local data on each machine: copies of segments whose file is deleted, and cached events that were read before
an erasure. It is a thread in each process that reads segments. Several processes of a machine may do the same work,
which is harmless.

If MongoDB is not reachable, the thread logs this and tries again after EVERY seconds.
"""

import threading
from datetime import datetime

import structlog

from analytics.privacy.erasure_log import Erasures
from analytics.segments.snapshot_reader import SnapshotReader
from analytics.segments.store import SegmentStore
from analytics.unavailable import Unavailable

log = structlog.get_logger()

EVERY = 30.0  # seconds


class Forgetter:
    """Removes this machine's outdated data. `reader` is the reader whose caches are cleared, in a process that answers
    reports.
    """

    def __init__(
        self, store: SegmentStore, erasures: Erasures | None = None, reader: SnapshotReader | None = None
    ) -> None:
        self._store = store
        self._erasures = erasures
        self._reader = reader
        self._seen: datetime | None = None

    def start(self) -> None:
        """Start the thread. Call it after the fork. The thread ends with the process."""
        threading.Thread(target=self._run, name="forgetter", daemon=True).start()

    def forget(self) -> None:
        """Remove outdated data once. Raises Unavailable."""
        self._store.remove_orphans()
        if self._erasures and self._reader and (latest := self._erasures.latest()) != self._seen:
            self._reader.clear()
            self._seen = latest

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(EVERY):
            try:
                self.forget()
            except Unavailable as error:
                log.warning("segment_copies_not_removed", error=str(error))
            except Exception:  # a bug must not end this thread
                log.exception("segment_copies_not_removed")
