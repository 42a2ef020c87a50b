"""The overview of all sites that the viewer may read, with a card for each, on as many pages as they need.

Raises the exceptions of report_app.trouble.TROUBLES.
"""

from dataclasses import dataclass
from typing import cast

from flask import Response, redirect, request, url_for

from analytics.queries.periods import ONE_DAY
from analytics.reports.results import Answer
from analytics.sites.site import Site
from report_app.page_access import viewer
from report_app.pages import panels
from report_app.pages.page_reports import PageServices, SiteQuestion, readable_sites
from report_app.pages.page_state import page_number
from report_app.pages.rendering import show
from report_app.translation import speak_as_browser
from report_app.trouble import TROUBLES, answer_trouble

CARDS = 60  # of a page
_DAYS = 14  # of a sparkline, with today
_WIDTH, _HEIGHT = 280, 48  # of a sparkline


@dataclass(frozen=True, slots=True)
class SiteCard:
    """`line` holds the points of the sparkline up to yesterday, `open_line` its last part, which is today."""

    visitors: int
    pageviews: int
    line: str
    open_line: str


def overview_page(services: PageServices) -> Response:
    """The overview. As long as there is no site, an owner is asked for one."""
    speak_as_browser()
    try:
        sites = readable_sites(services)
    except TROUBLES as error:
        return answer_trouble(error)
    if not sites and viewer().is_owner:
        return cast(Response, redirect(url_for("console.new_site"), 303))
    search = request.args.get("search", "").strip()
    found = [site for site in sites if _is_called(site, search.casefold())]
    page = page_number(request.args.get("page", ""))
    shown = found[(page - 1) * CARDS : page * CARDS]
    first, has_more = (page - 1) * CARDS + 1, len(found) > page * CARDS
    return show(
        "overview.html",
        sites=sites,
        shown=shown,
        search=search,
        page=page,
        first=first,
        total=len(found),
        has_more=has_more,
        viewer=viewer(),
    )


def _is_called(site: Site, search: str) -> bool:
    return any(search in name.casefold() for name in (site.site_id, *site.domains))


def card_part(asked: SiteQuestion) -> Response:
    today = asked.now.date()
    days = (today - (_DAYS - 1) * ONE_DAY).isoformat(), today.isoformat()
    _, answer = asked.answer(panels.last_days(asked.site.site_id, *days))
    return show("card.html", site=asked.site, card=card_of(answer), here=asked.here_now())


def card_of(answer: Answer) -> SiteCard:
    """`answer`: the visitors and pageviews of the last days."""
    values = [int(row.metrics[0]) for row in answer.rows if isinstance(row.metrics[0], int)]
    visitors, pageviews = answer.rows[-1].metrics
    points = _points(values)
    return SiteCard(
        cast(int, visitors),
        cast(int, pageviews),
        " ".join(points[:-1]),
        " ".join(points[-2:]),
    )


def _points(values: list[int]) -> list[str]:
    largest = max(values, default=0) or 1
    step = _WIDTH / max(1, len(values) - 1)
    return [f"{i * step:.1f},{_HEIGHT - 2 - value / largest * (_HEIGHT - 6):.1f}" for i, value in enumerate(values)]
