"""POST /mcp: the endpoint of the Model Context Protocol."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from flask import Blueprint, Response, abort, request

from analytics.access.api_key import READ_SCOPE
from analytics.json_schema import ANYTHING, TEXT, an_object, any_of, just, loosely, or_null
from analytics.reports.engine import Reports
from analytics.sites.store import SiteStore
from report_app.assistants.tools import Toolbox
from report_app.site_lookup import SiteLookup
from web.auth import Check, api_key_id, key_may
from web.openapi import JSON, Operation, described_by

_NOT_JSON = "Answers are JSON: send `Accept: application/json, text/event-stream`, as the protocol demands."
_FROM_A_PAGE = "Pages in a browser may not use /mcp."


class McpError(TypedDict):
    """An error of the protocol has `jsonrpc` and `id`. An error of Footfall has `success`."""

    error: Annotated[dict[str, Any], "`code` and `message`."]
    jsonrpc: NotRequired[Literal["2.0"]]
    id: NotRequired[str | int | None]
    success: NotRequired[Literal[False]]


_MESSAGE = an_object(
    {"jsonrpc": just("2.0"), "method": TEXT},
    {
        "id": loosely(any_of(TEXT, {"type": "integer"})) | {"description": "Without it, this is a notification."},
        "params": or_null({"type": "object"}),
    },
)
_POST = Operation(
    summary="The Model Context Protocol, for assistants",
    tag="Assistants",
    note="docs/assistants.md explains how to connect an assistant. It is stateless, and answers with JSON.",
    body={JSON: _MESSAGE},
    answer={JSON: ANYTHING},
    error=McpError,
    says={
        202: "A notification has no answer.",
        400: "The message is not understood.",
        404: "There is no such method.",
        406: _NOT_JSON,
    },
)


def assistants_blueprint(
    reports: Reports, sites: SiteStore, site_called: SiteLookup, auth: Check, clock: Callable[[], datetime]
) -> Blueprint:
    blueprint = Blueprint("assistants", __name__)
    blueprint.before_request(auth)
    blueprint.before_request(_refuse_pages)

    @blueprint.post("/mcp")
    @described_by(_POST)
    def mcp() -> Response:
        from report_app.assistants.sdk_server import answer_mcp  # noqa: PLC0415  it takes 30 MB

        if not request.accept_mimetypes.accept_json:
            abort(406, _NOT_JSON)
        toolbox = Toolbox(reports, sites, site_called, clock, partial(key_may, READ_SCOPE), api_key_id())
        answer = answer_mcp(toolbox.tools(), _of_protocol(), request.get_data(), reports.time_limit + 5)
        return Response(answer.body, answer.status, answer.headers)

    return blueprint


def _refuse_pages() -> None:
    """Only browsers send an Origin. The protocol demands this check, because the name of a foreign page may lead to
    this server, and reports may be open.
    """
    if "Origin" in request.headers:
        abort(403, _FROM_A_PAGE)


def _of_protocol() -> list[tuple[str, str]]:
    """The headers of the protocol. The SDK gets no others, and no key."""
    return [each for each in request.headers.items() if each[0].lower().startswith("mcp-")]
