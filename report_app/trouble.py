"""What a page or a part of a page says if it has no answer: what happened, and what to do."""

from dataclasses import dataclass
from datetime import timedelta
from math import ceil

import structlog
from flask import Response, request
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import Forbidden, HTTPException, NotFound, TooManyRequests

from analytics.queries.query_schema import InvalidQuery
from analytics.reports.results import Refused
from analytics.segments.store import SegmentLost
from analytics.sites.store import UnknownSite
from analytics.unavailable import Unavailable
from report_app.errors import LOST
from report_app.page_access import site_path
from report_app.pages.page_state import PERIODS, PageState, read_state
from report_app.pages.rendering import POLICY, show
from web.errors import INTERNAL, RETRY_AFTER, BadRequest

log = structlog.get_logger()

# What a view may raise. Other exceptions are bugs.
TROUBLES = (Refused, InvalidQuery, Unavailable, SegmentLost, UnknownSite, Forbidden, NotFound)

# Parts that the page asks for again in any case. They keep what they show if there is no answer.
_ASKED_AGAIN = ("pages.live", "pages.first_event", "pages.suggestions")
_STORES = {"redis": "Redis", "mongodb": "MongoDB"}
_LATER = "Load the page again in a minute."
_EXPIRED = "Nothing was changed. Go back, load the page again and send the form again."


@dataclass(frozen=True, slots=True)
class Trouble:
    """`retry_after`: the seconds after which the same request may succeed; 0 if they do not help. `retries`: a part of
    a page asks again by itself. `is_too_slow`: it offers a shorter period.
    """

    status: int
    title: str
    text: str
    retry_after: int = 0
    retries: bool = False
    is_too_slow: bool = False


def answer_trouble(error: Exception) -> Response:
    """The page, or the part of a page, that says what happened."""
    trouble = trouble_of(error)
    if request.endpoint in _ASKED_AGAIN:
        answer = Response(status=trouble.status, headers={"HX-Reswap": "none"})
    elif request.path.startswith("/parts/"):
        shorter = _shorter_than_asked()
        answer = show("trouble.html", trouble.status, trouble=trouble, again=request.full_path, shorter=shorter)
    else:
        again = request.full_path if request.method == "GET" else ""
        answer = show("trouble_page.html", trouble.status, POLICY, trouble=trouble, again=again)
    return with_retry(answer, trouble)


def with_retry(answer: Response, trouble: Trouble) -> Response:
    """The answer, which says when to ask again."""
    if trouble.retry_after:
        answer.headers["Retry-After"] = str(trouble.retry_after)
    return answer


def trouble_of(error: Exception) -> Trouble:
    """The trouble for an exception. Logs what the operator must know."""
    match error:
        case Refused(code="busy"):
            trouble = Trouble(503, "Other queries are running", _LATER, RETRY_AFTER, retries=True)
        case Refused():
            trouble = Trouble(503, "This takes too long", error.message, is_too_slow=True)
        case InvalidQuery():
            advice = "Choose other sites." if error.pointer == "#/site_id" else "Remove or change a filter."
            trouble = Trouble(400, "This cannot be asked", f"{error.message.rstrip('.')}. {advice}")
        case BadRequest():
            trouble = Trouble(400, "This cannot be asked", str(error))
        case Unavailable():
            log.warning("page_unavailable", store=error.store, error=str(error))
            name = _STORES.get(error.store, error.store)
            trouble = Trouble(503, f"{name} is not reachable", _LATER, RETRY_AFTER, retries=True)
        case SegmentLost():
            log.error("segment_lost", error=str(error))
            trouble = Trouble(503, "Some events cannot be read", LOST)
        case UnknownSite():
            trouble = Trouble(404, "There is no such site", "Check the address, or choose a site from the overview.")
        case HTTPException():
            trouble = _http_trouble(error)
        case _:
            log.exception("request_failed", error=type(error).__name__)
            trouble = Trouble(500, "An error occurred", INTERNAL)
    return trouble


def _http_trouble(error: HTTPException) -> Trouble:
    match error:
        case CSRFError():
            return Trouble(400, "The form expired", _EXPIRED)
        case TooManyRequests():
            seconds = int(dict(error.get_headers())["Retry-After"])
            minutes = max(1, ceil(seconds / 60))
            unit = "minute" if minutes == 1 else "minutes"
            text = f"There were too many attempts. Try again in {minutes} {unit}."
            return Trouble(429, "Too many attempts", text, seconds)
        case Forbidden() if error.description == Forbidden.description:
            return Trouble(403, "You may not see this site", "Sign in with an account that may read it.")
    return Trouble(error.code or 500, error.name, error.description or "")


def shorter_period(site_id: str, state: PageState) -> tuple[str, str] | None:
    """The URL of the site's page with a shorter period, and what that is called. None if there is no shorter one."""
    if state.period in ("day", "yesterday", "24h"):
        return None
    is_short = state.period == "7d" or (state.first and state.last and state.last - state.first < timedelta(days=7))
    period = "day" if is_short else "7d"
    return f"{site_path(site_id)}?{state.with_period(period).as_query()}", PERIODS[period][0].lower()


def _shorter_than_asked() -> tuple[str, str] | None:
    # A part without a period, such as a card, is as one of a day: there is no shorter one.
    return shorter_period(str((request.view_args or {}).get("site_id", "")), read_state(request.args, "day"))
