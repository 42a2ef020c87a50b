"""Imports files of another system: rows become events, and events go through the journal like all others. Rows of
daily totals are stored beside the events.

An event's id is derived from its row, so a repeated row is a duplicate. An import that was interrupted continues at the
row that its record names, and sends at most the events of the last second again. The import waits while too many of the
site's events wait in the journal.

Callers must handle UnreadableFile, NobodyStores, ImportRemoved and Unavailable. After each of them, and after a
kill -9, the same import continues when it is run again.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import lru_cache, partial
from hashlib import sha256
from hmac import digest
from ipaddress import ip_address
from itertools import chain, islice
from typing import Any

from msgspec import Struct, structs

from analytics.aggregates.day_total import DayTotal
from analytics.aggregates.store import AggregateStore
from analytics.digest import digest_of
from analytics.enrichment.steps import Lookups, enrich
from analytics.events.account import IMPORTED, Account
from analytics.events.coercion import id_of
from analytics.events.drop import Drop
from analytics.events.event import Event
from analytics.events.event_size import fits, trimmed
from analytics.events.schema import InvalidEvent, dump_exported_event, load_event, load_exported_event
from analytics.imports.format import MISREAD, NOBODY, ImportFormat, SkippedRow, SourceEvent
from analytics.imports.source import SourceFile, UnreadableFile
from analytics.imports.store import ImportRecord, ImportStore
from analytics.journal.journal import Journal, Line
from analytics.sites.site import Site
from analytics.visitors.client import Client
from analytics.visitors.salts import Salts, visitor_id

_ROWS = 1000  # rows whose events are sent together, unless they are larger than _APPENDED
_APPENDED = 4_000_000  # bytes of one write to the journal, except for a single larger event
MOST_IMPORTED_WAITING = 20_000  # events of the site in the journal; above it the import waits
_MOST_WAITING_BYTES = 32_000_000
_PAUSE = 0.05  # seconds
_PATIENCE = 60.0  # seconds without progress of the journal
SAVED_EVERY = 1.0  # seconds
_AHEAD = timedelta(minutes=1)  # of our clock: clocks differ
_CLIENTS = 10_000  # whose seals are remembered
_DAYS = 100  # whose salts are remembered
_LONGEST_OWNER = 256  # characters; a longer one becomes its SHA-256
PREVIEWED = 10  # events
_FIRST_DAY = date(1970, 1, 1)  # of a daily total; MongoDB's driver cannot write the first days of the calendar


class NobodyStores(Exception):
    """The journal is full of the site's events, and no worker stores them."""


@dataclass(frozen=True)
class ImportPlan:
    """What to import, and into which site. `owner` is the site in the other system, if its files may have several;
    without it, the site of the first row counts.
    """

    site: Site
    format: ImportFormat
    files: Sequence[SourceFile]
    owner: str = ""

    @property
    def id(self) -> str:
        parts = [self.site.site_id, self.format.name, self.owner, *(file.fingerprint() for file in self.files)]
        return digest_of("\n".join(parts))[:12]

    @property
    def done(self) -> int:
        """How many bytes of the files were read."""
        return sum(file.done for file in self.files)

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


class Arriving(Struct, frozen=True, gc=False):
    """An event that is ready for the journal, and the client that a worker derives the rest from."""

    event: Event
    client: Client


@dataclass(slots=True)
class Preview:
    """What an import would do. `events` or `totals` has the first ones as they would be stored."""

    rows: int = 0
    stored: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    events: list[Event] = field(default_factory=list)
    totals: list[DayTotal] = field(default_factory=list)

    def examples(self) -> Iterator[dict[str, Any]]:
        """Yield the first events or totals as JSON, without the ids that they would get."""
        for total in self.totals:
            yield {"table": total.table, "day": f"{total.day}", **total.group, **total.counts}
        for event in self.events:
            yield {name: value for name, value in json.loads(dump_exported_event(event)).items() if name != "id"}


