"""JSON Schema: short names for common types, and the schema of a Python type. Pure.

The type of an answer (a TypedDict) is its schema: mypy checks the code that builds the answer, and `schema_of`
describes the answer from the same type. `Annotated[str, "About"]` adds a description, and
`Annotated[str, Keywords(format="uuid")]` adds other keywords of JSON Schema.

A marshmallow field or schema of our own may have rules that marshmallow cannot express. Its attribute `json_schema`
states them (web/marshmallow_plugin.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

Json = dict[str, Any]

TEXT: Json = {"type": "string"}
FLAG: Json = {"type": "boolean"}
NUMBER: Json = {"type": "number"}
UUID_TEXT: Json = {"type": "string", "format": "uuid"}
MOMENT: Json = {"type": "string", "format": "date-time"}
ANYTHING: Json = {"description": "Any JSON value."}
INTEGER64: Json = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}


class Keywords:
    """Keywords of JSON Schema, as in `Annotated[str, Keywords(format="uuid")]`."""

    def __init__(self, **keywords: object) -> None:
        self.keywords = keywords


# Types of values in answers.
Count = Annotated[int, Keywords(minimum=0)]
Percent = Annotated[float, Keywords(minimum=0)]
MomentText = Annotated[str, Keywords(format="date-time")]
DayText = Annotated[str, Keywords(format="date")]
IdText = Annotated[str, Keywords(format="uuid")]


def ref(name: str) -> Json:
    """A reference to a component of the API's description."""
    return {"$ref": f"#/components/schemas/{name}"}


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


def up_to(most: int) -> str:
    """A pattern for the numbers from 1 to `most`: the shorter numbers, those that are less from one digit on, and
    `most`.
    """
    digits = str(most)
    ways = [f"[1-9][0-9]{{0,{len(digits) - 2}}}"] if len(digits) > 1 else []
    for n, digit in enumerate(digits):
        least = 0 if n else 1
        if int(digit) > least:
            ways.append(f"{digits[:n]}[{least}-{int(digit) - 1}]" + "[0-9]" * (len(digits) - n - 1))
    return "|".join([*ways, digits])


def list_of(items: object, **more: object) -> Json:
    return {"type": "array", "items": items} | more


def row_of(*items: object, **more: object) -> Json:
    """An array of exactly these items."""
    return {"type": "array", "prefixItems": list(items), "minItems": len(items), "maxItems": len(items)} | more


def map_of(values: object) -> Json:
    return {"type": "object", "additionalProperties": values}


def an_object(required: Mapping[str, object], optional: Mapping[str, object] | None = None, **more: object) -> Json:
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)} | more


_SCALARS: Mapping[object, Json] = {
    Any: {},
    bool: FLAG,
    float: NUMBER,
    int: {"type": "integer"},
    str: TEXT,
    NoneType: {"type": "null"},
}


def schema_of(kind: Any) -> Json:
    """The schema of a type: a TypedDict, a dataclass, or what they consist of. Raises TypeError for other types."""
    if kind in _SCALARS:
        return _SCALARS[kind]
    if (origin := get_origin(kind)) in _GENERICS:
        return _GENERICS[origin](*get_args(kind))
    return _object_of(kind)


def _annotated(kind: Any, *notes: Keywords | str) -> Json:
    """`notes`: keywords, or a description. An annotated type that is annotated again has several."""
    schema = dict(schema_of(kind))
    for note in notes:
        schema |= {"description": note} if isinstance(note, str) else note.keywords
    return schema


def _literal(*values: object) -> Json:
    return one_of(*values) if values[1:] else just(values[0])


def _union(*kinds: Any) -> Json:
    others = [schema_of(kind) for kind in kinds if kind is not NoneType]
    if len(others) == len(kinds):
        return any_of(*others)
    return or_null(others[0]) if len(others) == 1 else any_of(*others, {"type": "null"})


def _array(kind: Any, *_: Any) -> Json:
    return list_of(schema_of(kind))


def _map(_: Any, kind: Any) -> Json:
    return map_of(schema_of(kind)) if kind is not Any else {"type": "object"}


_GENERICS: Mapping[object, Callable[..., Json]] = {
    Annotated: _annotated,
    Literal: _literal,
    Required: schema_of,
    NotRequired: schema_of,
    Union: _union,
    UnionType: _union,
    list: _array,
    tuple: _array,
    Sequence: _array,
    dict: _map,
    Mapping: _map,
}


def _object_of(kind: Any) -> Json:
    """The schema of a TypedDict or a dataclass. All fields of a dataclass are required."""
    if not is_dataclass(kind) and not hasattr(kind, "__required_keys__"):
        raise TypeError(f"{kind!r} has no JSON Schema. Use a TypedDict, a dataclass or a type of JSON.")
    fields = {name: schema_of(inner) for name, inner in get_type_hints(kind, include_extras=True).items()}
    required = getattr(kind, "__required_keys__", fields)
    return an_object(
        {name: schema for name, schema in fields.items() if name in required},
        {name: schema for name, schema in fields.items() if name not in required},
    )
