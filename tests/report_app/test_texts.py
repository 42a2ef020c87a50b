"""Texts that pages translate: what a schema says about a field that it refused."""

from collections.abc import Callable
from typing import Any

import pytest
from marshmallow import Schema, ValidationError, fields
from marshmallow.validate import Length, OneOf, Range

from analytics.languages import speaking
from analytics.schema_fields import CURRENCY, Code, Flag, StrictSchema, Whole
from report_app.texts import FAULTS, fault


def refused(load: Callable[[Any], object], value: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        load(value)
    message = caught.value.messages
    while isinstance(message, dict | list):
        message = next(iter(message.values())) if isinstance(message, dict) else message[0]
    return str(message)


@pytest.mark.parametrize(
    ("load", "value", "german"),
    [
        (Range(5, 1440), 2, "Muss mindestens 5 und höchstens 1440 sein."),
        (Range(5), 2, "Muss mindestens 5 sein."),
        (Range(max=5), 7, "Darf höchstens 5 sein."),
        (Length(1, 128), "", "Die Länge muss zwischen 1 und 128 liegen."),
        (Length(1), "", "Kürzer als die kleinste Länge 1."),
        (Length(max=2), "abc", "Länger als die größte Länge 2."),
        (OneOf(["a", "b"]), "c", "Muss eines von diesen sein: a, b."),
        (Code(CURRENCY, "USD").deserialize, "Euro", "Kein Code wie USD."),
    ],
)
def test_a_fault_that_marshmallow_formats_is_translated(load: Callable[[Any], object], value: Any, german: str):
    said = refused(load, value)
    assert fault(said) == said
    with speaking("de"):
        assert fault(said) == german


def test_the_words_of_marshmallow_are_those_that_are_translated():
    known = StrictSchema.from_dict({"name": fields.String(required=True)})()
    said = {
        refused(known.load, {}),
        refused(known.load, {"name": None}),
        refused(known.load, {"name": 7}),
        refused(Schema().load, {"nothing": 7}),
        refused(Schema().load, 7),
        refused(Flag().deserialize, 7),
        refused(Whole().deserialize, "7"),
        refused(fields.List(Whole()).deserialize, 7),
    }
    assert said == set(FAULTS)
