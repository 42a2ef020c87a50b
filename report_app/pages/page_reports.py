"""Answers what a page asks about a site, for a viewer who may read it.

Callers must handle the exceptions of report_app.trouble.TROUBLES.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

from flask import abort, redirect
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response

from analytics.dashboards.annotations import AnnotationStore
from analytics.dashboards.funnels import FunnelStore
from analytics.journal.ledger import Ledger
from analytics.queries.periods import ONE_DAY
from analytics.queries.query import Period, Query
from analytics.queries.query_schema import check_site_id, load_query
from analytics.reports.budget import Budget
from analytics.reports.engine import Reports
from analytics.reports.realtime import SHORT, RealtimeReader
from analytics.reports.results import Answer, Refused
from analytics.sites.site import Site
from analytics.sites.store import SiteStore
from report_app.page_access import site_path, viewer
from report_app.pages.page_state import PageState, read_state
from report_app.site_lookup import SiteLookup

MOST_LEFT_OUT = timedelta(days=399)  # of a period: the ledger's days that are read at once
_NEW = timedelta(days=2)  # a site with less than this opens with today
ANY_PERIOD = MultiDict({"period": "30d"})  # for parts whose content has no period


@dataclass(frozen=True, slots=True)
class PageServices:
    """What pages read. `clock`: returns an aware UTC time. `ingestion_port`: where browsers send events."""

    reports: Reports
    realtime: RealtimeReader
    ledger: Ledger
    sites: SiteStore
    site_called: SiteLookup
    clock: Callable[[], datetime]
    ingestion_port: int
    funnels: FunnelStore
    annotations: AnnotationStore


@dataclass(frozen=True, slots=True)
class SiteQuestion:
    """A site and the state of its page. `now` is in the site's zone. `question` is the body without metrics. `others`:
    the sites that are shown as one with it, in the order of the state.
    """

    services: PageServices
    site: Site
    state: PageState
    now: datetime
    others: Sequence[Site] = ()

    @property
    def site_ids(self) -> list[str]:
        return [self.site.site_id, *(each.site_id for each in self.others)]

    @property
    def may_edit(self) -> bool:
        """Whether the viewer may change what belongs to the site. Several sites as one have nothing of their own."""
        return not self.others and viewer().may_edit(self.site.site_id)

    @property
    def question(self) -> dict[str, Any]:
        return self.state.question(self.site.site_id, self.now)

    def answer(self, body: dict[str, Any], budget: Budget | None = None) -> tuple[Query, Answer]:
        """`budget`: the time that is left, if it is not that of any report."""
        reports = self.services.reports
        budget = budget or reports.budget()
        query = load_query(body, self.site, self.now, partial(self.earliest, budget), self.others)
        return query, reports.answer(query, budget)

    def check(self) -> None:
        """Raises InvalidQuery if the period or a filter is not valid."""
        self._load(self.question)

    def period(self) -> Period:
        """The period of the page, whatever its filters are."""
        return self._load(self.question | {"filters": []}).period

    def _load(self, body: dict[str, Any]) -> Query:
        return load_query(body | {"metrics": ["visitors"]}, self.site, self.now, self.earliest, self.others)

    def earliest(self, budget: Budget | None = None) -> datetime | None:
        """When the first event of the sites was. None if they have none."""
        return self.services.reports.earliest_of(self.site_ids, budget)

    def here_now(self) -> int:
        """The visitors of the last 5 minutes, as /stats/realtime counts them. A visitor of two sites is two visitors,
        as in queries.
        """
        end = self.now.replace(microsecond=self.now.microsecond // 1000 * 1000) + timedelta(milliseconds=1)
        return self.visitors_in(Period(end - SHORT, end, self.site.zone))

    def visitors_in(self, period: Period) -> int:
        """The visitors of a period of minutes."""
        return sum(self.services.realtime.visitors(site_id, period) for site_id in self.site_ids)

    def property_names(self) -> list[str]:
        """The names of the properties of the latest events, the most frequent first."""
        counts: Counter[str] = Counter()
        for site_id in self.site_ids:
            counts.update(self.services.realtime.property_names(site_id))
        return [name for name, _ in counts.most_common()]

    def ledger_days(self) -> dict[date, Counter[str]]:
        """The sites' counts by UTC day of the period, at most of the last 400 days."""
        period = self.period()
        last = min(period.last_day(), self.now.astimezone(UTC).date())
        return self._ledger(max(period.first_day(), last - MOST_LEFT_OUT), max(last, period.first_day()))

    def ledger_lately(self) -> Counter[str]:
        """The sites' counts of today and yesterday."""
        today = self.now.astimezone(UTC).date()
        return sum(self._ledger(today - ONE_DAY, today).values(), Counter[str]())

    def _ledger(self, first: date, last: date) -> dict[date, Counter[str]]:
        days: defaultdict[date, Counter[str]] = defaultdict(Counter)
        for site_id in self.site_ids:
            for day, counts in self.services.ledger.of_site(site_id, first, last).items():
                days[day] += counts
        return days


def ask_about(
    services: PageServices, site_id: str, args: MultiDict[str, str] = ANY_PERIOD, budget: Budget | None = None
) -> SiteQuestion:
    """The question that these parameters ask about a site, or about several sites as one. Without a period, a site that
    is new asks for today, if its first event is found within `budget`.
    """
    state = read_state(args, "30d")
    for name in (site_id, *state.others):
        if not viewer().may_read(services.site_called.id_of(check_site_id(name))):
            abort(403)  # also if there is no such site: the answer does not reveal which sites exist
    site, *others = services.site_called.each([site_id, *state.others])
    if not state.saved_filters <= {each.id for each in site.saved_filters}:
        services.sites.read_again(site_id)  # another process may have saved it just now, and sent the browser here
        site = services.site_called(site_id)
    now = services.clock().astimezone(site.zone)
    state = replace(state, others=tuple(each.site_id for each in others))
    asked = SiteQuestion(services, site, state, now, others)
    if {"period", "from", "to"}.isdisjoint(args):
        first = _earliest_within(asked, budget)
        if first and now - first < _NEW:
            return replace(asked, state=replace(state, period="day"))
    return asked


def check_editor(asked: SiteQuestion, refusal: str) -> None:
    """End the request with 403 and this text, unless the viewer may edit the site."""
    if not asked.may_edit:
        abort(403, refusal)


def back_to(asked: SiteQuestion, state: PageState, part: str = "") -> Response:
    """Back to the site's page in this state. `part`: the id of the part of the page to scroll to."""
    return redirect(f"{site_path(asked.site.site_id)}?{state.as_query()}{f'#{part}' if part else ''}", 303)


def _earliest_within(asked: SiteQuestion, budget: Budget | None) -> datetime | None:
    """When the first event of the sites was. None if they have none, or if it is not found in time."""
    try:
        return asked.earliest(budget)
    except Refused:
        return None


def readable_sites(services: PageServices) -> Sequence[Site]:
    """The sites that the viewer may read, by their ids."""
    who = viewer()
    return [site for site in services.sites.known() if who.may_read(site.site_id)]
