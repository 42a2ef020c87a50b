"""The shape of every error of both apps: {"success": false, "error": {"code", "message", "fields"?}}. Never HTML.

`code` is stable and for programs. `message` is for people. `fields` lists what is wrong, by field.
"""

import json
from typing import Annotated, Literal, NotRequired, TypedDict

import structlog
from flask import Flask, Response, current_app, request
from werkzeug.exceptions import ClientDisconnected, HTTPException, MethodNotAllowed, NotFound

from analytics.events.schema import InvalidEvent
from analytics.json_schema import Keywords
from analytics.languages import translatable
from analytics.suggestion import did_you_mean
from analytics.unavailable import SEGMENTS_STORE, Unavailable
from config.metrics import BROKEN_REQUESTS

log = structlog.get_logger()

RETRY_AFTER = 1  # seconds. A store fails for seconds, or for so long that the load of frequent retries does not matter.

# Lets pages of all origins read a response.
ANY_ORIGIN = (("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", "Retry-After"))

LONGEST_PATH_SHOWN = 100  # characters

STORE_NAMES = {"redis": "Redis", "mongodb": "MongoDB", "segment storage": "SEGMENT_STORAGE"}

TOO_SLOW = "The request did not arrive in time. Send it again."
INTERNAL = translatable("An internal error occurred. The log of the server has the details.")
BUSY = "The server has too many requests at once. Send the request again."
NOT_HTTP = "The request is not valid HTTP, or exceeds the limits of this server."

CODES = {
    400: "bad_request",
    408: "request_timeout",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    414: "uri_too_long",
    415: "unsupported_media_type",
    429: "too_many_requests",
    431: "headers_too_large",
    500: "internal_error",
    501: "not_implemented",
    503: "unavailable",
}

_EXAMPLE = {
    "code": "invalid_event",
    "message": "The event was not accepted: see path.",
    "fields": {"path": ["Too long."]},
}

# InvalidEvents with another status than 400, and their headers.
_STATUS: dict[str, tuple[int, dict[str, str]]] = {
    "origin_not_allowed": (403, {}),
}


class ErrorSaid(TypedDict):
    code: Annotated[str, "For programs. It does not change."]
    message: Annotated[str, "For people. It may change."]
    fields: NotRequired[Annotated[dict[str, list[str]], "What is wrong, by the name of the field."]]


class Error(TypedDict):
    """The body of an error. A route whose errors have more fields extends it."""

    success: Literal[False]
    error: Annotated[ErrorSaid, Keywords(examples=[_EXAMPLE])]


class TooSlow(Exception):
    """The client sends a request too slowly."""


class ClientGone(Exception):
    """The connection ended before the whole request arrived."""


class NotRead(Exception):
    """The client does not read its response."""


class LongHead(Exception):
    """The target or the headers of a request are too long, or there are too many headers."""


class NotSupported(Exception):
    """An HTTP version, a transfer encoding or a method that the server does not have."""


def note_broken(error: Exception) -> None:
    """Counts and logs a request that its client broke: one line, without a traceback."""
    name = type(error).__name__
    BROKEN_REQUESTS.labels(name).inc()
    log.info("request_broken", error=name)


class BadRequest(Exception):
    """The caller's mistake, by field."""

    def __init__(self, code: str, message: str, fields: dict[str, list[str]]) -> None:
        super().__init__(message)
        self.code = code
        self.fields = fields


def error_body(code: str, message: str, fields: dict[str, list[str]] | None = None, **more: object) -> str:
    """`more`: fields beside `error`."""
    error: ErrorSaid = {"code": code, "message": message}
    if fields is not None:
        error["fields"] = fields
    body: Error = {"success": False, "error": error}
    return json.dumps({**body, **more})


def error_response(status: int, body: str, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, mimetype="application/json")


def describe_invalid_event(error: InvalidEvent, **more: object) -> tuple[int, str, dict[str, str]]:
    """Status, body and headers of the answer to an invalid event. `more`: fields beside `error`."""
    status, headers = _STATUS.get(error.code, (400, {}))
    return status, error_body(error.code, f"The event was not accepted: {error}", error.fields, **more), headers


def unavailable_response(message: str, **more: object) -> Response:
    """A 503. `more`: fields beside `error`."""
    return error_response(503, error_body("unavailable", message, None, **more), {"Retry-After": str(RETRY_AFTER)})


def describe_unavailable(error: Unavailable) -> str:
    """Says what is not available and what to do. The cause says it for segments: they are in a store that answers."""
    if error.store == SEGMENTS_STORE:
        return str(error.cause)
    return f"{STORE_NAMES.get(error.store, error.store)} is not reachable. Send the request again."


def code_for(status: int) -> str:
    return CODES.get(status, "internal_error" if status >= 500 else "bad_request")


def register_errors(app: Flask) -> None:
    @app.errorhandler(BadRequest)
    def bad_request(error: BadRequest) -> Response:
        return error_response(400, error_body(error.code, str(error), error.fields))

    @app.errorhandler(InvalidEvent)
    def invalid_event(error: InvalidEvent) -> Response:
        return error_response(*describe_invalid_event(error))

    @app.errorhandler(Unavailable)
    def unavailable(error: Unavailable) -> Response:
        return unavailable_response(describe_unavailable(error))

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        status = error.code or 500
        headers = {name: value for name, value in error.get_headers() if name.lower() != "content-type"}
        message = _not_routed(error) if error is request.routing_exception else error.description
        return error_response(status, error_body(code_for(status), message or error.name), headers)

    @app.errorhandler(ClientDisconnected)
    def half_a_body(error: ClientDisconnected) -> Response:
        note_broken(error)
        return http_error(error)

    @app.errorhandler(Exception)
    def bug(error: Exception) -> Response:
        log.exception("request_failed", error=type(error).__name__)
        return error_response(500, error_body("internal_error", INTERNAL))


def _not_routed(error: HTTPException) -> str | None:
    """The message if no route takes a request: its path, and the closest route."""
    path = request.path[:LONGEST_PATH_SHOWN]
    if isinstance(error, MethodNotAllowed):
        return f"{path} does not accept {request.method}. It accepts {', '.join(sorted(error.valid_methods or ()))}."
    if isinstance(error, NotFound):
        known = (rule.rule for rule in current_app.url_map.iter_rules() if not rule.arguments)
        return f"There is no route {path}.{did_you_mean(path, known)} /docs lists all routes."
    return error.description
