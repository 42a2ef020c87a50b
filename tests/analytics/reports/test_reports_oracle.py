"""Every number of the engine equals the oracle's: for streams of events from hypothesis, stored and built into segments
in any order, and for any query.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from pymongo.database import Database

from analytics.events.store import EventStore
from analytics.interval import SEGMENT_GRAINS, as_datetime, as_ms, interval_of
from analytics.queries.query import (
    COUNTS,
    EVENT_DIMENSIONS,
    OF_MONEY,
    OF_PAGES,
    OF_VISITS,
    PROPS,
    SHARES,
    VISIT_DIMENSIONS,
    Condition,
    Filter,
    Not,
    Order,
    Period,
    Query,
    missing,
    of_days,
)
from analytics.reports.engine import Reports
from analytics.reports.filtered_events import filtered_events
from analytics.reports.results import Answer, MoneyAmount
from config.clients import make_database
from tests.analytics.segments.test_segments import Rig
from tests.support import oracle
from tests.support.services import NOW
from tests.support.streams import Stream, bare_queries, funnels, grains, pages, queries, streams, visit_queries

EXAMPLES = int(os.environ.get("EXAMPLES", "25"))  # other ones in each run
thorough = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def rig(settings: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Engine"]:
    database = make_database(settings)
    engine = Engine(database, tmp_path_factory.mktemp("engine"))
    yield engine
    engine.connection.close()
    engine.drop_all()
    database.client.close()


class Engine(Rig):
    def __init__(self, database: Database[dict[str, Any]], folder: Path) -> None:
        super().__init__(database, folder)
        self.database = database
        self.reports = Reports(self.reader, self.imports, self.connection.cursor, time_limit=60, most_fresh=10**9)

    def drop_all(self) -> None:
        for name in ("events", "dirty_hours", "segment_manifests", "segments.files", "segments.chunks"):
            self.database[name].delete_many({})

    def store_a_stream(self, data: st.DataObject) -> tuple[Stream, list[dict[str, Any]]]:
        """Store a drawn stream, and build segments of parts of it. Return its documents too."""
        stream: Stream = data.draw(streams())
        documents = list(stream.documents)
        self.store_and_build(documents, data.draw)
        return stream, documents

    def store(self, *documents: dict[str, Any]) -> None:
        if documents:
            self.events.insert_many([dict(document) for document in documents])
            self.dirty.mark([(d["site_id"], as_ms(d["timestamp"])) for d in documents], self.now)

    def store_and_build(self, documents: list[dict[str, Any]], draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        """Stores the events, and builds up to two segments around some of them."""
        self.drop_all()
        self.store(*documents)
        for _ in range(draw(st.integers(0, 2))):
            if documents:
                each = draw(st.sampled_from(documents))
                grain = draw(st.sampled_from(SEGMENT_GRAINS))
                self.builder.build(each["site_id"], grain, interval_of(grain, as_ms(each["timestamp"])))


def as_oracle_says(answer: Answer) -> list[tuple[Any, ...]]:
    def metric(value: Any) -> Any:
        return oracle.money(value.amount, value.currency) if isinstance(value, MoneyAmount) else value

    return [(row.dimensions, tuple(map(metric, row.metrics))) for row in answer.rows]


@thorough
@given(data=st.data())
def test_every_answer_equals_the_oracle_s(rig: Engine, data: st.DataObject):
    rig.drop_all()
    stream: Stream = data.draw(streams())
    documents = list(stream.documents)
    site_ids = sorted({d["site_id"] for d in documents})
    cut = data.draw(st.integers(0, len(documents)))
    rig.store(*documents[:cut])
    for _ in range(data.draw(st.integers(0, 3))):
        if documents:
            moment = as_ms(data.draw(st.sampled_from(documents))["timestamp"])
            grain = data.draw(st.sampled_from(SEGMENT_GRAINS))
            note(f"built {grain} of {as_datetime(moment)}")
            rig.builder.build(data.draw(st.sampled_from(site_ids)), grain, interval_of(grain, moment))
    rig.store(*documents[cut:])
    for asked in (queries, queries, visit_queries, visit_queries):
        query: Query = data.draw(asked(stream))
        expected = oracle.answer(documents, query)
        answer = rig.reports.answer(query)
        assert as_oracle_says(answer) == [tuple(row) for row in expected.rows]
        assert answer.total_rows in (None, expected.total_rows)
    if documents:
        site_id = data.draw(st.sampled_from(site_ids))
        of_site = [d for d in documents if d["site_id"] == site_id]
        day = data.draw(st.sampled_from(of_site))["timestamp"].astimezone(UTC).date()
        for when in (None, day):
            stats = rig.reports.stats(site_id, when)
            theirs = oracle.stats(of_site, when)
            assert (stats.total_views, stats.unique_users) == (theirs["total_views"], theirs["unique_users"])
            assert [{"path": p.path, "views": p.views} for p in stats.top_paths] == [
                row for row in theirs["top_paths"] if row["path"]
            ]


@thorough
@given(data=st.data())
def test_funnels_retention_and_journeys_equal_the_oracle_s(rig: Engine, data: st.DataObject):
    stream, _ = rig.store_a_stream(data)
    check_explorations(rig, data, stream, lambda query: query)


def check_explorations(rig: Engine, data: st.DataObject, stream: Stream, about: Callable[[Query], Query]) -> None:
    """`about` makes a query about other sites of a query about one."""
    documents = list(stream.documents)
    query, steps, window = data.draw(funnels(stream))
    query = about(query)
    assert rig.reports.funnel(query, steps, window) == oracle.funnel(documents, query, steps, window)
    query, grain = about(data.draw(bare_queries(stream))), data.draw(grains())
    cohorts = [(c.label, c.active[0], list(c.active)) for c in rig.reports.retention(query, grain)]
    assert cohorts == oracle.retention(documents, query, grain)
    query, page = about(data.draw(bare_queries(stream))), data.draw(pages())
    found = rig.reports.journeys(query, page)
    assert (list(found.following), list(found.preceding)) == oracle.journeys(documents, query, page)


@thorough
@given(data=st.data())
def test_a_roll_up_of_a_stream_over_several_sites_equals_the_oracle_s(rig: Engine, data: st.DataObject):
    stream: Stream = data.draw(streams(most_events=4, counts=(2, 3)))
    documents = list(stream.documents)
    rig.store_and_build(documents, data.draw)

    def of_all(query: Query) -> Query:
        site_id, *others = data.draw(st.permutations(stream.sites))
        return replace(query, site_id=site_id, others=tuple(others))

    for asked in (queries, visit_queries, visit_queries):
        query = of_all(data.draw(asked(stream)))
        expected = oracle.answer(documents, query)
        assert as_oracle_says(rig.reports.answer(query)) == [tuple(row) for row in expected.rows]
    check_explorations(rig, data, stream, of_all)


@thorough
@given(data=st.data())
def test_an_export_with_filters_has_the_events_that_the_oracle_counts(rig: Engine, data: st.DataObject):
    stream, documents = rig.store_a_stream(data)
    query = data.draw(bare_queries(stream))
    found = filtered_events(rig.reports, EventStore(rig.database), query, rig.reports.budget(), lambda: NOW)
    assert [event.id for event in found] == [event["_id"] for event in oracle.Asked(documents, query).fitting]


@thorough
@given(data=st.data())
def test_the_first_groups_by_visitors_equal_the_oracle_s(rig: Engine, data: st.DataObject):
    stream, documents = rig.store_a_stream(data)
    for dimensions in (("event:page",), ("visit:entry_page",), ("event:page", "visit:browser")):
        metrics = {*COUNTS, *OF_VISITS, *OF_MONEY, *SHARES, *(OF_PAGES if "event:page" in dimensions else ())}
        others = data.draw(st.lists(st.sampled_from(sorted(metrics - {"visitors"})), max_size=3, unique=True))
        query = replace(
            data.draw(bare_queries(stream)),
            metrics=("visitors", *others),
            dimensions=dimensions,
            filters=data.draw(st.sampled_from(((), (Not(Condition("is", dimensions[0], (missing(dimensions[0]),))),)))),
            order_by=data.draw(st.sampled_from(((), (Order("visitors", descending=True), Order(dimensions[0], True))))),
            limit=data.draw(st.sampled_from((1, 2, 5))),
            offset=data.draw(st.sampled_from((0, 1))),
            total_rows=True,
        )
        expected = oracle.answer(documents, query)
        answer = rig.reports.answer(query)
        assert as_oracle_says(answer) == [tuple(row) for row in expected.rows]
        assert answer.total_rows == expected.total_rows


@thorough
@given(data=st.data())
def test_views_beside_visits_and_shares_of_all_visitors_equal_the_oracle_s(rig: Engine, data: st.DataObject):
    stream, documents = rig.store_a_stream(data)
    bare = replace(data.draw(bare_queries(stream)), filters=())
    counts = ("visitors", "visits", *OF_VISITS, "pageviews", "events")
    metrics = tuple(data.draw(st.lists(st.sampled_from(counts), min_size=1, unique=True)))
    grain = data.draw(st.none() | grains())
    figures = replace(bare, metrics=metrics, dimensions=(f"time:{grain}",) if grain else ())
    has_page = Not(Condition("is", "event:page", (missing("event:page"),)))
    shares = replace(
        bare,
        metrics=("visitors", "percentage"),
        dimensions=(data.draw(st.sampled_from(("event:name", "event:hostname", *VISIT_DIMENSIONS))),),
        filters=data.draw(st.sampled_from(((), (has_page,)))),
    )
    for query in (figures, shares):
        assert as_oracle_says(rig.reports.answer(query)) == [tuple(row) for row in oracle.answer(documents, query).rows]


def view(user_id: str, moment: datetime) -> dict[str, Any]:
    return {"_id": uuid4(), "site_id": "site", "event_type": "page_view", "user_id": user_id, "timestamp": moment}


def store_in_a_segment(rig: Engine, *documents: dict[str, Any]) -> None:
    """Stores the documents in a segment of the first one's day."""
    rig.drop_all()
    rig.store(*documents)
    rig.builder.build("site", "day", interval_of("day", as_ms(documents[0]["timestamp"])))