class Importer:
    """`secret` is mixed with the salt of each import. `wake` is called when events wait in the journal."""

    def __init__(
        self,
        journal: Journal,
        imports: ImportStore,
        aggregates: AggregateStore,
        salts: Salts,
        now: Callable[[], datetime],
        *,
        secret: bytes,
        most_waiting: int = MOST_IMPORTED_WAITING,
        patience: float = _PATIENCE,
    ) -> None:
        self._journal = journal
        self._imports = imports
        self._aggregates = aggregates
        self._salts = salts
        self._now = now
        self._secret = secret
        self._most_waiting = most_waiting
        self._patience = patience
        self._seals: dict[tuple[Client, date], str] = {}

    def run(
        self,
        plan: ImportPlan,
        wake: Callable[[], None],
        each: Callable[[ImportRecord], object] = lambda _: None,
        make_room: Callable[[], object] | None = None,
    ) -> ImportRecord:
        """Import, and return the record of the finished import. `each` is called after each group of rows, and
        `make_room` while the journal is full of the site's events. Without it, `wake` is called.
        """
        names = [file.path.name for file in plan.files]
        record = self._imports.begin(plan.id, plan.site.site_id, plan.format.name, names)
        damage: list[UnreadableFile] = []
        rows = _readable(islice(plan.format.read(plan.files), record.rows, None), damage)
        saved = time.monotonic()
        brought = self._brought(plan, record, rows, wake, make_room or wake)
        for record in brought:
            if time.monotonic() - saved > SAVED_EVERY:
                self._imports.save(record)
                saved = time.monotonic()
            each(record)
        if damage:
            self._imports.save(record)
            raise damage[0]
        return self._imports.save(replace(record, is_finished=True, salt=b""))

    def preview(self, plan: ImportPlan, lookups: Lookups, most_rows: int | None = None) -> Preview:
        """Read all rows, or the first ones, and return what would become of them. Nothing is stored."""
        seen = Preview()
        if plan.format.is_daily:
            return self._preview_totals(plan, seen, most_rows)
        translation = Translation(plan, plan.owner, salt=os.urandom(32))
        for row in islice(plan.format.read(plan.files), most_rows):
            seen.rows += 1
            for found in translation.events(row, self._now()):
                if isinstance(found, SkippedRow):
                    seen.skipped[found.reason] += 1
                elif isinstance(stored := enrich(found.event, found.client, plan.site, lookups), Drop):
                    seen.skipped[stored.reason] += 1
                else:
                    seen.stored += 1
                    seen.events += [stored] if len(seen.events) < PREVIEWED else []
        return seen

    def _preview_totals(self, plan: ImportPlan, seen: Preview, most_rows: int | None) -> Preview:
        taken = self._aggregates.days_of_others(plan.site.site_id, plan.id)
        for row in islice(plan.format.read(plan.files), most_rows):
            seen.rows += 1
            for found in _totals(plan, row, taken, self._now()):
                if isinstance(found, SkippedRow):
                    seen.skipped[found.reason] += 1
                else:
                    seen.stored += 1
                    seen.totals += [found] if len(seen.totals) < PREVIEWED else []
        return seen

    def _brought(
        self,
        plan: ImportPlan,
        record: ImportRecord,
        rows: Iterator[Any],
        wake: Callable[[], None],
        make_room: Callable[[], object],
    ) -> Iterator[ImportRecord]:
        """Store or send the rows in groups, and yield the record with the counts of each group."""
        if plan.format.is_daily:
            taken = self._aggregates.days_of_others(plan.site.site_id, record.id)
            while (more := self._store_totals(plan, taken, islice(rows, _ROWS), record)).rows > record.rows:
                record = more
                yield record
            return
        salt = digest(self._secret, record.salt, "sha256")
        translation = Translation(plan, plan.owner or record.owner, record.id, salt=salt)
        yield from self._send(self._groups(translation, rows, record), record, wake, make_room)

    def _store_totals(
        self, plan: ImportPlan, taken: Collection[tuple[str, date]], rows: Iterable[Any], record: ImportRecord
    ) -> ImportRecord:
        skipped, now = Counter(record.skipped), self._now()
        read, totals = record.rows, []
        for row in rows:
            read += 1
            for found in _totals(plan, row, taken, now):
                if isinstance(found, SkippedRow):
                    skipped[found.reason] += 1
                else:
                    totals.append(found)
        self._aggregates.add(record.id, record.site_id, plan.site.zone, totals)
        return replace(record, rows=read, events=record.events + len(totals), skipped=skipped)

    def _send(
        self,
        groups: Iterable[tuple["_Lines", ImportRecord]],
        record: ImportRecord,
        wake: Callable[[], None],
        make_room: Callable[[], object],
    ) -> Iterator[ImportRecord]:
        """Append each group to the journal, and yield its record. A thread appends a group while the next one is made:
        Redis and this process work at the same time.
        """
        with ThreadPoolExecutor(1) as thread:
            appended: Future[int] | None = None
            sent = record
            for group in chain(groups, [None]):
                if appended and appended.result() > 0:
                    wake()
                if sent.rows > record.rows:
                    record = sent
                    yield record
                if group is None:
                    return
                lines, sent = group
                if lines.events and self._is_full(record.site_id):
                    self._wait(record.site_id, make_room)
                    self._imports.save(record)  # raises ImportRemoved if the import was removed while it waited
                appended = thread.submit(self._append, lines)

    def _append(self, lines: "_Lines") -> int:
        """Return how many wake-ups are owed."""
        return self._journal.append(lines.with_counts()) if lines.events else 0

    def _groups(
        self, translation: "Translation", rows: Iterator[Any], record: ImportRecord
    ) -> Iterator[tuple["_Lines", ImportRecord]]:
        """Yield the lines of _ROWS rows, and the record once they are appended. Lines of more than _APPENDED bytes are
        yielded before, with the record as it was.
        """
        while True:
            now = self._now()
            skipped, lines = Counter(record.skipped), _Lines()
            read, sent, first, last = record.rows, record.events, record.first, record.last
            for row in islice(rows, _ROWS):
                read += 1
                for found in translation.events(row, now):
                    if isinstance(found, SkippedRow):
                        skipped[found.reason] += 1
                        continue
                    moment = found.event.occurred_at
                    first, last = min(first or moment, moment), max(last or moment, moment)
                    sent += 1
                    client = self._seal(found.client, now.date())
                    lines.add(Line.of(found.event, client=client, dump=self._journal.dump))
                    if lines.size >= _APPENDED:
                        yield lines, record
                        lines = _Lines()
            if read == record.rows:
                return
            counts = replace(record, rows=read, events=sent, skipped=skipped, first=first, last=last)
            record = replace(counts, owner=translation.owner)
            yield lines, record

    def _wait(self, site_id: str, make_room: Callable[[], object]) -> None:
        """Wait until the journal has room for the site's events. Raises NobodyStores."""
        oldest, changed = self._journal.oldest(), time.monotonic()
        while self._is_full(site_id):
            if (now := self._journal.oldest()) != oldest:
                oldest, changed = now, time.monotonic()
            elif time.monotonic() - changed > self._patience:
                raise NobodyStores
            make_room()
            time.sleep(_PAUSE)

    def _is_full(self, site_id: str) -> bool:
        held = self._journal.held_by(site_id)
        return held.events > self._most_waiting or held.bytes > _MOST_WAITING_BYTES

    def _seal(self, client: Client, day: date) -> str | None:
        if client == NOBODY:
            return None
        if (seal := self._seals.get((client, day))) is None:
            if len(self._seals) >= _CLIENTS:
                self._seals.clear()
            seal = self._seals[client, day] = self._salts.seal(client, day)
        return seal


