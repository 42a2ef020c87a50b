"""Warnings about fields of events that Footfall does not know. Pure.

An unknown field is not an error, so without a warning a misspelled name goes unnoticed.
"""

from collections.abc import Collection, Sequence

from analytics.events.schema import EventSchema, ExportedSchema
from analytics.suggestion import did_you_mean

KNOWN = frozenset(EventSchema().fields) | {"ip", "user_agent"}  # the last two are read by the collector
OF_EXPORTED = frozenset(ExportedSchema().fields) - KNOWN
MOST_WARNINGS = 100  # of a hit
MOST_SUGGESTIONS = 10  # of a hit; finding the closest name takes 0.1 ms
LONGEST_NAME_SHOWN = 100  # characters


def unknown_fields(bodies: Sequence[object], exported: Collection[int] = ()) -> dict[str, int]:
    """Each unknown name, at most MOST_WARNINGS, with the index of the first event that has it. `exported`: the indexes
    of those that may have the fields of an export.
    """
    found: dict[str, int] = {}
    for index, body in enumerate(bodies):
        if isinstance(body, dict) and not body.keys() <= KNOWN:  # 0.35 µs where all are known
            known = KNOWN | OF_EXPORTED if index in exported else KNOWN
            for name in body:
                if name not in known and len(found) < MOST_WARNINGS:
                    found.setdefault(name, index)
    return found


def warnings_of(unknown: dict[str, int]) -> list[dict[str, object]]:
    """What an answer says of them: the index of the event, the field, and a sentence."""
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
        return "It is ignored: it belongs to an exported event, which only an API key that may write events can send."
    return "Unknown field; it is ignored." + (did_you_mean(name, KNOWN) if suggests else "")
