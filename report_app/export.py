"""GET /export/events: a site's raw events of some days, as NDJSON or Parquet, as long as it takes.

They go from MongoDB to the asker piece by piece. Where MongoDB goes away on the way the answer breaks off, so that no
part of it can be taken for the whole.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from itertools import chain, islice

import structlog
from flask import Blueprint, Response, request

from analytics.event_store import EventStore
from analytics.export import ndjson, parquet
from analytics.reports import Reports
from analytics.unavailable import Unavailable
from report_app.parameters import PERIOD, bad_parameters, read_parameters
from report_app.site_lookup import SiteLookup
from web.auth import Check, api_key_id

log = structlog.get_logger()

ASKED = ("site_id", *PERIOD, "format")
FORMATS = {"ndjson": (ndjson, "application/x-ndjson"), "parquet": (parquet, "application/vnd.apache.parquet")}


def export_blueprint(
    events: EventStore, reports: Reports, site_called: SiteLookup, auth: Check, clock: Callable[[], datetime]
) -> Blueprint:
    """`auth` lets nobody pass without a key: raw events are of single persons."""
    blueprint = Blueprint("export", __name__)
    blueprint.before_request(auth)

    @blueprint.get("/export/events")
    def export_events() -> Response:
        budget = reports.budget(api_key_id())
        asked = read_parameters(request.args, ASKED, filtered=False, period="all")
        form = request.args.get("format", "ndjson")
        if form not in FORMATS:
            raise bad_parameters({"format": [f"Either {' or '.join(FORMATS)}."]})
        with asked.naming_parameters():
            site = site_called(asked.site_id)
            period = asked.load(site, clock(), partial(reports.earliest, site.site_id, budget)).period
        write, mimetype = FORMATS[form]
        found = events.find(site.site_id, period.start, period.end)
        first = list(islice(found, 1))  # asks MongoDB before the 200 is on its way
        answer = Response(_watched(write(chain(first, found)), site.site_id), mimetype=mimetype)
        filename = f"events-{period.first_day()}-{period.last_day()}.{form}"
        answer.headers.set("Content-Disposition", "attachment", filename=filename)
        return answer

    return blueprint


def _watched(pieces: Iterator[bytes], site_id: str) -> Iterator[bytes]:
    """The status is out: all that is left to say is in the log, and in that the answer has no end."""
    try:
        yield from pieces
    except Unavailable as error:
        log.warning("export_broken_off", site_id=site_id, error=type(error.cause).__name__)
        raise