def ask(rig: Engine, documents: list[dict[str, Any]], query: Query) -> list[tuple[Any, ...]]:
    """The answer, after checking that it equals the oracle's."""
    answer = as_oracle_says(rig.reports.answer(query))
    assert answer == [tuple(row) for row in oracle.answer(documents, query).rows]
    return answer


def test_a_visit_may_have_no_event_in_the_first_hour_of_the_period(rig: Engine):
    ten = datetime(2026, 5, 13, 10, tzinfo=UTC)
    documents = [view("anna", ten + timedelta(minutes=40)), view("anna", ten + timedelta(minutes=61))]
    store_in_a_segment(rig, *documents)
    period = Period(ten + timedelta(minutes=45), ten + timedelta(minutes=105), ZoneInfo("UTC"))
    query = Query("site", ("visitors", "visits"), period, ("time:hour",))
    assert ask(rig, documents, query) == [(("2026-05-13 11:00:00",), (1, 1))]


@pytest.mark.parametrize("metrics", [("visitors",), ("visits", "bounce_rate")])
@pytest.mark.parametrize("dimensions", [(), ("time:hour",), ("visit:browser",)])
def test_a_visit_that_began_before_the_period_is_in_it(rig: Engine, metrics: Any, dimensions: Any):
    noon = datetime(2026, 5, 13, 12, tzinfo=UTC)
    documents = [view("anna", noon - timedelta(minutes=20)), view("anna", noon + timedelta(minutes=5))]
    documents.append(view("bob", noon - timedelta(minutes=20)))
    store_in_a_segment(rig, *documents)
    query = Query("site", metrics, Period(noon, noon + timedelta(hours=2), ZoneInfo("UTC")), dimensions)
    assert [numbers[0] for _, numbers in ask(rig, documents, query)] == [1]


