"""Every machine forgets by itself: copies of segments whose file is gone, and in memory what was read before somebody
was erased. A thread in each process that reads segments; what several of a machine do more than once is harmless.

Wrong can go: MongoDB away is logged, and the next time is soon.
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
    """`reader`: whose memory it is, in a process that answers reports."""

    def __init__(
        self, store: SegmentStore, erasures: Erasures | None = None, reader: SnapshotReader | None = None
    ) -> None:
        self._store = store
        self._erasures = erasures
        self._reader = reader
        self._seen: datetime | None = None

    def start(self) -> None:
        """After the fork; ends with the process."""
        threading.Thread(target=self._run, name="forgetter", daemon=True).start()

    def forget(self) -> None:
        """Raises Unavailable."""
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
                log.warning("copies_not_removed", error=str(error))
            except Exception:  # a bug: this thread must not end with it
                log.exception("copies_not_removed")
