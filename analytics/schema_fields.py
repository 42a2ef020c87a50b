"""What the marshmallow schemas share: fields, two kinds of schema, and errors by field. Pure.

Some fields have a fast path for the usual values: their `deserialize` returns what marshmallow's returns. Other values
go through marshmallow, which produces the error messages. tests/analytics/events/test_fast_path.py checks that both
agree.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from marshmallow import Schema, ValidationError, fields
from marshmallow.validate import Length, Range, Regexp

from analytics.interval import whole_milliseconds
from analytics.json_schema import MOMENT, Json
from analytics.languages import joined, translatable
from analytics.suggestion import did_you_mean

# MongoDB and Python can both calculate with these dates. Year 1 passes pymongo and breaks the first report.
_EPOCH = EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST_SENT = datetime(9999, 1, 1, tzinfo=UTC)
YEARS = "(19[7-9][0-9]|[2-8][0-9]{3}|9[0-8][0-9]{2}|99[0-8][0-9]|999[0-8])"  # as a pattern
INT64 = range(-(2**63), 2**63)
CURRENCY = "[A-Z]{3}"
# ISO 8601 forms that Python's parser rejects: a lower-case z, a leap second, the end of a day.
_WRITTEN = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?\s?(?:([Zz])|([+-])(\d\d):?(\d\d)?)?", re.ASCII
)
UNIX = re.compile(r"(\d{10}|\d{13})(\.\d+)?", re.ASCII)  # seconds, milliseconds


class StrictSchema(Schema):
    """A schema that rejects unknown names, and suggests the closest known name."""

    def handle_error(self, error: ValidationError, data: Any, *, many: bool, **kwargs: Any) -> None:
        unknown = self.error_messages["unknown"]
        known = [field.data_key or name for name, field in self.fields.items()]
        for name, messages in error.messages_dict.items():
            if messages == [unknown]:
                messages[0] = joined(unknown, did_you_mean(str(name), known))


class FastSchema(Schema):
    """A schema with a fast path for valid objects. Its fields have no data_key, no default and no schema of their own,
    and it has no hooks.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._required = {name for name, field in self.load_fields.items() if field.required}

    def load_fast(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return what `load` returns, but without marshmallow's machinery around the fields, which takes 16 µs. Raises
        ValidationError where `load` does. It does not say what is wrong in all fields.
        """
        known = self.load_fields
        loaded = {name: known[name].deserialize(value) for name, value in body.items() if name in known}
        if not self._required <= loaded.keys():
            raise ValidationError("A required field is missing.")
        return loaded


class Text(fields.String):
    """A string that can be stored. JSON's \\ud800 makes half a surrogate pair, which UTF-8 cannot hold."""

    default_error_messages = {"surrogate": translatable("Holds half of a surrogate pair, which is not text.")}

    def __init__(self, *, shortest: int = 0, longest: int, **kwargs: Any) -> None:
        super().__init__(validate=Length(min=shortest or None, max=longest), **kwargs)
        # Not "" if it means null: marshmallow then returns None.
        self.lengths = range(max(shortest, 1 if kwargs.get("pre_load") else 0), longest + 1)

    def deserialize(self, value: Any, attr: str | None = None, data: Any = None, **kwargs: Any) -> Any:
        if type(value) is str and len(value) in self.lengths and value.isascii():
            return value
        return super().deserialize(value, attr, data, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        if not is_encodable(text):
            raise self.make_error("surrogate")
        return text


class Id(fields.UUID):
    """A UUID in the form that the journal writes: 32 hexadecimal digits."""

    def deserialize(self, value: Any, attr: str | None = None, data: Any = None, **kwargs: Any) -> Any:
        if type(value) is str and len(value) == 32:
            try:
                return UUID(hex=value)
            except ValueError:
                pass
        return super().deserialize(value, attr, data, **kwargs)


class Moment(fields.AwareDateTime):
    """A time: ISO 8601 with an offset or Z, and UTC without one, or a Unix time in seconds (10 digits) or milliseconds
    (13 digits), as a number or a string. Returns aware UTC in whole milliseconds, as MongoDB stores it.
    """

    json_schema: Json = MOMENT | {
        "pattern": f"^{YEARS}-",
        "description": "ISO 8601. A time without an offset is UTC. A Unix time of 10 digits (seconds) or 13 digits "
        "(milliseconds) is also accepted, as a number or a string.",
    }

    default_error_messages = {
        "invalid": "Not a time. Send ISO 8601 such as 2026-11-22T19:30:01Z, or a Unix time of 10 or 13 digits.",
        "range": "Not between the years 1970 and 9998.",
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(format="iso", default_timezone=UTC, **kwargs)

    def deserialize(self, value: Any, attr: str | None = None, data: Any = None, **kwargs: Any) -> Any:
        if type(value) is str:
            try:
                moment = datetime.fromisoformat(value)
                if moment.tzinfo is UTC:  # Python reads "2026-11-22+00:00" as a time without an offset
                    return self._checked(moment)
            except ValueError:
                pass
        if type(value) is datetime and value.tzinfo is UTC:  # of an import
            return self._checked(value)
        return super().deserialize(value, attr, data, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        try:
            moment = _unix(value) or _written(value) or super()._deserialize(value, attr, data, **kwargs)
            return self._checked(moment.astimezone(UTC))
        except OverflowError:
            raise self.make_error("range") from None

    def _checked(self, moment: datetime) -> datetime:
        if not EARLIEST <= moment < LATEST_SENT:
            raise self.make_error("range")
        return whole_milliseconds(moment)


class Code(fields.String):
    """Text of a fixed form. `form`: a regular expression."""

    def __init__(self, form: str, example: str, **kwargs: Any) -> None:
        self.form = form
        self.json_schema: Json = {"pattern": f"^{form}$"}
        super().__init__(
            validate=Regexp(rf"{form}\Z", error=f"Not a code such as {example}."),
            **kwargs,
        )


class Flag(fields.Boolean):
    """true or false. It rejects 1 and 0, which marshmallow accepts as Python does."""

    def deserialize(self, value: Any, attr: str | None = None, data: Any = None, **kwargs: Any) -> Any:
        return value if isinstance(value, bool) else super().deserialize(value, attr, data, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class Whole(fields.Integer):
    """A whole number in any JSON notation: 7.0 is one too. Text is rejected."""

    def __init__(self, *, validate: Range | None = None, **kwargs: Any) -> None:
        super().__init__(strict=True, validate=validate, **kwargs)
        self.numbers = range(validate.min, validate.max + 1) if validate else range(0)

    def deserialize(self, value: Any, attr: str | None = None, data: Any = None, **kwargs: Any) -> Any:
        if type(value) is int and value in self.numbers:
            return value
        return super().deserialize(value, attr, data, **kwargs)

    def _validated(self, value: Any) -> int:
        return super()._validated(int(value) if isinstance(value, float) and value.is_integer() else value)


def _none_for_empty(value: Any) -> Any:
    return None if value == "" else value


OPTIONAL: dict[str, Any] = {"allow_none": True, "pre_load": _none_for_empty}


def normalized(error: ValidationError) -> dict[str, list[str]]:
    """marshmallow's messages by field. A field of the first of several objects is called `goals.0.page`."""
    return dict(_by_field(error.normalized_messages()))  # type: ignore[no-untyped-call]


def _by_field(messages: Mapping[Any, Any], within: str = "") -> Iterator[tuple[str, list[str]]]:
    for key, value in messages.items():
        name = within if within and key == "_schema" else f"{within}.{key}" if within else str(key)
        if isinstance(value, dict):
            yield from _by_field(value, name)
        else:
            yield name, value


def _unix(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = value.strip() if isinstance(value, str) else f"{value:.6f}" if isinstance(value, float) else str(value)
    if not (found := UNIX.fullmatch(text)):
        return None
    return _EPOCH + timedelta(milliseconds=float(text) * (1000 if len(found[1]) == 10 else 1))


def _written(value: object) -> datetime | None:
    found = _WRITTEN.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found:
        return None
    date, hours, minutes, seconds, fraction, _, sign, *offset = found.groups(default="0")
    is_end = hours == "24" and int(minutes) == int(seconds) == int(fraction) == 0
    if (int(hours) > 23 and not is_end) or int(minutes) > 59 or int(seconds) > 60:
        return None
    away = timedelta(hours=int(offset[0]), minutes=int(offset[1]))
    try:
        day = datetime.fromisoformat(f"{date}T00:00:00Z")
    except ValueError:
        return None
    time = timedelta(
        hours=int(hours), minutes=int(minutes), seconds=int(seconds), microseconds=int(f"{fraction:0<6}"[:6])
    )
    return day + time - (-away if sign == "-" else away)


def is_encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