def test_a_period_from_before_1970_counts_a_visit_over_midnight_once_a_day(rig: Engine):
    """The first of January 1970 begins before the Unix epoch in zones east of UTC."""
    zone = ZoneInfo("Asia/Tokyo")
    midnight = datetime(2026, 5, 13, tzinfo=zone).astimezone(UTC)
    documents = [view("anna", midnight - timedelta(minutes=20)), view("anna", midnight + timedelta(minutes=5))]
    store_in_a_segment(rig, *documents)
    period = Period(datetime(1970, 1, 1, tzinfo=zone).astimezone(UTC), midnight + timedelta(days=1), zone)
    query = Query("site", ("visitors",), period, ("time:day",))
    assert ask(rig, documents, query) == [(("2026-05-12",), (1,)), (("2026-05-13",), (1,))]


def test_a_visitor_whose_entry_is_derived_again_is_not_lost(rig: Engine):
    """Visitors alone are counted without combining the parts of visits."""
    noon = datetime(2026, 5, 13, 12, tzinfo=UTC)
    documents = [view("anna", noon + timedelta(minutes=55)), view("anna", noon + timedelta(minutes=65))]
    store_in_a_segment(rig, *documents)
    documents.append(view("bob", noon + timedelta(minutes=55, seconds=1)))
    rig.store(documents[-1])
    query = Query("site", ("visitors",), Period(noon, noon + timedelta(hours=3), ZoneInfo("UTC")), ("time:hour",))
    assert ask(rig, documents, query) == [(("2026-05-13 12:00:00",), (2,)), (("2026-05-13 13:00:00",), (1,))]


