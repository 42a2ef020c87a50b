"""/visitors/<site_id>: the recent visitors of a site, and what one of them did, if the site shows visitors.

Only for people who have a role for the site: not for guests, a public site or a shared link. Raises the exceptions of
report_app.trouble.TROUBLES.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import Response, abort

from analytics.languages import gettext, translatable
from analytics.reports.results import PastEvent, PastVisit
from report_app.page_access import required_user, viewer
from report_app.pages.page_reports import SiteQuestion
from report_app.pages.rendering import show
from report_app.pages.words import clock, duration, number, period_name, value_name, written

MOST_PAST_VISITS = 100
_LONGEST_VISITOR = 256  # characters, as in analytics/events/schema.py
_NOT_SHOWN = translatable(
    "This site does not show individual visitors. An owner can change this in the settings of the site."
)


@dataclass(frozen=True, slots=True)
class ShownEvent:
    """An event, ready to be shown. `about` has its properties and the like, as "name: value"."""

    time: str
    name: str
    page: str
    about: list[str]


@dataclass(frozen=True, slots=True)
class ShownVisit:
    """A visit, ready to be shown. `about` is where it came from, and with what."""

    began: str
    length: str
    about: list[str]
    events: list[ShownEvent]


def visitors_page(asked: SiteQuestion, visitor: str) -> Response:
    """The visitors of the last day, or the visits of one of them in the period of the state."""
    if not required_user().may_read(asked.site.site_id) or asked.state.embed:
        abort(403)  # a page in a frame has no rights of a user
    if not asked.site.shows_visitors:
        abort(404, gettext(_NOT_SHOWN))
    frame: dict[str, Any] = {"site": asked.site, "state": asked.state, "viewer": viewer()}
    if not visitor:
        found = asked.services.realtime.recent_visitors(asked.site.site_id)
        recent = [(each, _moment(asked, each.last_at), value_name("visit:country", each.country)) for each in found]
        return show("visitors.html", **frame, recent=recent)
    period = asked.period()
    past = asked.services.reports.visitor_history(
        asked.site.site_id, visitor[:_LONGEST_VISITOR], period, MOST_PAST_VISITS
    )
    visits = [_visit(asked, each) for each in past.visits]
    is_cut = past.is_cut or len(visits) == MOST_PAST_VISITS
    return show("visitor.html", **frame, visitor=visitor, visits=visits, is_cut=is_cut, period=period_name(period))


def _visit(asked: SiteQuestion, visit: PastVisit) -> ShownVisit:
    names = ("source", "utm_campaign", "country", "city", "browser", "os", "device")
    about = [value_name(f"visit:{name}", visit.described[name]) for name in names if name in visit.described]
    events = [_event(asked, each) for each in visit.events]
    return ShownVisit(_moment(asked, visit.began_at), duration(visit.duration), about, events)


def _event(asked: SiteQuestion, event: PastEvent) -> ShownEvent:
    about = [f"{name}: {value}" for name, value in (event.props or {}).items()]
    if event.revenue:
        about.append(number("total_revenue", event.revenue))
    time = clock(event.occurred_at, asked.site.zone)
    return ShownEvent(time, value_name("event:name", event.name), event.page or "", about)


def _moment(asked: SiteQuestion, moment: datetime) -> str:
    local = moment.astimezone(asked.site.zone)
    day = written(local.date(), gettext("EEE d MMM y"))
    return f"{day}, {local:%H:%M}"
