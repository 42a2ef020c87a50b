"""Builds everything that a process uses from the settings: the composition root.

Each process has one `Services`, which connects after the fork. It has one Redis client, one MongoDB client and one set
of segments, and all stores share them. Each further journal has a Redis client of its own. A part is built, and its
module is imported, when it is first used. So a process that reads no segment does not load DuckDB, and a process
without MongoDB opens no connection to it.
"""

from __future__ import annotations  # evaluated, they would import every store

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from pymongo.database import Database
from redis import Redis

from config.celery import EVENTS_QUEUE
from config.clients import make_database, make_redis
from config.settings import Settings

if TYPE_CHECKING:
    from limits.storage import RedisStorage

    from analytics.access.key_ring import KeyRing
    from analytics.access.store import ApiKeyStore
    from analytics.accounts.sessions import SessionStore
    from analytics.accounts.sharing import SharingStore
    from analytics.accounts.store import AccountStore
    from analytics.aggregates.store import AggregateStore
    from analytics.archive.archiver import Archiver
    from analytics.backup.backup import BackupStores
    from analytics.dashboards.annotations import AnnotationStore
    from analytics.dashboards.funnels import FunnelStore
    from analytics.enrichment.steps import Lookups
    from analytics.events.removal import Removals
    from analytics.events.sign_ins import SignIns
    from analytics.events.store import EventStore
    from analytics.imports.importer import Importer
    from analytics.imports.store import ImportStore
    from analytics.imports.upload_worker import UploadWorker
    from analytics.imports.uploads import UploadStore
    from analytics.journal.dead_letters import DeadLetterStore
    from analytics.journal.journal import Journal
    from analytics.journal.ledger import Ledger
    from analytics.journal.samples import Samples
    from analytics.notifications.checker import RuleChecker
    from analytics.notifications.delivery import Deliveries
    from analytics.notifications.message_writer import MessageWriter
    from analytics.notifications.store import NotificationStore
    from analytics.pipeline import Stores
    from analytics.privacy.eraser import Eraser
    from analytics.privacy.erasure_log import Erasures
    from analytics.privacy.local_copies import Forgetter
    from analytics.privacy.retention import Purger
    from analytics.reports.engine import Reports
    from analytics.reports.imports_reader import ImportsReader
    from analytics.reports.realtime import RealtimeReader
    from analytics.segments.due import DueBuilds
    from analytics.segments.engine import Segments
    from analytics.sites.registry import SiteRegistry
    from analytics.sites.store import SiteStore
    from analytics.store_notes import StoreNotes
    from analytics.visitors.anonymous_ids import Visitors
    from analytics.visitors.salts import SaltKeeper, Salts

