"""GET /stats/visitor: what one visitor did, visit by visit.

Only for sites that show visitors, and never without a key.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any

from flask import Blueprint, Response, jsonify, request

from analytics.queries.query_schema import shown
from analytics.reports.engine import Reports
from analytics.reports.results import PastEvent, PastVisit
from report_app.metric_format import figure
from report_app.site_lookup import SiteLookup
from report_app.url_parameters import PERIOD, bad_parameters, read_parameters
from web.auth import Check, api_key_id
from web.errors import error_body, error_response

_ASKED = ("site_id", "user_id", *PERIOD, "limit")
LONGEST_USER_ID = 256  # as in analytics/events/schema.py
MOST_VISITS = 1_000
NOT_SHOWN = "This site does not show individual visitors. To show them, set `shows_visitors` to true for the site."


def visitors_blueprint(
    reports: Reports, site_called: SiteLookup, auth: Check, clock: Callable[[], datetime]
) -> Blueprint:
    """`auth`: rejects every request without a key."""
    blueprint = Blueprint("visitors", __name__)
    blueprint.before_request(auth)

    @blueprint.get("/stats/visitor")
    def history() -> Response:
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
        first, last = shown(query, asked.body)["date_range"]
        said = {"site_id": site.site_id, "user_id": user_id, "from": first, "to": last}
        said |= {"cut": True} if found.is_cut else {}
        return jsonify(said | {"visits": [_visit(visit) for visit in budget.each(found.visits)]})

    return blueprint


def _user_id() -> str:
    user_id = request.args.get("user_id", "")
    if not 0 < len(user_id) <= LONGEST_USER_ID:
        raise bad_parameters({"user_id": [f"Expected a string of 1 to {LONGEST_USER_ID} characters."]})
    return user_id


def _visit(visit: PastVisit) -> dict[str, Any]:
    """A visit in JSON. Its descriptive fields are at the top level, as in an event."""
    return {
        "began_at": visit.began_at.isoformat(),
        "duration": visit.duration,
        "pageviews": visit.pageviews,
        "bounce": visit.bounce,
        "entry_page": visit.entry_page,
        "exit_page": visit.exit_page,
        **visit.described,
        "events": [dict(_event(event)) for event in visit.events],
    }


def _event(event: PastEvent) -> Iterator[tuple[str, Any]]:
    """The fields of an event that have a value."""
    yield "timestamp", event.occurred_at.isoformat()
    yield "name", event.name
    more = {
        "page": event.page,
        "hostname": event.hostname,
        "engagement_time": event.engagement_time,
        "scroll_depth": event.scroll_depth,
        "revenue": figure(event.revenue),
        "props": event.props,
    }
    yield from ((name, value) for name, value in more.items() if value is not None)
