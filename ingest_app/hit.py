"""The hit: one HTTP request, read from Flask's request into what the collector admits.

Callers must handle InvalidEvent (the body does not have the declared format), RequestEntityTooLarge (413), NotSpoken
(415: the Content-Encoding is not supported) and ClientDisconnected (the body is incomplete).
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any

from flask import current_app, request
from msgspec import Struct, field
from werkzeug.datastructures import EnvironHeaders
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from analytics.addresses import plain_address
from analytics.event_loop import may_wait
from analytics.events.schema import (
    NOT_DECODED,
    InvalidEvent,
    decode_sent,
    decode_several,
    load_moment,
    read_event_json,
)
from analytics.json_input import without_half_pairs
from analytics.visitors.client import Client
from config.bearer import bearer
from config.metrics import REPLACED_SURROGATES
from ingest_app.cdn_headers import read_place
from ingest_app.encodings import PIECE, inflate
from web.commits import COMMITS

BATCH_BYTES = 5_000_000  # the largest body of a route that takes several events, also after inflation
MOST_EVENTS = 5000  # per hit
MOST_ON_LOOP = 10  # events of a hit. Rejecting so many takes 2 ms, and 16 KB may have 5,000 that are invalid.
MOST_LOOK_UPS = 100  # sites per hit: the look-up of a site that is not cached takes a round trip
_NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")

_IN_PIECES = frozenset(("HTTP_CONTENT_ENCODING", "HTTP_TRANSFER_ENCODING"))

# Keys of a request's environ.
SENDER, BODY_BYTES, CHARGED = "footfall.sender", "footfall.body_bytes", "footfall.charged"
PLACE_HEADERS = "footfall.place_headers"  # the names of the headers that PLACE_HEADERS chooses

Environ = dict[str, Any]

OPTED_OUT = "footfall_optout=1"  # the cookie
LONGEST_USER_AGENT, LONGEST_LANGUAGES = 1024, 256  # characters; the rest carries no information


class Hit(Struct, frozen=True, gc=False):
    """One hit. `bodies`: its events. Each is a Sent or the JSON object that analytics/events/schema.py loads, or the
    InvalidEvent that reading it raised, or the Drop that was decided for it.

    `sent_at`: when the client sent the hit, by the clock of its events' timestamps. `origin`: the page that sent it.
    `has_dnt_or_gpc`: the client sent one of these headers. `opted_out`: the visitor has opted out everywhere. `key`:
    the bearer token of the header Authorization. `sender`: the name of the sending address in the limits, "" if it has
    none. `size`: bytes of the inflated body. `is_foreign`: another system's client built the hit, and it cannot send
    less. `charged`: the limits that were charged for it, which a hit that is handled again pays only once. `commits`:
    see web/commits.py.
    """

    client: Client
    bodies: Sequence[object]
    sent_at: datetime | None = None
    origin: str | None = None
    has_dnt_or_gpc: bool = False
    opted_out: bool = False
    key: str = ""
    sender: str = ""
    size: int = 0
    is_foreign: bool = False
    charged: set[str] = field(default_factory=set)
    commits: list[Future[None]] | None = None


def read_hit(
    environ: Environ, bodies: Sequence[object], sent_at: datetime | None = None, *, is_foreign: bool = False
) -> Hit:
    """Returns the hit: the events, and what the headers of the request say."""
    get = environ.get
    names = get(PLACE_HEADERS)
    client = Client(
        address=plain_address(get("REMOTE_ADDR", "")),
        user_agent=get("HTTP_USER_AGENT", "")[:LONGEST_USER_AGENT],
        languages=get("HTTP_ACCEPT_LANGUAGE", "")[:LONGEST_LANGUAGES],
        place=read_place(EnvironHeaders(environ), names) if names else (),
    )
    return Hit(
        client,
        bodies,
        sent_at,
        origin=get("HTTP_ORIGIN"),
        has_dnt_or_gpc=get("HTTP_DNT") == "1" or get("HTTP_SEC_GPC") == "1",
        opted_out=OPTED_OUT in get("HTTP_COOKIE", ""),
        key=bearer(get("HTTP_AUTHORIZATION", "")),
        sender=get(SENDER, ""),
        size=get(BODY_BYTES, 0),
        is_foreign=is_foreign,
        charged=environ.setdefault(CHARGED, set()),
        commits=get(COMMITS),
    )


def sender_and_size(environ: Mapping[str, Any]) -> tuple[str, int]:
    """`sender` and `size` of the request, as in Hit. They are known also if the body cannot be read."""
    return environ.get(SENDER, ""), environ.get(BODY_BYTES, 0)


def read_json(raw: bytes) -> Any:
    """Parses JSON. Replaces and counts each unpaired surrogate. Raises InvalidEvent."""
    return read_event_json(_without_half_pairs(raw))


def read_event(raw: bytes) -> Any:
    """As read_json, but a usual event becomes a Sent, in a fifth of the time."""
    whole = _without_half_pairs(raw)
    try:
        return decode_sent(whole)
    except NOT_DECODED:
        return read_event_json(whole)


def read_bytes(most: int | None = None) -> bytes:
    """The inflated body of the current request. `most`: bytes, by default the app's limit for a single event.

    Raises RequestEntityTooLarge, NotSpoken, InvalidEvent and ClientDisconnected.
    """
    if most is None:
        most = current_app.config["MAX_CONTENT_LENGTH"] or BATCH_BYTES
    environ = request.environ
    length = environ.get("CONTENT_LENGTH", "")
    if length.isdecimal() and int(length) <= min(most, PIECE) and _IN_PIECES.isdisjoint(environ):
        return read_declared(environ, int(length))  # the same result, without the 20 µs of counting pieces
    return b"".join(_pieces(most))


def read_declared(environ: Environ, length: int) -> bytes:
    """A body that is not compressed and has `length` bytes. Raises ClientDisconnected."""
    body: bytes = environ["wsgi.input"].read(length)
    environ[BODY_BYTES] = len(body)
    if len(body) < length:
        raise ClientDisconnected
    return body


def read_batch(most: int = BATCH_BYTES) -> tuple[Sequence[object], datetime | None]:
    """The events of a body that holds several, and the body's `sent_at`. `most`: bytes.

    The body is a JSON array, `{"events": [...], "sent_at": ...}`, or NDJSON. Raises InvalidEvent, and what read_bytes
    raises.
    """
    if request.mimetype in _NDJSON:
        return list(_lines(most)), None
    raw = _without_half_pairs(read_bytes(most))
    events: object
    try:
        events, sent_at = decode_several(raw)
    except NOT_DECODED:
        body = read_event_json(raw)
        events, sent_at = (body.get("events"), body.get("sent_at")) if isinstance(body, dict) else (body, None)
    return checked_events(events), load_moment("sent_at", sent_at)


def checked_events(events: object, name: str = "events") -> Sequence[object]:
    """Returns `events`. `name`: the body's name for them. Raises InvalidEvent if it is not a list, or is too long."""
    if not isinstance(events, list):
        raise InvalidEvent({name: ["Not a list of events."]})
    if len(events) > MOST_EVENTS:
        raise _too_many(name)
    return events


