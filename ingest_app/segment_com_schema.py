"""Reads the bodies and pixels of Segment's HTTP API, which RudderStack shares. Pure.

analytics/events/segment_com.py translates their messages. Callers must handle InvalidEvent for a whole body, but
Segment's and RudderStack's own clients send no such body.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from analytics.events.coercion import moment, object_of, text
from analytics.events.schema import InvalidEvent
from analytics.visitors.client import Client

# The short calls are those of browsers.
SHORT_CALLS = {"t": "track", "p": "page", "s": "screen", "i": "identify", "g": "group", "a": "alias"}
SEGMENT_COM_NAMES = {"site_id": "writeKey", "event_type": "event", "user_id": "userId", "event_id": "messageId"}
# What is read of the batch's own context.
OF_CONTEXT = ("page", "campaign", "screen", "os", "locale", "ip", "userAgent")
_BROWSERS = ("Mozilla/", "Opera/")  # the user agents of browsers begin so, those of libraries do not


@dataclass(frozen=True, slots=True)
class SegmentHit:
    """A body. `context`: what all messages share. `sent_at`: by the clock of the messages' timestamps."""

    write_key: str
    messages: Sequence[object]
    context: Mapping[str, Any]
    sent_at: datetime | None


def read_segment(body: object, kind: str | None = None) -> SegmentHit:
    """Reads a body. `kind`: the call in the path, for one message. None if the body is a batch. Raises InvalidEvent."""
    if not isinstance(body, dict):
        raise InvalidEvent({"body": ["Not a JSON object."]})
    messages = [body | {"type": kind}] if kind else body.get("batch")
    if not isinstance(messages, list):
        raise InvalidEvent({"batch": ["Not a list of messages."]})
    sent_at = moment(body.get("sentAt"))
    if sent_at is None:  # they were sent together, but a queue may have stamped each of them
        sent_at = max((at for message in messages if (at := moment(_in(message, "sentAt")))), default=None)
    context = {} if kind else object_of(body.get("context"))
    common = {name: context[name] for name in OF_CONTEXT if name in context}  # it is copied for each message
    return SegmentHit(write_key_in(body.get("writeKey")), messages, common, sent_at)


def write_key_in(given: object) -> str:
    """The write key that a client gives, "" for none. It may be a site_id, so it has the length limit of a site_id."""
    return text(given, 128) or ""


def visitor_in(sender: Client, hit: SegmentHit) -> Client:
    """The part of a hit's sender that describes the visitor.

    For a browser it is everything. For a phone's app it is the address, because its library has a user agent of its
    own. For a server it is nothing.
    """
    if sender.user_agent.startswith(_BROWSERS):
        return sender
    if any(object_of(object_of(_in(message, "context")).get("device")) for message in hit.messages):
        return Client(address=sender.address, languages=sender.languages)
    return Client()


def parameters_as_body(parameters: Mapping[str, str]) -> dict[str, Any]:
    """The query of a pixel as a body.

    A value may be JSON. A name such as `context.page.url` is a path into the body.
    """
    body: dict[str, Any] = {}
    for name, value in parameters.items():
        *ways, last = name.split(".")
        place = body
        for way in ways[:8]:
            inner = place.setdefault(way, {})
            place = inner if isinstance(inner, dict) else {}
        place[last] = _unpacked(value)
    return body


def _unpacked(value: str) -> object:
    if value[:1] in ("{", "["):
        with suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def _in(message: object, name: str) -> object:
    return message.get(name) if isinstance(message, dict) else None
