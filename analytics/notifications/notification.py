"""A notification: what is sent, and what became of it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypedDict, get_args
from uuid import UUID

from analytics.interval import moment_text
from analytics.json_schema import Count, IdText, MomentText
from analytics.notifications.rule import Channel, ChannelText

TEST_KIND = "test"  # a notification that the operator asked for; the other kinds are those of rules

# A notification waits until a worker claims it. A worker that dies while it sends leaves it as "sending".
NotificationState = Literal["waiting", "sending", "sent", "failed"]
NOTIFICATION_STATES = get_args(NotificationState)


@dataclass(frozen=True, slots=True)
class Message:
    """What a notification says. `data` is the same for programs."""

    subject: str
    text: str
    data: Mapping[str, Any]


class NotificationJson(TypedDict):
    id: str
    rule_id: IdText
    site_id: str
    kind: str
    channel: ChannelText
    target: str
    subject: str
    text: str
    state: NotificationState
    attempts: Count
    created_at: MomentText
    due_at: MomentText | None
    sent_at: MomentText | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification. `id` is made of the rule and the occasion, so that one occasion has one notification. `target` is
    without secrets. `attempts` counts how often it was claimed. `due_at` is the time of the next attempt, or None if
    there is none. `error` says why the last attempt failed.
    """

    id: str
    rule_id: UUID
    site_id: str
    kind: str
    channel: Channel
    target: str
    message: Message
    created_at: datetime
    state: NotificationState = "waiting"
    attempts: int = 0
    due_at: datetime | None = None
    sent_at: datetime | None = None
    error: str | None = None

    def as_json(self) -> NotificationJson:
        return {
            "id": self.id,
            "rule_id": str(self.rule_id),
            "site_id": self.site_id,
            "kind": self.kind,
            "channel": self.channel,
            "target": self.target,
            "subject": self.message.subject,
            "text": self.message.text,
            "state": self.state,
            "attempts": self.attempts,
            "created_at": self.created_at.isoformat(),
            "due_at": moment_text(self.due_at),
            "sent_at": moment_text(self.sent_at),
            "error": self.error,
        }
