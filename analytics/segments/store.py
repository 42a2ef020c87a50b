"""Stores segments: the list of a site's segments (its manifest), their Parquet files (files.py), and a size-limited
copy of the files on this disk.

A segment never changes: a new segment has a new version. The manifest is one document. One write replaces the old list
by the new list, and fails if another process was faster, so a manifest is always consistent. The files of segments that
left the manifest stay for a while for queries that still read them. The manifest records since when.

Callers must handle Unavailable, raised if MongoDB or the storage of the files is not reachable, or if a segment has the
format of a later version.
They must also handle SegmentLost, raised if a file is missing or damaged; a rebuild repairs it.
"""

import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, cast

import structlog
from bson import ObjectId
from cachetools import TTLCache
from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError

from analytics.events.columns import AS_STORED
from analytics.events.event import new_id
from analytics.events.page_patterns import PathRules
from analytics.interval import Interval, SegmentGrain
from analytics.mongodb import UNREPLICATED, reading, writing
from analytics.segments.files import SegmentFiles, StoredFile, made_at
from analytics.segments.scratch import Workplace, sweep
from analytics.segments.storage import SegmentStorage
from analytics.segments.visit_sql import FORMAT, WIDE_FORMAT
from analytics.sites.site import Site
from analytics.unavailable import SEGMENTS_STORE, Unavailable, raising_unavailable

log = structlog.get_logger()

_DUPLICATE = 11000  # MongoDB's code of a duplicate key
_AT_ONCE = 4  # files that a process fetches at the same time, each with a chunk or two in memory
KEPT_AFTER = timedelta(minutes=10)  # for files of replaced segments; longer than any query may take
# for a file that no manifest ever named: its builder has died by now, or will never name it
FORSAKEN = timedelta(days=1)
# seconds; a process may open a copy this long after it asked for it, which is longer than any query takes
IN_USE = 120.0
LEASE = timedelta(seconds=60)  # how long a killed builder blocks its site
RENEWED = 20.0  # seconds
# A copy's digest is compared when a process first reads the copy, after the copy changed, and every hour. Most flipped
# bytes cause wrong numbers instead of an error (400 of 600, tried). SHA-256 reads about 500 MB a second.
VERIFIED_FOR = 3600.0  # seconds
MOST_VERIFIED = 100_000  # copies that are remembered


class SegmentLost(Exception):
    """The file of a segment in the manifest is missing, or differs from what was written."""

    def __init__(self, version: str) -> None:
        super().__init__(f"segment {version} is lost or damaged; `python -m footfall segments rebuild` makes it again")


class LaterFormat(Exception):
    """A later version of Footfall built the segment."""

    def __init__(self, found: int) -> None:
        super().__init__(
            f"A segment has format {found}, and this version reads format {WIDE_FORMAT} at most. Start the later"
            " version of Footfall."
        )


@dataclass(frozen=True, slots=True)
class Content:
    """The number of rows in a file, and the times of its first and last event, in ms."""

    rows: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment. `digest` is the SHA-256 of its file, and `size` the file's bytes. `rows`, `first` and `last` are as in
    `Content`. `format`: see analytics/segments/visit_sql.py.
    """

    grain: SegmentGrain
    start: int
    end: int
    version: str
    size: int
    digest: str
    rows: int
    first: int
    last: int
    format: int = 1

    @property
    def interval(self) -> Interval:
        return Interval(self.start, self.end)

    @property
    def is_wide(self) -> bool:
        return self.format == WIDE_FORMAT

    @property
    def built_at(self) -> datetime:
        return made_at(self.version)


def in_order(segments: Iterable[Segment]) -> list[Segment]:
    return sorted(segments, key=lambda segment: (segment.start, segment.end))


@dataclass(frozen=True, slots=True)
class Manifest:
    """A site's segments. `paths`: the rules by which pages of stored events are read."""

    site_id: str
    generation: int = 0
    segments: tuple[Segment, ...] = ()
    paths: PathRules = AS_STORED


@dataclass(frozen=True, slots=True)
class SegmentSizes:
    """What the segments of a site take. `size`: bytes. `last_built`: when the newest was built, None if there is
    none.
    """

    site_id: str
    count: int
    rows: int
    size: int
    last_built: datetime | None


