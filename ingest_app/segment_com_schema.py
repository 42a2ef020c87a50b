"""Segment's HTTP API, which RudderStack's is too: its messages translated into our events. Pure.

In: what POST /v1/batch or one of its siblings held. Out: for each message an event, the reason why there is none to
store, or what is wrong with it. Wrong can go with all of it only what no client of theirs builds: InvalidEvent.

Format: segment.com/docs/connections/spec, rudderstack.com/docs/api/http-api. `originalTimestamp` is RudderStack's name
for what its clients stamp; `timestamp` is what their users say, and all that Segment's send.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from analytics.events.drop import Drop
from analytics.events.schema import InvalidEvent
from analytics.visitors.client import Client
from ingest_app.coercion import (
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

SHORT_CALLS = {"t": "track", "p": "page", "s": "screen", "i": "identify", "g": "group", "a": "alias"}  # of browsers
CALLS = tuple(SHORT_CALLS.values())
CALLS_ABOUT_PERSONS = ("identify", "group", "alias")  # they tell of a person and of nothing that the person did
CAMPAIGN = {"utm_campaign": "name", "utm_source": "source", "utm_medium": "medium", "utm_content": "content",
            "utm_term": "term"}  # fmt: skip
_OF_PAGES = (
    "url",
    "path",
    "referrer",
    "search",
    "name",
    "category",
)  # page's properties that are no properties of ours
OF_CONTEXT = ("page", "campaign", "screen", "os", "locale", "ip", "userAgent")  # what is read of a batch's own
_TIMES = ("timestamp", "originalTimestamp", "sentAt")  # of a message, the first that is one; else it is its arrival
SEGMENT_COM_NAMES = {"site_id": "writeKey", "event_type": "event", "user_id": "userId", "event_id": "messageId"}
DEFAULT_CURRENCY = "USD"  # as Segment's specification says of `revenue`
_BROWSERS = ("Mozilla/", "Opera/")  # how their user agents begin; a library's does not


@dataclass(frozen=True, slots=True)
class SegmentHit:
    """`context`: what all messages have in common. `sent_at`: by the clock that their timestamps are of."""

    write_key: str
    messages: Sequence[object]
    context: Mapping[str, Any]
    sent_at: datetime | None


def read_segment(body: object, kind: str | None = None) -> SegmentHit:
    """`kind`: what the path says of the one message; None where the body is a batch. Raises InvalidEvent."""
    if not isinstance(body, dict):
        raise InvalidEvent({"body": ["Not a JSON object."]})
    messages = [body | {"type": kind}] if kind else body.get("batch")
    if not isinstance(messages, list):
        raise InvalidEvent({"batch": ["Not a list of messages."]})
    sent_at = moment(body.get("sentAt"))
    if sent_at is None:  # they were sent together, but a queue may have stamped them one by one
        sent_at = max((at for message in messages if (at := moment(_in(message, "sentAt")))), default=None)
    context = {} if kind else _object(body.get("context"))
    common = {name: context[name] for name in OF_CONTEXT if name in context}  # copied for each message
    return SegmentHit(write_key_in(body.get("writeKey")), messages, common, sent_at)


def write_key_in(given: object) -> str:
    """Where a client says one; "" for none. No longer than a site_id, which it may be."""
    return text(given, 128) or ""


def translate(message: object, site_id: str, context: Mapping[str, Any]) -> object:
    """One message: the JSON object that analytics/events/schema.py loads, a Drop, or an InvalidEvent."""
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
    """What of a hit's sender tells of the visitor: of a browser all; of a phone's app, whose library has a user agent
    of its own, the address; of a server nothing.
    """
    if sender.user_agent.startswith(_BROWSERS):
        return sender
    if any(_object(_object(_in(message, "context")).get("device")) for message in hit.messages):
        return Client(address=sender.address, languages=sender.languages)
    return Client()


def parameters_as_body(parameters: Mapping[str, str]) -> dict[str, Any]:
    """What a pixel's query says: a value may be JSON, and a name as `context.page.url` a way into it."""
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
        "language": (text(context.get("locale"), 35) or "").replace("_", "-"),  # as phones write it
        "screen": f"{width:.0f}x{height:.0f}" if _is_length(width) and _is_length(height) else None,
        "os": text(system.get("name"), 128),
        "os_version": text(system.get("version"), 128),
        "ip": address(context.get("ip")),
        "user_agent": text(context.get("userAgent"), 1024),
    }


def _revenue(event: object, properties: dict[str, Any]) -> dict[str, object] | None:
    """`total` and `value` are money earned with an order only; other events say by them what something would cost."""
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
