"""Sends a notification to a URL: as signed JSON to a webhook, or in the form that Slack reads.

Webhooks follow the Standard Webhooks specification (https://www.standardwebhooks.com). `webhook-id` is the same in all
attempts, so that the receiver can ignore a repeat. `webhook-signature` is the HMAC-SHA256 of id, time and body.

Requests go only to public addresses, follow no redirect, and have a time limit.
"""

import hmac
import http.client
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from analytics.notifications.connection import (
    SEND_LIMIT,
    NotDelivered,
    Resolve,
    connected,
    is_public,
    over_tls,
    resolve,
)
from analytics.notifications.messages import one_line
from analytics.notifications.notification import Notification
from analytics.notifications.rule import Rule

_READ = 200  # bytes of an answer, for the log
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Webhooks:
    """`now` returns aware times. `is_allowed`: whether requests may go to an address. `resolve`: see connected()."""

    now: Callable[[], datetime]
    is_allowed: Callable[[str], bool] = is_public
    resolve: Resolve = resolve
    seconds: float = SEND_LIMIT

    def send_signed(self, rule: Rule, notification: Notification) -> None:
        """Raises NotDelivered."""
        body = _json(
            {
                "type": notification.kind,
                "timestamp": notification.created_at.isoformat(),
                "subject": notification.message.subject,
                "text": notification.message.text,
                "data": notification.message.data,
            }
        )
        timestamp = str(int(self.now().timestamp()))
        headers = {
            "webhook-id": notification.id,
            "webhook-timestamp": timestamp,
            "webhook-signature": sign(rule.secret or "", notification.id, timestamp, body),
        }
        self._post(rule.target, body, headers)

    def send_to_slack(self, rule: Rule, notification: Notification) -> None:
        """Slack, Mattermost, Rocket.Chat and Discord (with /slack after its URL) read this form. Raises
        NotDelivered.
        """
        subject, text = map(_slack_text, (notification.message.subject, notification.message.text))
        self._post(rule.target, _json({"text": f"*{subject}*\n{text}"}), {})

    def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Content-Type": "application/json", "User-Agent": "Footfall", "Connection": "close", **headers}
        with connected(host, port, self.seconds, self.is_allowed, self.resolve) as connection:
            is_https = parts.scheme == "https"
            client = http.client.HTTPSConnection(host, port) if is_https else http.client.HTTPConnection(host, port)
            has_sent = False
            try:
                client.sock = over_tls(connection, host) if is_https else connection
                has_sent = True
                client.request("POST", target, body, headers)
                _check(client.getresponse())
            except (OSError, http.client.HTTPException) as error:
                reason = one_line(f"{host} did not answer: {type(error).__name__}: {error}", 300)
                raise NotDelivered(reason, may_have_arrived=has_sent) from None
            finally:
                client.close()


def sign(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """Return the value of `webhook-signature`."""
    key = b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return f"v1,{b64encode(digest).decode()}"


def _check(answer: http.client.HTTPResponse) -> None:
    """Any other status than 2xx is a failure. A redirect is one too, because it may lead to a private address. The
    body of a success is not read: a server that sends it slowly has accepted the notification.
    """
    if not 200 <= answer.status < 300:
        said = answer.read(_READ).decode(errors="replace")
        raise NotDelivered(one_line(f"The server answered {answer.status} {said}", 300))


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def _slack_text(text: str) -> str:
    """Escape what Slack reads as a link or a mention. U+200B, which is not visible, ends those of the others."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("@", "@\u200b").replace("[", "[\u200b")
