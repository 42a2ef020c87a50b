"""Translates the JSON of Umami's collect API into events. Pure.

Callers must handle InvalidEvent. It has Umami's field names.

Source: docs.umami.is/docs/api/sending-stats. Umami's script, @umami/node and umami-analytics send this format.
"""

from dataclasses import dataclass
from typing import Any

from analytics.events.coercion import (
    NO_TEXT,
    NOT_BLANK,
    address,
    forwarded,
    id_of,
    moment_of_seconds,
    money,
    page,
    props,
    text,
    without_nothing,
)
from analytics.events.schema import InvalidEvent
from analytics.json_schema import ANYTHING, TEXT, an_object, any_of, just, loosely, one_of
from analytics.json_schema import text as json_text

LONGEST_NAME = 50
UMAMI_TYPES = ("event", "identify", "performance")
UMAMI_NAMES = {
    "site_id": "payload.website",
    "event_type": "payload.name",
    "user_id": "payload.id",
    "timestamp": "payload.timestamp",
}
_DEVICES = {"desktop": "Desktop", "laptop": "Desktop", "mobile": "Mobile", "tablet": "Tablet"}

WEBSITE_EXAMPLE = "b59e9c65-ae32-47f1-8400-119fcf4861c4"
_TEXTS = ("url", "hostname", "title", "referrer", "language", "screen", "tag", "id", "ip", "userAgent")
UMAMI_BODY = an_object(
    {
        "payload": an_object(
            {"website": json_text(pattern=NOT_BLANK, examples=[WEBSITE_EXAMPLE])},
            {
                "name": loosely(TEXT),
                "data": loosely({"type": "object"}),
                "timestamp": ANYTHING | {"description": "Unix time in seconds"},
                **dict.fromkeys(_TEXTS, loosely(TEXT)),
            },
        ),
    },
    {"type": one_of(*UMAMI_TYPES) | {"default": "event"}},
    anyOf=[
        {"required": ["type"], "properties": {"type": {"not": just("event")}}},
        {"properties": {"payload": {"properties": {"name": any_of(json_text(longest=LONGEST_NAME), NO_TEXT)}}}},
    ],
)


@dataclass(frozen=True, slots=True)
class UmamiEvent:
    """One event, or the reason to drop it. `event`: the JSON object that analytics/events/schema.py loads, without its
    site_id. None if there is a `reason`.
    """

    website: str
    event: dict[str, Any] | None
    reason: str = ""


def read_umami(body: object, forwarded_for: str = "") -> UmamiEvent:
    """Translates one event.

    `forwarded_for`: X-Forwarded-For, in which a relay names the visitor. Raises InvalidEvent.
    """
    if not isinstance(body, dict):
        raise InvalidEvent({"body": ["Not a JSON object."]})
    kind, payload = body.get("type", "event"), body.get("payload")
    if kind not in UMAMI_TYPES:
        raise InvalidEvent({"type": [f"Not one of {', '.join(UMAMI_TYPES)}."]})
    if not isinstance(payload, dict):
        raise InvalidEvent({"payload": ["Not a JSON object."]})
    website = next(filter(None, (text(payload.get(name), 128) for name in ("website", "link", "pixel"))), None)
    if not website:
        raise InvalidEvent({"payload.website": ["Missing data for required field."]})
    if kind != "event":
        return UmamiEvent(website, None, kind)
    return UmamiEvent(website, _event(payload, forwarded_for))


def _event(payload: dict[str, Any], forwarded_for: str) -> dict[str, Any]:
    name = text(payload.get("name"), 2**20) or "pageview"
    if len(name) > LONGEST_NAME:
        raise InvalidEvent({"payload.name": [f"Longer than {LONGEST_NAME} characters."]})
    at = moment_of_seconds(payload.get("timestamp"))
    data = payload["data"] if isinstance(payload.get("data"), dict) else {}
    revenue = money(data.get("revenue"), data.get("currency"))
    said = {key: value for key, value in data.items() if not (revenue and key in ("revenue", "currency"))}
    event = page(payload.get("url"), payload.get("hostname")) | {
        "event_type": name,
        "hostname": text(payload.get("hostname"), 253),
        "user_id": id_of(payload.get("id"), 256),
        "timestamp": at.isoformat() if at else None,
        "referrer": text(payload.get("referrer"), 2048),
        "language": text(payload.get("language"), 35),
        "screen": text(payload.get("screen"), 11),
        "browser": text(payload.get("browser"), 128),
        "os": text(payload.get("os"), 128),
        "device": _DEVICES.get(str(payload.get("device"))),
        "revenue": revenue,
        "props": props({"title": payload.get("title"), "tag": payload.get("tag")}, said),
        "ip": address(payload.get("ip")) or forwarded(forwarded_for),
        "user_agent": text(payload.get("userAgent"), 1024),
    }
    return without_nothing(event)
