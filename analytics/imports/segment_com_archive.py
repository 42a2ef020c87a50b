"""Messages of Segment or RudderStack as JSON, one on each line: what their archives and warehouses hold. Pure.

A message gives the event that it gives if a client sends it now (analytics/events/segment_com.py), under the same id.
So a message that Footfall has already is a duplicate.
"""

from collections.abc import Iterator
from typing import Any

from analytics.events.drop import Drop
from analytics.events.schema import InvalidEvent
from analytics.events.segment_com import CALLS, translate
from analytics.imports.format import ImportFormat, SkippedRow, SourceEvent, rows_of
from analytics.imports.source import Head
from analytics.visitors.client import Client


def recognises(head: Head) -> bool:
    return head.item.get("type") in CALLS and bool({"messageId", "anonymousId", "userId"} & head.item.keys())


def translate_message(message: dict[str, Any]) -> Iterator[SourceEvent | SkippedRow]:
    found = translate(message, "", {})
    match found:
        case Drop(reason=reason):
            yield SkippedRow(reason)
        case InvalidEvent(fields=fields):
            yield SkippedRow(f"invalid_{next(iter(fields))}")
        case dict() if not found.get("event_id"):
            yield SkippedRow("no_message_id")
        case dict():
            client = Client(found.pop("ip", ""), found.pop("user_agent", ""))
            owner = message.get("writeKey") or message.get("projectId") or ""
            yield SourceEvent(found, client=client, owner=str(owner))


SEGMENT_COM_ARCHIVE = ImportFormat(
    name="segment",
    title="messages of Segment or RudderStack",
    mapping={
        "track": "an event of the type that event names",
        "page, screen": "pageview",
        "messageId": "event_id",
        "userId, else anonymousId": "user_id",
        "identify, group, alias": "not imported",
    },
    recognises=recognises,
    read=rows_of,
    translate=translate_message,
)
