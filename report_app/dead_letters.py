"""/admin/dead-letters: shows, exports, replays and purges dead letters (events that failed permanently)."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any, Literal, TypedDict
from uuid import UUID

from flask import Blueprint, Response, abort, request
from marshmallow import Schema, fields
from marshmallow.validate import Range

from analytics.events.schema import EventSchema, read_event_json
from analytics.journal.dead_letters import DeadLetter, DeadLetterJson, DeadLetterStore, LetterCount, LetterFilter
from analytics.journal.journal import Journal
from analytics.journal.replay import replay_all, replay_edited, replay_letter
from analytics.json_schema import TEXT, Count, IdText
from analytics.schema_fields import Moment, Text, Whole
from web.auth import Check
from web.errors import BadRequest, error_body, error_response
from web.openapi import JSON, NDJSON, Operation, described_by
from web.request_data import read, read_body

MISPLACED = ["Send this field in the body."]
_CUT = "Only the beginning of this dead letter is stored. Send the complete event in the body."


class LetterQuery(Schema):
    """Unknown fields are an error: a filter with a misspelled name must not purge everything."""

    site_id = Text(longest=128)
    reason = Text(longest=128)
    dead_before = Moment()


class LetterPage(LetterQuery):
    limit = fields.Integer(validate=Range(1, 1000), load_default=100)
    after = fields.UUID()


class Purge(LetterQuery):
    confirm = Whole(required=True)


class LetterCounts(TypedDict):
    count: Count
    by: list[LetterCount]


class LettersJson(TypedDict):
    dead_letters: list[DeadLetterJson]
    after: IdText | None


class OneReplayed(TypedDict):
    success: Literal[True]
    replayed: Literal[1]


class SeveralReplayed(TypedDict):
    success: Literal[True]
    replayed: Count
    cut: Count


class LettersPurged(TypedDict):
    success: Literal[True]
    purged: Count


_TAG = "Dead letters"
_COUNT = Operation(summary="Count dead letters by site and reason", tag=_TAG, query=LetterQuery)
_LIST = Operation(
    summary="List dead letters (events that failed permanently), newest first", tag=_TAG, query=LetterPage
)
_EXPORT = Operation(summary="Export dead letters, one on each line", tag=_TAG, query=LetterQuery, answer={NDJSON: TEXT})
_SHOW = Operation(summary="One dead letter with its payload", tag=_TAG)
_REPLAY_ONE = Operation(
    summary="Replay one dead letter, unchanged or with the event in the body",
    tag=_TAG,
    body={JSON: EventSchema},
    body_required=False,
    says={404: "", 409: "`cut`: the payload was too long and only its beginning is stored."},
)
_REPLAY_MANY = Operation(
    summary="Replay all dead letters that match the filter", tag=_TAG, body={JSON: LetterQuery}, body_required=False
)
_PURGE = Operation(
    summary="Purge dead letters that match the filter",
    tag=_TAG,
    body={JSON: Purge},
    says={409: "`not_confirmed`: `confirm` is not the number of matching dead letters. The message states the number."},
)


def dead_letters_blueprint(letters: DeadLetterStore, journal: Journal, auth: Check) -> Blueprint:
    blueprint = Blueprint("dead_letters", __name__, url_prefix="/admin/dead-letters")
    blueprint.before_request(auth)

    @blueprint.get("/count")
    @described_by(_COUNT)
    def count() -> LetterCounts:
        rows = letters.count(_filter(read(LetterQuery(), request.args)))
        return {"count": sum(row.count for row in rows), "by": rows}

    @blueprint.get("")
    @described_by(_LIST)
    def list_letters() -> LettersJson:
        query = read(LetterPage(), request.args)
        page = [x.as_json() for x in letters.find(_filter(query), after=query.get("after"), limit=query["limit"])]
        return {"dead_letters": page, "after": page[-1]["id"] if len(page) == query["limit"] else None}

    @blueprint.get("/export")
    @described_by(_EXPORT)
    def export() -> Response:
        found = letters.find(_filter(read(LetterQuery(), request.args)))
        first = list(islice(found, 1))  # asks MongoDB before the status 200 is sent
        return Response(_lines(chain(first, found)), mimetype=NDJSON)

    @blueprint.get("/<uuid:letter_id>")
    @described_by(_SHOW)
    def show(letter_id: UUID) -> DeadLetterJson:
        return _get(letters, letter_id).as_json()

    @blueprint.post("/<uuid:letter_id>/replay")
    @described_by(_REPLAY_ONE)
    def replay_one(letter_id: UUID) -> OneReplayed | Response:
        """The body is empty, or it is the event to replay instead."""
        letter = _get(letters, letter_id)
        if body := request.get_data():
            replay_edited(journal, letter, read_event_json(body))
        elif not replay_letter(journal, letter):
            return error_response(409, error_body("cut", _CUT))
        return {"success": True, "replayed": 1}

    @blueprint.post("/replay")
    @described_by(_REPLAY_MANY)
    def replay_many() -> SeveralReplayed:
        done = replay_all(journal, letters, _filter(read(LetterQuery(), _body())))
        return {"success": True, "replayed": done.replayed, "cut": done.cut}

    @blueprint.post("/purge")
    @described_by(_PURGE)
    def purge() -> LettersPurged | Response:
        """Purges the dead letters that fit the filter.

        `confirm` is the expected number: with another number, none is purged.
        """
        query = read(Purge(), _body())
        now = datetime.now(UTC)
        which = _filter(query).until(now)
        total = sum(row.count for row in letters.count(which))
        if query["confirm"] != total:
            message = f"{total} dead letters match. To purge them, send this number as `confirm`."
            return error_response(409, error_body("not_confirmed", message))
        return {"success": True, "purged": letters.purge(which, now)}

    return blueprint


def _get(letters: DeadLetterStore, letter_id: UUID) -> DeadLetter:
    return letters.get(letter_id) or abort(
        404, f"There is no dead letter {letter_id}. GET /admin/dead-letters lists them."
    )


def _lines(found: Iterator[DeadLetter]) -> Iterator[str]:
    return (json.dumps(letter.as_json(), ensure_ascii=False) + "\n" for letter in found)


def _body() -> Any:
    """The body of a POST. A filter in the query is an error: if it were ignored, all dead letters would be replayed."""
    if request.args:
        raise BadRequest(
            "invalid_query", "Send the filter as JSON in the body.", dict.fromkeys(request.args, MISPLACED)
        )
    return read_body(b"{}")


def _filter(query: dict[str, Any]) -> LetterFilter:
    return LetterFilter(query.get("site_id"), query.get("reason"), query.get("dead_before"))
