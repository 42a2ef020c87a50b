"""The text of a statement contains no user input, and what is asked of DuckDB stays within limits."""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.interval import QUARTER, Interval
from analytics.queries.query import (
    PROPS,
    VISIT_NUMBERS,
    And,
    Condition,
    Done,
    Filter,
    Not,
    Or,
    Query,
    function_of_numbers,
)
from analytics.reports import exploration_sql
from analytics.reports.query_plan import Plan
from analytics.reports.query_sql import plan_query
from analytics.reports.site_stats_sql import first_event, site_stats
from analytics.segments.snapshot import SiteSnapshot
from analytics.segments.visit_sql import EVENT_COLUMNS, detail_of
from analytics.sites.site import Goal
from analytics.sql import Sql
from tests.support.streams import funnels, queries, streams

MARK = "Zq'7\";--"


class RecordingSnapshot(SiteSnapshot):
    """A snapshot that notes which columns are read."""

    read: ClassVar[set[str]] = set()

    def rows(self, period: Interval, columns: Iterable[str], *, openings: bool = False) -> Sql:
        names = [*columns]
        self.read.update(names)
        return super().rows(period, names, openings=openings)


SNAPSHOT = RecordingSnapshot((), (), Sql("somewhere"))


def rendered(plan: Plan) -> str:
    SNAPSHOT.read.clear()
    text = plan.render(SNAPSHOT).text
    assert SNAPSHOT.read <= plan.columns
    assert plan.detail == detail_of(SNAPSHOT.read)
    assert plan.visits == (not SNAPSHOT.read <= set(EVENT_COLUMNS))
    return text


def marked(wanted: Filter) -> Filter:
    match wanted:
        case And(inner):
            return And(tuple(map(marked, inner)))
        case Or(inner):
            return Or(tuple(map(marked, inner)))
        case Not(one):
            return Not(marked(one))
        case Done(one):
            return Done(marked(one))
        case Condition(_, dimension) if dimension in VISIT_NUMBERS:
            return wanted  # its values are numbers
        case Condition():
            values = tuple(MARK + each for each in wanted.values)
            return replace(wanted, values=values, dimension=marked_dimension(wanted.dimension))


def marked_dimension(name: str) -> str:
    return name + MARK if name.startswith(PROPS) else name


def marked_metric(name: str) -> str:
    return name + MARK if function_of_numbers(name) else name


def marked_query(query: Query) -> Query:
    """The same query with the mark in all texts that a user may write."""
    return replace(
        query,
        site_id=MARK + query.site_id,
        metrics=tuple(map(marked_metric, query.metrics)),
        dimensions=tuple(map(marked_dimension, query.dimensions)),
        filters=tuple(map(marked, query.filters)),
        order_by=tuple(replace(order, key=marked_metric(marked_dimension(order.key))) for order in query.order_by),
        goals=tuple(
            Goal(MARK + g.name, g.event_type and MARK + g.event_type, g.page and MARK + g.page, g.currency and MARK)
            for g in query.goals
        ),
    )


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_text_of_a_user_becomes_sql(data: st.DataObject):
    """And a plan lists all columns that its statement reads."""
    stream = data.draw(streams())
    query = marked_query(data.draw(queries(stream)))
    assert MARK not in rendered(plan_query(query))
    query, steps, window = data.draw(funnels(stream))
    asked = marked_query(query)
    assert MARK not in rendered(exploration_sql.funnel(asked, tuple(map(marked, steps)), window))
    assert MARK not in rendered(exploration_sql.retention(asked, "week"))
    assert MARK not in rendered(exploration_sql.views_of(asked, MARK))
    assert MARK not in rendered(exploration_sql.places(asked))


def test_a_plan_lists_the_columns_of_statements_without_filters():
    interval = Interval(0, QUARTER)
    for plan in (site_stats(interval), first_event(interval)):
        rendered(plan)
        assert not plan.visits
    for plan in (exploration_sql.neighbours(interval, 10), exploration_sql.visitor_history(interval, 1, 10, 10, 10)):
        rendered(plan)
        assert plan.visits
