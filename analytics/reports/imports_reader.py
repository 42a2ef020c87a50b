"""Reads the imported daily totals that a query counts. Callers must handle Unavailable, raised if MongoDB is not
reachable.

A day on which a site has events counts with these events only, because the totals of another system would count the
same visits again.
"""

from __future__ import annotations  # evaluated, they would keep DuckDB's types beyond the interpreter's end

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

from analytics.aggregates.day_total import AGGREGATE_TABLES
from analytics.aggregates.store import AggregateStore
from analytics.queries.query import Query
from analytics.reports.imported_days import ImportedTotals, ImportsPlan, plan_imports, summed_metrics
from analytics.reports.results import NO_IMPORTED_DATA, OUT_OF_RANGE, ImportedPart

MOST_IMPORTED_SUMS = 200_000  # of one query; about 100 MB
_TOTAL = AGGREGATE_TABLES["total"]

OwnDays = Callable[[str, date, date], set[date]]  # the days of a site with an event, between two days


@dataclass(frozen=True)
class ImportsReader:
    aggregates: AggregateStore

    def read(self, query: Query, own_days: OwnDays) -> tuple[ImportedPart | None, ImportedTotals | None]:
        """Return what becomes of the imported totals, and the totals to count if there are any. Both are None if the
        query does not ask for them. Raises TooManyTotals and Unavailable.
        """
        if not query.imports:
            return None, None
        extent = self.aggregates.extent(query.site_ids)
        if extent is None:
            return ImportedPart(skip_reason=NO_IMPORTED_DATA), None
        if not (extent[0] < query.period.end and query.period.start <= extent[1]):
            return ImportedPart(skip_reason=OUT_OF_RANGE), None
        plan = plan_imports(query)
        if not isinstance(plan, ImportsPlan):
            return plan, None
        days = {site_id: self._days(site_id, plan, own_days) for site_id in query.site_ids}
        included = sorted({day for each in days.values() for day in each})
        if not included:
            return ImportedPart(skip_reason=OUT_OF_RANGE), None
        totals = self._totals(plan, days)
        return ImportedPart(days=tuple(included), summed=summed_metrics(query, included)), totals

    def _days(self, site_id: str, plan: ImportsPlan, own_days: OwnDays) -> dict[date, str]:
        found = self.aggregates.days(site_id, plan.table, plan.first, plan.last)
        own = own_days(site_id, min(found), max(found)) if found else set()
        return {day: import_id for day, import_id in found.items() if day not in own}

    def _totals(self, plan: ImportsPlan, days: dict[str, dict[date, str]]) -> ImportedTotals:
        columns = [*(["day"] if plan.by_day else []), *plan.columns]
        sums: list[dict[str, Any]] = []
        people: int | None = 0  # unknown if a day has no total
        for site_id, each in days.items():
            if not each:
                continue
            room = MOST_IMPORTED_SUMS - len(sums)
            sums += self.aggregates.sums(site_id, plan.table, each, columns, most=room, prop=plan.prop)
            known = self.aggregates.days(site_id, _TOTAL, min(each), max(each))
            whole = {day: known[day] for day in each if day in known}
            found = self.aggregates.sums(site_id, _TOTAL, whole, [], most=1) if whole else []
            is_known = people is not None and len(whole) == len(each)
            people = (people or 0) + sum(x["visitors"] for x in found) if is_known else None
        return ImportedTotals(plan, sums, people or None)
