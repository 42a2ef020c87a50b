"""Translates the messages of Segment's HTTP API, which RudderStack shares, into events. Pure.

A message becomes an event, or a Drop, or an InvalidEvent. Callers must handle InvalidEvent for a whole body, but
Segment's and RudderStack's own clients send no such body.

Source: segment.com/docs/connections/spec, rudderstack.com/docs/api/http-api. `originalTimestamp` is RudderStack's name
for the time that its clients set. `timestamp` is the time that the user sets, and the only time that Segment's clients
send.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from analytics.events.coercion import (
    LONGEST_VALUE,
    address,
    id_of,
    moment,
    money,
    name_of,
    page,
    props,
    text,
    without_nothing,
)
from analytics.events.drop import Drop
from analytics.events.schema import InvalidEvent
from analytics.visitors.client import Client

# The short calls are those of browsers.
SHORT_CALLS = {"t": "track", "p": "page", "s": "screen", "i": "identify", "g": "group", "a": "alias"}
CALLS = tuple(SHORT_CALLS.values())
CALLS_ABOUT_PERSONS = ("identify", "group", "alias")  # they describe a person, not what the person did
CAMPAIGN = {"utm_campaign": "name", "utm_source": "source", "utm_medium": "medium", "utm_content": "content",
            "utm_term": "term"}  # fmt: skip
_OF_PAGES = (
    "url",
    "path",
    "referrer",
    "search",
    "name",
    "category",
)  # these properties of page are no event properties
# What is read of the batch's own context.
OF_CONTEXT = ("page", "campaign", "screen", "os", "locale", "ip", "userAgent")
# The first valid time of a message counts. Without one it is the time of arrival.
_TIMES = ("timestamp", "originalTimestamp", "sentAt")
SEGMENT_COM_NAMES = {"site_id": "writeKey", "event_type": "event", "user_id": "userId", "event_id": "messageId"}
DEFAULT_CURRENCY = "USD"  # the default for `revenue` in Segment's specification
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
    context = {} if kind else _object(body.get("context"))
    common = {name: context[name] for name in OF_CONTEXT if name in context}  # it is copied for each message
    return SegmentHit(write_key_in(body.get("writeKey")), messages, common, sent_at)


def write_key_in(given: object) -> str:
    """The write key that a client gives, "" for none. It may be a site_id, so it has the length limit of a site_id."""
    return text(given, 128) or ""


def translate(message: object, site_id: str, context: Mapping[str, Any]) -> object:
    """Returns the JSON object that analytics/events/schema.py loads, or a Drop, or an InvalidEvent."""
    if not isinstance(message, dict):
        return InvalidEvent({"body": ["Not a JSON object."]}, site_id=site_id)
    kind = message.get("type")
    if kind in CALLS_ABOUT_PERSONS:
        return Drop(str(kind), site_id)
    if kind not in CALLS:
        return InvalidEvent({"type": [f"Not one of {', '.join(CALLS)}."]}, site_id=site_id)
    context = {**context, **_object(message.get("context"))}
    properties = _object(message.get("properties"))
    at = moment(*(message.get(name) for name in _TIMES))
    event = _described(context) | {
        "site_id": site_id,
        "event_id": id_of(message.get("messageId"), 100),
        "user_id": id_of(message.get("userId"), 256) or id_of(message.get("anonymousId"), 256),
        "timestamp": at.isoformat() if at else None,
    }
    event |= _track(message, properties, context) if kind == "track" else _page(message, properties, context, str(kind))
    return without_nothing(event)


def visitor_in(sender: Client, hit: SegmentHit) -> Client:
    """The part of a hit's sender that describes the visitor.

    For a browser it is everything. For a phone's app it is the address, because its library has a user agent of its
    own. For a server it is nothing.
    """
    if sender.user_agent.startswith(_BROWSERS):
        return sender
    if any(_object(_object(_in(message, "context")).get("device")) for message in hit.messages):
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


def _track(message: dict[str, Any], properties: dict[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    revenue = _revenue(message.get("event"), properties)
    said = {key: value for key, value in properties.items() if not (revenue and key in ("revenue", "currency"))}
    return _page_of(context, {}) | {
        "event_type": name_of(message.get("event")),
        "revenue": revenue,
        "props": props(said),
    }


def _page(message: dict[str, Any], properties: dict[str, Any], context: Mapping[str, Any], kind: str) -> dict[str, Any]:
    name = text(message.get("name"), 300) or text(properties.get("name"), 300)
    category = text(message.get("category"), 300) or text(properties.get("category"), 300)
    where = _page_of(context, properties)
    if kind == "screen" and name:
        where = {"path": name if name.startswith("/") else f"/{name}"}
    title = properties.get("title") or text(_object(context.get("page")).get("title"), LONGEST_VALUE)
    said = {key: value for key, value in properties.items() if key not in _OF_PAGES}
    return where | {
        "event_type": "pageview",
        "props": props({"name": name, "category": category, "title": title}, said),
    }


def _page_of(context: Mapping[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
    there = _object(context.get("page"))
    said = [properties, there]
    where = next(filter(None, (page(source.get(key)) for key in ("url", "path") for source in said)), {})
    referrer = next(filter(None, (text(source.get("referrer"), 2048) for source in said)), None)
    return where | {"referrer": referrer}


def _described(context: Mapping[str, Any]) -> dict[str, Any]:
    campaign, screen, system = (_object(context.get(name)) for name in ("campaign", "screen", "os"))
    width, height = screen.get("width"), screen.get("height")
    return {name: text(campaign.get(theirs), 255) for name, theirs in CAMPAIGN.items()} | {
        "language": (text(context.get("locale"), 35) or "").replace("_", "-"),  # phones write de_DE
        "screen": f"{width:.0f}x{height:.0f}" if _is_length(width) and _is_length(height) else None,
        "os": text(system.get("name"), 128),
        "os_version": text(system.get("version"), 128),
        "ip": address(context.get("ip")),
        "user_agent": text(context.get("userAgent"), 1024),
    }


def _revenue(event: object, properties: dict[str, Any]) -> dict[str, object] | None:
    """The revenue of an event. `total` and `value` are revenue only of an order. Other events use them for prices."""
    currency = properties.get("currency") or DEFAULT_CURRENCY
    names = ("revenue", "total", "value") if event == "Order Completed" else ("revenue",)
    return next(filter(None, (money(properties.get(name), currency) for name in names)), None)


def _unpacked(value: str) -> object:
    if value[:1] in ("{", "["):
        with suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def _is_length(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 100_000


def _in(message: object, name: str) -> object:
    return message.get(name) if isinstance(message, dict) else None


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
