"""GET /stats/visitor: what one visitor did, visit by visit.

Only for sites that show visitors, and never without a key.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Literal, NotRequired, TypedDict, cast

from flask import Blueprint, Response, request

from analytics.events.event import Described
from analytics.json_schema import Count, MomentText, text, whole
from analytics.queries.query_schema import MOST_ROWS, query_json
from analytics.reports.engine import Reports
from analytics.reports.results import PastEvent, PastVisit
from report_app.errors import OF_QUESTIONS
from report_app.metric_format import MoneyJson, figure
from report_app.site_lookup import SITE_EXAMPLE, SiteLookup
from report_app.url_parameters import PERIOD, PERIOD_PARAMETERS, SITE_PARAMETER, bad_parameters, read_parameters
from web.auth import Check, api_key_id
from web.errors import error_body, error_response
from web.openapi import Operation, described_by, parameter

_ASKED = ("site_id", "user_id", *PERIOD, "limit")
LONGEST_USER_ID = 256  # as in analytics/events/schema.py
MOST_VISITS = 1_000
NOT_SHOWN = "This site does not show individual visitors. To show them, set `shows_visitors` to true for the site."


class PastEventJson(TypedDict):
    timestamp: MomentText
    name: str
    page: NotRequired[str]
    hostname: NotRequired[str]
    engagement_time: NotRequired[Count]
    scroll_depth: NotRequired[Count]
    revenue: NotRequired[MoneyJson]
    props: NotRequired[Mapping[str, str]]


class PastVisitJson(Described):
    began_at: MomentText
    duration: Count
    pageviews: Count
    bounce: bool
    entry_page: str | None
    exit_page: str | None
    events: list[PastEventJson]


_IsCut = Annotated[Literal[True], "The visitor has more events than one response may contain."]
VisitorJson = TypedDict(
    "VisitorJson",
    {
        "site_id": str,
        "user_id": str,
        "from": MomentText,
        "to": MomentText,
        "visits": list[PastVisitJson],
        "cut": NotRequired[_IsCut],
    },
)

RAW_DATA = "Individual visitors, raw events"
_VISITOR = Operation(
    summary="Visits and events of one visitor, newest visit first",
    tag=RAW_DATA,
    parameters=[
        SITE_PARAMETER,
        parameter("user_id", text(1, LONGEST_USER_ID), required=True),
        *PERIOD_PARAMETERS,
        parameter(
            "limit", whole(1, MOST_ROWS), f"Number of visits. The default is 100 and the maximum is {MOST_VISITS}."
        ),
    ],
    says=OF_QUESTIONS
    | {
        403: "`visitors_not_shown`: `shows_visitors` is off for this site. `report_key_not_set`: the server has no "
        "REPORT_KEY. `forbidden`: the API key does not allow it."
    },
    examples={"site_id": SITE_EXAMPLE, "user_id": "user-xyz-789"},
)


def visitors_blueprint(
    reports: Reports, site_called: SiteLookup, auth: Check, clock: Callable[[], datetime]
) -> Blueprint:
    """`auth`: rejects every request without a key."""
    blueprint = Blueprint("visitors", __name__)
    blueprint.before_request(auth)

    @blueprint.get("/stats/visitor")
    @described_by(_VISITOR)
    def history() -> VisitorJson | Response:
        """The visits, the newest first. The events of a visit begin with the oldest."""
        budget = reports.budget(api_key_id())
        asked = read_parameters(request.args, _ASKED, filtered=False)
        user_id = _user_id()
        with asked.naming_parameters():
            site = site_called(asked.site_id)
            if not site.shows_visitors:
                return error_response(403, error_body("visitors_not_shown", NOT_SHOWN))
            query = asked.load(site, clock(), partial(reports.earliest, site.site_id, budget))
            limit = min(asked.body["pagination"].get("limit", 100), MOST_VISITS)
            found = reports.visitor_history(site.site_id, user_id, query.period, limit, budget)
        first, last = query_json(query, asked.body)["date_range"]
        visits = [_visit(visit) for visit in budget.each(found.visits)]
        said: VisitorJson = {"site_id": site.site_id, "user_id": user_id, "from": first, "to": last, "visits": visits}
        return {**said, "cut": True} if found.is_cut else said

    return blueprint


def _user_id() -> str:
    user_id = request.args.get("user_id", "")
    if not 0 < len(user_id) <= LONGEST_USER_ID:
        raise bad_parameters({"user_id": [f"Expected a string of 1 to {LONGEST_USER_ID} characters."]})
    return user_id


def _visit(visit: PastVisit) -> PastVisitJson:
    """A visit in JSON. Its descriptive fields are at the top level, as in an event."""
    return {
        "began_at": visit.began_at.isoformat(),
        "duration": visit.duration,
        "pageviews": visit.pageviews,
        "bounce": visit.bounce,
        "entry_page": visit.entry_page,
        "exit_page": visit.exit_page,
        **cast(Described, visit.described),
        "events": [_event(event) for event in visit.events],
    }


def _event(event: PastEvent) -> PastEventJson:
    """The fields of an event that have a value."""
    fields = {
        "timestamp": event.occurred_at.isoformat(),
        "name": event.name,
        "page": event.page,
        "hostname": event.hostname,
        "engagement_time": event.engagement_time,
        "scroll_depth": event.scroll_depth,
        "revenue": figure(event.revenue),
        "props": event.props,
    }
    return cast(PastEventJson, {name: value for name, value in fields.items() if value is not None})