class SegmentStore:
    def __init__(
        self,
        database: Database[dict[str, Any]],
        folder: Path,
        most_bytes: int,
        storage: SegmentStorage | None = None,
    ) -> None:
        """`folder` holds this node's copies, up to `most_bytes` together and 1 % more for each process. Any number of
        processes may share it. `storage` holds the files; if it is None, MongoDB does.
        """
        self._database = database
        self._manifests = database["segment_manifests"]
        self._leases = self._manifests.with_options(write_concern=UNREPLICATED)
        self.files = SegmentFiles(database, storage)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self._most_bytes = most_bytes
        self._room = 0  # bytes that this process may add before it counts the copies again
        self._verified: TTLCache[str, tuple[int, int, int]] = TTLCache(MOST_VERIFIED, VERIFIED_FOR)
        self._lock = threading.Lock()  # guards `_verified`

    def manifest(self, site_id: str) -> Manifest:
        with raising_unavailable("mongodb", PyMongoError):
            found = self._manifests.find_one({"_id": site_id})
        return _read(site_id, found)

    def manifests(self, site_ids: Sequence[str]) -> list[Manifest]:
        """Return the manifests of those sites that have one. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            return [_read(found["_id"], found) for found in self._manifests.find({"_id": {"$in": [*site_ids]}})]

    def sites(self) -> Iterator[str]:
        with raising_unavailable("mongodb", PyMongoError):
            yield from (document["_id"] for document in self._manifests.find({}, {"_id": 1}).sort("_id", 1))

    def sizes(self) -> list["SegmentSizes"]:
        """Return what each site's segments take, by site_id. Raises Unavailable."""
        names = {"size": {"$sum": "$segments.size"}, "rows": {"$sum": "$segments.rows"}}
        count = {"count": {"$size": {"$ifNull": ["$segments", []]}}, "last": {"$max": "$segments.version"}}
        with reading(self._database):
            found = self._manifests.aggregate([{"$project": names | count}, {"$sort": {"_id": 1}}])
            return [
                SegmentSizes(x["_id"], x["count"], x["rows"], x["size"], made_at(x["last"]) if x.get("last") else None)
                for x in found
            ]

    def count_by_format(self) -> Counter[int]:
        """Count the segments of all sites by format. Raises Unavailable."""
        each = {"_id": {"$ifNull": ["$segments.format", 1]}, "n": {"$sum": 1}}
        with raising_unavailable("mongodb", PyMongoError):
            rows = self._manifests.aggregate([{"$unwind": "$segments"}, {"$group": each}])
            return Counter({row["_id"]: row["n"] for row in rows})

    def sites_to_merge(self, before: int) -> list[str]:
        """Return the sites that have days or hours in months that were over at `before` (ms). Raises Unavailable."""
        finer = {"$elemMatch": {"grain": {"$in": ["hour", "day"]}, "end": {"$lte": before}}}
        with raising_unavailable("mongodb", PyMongoError):
            return [
                document["_id"] for document in self._manifests.find({"segments": finer}, {"_id": 1}).sort("_id", 1)
            ]

    def replace(self, before: Manifest, segments: Sequence[Segment], now: datetime) -> bool:
        """Set the site's segments. `now` is noted as the time at which segments left the manifest. Returns False if
        another process changed the manifest after `before` was read. Raises Unavailable.
        """
        which, change = _replacement(before, segments, now)
        with raising_unavailable("mongodb", PyMongoError):
            try:
                done = self._manifests.update_one(which, change, upsert=before.generation == 0)
            except DuplicateKeyError:
                return False
        return bool(done.matched_count or done.upserted_id)

    def reads_other_paths(self, site: Site) -> bool:
        """Whether rules for paths were applied to the site's stored events, and the site has other rules now. Raises
        Unavailable.
        """
        return self.manifest(site.site_id).paths not in (AS_STORED, site.rules_for_paths())

    def replace_all(self, changes: Sequence[tuple[Manifest, Sequence[Segment]]], now: datetime) -> set[str]:
        """Set the segments of several sites, as `replace` does, and return the sites that have them. Each site must get
        a new segment. Raises Unavailable.
        """
        writes = [UpdateOne(*_replacement(*change, now), upsert=change[0].generation == 0) for change in changes]
        with raising_unavailable("mongodb", PyMongoError):
            done = _written(self._manifests, writes)
        if done["nMatched"] + done["nUpserted"] == len(writes):
            return {before.site_id for before, _ in changes}
        now_there = {each.site_id: {*each.segments} for each in self.manifests([x.site_id for x, _ in changes])}
        return {x.site_id for x, segments in changes if now_there.get(x.site_id, set()).issuperset(segments)}

    def set_paths(
        self, site_id: str, paths: PathRules, note: Callable[[ClientSession, Sequence[Segment]], None]
    ) -> None:
        """Set the rules by which pages are read, and pass the segments that follow the rules of before to `note`. Both
        are one transaction, which may run again. Builders that read the manifest before cannot replace it. Raises
        Unavailable.
        """
        change = {"$set": {"paths": asdict(paths)}, "$inc": {"generation": 1}}

        def set_within(session: ClientSession) -> None:
            before = self._manifests.find_one_and_update({"_id": site_id}, change, upsert=True, session=session)
            note(session, _read(site_id, before).segments)

        with writing(self._database), self._database.client.start_session() as session:
            session.with_transaction(set_within)

    @contextmanager
    def lease(self, site_id: str, now: Callable[[], datetime]) -> Iterator[bool]:
        """Yield whether this process may build the site's segments while the block runs. The lease avoids duplicate
        work; `replace` makes two builders safe. The lease is renewed while the block runs, so a builder that dies
        blocks its site for a minute. So does a builder that fails, because it may fail again. Raises Unavailable.
        """
        with self.leases([site_id], now) as ours:
            yield bool(ours)

    @contextmanager
    def leases(self, site_ids: Sequence[str], now: Callable[[], datetime]) -> Iterator[list[str]]:
        """Yield the sites whose segments this process may build while the block runs. See `lease`."""
        token, done = ObjectId(), threading.Event()
        change = {"$set": {"leased_until": now() + LEASE, "lease": token}, "$setOnInsert": {"generation": 0}}
        free = {"leased_until": {"$not": {"$gt": now()}}}
        with raising_unavailable("mongodb", PyMongoError):
            writes = [UpdateOne({"_id": site_id} | free, change, upsert=True) for site_id in site_ids]
            leased = {error["index"] for error in _written(self._leases, writes)["writeErrors"]}
        sites = [site_id for number, site_id in enumerate(site_ids) if number not in leased]
        if not sites:
            yield []
            return
        ours = {"_id": {"$in": sites}, "lease": token}

        def renew() -> None:
            while not done.wait(RENEWED):
                with suppress(Unavailable), raising_unavailable("mongodb", PyMongoError):
                    self._leases.update_many(ours, {"$set": {"leased_until": now() + LEASE}})

        thread = threading.Thread(target=renew, name="lease", daemon=True)
        thread.start()
        try:
            yield sites
        finally:
            done.set()
            thread.join()
        with raising_unavailable("mongodb", PyMongoError):
            self._leases.update_many(ours, {"$unset": {"lease": "", "leased_until": ""}})

    @cached_property
    def workplace(self) -> Workplace:
        """A folder for incomplete files, on the same disk."""
        return Workplace(self.folder)

    def keep(
        self,
        file: Path,
        manifest: Manifest,
        grain: SegmentGrain,
        interval: Interval,
        content: Content,
        *,
        form: int = FORMAT,
    ) -> Segment:
        """Store a Parquet file from `workplace`, and put it into this node's copies. `manifest` is the manifest from
        which the segment was built and which the segment may join. Raises Unavailable.
        """
        version, digest, size = new_id().hex, _digest(file), file.stat().st_size
        self.files.add(StoredFile(version, manifest.site_id, manifest.generation), file)
        self._put(file, version)
        return _segment(grain, interval, content, version=version, size=size, digest=digest, form=form)

    def keep_all(
        self, files: Sequence[tuple[Manifest, bytes, Content]], grain: SegmentGrain, interval: Interval
    ) -> list[Segment]:
        """Store the small Parquet files of several sites, and put them into this node's copies, as `keep` does. Each
        holds the same interval. Raises Unavailable.
        """
        segments, stored = [], []
        for manifest, file, content in files:
            version, digest = new_id().hex, sha256(file).hexdigest()
            segments.append(
                _segment(grain, interval, content, version=version, size=len(file), digest=digest, form=FORMAT)
            )
            stored.append((StoredFile(version, manifest.site_id, manifest.generation), file))
        self.files.add_all(stored)
        for segment, (_, file, _) in zip(segments, files, strict=True):
            self._path(segment.version).write_bytes(file)
        self._take_room(sum(segment.size for segment in segments))
        return segments

    def fetch(self, segment: Segment) -> Path:
        """Return the path of the segment's file on this disk. The file is fetched if it is missing or differs from what
        was written. Raises SegmentLost and Unavailable.
        """
        return self.fetch_all([segment])[0]

    def fetch_all(self, segments: Sequence[Segment]) -> list[Path]:
        """Return the paths of the segments' files, as `fetch` does. Missing files are fetched at the same time."""
        with raising_unavailable("disk", OSError):
            missing = [segment for segment in segments if not self._has_copy(segment)]
            if missing:
                with ThreadPoolExecutor(min(_AT_ONCE, len(missing))) as pool:
                    for fetched in [pool.submit(copy_context().run, self._fetch, segment) for segment in missing]:
                        fetched.result()
                self.make_room()
        return [self._path(segment.version) for segment in segments]

    def _has_copy(self, segment: Segment) -> bool:
        path = self._path(segment.version)
        with suppress(FileNotFoundError):
            found = path.stat()
            # Update the access time, because the copies used longest ago are removed first. Keep the modification time,
            # because DuckDB would otherwise read the footer again.
            os.utime(path, ns=(time.time_ns(), found.st_mtime_ns))
            if self._is_whole(segment, path):
                return True
            log.warning("segment_copy_damaged", version=segment.version)
        return False

    def _fetch(self, segment: Segment) -> None:
        """Fetch a copy. Copies are not synced: after a power failure, a process compares their digest before they are
        read.
        """
        part, path = self.workplace.unused(".part"), self._path(segment.version)
        try:
            if self._download(segment.version, part) != segment.digest:
                raise SegmentLost(segment.version)
            self._remember(segment.version, part.stat())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def discard_damaged(self, segments: Iterable[Segment]) -> bool:
        """Remove the copies of these segments that differ from what was written. Returns whether any copy was damaged
        or missing. Raises Unavailable.
        """
        damaged = False
        with raising_unavailable("disk", OSError):
            for segment in segments:
                with suppress(FileNotFoundError):
                    if self._is_whole(segment, self._path(segment.version), is_recheck=True):
                        continue
                    log.warning("segment_copy_damaged", version=segment.version)
                self.forget(segment.version)
                damaged = True
        return damaged

    def _is_whole(self, segment: Segment, copy: Path, *, is_recheck: bool = False) -> bool:
        """Whether the copy is what was written. `is_recheck`: compare it even if it was compared before."""
        found = copy.stat()
        state = found.st_ino, found.st_size, found.st_mtime_ns
        with self._lock:
            if not is_recheck and self._verified.get(segment.version) == state:
                return True
        if found.st_size != segment.size or _digest(copy) != segment.digest:
            return False
        self._remember(segment.version, found)
        return True

    def _remember(self, version: str, found: os.stat_result) -> None:
        """Note that the copy is what was written."""
        with self._lock:
            self._verified[version] = found.st_ino, found.st_size, found.st_mtime_ns

    def _download(self, version: str, part: Path) -> str:
        """Download the file, and return its digest."""
        with part.open("wb") as file, ThreadPoolExecutor(1) as beside:
            target = _Digesting(file, beside)
            if not self.files.read(version, cast(BinaryIO, target)):
                raise SegmentLost(version)
            return target.digest()

    def _put(self, file: Path, version: str) -> None:
        os.utime(file)
        self._take_room(file.stat().st_size)
        file.replace(self._path(version))

    def _take_room(self, size: int) -> None:
        self._room -= size
        if self._room <= 0:
            self.make_room()
            self._room = self._most_bytes // 100

    def make_room(self) -> None:
        """Remove the copies that were used longest ago, down to the limit. Copies in use stay, even above the limit. An
        open file stays readable after its removal.
        """
        found = []
        for path in self.folder.glob("*.parquet"):
            with suppress(FileNotFoundError):
                found.append((path.stat().st_atime, path.stat().st_size, path))
        total = sum(size for _, size, _ in found)
        for used, size, path in sorted(found):
            if total <= self._most_bytes or used > time.time() - IN_USE:
                return
            path.unlink(missing_ok=True)
            total -= size

    def forget(self, version: str) -> None:
        """Remove this node's copy."""
        self._path(version).unlink(missing_ok=True)

    def collect(
        self,
        now: datetime,
        patience: Callable[[], bool] = lambda: True,
        *,
        site_id: str | None = None,
        kept_after: timedelta = KEPT_AFTER,
    ) -> int:
        """Remove the files that no manifest names or can name later, and return their number. A builder that read a
        manifest of an earlier generation cannot replace it. `site_id` restricts it to one site. Raises Unavailable.
        """
        removed = 0
        sweep(self.folder)
        found: defaultdict[str, list[StoredFile]] = defaultdict(list)
        for file in self.files.written_before(now - kept_after, site_id):
            found[file.site_id].append(file)
        for site, files in found.items():  # the files existed before their manifest is read
            with raising_unavailable("mongodb", PyMongoError):
                document = self._manifests.find_one({"_id": site}) or {}
            used = {segment["version"] for segment in document.get("segments", ())}
            used |= {left["version"] for left in document.get("left", ()) if left["at"] > now - kept_after}
            for file in files:
                is_past = file.generation < document.get("generation", 0) or made_at(file.version) < now - FORSAKEN
                if file.version not in used and is_past and patience():
                    self.files.remove(file.version)
                    self.forget(file.version)
                    removed += 1
            with raising_unavailable("mongodb", PyMongoError):
                self._manifests.update_one({"_id": site}, {"$pull": {"left": {"at": {"$lte": now - kept_after}}}})
        self.files.remove_unfinished(now - FORSAKEN)
        self.remove_orphans()
        return removed

    def remove_orphans(self) -> int:
        """Remove this node's copies of files that were removed, and return their number. Raises Unavailable."""
        copies = {path.stem for path in self.folder.glob("*.parquet")}
        removed = copies - self.files.existing(copies)
        for version in removed:
            self.forget(version)
        return len(removed)

    def versions(self, site_id: str) -> list[str]:
        """Return the versions of all the site's files, including files that no manifest names. Raises Unavailable."""
        return self.files.of_site(site_id)

    def download(self, version: str, path: Path) -> None:
        """Download a file, no matter what it holds, to inspect it. Raises SegmentLost and Unavailable."""
        with raising_unavailable("disk", OSError):
            self._download(version, path)

    def _path(self, version: str) -> Path:
        return self.folder / f"{version}.parquet"


