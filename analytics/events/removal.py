"""Removes events from MongoDB: erased with their visitor, or purged because of their age. No other code removes an
event.

Events are removed in small groups. One transaction removes a group and writes three notes: how many events of each
account were removed, so that the ledger still adds up (analytics/journal/audit.py); the hours to rebuild, so that
segments follow; and the journal entries that may still wait. Such an entry is delivered again if a worker died between
storing and settling it, and must not bring its event back.

Callers must handle Unavailable, raised if MongoDB is unreachable. Events removed before the error stay removed.
Repeating the call is harmless.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pymongo
from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.batched import batched
from analytics.events.dirty_hours import DirtyHours
from analytics.events.event import Event
from analytics.events.event_index import BY_TIME
from analytics.events.rewrite_notes import RewriteNotes
from analytics.events.selection import Selection
from analytics.interval import HOUR, as_ms
from analytics.mongodb import WRITE_LIMIT, reading
from analytics.unavailable import raising_unavailable

ERASED, PURGED = "erased", "purged"
REMOVED_AT_ONCE = 500  # events removed in one transaction
GONE_FOR = 30 * 86_400  # seconds for which removed journal entries are known; longer than any outage
_CLOCKS_APART = timedelta(hours=1)  # at most, between Redis's clock and ours

_FOUND = {"site_id": 1, "received_at": 1, "timestamp": 1, "entry_id": 1}


@dataclass(frozen=True, slots=True)
class Gone:
    """Journal entries whose events were removed. The entries in `originals` stored the removed event. The entries in
    `duplicates` were received before the removal of an event that another entry had stored, and repeat that event,
    whether a worker has settled them or not.
    """

    originals: frozenset[str] = frozenset()
    duplicates: frozenset[str] = frozenset()


class Removals:
    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._client = database.client
        self._events = database["events"]
        self._removed = database["events_removed"]
        self._gone = database["events_gone"]
        self._rewrites = RewriteNotes(database)
        self._dirty = DirtyHours(database)
        self._prepared = False

    def remove(
        self, keys: Sequence[Any], which: Selection, why: str, now: datetime, waiting_since: datetime | None
    ) -> int:
        """Remove those of the documents `keys` (`_id`s) that still match `which`, and return their number. `why` is
        ERASED or PURGED. `waiting_since` is when the oldest entry was written that waited in the journal before the
        documents were found, or None if no entry waited.

        Erased events are also noted for analytics/privacy/segment_rewrites.py. Raises Unavailable.
        """
        removed = 0
        for some in batched(keys, REMOVED_AT_ONCE):
            query = which | {"_id": {"$in": some}}
            removing = partial(self._remove, query=query, why=why, now=now, waiting_since=waiting_since)
            with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
                self._prepare()
                with self._client.start_session() as session:
                    removed += session.with_transaction(removing)
        return removed

    def remove_all(
        self, which: Selection, why: str, now: Callable[[], datetime], waiting_since: datetime | None
    ) -> Iterator[int]:
        """Remove all documents that match `which`, and yield the number of each group. See `remove`."""
        with reading(self._events.database):
            found = self._events.find(which, {"_id": 1})
            for some in batched((document["_id"] for document in found), REMOVED_AT_ONCE):
                yield self.remove(some, which, why, now(), waiting_since)

    def remove_oldest(
        self,
        which: Selection,
        why: str,
        now: Callable[[], datetime],
        waiting_since: Callable[[], datetime | None],
    ) -> Iterator[int]:
        """Remove all documents that match `which`, the oldest first, and yield the number of each group. A group is
        searched when it is its turn, and `waiting_since` is called before. See `remove`.
        """
        while True:
            since = waiting_since()
            with raising_unavailable("mongodb", PyMongoError):
                found = self._events.find(which, {"_id": 1}).sort(BY_TIME).limit(REMOVED_AT_ONCE)
                keys = [document["_id"] for document in found]
            if not keys:
                return
            yield self.remove(keys, which, why, now(), since)

    def count(self, which: Selection) -> int:
        """Count what `remove_all` would remove. Raises Unavailable."""
        with reading(self._events.database):
            return self._events.count_documents(which)

    def is_any(self, which: Selection) -> bool:
        """Whether `remove_all` would remove anything. Raises Unavailable."""
        with raising_unavailable("mongodb", PyMongoError):
            return self._events.find_one(which, {"_id": 1}) is not None

    def gone(self, stored: Sequence[tuple[str, Event]]) -> Gone:
        """Return which of these events were removed. Each event comes with its journal entry.

        It runs for every batch. Usually no event was removed lately, and one query shows that. Raises Unavailable.
        """
        since = min((event.received_at for _, event in stored), default=None)
        if since is None:
            return Gone()
        with raising_unavailable("mongodb", PyMongoError):
            if self._gone.find_one({"at": {"$gte": since - _CLOCKS_APART}}, {"_id": 1}) is None:
                return Gone()
            entries, ids = [entry_id for entry_id, _ in stored], [event.id for _, event in stored]
            either = {"$or": [{"_id": {"$in": entries}}, {"event_id": {"$in": ids}}]}
            found = list(self._gone.find(either).sort("at"))
        left_at = {x["event_id"]: x["at"] for x in found if "event_id" in x}
        originals = {x["_id"] for x in found} & set(entries)
        duplicates = (entry_id for entry_id, event in stored if _was_sent_before(event, left_at.get(event.id)))
        return Gone(frozenset(originals), frozenset(duplicates) - originals)

    def take_back(self, keys: Sequence[Any], entries: Sequence[str], now: datetime) -> None:
        """Remove these events, by `_id`, which these entries brought back. The ledger never counted them, or counted
        their removal the first time. Raises Unavailable.
        """
        with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
            self._prepare()
            which = {"_id": {"$in": list(keys)}, "entry_id": {"$in": list(entries)}}
            with self._client.start_session() as session:
                session.with_transaction(partial(self._take_back, which=which, now=now))

    def is_rewrite_owed(self) -> bool:
        """Whether any segment must be rebuilt without erased events, answered quickly. Raises Unavailable."""
        return self._rewrites.is_any_left()

    def _take_back(self, session: ClientSession, which: dict[str, Any], now: datetime) -> None:
        found = list(self._events.find(which, _FOUND, session=session))
        if found:
            self._mark(session, found, now, is_erased=True)
            self._events.delete_many(which, session=session)

    def _remove(
        self, session: ClientSession, query: dict[str, Any], why: str, now: datetime, waiting_since: datetime | None
    ) -> int:
        found = list(self._events.find(query, _FOUND, session=session))
        if not found:
            return 0
        since = min(waiting_since or now, now) - _CLOCKS_APART
        entries = [x["entry_id"] for x in found if _may_wait(x.get("entry_id"), since)]
        known = {x["_id"] for x in self._gone.find({"_id": {"$in": entries}}, {"_id": 1}, session=session)}
        # An event that came back after `gone` was checked was noted when it was removed first.
        self._note(session, [x for x in found if x.get("entry_id") not in known], why)
        if new := set(entries) - known:
            ids = {x["entry_id"]: x["_id"] for x in found if x.get("entry_id") in new}
            notes = [{"_id": entry_id, "event_id": event_id, "at": now} for entry_id, event_id in ids.items()]
            self._gone.insert_many(notes, session=session)
        self._mark(session, found, now, is_erased=why == ERASED)
        return self._events.delete_many({"_id": {"$in": [x["_id"] for x in found]}}, session=session).deleted_count

    def _mark(self, session: ClientSession, found: Sequence[dict[str, Any]], now: datetime, *, is_erased: bool) -> None:
        """Mark the hours that segments must rebuild."""
        moments = [(x["site_id"], as_ms(x["timestamp"])) for x in found if _has_place(x)]
        self._dirty.mark_within(session, moments, now)
        if moments and is_erased:
            hours = sorted({(site_id, ms // HOUR * HOUR) for site_id, ms in moments})
            for site_id in {site_id for site_id, _ in hours}:
                its = [hour for site, hour in hours if site == site_id]
                self._rewrites.add(session, site_id, its, now)

    def _note(self, session: ClientSession, found: Sequence[dict[str, Any]], why: str) -> None:
        """Note the events that the audit counts (analytics/events/store.py)."""
        counted = (x for x in found if isinstance(x["site_id"], str) and isinstance(x.get("received_at"), datetime))
        accounts = Counter((x["site_id"], x["received_at"].astimezone(UTC).date().isoformat()) for x in counted)
        notes = [
            UpdateOne({"_id": {"site_id": site_id, "day": day}}, {"$inc": {why: n}}, upsert=True)
            for (site_id, day), n in accounts.items()
        ]
        if notes:
            self._removed.bulk_write(notes, session=session)

    def _prepare(self) -> None:
        """Create indexes outside a transaction, because a transaction cannot write to a collection that was created
        after it began.
        """
        if not self._prepared:
            self._gone.create_index("at", expireAfterSeconds=GONE_FOR)
            self._gone.create_index("event_id")
            self._rewrites.make_index()
            self._dirty.make_index()
            self._prepared = True


def _was_sent_before(event: Event, left_at: datetime | None) -> bool:
    """Whether this event is a duplicate of the event removed at that time: it was received before. An import may bring
    a removed event back.
    """
    return left_at is not None and event.exported_id is None and event.received_at <= left_at


def _has_place(document: dict[str, Any]) -> bool:
    return isinstance(document["site_id"], str) and isinstance(document.get("timestamp"), datetime)


def _may_wait(entry_id: object, since: datetime) -> bool:
    """Whether the journal may still hold this entry. The entry's id begins with the time at which Redis received it."""
    if not isinstance(entry_id, str):
        return False
    ms = entry_id.split("-")[0]
    return not ms.isdigit() or int(ms) >= as_ms(since)