def _salt_of(salt: bytes, day: date) -> bytes:
    return digest(salt, day.isoformat().encode(), "sha256")


def _totals(
    plan: ImportPlan, row: Any, taken: Collection[tuple[str, date]], now: datetime
) -> Iterator[DayTotal | SkippedRow]:
    """The totals of a row. `taken` are the tables and days that another import has. A day of a table belongs to the
    import that brought it first.
    """
    today = now.astimezone(plan.site.zone).date()
    for found in _translated(plan.format, row):
        if isinstance(found, DayTotal) and found.day < _FIRST_DAY:
            yield SkippedRow("not_readable")
        elif isinstance(found, DayTotal) and (found.table, found.day) in taken:
            yield SkippedRow("day_of_another_import")
        elif isinstance(found, DayTotal) and found.day > today:
            yield SkippedRow("in_the_future")
        elif not isinstance(found, SourceEvent):
            yield found


def _translated(form: ImportFormat, row: Any) -> Iterator[SourceEvent | DayTotal | SkippedRow]:
    """A row is hostile input: whatever is wrong with it, the other rows are imported."""
    try:
        yield from form.translate(row)
    except MISREAD:
        yield SkippedRow("not_readable")


def _readable(rows: Iterable[Any], damage: list[UnreadableFile]) -> Iterator[Any]:
    """Yield the rows before the place where a file is damaged, and then put the error into `damage`."""
    try:
        yield from rows
    except UnreadableFile as error:
        damage.append(error)