def test_a_page_with_few_views_of_many_visitors_is_before_pages_with_more_views(rig: Engine):
    noon = datetime(2026, 5, 13, 12, tzinfo=UTC)
    documents = [view("anna", noon) | {"path": f"/{n}"} for n in range(20) for _ in range(5)]
    documents += [view(user_id, noon) | {"path": "/all"} for user_id in ("anna", "bob", "carol")]
    store_in_a_segment(rig, *documents)
    period = Period(noon, noon + timedelta(hours=1), ZoneInfo("UTC"))
    query = Query("site", ("visitors", "percentage", "pageviews", "visits"), period, ("event:page",), limit=2)
    assert ask(rig, documents, query) == [(("/all",), (3, 100.0, 3, 3)), (("/0",), (1, 33.33, 5, 1))]


@pytest.mark.parametrize("limit", [2, 20])
def test_the_stored_word_for_a_missing_value_is_in_the_group_of_events_without_a_value(rig: Engine, limit: int):
    noon = datetime(2026, 5, 13, 12, tzinfo=UTC)
    documents = [view("anna", noon), view("anna", noon) | {"path": "(not set)"}, view("bob", noon)]
    documents += [view(user_id, noon) | {"path": "/a"} for user_id in ("anna", "carol", "dora")]
    store_in_a_segment(rig, *documents)
    period = Period(noon, noon + timedelta(hours=1), ZoneInfo("UTC"))
    query = Query("site", ("visitors",), period, ("event:page",), limit=limit, total_rows=True)
    assert ask(rig, documents, query) == [(("/a",), (3,)), (("(not set)",), (2,))]
    assert rig.reports.answer(query).total_rows == 2
    of_others = replace(query, filters=(Not(Condition("is", "event:page", ("(not set)", "/b"))),))
    assert ask(rig, documents, of_others) == [(("/a",), (3,))]


