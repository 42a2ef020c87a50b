"""What the drop-in endpoints share: errors as their clients read them, and the site that they mean."""

import json
from collections.abc import Callable, Mapping
from itertools import islice

from flask import Flask, Response, request

from analytics.events.schema import InvalidEvent, described
from analytics.sites.site import Site
from ingest_app.hit import MOST_LOOK_UPS, too_many_sites

PATHS = ("/api/", "/v1/", "/beacon/", "/pixel/")

# What an answer lists, so that a small hit of many wrong events gets no large answer.
MOST_LISTED = 100  # events of one kind; the counts are of all
_MOST_TEXT = 100_000  # characters
MOST_FIELDS = 10  # of one event
MOST_SENTENCES = 3  # of one field
_LONGEST_NAME = 100  # characters of a field's name
NO_NAMES: Mapping[str, str] = {}


def add_vendor_error_fields(app: Flask) -> None:
    """Their clients look for `code` and `message` at the top of an error's body, Plausible's users for `errors`. An
    older client of Segment's or RudderStack's that misses them takes the error for a bug of its own, and sends again
    what is wrong for good.
    """

    @app.after_request
    def with_code_and_message(response: Response) -> Response:
        if response.status_code >= 400 and response.is_json and request.path.startswith(PATHS):
            body = response.get_json()
            error = body["error"]
            more = {"errors": error["fields"]} if "fields" in error else {}
            response.data = json.dumps({**body, "code": error["code"], "message": error["message"], **more})
        return response


def describe_rejections(
    rejected: Mapping[int, InvalidEvent], names: Mapping[str, str] = NO_NAMES
) -> list[dict[str, object]]:
    """Rejected events as a batch's answer lists them: the first ones, as far as there is room. Each says what is wrong
    with some of its fields. `names`: those that the client sent, by ours.
    """
    listed: list[dict[str, object]] = []
    room = _MOST_TEXT
    for index, error in islice(rejected.items(), MOST_LISTED):
        some = islice(error.fields.items(), MOST_FIELDS)
        fields = {names.get(name, name)[:_LONGEST_NAME]: sentences[:MOST_SENTENCES] for name, sentences in some}
        message = described(fields)
        room -= 2 * len(message)
        if room < 0 and listed:
            break
        listed.append({"index": index, "code": error.code, "message": message, "fields": fields})
    return listed


def in_their_words(rejected: Mapping[int, InvalidEvent], names: Mapping[str, str]) -> dict[int, InvalidEvent]:
    """Rejected events with the names that their client sent. `names`: theirs, by ours."""
    return {
        index: InvalidEvent(
            {names.get(name, name): said for name, said in error.fields.items()}, error.code, error.site_id
        )
        for index, error in rejected.items()
    }


def list_rejected(rejected: Mapping[int, InvalidEvent], names: Mapping[str, str] = NO_NAMES) -> dict[str, object]:
    """Rejected events as part of an answer: a list, and their number if the list has not all of them."""
    listed = describe_rejections(rejected, names)
    return {"rejected": listed} | ({"rejected_count": len(rejected)} if len(listed) < len(rejected) else {})


class SitesMeant:
    """The sites that the events of one hit mean: each name is looked up once, and MOST_LOOK_UPS names at most.

    `find`: the site that a client calls by a domain or a key. A name that no site has may be a site_id itself.
    """

    def __init__(self, find: Callable[[str], Site | None]) -> None:
        self._find = find
        self._found: dict[str, str] = {}

    def id_of(self, name: str) -> str:
        """Raises InvalidEvent and Unavailable."""
        if name not in self._found:
            if len(self._found) == MOST_LOOK_UPS:
                raise too_many_sites()
            site = self._find(name)
            self._found[name] = site.site_id if site else name
        return self._found[name]
