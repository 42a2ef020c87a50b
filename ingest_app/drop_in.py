"""What the drop-in endpoints share: errors as their clients read them, and the site that they mean."""

import json
from collections.abc import Callable, Mapping

from flask import Flask, Response, request

from analytics.event_schema import InvalidEvent
from analytics.site import Site

PATHS = ("/api/", "/v1/", "/beacon/", "/pixel/")


def in_their_shape(app: Flask) -> None:
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


def said_of(rejected: Mapping[int, InvalidEvent]) -> list[dict[str, object]]:
    """Rejected events as a batch's answer lists them."""
    return [
        {"index": index, "code": error.code, "message": str(error), "fields": error.fields}
        for index, error in rejected.items()
    ]


def in_their_words(rejected: Mapping[int, InvalidEvent], names: Mapping[str, str]) -> dict[int, InvalidEvent]:
    """Rejected events with the names that their client sent. `names`: theirs, by ours."""
    return {
        index: InvalidEvent(
            {names.get(name, name): said for name, said in error.fields.items()}, error.code, error.site_id
        )
        for index, error in rejected.items()
    }


def site_meant(name: str, find: Callable[[str], Site | None]) -> str:
    """The site_id of what a client calls by a domain or a key; a name that nobody owns may be a site_id itself."""
    site = find(name)
    return site.site_id if site else name