@dataclass(slots=True)
class _Lines:
    """Lines for the journal, and their bytes."""

    events: list[Line] = field(default_factory=list)
    size: int = 0

    def add(self, line: Line) -> None:
        self.events.append(line)
        self.size += len(line.event)

    def with_counts(self) -> list[Line]:
        """Return the lines, and those that count them as imported in the same step."""
        accounts: Counter[Account] = Counter(line.account for line in self.events)
        return [*self.events, *(Line(account, IMPORTED, count=n) for account, n in accounts.items())]


class Translation:
    """Turns the rows of an import into events. `owner` is the site in the other system, or "" until it is known.
    `salt` hides the visitors of rows with an address.
    """

    def __init__(self, plan: ImportPlan, owner: str, import_id: str = "", *, salt: bytes) -> None:
        self.owner = id_of(owner, _LONGEST_OWNER) or ""
        self._plan = plan
        self._import_id = import_id or None
        self._salt_of = lru_cache(_DAYS)(partial(_salt_of, salt))
        self._load = load_exported_event if plan.format.is_export else load_event

    def events(self, row: Any, now: datetime) -> Iterator[Arriving | SkippedRow]:
        for found in _translated(self._plan.format, row):
            if not isinstance(found, DayTotal):
                yield found if isinstance(found, SkippedRow) else self._arriving(found, now)

    def _arriving(self, found: SourceEvent, now: datetime) -> Arriving | SkippedRow:
        owner = id_of(found.owner, _LONGEST_OWNER) or ""
        self.owner = self.owner or owner
        if owner != self.owner:
            return SkippedRow("other_site")
        if self._is_excluded(found.client.address):
            return SkippedRow("excluded_address")
        try:
            event = self._load(found.body | {"site_id": self._plan.site.site_id}, now)
        except InvalidEvent as error:
            return SkippedRow(f"invalid_{next(iter(error.fields), 'event')}")
        if event.occurred_at > now + _AHEAD:
            return SkippedRow("in_the_future")
        most = self._plan.site.max_event_bytes
        small = event if event.exported_id or fits(event, most) else trimmed(event, most)
        if small is None:
            return SkippedRow("too_large")
        visitor = small.visitor_id or (None if small.user_id else self._visitor(found, event.occurred_at))
        return Arriving(structs.replace(small, visitor_id=visitor, import_id=self._import_id), found.client)

    def _visitor(self, found: SourceEvent, occurred_at: datetime) -> str | None:
        site = self._plan.site
        if found.visitor:
            name = f"{self._plan.format.name}\0{site.site_id}\0{found.visitor}"
            return sha256(name.encode(errors="surrogatepass")).hexdigest()[:16]
        if found.client.address:
            salt = self._salt_of(occurred_at.astimezone(site.zone).date())
            return visitor_id(salt, site.site_id, found.client)
        return None

    def _is_excluded(self, address: str) -> bool:
        networks = self._plan.site.excluded_ips
        return bool(address and networks) and any(ip_address(address) in network for network in networks)
