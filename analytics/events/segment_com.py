"""Translates messages of Segment, whose format RudderStack shares, into events. Pure. Hits and archives have them.

A message becomes an event, or a Drop, or an InvalidEvent.

Source: segment.com/docs/connections/spec, rudderstack.com/docs/api/http-api. `originalTimestamp` is RudderStack's name
for the time that its clients set. `timestamp` is the time that the user sets, and the only time that Segment's clients
send.
"""

from collections.abc import Mapping
from typing import Any

from analytics.events.coercion import (
    LONGEST_VALUE,
    address,
    id_of,
    moment,
    money,
    name_of,
    object_of,
    page,
    props,
    text,
    without_nothing,
)
from analytics.events.drop import Drop
from analytics.events.schema import InvalidEvent

CALLS = ("track", "page", "screen", "identify", "group", "alias")
CALLS_ABOUT_PERSONS = ("identify", "group", "alias")  # they describe a person, not what the person did
CAMPAIGN = {"utm_campaign": "name", "utm_source": "source", "utm_medium": "medium", "utm_content": "content",
            "utm_term": "term"}  # fmt: skip
_OF_PAGES = ("url", "path", "referrer", "search", "name", "category")  # of page; they are no event properties
# The first valid time of a message counts. Without one it is the time of arrival.
_TIMES = ("timestamp", "originalTimestamp", "sentAt")
DEFAULT_CURRENCY = "USD"  # the default for `revenue` in Segment's specification


def translate(message: object, site_id: str, context: Mapping[str, Any], *, assigns_visits: bool = False) -> object:
    """Returns the JSON object that analytics/events/schema.py loads, or a Drop, or an InvalidEvent.

    If the site assigns visits, a message with only an anonymousId is anonymous, and `identify` and `alias` are
    sign-ins.
    """
    if not isinstance(message, dict):
        return InvalidEvent({"body": ["Not a JSON object."]}, site_id=site_id)
    kind = message.get("type")
    user_id = id_of(message.get("userId"), 256)
    is_sign_in = assigns_visits and kind in ("identify", "alias") and bool(user_id)
    if kind in CALLS_ABOUT_PERSONS and not is_sign_in:
        return Drop(str(kind), site_id)
    if kind not in CALLS:
        return InvalidEvent({"type": [f"Not one of {', '.join(CALLS)}."]}, site_id=site_id)
    context = {**context, **object_of(message.get("context"))}
    properties = object_of(message.get("properties"))
    at = moment(*(message.get(name) for name in _TIMES))
    event = _described(context) | {
        "site_id": site_id,
        "event_id": id_of(message.get("messageId"), 100),
        "user_id": user_id or (None if assigns_visits else id_of(message.get("anonymousId"), 256)),
        "timestamp": at.isoformat() if at else None,
    }
    if is_sign_in:
        event |= _page_of(context, {}) | {"event_type": "identify", "interactive": False}
    elif kind == "track":
        event |= _track(message, properties, context)
    else:
        event |= _page(message, properties, context, str(kind))
    return without_nothing(event)


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
    title = properties.get("title") or text(object_of(context.get("page")).get("title"), LONGEST_VALUE)
    said = {key: value for key, value in properties.items() if key not in _OF_PAGES}
    return where | {
        "event_type": "pageview",
        "props": props({"name": name, "category": category, "title": title}, said),
    }


def _page_of(context: Mapping[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
    there = object_of(context.get("page"))
    said = [properties, there]
    where = next(filter(None, (page(source.get(key)) for key in ("url", "path") for source in said)), {})
    referrer = next(filter(None, (text(source.get("referrer"), 2048) for source in said)), None)
    return where | {"referrer": referrer}


def _described(context: Mapping[str, Any]) -> dict[str, Any]:
    campaign, screen, system = (object_of(context.get(name)) for name in ("campaign", "screen", "os"))
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


def _is_length(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 100_000