def test_a_visitor_who_begins_without_a_page_is_one_of_those_with_a_page(rig: Engine):
    """Also in a further segment."""
    noon = datetime(2026, 5, 13, 12, tzinfo=UTC)
    a_day_later = [view("anna", noon + timedelta(hours=24)), view("anna", noon + timedelta(hours=25)) | {"path": "/a"}]
    documents = [view("anna", noon) | {"path": "/a"}, view("bob", noon), view("carol", noon), *a_day_later]
    documents.append(view("bob", noon + timedelta(minutes=1)) | {"path": "/b"})
    store_in_a_segment(rig, *documents)
    has_page = Not(Condition("is", "event:page", (missing("event:page"),)))
    for days in (1, 2):
        period = Period(noon, noon + timedelta(days=days), ZoneInfo("UTC"))
        query = Query("site", ("visitors", "percentage"), period, ("event:page",), (has_page,), limit=6)
        assert ask(rig, documents, query) == [(("/a",), (1, 50.0)), (("/b",), (1, 50.0))]
        rig.builder.build("site", "day", interval_of("day", as_ms(a_day_later[0]["timestamp"])))


NOON = datetime(2026, 5, 13, 12, tzinfo=UTC)
OF_DAY = of_days(NOON.date(), NOON.date(), ZoneInfo("UTC"))
MAY_BE_MISSING = {*EVENT_DIMENSIONS, *VISIT_DIMENSIONS, PROPS + "tone"} - {"event:goal", "event:name"}


def events_that_fit(rig: Engine, documents: list[dict[str, Any]], *filters: Filter) -> int:
    ((_, (events,)),) = ask(rig, documents, Query("site", ("events",), OF_DAY, filters=filters))
    return int(events)


def store(rig: Engine, documents: list[dict[str, Any]], in_segment: bool) -> None:
    rig.drop_all()
    rig.store(*documents)
    if in_segment:
        rig.builder.build("site", "day", interval_of("day", as_ms(NOON)))


@pytest.mark.parametrize("in_segment", [True, False])
def test_the_word_for_a_missing_value_can_be_compared_and_not_searched(rig: Engine, in_segment: bool):
    documents = [view("anna", NOON) | {"event_type": "signup"}]
    store(rig, documents, in_segment)
    for dimension, sensitive in product(sorted(MAY_BE_MISSING), (True, False)):
        word = missing(dimension)
        is_it = Condition("is", dimension, (word,), sensitive)
        assert [events_that_fit(rig, documents, each) for each in (is_it, Not(is_it))] == [1, 0], is_it
        for operator in ("contains", "matches"):
            found = Condition(operator, dimension, (word[1:5], "", "e", ".*"), sensitive)
            assert [events_that_fit(rig, documents, each) for each in (found, Not(found))] == [0, 1], found


@pytest.mark.parametrize("in_segment", [True, False])
def test_three_operators_ignore_case_alike(rig: Engine, in_segment: bool):
    pairs = [
        ("/ΟΔΟΣ", "/οδος"), ("/οδος", "/ΟΔΟΣ"), ("/straße", "/STRAẞE"), ("/k", "/\u212a"), ("/\u0131", "/I"),
        ("/caf\u00e9", "/CAFE"), ("/th\u00e9", "/TH\u00c9"), ("/DŽ", "/dž"), ("/İ", "/i"), ("/ss", "/ß"),
    ]  # fmt: skip
    documents = [view("anna", NOON) | {"path": path, "props": {"p": path}} for path, _ in pairs]
    store(rig, documents, in_segment)
    for dimension in ("event:page", f"{PROPS}p"):
        found = [
            [
                events_that_fit(
                    rig, documents,
                    Condition("is", dimension, (path,)), Condition(operator, dimension, (asked,), case_sensitive=False),
                )
                for path, asked in pairs
            ]
            for operator in ("is", "contains", "matches")
        ]  # fmt: skip
        assert found == [[1, 1, 1, 1, 0, 0, 1, 1, 0, 0]] * 3
