"""/now/<site_id>: the last minutes of a site, or of several sites as one. The page asks for them every 5 seconds.

Raises the exceptions of report_app.trouble.TROUBLES.
"""

from dataclasses import dataclass
from typing import Any

from flask import Response

from analytics.reports.realtime import Lately
from report_app.page_access import viewer
from report_app.pages.page_reports import SiteQuestion
from report_app.pages.rendering import show

_MOST_PAGES = 10


@dataclass(frozen=True, slots=True)
class PageNow:
    """A page, and its pageviews of the last 30 minutes. `bar` is the share of the largest row, in percent. `link` is
    the query string of the dashboard that it filters.
    """

    site_id: str
    page: str
    pageviews: int
    bar: str
    link: str


def now_page(asked: SiteQuestion) -> Response:
    return show("now.html", viewer=viewer(), **_lately(asked))


def now_part(asked: SiteQuestion) -> Response:
    return show("now_part.html", **_lately(asked))


def _lately(asked: SiteQuestion) -> dict[str, Any]:
    found = {site_id: asked.services.realtime.read(site_id) for site_id in asked.site_ids}
    return {
        "site": asked.site,
        "state": asked.state,
        "short": _sums([each.last_5_minutes for each in found.values()]),
        "long": _sums([each.last_30_minutes for each in found.values()]),
        "pages": _pages(asked, {site_id: each.last_30_minutes for site_id, each in found.items()}),
    }


def _sums(several: list[Lately]) -> tuple[int, int]:
    """The visitors and the pageviews of all sites."""
    return sum(each.visitors for each in several), sum(each.pageviews for each in several)


def _pages(asked: SiteQuestion, lately: dict[str, Lately]) -> list[PageNow]:
    """The pages with most views of all sites: each is among those of its own site."""
    seen = [(page.pageviews, page.page, site_id) for site_id, each in lately.items() for page in each.top_pages]
    top = sorted(seen, key=lambda row: (-row[0], *row[1:]))[:_MOST_PAGES]
    return [
        PageNow(site_id, page, count, f"{100 * count / top[0][0]:.1f}%", _link(asked, page))
        for count, page, site_id in top
    ]


def _link(asked: SiteQuestion, page: str) -> str:
    return asked.state.with_period("day").with_filter("event:page", page).as_query()
