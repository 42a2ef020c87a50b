"""What a page or a part of a page says if it has no answer: what happened, and what to do."""

from dataclasses import dataclass
from datetime import timedelta
from math import ceil

import structlog
from flask import Response, request
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import Forbidden, HTTPException, NotFound, TooManyRequests

from analytics.languages import gettext, ngettext, translatable
from analytics.queries.query_schema import InvalidQuery
from analytics.reports.results import Refused
from analytics.segments.store import SegmentLost
from analytics.sites.store import UnknownSite
from analytics.unavailable import SEGMENTS_STORE, Unavailable
from report_app.errors import LOST
from report_app.page_access import site_path
from report_app.pages.page_state import PERIODS, PageState, read_state
from report_app.pages.rendering import POLICY, show
from report_app.texts import lazy, within_sentence
from web.errors import INTERNAL, RETRY_AFTER, STORE_NAMES, BadRequest

log = structlog.get_logger()

# What a view may raise. Other exceptions are bugs.
TROUBLES = (Refused, InvalidQuery, Unavailable, SegmentLost, UnknownSite, Forbidden, NotFound)

# Parts that the page asks for again in any case. They keep what they show if there is no answer.
_ASKED_AGAIN = ("pages.live", "pages.lately", "pages.first_event", "pages.suggestions")
_LATER = lazy("Load the page again in a minute.")
_EXPIRED = lazy("Nothing was changed. Go back, load the page again and send the form again.")

# What Werkzeug calls errors, and says about them.
_NAMES = (
    translatable("Bad Request"),
    translatable("Forbidden"),
    translatable("Not Found"),
    translatable("Method Not Allowed"),
    translatable("Conflict"),
    translatable("Request Entity Too Large"),
    translatable("Service Unavailable"),
    translatable("The data value transmitted exceeds the capacity limit."),
    translatable("The method is not allowed for the requested URL."),
    translatable(
        "The requested URL was not found on the server. If you entered the URL manually please check your spelling and"
        " try again."
    ),
)


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
            trouble = Trouble(503, gettext("Other queries are running"), _LATER, RETRY_AFTER, retries=True)
        case Refused(code="time_limit"):
            text = gettext("Choose a shorter period, or remove a filter.")
            trouble = Trouble(503, gettext("This takes too long"), text, is_too_slow=True)
        case Refused():
            trouble = Trouble(503, gettext("This takes too long"), gettext(error.message), is_too_slow=True)
        case InvalidQuery():
            is_of_sites = error.pointer == "#/site_id"
            advice = gettext("Choose other sites.") if is_of_sites else gettext("Remove or change a filter.")
            text = f"{gettext(error.message).rstrip('.')}. {advice}"
            trouble = Trouble(400, gettext("This cannot be asked"), text)
        case BadRequest():
            trouble = Trouble(400, gettext("This cannot be asked"), gettext(str(error)))
        case Unavailable():
            log.warning("page_unavailable", store=error.store, error=str(error))
            name = STORE_NAMES.get(error.store, error.store)
            title = gettext("%(store)s is not reachable", store=name)
            if error.store == SEGMENTS_STORE:
                title = gettext("Segments are not built yet")
            trouble = Trouble(503, title, _LATER, RETRY_AFTER, retries=True)
        case SegmentLost():
            log.error("segment_lost", error=str(error))
            trouble = Trouble(503, gettext("Some events cannot be read"), gettext(LOST))
        case UnknownSite():
            trouble = Trouble(
                404, gettext("There is no such site"), gettext("Check the address, or choose a site from the overview.")
            )
        case HTTPException():
            trouble = _http_trouble(error)
        case _:
            log.exception("request_failed", error=type(error).__name__)
            trouble = Trouble(500, gettext("An error occurred"), gettext(INTERNAL))
    return trouble


def _http_trouble(error: HTTPException) -> Trouble:
    match error:
        case CSRFError():
            return Trouble(400, gettext("The form expired"), _EXPIRED)
        case TooManyRequests():
            seconds = int(dict(error.get_headers())["Retry-After"])
            minutes = max(1, ceil(seconds / 60))
            text = ngettext(
                "There were too many attempts. Try again in %(count)s minute.",
                "There were too many attempts. Try again in %(count)s minutes.",
                minutes,
            )
            return Trouble(429, gettext("Too many attempts"), text, seconds)
        case Forbidden() if error.description == Forbidden.description:
            return Trouble(
                403, gettext("You may not see this site"), gettext("Sign in with an account that may read it.")
            )
    description = error.description or ""
    return Trouble(error.code or 500, gettext(error.name), gettext(description))


def shorter_period(site_id: str, state: PageState) -> tuple[str, str] | None:
    """The URL of the site's page with a shorter period, and what that is called. None if there is no shorter one."""
    if state.period in ("day", "yesterday", "24h"):
        return None
    is_short = state.period == "7d" or (state.first and state.last and state.last - state.first < timedelta(days=7))
    period = "day" if is_short else "7d"
    return f"{site_path(site_id)}?{state.with_period(period).as_query()}", within_sentence(PERIODS[period][0])


def _shorter_than_asked() -> tuple[str, str] | None:
    # A part without a period, such as a card, is as one of a day: there is no shorter one.
    return shorter_period(str((request.view_args or {}).get("site_id", "")), read_state(request.args, "day"))
