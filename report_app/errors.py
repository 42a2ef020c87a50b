"""The errors of reports, in addition to those of both apps (web/errors.py).

Errors under /api/v1 and /api/v2 have the shape that Plausible's clients know, {"error": message}. Status and headers
stay the same.
"""

import json
from typing import TypedDict

import structlog
from flask import Flask, Response, request

from analytics.languages import translatable
from analytics.queries.query_schema import InvalidQuery
from analytics.reports.results import Refused
from analytics.segments.store import SegmentLost
from analytics.sites.store import UnknownSite
from web.errors import RETRY_AFTER, error_body, error_response, unavailable_response

log = structlog.get_logger()

PLAUSIBLE = ("/api/v1/", "/api/v2/")
LOST = translatable(
    "Some events of this site cannot be read, because a segment in MongoDB is lost or damaged. Run"
    " `python -m footfall segments rebuild` on the server, which rebuilds the segment from the events."
)

# What the description says about errors.
_NO_SITE = "`unknown_site`: in production, the site is not set up. The message suggests a site with a similar name."
_REFUSED = (
    "`busy` or `unavailable`, with Retry-After: send the request again. `time_limit` or `memory_limit`: query a "
    "shorter period."
)
OF_QUESTIONS = {
    400: "The query is not valid. `message` says what is wrong, and `fields` says it for each parameter.",
    404: _NO_SITE,
    503: _REFUSED,
}
OF_PROGRAMS = {400: "`<JSON pointer>: <message>`", 404: _NO_SITE, 503: _REFUSED}
OF_VERSION_1 = OF_PROGRAMS | {400: "`<parameter>`: <message>"}


class PlausibleError(TypedDict):
    error: str


def register_report_errors(app: Flask) -> None:
    @app.errorhandler(InvalidQuery)
    def invalid_query(error: InvalidQuery) -> Response:
        return error_response(400, error_body("invalid_query", str(error)))

    @app.errorhandler(UnknownSite)
    def unknown_site(error: UnknownSite) -> Response:
        return error_response(404, error_body("unknown_site", error.message, {"site_id": [error.message]}))

    @app.errorhandler(Refused)
    def refused(error: Refused) -> Response:
        """Only a `busy` error has Retry-After: the same query can succeed later. Other messages say what to change."""
        headers = {"Retry-After": str(RETRY_AFTER)} if error.code == "busy" else None
        return error_response(503, error_body(error.code, error.message), headers)

    @app.errorhandler(SegmentLost)
    def segment_lost(error: SegmentLost) -> Response:
        log.error("segment_lost", error=str(error))
        return unavailable_response(LOST)

    @app.after_request
    def in_plausibles_shape(response: Response) -> Response:
        if request.path.startswith(PLAUSIBLE) and response.status_code >= 400:
            body: PlausibleError = {"error": response.get_json()["error"]["message"]}
            response.data = json.dumps(body)
        return response
