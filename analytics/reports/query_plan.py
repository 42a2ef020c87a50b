"""A plan: what a statement reads, known before a snapshot is opened, and how it is rendered when the snapshot is open.
Pure.
"""

from collections.abc import Callable
from dataclasses import dataclass

from analytics.interval import Interval
from analytics.segments.snapshot import Snapshot
from analytics.segments.visit_sql import EVENT_COLUMNS, Detail, detail_of
from analytics.sql import Sql


@dataclass(frozen=True)
class Plan:
    """One statement about the events of an interval. `columns` are the columns that it may read. `render` returns its
    SQL over a snapshot of the interval.
    """

    interval: Interval
    columns: frozenset[str]
    render: Callable[[Snapshot], Sql]

    @property
    def visits(self) -> bool:
        """Whether it reads columns of visits. Only then are visits derived again."""
        return not self.columns <= set(EVENT_COLUMNS)

    @property
    def detail(self) -> Detail:
        """How much of the events at seams is read."""
        return detail_of(self.columns)
