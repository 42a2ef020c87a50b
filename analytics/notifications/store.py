"""Stores rules and notifications in MongoDB. Only this module knows MongoDB's names of them.

`begin` records that a rule notifies of an occasion and inserts the notification, in one transaction. So each occasion
has one notification, no matter how many processes check the rule and when they die. `claim` gives a due notification to
one process for SEND_LEASE. If that process dies, the notification is due again after the lease.

Callers must handle Unavailable, raised if MongoDB is unreachable or slow. A write that raises it may have happened.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from marshmallow import ValidationError
from pymongo import ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from analytics.interval import whole_milliseconds
from analytics.languages import joined, translatable
from analytics.mongodb import looking, ping, reading, writing
from analytics.notifications.notification import TEST_KIND, Message, Notification, NotificationState
from analytics.notifications.rule import Channel, Rule, RuleKind
from analytics.notifications.rule_schema import CHANGEABLE
from analytics.sites.store import SiteStore
from analytics.suggestion import did_you_mean

MOST_RULES = 1_000  # all are checked every few minutes
SEND_LEASE = timedelta(seconds=120)  # above the time limit of the task that sends
KEPT_FOR = timedelta(days=400)  # notifications. It is above the longest period, so that no period notifies twice.


@dataclass(frozen=True, slots=True)
class Claim:
    """A notification that this process sends. `rule` is None if it was removed. `was_sending`: a process that claimed
    it earlier died, or lost its connection to MongoDB, while it sent.
    """

    notification: Notification
    rule: Rule | None
    token: UUID
    was_sending: bool


class NotificationStore:
    """Stores rules, and the notifications that wait or were sent. `can_mail`: whether e-mail is set up."""

    def __init__(self, database: Database[dict[str, Any]], sites: SiteStore, *, can_mail: bool) -> None:
        self._database = database
        self._rules = database["notification_rules"]
        self._notifications = database["notifications"]
        self._sites = sites
        self._can_mail = can_mail

    def ping(self) -> None:
        """Raises Unavailable if MongoDB does not answer within a second."""
        ping(self._database)

    def rules(self, site_id: str | None = None, kinds: Collection[RuleKind] = tuple(RuleKind)) -> Sequence[Rule]:
        """Return the rules of a site, or of all sites, the oldest first. Raises Unavailable."""
        which: dict[str, Any] = {"kind": {"$in": list(kinds)}} | ({} if site_id is None else {"site_id": site_id})
        with reading(self._database):
            return [_rule(each) for each in self._rules.find(which).sort([("created_at", 1), ("_id", 1)])]

    def rule(self, rule_id: UUID) -> Rule | None:
        """Raises Unavailable."""
        with reading(self._database):
            found = self._rules.find_one({"_id": rule_id})
        return _rule(found) if found else None

    def add(self, rule: Rule) -> Rule:
        """Store a new rule, and return it with the id of its site. Raises ValidationError, UnknownSite, and
        Unavailable.
        """
        (site_id,) = self._sites.ids_of([rule.site_id])
        added = replace(rule, site_id=site_id)
        self._check(added)
        with writing(self._database):
            if self._rules.count_documents({}) >= MOST_RULES:
                said = translatable("There are %(most)s rules already. Remove one first.", most=MOST_RULES)
                raise ValidationError({"kind": [said]})
            self._make_indexes()
            self._rules.insert_one(_rule_document(added))
        return added

    def change(self, rule: Rule) -> bool:
        """Store what changed_rule changes, and return whether the rule is still there. What it has notified of stays.
        Raises ValidationError and Unavailable.
        """
        self._check(rule)
        document = _rule_document(rule)
        changed = {name: document[name] for name in CHANGEABLE}
        with writing(self._database):
            return self._rules.update_one({"_id": rule.id}, {"$set": changed}).matched_count > 0

    def remove(self, rule_id: UUID) -> bool:
        """Remove the rule, and return whether there was one. Its notifications stay in the log. Those that wait are not
        sent. Raises Unavailable.
        """
        with writing(self._database):
            return self._rules.delete_one({"_id": rule_id}).deleted_count > 0

    def begin(self, rule: Rule, occasion: str, message: Message, now: datetime) -> bool:
        """Insert the notification of an occasion. Returns False if another process did so, or if the rule was removed.
        Raises Unavailable.
        """
        notification = _new(rule, f"{rule.id}/{occasion}", rule.kind, message, now)

        def begin_once(session: ClientSession) -> bool:
            if not self._move(rule, occasion, session):
                return False
            self._notifications.insert_one(_document(notification), session=session)
            return True

        with writing(self._database), self._database.client.start_session() as session:
            try:
                return session.with_transaction(begin_once)
            except DuplicateKeyError:  # the clock went back to a period that was notified of
                return False

    def end(self, rule: Rule) -> None:
        """Record that the episode of the rule is over. Raises Unavailable."""
        with writing(self._database):
            self._move(rule, None)

    def add_test(self, rule: Rule, message: Message, now: datetime) -> Notification:
        """Insert a notification that tests the rule's channel, and return it. Raises Unavailable."""
        notification = _new(rule, f"{rule.id}/{TEST_KIND}-{uuid4()}", TEST_KIND, message, now)
        with writing(self._database):
            self._notifications.insert_one(_document(notification))
        return notification

    def is_any_due(self, now: datetime) -> bool:
        """Whether `claim` would find a notification, answered quickly. Raises Unavailable."""
        with looking():
            return self._notifications.find_one({"due_at": {"$lte": now}}, {"_id": 1}) is not None

    def claim(self, now: datetime, notification_id: str | None = None) -> Claim | None:
        """Claim the notification that is due for the longest time, or the one with this id if it is due. Returns None
        if none is due. Raises Unavailable.
        """
        token = uuid4()
        which = {"due_at": {"$lte": now}} | ({} if notification_id is None else {"_id": notification_id})
        change = {"$set": {"state": "sending", "token": token, "due_at": now + SEND_LEASE}, "$inc": {"attempts": 1}}
        with writing(self._database):
            before = self._notifications.find_one_and_update(
                which, change, sort=[("due_at", 1)], return_document=ReturnDocument.BEFORE
            )
        if before is None:
            return None
        found = replace(_notification(before), state="sending", attempts=before["attempts"] + 1)
        return Claim(found, self.rule(found.rule_id), token, was_sending=before["state"] == "sending")

    def sent(self, claim: Claim, now: datetime) -> None:
        """Record that the notification was sent. Raises Unavailable."""
        self._settle(claim, "sent", {"sent_at": whole_milliseconds(now), "due_at": None, "error": None})

    def failed(self, claim: Claim, error: str, retry_at: datetime | None) -> None:
        """Record that the attempt failed, and when to try again, or None if never. Raises Unavailable."""
        state: NotificationState = "waiting" if retry_at else "failed"
        self._settle(claim, state, {"due_at": retry_at, "error": error})

    def get(self, notification_id: str) -> Notification | None:
        """Raises Unavailable."""
        with reading(self._database):
            found = self._notifications.find_one({"_id": notification_id})
        return _notification(found) if found else None

    def log(
        self,
        site_id: str | None = None,
        state: NotificationState | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Sequence[Notification]:
        """Return notifications, the newest first. `after`: only those that follow the one with this id. Raises
        Unavailable.
        """
        given = {"site_id": site_id, "state": state}
        query: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        with reading(self._database):
            if after and (last := self._notifications.find_one({"_id": after}, {"created_at": 1})):
                moment = last["created_at"]
                query["$or"] = [{"created_at": {"$lt": moment}}, {"created_at": moment, "_id": {"$lt": after}}]
            found = self._notifications.find(query).sort([("created_at", -1), ("_id", -1)]).limit(limit)
            return [_notification(each) for each in found]

    def _check(self, rule: Rule) -> None:
        if rule.channel is Channel.EMAIL and not self._can_mail:
            raise ValidationError({"channel": [translatable("E-mail is not set up. Set SMTP_URL and MAIL_FROM.")]})
        goals = [goal.name for goal in self._sites.get(rule.site_id).goals]
        if rule.goal and rule.goal not in goals:
            said = translatable("The site has no goal %(goal)s.", goal=repr(rule.goal))
            raise ValidationError({"goal": [joined(said, did_you_mean(rule.goal, goals))]})

    def _move(self, rule: Rule, occasion: str | None, session: ClientSession | None = None) -> bool:
        """Change the occasion, unless another process changed it since the rule was read."""
        as_read = {"_id": rule.id, "occasion": rule.occasion}
        return self._rules.update_one(as_read, {"$set": {"occasion": occasion}}, session=session).matched_count > 0

    def _settle(self, claim: Claim, state: NotificationState, change: dict[str, Any]) -> None:
        """Change nothing if another process claimed the notification after the lease."""
        ours = {"_id": claim.notification.id, "token": claim.token}
        with writing(self._database):
            self._notifications.update_one(ours, {"$set": {"state": state, **change}})

    def _make_indexes(self) -> None:
        self._notifications.create_index("created_at", expireAfterSeconds=int(KEPT_FOR.total_seconds()))
        self._notifications.create_index([("created_at", -1), ("_id", -1)], name="newest_first")
        has_due = {"due_at": {"$type": "date"}}
        self._notifications.create_index("due_at", name="due", partialFilterExpression=has_due)


def _new(rule: Rule, notification_id: str, kind: str, message: Message, now: datetime) -> Notification:
    created_at = whole_milliseconds(now)
    return Notification(
        notification_id,
        rule.id,
        rule.site_id,
        kind,
        rule.channel,
        rule.shown_target,
        message,
        created_at,
        due_at=created_at,
    )


def _rule(document: dict[str, Any]) -> Rule:
    # Rules of earlier versions have no language.
    known = {name: document[name] for name in Rule.__dataclass_fields__ if name in document}
    enums = {"kind": RuleKind(document["kind"]), "channel": Channel(document["channel"])}
    return Rule(**known | enums | {"id": document["_id"]})


def _rule_document(rule: Rule) -> dict[str, Any]:
    return {"_id": rule.id, **{name: getattr(rule, name) for name in Rule.__dataclass_fields__ if name != "id"}}


def _notification(document: dict[str, Any]) -> Notification:
    return Notification(
        id=document["_id"],
        rule_id=document["rule_id"],
        site_id=document["site_id"],
        kind=document["kind"],
        channel=Channel(document["channel"]),
        target=document["target"],
        message=Message(document["subject"], document["text"], document["data"]),
        created_at=document["created_at"],
        state=document["state"],
        attempts=document["attempts"],
        due_at=document["due_at"],
        sent_at=document["sent_at"],
        error=document["error"],
    )


def _document(notification: Notification) -> dict[str, Any]:
    return {
        "_id": notification.id,
        "rule_id": notification.rule_id,
        "site_id": notification.site_id,
        "kind": notification.kind,
        "channel": notification.channel,
        "target": notification.target,
        "subject": notification.message.subject,
        "text": notification.message.text,
        "data": notification.message.data,
        "created_at": notification.created_at,
        "state": notification.state,
        "attempts": notification.attempts,
        "due_at": notification.due_at,
        "sent_at": notification.sent_at,
        "error": notification.error,
    }
