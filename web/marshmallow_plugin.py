"""apispec's plugin for marshmallow, extended by the rules of our own fields and schemas. Pure.

The fields of the schemas are the source of lengths, ranges and patterns. Fields and schemas of our own may have rules
that marshmallow cannot express. Their attribute `json_schema` states them.
"""

from typing import Any

from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import fields

from analytics.json_schema import Json, any_of, just
from analytics.schema_fields import OPTIONAL as EMPTY_IS_NONE


class _Converter(OpenAPIConverter):
    def field2property(self, field: fields.Field[Any]) -> Json:
        found: Json = super().field2property(field)
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
