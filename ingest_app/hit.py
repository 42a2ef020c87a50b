"""The hit: one HTTP arrival, read from Flask's request into what the collector admits.

In: the request. Out: its body, and who sent it. Wrong can go: a body that is too large is a 413, one that is compressed
in a way that we do not know a 415, one that is not what it says it is an InvalidEvent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import current_app, request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from analytics.addresses import plain_address
from analytics.events.schema import InvalidEvent, load_moment, without_half_pairs
from analytics.events.schema import read_json as read_plain_json
from analytics.visitors.client import Client
from config.metrics import REPLACED_SURROGATES
from ingest_app.cdn_headers import read_place
from ingest_app.encodings import PIECE, inflate

BATCH_BYTES = 5_000_000  # the largest body of a route that takes several events, inflated too
MOST_EVENTS = 5000  # a hit
MOST_LOOK_UPS = 100  # sites that a hit's events may be of: to look up one that nobody remembers is a round trip
_NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")

SENDER, BODY_BYTES = "footfall.sender", "footfall.body_bytes"  # in a request's environ

OPTED_OUT = "footfall_optout=1"  # the cookie
LONGEST_USER_AGENT, LONGEST_LANGUAGES = 1024, 256  # characters; the rest tells nobody anything


@dataclass(frozen=True, slots=True)
class Hit:
    """`bodies`: its events, each the JSON object that analytics/events/schema.py loads, or the InvalidEvent that
    reading it gave, or the Drop that it came to.

    `sent_at`: when the client says that it sent the hit, by the clock that its events' timestamps are of. `origin`: the
    page that sent it; `refuses`: it said DNT or GPC; `opted_out`: its visitor wants to be counted nowhere; `key`: what
    came as `Authorization: Bearer`. `sender`: what the address that sent it is called in the limits, "" where it has
    none; `size`: bytes of its body, inflated. `is_foreign`: another system's client built it, which cannot send less.
    """

    client: Client
    bodies: Sequence[object]
    sent_at: datetime | None = None
    origin: str | None = None
    refuses: bool = False
    opted_out: bool = False
    key: str = ""
    sender: str = ""
    size: int = 0
    is_foreign: bool = False


def read_hit(bodies: Sequence[object], sent_at: datetime | None = None, *, is_foreign: bool = False) -> Hit:
    """What this request's headers say, around what its body held."""
    said = request.environ.get  # request.headers takes 2 µs for each header that is not there
    names = current_app.config["PLACE_HEADERS"]
    client = Client(
        address=plain_address(said("REMOTE_ADDR", "")),
        user_agent=said("HTTP_USER_AGENT", "")[:LONGEST_USER_AGENT],
        languages=said("HTTP_ACCEPT_LANGUAGE", "")[:LONGEST_LANGUAGES],
        place=read_place(request.headers, names) if names else (),
    )
    kind, _, key = said("HTTP_AUTHORIZATION", "").partition(" ")
    return Hit(
        client,
        bodies,
        sent_at,
        origin=said("HTTP_ORIGIN"),
        refuses=said("HTTP_DNT") == "1" or said("HTTP_SEC_GPC") == "1",
        opted_out=OPTED_OUT in said("HTTP_COOKIE", ""),
        key=key.strip() if kind.lower() == "bearer" else "",
        sender=said(SENDER, ""),
        size=said(BODY_BYTES, 0),
        is_foreign=is_foreign,
    )


def sender_and_size() -> tuple[str, int]:
    """Of this request, as in Hit, also if its body cannot be read."""
    return request.environ.get(SENDER, ""), request.environ.get(BODY_BYTES, 0)


def read_json(raw: bytes) -> Any:
    """Half of a surrogate pair is replaced and counted. Raises InvalidEvent."""
    whole, halves = without_half_pairs(raw)
    if halves:
        REPLACED_SURROGATES.inc(halves)
    return read_plain_json(whole)


def read_bytes(most: int | None = None) -> bytes:
    """This request's body, inflated. `most`: bytes; the app's limit for a single event where nothing is said."""
    if most is None:
        most = request.max_content_length or BATCH_BYTES
    length = request.content_length
    if length is None or length > min(most, PIECE) or "HTTP_CONTENT_ENCODING" in request.environ:
        return b"".join(_pieces(most))
    body: bytes = request.environ["wsgi.input"].read(length)  # as above, without 20 µs of counting pieces
    request.environ[BODY_BYTES] = len(body)
    if len(body) < length:
        raise ClientDisconnected
    return body


def read_batch(most: int = BATCH_BYTES) -> tuple[Sequence[object], datetime | None]:
    """The events of a body that holds several, and when it says that it was sent: a JSON array, `{"events": [...],
    "sent_at": ...}`, or NDJSON. `most`: bytes. Raises InvalidEvent.
    """
    if request.mimetype in _NDJSON:
        return list(_lines(most)), None
    body = read_json(read_bytes(most))
    if not isinstance(body, dict):
        return checked_events(body), None
    return checked_events(body.get("events")), load_moment("sent_at", body.get("sent_at"))


def checked_events(events: object, name: str = "events") -> Sequence[object]:
    """A list of events that is not too long, or InvalidEvent. `name`: what the body calls it."""
    if not isinstance(events, list):
        raise InvalidEvent({name: ["Not a list of events."]})
    if len(events) > MOST_EVENTS:
        raise _too_many(name)
    return events


def _lines(most: int) -> Iterator[object]:
    """Each line of an NDJSON body is an event, or the InvalidEvent that it gave; empty lines are none."""
    count = 0
    for line in _split(_pieces(most)):
        if not line.strip():
            continue
        count += 1
        if count > MOST_EVENTS:
            raise _too_many("events")
        try:
            yield read_json(line)
        except InvalidEvent as error:
            yield error


def _split(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """A line may come in thousands of pieces, so none is joined before its end is there."""
    line: list[bytes] = []
    for piece in pieces:
        end, *others = piece.split(b"\n")
        line.append(end)
        if others:
            yield b"".join(line)
            yield from others[:-1]
            line = others[-1:]
    yield b"".join(line)


def _too_many(name: str) -> InvalidEvent:
    return InvalidEvent({name: [f"More than {MOST_EVENTS} events."]}, "too_many_events")


def too_many_sites() -> InvalidEvent:
    return InvalidEvent({"site_id": [f"Of more than {MOST_LOOK_UPS} sites in a hit."]}, "too_many_sites")


def _pieces(most: int) -> Iterator[bytes]:
    came = 0
    for piece in inflate(_received(most), request.headers.get("Content-Encoding", "")):
        came += len(piece)
        request.environ[BODY_BYTES] = came
        if came > most:
            raise RequestEntityTooLarge
        yield piece


def _received(most: int) -> Iterator[bytes]:
    """What comes over the wire, piece by piece: a chunked body says nowhere how much it will be."""
    request.max_content_length = most + 1  # werkzeug says no to whoever asks whether there is more than that
    came = 0
    while piece := request.stream.read(PIECE):
        came += len(piece)
        if came > most:
            raise RequestEntityTooLarge
        yield piece
    if came < (request.content_length or 0):
        raise ClientDisconnected  # half of it must not count: whoever sent it will do so again
