"""The door: where an event becomes our responsibility.

In: what a hit's body held. Out: nothing; returning means that the event is durable in the journal. Raises InvalidEvent
(the caller's mistake) and Unavailable (our trouble: nothing was promised, and the same event_id may come again).
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from analytics.event_schema import dump_journal_event, load_event
from analytics.journal import Journal
from ingest_app.group_commit import GroupCommit
from tasks.events import WakeUps


class Door:
    def __init__(self, journal: Journal, wake_ups: WakeUps, now: Callable[[], datetime]) -> None:
        self._journal = journal
        self._wake_ups = wake_ups
        self._now = now
        self._commits = GroupCommit(self._commit)

    def admit(self, body: object) -> None:
        event = load_event(body, self._now())
        self._commits.append([dump_journal_event(event)])

    def _commit(self, entries: Sequence[bytes]) -> None:
        if self._journal.append(entries) > 0:
            self._wake_ups.ask()

    def check(self) -> None:
        self._journal.check()
