"""apispec's plugin for marshmallow, extended by the rules of our own fields and schemas. Pure.

The fields of the schemas are the source of lengths, ranges and patterns. Fields and schemas of our own may have rules
that marshmallow cannot express.
"""

import re
from collections.abc import Callable
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
from analytics.json_schema import A_MOMENT, FLAG, Json, an_object, any_of, just, text
from analytics.schema_fields import CURRENCY, INT64, Code, Moment
from analytics.schema_fields import OPTIONAL as EMPTY_IS_NONE

_SCALAR = any_of(
    text(longest=LONGEST_PROP),
    {"type": "number", "minimum": INT64.start, "maximum": INT64.stop - 1},
    FLAG,
    {"type": "null"},
)
_PROPS: Json = {
    "type": "object",
    "maxProperties": MOST_PROPS,
    "propertyNames": text(shortest=1, longest=LONGEST_PROP_NAME, pattern="^[^\\u0000]+$"),
    "additionalProperties": _SCALAR,
}
_MOST_AMOUNT = float(MOST_MONEY - THOUSANDTH)
_AMOUNT = any_of(
    {"type": "number", "minimum": -_MOST_AMOUNT, "maximum": _MOST_AMOUNT},
    text(pattern=rf"^[+-]?[0-9]{{1,{len(str(MOST_MONEY)) - 1}}}(\.[0-9]{{1,3}})?$"),
)
_MONEY = an_object({"amount": _AMOUNT, "currency": text(pattern=f"^{CURRENCY}$")})
_SEGMENTS = "/[A-Za-z0-9._~%-]+"
_URL: Json = {
    "pattern": rf"^(https?://[a-z0-9]{{1,60}}(\.[a-z0-9]{{1,60}}){{0,3}}({_SEGMENTS})*/?|({_SEGMENTS})+/?|/)(\?[A-Za-z0-9._~%=&-]*)?$",
    "description": "The URL of the page, with a scheme or from the root of the site. Other schemes are also accepted.",
}


def _code(field: fields.Field[Any]) -> Json:
    regex: re.Pattern[str] = field.validators[0].regex  # type: ignore[attr-defined]
    return {"pattern": f"^{regex.pattern.removesuffix(chr(92) + 'Z')}$"}


# The rules of an event's fields that marshmallow cannot express. Other fields have an attribute `json_schema`.
Rule = Json | Callable[[fields.Field[Any]], Json]
_FIELD_RULES: dict[object, Rule] = {Props: _PROPS, MoneyField: _MONEY, Moment: A_MOMENT, PageUrl: _URL, Code: _code}


class _Converter(OpenAPIConverter):
    """apispec's converter, extended by the rules of our own fields and schemas: their attribute `json_schema`."""

    def field2property(self, field: fields.Field[Any]) -> Json:
        found: Json = super().field2property(field)
        rule = next((_FIELD_RULES[kind] for kind in type(field).__mro__ if kind in _FIELD_RULES), {})
        found |= rule(field) if callable(rule) else rule
        return _with_nothing(found | getattr(field, "json_schema", {}), field)

    def schema2jsonschema(self, schema: Any) -> Json:
        found: Json = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call]
        return {**found, **getattr(schema, "json_schema", {})}


def marshmallow_plugin() -> MarshmallowPlugin:
    made = MarshmallowPlugin()
    made.Converter = _Converter
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
