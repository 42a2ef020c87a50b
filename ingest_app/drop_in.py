"""Shared by the drop-in endpoints: errors as their clients read them, the look-up of sites, batches of our tracker."""

import json
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Annotated, NotRequired, TypedDict

from flask import Flask, Response, request

from analytics.events.schema import InvalidEvent, described, load_moment
from analytics.json_schema import Count
from analytics.sites.site import Site
from ingest_app.hit import MOST_LOOK_UPS, Environ, Hit, checked_events, read_hit, too_many_sites
from web.errors import Error

# What the descriptions of the drop-in routes share.
DROP_IN_TAG = "From clients of other systems"
OF_BATCHES = {400: "The body is not JSON, or does not have the format of this route.", 415: "", 429: ""}
OF_EVENTS = OF_BATCHES | {403: "`origin_not_allowed`: the site does not accept events from the origin of this page."}
PATHS = ("/api/", "/v1/", "/beacon/", "/pixel/")

# Limits of the lists in an answer, so that a small hit with many invalid events does not get a large answer.
MOST_LISTED = 100  # events of one kind; the counts are of all events
_MOST_TEXT = 100_000  # characters
MOST_FIELDS = 10  # of one event
MOST_SENTENCES = 3  # of one field
_LONGEST_NAME = 100  # characters of a field's name
NO_NAMES: Mapping[str, str] = {}


class DropInError(Error):
    code: str
    message: str
    errors: NotRequired[dict[str, list[str]]]


class RejectedJson(TypedDict):
    index: Count
    code: str
    message: str
    fields: dict[str, list[str]]


class Rejections(TypedDict):
    rejected: Annotated[
        list[RejectedJson],
        f"The first {MOST_LISTED} rejected events, each with at most {MOST_FIELDS} fields.",
    ]
    rejected_count: NotRequired[
        Annotated[
            Count,
            "The number of all rejected events. Only present if `rejected` does not list all of them.",
        ]
    ]


def add_vendor_error_fields(app: Flask) -> None:
    """Adds `code`, `message` and `errors` at the top level of error bodies.

    The other systems' clients look for `code` and `message` there, and Plausible's users look for `errors`. Older
    clients of Segment and RudderStack treat an error without them as a bug of their own, and send the invalid events
    again for ever.
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
) -> list[RejectedJson]:
    """Rejected events as a batch's answer lists them: the first ones, each with some of its fields.

    `names`: the client's field names, by ours.
    """
    listed: list[RejectedJson] = []
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
    """Rejected events with the client's field names. `names`: the client's field names, by ours."""
    return {
        index: InvalidEvent(
            {names.get(name, name): said for name, said in error.fields.items()}, error.code, error.site_id
        )
        for index, error in rejected.items()
    }


def list_rejected(rejected: Mapping[int, InvalidEvent], names: Mapping[str, str] = NO_NAMES) -> Rejections:
    """Rejected events as a part of an answer: a list, and their number if the list is not complete."""
    listed = describe_rejections(rejected, names)
    if len(listed) == len(rejected):
        return {"rejected": listed}
    return {"rejected": listed, "rejected_count": len(rejected)}


class SitesMeant:
    """The sites that the events of one hit name. Each name is looked up once, and at most MOST_LOOK_UPS names are.

    `find`: the site for a domain or a write key. A name without a site may be a site_id itself.
    """

    def __init__(self, find: Callable[[str], Site | None]) -> None:
        self._find = find
        self._found: dict[str, str] = {}

    def id_of(self, name: str) -> str:
        """Returns the site_id for a name.

        Raises InvalidEvent if a hit names too many sites, and Unavailable from `find`.
        """
        if name not in self._found:
            if len(self._found) == MOST_LOOK_UPS:
                raise too_many_sites()
            site = self._find(name)
            self._found[name] = site.site_id if site else name
        return self._found[name]


def read_own_batch(environ: Environ, body: object, meant: SitesMeant) -> Hit | None:
    """Reads a batch that our tracker sent in place of another system's script (ingest_app/js/stand_in.js).

    Its events name their sites as clients of that system do. Returns None for any other body. Raises InvalidEvent, and
    Unavailable from `meant`.
    """
    if not isinstance(body, dict) or "events" not in body:
        return None
    events = [each for event in checked_events(body["events"]) for each in _for_each_site(event, meant)]
    return read_hit(environ, checked_events(events), load_moment("sent_at", body.get("sent_at")))


def _for_each_site(event: object, meant: SitesMeant) -> list[object]:
    names = event.get("site_id") if isinstance(event, dict) else None
    if not isinstance(event, dict) or not isinstance(names, str):
        return [event]
    sites = dict.fromkeys(meant.id_of(name.strip().removeprefix("www.")) for name in names.split(","))
    return [event | {"site_id": site_id} for site_id in sites]
