"""/admin/dead-letters: shows, exports, replays and purges dead letters (events that failed permanently)."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any
from uuid import UUID

from flask import Blueprint, Response, abort, jsonify, request
from marshmallow import Schema, fields
from marshmallow.validate import Range

from analytics.events.schema import read_event_json
from analytics.journal.dead_letters import DeadLetter, DeadLetterStore, LetterFilter
from analytics.journal.journal import Journal
from analytics.journal.replay import replay_all, replay_edited, replay_letter
from analytics.schema_fields import Moment, Text, Whole
from web.auth import Check
from web.errors import BadRequest, error_body, error_response
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


def dead_letters_blueprint(letters: DeadLetterStore, journal: Journal, auth: Check) -> Blueprint:
    blueprint = Blueprint("dead_letters", __name__, url_prefix="/admin/dead-letters")
    blueprint.before_request(auth)

    @blueprint.get("/count")
    def count() -> Response:
        rows = letters.count(_filter(read(LetterQuery(), request.args)))
        return jsonify(count=sum(row.count for row in rows), by=[asdict(row) for row in rows])

    @blueprint.get("")
    def list_letters() -> Response:
        query = read(LetterPage(), request.args)
        page = [x.as_json() for x in letters.find(_filter(query), after=query.get("after"), limit=query["limit"])]
        return jsonify(dead_letters=page, after=page[-1]["id"] if len(page) == query["limit"] else None)

    @blueprint.get("/export")
    def export() -> Response:
        found = letters.find(_filter(read(LetterQuery(), request.args)))
        first = list(islice(found, 1))  # asks MongoDB before the status 200 is sent
        return Response(_lines(chain(first, found)), mimetype="application/x-ndjson")

    @blueprint.get("/<uuid:letter_id>")
    def show(letter_id: UUID) -> Response:
        return jsonify(_get(letters, letter_id).as_json())

    @blueprint.post("/<uuid:letter_id>/replay")
    def replay_one(letter_id: UUID) -> Response:
        """The body is empty, or it is the event to replay instead."""
        letter = _get(letters, letter_id)
        if body := request.get_data():
            replay_edited(journal, letter, read_event_json(body))
        elif not replay_letter(journal, letter):
            return error_response(409, error_body("cut", _CUT))
        return jsonify(success=True, replayed=1)

    @blueprint.post("/replay")
    def replay_many() -> Response:
        done = replay_all(journal, letters, _filter(read(LetterQuery(), _body())))
        return jsonify(success=True, **asdict(done))

    @blueprint.post("/purge")
    def purge() -> Response:
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
        return jsonify(success=True, purged=letters.purge(which, now))

    return blueprint


def _get(letters: DeadLetterStore, letter_id: UUID) -> DeadLetter:
    return letters.get(letter_id) or abort(404, f"There is no dead letter {letter_id}.")


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
