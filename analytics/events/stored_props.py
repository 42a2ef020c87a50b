"""An event's properties in MongoDB. Pure.

A name that begins with "$" has a meaning in MongoDB's drivers and tools: {"$ref": ..., "$id": ...} is read as a DBRef,
and {"$date": ...} becomes a date when a dump is imported. Such a name is stored with a backslash before it. So is a
name that begins with backslashes and then "$". Each name is therefore read as it was sent.
"""

from collections.abc import Mapping

from bson import DBRef

from analytics.events.event import Scalar


def stored_form(props: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    if not any(name[0] in "$\\" for name in props):  # no name is empty
        return props
    return {f"\\{name}" if name.lstrip("\\")[:1] == "$" else name: value for name, value in props.items()}


def as_sent(value: object) -> dict[str, Scalar] | None:
    """Return the properties as they were sent, or None if `value` is not an object. A value that is not a scalar was
    written by another program and is omitted.
    """
    if isinstance(value, DBRef):  # stored by a version before this escaping
        value = dict(value.as_doc())
    if not isinstance(value, dict):
        return None
    return {
        name[1:] if name[:1] == "\\" and name.lstrip("\\")[:1] == "$" else name: item
        for name, item in value.items()
        if item is None or isinstance(item, str | int | float)
    }
