"""PostHog's events as JSON, one on each line: a batch export. Pure.

Source: posthog.com/docs/data/events, posthog.com/docs/cdp/batch-exports. `properties` is an object, or JSON text.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from analytics.events.coercion import address, money, page, props, text, without_nothing
from analytics.imports.format import ImportFormat, SkippedRow, SourceEvent, described_place, in_utc, rows_of
from analytics.imports.source import Head
from analytics.visitors.client import Client

_PAGES = ("$pageview", "$screen")
_UTM = ("utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term")
_SYSTEMS = {"Mac OS X": "macOS"}
_NO_REFERRER = "$direct"


def recognises(head: Head) -> bool:
    names = head.item.keys() or head.columns
    return {"event", "distinct_id", "properties", "timestamp"} <= names


def translate(row: Mapping[str, Any]) -> Iterator[SourceEvent | SkippedRow]:
    name = str(row["event"])
    if name.startswith("$") and name not in _PAGES:
        yield SkippedRow("of_posthog_itself")
        return
    given = row["properties"]
    said: Mapping[str, Any] = msgspec.json.decode(given) if isinstance(given, str) else given or {}
    referrer = said.get("$referrer")
    event = _page(said) | {
        "event_type": "pageview" if name in _PAGES else text(name, 128),
        "event_id": f"posthog:{row['uuid']}",
        "timestamp": in_utc(str(row["timestamp"])),
        "referrer": text(referrer, 2048) if referrer != _NO_REFERRER else None,
        "revenue": money(said.get("revenue"), said.get("currency")),
        "props": props({"title": said.get("title")}, _own(said)),
        **_described(said),
    }
    client = Client(address(said.get("$ip")) or "", text(said.get("$raw_user_agent"), 1024) or "")
    person = row.get("person_id") or row["distinct_id"]
    owner = str(row.get("team_id") or "")
    yield SourceEvent(without_nothing(event), visitor=str(person), client=client, owner=owner)


def _page(said: Mapping[str, Any]) -> dict[str, str]:
    return page(said.get("$current_url")) or page(said.get("$pathname"), said.get("$host")) or _screen(said)


def _screen(said: Mapping[str, Any]) -> dict[str, str]:
    return page(said.get("$screen_name"))


def _own(said: Mapping[str, Any]) -> dict[str, Any]:
    """The properties that are not PostHog's, and that no field of an event holds."""
    held = (*_UTM, "title", "revenue", "currency", "token", "distinct_id", "gclid", "fbclid", "msclkid")
    return {name: value for name, value in said.items() if not name.startswith("$") and name not in held}


def _described(said: Mapping[str, Any]) -> dict[str, Any]:
    width, height = said.get("$screen_width"), said.get("$screen_height")
    system = text(said.get("$os"), 128)
    codes = (said.get(f"$geoip_{name}") for name in ("country_code", "subdivision_1_code", "city_name"))
    return {name: text(said.get(name), 255) for name in _UTM} | {
        "browser": text(said.get("$browser"), 128),
        "browser_version": _version(said.get("$browser_version")),
        "os": _SYSTEMS.get(system or "", system),
        "os_version": _version(said.get("$os_version")),
        "device": text(said.get("$device_type"), 128),
        "screen": text(f"{width}x{height}", 11) if isinstance(width, int) and isinstance(height, int) else None,
        "language": text(said.get("$browser_language"), 35),
        **described_place(*codes),
    }


def _version(value: object) -> str | None:
    return text(str(value), 128) if isinstance(value, str | int | float) else None


POSTHOG_EXPORT = ImportFormat(
    name="posthog",
    title="PostHog's events",
    mapping={
        "$pageview, $screen": "pageview",
        "an event of your own": "an event of that type",
        "person_id, else distinct_id": "visitor_id, hashed",
        "$current_url, $referrer, utm_...": "the page, referrer, utm_...",
        "$browser, $os, $device_type, $geoip": "the same, by our names",
        "properties of your own": "props",
        "$autocapture and other events with $": "not imported",
    },
    recognises=recognises,
    read=rows_of,
    translate=translate,
)
