"""Sends notifications that are due, and records what became of each.

A notification is claimed, sent, and recorded as sent. If the process dies in between, another process claims it after
the lease. The receiver of an e-mail or a webhook recognises a repeat by its id, so these are sent again. Slack does
not, so a message that Slack may have received is not sent again: it is recorded as failed.

Callers must handle Unavailable.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from analytics.notifications.connection import NotDelivered
from analytics.notifications.mail import Mailer
from analytics.notifications.notification import Notification
from analytics.notifications.rule import Channel, Rule
from analytics.notifications.store import Claim, NotificationStore
from analytics.notifications.webhook import Webhooks

log = structlog.get_logger()

# Times before the second attempt and the next ones: 20 hours in all.
PAUSES = tuple(timedelta(minutes=n) for n in (0.5, 2, 8, 30, 120, 360, 720))
MOST_ATTEMPTS = len(PAUSES) + 1
_DIED = "A worker died, or lost its connection to MongoDB, while it sent this. Slack may have received it."
_REMOVED = "The rule was removed."
_TOO_OFTEN = "Workers died too often while they sent this."

Send = Callable[[Rule, Notification], None]


def channels(mail: tuple[str, str] | None, now: Callable[[], datetime]) -> Mapping[Channel, Send]:
    """Return how to send over each channel. `mail`: the URL of the SMTP server and the sender, or None."""
    webhooks = Webhooks(now)
    web = {Channel.WEBHOOK: webhooks.send_signed, Channel.SLACK: webhooks.send_to_slack}
    return web | ({Channel.EMAIL: Mailer(*mail).send} if mail else {})


@dataclass(frozen=True)
class Deliveries:
    """`channels`: how to send. Each raises NotDelivered. `now` returns aware times."""

    store: NotificationStore
    channels: Mapping[Channel, Send]
    now: Callable[[], datetime]

    def send_due(self, until: datetime) -> Counter[str]:
        """Send what is due until `until`, and return how many were sent, and how many attempts failed. It stops at a
        failure: a server that does not answer takes time, and the next call continues. Raises Unavailable.
        """
        done: Counter[str] = Counter(sent=0, failed=0)
        while not done["failed"] and self.now() < until and (claim := self.store.claim(self.now())):
            done["sent" if self.send(claim) else "failed"] += 1
        return done

    def send(self, claim: Claim) -> bool:
        """Send the notification and record the result. Returns whether it was sent. Raises Unavailable."""
        try:
            self._send(claim)
        except NotDelivered as error:
            self._record_failure(claim, error)
            return False
        self.store.sent(claim, self.now())
        log.info("notification_sent", **_ids(claim))
        return True

    def _send(self, claim: Claim) -> None:
        if claim.rule is None:
            raise NotDelivered(_REMOVED, is_final=True)
        if claim.notification.attempts > MOST_ATTEMPTS:
            raise NotDelivered(_TOO_OFTEN, is_final=True)
        if claim.was_sending and claim.rule.channel is Channel.SLACK:
            raise NotDelivered(_DIED, is_final=True)
        if claim.rule.channel not in self.channels:
            raise NotDelivered("E-mail is not set up. Set SMTP_URL and MAIL_FROM.")
        self.channels[claim.rule.channel](claim.rule, claim.notification)

    def _record_failure(self, claim: Claim, error: NotDelivered) -> None:
        attempts = claim.notification.attempts
        may_repeat = not (error.may_have_arrived and claim.notification.channel is Channel.SLACK)
        is_over = error.is_final or not may_repeat or attempts >= MOST_ATTEMPTS
        retry_at = None if is_over else self.now() + PAUSES[attempts - 1]
        self.store.failed(claim, str(error), retry_at)
        log.warning("notification_not_sent", error=str(error), attempts=attempts, is_over=is_over, **_ids(claim))


def _ids(claim: Claim) -> dict[str, str]:
    return {
        "notification": claim.notification.id,
        "channel": claim.notification.channel,
        "site_id": claim.notification.site_id,
    }