# Seconds for Redis to answer the rate limits. The stores used later have time limits of their own, and the sum stays
# below 2 seconds.
_RATE_PATIENCE = 0.2


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Services:
    """`process`: the name of its connections in Redis's CLIENT LIST and MongoDB's `currentOp`.

    `now`: returns an aware UTC time. `patience`: seconds to wait for a MongoDB that does not answer.
    """

    def __init__(
        self,
        settings: Settings,
        process: str = "footfall",
        *,
        now: Callable[[], datetime] = _utc_now,
        patience: float = 10.0,
    ) -> None:
        self._settings = settings
        self._process = process
        self._patience = patience
        self.now = now

    def close(self) -> None:
        """Closes the clients that were used. The services cannot be used afterwards."""
        used = vars(self)
        if "reports" in used:
            self.reports.close()
        for name in ("redis", "_rate_redis"):
            if name in used:
                used[name].close()
        for redis in used.get("further_redis", {}).values():
            redis.close()
        if "database" in used:
            self.database.client.close()

    @cached_property
    def redis(self) -> Redis:
        return make_redis(self._settings, self._process)

    @cached_property
    def database(self) -> Database[dict[str, Any]]:
        return make_database(self._settings, self._process, self._patience)

    @cached_property
    def rate_storage(self) -> RedisStorage:
        """Where the rate limits count. It has its own connections, because they need a shorter time limit."""
        from limits.storage import RedisStorage

        pool = self._rate_redis.connection_pool
        return RedisStorage("redis://", pool, key_prefix="footfall:rate", wrap_exceptions=True)

    @cached_property
    def _rate_redis(self) -> Redis:
        return make_redis(self._settings, self._process, timeout=_RATE_PATIENCE)

    @cached_property
    def further_redis(self) -> dict[str, Redis]:
        """The Redis of each further journal, by its name."""
        return {each.name: make_redis(self._settings, self._process, url=each.url) for each in self._settings.journals}

    @cached_property
    def journal(self) -> Journal:
        parts = [self._journal_in(self.redis), *(self._journal_in(x, name) for name, x in self.further_redis.items())]
        if len(parts) == 1:
            return parts[0]
        from analytics.journal.journals import Journals

        return Journals(parts, [each.name for each in self._settings.journals if not each.takes_events])

    def _journal_in(self, redis: Redis, name: str = "") -> Journal:
        from analytics.journal.journal import Journal

        return Journal(
            redis,
            queue=EVENTS_QUEUE,
            batch=self._settings.store_batch,
            claim_idle=self._settings.claim_idle,
            most_waiting=self._settings.most_waiting,
            replicas=self._settings.replicas,
            name=name,
        )

    @cached_property
    def ledger(self) -> Ledger:
        from analytics.journal.ledger import Ledger

        return Ledger(self.redis, self.database, self._settings.replicas, [*self.further_redis.values()])

    @cached_property
    def samples(self) -> Samples:
        from analytics.journal.samples import Samples

        return Samples(self.redis, self.journal, self.ledger, self.now)

    @cached_property
    def dead_letters(self) -> DeadLetterStore:
        from analytics.journal.dead_letters import DeadLetterStore

        return DeadLetterStore(self.database)

    @cached_property
    def events(self) -> EventStore:
        from analytics.events.store import EventStore

        return EventStore(self.database)

    @cached_property
    def removals(self) -> Removals:
        from analytics.events.removal import Removals

        return Removals(self.database)

    @cached_property
    def registry(self) -> SiteRegistry:
        """The sites in Redis. In production, unknown sites are refused, so it is an error if no sites are published."""
        from analytics.sites.registry import SiteRegistry

        return SiteRegistry(self.redis, required=self._settings.is_production)

    @cached_property
    def sites(self) -> SiteStore:
        """The sites in MongoDB. In development, events create a site, so that no other site may take its name."""
        from analytics.sites.store import SiteStore

        changed = self.registry.publish_change
        if self._settings.is_production:
            return SiteStore(self.database, changed=changed)
        return SiteStore(self.database, changed=changed, with_events=self.events.with_events)

    @cached_property
    def key_ring(self) -> KeyRing:
        """The API keys in Redis."""
        from analytics.access.key_ring import KeyRing

        return KeyRing(self.redis, self.now, required=self._settings.is_production)

    @cached_property
    def api_keys(self) -> ApiKeyStore:
        """The API keys in MongoDB."""
        from analytics.access.store import ApiKeyStore

        return ApiKeyStore(self.database, self.now, changed=self.key_ring.publish_change, ids_of=self.sites.ids_of)

    @cached_property
    def accounts(self) -> AccountStore:
        from analytics.accounts.store import AccountStore

        return AccountStore(self.database, self.now)

    @cached_property
    def sessions(self) -> SessionStore:
        from analytics.accounts.sessions import SessionStore

        return SessionStore(self.redis, self.now)

    @cached_property
    def sharing(self) -> SharingStore:
        from analytics.accounts.sharing import SharingStore

        return SharingStore(self.database, self.now)

    @cached_property
    def annotations(self) -> AnnotationStore:
        from analytics.dashboards.annotations import AnnotationStore

        return AnnotationStore(self.database)

    @cached_property
    def funnels(self) -> FunnelStore:
        from analytics.dashboards.funnels import FunnelStore

        return FunnelStore(self.database)

    @cached_property
    def salts(self) -> Salts:
        from analytics.visitors.salts import Salts

        keys = (self._settings.secret_key, self._settings.secret_key_old)
        return Salts(self.redis, self.now, keys=[key.encode() for key in keys if key])

    @cached_property
    def salt_keeper(self) -> SaltKeeper:
        from analytics.visitors.salts import SaltKeeper

        return SaltKeeper(self.redis, self.now)

    @cached_property
    def visitors(self) -> Visitors:
        from analytics.visitors.anonymous_ids import Visitors

        return Visitors(self.redis, self.salts)

    @cached_property
    def lookups(self) -> Lookups:
        from analytics.enrichment.geolocation import Places
        from analytics.enrichment.spam_referrers import SpamReferrers
        from analytics.enrichment.steps import Lookups
        from config.metrics import ENRICHMENT_FAILURES

        return Lookups(
            Places(self._settings.geoip_db) if self._settings.geoip_db else None,
            SpamReferrers(self._settings.spam_referrers),
            count_failure=lambda step: ENRICHMENT_FAILURES.labels(step).inc(),
        )

    @cached_property
    def stores(self) -> Stores:
        """What the pipeline uses."""
        from analytics.enrichment.steps import Enrichment
        from analytics.pipeline import Stores
        from analytics.privacy.late_arrivals import LateArrivals
        from analytics.visitors.sender_addresses import SenderAddresses
        from config.metrics import STORE_LAG

        senders = SenderAddresses(self.redis)

        return Stores(
            self.journal,
            self.events,
            self.dead_letters,
            self.now,
            LateArrivals(self.erasures, self.removals, self.dead_letters),
            Enrichment(self.sites, self.salts.unseal, self.lookups, lambda clients: senders.count(clients, self.now())),
            observe_lag=STORE_LAG.observe,
            sign_ins=self.sign_ins,
        )

    @cached_property
    def aggregates(self) -> AggregateStore:
        """Imported daily totals."""
        from analytics.aggregates.store import AggregateStore

        return AggregateStore(self.database)

    @cached_property
    def sign_ins(self) -> SignIns:
        from analytics.events.sign_ins import SignIns

        return SignIns(self.database, lambda site_id: self.sites.get(site_id).assigns_visits)

    @cached_property
    def imports(self) -> ImportStore:
        from analytics.imports.store import ImportStore

        return ImportStore(self.database, self.removals, self.aggregates, self.now)

    @cached_property
    def importer(self) -> Importer:
        from analytics.imports.importer import Importer

        secret = self._settings.secret_key.encode()
        return Importer(self.journal, self.imports, self.aggregates, self.salts, self.now, secret=secret)

    @cached_property
    def uploads(self) -> UploadStore:
        from analytics.imports.uploads import UploadStore

        return UploadStore(self.database, self.now)

    @cached_property
    def upload_worker(self) -> UploadWorker:
        from analytics.imports.upload_worker import UploadWorker

        stores = self.uploads, self.imports, self.importer, self.sites
        return UploadWorker(*stores, lambda: self.lookups, self.journal, self.now)

    @cached_property
    def due_builds(self) -> DueBuilds:
        from analytics.events.backfill import Backfill
        from analytics.events.dirty_hours import DirtyHours
        from analytics.segments.due import DueBuilds

        return DueBuilds(DirtyHours(self.database), Backfill(self.database))

    @cached_property
    def segments(self) -> Segments:
        from analytics.segments.engine import make_segments
        from analytics.segments.storage import SegmentStorage
        from config.metrics import SEGMENTS

        return make_segments(
            self.database,
            self._settings.segment_folder,
            most_bytes=self._settings.segment_disk,
            storage=SegmentStorage(url) if (url := self._settings.segment_storage) else None,
            memory=self._settings.duckdb_memory,
            threads=self._settings.duckdb_threads,
            count_built=lambda grain: SEGMENTS.labels(grain).inc(),
        )

    @cached_property
    def _imports_reader(self) -> ImportsReader:
        from analytics.reports.imports_reader import ImportsReader

        return ImportsReader(self.aggregates)

    @cached_property
    def reports(self) -> Reports:
        from analytics.reports.engine import Reports

        return Reports(
            self.segments.reader,
            self._imports_reader,
            self.segments.connect,
            self._settings.stats_time_limit,
            self._settings.most_fresh,
        )

    @contextmanager
    def brief_reports(self) -> Iterator[Reports]:
        """Reports for a worker, which asks few questions: DuckDB's memory is freed at the end of the block."""
        from analytics.reports.engine import Reports

        connect = partial(self.segments.connect, self._settings.report_memory)
        limits = self._settings.stats_time_limit, self._settings.most_fresh
        with closing(Reports(self.segments.reader, self._imports_reader, connect, *limits)) as reports:
            yield reports

    @cached_property
    def realtime(self) -> RealtimeReader:
        from analytics.reports.realtime import RealtimeReader

        return RealtimeReader(self.database, self._settings.stats_time_limit, self.now)

    @cached_property
    def notifications(self) -> NotificationStore:
        """Rules, and the log of notifications."""
        from analytics.notifications.store import NotificationStore

        return NotificationStore(self.database, self.sites, can_mail=bool(self._settings.smtp_url))

    @cached_property
    def rule_checker(self) -> RuleChecker:
        from analytics.notifications.checker import RuleChecker
        from analytics.notifications.measurements import Measurements

        measurements = Measurements(self.events, self.ledger, self.journal, self.brief_reports, self.now)
        return RuleChecker(self.notifications, self.sites, measurements, self.message_writer, self.now)

    @cached_property
    def message_writer(self) -> MessageWriter:
        """Writes notifications."""
        from analytics.notifications.message_writer import MessageWriter

        return MessageWriter(self.accounts, self._settings.public_url, self._settings.default_language)

    @cached_property
    def deliveries(self) -> Deliveries:
        from analytics.notifications.delivery import Deliveries, channels

        mail = (self._settings.smtp_url, self._settings.mail_from) if self._settings.smtp_url else None
        return Deliveries(self.notifications, channels(mail, self.now), self.now)

    @cached_property
    def erasures(self) -> Erasures:
        from analytics.privacy.erasure_log import Erasures

        return Erasures(self.redis, self.database, self._settings.replicas)

    @cached_property
    def eraser(self) -> Eraser:
        from analytics.events.rewrite_notes import RewriteNotes
        from analytics.events.search import EventSearch
        from analytics.privacy.eraser import Eraser
        from analytics.privacy.segment_rewrites import MARGIN, Rewriter
        from analytics.privacy.visitor_data import VisitorData

        kept_for = timedelta(seconds=self._settings.stats_time_limit + MARGIN)
        return Eraser(
            VisitorData(EventSearch(self.database), self.journal, self.dead_letters, self.segments),
            self.erasures,
            self.removals,
            Rewriter(RewriteNotes(self.database), self.segments, kept_for),
            self.sign_ins,
        )

    @cached_property
    def purger(self) -> Purger:
        from analytics.privacy.retention import Purger

        return Purger(self.removals, self.journal, self.dead_letters, self.aggregates)

    @cached_property
    def archiver(self) -> Archiver:
        """If ARCHIVE is set."""
        from analytics.archive.archiver import ArchiveNotes, Archiver
        from analytics.archive.folder import ArchiveFolder

        segments, folder = self.segments, ArchiveFolder(self._settings.archive)
        return Archiver(
            self.events,
            segments.store,
            segments.dirty,
            ArchiveNotes(self.database),
            folder,
            self._settings.archive_days,
            self.now,
            self.store_notes.note_archive,
        )

    @cached_property
    def forgetter(self) -> Forgetter:
        from analytics.privacy.local_copies import Forgetter

        return Forgetter(self.segments.store, self.erasures, self.segments.reader)

    @cached_property
    def store_notes(self) -> StoreNotes:
        from analytics.store_notes import StoreNotes

        return StoreNotes(self.redis, self.database, self.further_redis)

    @cached_property
    def backup_stores(self) -> BackupStores:
        """The stores that a backup copies, or that a restore writes."""
        from analytics.backup.backup import BackupStores
        from analytics.journal.checkpoint import Checkpoints, JointCheckpoints

        several = self.further_redis
        checkpoints = JointCheckpoints(self.redis, several) if several else Checkpoints(self.redis)
        return BackupStores(self.database, checkpoints, self.erasures, self.store_notes)
