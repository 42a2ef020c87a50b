"""The JSON Schema of Python types."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest
from jsonschema import Draft202012Validator

from analytics.json_schema import Count, IdText, MomentText, schema_of, up_to

TEXT = {"type": "string"}


@dataclass
class Point:
    x: int
    label: str | None


class Base(TypedDict):
    name: str


class Extended(Base, total=False):
    points: Annotated[list[Point], "The corners."]


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (str, TEXT),
        (bool, {"type": "boolean"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (Any, {}),
        (Count, {"type": "integer", "minimum": 0}),
        (IdText, {"type": "string", "format": "uuid"}),
        (Literal[True], {"const": True}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (list[str], {"type": "array", "items": TEXT}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (Sequence[str], {"type": "array", "items": TEXT}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (Mapping[str, Any], {"type": "object"}),
        (str | None, {"type": ["string", "null"]}),
        (MomentText | None, {"type": ["string", "null"], "format": "date-time"}),
        (str | int, {"anyOf": [TEXT, {"type": "integer"}]}),
        (str | int | None, {"anyOf": [TEXT, {"type": "integer"}, {"type": "null"}]}),
        (Annotated[str, "About."], {"type": "string", "description": "About."}),
    ],
)  # fmt: skip
def test_a_type_has_a_schema(kind: Any, schema: dict[str, Any]):
    assert schema_of(kind) == schema


def test_fields_are_inherited_and_only_some_are_required():
    schema = schema_of(Extended)
    assert schema["required"] == ["name"]
    assert schema["properties"]["points"]["description"] == "The corners."
    validator = Draft202012Validator(schema)
    assert validator.is_valid({"name": "a", "points": [{"x": 1, "label": None}]})
    assert not validator.is_valid({"name": "a", "points": [{"x": 1}]})


def test_names_may_be_words_of_python():
    renamed = TypedDict("renamed", {"from": MomentText, "to": NotRequired[MomentText]})
    assert schema_of(renamed)["required"] == ["from"]


def test_describing_a_type_again_leaves_its_first_description_as_it_is():
    schema_of(Annotated[str, "About."])
    assert schema_of(str) == TEXT


def test_a_type_that_json_does_not_have_is_an_error():
    with pytest.raises(TypeError, match="datetime"):
        schema_of(datetime)


@pytest.mark.parametrize("most", [*range(1, 130), 500, 999, 1000, 1999, 3650])
def test_the_pattern_of_a_maximum_fits_the_numbers_from_1_to_it(most: int):
    pattern = re.compile(up_to(most))
    for text in ("", "0", "01", "-1", *map(str, range(1, 12 * most))):
        fits = text[:1] not in ("", "0", "-") and int(text) <= most
        assert bool(pattern.fullmatch(text)) == fits, text


def test_the_pattern_of_a_maximum_fits_around_each_digit():
    pattern = re.compile(up_to(36_500))
    for number in range(1, 100_000):
        assert bool(pattern.fullmatch(str(number))) == (number <= 36_500), number
