"""The event: one thing that a visitor did. Pure: no clock, no store.

An event's id is what makes a retry harmless: the same (site_id, event_id) is always the same id, and so the same
document in MongoDB, however often and by whichever way it comes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid5

import uuid_utils.compat

Scalar = str | int | float | bool | None

# `pageview` and `page_view` are the same; `engagement` says more of a page; every other type is a custom event.
PAGEVIEW_TYPES = ("page_view", "pageview")

# What `described` may hold: where the visitor came from, with what, and where they are.
DESCRIBED = (
    "referrer", "source", "channel", "utm_medium", "utm_source", "utm_campaign", "utm_content", "utm_term",
    "device", "browser", "browser_version", "os", "os_version", "country", "region", "city", "language", "screen",
)  # fmt: skip

SURROGATE = re.compile("[\ud800-\udfff]")

# Never change it: ids of stored events are derived from it.
EVENT_IDS = UUID("6f1f1b0e-2f5c-5d0a-9c1e-0f00fa11c0de")


@dataclass(frozen=True, slots=True)
class Revenue:
    """`amount`: with three decimals; `currency`: an ISO 4217 code."""

    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Valid by construction: only analytics/events/schema.py makes one from outside data.

    `occurred_at` is the client's word, `received_at` ours; both aware UTC, whole milliseconds; `clamped` where the
    client's was in the future. `visitor_id`: who did it where no user_id says so; of one day
    (analytics/visitors/salts.py). `described`: those of DESCRIBED that are known, none of them empty; None for none.
    `interactive`: False where the visitor did nothing, so that a visit may still be a bounce. `engagement_time` (ms)
    and `scroll_depth` (%) are of the page.
    """

    id: UUID
    site_id: str
    event_type: str
    occurred_at: datetime
    received_at: datetime
    hostname: str | None = None
    path: str | None = None
    user_id: str | None = None
    visitor_id: str | None = None
    described: Mapping[str, str] | None = None
    interactive: bool = True
    engagement_time: int | None = None
    scroll_depth: int | None = None
    revenue: Revenue | None = None
    props: Mapping[str, Scalar] | None = None
    clamped: bool = False
    # What a worker derives the above from (analytics/enrichment/steps.py); never stored. `client`: who sent it, sealed.
    url: str | None = None
    client: str | None = None
    # Its place in the order of arrival (sequence_of), where that is not the place of the entry that stores it.
    sequence: str | None = None
    # Of an event that was exported and is imported again: the id by which it was exported.
    exported_id: UUID | None = None


def sequence_of(entry_id: str) -> str:
    """A journal entry's place in the order of arrival, as text that sorts: events with one timestamp are taken in this
    order. Redis numbers entries in the order in which it gets them, and a hit's events are appended in their order.
    """
    milliseconds, _, number = entry_id.partition("-")
    return f"{milliseconds.zfill(13)}-{number.zfill(6)}"


def storable(text: str) -> str:
    """JSON's \\ud800 makes half a surrogate pair, which no UTF-8 can hold; U+FFFD stands for it."""
    return text if text.isascii() else SURROGATE.sub("\ufffd", text)


def new_id() -> UUID:
    """A UUIDv7, for an event whose client gave no event_id: ordered by time, which keeps MongoDB's `_id` index warm."""
    return uuid_utils.compat.uuid7()


def id_from_client(site_id: str, event_id: str) -> UUID:
    """The id of what this site's client calls `event_id`. The length keeps ("ab","c") and ("a","bc") apart."""
    return uuid5(EVENT_IDS, f"{len(site_id)}:{site_id}{event_id}")


def id_from_export(site_id: str, exported: UUID) -> UUID:
    """The id of an exported event that is imported: the same each time, and never one that another site's event has,
    whichever id the import claims.
    """
    return uuid5(EVENT_IDS, f"export:{len(site_id)}:{site_id}{exported.hex}")


def id_from_entry(journal: str, entry_id: str) -> UUID:
    """The id of what somebody else wrote to the journal without one: the same at every delivery of that entry."""
    return uuid5(EVENT_IDS, f"entry:{journal}:{entry_id}")


def id_from_document(key: str) -> UUID:
    """The id of what somebody else wrote into MongoDB under a `_id` that is no UUID."""
    return uuid5(EVENT_IDS, f"document:{key}")
