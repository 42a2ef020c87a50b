"""The size of an event: the bytes of its JSON without `url` and `client`. Pure.

Neither of the two is stored. A worker derives the page, the campaign and the visitor's device from them.
"""

import json
from typing import Any

from msgspec.structs import replace

from analytics.events.event import Event
from analytics.events.schema import dump_event

# bytes, the limits of a site's setting; the schema accepts only events smaller than LARGEST
LEAST, LARGEST = 1024, 500_000
WIDEST = 6  # bytes of a character at most, as \u0001 in JSON
FRAME = 1500  # bytes around the texts at most: field names, numbers, punctuation
OF_A_NUMBER = 24  # characters


def event_bytes(event: Event) -> int:
    return len(dump_event(replace(event, url=None, client=None)))


def fits(event: Event, most: int) -> bool:
    """Whether the event has at most `most` bytes. For most events the number of characters decides. The other events
    are serialised, which takes 10 µs.
    """
    return WIDEST * characters(event) + FRAME <= most or event_bytes(event) <= most


def largest_field(event: Event) -> tuple[str, int]:
    """Return the field with the most bytes, such as `props.plan` for a property, and its bytes."""
    sizes = _sizes(event)
    name = max(sizes, key=lambda name: sizes[name])
    return name, sizes[name]


def trimmed(event: Event, most: int) -> Event | None:
    """Return the event without its largest properties, then without its largest descriptions, until it fits. Return
    None if that is not enough.
    """
    sizes = _sizes(event)
    props: dict[str, Any] = dict(event.props or {})
    described: dict[str, Any] = dict(event.described or {})
    excess = event_bytes(event) - most
    for name in sorted(sizes, key=lambda name: (name.startswith("props."), sizes[name]), reverse=True):
        if excess <= 0:
            break
        key = name.removeprefix("props.")
        parts: dict[str, Any] = props if key != name else described
        if key in parts:
            del parts[key]
            excess -= sizes[name]
    left = replace(event, props=props or None, described=described or None)
    return left if event_bytes(left) <= most else None


def _sizes(event: Event) -> dict[str, int]:
    """The JSON bytes of each field, including its name."""
    fields: dict[str, Any] = json.loads(dump_event(replace(event, url=None, client=None)))
    props = fields.pop("props", {})
    named = fields | {f"props.{name}": value for name, value in props.items()}
    return {
        name: len(f"{_json(name.removeprefix('props.'))}:{_json(value)},".encode()) for name, value in named.items()
    }


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def characters(event: Event) -> int:
    """The characters of the event's texts, which are nearly all of its size."""
    count = len(event.site_id) + len(event.event_type) + len(event.path or "") + len(event.hostname or "")
    count += len(event.user_id or "")
    if event.described:
        count += sum(map(len, event.described.values()))
    if event.props:
        count += sum(map(len, event.props))
        count += sum(len(value) if isinstance(value, str) else OF_A_NUMBER for value in event.props.values())
    return count
