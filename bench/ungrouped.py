"""The ingestion app with a write per request. `make bench` compares the group commit with it."""

from collections.abc import Sequence
from concurrent.futures import Future

from analytics.event_loop import may_wait
from analytics.journal.journal import Line
from config.services import Services
from config.settings import load_settings
from ingest_app import create_app
from ingest_app.group_commit import GroupCommit
from tasks.events import WakeUps


class OneByOne(GroupCommit[Line]):
    def append(self, entries: Sequence[Line]) -> Future[None]:
        may_wait()
        self._write(entries)
        written: Future[None] = Future()
        written.set_result(None)
        return written


settings = load_settings()
services = Services(settings)
app = create_app(settings, services, WakeUps(services.journal), OneByOne)
