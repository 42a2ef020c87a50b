"""The answers of POST /event and POST /events: the outcome of each event, with `?validate=1` the expected one."""

import json
from collections.abc import Sequence
from http import HTTPStatus
from itertools import islice
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from flask import request
from marshmallow import EXCLUDE, Schema, fields

from analytics.events.schema import InvalidEvent, Sent
from analytics.json_schema import Count
from ingest_app.collector import Admitted
from ingest_app.drop_in import MOST_LISTED, Rejections, list_rejected
from ingest_app.field_warnings import Warned, WarnedAt, unknown_fields, warnings_of
from ingest_app.reply import Reply
from web.errors import Error, describe_invalid_event
from web.request_data import read

QUEUED = b'{"success": true, "message": "Event queued successfully"}'
_QUEUED = Reply(QUEUED)
_ACCEPTED = "The event is valid and would be accepted. Nothing was stored."
_DROPPED = "The event is valid and would be dropped. Nothing was stored."
SHOWS_WHY = " Send an API key with the scope events:write for the site to see why."
BAD_KEY = "This API key is unknown, revoked or expired. The server handled the events as if no key was sent."


class Parameters(Schema):
    class Meta:
        unknown = EXCLUDE  # a page may add parameters of its own

    is_validation = fields.Boolean(
        data_key="validate",
        load_default=False,
        metadata={"description": "If true, the response says what would happen, and nothing is stored."},
    )


_PARAMETERS = Parameters()

_WARNINGS = (
    "Fields that Footfall does not know and ignores, at most 100. The message suggests a similar name, if there is one."
)
_Reason = Annotated[
    str,
    "Why the event was dropped. Only shown if the request has an API key with the scope events:write for its site.",
]
_Resolved = Annotated[
    dict[str, Any],
    "The event as Footfall would store it. `visitor` is `user_id`, `anonymous` or `none`. The "
    "fields that a worker adds are only shown if the request has an API key with the scope events:write for its site.",
]


class EventWarnings(TypedDict, total=False):
    warnings: Annotated[list[Warned], _WARNINGS]


class EventError(Error, EventWarnings):
    pass


class EventAnswer(EventWarnings):
    """The answer to one event."""

    success: Literal[True]
    message: str
    dropped: NotRequired[_Reason]
    outcome: NotRequired[Literal["accepted", "dropped"]]
    event: NotRequired[_Resolved]


class DroppedJson(TypedDict):
    index: Count
    reason: _Reason


class EventsAnswer(Rejections):
    """The answer to several events."""

    success: Literal[True]
    accepted: Count
    dropped: Count
    dropped_events: NotRequired[list[DroppedJson]]
    warnings: NotRequired[Annotated[list[WarnedAt], _WARNINGS]]
    events: NotRequired[list[_Resolved]]


def is_validation() -> bool:
    """Whether the events are only to be validated. Raises BadRequest if `validate` is not a boolean."""
    query = request.environ.get("QUERY_STRING", "")
    may_ask = "validate" in query or "%" in query  # most queries are not parsed
    return may_ask and "validate" in request.args and read(_PARAMETERS, request.args)["is_validation"]


def answer_one(admitted: Admitted, body: object) -> Reply:
    warnings = _warnings(admitted, body)
    for error in admitted.rejected.values():
        return _rejection(error, warnings)
    for reason in admitted.reasons.values():
        return _json({"success": True, "message": f"Event dropped: {reason}", "dropped": reason}, warnings)
    return _json(json.loads(QUEUED), warnings) if warnings else _QUEUED


def answer_one_validated(admitted: Admitted, body: object) -> Reply:
    warnings = _warnings(admitted, body)
    for error in admitted.rejected.values():
        return _rejection(error, warnings)
    for event in admitted.resolved.values():
        return _json({"success": True, "message": _ACCEPTED, "outcome": "accepted", "event": event}, warnings)
    for reason in admitted.reasons.values():
        return _json({"success": True, "message": _DROPPED, "outcome": "dropped", "dropped": reason}, warnings)
    return _json({"success": True, "message": _DROPPED + SHOWS_WHY, "outcome": "dropped"}, warnings)


def answer_several(admitted: Admitted, bodies: Sequence[object]) -> EventsAnswer:
    rejections = list_rejected(admitted.rejected)
    answer: EventsAnswer = {
        "success": True,
        "accepted": admitted.accepted,
        "dropped": admitted.dropped,
        "rejected": rejections["rejected"],
    }
    if "rejected_count" in rejections:
        answer["rejected_count"] = rejections["rejected_count"]
    if admitted.reasons:
        reasons = islice(admitted.reasons.items(), MOST_LISTED)
        answer["dropped_events"] = [{"index": index, "reason": reason} for index, reason in reasons]
    if admitted.resolved:
        resolved = islice(admitted.resolved.items(), MOST_LISTED)
        answer["events"] = [{"index": index} | event for index, event in resolved]
    if warnings := [*_warning_of_key(admitted), *warnings_of(unknown_fields(bodies, admitted.exported))]:
        answer["warnings"] = warnings[:MOST_LISTED]
    return answer


def _warnings(admitted: Admitted, body: object) -> EventWarnings:
    """The part `warnings` of the answer to one event. Empty if there is no warning."""
    if isinstance(body, Sent) and not admitted.has_bad_key:
        return {}  # a Sent has no unknown field
    warnings = [*_warning_of_key(admitted), *warnings_of(unknown_fields([body], admitted.exported))]
    return {"warnings": [{"field": x["field"], "message": x["message"]} for x in warnings]} if warnings else {}


def _warning_of_key(admitted: Admitted) -> list[WarnedAt]:
    return [{"field": "Authorization", "message": BAD_KEY}] if admitted.has_bad_key else []


def _rejection(error: InvalidEvent, warnings: EventWarnings) -> Reply:
    status, body, headers = describe_invalid_event(error, **warnings)
    return Reply(body.encode(), f"{status} {HTTPStatus(status).phrase.upper()}", headers=tuple(headers.items()))


def _json(answer: EventAnswer, warnings: EventWarnings) -> Reply:
    """A JSON response with the same spaces as QUEUED."""
    return Reply(json.dumps({**answer, **warnings}).encode())
