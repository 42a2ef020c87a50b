"""Yields the raw events that match a query's filters, in order. Their number is not limited.

Reports find the places of the events, by the same SQL as for any other query, and write them to this node's disk. The
events are then read from MongoDB a few at a time. A client that reads slowly therefore holds no query slot, no cursor,
and at most READ_AT_ONCE events in memory. If an event gets or loses its user meanwhile, it has another place. If that
makes uncertain which event was meant, the places from there on are found again.

Raises as Reports.answer does, at the first event or where places are found again, and Unavailable at any event.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from pyarrow.parquet import ParquetFile

from analytics.events.columns import EventPlace
from analytics.events.event import Event
from analytics.events.store import EventStore
from analytics.queries.query import Query
from analytics.reports.budget import Budget
from analytics.reports.engine import Reports
from analytics.segments.snapshot_reader import NotBuiltYet
from analytics.unavailable import SEGMENTS_STORE, Unavailable

PLACES_AT_ONCE = 500  # plus all others in the millisecond of the last one
_VISIBLE_WITHIN = timedelta(minutes=1)  # a change of an event's user, also if the clocks of two hosts differ


def filtered_events(
    reports: Reports, events: EventStore, query: Query, budget: Budget, clock: Callable[[], datetime]
) -> Iterator[Event]:
    raw, since = reports.reader.raw, None
    while True:
        begun = clock()
        for places in _found(reports, query, budget, since):
            first, _, _ = places[0]
            at = raw.at(query.site_id, places, begun - _VISIBLE_WITHIN)
            # Once for each batch: a segment may have an event that another program deleted.
            if not at.is_certain and first != since:
                since, budget = first, reports.budget(budget.key)
                break
            yield from events.get(at.ids)
        else:
            return


def _found(reports: Reports, query: Query, budget: Budget, since: int | None) -> Iterator[list[EventPlace]]:
    """Yield the places of the events from `since` on (ms), in batches."""
    with reports.reader.segments.workplace.folder() as folder:
        file = folder / "places.parquet"
        if reports.write_places(query, file, budget) is not None:
            # The export would be incomplete.
            raise Unavailable(SEGMENTS_STORE, NotBuiltYet("the allowed number of new events"))
        yield from _in_batches(file, since)


def _in_batches(file: Path, since: int | None) -> Iterator[list[EventPlace]]:
    """Yield batches. All events of one millisecond are in one batch, because they can only be told apart together."""
    batch: list[EventPlace] = []
    with ParquetFile(file) as found:
        for rows in found.iter_batches(PLACES_AT_ONCE):
            for place in zip(*(column.to_pylist() for column in rows.columns), strict=True):
                if since is not None and place[0] < since:
                    continue
                if len(batch) >= PLACES_AT_ONCE and place[0] != batch[-1][0]:
                    yield batch
                    batch = []
                batch.append(place)
    if batch:
        yield batch
