"""Reads a request's query or body by a schema. Raises BadRequest, which lists what is wrong by field."""

from typing import Any

from flask import request
from marshmallow import Schema, ValidationError

from analytics.json_input import NotJson, read_json
from analytics.schema_fields import normalized
from web.errors import BadRequest


def read(schema: Schema, query: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = schema.load(query)
    except ValidationError as error:
        names = normalized(error)
        raise BadRequest("invalid_query", f"The request is not valid: see {', '.join(names)}.", names) from None
    return found


def read_body(default: bytes = b"") -> Any:
    """The body as JSON. `default` replaces an empty body. Raises BadRequest if it is not JSON."""
    try:
        return read_json(request.get_data() or default)
    except NotJson as error:
        raise BadRequest("not_json", "The body is not JSON.", {"body": [str(error)]}) from None
