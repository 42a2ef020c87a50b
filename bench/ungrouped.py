"""The ingestion app with a write per request. `make bench` compares the group commit with it."""

from collections.abc import Sequence

from analytics.journal.journal import Line
from config.services import Services
from config.settings import load_settings
from ingest_app import create_app
from ingest_app.group_commit import GroupCommit
from tasks.events import WakeUps


class OneByOne(GroupCommit[Line]):
    def append(self, entries: Sequence[Line]) -> None:
        self._write(entries)


settings = load_settings()
services = Services(settings)
app = create_app(settings, services, WakeUps(services.journal), OneByOne)
