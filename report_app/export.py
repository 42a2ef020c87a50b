"""GET /export/events: a site's raw events as NDJSON, CSV or Parquet, without a time limit.

The events go from MongoDB to the client piece by piece. An export uses a bounded buffer, and a thread only while it
makes a piece. A process runs at most `WEB_THREADS` / 2 exports at once. If MongoDB fails during an export, the answer
breaks off, so that the client cannot take a part for the whole.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import chain, islice
from threading import BoundedSemaphore
from typing import Any

import structlog
from flask import Blueprint, Response, request

from analytics.events.event import Event
from analytics.events.export import EXPORT_COLUMNS, in_pieces, ndjson, parquet, row_of
from analytics.events.store import EventStore
from analytics.json_schema import TEXT, Json, one_of
from analytics.reports.engine import Reports
from analytics.reports.filtered_events import filtered_events
from analytics.reports.results import Refused
from analytics.schema_fields import EARLIEST, LATEST_SENT
from analytics.unavailable import Unavailable
from report_app.csv_output import BOM_PARAMETER, csv_lines, wants_bom
from report_app.errors import OF_QUESTIONS
from report_app.query_json_schema import PERIOD_NAME
from report_app.site_lookup import SITE_EXAMPLE, SiteLookup
from report_app.url_parameters import FILTERS, FROM_TO, PERIOD, SITE_PARAMETER, bad_parameters, read_parameters
from report_app.visitors import RAW_DATA
from web.auth import Check, api_key_id
from web.openapi import Operation, described_by, parameter

log = structlog.get_logger()

_ASKED = ("site_id", *PERIOD, FILTERS, "format", "bom")
FORMATS = {"ndjson": "application/x-ndjson", "csv": "text/csv", "parquet": "application/vnd.apache.parquet"}
_TOO_MANY = "Too many exports are running. Send the request again."
AS_FILE: Json = {"Content-Disposition": {"required": True, "schema": TEXT}}

_EXPORT = Operation(
    summary="Export of raw events",
    tag=RAW_DATA,
    note="If a store becomes unreachable during the export, the connection closes before the end, so that the client "
    "sees an error. Filters such as `country=DE` work as in GET /stats/breakdown.",
    parameters=[
        SITE_PARAMETER,
        parameter("period", PERIOD_NAME | {"default": "all"}),
        *FROM_TO,
        parameter("format", one_of(*FORMATS) | {"default": "ndjson"}),
        BOM_PARAMETER,
        parameter(FILTERS, TEXT, "The `filters` of POST /api/v2/query, as JSON."),
    ],
    answer={
        mimetype: {"type": "string", "format": "binary"} if form == "parquet" else TEXT
        for form, mimetype in FORMATS.items()
    },
    headers=AS_FILE,
    says=OF_QUESTIONS,
    examples={"site_id": SITE_EXAMPLE, "from": "2026-11-01", "to": "2026-11-30"},
)


def export_blueprint(
    events: EventStore,
    reports: Reports,
    site_called: SiteLookup,
    auth: Check,
    clock: Callable[[], datetime],
    *,
    at_once: int,
) -> Blueprint:
    """`auth`: rejects every request without a key, because raw events are personal data.

    `at_once`: the number of exports.
    """
    blueprint = Blueprint("export", __name__)
    blueprint.before_request(auth)
    slots = BoundedSemaphore(at_once)

    @blueprint.get("/export/events")
    @described_by(_EXPORT)
    def export_events() -> Response:
        budget = reports.budget(api_key_id())
        asked = read_parameters(request.args, _ASKED, period="all")
        form, write, mimetype = _format()
        with asked.naming_parameters(), ExitStack() as held:
            site = site_called(asked.site_id)
            query = asked.load(site, clock(), lambda: None)
            is_all = asked.period == {"period": "all"}
            if is_all:  # up to the last event, also if its time is later today
                query = replace(query, period=replace(query.period, start=EARLIEST, end=LATEST_SENT))
            if not slots.acquire(blocking=False):
                raise Refused("busy", _TOO_MANY)
            held.callback(slots.release)
            found = (
                filtered_events(reports, events, query, budget, clock)
                if query.filters
                else events.find(site.site_id, query.period.start, query.period.end)
            )
            first = list(islice(found, 1))  # asks the stores before the status 200 is sent
            pieces = write(chain(first, found))
            kept = held.pop_all()
            answer = Response(_watched(pieces, site.site_id, kept), mimetype=mimetype)
            answer.call_on_close(kept.close)  # needed if the client reads nothing
        days = "" if is_all else f"-{query.period.first_day()}-{query.period.last_day()}"
        answer.headers.set("Content-Disposition", "attachment", filename=f"events{days}.{form}")
        return answer

    return blueprint


Writer = Callable[[Iterable[Event]], Iterator[bytes]]


def _format() -> tuple[str, Writer, str]:
    """The requested format: its name, its writer, and its media type. Raises BadRequest."""
    writers: dict[str, Writer] = {"ndjson": ndjson, "csv": partial(as_csv, bom=wants_bom()), "parquet": parquet}
    form = request.args.get("format", "ndjson")
    if form not in FORMATS:
        raise bad_parameters({"format": [f"Not a format. Send one of {', '.join(FORMATS)}."]})
    return form, writers[form], FORMATS[form]


def as_csv(events: Iterable[Event], *, bom: bool) -> Iterator[bytes]:
    lines = csv_lines(EXPORT_COLUMNS.names, map(_cells, events), bom=bom)
    return in_pieces(line.encode() for line in lines)


def _cells(event: Event) -> Iterator[Any]:
    row = row_of(event)
    return (_cell(row.get(name)) for name in EXPORT_COLUMNS.names)


def _cell(value: Any) -> Any:
    match value:
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.isoformat()
    return value


def _watched(pieces: Iterator[bytes], site_id: str, held: ExitStack) -> Iterator[bytes]:
    """Yields the pieces. If a store fails or a limit is reached after the status was sent, the error is logged and the
    answer breaks off.
    """
    try:
        with held:
            yield from pieces
    except Unavailable as error:
        log.warning("export_aborted", site_id=site_id, error=type(error.cause).__name__)
        raise
    except Refused as error:
        log.warning("export_aborted", site_id=site_id, error=error.code)
        raise
