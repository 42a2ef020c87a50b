"""JSON Schema for both apps' OpenAPI descriptions: short names for common types, and marshmallow schemas as they are.

Pure.

The fields of the schemas are the source of lengths, ranges and patterns. Fields of our own may have rules that
marshmallow cannot express. FIELD_RULES states those from the same constants.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import fields

from analytics.events.schema import (
    LONGEST_PROP,
    LONGEST_PROP_NAME,
    MOST_MONEY,
    MOST_PROPS,
    THOUSANDTH,
    MoneyField,
    PageUrl,
    Props,
)
from analytics.schema_fields import CURRENCY, INT64, Code, Moment
from analytics.schema_fields import OPTIONAL as EMPTY_IS_NONE

Json = dict[str, Any]

TEXT: Json = {"type": "string"}
FLAG: Json = {"type": "boolean"}
NUMBER: Json = {"type": "number"}
WHOLE_COUNT: Json = {"type": "integer", "minimum": 0}
INTEGER64: Json = {"type": "integer", "minimum": INT64.start, "maximum": INT64.stop - 1}
UUID: Json = {"type": "string", "format": "uuid"}
MOMENT: Json = {"type": "string", "format": "date-time"}
ANYTHING: Json = {"description": "Any JSON value."}

# The years that analytics/schema_fields.py accepts: 1970 to 9998.
YEARS = "(19[7-9][0-9]|[2-8][0-9]{3}|9[0-8][0-9]{2}|99[0-8][0-9]|999[0-8])"


def just(value: object) -> Json:
    return {"const": value}


def one_of(*values: object) -> Json:
    kind = {"type": "string"} if all(isinstance(value, str) for value in values) else {}
    return kind | {"enum": list(values)}


def any_of(*schemas: object) -> Json:
    return {"anyOf": list(schemas)}


def loosely(schema: object) -> Json:
    """A value that is left out, not rejected, if it does not have this schema."""
    return any_of(schema, ANYTHING)


def or_null(schema: Json) -> Json:
    if isinstance(schema.get("type"), str):
        return schema | {"type": [schema["type"], "null"]}
    return any_of(schema, {"type": "null"})


def text(shortest: int = 0, longest: int | None = None, pattern: str = "", **more: object) -> Json:
    limits = {"minLength": shortest or None, "maxLength": longest, "pattern": pattern or None}
    return TEXT | {name: value for name, value in limits.items() if value is not None} | more


def whole(least: int, most: int, **more: object) -> Json:
    return {"type": "integer", "minimum": least, "maximum": most} | more


def list_of(items: object, **more: object) -> Json:
    return {"type": "array", "items": items} | more


def row_of(*items: object, **more: object) -> Json:
    """An array of exactly these items."""
    return {"type": "array", "prefixItems": list(items), "minItems": len(items), "maxItems": len(items)} | more


def map_of(values: object) -> Json:
    return {"type": "object", "additionalProperties": values}


def an_object(required: Mapping[str, object], optional: Mapping[str, object] | None = None, **more: object) -> Json:
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)} | more


SCALAR = any_of(
    text(longest=LONGEST_PROP),
    {"type": "number", "minimum": INT64.start, "maximum": INT64.stop - 1},
    FLAG,
    {"type": "null"},
)
_PROPS: Json = {
    "type": "object",
    "maxProperties": MOST_PROPS,
    "propertyNames": text(shortest=1, longest=LONGEST_PROP_NAME, pattern="^[^\\u0000]+$"),
    "additionalProperties": SCALAR,
}
MOST_AMOUNT = float(MOST_MONEY - THOUSANDTH)
_AMOUNT = any_of(
    {"type": "number", "minimum": -MOST_AMOUNT, "maximum": MOST_AMOUNT},
    text(pattern=rf"^[+-]?[0-9]{{1,{len(str(MOST_MONEY)) - 1}}}(\.[0-9]{{1,3}})?$"),
)
_MONEY = an_object({"amount": _AMOUNT, "currency": text(pattern=f"^{CURRENCY}$")})
A_MOMENT = MOMENT | {
    "pattern": f"^{YEARS}-",
    "description": "ISO 8601. A time without an offset is UTC. A Unix time of 10 digits (seconds) or 13 digits"
    " (milliseconds) is also accepted, as a number or a string.",
}
_SEGMENTS = "/[A-Za-z0-9._~%-]+"
A_URL: Json = {
    "pattern": rf"^(https?://[a-z0-9]{{1,60}}(\.[a-z0-9]{{1,60}}){{0,3}}({_SEGMENTS})*/?|({_SEGMENTS})+/?|/)(\?[A-Za-z0-9._~%=&-]*)?$",
    "description": "The URL of the page, with a scheme or from the root of the site. Other schemes are also accepted.",
}


def _code(field: fields.Field[Any]) -> Json:
    regex: re.Pattern[str] = field.validators[0].regex  # type: ignore[attr-defined]
    return {"pattern": f"^{regex.pattern.removesuffix(chr(92) + 'Z')}$"}


# Rules that marshmallow cannot express, by the class of a field or schema, or by a function that validates a field.
# Each app adds its own.
Rule = Json | Callable[[fields.Field[Any]], Json]
FIELD_RULES: dict[object, Rule] = {Props: _PROPS, MoneyField: _MONEY, Moment: A_MOMENT, PageUrl: A_URL, Code: _code}


def plugin(rules: Mapping[object, Any]) -> MarshmallowPlugin:
    """apispec's plugin, extended by rules for our own fields."""

    class Converter(OpenAPIConverter):
        def field2property(self, field: fields.Field[Any]) -> Json:
            found: Json = super().field2property(field)
            ours = next((kind for kind in type(field).__mro__ if kind in rules), None)
            for key in (ours, *field.validators):
                rule = rules.get(key, {})
                found |= rule(field) if callable(rule) else rule
            return _with_nothing(found, field)

        def schema2jsonschema(self, schema: Any) -> Json:
            kind = schema if isinstance(schema, type) else type(schema)
            found: Json = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call]
            return {**found, **rules.get(kind, {})}

    made = MarshmallowPlugin()
    made.Converter = Converter
    return made


def _with_nothing(schema: Json, field: fields.Field[Any]) -> Json:
    """The schema, extended by null if the field accepts it, and by "" if the field reads it as null."""
    if field.allow_none and isinstance(schema.get("type"), str):
        schema |= {"type": [schema["type"], "null"]}
    if EMPTY_IS_NONE["pre_load"] not in field.pre_load or _takes_empty(schema):
        return schema
    return any_of(schema, just(""))


def _takes_empty(schema: Json) -> bool:
    return "string" in schema.get("type", ()) and not {"minLength", "pattern", "format"} & schema.keys()
