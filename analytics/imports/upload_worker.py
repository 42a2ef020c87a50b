"""What a worker does for the imports page of a site: it reads uploaded files, imports them, and removes imports.

Callers must handle Unavailable. After it, and after a kill -9, another call continues.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import structlog
from gridfs.errors import NoFile

from analytics.enrichment.steps import Lookups
from analytics.imports.formats import detect
from analytics.imports.importer import SAVED_EVERY, Importer, ImportPlan, NobodyStores, Preview
from analytics.imports.source import InflatedBytes, UnreadableFile, source_files
from analytics.imports.store import ImportRecord, ImportRemoved, ImportStore
from analytics.imports.uploads import MOST_ROWS_READ, MOST_TRIES, PROGRESS, Upload, UploadStore
from analytics.journal.journal import Journal
from analytics.sites.store import SiteStore
from analytics.unavailable import Unavailable

log = structlog.get_logger()

_STOPS_WITHIN = timedelta(seconds=3 * SAVED_EVERY)  # a running import notices that it is being removed
_LONGEST_SHOWN = 2_000  # characters of an event
_WORK_FOR = 60.0  # seconds; then the next task continues
_MOST_INFLATED = 2_000_000_000  # bytes of an upload
TOO_MUCH = "It takes too long to read. Import it with `python -m footfall import`."


class _OutOfTime(Exception):
    """The import continues in a later call."""


@dataclass(frozen=True)
class UploadWorker:
    uploads: UploadStore
    imports: ImportStore
    importer: Importer
    sites: SiteStore
    lookups: Callable[[], Lookups]
    journal: Journal
    now: Callable[[], datetime]

    def work(self, wake: Callable[[], None], make_room: Callable[[], object], seconds: float = _WORK_FOR) -> int:
        """Work off uploads and removals, and return how many. After that many seconds, or if the journal is full of the
        site's events, the rest is left to a later call. `wake` is called when events wait in the journal, and
        `make_room` while it is full of the site's events. Raises Unavailable.
        """
        done, end = 0, time.monotonic() + seconds
        while time.monotonic() < end and (upload := self.uploads.claim()):
            if not self._is_worked_off(upload, wake, make_room, end):
                break
            done += 1
        for record, since in self.imports.being_removed():
            done += self._remove(record, since)
        self.uploads.remove_old()
        return done

    def _is_worked_off(
        self, upload: Upload, wake: Callable[[], None], make_room: Callable[[], object], end: float
    ) -> bool:
        """Work on an upload, and end its claim. Returns False if the rest is left to a later call. Raises
        Unavailable.
        """
        counts = True
        try:
            self._work(upload, wake, make_room, end)
        except _OutOfTime:
            return False
        except NobodyStores:
            log.warning("upload_not_imported", site_id=upload.site_id, error="the journal is full of its events")
            counts = False
            return False
        except Unavailable:
            counts = False
            raise
        else:
            return True
        finally:  # also if the task is stopped
            with suppress(Unavailable):  # the claim ends by itself
                self.uploads.release(upload, counts=counts)

    def _work(self, upload: Upload, wake: Callable[[], None], make_room: Callable[[], object], end: float) -> None:
        if not self._progresses(upload) and upload.tries > MOST_TRIES:
            self.uploads.note(upload, "failed", said=TOO_MUCH)
            return
        with TemporaryDirectory(prefix="footfall-upload-") as folder:
            path = Path(folder) / "file"
            try:
                self.uploads.fetch(upload, path)
                plan = self._plan(upload, path)
                self.uploads.note_record(upload, plan.id)
                if upload.state == "new":
                    seen = self.importer.preview(plan, self.lookups(), most_rows=MOST_ROWS_READ)
                    self.uploads.note(upload, "shown", shown=_shown(plan, seen))
                else:
                    self.importer.run(plan, wake, partial(self._check_time, end), make_room)
                    self.uploads.remove(upload.id)
            except UnreadableFile as error:
                self.uploads.note(upload, "failed", said=str(error).replace(str(path), upload.name))
            except (ImportRemoved, NoFile):  # a person discarded the file, or removes the import
                self.uploads.remove(upload.id)

    def _check_time(self, end: float, record: ImportRecord) -> None:
        if time.monotonic() > end:
            self.imports.save(record)
            raise _OutOfTime

    def _progresses(self, upload: Upload) -> bool:
        """Whether the tries before this one have imported something. Raises Unavailable."""
        record = self.imports.get(upload.record) if upload.state == "wanted" else None
        if record is None or abs(record.rows - upload.rows) < PROGRESS:
            return False
        self.uploads.note_progress(upload, record.rows)
        return True

    def _plan(self, upload: Upload, path: Path) -> ImportPlan:
        """Raises UnreadableFile and Unavailable."""
        files = source_files([path], InflatedBytes(_MOST_INFLATED))
        return ImportPlan(self.sites.get(upload.site_id), detect(files), files)

    def _remove(self, record: ImportRecord, since: datetime) -> int:
        """Remove the events of an import if none of them can still be in the journal. Returns 1 if it is done."""
        moment = since if record.is_finished else since + _STOPS_WITHIN
        oldest = self.journal.oldest()
        if self.now() < moment or (oldest and oldest <= moment):
            return 0
        removed = sum(self.imports.remove_all_of(record, oldest))
        self.imports.forget(record.id)
        log.info("import_removed", site_id=record.site_id, import_id=record.id, events=removed)
        return 1


def _shown(plan: ImportPlan, seen: Preview) -> Mapping[str, Any]:
    return {
        "title": plan.format.title,
        "mapping": [list(pair) for pair in plan.format.mapping.items()],
        "rows": seen.rows,
        "stored": seen.stored,
        "skipped": [[reason, count] for reason, count in seen.skipped.most_common()],
        "events": [json.dumps(example)[:_LONGEST_SHOWN] for example in seen.examples()],
    }
