"""Assigns the anonymous events of a visit to the user who signs in during it, for sites with `assigns_visits`.

On such a site, the collector gives events with a user_id a visitor_id too, which is the anonymous id of the same
address and browser. An event with both is a sign-in. A worker notes it after it has stored the event and before it
settles the journal's entry. Every later event of this visitor_id makes the note pending again.

A pending note is worked off in one transaction. It reads the visitor's events around the sign-ins, and writes the
user_id into the anonymous events of the visits that have a sign-in, with the mark `assigned`. Marked events that belong
to no such visit any more lose the user_id again. `reassigned_at` is when an event last got or lost its user. The result
depends on the stored events only: late events, repeated runs and two workers at once give the same. The hours of
changed events are dirty, so reports follow at once.

An address that several people share has one visitor_id for them. So as soon as a visitor_id has had sign-ins of two
users, none of its events is assigned. Imported events are left as they are, and so are
events more than two days before a sign-in arrived. Callers must handle Unavailable.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pymongo
import structlog
from pymongo import UpdateMany, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics.digest import digest_of
from analytics.events.dirty_hours import DirtyHours
from analytics.events.event import Event
from analytics.interval import VISIT_GAP, as_ms
from analytics.mongodb import WRITE_LIMIT, looking, writing
from analytics.unavailable import Unavailable, raising_unavailable

log = structlog.get_logger()

RESTED = timedelta(seconds=5)  # after an event; a page sends several events in this time
SIGN_IN_KEPT_FOR = 30 * 86_400  # seconds after the last sign-in; no visitor_id of this system lives as long
MOST_OF_A_VISITOR = 5_000  # of a visitor around the sign-ins; more are not those of a person
_AT_ONCE = 200  # notes of a run
_GAP = timedelta(milliseconds=VISIT_GAP)
_FURTHEST = timedelta(days=1)  # events from a sign-in, and a sign-in from its arrival
_ERASED = ""  # the user of a note whose user was erased
_FIELDS = ("timestamp", "user_id", "assigned", "site_id")


@dataclass(frozen=True, slots=True)
class _SignIn:
    site_id: str
    visitor_id: str
    user: str  # a digest of the user_id
    at: datetime  # a day before it arrived at the earliest, so that few events are read for it


class SignIns:
    """`assigns`: whether the site with this id assigns visits."""

    def __init__(self, database: Database[dict[str, Any]], assigns: Callable[[str], bool]) -> None:
        self._database = database
        self._notes = database["sign_ins"]
        self._events = database["events"]
        self._dirty = DirtyHours(database)
        self._assigns = assigns
        self._prepared = False

    def note(self, events: Iterable[Event], now: datetime) -> None:
        """Note the sign-ins of stored events, and the events of visitors who have signed in. Raises Unavailable."""
        ours = [x for x in events if x.visitor_id and not x.import_id and not x.exported_id]
        signed_in = [
            _SignIn(x.site_id, x.visitor_id, digest_of(x.user_id), max(x.occurred_at, x.received_at - _FURTHEST))
            for x in ours
            if x.visitor_id and x.user_id
        ]
        assigning = set(filter(self._assigns, {x.site_id for x in ours if not x.user_id}))
        others = {(x.site_id, x.visitor_id) for x in ours if not x.user_id and x.site_id in assigning}
        if not signed_in and not others:
            return
        writes: list[UpdateOne | UpdateMany] = [_noted(each, now) for each in signed_in]
        if others:
            which = {"_id": {"$in": [_key(*each) for each in sorted(others)]}}
            writes.append(UpdateMany(which, {"$set": {"pending_since": now}}))
        with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
            self._prepare()
            self._notes.bulk_write(writes)

    def is_any_due(self, now: datetime) -> bool:
        """Whether a note is due, answered quickly. Raises Unavailable."""
        with looking():
            return self._notes.find_one(_due(now), {"_id": 1}) is not None

    def assign_due(self, now: Callable[[], datetime], until: datetime | None = None) -> int:
        """Work off the notes that are due, and return how many events were changed. Raises Unavailable."""
        changed = 0
        with raising_unavailable("mongodb", PyMongoError):
            self._prepare()
            due = [x["_id"] for x in self._notes.find(_due(now()), {"_id": 1}).sort("pending_since", 1).limit(_AT_ONCE)]
        for key in due:
            if until is not None and now() >= until:
                break
            try:
                changed += self._work_off(key, now())
            except Unavailable as error:
                log.warning("visit_not_assigned", site_id=key["site_id"], error=str(error))
                self._postpone(key, now())
        return changed

    def _work_off(self, key: dict[str, str], now: datetime) -> int:
        with (
            raising_unavailable("mongodb", PyMongoError),
            pymongo.timeout(WRITE_LIMIT),
            self._database.client.start_session() as session,
        ):
            return session.with_transaction(partial(self._assign, key=key, now=now))

    def _postpone(self, key: dict[str, str], now: datetime) -> None:
        """Put the note behind the others. Raises Unavailable, if MongoDB is the reason why it could not be worked
        off.
        """
        with writing(self._database):
            self._notes.update_one({"_id": key, "pending_since": {"$ne": None}}, {"$set": {"pending_since": now}})

    def forget(self, site_id: str, *, user_id: str | None, visitor_id: str | None) -> None:
        """Forget the sign-ins of a user, or of a visitor_id. From then on, they assign no event, so no event can become
        the user's while the user is erased. Raises Unavailable.
        """
        which: dict[str, Any] = {"_id": _key(site_id, visitor_id)}
        if user_id:
            which = {"_id.site_id": site_id, "user": digest_of(user_id)}
        with raising_unavailable("mongodb", PyMongoError), pymongo.timeout(WRITE_LIMIT):
            self._notes.update_many(which, {"$set": {"user": _ERASED}})

    def _assign(self, session: ClientSession, key: dict[str, str], now: datetime) -> int:
        # It writes the note before it reads events. A note that is changed in between makes the transaction run again.
        pending = {"_id": key, "pending_since": {"$ne": None}}
        note = self._notes.find_one_and_update(pending, {"$unset": {"pending_since": ""}}, session=session)
        if note is None or note["user"] == _ERASED:  # the erasure finds the assigned events by their user_id
            return 0
        found = self._around(session, key, note["first"], note["last"])
        if not note["shared"] and not any(map(_is_sign_in, found)):
            self._notes.delete_one({"_id": key}, session=session)  # the events are erased, or too old to be kept
        may_assign = not note["shared"] and len(found) <= MOST_OF_A_VISITOR
        changes: list[UpdateOne] = []
        changed: list[tuple[str, int]] = []
        for events in _visits(found):
            user_id = _signed_in(events) if may_assign else None
            for each in events:
                if change := _change(each, user_id, now):
                    changes.append(UpdateOne({"_id": each["_id"]}, change))
                    changed.append((key["site_id"], as_ms(each["timestamp"])))
        if changes:
            self._events.bulk_write(changes, session=session)
            self._dirty.mark_within(session, changed, now)
        return len(changes)

    def _around(
        self, session: ClientSession, key: dict[str, str], first: datetime, last: datetime
    ) -> Sequence[dict[str, Any]]:
        """The visitor's events in the visits around the sign-ins, in order of time. No index has visitors, so it reads
        all events of the site there: first an hour, and more if a visit is longer.
        """
        reach = 2 * _GAP
        while True:
            when = {"$gte": first - reach, "$lte": last + reach}
            which = {**key, "timestamp": when}
            order = [("site_id", 1), ("timestamp", 1)]
            found = list(self._events.find(which, _FIELDS, session=session).sort(order).limit(MOST_OF_A_VISITOR + 1))
            is_whole = not found or (
                found[0]["timestamp"] > first - reach + _GAP and found[-1]["timestamp"] < last + reach - _GAP
            )
            if is_whole or reach >= _FURTHEST or len(found) > MOST_OF_A_VISITOR:
                return found
            reach = min(2 * reach, _FURTHEST)

    def _prepare(self) -> None:
        """Create what a transaction cannot create."""
        if not self._prepared:
            self._notes.create_index("pending_since", sparse=True)
            self._notes.create_index("at", expireAfterSeconds=SIGN_IN_KEPT_FOR)
            self._dirty.make_index()
            self._prepared = True


def _key(site_id: str, visitor_id: str | None) -> dict[str, Any]:
    return {"site_id": site_id, "visitor_id": visitor_id}


def _due(now: datetime) -> dict[str, Any]:
    return {"pending_since": {"$lte": now - RESTED}}


def _noted(sign_in: _SignIn, now: datetime) -> UpdateOne:
    known = {"$ifNull": ["$user", sign_in.user]}
    change = {
        "shared": {"$or": [{"$ifNull": ["$shared", False]}, {"$ne": [known, sign_in.user]}]},
        "user": known,
        "first": {"$min": ["$first", sign_in.at]},
        "last": {"$max": ["$last", sign_in.at]},
        "at": now,
        "pending_since": now,
    }
    return UpdateOne({"_id": _key(sign_in.site_id, sign_in.visitor_id)}, [{"$set": change}], upsert=True)


def _visits(events: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield the events of each visit: those without a gap of more than 30 minutes."""
    visit: list[dict[str, Any]] = []
    for each in events:
        if visit and each["timestamp"] - visit[-1]["timestamp"] > _GAP:
            yield visit
            visit = []
        visit.append(each)
    if visit:
        yield visit


def _signed_in(events: Iterable[dict[str, Any]]) -> str | None:
    """The user_id that these events came with, if they came with exactly one."""
    given = {each["user_id"] for each in events if _is_sign_in(each)}
    return given.pop() if len(given) == 1 else None


def _is_sign_in(event: dict[str, Any]) -> bool:
    return bool(event.get("user_id")) and not event.get("assigned")


def _change(event: dict[str, Any], user_id: str | None, now: datetime) -> dict[str, Any] | None:
    """What makes this event the user's, or anonymous again without a user_id. None if it is so already."""
    is_assigned = bool(event.get("assigned"))
    if is_assigned and user_id is None:
        return {"$unset": {"user_id": "", "assigned": ""}, "$set": {"reassigned_at": now}}
    if user_id is not None and event.get("user_id") != user_id and (is_assigned or not event.get("user_id")):
        return {"$set": {"user_id": user_id, "assigned": True, "reassigned_at": now}}
    return None
