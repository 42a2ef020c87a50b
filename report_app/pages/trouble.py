"""What a page says if it has no answer: what happened, and what to do."""

from dataclasses import dataclass

import structlog
from werkzeug.exceptions import Forbidden, HTTPException, NotFound

from analytics.queries.query_schema import InvalidQuery
from analytics.reports.results import Refused
from analytics.segments.store import SegmentLost
from analytics.sites.store import UnknownSite
from analytics.unavailable import Unavailable
from report_app.errors import LOST

log = structlog.get_logger()

# What a view may raise. Other exceptions are bugs, and web/errors.py answers them.
TROUBLES = (Refused, InvalidQuery, Unavailable, SegmentLost, UnknownSite, Forbidden, NotFound)


@dataclass(frozen=True, slots=True)
class Trouble:
    """`retries`: the page asks again by itself. `is_too_slow`: the page offers a shorter period."""

    status: int
    title: str
    text: str
    retries: bool = False
    is_too_slow: bool = False


def trouble_of(error: Exception) -> Trouble:
    """The trouble for one of TROUBLES."""
    match error:
        case Refused(code="busy"):
            trouble = Trouble(503, "Other queries are running", "This one follows in a moment.", retries=True)
        case Refused():
            trouble = Trouble(503, "This takes too long", error.message, is_too_slow=True)
        case InvalidQuery():
            trouble = Trouble(400, "This cannot be asked", f"{error.message.rstrip('.')}. Remove or change a filter.")
        case Unavailable():
            trouble = Trouble(503, f"{error.store} does not answer", "The page tries again by itself.", retries=True)
        case SegmentLost():
            log.error("segment_lost", error=str(error))
            trouble = Trouble(503, "Some events cannot be read", LOST)
        case UnknownSite():
            trouble = Trouble(404, "There is no such site", "Check the address, or choose a site from the overview.")
        case Forbidden():
            trouble = Trouble(403, "You may not see this site", "Sign in with an account or a key that may read it.")
        case HTTPException():
            trouble = Trouble(error.code or 500, error.name, error.description or "")
        case _:
            raise error
    return trouble
