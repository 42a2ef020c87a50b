"""The answers of POST /event and POST /events: the outcome of each event, with `?validate=1` the expected one."""

import json
from collections.abc import Sequence
from http import HTTPStatus

from flask import Response, jsonify, request
from marshmallow import EXCLUDE, Schema, fields

from analytics.events.schema import InvalidEvent
from ingest_app.collector import Admitted
from ingest_app.drop_in import MOST_LISTED, list_rejected
from ingest_app.field_warnings import unknown_fields, warnings_of
from ingest_app.reply import Reply
from web.errors import describe_invalid_event
from web.request_data import read

QUEUED = b'{"success": true, "message": "Event queued successfully"}'
_ACCEPTED = "The event is valid and would be accepted. Nothing was stored."
_DROPPED = "The event is valid and would be dropped. Nothing was stored."
SHOWS_WHY = " Send an API key that may write events of the site to see why."
BAD_KEY = "This API key is unknown, revoked or expired. The server handled the events as if no key was sent."


class Parameters(Schema):
    class Meta:
        unknown = EXCLUDE  # a page may add parameters of its own

    is_validation = fields.Boolean(
        data_key="validate",
        load_default=False,
        metadata={"description": "If true, the response says what would happen, and nothing is stored."},
    )


def is_validation() -> bool:
    """Whether the events are only to be validated. Raises BadRequest if `validate` is not a boolean."""
    return bool(request.environ.get("QUERY_STRING")) and read(Parameters(), request.args)["is_validation"]


def answer_one(admitted: Admitted, body: object) -> Reply:
    warnings = _warnings(admitted, body)
    for error in admitted.rejected.values():
        return _rejection(error, warnings)
    for reason in admitted.reasons.values():
        return _json({"success": True, "message": f"Event dropped: {reason}", "dropped": reason} | warnings)
    return _json(json.loads(QUEUED) | warnings) if warnings else Reply(QUEUED)


def answer_one_validated(admitted: Admitted, body: object) -> Reply:
    warnings = _warnings(admitted, body)
    for error in admitted.rejected.values():
        return _rejection(error, warnings)
    for event in admitted.resolved.values():
        return _json({"success": True, "message": _ACCEPTED, "outcome": "accepted", "event": event} | warnings)
    for reason in admitted.reasons.values():
        return _json({"success": True, "message": _DROPPED, "outcome": "dropped", "dropped": reason} | warnings)
    return _json({"success": True, "message": _DROPPED + SHOWS_WHY, "outcome": "dropped"} | warnings)


def answer_several(admitted: Admitted, bodies: Sequence[object]) -> Response:
    answer: dict[str, object] = {
        "success": True,
        "accepted": admitted.accepted,
        "dropped": admitted.dropped,
        **list_rejected(admitted.rejected),
    }
    lists = {
        "dropped_events": [{"index": index, "reason": reason} for index, reason in admitted.reasons.items()],
        "events": [{"index": index} | event for index, event in admitted.resolved.items()],
        "warnings": [*_warning_of_key(admitted), *warnings_of(unknown_fields(bodies, admitted.exported))],
    }
    return jsonify(answer | {name: found[:MOST_LISTED] for name, found in lists.items() if found})


def _warnings(admitted: Admitted, body: object) -> dict[str, object]:
    """The part `warnings` of the answer to one event. Empty if there is no warning."""
    warnings = [*_warning_of_key(admitted), *warnings_of(unknown_fields([body], admitted.exported))]
    return {"warnings": [{"field": x["field"], "message": x["message"]} for x in warnings]} if warnings else {}


def _warning_of_key(admitted: Admitted) -> list[dict[str, object]]:
    return [{"field": "Authorization", "message": BAD_KEY}] if admitted.has_bad_key else []


def _rejection(error: InvalidEvent, warnings: dict[str, object]) -> Reply:
    status, body, headers = describe_invalid_event(error, **warnings)
    return Reply(body.encode(), f"{status} {HTTPStatus(status).phrase.upper()}", headers=tuple(headers.items()))


def _json(body: dict[str, object]) -> Reply:
    """A JSON response with the same spaces as QUEUED."""
    return Reply(json.dumps(body).encode())
