"""Checks the condition of a rule that is not a summary: whether it holds now, and with which numbers.

An episode ends later than it could begin (hysteresis), so that a number at the threshold notifies once: a spike or a
drop ends when half of the threshold is passed on the way back, and lag when half of it is left.

Callers must handle Unavailable, and for goals also what Reports.answer raises, and InvalidQuery if the site does not
have the goal any more.
"""

from __future__ import annotations  # evaluated, they would import DuckDB, which most workers do not need

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from analytics.events.account import DEAD
from analytics.events.store import EventStore
from analytics.journal.journal import Journal
from analytics.journal.ledger import Ledger
from analytics.notifications.calendar import current_period
from analytics.notifications.rule import UNCHANGED, Observation, Rule, RuleKind
from analytics.queries.query import Condition, Query
from analytics.queries.query_schema import InvalidQuery
from analytics.sites.site import Site

if TYPE_CHECKING:
    from analytics.reports.engine import Reports

WINDOW = timedelta(minutes=60)  # of which a spike or a drop counts the events
SAME_TIMES = (timedelta(days=1), timedelta(days=7))  # before now: what is usual, also on a weekend
LEAST_EVENTS = 50  # of the larger window; below it, a change is chance
# Above this age of the oldest event that waits in the journal, MongoDB lacks recent events, and they are not counted.
MOST_WAITING = timedelta(seconds=60)

OpenReports = Callable[[], "AbstractContextManager[Reports]"]


@dataclass(frozen=True)
class Measurements:
    """What rules measure. `open_reports` opens an engine for a short time. `now` returns aware times."""

    events: EventStore
    ledger: Ledger
    journal: Journal
    open_reports: OpenReports
    now: Callable[[], datetime]

    def observe(self, rule: Rule, site: Site) -> Observation:
        """Check a rule that is not a summary. Raises Unavailable, and what Reports.answer raises."""
        threshold = rule.threshold or 0
        match rule.kind:
            case RuleKind.SPIKE:
                return self._spike(rule.site_id, threshold)
            case RuleKind.DROP:
                return self._drop(rule.site_id, threshold)
            case RuleKind.SILENCE:
                return self._silence(rule.site_id, timedelta(minutes=threshold))
            case RuleKind.DEAD_LETTERS:
                return self._dead_letters(rule, threshold)
            case RuleKind.LAG:
                return self._lag(timedelta(minutes=threshold))
            case RuleKind.GOAL:
                return self._goal(rule, site, threshold)
        raise ValueError(rule.kind)

    def are_events_late(self) -> bool:
        """Whether events wait in the journal for longer than MOST_WAITING. Raises Unavailable."""
        oldest = self.journal.oldest()
        return oldest is not None and self.now() - oldest > MOST_WAITING

    def _spike(self, site_id: str, percent: int) -> Observation:
        count, *before = self._windows(site_id)
        usual = max(before, default=0)
        if not usual and not self._is_known(site_id):
            return UNCHANGED
        begins = max(LEAST_EVENTS, usual * (100 + percent) / 100)
        ends = max(LEAST_EVENTS / 2, usual * (100 + percent / 2) / 100)
        holds = True if count >= begins else False if count < ends else None
        return self._unless_late(Observation(holds, {"events": count, "usual": usual, "minutes": 60}))

    def _drop(self, site_id: str, percent: int) -> Observation:
        count, *before = self._windows(site_id)
        usual = min(before, default=0)
        if usual < LEAST_EVENTS:  # after a day without events, too: their return ends the episode
            return Observation(False) if count >= LEAST_EVENTS else UNCHANGED
        begins, ends = usual * (100 - percent) / 100, usual * (100 - percent / 2) / 100
        holds = True if count <= begins else False if count > ends else None
        return self._unless_late(Observation(holds, {"events": count, "usual": usual, "minutes": 60}))

    def _silence(self, site_id: str, silent_for: timedelta) -> Observation:
        """The ledger says when the last event was accepted, also while events wait in the journal."""
        now, last = self.now(), self.ledger.last_received(site_id)
        if last is not None and now - last < silent_for:
            return Observation(False)
        windows = ((now - ago - silent_for, now - ago) for ago in SAME_TIMES)
        is_unusual = all(self.events.count(site_id, *window, most=1) for window in windows)
        data = {
            "minutes": silent_for // timedelta(minutes=1),
            "last_event_received": last.isoformat(timespec="seconds") if last else None,
        }
        return Observation(True, data) if is_unusual else UNCHANGED

    def _dead_letters(self, rule: Rule, least: int) -> Observation:
        day = self.now().astimezone(UTC).date()
        if rule.occasion == day.isoformat():
            return UNCHANGED
        count = self.ledger.of_site(rule.site_id, day, day).get(day, Counter())[DEAD]
        return Observation(count >= least, {"events": count, "day": day.isoformat()}, day.isoformat())

    def _lag(self, most: timedelta) -> Observation:
        oldest = self.journal.oldest()
        age = self.now() - oldest if oldest else timedelta(0)
        holds = True if age >= most else False if age < most / 2 else None
        data = {"seconds": age // timedelta(seconds=1), "events_waiting": self.journal.waiting()}
        return Observation(holds, data)

    def _goal(self, rule: Rule, site: Site, least: int) -> Observation:
        period = current_period(rule.period or "day", self.now(), site.zone)
        first_day = period.first_day().isoformat()
        if rule.occasion == first_day:
            return UNCHANGED
        if rule.goal not in {goal.name for goal in site.goals}:
            raise InvalidQuery("#/filters", f"The site has no goal {rule.goal!r} any more.")
        is_goal = Condition("is", "event:goal", (rule.goal or "",))
        query = Query(site.site_id, ("events",), period, filters=(is_goal,), goals=site.goals)
        with self.open_reports() as reports:
            rows = reports.answer(query).rows
        count = rows[0].metrics[0] if rows else 0
        data = {"goal": rule.goal, "conversions": count, "period": rule.period, "first_day": first_day}
        return Observation(isinstance(count, int) and count >= least, data, first_day)

    def _is_known(self, site_id: str) -> bool:
        """Whether the site has events from which one can tell what is usual."""
        now = self.now()
        return self.events.count(site_id, now - max(SAME_TIMES) - WINDOW, now - min(SAME_TIMES), most=1) > 0

    def _windows(self, site_id: str) -> list[int]:
        """The events of the last WINDOW, and those at the same times before."""
        now = self.now()
        return [self.events.count(site_id, now - ago - WINDOW, now - ago) for ago in (timedelta(0), *SAME_TIMES)]

    def _unless_late(self, observation: Observation) -> Observation:
        return UNCHANGED if self.are_events_late() else observation
