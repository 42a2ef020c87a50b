"""Warnings about unknown fields of events. Pure.

An unknown field is not an error, so without a warning the sender would not notice a misspelled name.
"""

from collections.abc import Collection, Sequence
from typing import TypedDict

from analytics.events.schema import EventSchema, ExportedSchema
from analytics.json_schema import Count
from analytics.suggestion import did_you_mean

KNOWN = frozenset(EventSchema().fields) | {"ip", "user_agent"}  # the collector reads the last two
OF_EXPORTED = frozenset(ExportedSchema().fields) - KNOWN
MOST_WARNINGS = 100  # per hit
MOST_SUGGESTIONS = 10  # per hit; the search for the closest name takes 0.1 ms
LONGEST_NAME_SHOWN = 100  # characters


class Warned(TypedDict):
    field: str
    message: str


class WarnedAt(Warned, total=False):
    """`index`: of the first event that has the field. A warning about the whole request has none."""

    index: Count


def unknown_fields(bodies: Sequence[object], exported: Collection[int] = ()) -> dict[str, int]:
    """The unknown field names, at most MOST_WARNINGS, each with the index of the first event that has it.

    `exported`: the indexes of the events that may have the fields of an export.
    """
    found: dict[str, int] = {}
    for index, body in enumerate(bodies):
        if isinstance(body, dict) and not body.keys() <= KNOWN:  # this check takes 0.35 µs if all names are known
            known = KNOWN | OF_EXPORTED if index in exported else KNOWN
            for name in body:
                if name not in known and len(found) < MOST_WARNINGS:
                    found.setdefault(name, index)
    return found


def warnings_of(unknown: dict[str, int]) -> list[WarnedAt]:
    """The warnings of an answer: each has the index of the event, the field, and a message."""
    return [
        {
            "index": index,
            "field": name[:LONGEST_NAME_SHOWN],
            "message": _message(name, suggests=n < MOST_SUGGESTIONS),
        }
        for n, (name, index) in enumerate(unknown.items())
    ]


def _message(name: str, *, suggests: bool) -> str:
    if name in OF_EXPORTED:
        return (
            "It is ignored. Only exported events have this field, and sending them needs an API key that may write"
            " events."
        )
    return "Unknown field. It is ignored." + (did_you_mean(name, KNOWN) if suggests else "")
