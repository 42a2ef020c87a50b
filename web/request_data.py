"""What a request asks, read by a schema: what does not fit is a BadRequest that names each field."""

from typing import Any

from flask import request
from marshmallow import Schema, ValidationError

from analytics.events.schema import InvalidEvent, normalized, read_json
from web.errors import BadRequest


def read(schema: Schema, query: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = schema.load(query)
    except ValidationError as error:
        names = normalized(error)
        raise BadRequest("invalid_query", f"Not understood: see {', '.join(names)}.", names) from None
    return found


def read_body(default: bytes = b"") -> Any:
    """The body as JSON; `default` stands in for an empty one."""
    try:
        return read_json(request.get_data() or default)
    except InvalidEvent as error:
        raise BadRequest("not_json", "The body is not JSON.", error.fields) from None
