"""The archiver: keeps a folder with a Parquet file for each past day of each site, as MongoDB has the day.

Segments say which days changed. A worker builds a new segment of an hour after events arrived late, were erased or were
purged, and the new segment has a new version. So the file of that day is written again, without a visitor who was
erased. A day without events has no file.

MongoDB notes which files this system wrote. Other files are not replaced: a new system with an old archive could
otherwise replace a whole day by a part of it. After a restore from the archive, its days count as ours.

Callers must handle Unavailable. Each step may be repeated, and a run that was killed is continued by the next one.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain
from typing import Any

import structlog
from pymongo.database import Database

from analytics.archive.folder import ArchivedDay, ArchiveFolder
from analytics.digest import digest_of
from analytics.events.dirty_hours import DirtyHours
from analytics.events.export import parquet
from analytics.events.store import EventStore
from analytics.interval import DAY, as_datetime
from analytics.mongodb import reading, writing
from analytics.segments.store import SegmentStore
from analytics.unavailable import Unavailable

log = structlog.get_logger()

_UNKNOWN = ""  # the version of a file that is being written, or that was restored


class ArchiveNotes:
    """The days whose files this system wrote, by site, with the version of the segments they were written from."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._database = database
        self._notes = database["archived_days"]

    def of_site(self, site_id: str) -> dict[date, str]:
        """Raises Unavailable."""
        with reading(self._database):
            found = self._notes.find_one({"_id": site_id}) or {}
        return {date.fromisoformat(day): version for day, version in found.get("days", {}).items()}

    def note(self, site_id: str, days: Iterable[date], version: str = _UNKNOWN) -> None:
        """Raises Unavailable."""
        if changes := {f"days.{day}": version for day in days}:
            with writing(self._database):
                self._notes.update_one({"_id": site_id}, {"$set": changes}, upsert=True)

    def forget(self, site_id: str, day: date) -> None:
        """Raises Unavailable."""
        with writing(self._database):
            self._notes.update_one({"_id": site_id}, {"$unset": {f"days.{day}": ""}})


@dataclass(slots=True)
class Archived:
    """How many files a run wrote and removed. `foreign` were not replaced, because another system wrote them. `busy` is
    how many sites were left out, because a worker builds their segments. `is_done` is false if days are left.
    """

    written: int = 0
    removed: int = 0
    foreign: int = 0
    busy: int = 0
    is_done: bool = True


@dataclass(frozen=True)
class Archiver:
    """`kept_days` is for how many days a file is kept; 0 means that it is kept as long as its events. `note_run` is
    called with the time and "" when the archive is up to date, and with the reason when it cannot be written.
    """

    events: EventStore
    segments: SegmentStore
    dirty: DirtyHours
    notes: ArchiveNotes
    folder: ArchiveFolder
    kept_days: int = 0
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    note_run: Callable[[datetime, str], None] = lambda _, __: None

    def run(self, until: datetime | None = None) -> Archived:
        """Bring the archive up to date. `until` is when to stop, even if it is not done. Raises Unavailable."""
        try:
            done = self._run(until)
        except Unavailable as error:
            if error.store == "archive":
                self.note_run(self.now(), str(error))
            raise
        if done.is_done:
            self.note_run(self.now(), "")
        return done

    def _run(self, until: datetime | None) -> Archived:
        done = Archived()
        for site_id in self.segments.sites():
            with self.segments.lease(site_id, self.now) as is_ours:
                if not is_ours:
                    done.busy += 1
                    continue
                for which, version in self._changed(site_id):
                    self._archive(which, version, done)
                    if until and self.now() >= until:
                        done.is_done = False
                        return done
        return done

    def _changed(self, site_id: str) -> Iterator[tuple[ArchivedDay, str]]:
        """The site's days that may differ from their file, each with the version that it has now."""
        noted, dirty = self.notes.of_site(site_id), self._dirty_days(site_id)
        versions = self._versions(site_id)
        for day in sorted({*noted, *versions}):
            version = versions.get(day, _UNKNOWN)
            is_kept = self._is_kept(day)
            if is_kept and day not in dirty and (version == _UNKNOWN or noted.get(day) != version):
                yield ArchivedDay(site_id, day), version
            elif not is_kept and day in noted:
                yield ArchivedDay(site_id, day), _UNKNOWN

    def _archive(self, which: ArchivedDay, version: str, done: Archived) -> None:
        """Notes the day before it writes the file, so that the next run replaces the file of a run that was killed."""
        if which.day not in self.notes.of_site(which.site_id) and self.folder.holds(which):
            log.warning("archive_file_not_ours", site_id=which.site_id, day=which.day.isoformat())
            done.foreign += 1
            return
        self.notes.note(which.site_id, [which.day])
        start = datetime.combine(which.day, time(), UTC)
        events = self.events.find(which.site_id, start, start + timedelta(days=1))
        first = next(events, None) if self._is_kept(which.day) else None
        if first is not None:
            self.folder.write(which, parquet(chain([first], events)))
            done.written += 1
        elif self.folder.remove(which):
            done.removed += 1
        if version == _UNKNOWN and first is None:
            self.notes.forget(which.site_id, which.day)
        else:
            self.notes.note(which.site_id, [which.day], version)

    def _is_kept(self, day: date) -> bool:
        return not self.kept_days or day >= self.now().date() - timedelta(days=self.kept_days)

    def _dirty_days(self, site_id: str) -> set[date]:
        """Days with events that are in no segment yet. They are archived when they are."""
        return {as_datetime(hour.start).date() for hour in self.dirty.of_site(site_id)}

    def _versions(self, site_id: str) -> Mapping[date, str]:
        """The versions of the segments that hold each past day, as one text."""
        segments: defaultdict[date, list[str]] = defaultdict(list)
        for segment in self.segments.manifest(site_id).segments:
            for start in range(segment.first // DAY * DAY, segment.last + 1, DAY) if segment.rows else ():
                segments[as_datetime(start).date()].append(segment.version)
        today = self.now().date()
        return {day: digest_of(" ".join(sorted(some)))[:16] for day, some in segments.items() if day < today}
