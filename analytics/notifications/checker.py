"""Checks rules, and records notifications of what they find. It sends nothing (delivery.py does).

Any number of processes may check at once, and each may die at any point: NotificationStore.begin gives each occasion
one notification. Callers must handle Unavailable.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime

import structlog

from analytics.notifications.calendar import summarized_period
from analytics.notifications.measurements import Measurements
from analytics.notifications.message_writer import MessageWriter
from analytics.notifications.rule import RULE_PERIODS, UNCHANGED, Observation, Rule, RuleKind, RulePeriod
from analytics.notifications.store import NotificationStore
from analytics.notifications.summaries import summary
from analytics.queries.query_schema import InvalidQuery
from analytics.reports.results import Refused
from analytics.segments.store import SegmentLost
from analytics.sites.site import Site
from analytics.sites.store import SiteStore
from analytics.unavailable import Unavailable

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RulesChecked:
    """The number of rules that were checked, and of notifications that were recorded."""

    rules: int
    notifications: int


@dataclass(frozen=True)
class RuleChecker:
    """`now` returns aware times."""

    store: NotificationStore
    sites: SiteStore
    measurements: Measurements
    writer: MessageWriter
    now: Callable[[], datetime]

    def check(self, kinds: Collection[RuleKind] = tuple(RuleKind)) -> RulesChecked:
        """Check all rules of these kinds. A rule that cannot be checked does not affect the others, unless MongoDB is
        unreachable. Raises Unavailable.
        """
        rules = self.store.rules(kinds=kinds)
        return RulesChecked(len(rules), sum(map(self._check_one, rules)))

    def _check_one(self, rule: Rule) -> bool:
        try:
            observation = self._observe(rule)
        except (Refused, InvalidQuery, SegmentLost, Unavailable) as error:
            log.warning("rule_not_checked", rule=str(rule.id), kind=rule.kind, error=str(error)[:300])
            self.store.ping()
            return False
        if observation.holds:
            return self._begin(rule, observation)
        if observation.holds is False and rule.occasion and not rule.grain:
            self.store.end(rule)
        return False

    def _begin(self, rule: Rule, observation: Observation) -> bool:
        """Record a notification, unless there is one of this period, or of the episode that goes on."""
        if rule.occasion and observation.occasion in (None, rule.occasion):
            return False
        now = self.now()
        occasion = observation.occasion or f"{now:%Y-%m-%dT%H:%M:%S.%fZ}"
        if has_begun := self.store.begin(rule, occasion, self.writer.write(rule, observation), now):
            log.info("notification_recorded", rule=str(rule.id), kind=rule.kind, site_id=rule.site_id)
        return has_begun

    def _observe(self, rule: Rule) -> Observation:
        site = self.sites.get(rule.site_id)
        if rule.kind in (RuleKind.WEEKLY, RuleKind.MONTHLY):
            return self._summary(rule, site, RULE_PERIODS[rule.kind])
        return self.measurements.observe(rule, site)

    def _summary(self, rule: Rule, site: Site, grain: RulePeriod) -> Observation:
        """A rule that was created after the end of a period waits for the next period. A summary waits for late
        events.
        """
        period = summarized_period(grain, self.now(), site.zone)
        first_day = period.first_day().isoformat()
        if rule.occasion == first_day or rule.created_at >= period.end or self.measurements.are_events_late():
            return UNCHANGED
        with self.measurements.open_reports() as reports:
            data = summary(reports, site, grain, period)
        return Observation(True, data, first_day) if data else UNCHANGED
