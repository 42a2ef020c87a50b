"""The one schema for events, applied at the collector and again in the worker because any program may write to the
journal.

It loads parsed JSON or the bytes of a journal entry, and returns an `Event`. Callers must handle InvalidEvent, which
says what is wrong by field. Only this module knows the JSON names of events. Pure.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from operator import attrgetter
from types import GenericAlias
from typing import Annotated, Any
from uuid import UUID

import msgspec
from marshmallow import EXCLUDE, ValidationError, fields
from marshmallow.validate import Range
from msgspec.structs import replace

from analytics.events.event import (
    DESCRIBED,
    PACKED,
    Event,
    Revenue,
    id_from_client,
    id_from_export,
    new_id,
    unpacked,
)
from analytics.events.page_urls import PLAIN_URL, is_page_url
from analytics.interval import whole_milliseconds
from analytics.json_input import NotJson, read_json, without_half_pairs
from analytics.json_schema import INTEGER64, Json, an_object, any_of, text
from analytics.schema_fields import (
    CURRENCY,
    INT64,
    OPTIONAL,
    Code,
    FastSchema,
    Flag,
    Id,
    Moment,
    Text,
    Whole,
    is_encodable,
    normalized,
)

MOST_PROPS = 30
LONGEST_PROP, LONGEST_PROP_NAME = 2000, 300  # characters
MOST_MONEY = 10**12  # of an amount, exclusive
THOUSANDTH = Decimal("0.001")
_CURRENCY = re.compile(CURRENCY)
_AMOUNT = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
LONGEST_SEAL = 32_768  # characters; the longest user agent that the collector accepts, in emoji, takes 20,000
UNEXPLAINED = {"body": ["Not a valid event."]}
NOT_DECODED = (msgspec.DecodeError, UnicodeDecodeError, ValidationError, RecursionError)
LARGEST_ENTRY = 1_000_000  # bytes; any JSON of this size stays far below MongoDB's 16 MB


class InvalidEvent(Exception):
    """The caller's mistake. `fields` maps the name of each field to a list of sentences.

    `code` is `not_json` or `invalid_event`. `site_id` is the site of the event, "" if the site is unknown.
    """

    def __init__(self, fields: dict[str, list[str]], code: str = "invalid_event", site_id: str = "") -> None:
        super().__init__(described(fields))
        self.fields = fields
        self.code = code
        self.site_id = site_id


def described(fields: Mapping[str, Sequence[str]]) -> str:
    """What is wrong, in one line."""
    return "; ".join(f"{name}: {' '.join(errors)}" for name, errors in fields.items())


class Props(fields.Field[dict[str, Any]]):
    """An object of at most 30 scalar values. A text has up to 2,000 characters, and a name up to 300. A name may
    contain dots and dollar signs: MongoDB stores them since 5.0.
    """

    json_schema: Json = {
        "type": "object",
        "maxProperties": MOST_PROPS,
        "propertyNames": text(shortest=1, longest=LONGEST_PROP_NAME, pattern="^[^\\u0000]+$"),
        "additionalProperties": any_of(
            text(longest=LONGEST_PROP), INTEGER64 | {"type": "number"}, {"type": ["boolean", "null"]}
        ),
    }

    def deserialize(self, value: Any, attr: str | None = None, data: Any = None, **kwargs: Any) -> Any:
        if type(value) is dict and len(value) <= MOST_PROPS and not any(map(_fault_of_prop, value, value.values())):
            return value
        return super().deserialize(value, attr, data, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValidationError("Not an object.")
        if len(value) > MOST_PROPS:
            raise ValidationError(f"More than {MOST_PROPS} properties.")
        errors = [f"{key[:40]!r}: {error}" for key, item in value.items() if (error := _fault_of_prop(key, item))]
        if errors:
            raise ValidationError(errors)
        return value


class MoneyField(fields.Field[Revenue]):
    """{"amount", "currency"}, with the amount as a number or text. A float counts as it is written: 10.1 is exactly
    10.1.
    """

    _MOST = float(MOST_MONEY - THOUSANDTH)
    _DIGITS = len(str(MOST_MONEY)) - 1
    _AMOUNT = any_of(
        {"type": "number", "minimum": -_MOST, "maximum": _MOST},
        text(pattern=rf"^[+-]?[0-9]{{1,{_DIGITS}}}(\.[0-9]{{1,3}})?$"),
    )
    json_schema: Json = an_object({"amount": _AMOUNT, "currency": text(pattern=f"^{CURRENCY}$")})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Revenue:
        if not isinstance(value, dict):
            raise ValidationError("Not an object.")
        return Revenue(_amount(value.get("amount")), _currency(value.get("currency")))


class PageUrl(Text):
    """A page's URL, with its scheme or from the root of its site."""

    _PATH = "/[A-Za-z0-9._~%-]+"
    _SITE = r"https?://[a-z0-9]{1,60}(\.[a-z0-9]{1,60}){0,3}"
    json_schema: Json = {
        "pattern": rf"^({_SITE}({_PATH})*/?|({_PATH})+/?|/)(\?[A-Za-z0-9._~%=&-]*)?$",
        "description": "The URL of the page, with a scheme or from the root of the site. Other schemes are also "
        "accepted.",
    }
    default_error_messages = {
        "url": "Not a URL such as https://shop.example/pricing. Send a path without a host as `path`."
    }

    def deserialize(self, value: Any, attr: str | None = None, data: Any = None, **kwargs: Any) -> Any:
        if type(value) is str and len(value) in self.lengths and PLAIN_URL.fullmatch(value):
            return value
        return fields.String.deserialize(self, value, attr, data, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if not is_page_url(text):
            raise self.make_error("url")
        return text


class EventSchema(FastSchema):
    """The fields that a client may send for an event. Unknown fields are ignored without an error. null is the same as
    a missing field, and so is "" in the fields that describe the event.
    """

    class Meta:
        unknown = EXCLUDE

    site_id = Text(required=True, shortest=1, longest=128)
    event_type = Text(required=True, shortest=1, longest=128)
    hostname = Text(allow_none=True, longest=253)
    path = Text(allow_none=True, longest=2048)
    user_id = Text(allow_none=True, longest=256)
    timestamp = Moment(**OPTIONAL)
    event_id = Text(longest=100, **OPTIONAL)
    props = Props(allow_none=True)
    url: Text = PageUrl(longest=8192, **OPTIONAL)  # of the page; gives hostname, path and campaign

    interactive = Flag(**OPTIONAL)
    engagement_time = Whole(validate=Range(0, 86_400_000), **OPTIONAL)
    scroll_depth = Whole(validate=Range(0, 100), **OPTIONAL)
    revenue = MoneyField(**OPTIONAL)

    # DESCRIBED
    referrer = Text(allow_none=True, longest=2048)
    source = Text(allow_none=True, longest=255)  # often a utm_source
    channel = Text(allow_none=True, longest=128)
    utm_medium = Text(allow_none=True, longest=255)
    utm_source = Text(allow_none=True, longest=255)
    utm_campaign = Text(allow_none=True, longest=255)
    utm_content = Text(allow_none=True, longest=255)
    utm_term = Text(allow_none=True, longest=255)
    device = Text(allow_none=True, longest=128)
    browser = Text(allow_none=True, longest=128)
    browser_version = Text(allow_none=True, longest=128)
    os = Text(allow_none=True, longest=128)
    os_version = Text(allow_none=True, longest=128)
    country = Code("[A-Z]{2}", "US", **OPTIONAL)  # ISO 3166-1
    region = Code("[A-Z]{2}-[A-Z0-9]{1,3}", "US-CA", **OPTIONAL)  # ISO 3166-2
    city = Text(allow_none=True, longest=128)
    language = Text(allow_none=True, longest=35)  # BCP 47, but browsers also send other texts
    screen = Text(allow_none=True, longest=11)  # "1920x1080" or a class; a worker replaces a size by its class


class ExportedSchema(EventSchema):
    """EventSchema with the fields that an export adds and that a client cannot send."""

    id = Id(allow_none=True)
    received_at = Moment(allow_none=True)
    visitor_id = Text(longest=64, **OPTIONAL)
    clamped = Flag(**OPTIONAL)
    sequence = Code("[0-9]{13,20}-[0-9]{6,20}", "1763632801000-000003", **OPTIONAL)


class JournalSchema(ExportedSchema):
    """ExportedSchema with the fields that the collector adds. An entry of another program may lack all of them."""

    url = Text(longest=8192, **OPTIONAL)  # the collector has validated it
    exported_id = Id(allow_none=True)
    import_id = Text(longest=64, **OPTIONAL)
    client = Text(longest=LONGEST_SEAL, **OPTIONAL)


def _type_of(field: fields.Field[Any]) -> Any:
    """The type by which msgspec reads a field's usual values. It accepts no value that marshmallow rejects."""
    match field:
        case Id():
            return UUID
        case Flag():
            return bool
        case Text() if not isinstance(field, PageUrl):
            return Annotated[str, msgspec.Meta(min_length=field.lengths.start, max_length=field.lengths.stop - 1)]
        case Code():
            return Annotated[str, msgspec.Meta(pattern=f"^{field.form}\\Z")]
        case Whole():
            return Annotated[int, msgspec.Meta(ge=field.numbers.start, le=field.numbers.stop - 1)]
    return Any


_event_schema = EventSchema()
_exported_schema = ExportedSchema()
_journal_schema = JournalSchema()
_moment = Moment()


class Sent(msgspec.Struct, gc=False):
    """The fields that a client sent for an event, all of them valid. The collector reads `ip` and `user_agent`."""

    ip: str | None = None
    user_agent: str | None = None

    def get(self, name: str) -> Any:
        """Return a field, as of a body that is a dict."""
        return getattr(self, name)


def _struct(name: str, base: type[msgspec.Struct], schema: FastSchema) -> Any:
    """The class of what msgspec reads: the fields of `base` and of `schema`."""
    types = {name: _type_of(field) for name, field in schema.fields.items()}
    return msgspec.defstruct(
        name,
        [(name, kind) if schema.fields[name].required else (name, kind | None, None) for name, kind in types.items()],
        bases=(base,),
        forbid_unknown_fields=True,  # msgspec would not check that their text is UTF-8
        omit_defaults=True,  # encoded only to check the texts
        kw_only=True,
        gc=False,
    )


def _read_as_json(schema: FastSchema) -> list[tuple[str, Callable[[Any], Any]]]:
    """The fields that msgspec leaves as they are in JSON, and their readers."""
    return [(name, field.deserialize) for name, field in schema.fields.items() if _type_of(field) is Any]


_Entry, _Sent = _struct("_Entry", msgspec.Struct, _journal_schema), _struct("_Sent", Sent, _event_schema)
_Exported = _struct("_Exported", msgspec.Struct, _exported_schema)
_SENT_LIST: Any = GenericAlias(list, _Sent)
_Events: Any = msgspec.defstruct(
    "_Events", [("events", _SENT_LIST), ("sent_at", Any, None)], forbid_unknown_fields=True
)
_decoder, _sent_decoder = msgspec.json.Decoder(_Entry), msgspec.json.Decoder(_Sent)
_events_decoder = msgspec.json.Decoder(_SENT_LIST | _Events)
_journal_readers, _sent_readers = _read_as_json(_journal_schema), _read_as_json(_event_schema)
_exported_readers = _read_as_json(_exported_schema)
_described_of = attrgetter(*DESCRIBED)


def _plain(value: Any) -> Any:
    """A value of a subclass as msgspec encodes it: BSON's Int64 is an int. Raises TypeError for other values."""
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    raise TypeError(f"{type(value).__name__} is no value of JSON")


_to_json = msgspec.json.Encoder(enc_hook=_plain).encode
_TEXTS = ("hostname", "path", "user_id", "visitor_id", "url", "client", "sequence", "import_id")


def load_event(body: object, received_at: datetime, *, explain: bool = True) -> Event:
    """Return one event that a client sent and that is received now. Raises InvalidEvent. Without `explain`, the
    exception does not say what is wrong, which takes a tenth of the time.
    """
    sent: Any = body if isinstance(body, Sent) else _read(_Sent, _sent_readers, _event_schema, body, explain)
    event_id = id_from_client(sent.site_id, sent.event_id) if sent.event_id else new_id()
    return _event(sent, event_id, whole_milliseconds(received_at))


def load_exported_event(body: object, received_at: datetime, *, explain: bool = True) -> Event:
    """Return one event from a line of dump_exported_event, with the id of its own site or of another site. `explain`
    and errors as in load_event.
    """
    found = _read(_Exported, _exported_readers, _exported_schema, body, explain)
    if found.id is None:
        raise InvalidEvent({"id": ["Missing data for required field."]}, site_id=found.site_id)
    return _event(
        found,
        id_from_export(found.site_id, found.id),
        min(found.received_at or received_at, received_at),
        visitor_id=found.visitor_id or None,
        clamped=bool(found.clamped),
        sequence=found.sequence,
        exported_id=found.id,
    )


def load_journal_event(raw: bytes, entry_id: Callable[[], UUID], entry_time: Callable[[], datetime]) -> Event:
    """Return one event from the journal. Raises InvalidEvent.

    The collector packs an event after it has read it with this schema. The entry of another program, of a replayed
    dead letter or of an earlier version is JSON. The entry's own id and time replace missing ones.
    """
    if len(raw) > LARGEST_ENTRY:
        raise InvalidEvent({"body": [f"Larger than {LARGEST_ENTRY} bytes."]})
    if raw.startswith(PACKED):
        try:
            return unpacked(raw)
        except NOT_DECODED as error:
            raise InvalidEvent({"body": [f"Not a packed event: {error}."]}) from None
    whole = without_half_pairs(raw)[0]
    try:
        entry = decode_entry(whole)
    except NOT_DECODED:
        entry = read_entry(whole)
    return _event_of_entry(entry, entry_id, entry_time)


def readable(raw: bytes) -> bytes:
    """Return an entry's payload as people and other programs read it: a packed event as JSON, any other as it is."""
    try:
        return dump_event(unpacked(raw)) if raw.startswith(PACKED) else raw
    except NOT_DECODED:
        return raw


def decode_entry(raw: bytes) -> Any:
    """Read an entry with msgspec, in a tenth of the time of read_entry. Raises one of NOT_DECODED for all entries
    that read_entry rejects, and for some that it accepts.
    """
    return _completed(_decoder.decode(raw), _journal_readers)


def decode_sent(raw: bytes) -> Sent:
    """Read a client's event with msgspec. Raises one of NOT_DECODED for all events that load_event rejects, for those
    with a field that EventSchema does not have, and for some others.
    """
    sent: Sent = _completed(_sent_decoder.decode(raw), _sent_readers)
    return sent


def decode_several(raw: bytes) -> tuple[list[Sent], object]:
    """Read a client's events with msgspec: an array, or `{"events": [...], "sent_at": ...}`. Return them and `sent_at`,
    which is not checked. Raises as decode_sent.
    """
    found = _events_decoder.decode(raw)
    sent, sent_at = (found, None) if isinstance(found, list) else (found.events, found.sent_at)
    return [_completed(x, _sent_readers) for x in sent], sent_at


def _completed(found: Any, readers: Sequence[tuple[str, Callable[[Any], Any]]]) -> Any:
    for name, read in readers:
        if (value := getattr(found, name)) is not None:
            setattr(found, name, read(value))
    return found


def read_entry(raw: bytes) -> Any:
    """Read an entry with json and marshmallow. Raises InvalidEvent, which says what is wrong."""
    return _Entry(**_load(_journal_schema, read_event_json(raw)))


def read_event_json(raw: bytes) -> Any:
    """Parse the JSON of one or several events. Raises InvalidEvent."""
    try:
        return read_json(raw)
    except NotJson as error:
        raise InvalidEvent({"body": [str(error)]}, "not_json") from None


def load_moment(name: str, value: object) -> datetime | None:
    """Read a time from the field `name`. Return None if it is empty. Raises InvalidEvent."""
    if value is None or value == "":
        return None
    try:
        moment: datetime = _moment.deserialize(value)
    except ValidationError as error:
        raise InvalidEvent({name: normalized(error)["_schema"]}) from None
    return moment


def dump_event(event: Event) -> bytes:
    """Return the event as UTF-8 JSON, which load_journal_event turns into an equal event."""
    entry: dict[str, object] = {
        "id": event.id.hex,
        "site_id": event.site_id,
        "event_type": event.event_type,
        "timestamp": event.occurred_at.isoformat(),
        "received_at": event.received_at.isoformat(),
    }
    for name in _TEXTS:
        if (text := getattr(event, name)) is not None:
            entry[name] = text
    if event.described is not None:
        entry |= event.described
    if not event.interactive:
        entry["interactive"] = False
    if event.engagement_time is not None:
        entry["engagement_time"] = event.engagement_time
    if event.scroll_depth is not None:
        entry["scroll_depth"] = event.scroll_depth
    if event.revenue is not None:
        entry["revenue"] = {"amount": str(event.revenue.amount), "currency": event.revenue.currency}
    if event.props is not None:
        entry["props"] = event.props
    if event.clamped:
        entry["clamped"] = True
    if event.exported_id is not None:
        entry["exported_id"] = event.exported_id.hex
    return _to_json(entry)


def dump_exported_event(event: Event) -> bytes:
    """Return the export's form of an event. An imported event keeps the id under which it was exported."""
    return dump_event(replace(event, id=event.exported_id, exported_id=None) if event.exported_id else event)


def _read(
    kind: Any, readers: Sequence[tuple[str, Callable[[Any], Any]]], schema: FastSchema, body: object, explain: bool
) -> Any:
    """Read an object with msgspec, which takes a third of the time, or else with marshmallow. Raises InvalidEvent."""
    try:
        found = _completed(msgspec.convert(body, kind), readers)
        _to_json(found)  # checks that the texts are UTF-8
    except (*NOT_DECODED, UnicodeEncodeError):
        return kind(**_load(schema, body, explain))
    return found


def _load(schema: FastSchema, body: object, explain: bool = True) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise InvalidEvent({"body": ["Not a JSON object."]})
    try:
        return schema.load_fast(body)
    except ValidationError:
        if not explain:
            raise InvalidEvent(UNEXPLAINED, site_id=_site_of(body)) from None
    try:  # marshmallow reports what is wrong in all fields
        loaded: dict[str, Any] = schema.load(body)
    except ValidationError as error:
        raise InvalidEvent(normalized(error), site_id=_site_of(body)) from None
    return loaded


def _site_of(body: dict[str, Any]) -> str:
    try:
        return str(_event_schema.fields["site_id"].deserialize(body.get("site_id")))
    except ValidationError:
        return ""


def _event_of_entry(entry: Any, fallback_id: Callable[[], UUID], fallback_time: Callable[[], datetime]) -> Event:
    return _event(
        entry,
        id_from_client(entry.site_id, entry.event_id) if entry.event_id else entry.id or fallback_id(),
        entry.received_at or whole_milliseconds(fallback_time()),
        visitor_id=entry.visitor_id or None,
        clamped=bool(entry.clamped),
        client=entry.client or None,
        sequence=entry.sequence,
        exported_id=entry.exported_id,
        import_id=entry.import_id or None,
    )


def _event(found: Any, event_id: UUID, received_at: datetime, **more: Any) -> Event:
    texts = _described_of(found)
    return Event(
        id=event_id,
        site_id=found.site_id,
        event_type=found.event_type,
        occurred_at=found.timestamp or received_at,
        received_at=received_at,
        hostname=found.hostname or None,
        path=found.path,
        user_id=found.user_id or None,  # "" means no user
        described={name: text for name, text in zip(DESCRIBED, texts, strict=True) if text} if any(texts) else None,
        interactive=found.interactive is not False,
        engagement_time=found.engagement_time,
        scroll_depth=found.scroll_depth,
        revenue=found.revenue,
        props=found.props,
        url=found.url or None,
        **more,
    )


def _amount(value: object) -> Decimal:
    is_number = type(value) in (int, float)
    if is_number or (isinstance(value, str) and _AMOUNT.fullmatch(value)):
        with suppress(InvalidOperation):  # not a number, or more digits than Python's decimal context holds
            amount = Decimal(repr(value) if is_number else str(value)).quantize(THOUSANDTH, ROUND_HALF_UP)
            if abs(amount) < MOST_MONEY:
                return amount
    raise ValidationError(
        'amount: Not a number such as 10.1 or "10.10". Send digits, optionally with a decimal point, below 10^12. A'
        " string may have no currency sign, no separators and no exponent."
    )


def _currency(value: object) -> str:
    if not isinstance(value, str) or not _CURRENCY.fullmatch(value):
        raise ValidationError("currency: Not an ISO 4217 code such as USD.")
    return value


def _fault_of_prop(key: str, value: object) -> str | None:
    if not key or len(key) > LONGEST_PROP_NAME or "\0" in key or not is_encodable(key):
        return f"The name is empty, longer than {LONGEST_PROP_NAME} characters, or not text."
    match value:
        case str():
            fault = None if is_encodable(value) else "Holds half of a surrogate pair, which is not text."
            return f"Longer than {LONGEST_PROP} characters." if len(value) > LONGEST_PROP else fault
        case bool() | None:
            return None
        case int():
            return None if value in INT64 else "Does not fit into 64 bits."
        case float():
            return None if math.isfinite(value) else "Not a finite number."
        case _:
            return "Not a string, number, boolean or null."