def _lines(most: int) -> Iterator[object]:
    """Yields for each line of an NDJSON body the event or its InvalidEvent. Empty lines are skipped."""
    count = 0
    for line in _split(_pieces(most)):
        if not line.strip():
            continue
        count += 1
        if count > MOST_ON_LOOP:
            may_wait()
        if count > MOST_EVENTS:
            raise _too_many("events")
        try:
            yield read_event(line)
        except InvalidEvent as error:
            yield error


def _split(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Splits pieces into lines. A line may come in thousands of pieces, so it is joined only once, at its end."""
    line: list[bytes] = []
    for piece in pieces:
        end, *others = piece.split(b"\n")
        line.append(end)
        if others:
            yield b"".join(line)
            yield from others[:-1]
            line = others[-1:]
    yield b"".join(line)


def _without_half_pairs(raw: bytes) -> bytes:
    whole, halves = without_half_pairs(raw)
    if halves:
        REPLACED_SURROGATES.inc(halves)
    return whole


def _too_many(name: str) -> InvalidEvent:
    return InvalidEvent({name: [f"More than {MOST_EVENTS} events. Send them in several requests."]}, "too_many_events")


def too_many_sites() -> InvalidEvent:
    return InvalidEvent(
        {"site_id": [f"The request has events of more than {MOST_LOOK_UPS} sites. Send them in several requests."]},
        "too_many_sites",
    )


def _pieces(most: int) -> Iterator[bytes]:
    came = 0
    for piece in inflate(_received(most), request.headers.get("Content-Encoding", "")):
        came += len(piece)
        request.environ[BODY_BYTES] = came
        if came > most:
            raise RequestEntityTooLarge
        yield piece


def _received(most: int) -> Iterator[bytes]:
    """The received body, piece by piece. A chunked body does not declare its length."""
    request.max_content_length = most + 1  # werkzeug raises if the stream has more bytes than this
    came = 0
    while piece := request.stream.read(PIECE):
        came += len(piece)
        if came > most:
            raise RequestEntityTooLarge
        yield piece
    if came < (request.content_length or 0):
        raise ClientDisconnected  # half a body must not count, because the client sends it again