class _Digesting:
    """A file to write to, and the digest of what was written. A thread of `beside` digests a block while the next one
    arrives: a month of ten million events then takes two thirds of the time.
    """

    def __init__(self, file: BinaryIO, beside: ThreadPoolExecutor) -> None:
        self._file, self._beside = file, beside
        self._digest = sha256()
        self._last: Future[None] | None = None

    def write(self, block: bytes) -> int:
        self._wait()
        self._last = self._beside.submit(self._digest.update, block)
        return self._file.write(block)

    def digest(self) -> str:
        self._wait()
        return self._digest.hexdigest()

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()


def _digest(file: Path) -> str:
    digest = sha256()
    with file.open("rb") as source:
        while block := source.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _segment(
    grain: SegmentGrain, interval: Interval, content: Content, *, version: str, size: int, digest: str, form: int
) -> Segment:
    return Segment(
        grain, interval.start, interval.end, version, size, digest, content.rows, content.first, content.last, form
    )


def _replacement(before: Manifest, segments: Sequence[Segment], now: datetime) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return which manifest is replaced, and the change."""
    versions = {segment.version for segment in segments}
    left = [{"version": s.version, "at": now} for s in before.segments if s.version not in versions]
    fields = {"segments": [asdict(s) for s in segments], "generation": before.generation + 1}
    which = {"_id": before.site_id, "generation": before.generation}
    return which, {"$set": fields, "$push": {"left": {"$each": left}}}


def _written(collection: Collection[dict[str, Any]], writes: Sequence[UpdateOne]) -> dict[str, Any]:
    """Write, and return MongoDB's result. `writeErrors` are upserts of documents that exist and do not match."""
    try:
        return collection.bulk_write(writes, ordered=False).bulk_api_result
    except BulkWriteError as error:
        result = cast(dict[str, Any], error.details)
        if result["writeConcernErrors"] or any(each["code"] != _DUPLICATE for each in result["writeErrors"]):
            raise
        return result


def _read(site_id: str, document: dict[str, Any] | None) -> Manifest:
    if document is None:
        return Manifest(site_id)
    segments = document.get("segments", ())
    latest = max((fields.get("format", 1) for fields in segments), default=1)
    if latest > WIDE_FORMAT:
        raise Unavailable(SEGMENTS_STORE, LaterFormat(latest))
    paths = document.get("paths", {})
    rules = PathRules(**paths | {"merged": tuple(paths.get("merged", ()))})
    return Manifest(site_id, document["generation"], tuple(Segment(**fields) for fields in segments), rules)
