"""/now/<site_id>: the last minutes of a site, or of several sites as one. The page asks for them every 5 seconds.
Also the visitors of now in the head of the dashboard.

Raises the exceptions of report_app.trouble.TROUBLES.
"""

from dataclasses import dataclass
from typing import Any

from flask import Response

from analytics.queries.periods import SECOND, previous_period, whole_seconds, year_before
from analytics.queries.query import Period
from analytics.reports.realtime import SHORT, Lately
from report_app.page_access import viewer
from report_app.pages.page_reports import SiteQuestion
from report_app.pages.rendering import show
from report_app.pages.words import Change, change_of, number
from report_app.texts import lazy

_MOST_PAGES = 10
# With what the visitors of the last 5 minutes are compared. Days of the week match.
_WEEK_BEFORE = previous_period, lazy("The same 5 minutes a week before: %(value)s")
_YEAR_BEFORE = year_before, lazy("The same 5 minutes a year before: %(value)s")


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


@dataclass(frozen=True, slots=True)
class ChangeOfNow:
    """The change of the visitors of the last 5 minutes. `before`: a text with the number before."""

    change: Change
    before: str


def live_part(asked: SiteQuestion) -> Response:
    here = asked.here_now()
    return show("live.html", here=here, since=_change_of_now(asked, here))


def now_page(asked: SiteQuestion) -> Response:
    return show("now.html", viewer=viewer(), **_lately(asked))


def now_part(asked: SiteQuestion) -> Response:
    return show("now_part.html", **_lately(asked))


def _lately(asked: SiteQuestion) -> dict[str, Any]:
    found = {site_id: asked.services.realtime.read(site_id) for site_id in asked.site_ids}
    short = _sums([each.last_5_minutes for each in found.values()])
    return {
        "site": asked.site,
        "state": asked.state,
        "short": short,
        "long": _sums([each.last_30_minutes for each in found.values()]),
        "since": _change_of_now(asked, short[0]),
        "pages": _pages(asked, {site_id: each.last_30_minutes for site_id, each in found.items()}),
    }


def _change_of_now(asked: SiteQuestion, here: int) -> ChangeOfNow | None:
    """None without a comparison, and if there was no visitor before."""
    if not asked.state.is_compared:
        return None
    moved, text = _YEAR_BEFORE if asked.state.compare == "year_over_year" else _WEEK_BEFORE
    end = whole_seconds(asked.now) + SECOND
    period = moved(Period(end - SHORT, end, asked.site.zone), match_day_of_week=True)
    before = asked.visitors_in(period)
    if not before:
        return None
    return ChangeOfNow(change_of("visitors", here, before), text % {"value": number("visitors", before)})


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
