"""The hit: one HTTP arrival, read from Flask's request into what the door admits.

In: the request. Out: its body, and who sent it. Wrong can go: a body that is too large is a 413.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

from analytics.client import Client


@dataclass(frozen=True, slots=True)
class Hit:
    """`bodies`: its events, each the JSON object that event_schema.py loads, or the InvalidEvent that reading it gave.

    `sent_at`: when the client says that it sent the hit, by the clock that its events' timestamps are of. `origin`: the
    page that sent it, `refuses`: it said DNT or GPC; `key`: what came as `Authorization: Bearer`.
    """

    client: Client
    bodies: Sequence[object]
    sent_at: datetime | None = None
    origin: str | None = None
    refuses: bool = False
    key: str = ""


def read_hit(bodies: Sequence[object], sent_at: datetime | None = None) -> Hit:
    """What this request's headers say, around what its body held."""
    client = Client(
        address=request.remote_addr or "",
        user_agent=request.headers.get("User-Agent", ""),
        languages=request.headers.get("Accept-Language", ""),
    )
    kind, _, key = request.headers.get("Authorization", "").partition(" ")
    return Hit(
        client,
        bodies,
        sent_at,
        origin=request.headers.get("Origin"),
        refuses=request.headers.get("DNT") == "1" or request.headers.get("Sec-GPC") == "1",
        key=key.strip() if kind.lower() == "bearer" else "",
    )


def read_bytes() -> bytes:
    """This request's body."""
    body = request.get_data(cache=False)
    if request.content_length is None and len(body) >= (request.max_content_length or math.inf):
        raise RequestEntityTooLarge  # a chunked body, which werkzeug cuts at the limit
    return body
