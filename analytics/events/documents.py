"""An event as a document of MongoDB: writes it as BSON, and reads it. Pure. https://bsonspec.org defines the format.

The texts and times that most events have are written here, because the driver takes twice as long. The other fields are
encoded by the driver. Callers of DocumentWriter must handle UNSENDABLE.
"""

from collections.abc import Mapping
from datetime import datetime
from operator import attrgetter
from struct import Struct
from typing import Any, TypeVar
from uuid import UUID

import bson
from bson import Decimal128, UuidRepresentation
from bson.codec_options import CodecOptions
from bson.errors import BSONError, InvalidDocument

from analytics.events.arrival import arrival_of, id_of
from analytics.events.event import DESCRIBED, Event, Revenue
from analytics.events.stored_props import as_sent, stored_form
from analytics.interval import as_ms

# What an event raises that BSON or MongoDB cannot hold: an int over 64 bits, half a surrogate pair, NUL in a key, a
# document over 16 MB.
UNSENDABLE = (BSONError, OverflowError, ValueError)
LARGEST_DOCUMENT = 16 * 2**20  # bytes, MongoDB's limit

_RARE = ("sequence", "exported_id", "import_id", "engagement_time", "scroll_depth", "revenue", "props")
_rare_of = attrgetter(*_RARE)
_NO_RARE = (None,) * len(_RARE)
_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)

_size, _time = Struct("<i").pack, Struct("<q").pack
_HEAD = b"\5_id\0\x10\0\0\0\4%b\2entry_id\0%b%b\0%b%b\x09timestamp\0%b\x09received_at\0%b%b"
_REPEATED = ("site_id", "event_type", "hostname", "path", *DESCRIBED)  # several events of a batch have the same text

T = TypeVar("T")


def _text(name: bytes, value: str) -> bytes:
    raw = value.encode()
    return b"\2%b\0%b%b\0" % (name, _size(len(raw) + 1), raw)


class _Texts(dict[str, bytes]):
    """The elements of one name by their value."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name.encode()

    def __missing__(self, value: str) -> bytes:
        found = self[value] = _text(self._name, value)
        return found


class DocumentWriter:
    """Writes the documents of one batch, and remembers the texts that events have in common."""

    def __init__(self, created_at: datetime) -> None:
        self._created_at = b"\x09created_at\0" + _time(as_ms(created_at))
        self._texts = {name: _Texts(name) for name in _REPEATED}

    def write(self, entry_id: str, event: Event) -> bytes:
        """Return the document. Raises UNSENDABLE."""
        texts = self._texts
        document = _HEAD % (
            event.id.bytes,
            _size(len(entry_id) + 1),  # an entry's id is ASCII
            entry_id.encode(),
            texts["site_id"][event.site_id],
            texts["event_type"][event.event_type],
            _time(as_ms(event.occurred_at)),
            _time(as_ms(event.received_at)),
            self._created_at,
        )
        if event.hostname is not None:
            document += texts["hostname"][event.hostname]
        if event.path is not None:
            document += texts["path"][event.path]
        if event.user_id is not None:
            document += _text(b"user_id", event.user_id)
        if event.visitor_id is not None:
            document += _text(b"visitor_id", event.visitor_id)
        if event.described:
            document += b"".join([texts[name][value] for name, value in event.described.items()])
        rare = _rare_of(event)
        if rare != _NO_RARE or event.clamped or not event.interactive:
            document += _encoded_rare(event, rare)
        if len(document) + 5 > LARGEST_DOCUMENT:
            raise InvalidDocument(f"{len(document)} bytes, more than {LARGEST_DOCUMENT}")
        return b"%b%b\0" % (_size(len(document) + 5), document)


def _encoded_rare(event: Event, values: tuple[Any, ...]) -> bytes:
    """The elements of the fields that few events have."""
    found: dict[str, Any] = {name: value for name, value in zip(_RARE, values, strict=True) if value is not None}
    if event.revenue:
        found["revenue"] = {"amount": Decimal128(event.revenue.amount), "currency": event.revenue.currency}
    if event.props is not None:
        found["props"] = stored_form(event.props)
    if not event.interactive:
        found["interactive"] = False
    if event.clamped:
        found["clamped"] = True
    return bson.encode(found, codec_options=_OPTIONS)[4:-1]


def event_of(document: Mapping[str, Any]) -> Event:
    """Return the event of a document. A value of another type than a worker writes counts as missing."""
    moment = document["timestamp"]
    described = {name: text for name in DESCRIBED if (text := _of_type(document, name, str))}
    return Event(
        id=id_of(document["_id"]),
        site_id=document["site_id"],
        event_type=_of_type(document, "event_type", str) or "",
        occurred_at=moment,
        received_at=_of_type(document, "received_at", datetime) or moment,
        hostname=_of_type(document, "hostname", str),
        path=_of_type(document, "path", str),
        user_id=_of_type(document, "user_id", str),
        visitor_id=_of_type(document, "visitor_id", str),
        described=described or None,
        interactive=_of_type(document, "interactive", bool) is not False,
        engagement_time=_of_type(document, "engagement_time", int),
        scroll_depth=_of_type(document, "scroll_depth", int),
        revenue=_read_revenue(document.get("revenue")),
        props=as_sent(document.get("props")),
        clamped=_of_type(document, "clamped", bool) is True,
        sequence=arrival_of(document),
        exported_id=_of_type(document, "exported_id", UUID),
    )


def _of_type(document: Mapping[str, Any], name: str, kind: type[T]) -> T | None:
    value = document.get(name)
    if isinstance(value, bool) and kind is int:
        return None
    return value if isinstance(value, kind) else None


def _read_revenue(value: object) -> Revenue | None:
    match value:
        case {"amount": Decimal128() as amount, "currency": str(currency)} if amount.to_decimal().is_finite():
            return Revenue(amount.to_decimal(), currency)
    return None
