"""Answers queries: from a Query to numbers, through a snapshot of each site's events and one SQL statement.

Callers must handle four exceptions. Unavailable: MongoDB is not reachable. Refused: the query takes too much time or
memory, or too many other queries are running. InvalidQuery: a pattern is invalid or too large, or the answer is too
large. SegmentLost: a segment in MongoDB is damaged. A damaged copy of a segment on this machine is replaced, and the
query runs again.
"""

from __future__ import annotations  # evaluated, they would keep DuckDB's types beyond the interpreter's end

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import duckdb
import pycountry
import pymongo
import structlog
from pymongo.errors import PyMongoError

from analytics.aggregates.store import TooManyTotals
from analytics.events.columns import visitor_of
from analytics.interval import DAY, Interval, as_datetime, as_ms
from analytics.languages import translatable
from analytics.mongodb import looking
from analytics.queries.comparison import counterparts
from analytics.queries.local_time import EPOCH_DAY, label, time_buckets
from analytics.queries.patterns import FLAGS, INVALID_PATTERN, check_patterns
from analytics.queries.query import OF_MONEY, Filter, Grain, Period, Query, conditions, function_of_numbers
from analytics.queries.query_schema import InvalidQuery
from analytics.reports import exploration_sql
from analytics.reports.budget import Budget
from analytics.reports.imported_days import ImportedTotals, days_with_events, imported_relation
from analytics.reports.imports_reader import ImportsReader
from analytics.reports.query_plan import Plan
from analytics.reports.query_slots import QuerySlots
from analytics.reports.query_sql import plan_query
from analytics.reports.results import (
    Answer,
    Cohort,
    ImportedPart,
    Journeys,
    Metric,
    MoneyAmount,
    PastEvent,
    PastVisit,
    PathViews,
    Refused,
    Row,
    SiteStats,
    VisitorHistory,
)
from analytics.reports.site_stats_sql import first_event, site_stats
from analytics.segments.snapshot import RollUp, Snapshot
from analytics.segments.snapshot_reader import Share, SnapshotReader
from analytics.sql import Sql
from analytics.unavailable import Unavailable, raising_unavailable

log = structlog.get_logger()

_PATIENCE = 2.0  # seconds that a query waits for other queries to end
UTC_ZONE = ZoneInfo("UTC")
_ALL_TIME = Interval(0, as_ms(datetime(9999, 1, 1, tzinfo=UTC)))
MOST_COMPARED = 1_000_000  # groups
MOST_PAST_EVENTS = 10_000  # of a visitor's history
MOST_TEXT = 16_000_000  # bytes of text in an answer; its JSON and its Python objects are several times as large
FETCHED = 100  # rows at a time
_PLACES = "(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 20480)"  # about half a MB is read at once

_TOO_LARGE = translatable(
    "The query needs more memory than one query may use. Query a shorter period or fewer dimensions."
)
ANSWER_TOO_LARGE = translatable(
    "The answer would have more than %(most)s bytes of text. Query fewer rows or fewer dimensions."
)

T = TypeVar("T")


@dataclass
class Reports:
    """Answers the queries of one process. `imports` reads imported daily totals. `connect` opens DuckDB, at the first
    query. `time_limit` is the seconds for one query. `at_once` is the number of queries that run at the same time.
    `patience` is the seconds that another query waits for a slot. `most_fresh`: see SnapshotReader.open.
    """

    reader: SnapshotReader
    imports: ImportsReader
    connect: Callable[[], duckdb.DuckDBPyConnection]
    time_limit: float
    most_fresh: int
    at_once: int = 4
    patience: float = _PATIENCE

    def __post_init__(self) -> None:
        self._slots = QuerySlots(self.at_once, self.patience)
        self._opening = threading.Lock()
        self._database: duckdb.DuckDBPyConnection | None = None

    def close(self) -> None:
        if self._database is not None:
            self._database.close()

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        with self._opening:
            if self._database is None:
                self._database = _with_names(self.connect())
        return self._database.cursor()

    def budget(self, key: str = "") -> Budget:
        """Return the budget of a query that begins now."""
        return Budget(self.time_limit, key)

    def answer(self, query: Query, budget: Budget | None = None) -> Answer:
        """Answer the query. Pass `budget` if the query began earlier. Raises Refused, InvalidQuery, Unavailable and
        SegmentLost.
        """
        return self._ask(query.site_ids, partial(self._answer, query), budget)

    def _answer(self, query: Query, connection: duckdb.DuckDBPyConnection, budget: Budget) -> Answer:
        _check_patterns(connection, query.filters)
        answer = self._rows(connection, budget, query)
        if query.compare_with is not None:
            rows = self._compared(connection, budget, query, query.compare_with, answer.rows)
            answer = replace(answer, rows=tuple(rows))
        return answer if query.total_rows else replace(answer, total_rows=None)

    def stats(self, site_id: str, day: date | None, budget: Budget | None = None) -> SiteStats:
        """Return the numbers of a UTC day, or of all time. Raises as `answer` does."""
        interval = _ALL_TIME
        if day is not None:
            start = as_ms(datetime(day.year, day.month, day.day, tzinfo=UTC))
            interval = Interval(start, start + DAY)

        def ask(connection: duckdb.DuckDBPyConnection, budget: Budget) -> SiteStats:
            found, _ = self._asked(connection, budget, [site_id], site_stats(interval))
            paths = [PathViews(path, n) for _, path, n, _ in found if path is not None]
            return SiteStats(found[0][3] or 0, found[0][0], paths)

        return self._ask([site_id], ask, budget)

    def funnel(
        self, query: Query, steps: Sequence[Filter], window: timedelta | None, budget: Budget | None = None
    ) -> list[int]:
        """Count how many reached each step, each step later than the one before. Without `window`, it counts visits.
        With `window`, it counts visitors whose last step was at most that long after the first. Raises as `answer`
        does.
        """

        def ask(connection: duckdb.DuckDBPyConnection, budget: Budget) -> list[int]:
            _check_patterns(connection, (*query.filters, *steps))
            found, _ = self._asked(connection, budget, query.site_ids, exploration_sql.funnel(query, steps, window))
            return [int(count) for count in found[0]]

        return self._ask(query.site_ids, ask, budget)

    def retention(self, query: Query, grain: Grain, budget: Budget | None = None) -> list[Cohort]:
        """Return the cohorts with at least one visitor, in order of time. Raises as `answer` does."""

        def ask(connection: duckdb.DuckDBPyConnection, budget: Budget) -> list[Cohort]:
            places = {bucket: n for n, bucket in enumerate(time_buckets(query.period, grain))}
            active: dict[int, list[int]] = {}
            _check_patterns(connection, query.filters)
            found, _ = self._asked(connection, budget, query.site_ids, exploration_sql.retention(query, grain))
            for cohort, bucket, count in budget.each(found):
                counts = active.setdefault(cohort, [0] * (len(places) - places[cohort]))
                counts[places[bucket] - places[cohort]] = count
            return [Cohort(label(cohort, grain), tuple(active[cohort])) for cohort in sorted(active)]

        return self._ask(query.site_ids, ask, budget)

    def journeys(self, query: Query, page: str, budget: Budget | None = None) -> Journeys:
        """Return the pages before and after `page`. Whole visits count, even if they extend beyond the period. The
        query's limit applies to each direction. Raises as `answer` does.
        """

        def ask(connection: duckdb.DuckDBPyConnection, budget: Budget) -> Journeys:
            _check_patterns(connection, query.filters)
            plan = exploration_sql.views_of(query, page)
            snapshot = self._opened(connection, budget, query.site_ids, plan)
            sql = plan.render(snapshot)
            connection.execute(f"CREATE TEMP TABLE viewed AS {sql.text}", sql.values)
            reach = connection.execute("SELECT min(span_start), max(span_end) + 1 FROM viewed").fetchall()[0]
            if reach[0] is None:
                return Journeys((), ())
            plan = exploration_sql.neighbours(Interval(*reach), query.limit)
            found, _ = self._asked(connection, budget, query.site_ids, plan)
            both = ([(page, n) for way, page, n in found if way == wanted] for wanted in ("following", "preceding"))
            return Journeys(*map(tuple, both))

        return self._ask(query.site_ids, ask, budget)

    def visitor_history(
        self, site_id: str, user_id: str, period: Period, limit: int, budget: Budget | None = None
    ) -> VisitorHistory:
        """Return a visitor's visits with an event in the period, the latest first. Their events within the period are
        the oldest first, and at most MOST_PAST_EVENTS of the latest visits. Raises as `answer` does.
        """
        visitor = visitor_of(user_id)
        plan = exploration_sql.visitor_history(period.interval, visitor, limit, MOST_PAST_EVENTS, MOST_TEXT)

        def ask(connection: duckdb.DuckDBPyConnection, budget: Budget) -> VisitorHistory:
            found, _ = self._asked(connection, budget, [site_id], plan)
            visits = tuple(_visit(list(events)) for _, events in groupby(found, key=itemgetter(0)))
            return VisitorHistory(visits, is_cut=bool(found) and found[0][-1] > len(found))

        return self._ask([site_id], ask, budget)

    def write_places(self, query: Query, file: Path, budget: Budget | None = None) -> datetime | None:
        """Write the places of the period's events that match the filters (exploration_sql.py) to `file`, as Parquet.
        The file must be in the folder of this node's segments. Returns as of when, or None if all events are included.
        Raises as `answer` does.
        """

        def ask(connection: duckdb.DuckDBPyConnection, budget: Budget) -> datetime | None:
            _check_patterns(connection, query.filters)
            plan = exploration_sql.places(query)
            snapshot = self._opened(connection, budget, query.site_ids, plan)
            sql = plan.render(snapshot)
            connection.execute(f"COPY ({sql.text}) TO '{file}' {_PLACES}", sql.values)
            return snapshot.as_of

        return self._ask(query.site_ids, ask, budget)

    def check(self) -> None:
        """Raises Unavailable if MongoDB does not answer within a second."""
        self.reader.check()

    def earliest(self, site_id: str, budget: Budget | None = None) -> datetime | None:
        """Return the time of the site's first event, or when its first imported day began if that is earlier, or None.
        Raises as `answer` does.
        """
        return self.earliest_of([site_id], budget)

    def earliest_of(self, site_ids: Sequence[str], budget: Budget | None = None) -> datetime | None:
        """The same for several sites."""

        def ask(connection: duckdb.DuckDBPyConnection, budget: Budget) -> datetime | None:
            found, _ = self._asked(connection, budget, site_ids, first_event(_ALL_TIME))
            first = found[0][0]
            imported = self.imports.aggregates.extent(site_ids)
            moments = [*([] if first is None else [as_datetime(first)]), *(imported or ())]
            return min(moments, default=None)

        return self._ask(site_ids, ask, budget)

    def has_data(self, site_ids: Sequence[str]) -> bool:
        """Return whether the sites have an event or an imported day. It asks only MongoDB. Raises Unavailable."""
        with looking():
            has_events = any(self.reader.raw.last_at(site_id) for site_id in site_ids)
            return has_events or self.imports.aggregates.extent(site_ids) is not None

    def _asked(
        self, connection: duckdb.DuckDBPyConnection, budget: Budget, site_ids: Sequence[str], plan: Plan
    ) -> tuple[list[tuple[Any, ...]], datetime | None]:
        """Return the rows that the plan's statement finds, and as of when."""
        snapshot = self._opened(connection, budget, site_ids, plan)
        return _fetch(connection, budget, plan.render(snapshot)), snapshot.as_of

    def _opened(
        self, connection: duckdb.DuckDBPyConnection, budget: Budget, site_ids: Sequence[str], plan: Plan
    ) -> Snapshot:
        """Return a new snapshot for the plan. Keep it until the statement has run: it keeps the files that are read."""
        found = {
            site_id: self.reader.open(
                connection, site_id, plan.interval, self.most_fresh,
                visits=plan.visits, detail=plan.detail, share=Share(number, len(site_ids)),
            )
            for number, site_id in enumerate(budget.each(site_ids))
        }  # fmt: skip
        return RollUp(found) if len(found) > 1 else found[site_ids[0]]

    def _rows(
        self,
        connection: duckdb.DuckDBPyConnection,
        budget: Budget,
        query: Query,
        only: Iterable[tuple[str, ...]] | None = None,
    ) -> Answer:
        part, imported = self._imported(connection, budget, query)
        found, as_of = self._asked(connection, budget, query.site_ids, plan_query(query, only, imported))
        rows = tuple(_row(query, each) for each in budget.each(found) if each[-2])
        return Answer(rows, found[0][-1], as_of, part)

    def _imported(
        self, connection: duckdb.DuckDBPyConnection, budget: Budget, query: Query
    ) -> tuple[ImportedPart | None, ImportedTotals | None]:
        """Load the imported totals that the query counts into a relation. Returns what became of them, too."""

        def own_days(site_id: str, first: date, last: date) -> set[date]:
            found, _ = self._asked(connection, budget, [site_id], days_with_events(query, first, last))
            return {EPOCH_DAY + timedelta(days=bucket) for (bucket,) in found}

        try:
            part, totals = self.imports.read(query, own_days)
        except TooManyTotals:
            raise Refused("memory_limit", _TOO_LARGE) from None
        if totals:
            sql = imported_relation(query, totals)
            connection.execute(sql.text, sql.values)
        return part, totals

    def _compared(
        self, connection: duckdb.DuckDBPyConnection, budget: Budget, query: Query, period: Period, found: Sequence[Row]
    ) -> list[Row]:
        if not found:
            return []
        timeless = [n for n, name in enumerate(query.dimensions) if not name.startswith("time:")]
        only = {tuple(row.dimensions[n] for n in timeless) for row in found}
        earlier = replace(query.in_period(period), limit=MOST_COMPARED, offset=0)
        before = self._rows(connection, budget, earlier, only)
        by_group = {row.dimensions: row.metrics for row in before.rows}
        if query.grain is None:
            return [replace(row, before=by_group.get(row.dimensions)) for row in found]
        place = query.dimensions.index(f"time:{query.grain}")
        then = counterparts(query.period, period, query.grain)

        def moved(group: tuple[str, ...]) -> tuple[str, ...]:
            return (*group[:place], then.get(group[place], ""), *group[place + 1 :])

        return [replace(row, before=by_group.get(moved(row.dimensions))) for row in budget.each(found)]

    def _ask(
        self, site_ids: Sequence[str], question: Callable[[duckdb.DuckDBPyConnection, Budget], T], budget: Budget | None
    ) -> T:
        """Run the query in a slot and within the limits. Run it again if a copy of a segment is damaged or missing. A
        roll-up takes a slot of its first site by id, so that all roll-ups with this first site share its slots.
        """
        budget = budget or self.budget()
        with self._slots.slot(min(site_ids), budget.key):
            try:
                return self._once(question, budget)
            except duckdb.Error as error:
                # If DuckDB fails for another reason, intact copies stay.
                damaged = [site_id for site_id in site_ids if self.reader.discard_damaged(site_id)]
                if not damaged:
                    raise
                log.warning("segment_copies_discarded", site_ids=damaged, error=str(error)[:300])
            return self._once(question, budget)

    def _once(self, question: Callable[[duckdb.DuckDBPyConnection, Budget], T], budget: Budget) -> T:
        """Run the query with its own connection."""
        done = threading.Event()
        try:
            connection = self._cursor()
            threading.Thread(target=_interrupt_after, args=(budget.left(), done, connection), daemon=True).start()
            with closing(connection), raising_unavailable("mongodb", PyMongoError), pymongo.timeout(budget.left()):
                self.check()  # reports an unreachable MongoDB after a second instead of at the query's time limit
                return question(connection, budget)
        except duckdb.InterruptException:
            raise budget.refusal() from None
        except Unavailable:
            if not budget.left():  # MongoDB gets the rest of the query's time
                raise budget.refusal() from None
            raise
        except duckdb.OutOfMemoryException:
            raise Refused("memory_limit", _TOO_LARGE) from None
        finally:
            done.set()


def _with_names(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    for table, names in (("country_names", _countries()), ("region_names", _regions())):
        made = f"CREATE OR REPLACE TABLE {table} AS SELECT unnest(?) AS code, unnest(?) AS name"
        connection.execute(made, names)
    return connection


def _fetch(connection: duckdb.DuckDBPyConnection, budget: Budget, sql: Sql) -> list[tuple[Any, ...]]:
    """Return all rows. Raises InvalidQuery if they have more than MOST_TEXT bytes of text."""
    found: list[tuple[Any, ...]] = []
    text = 0
    result = connection.execute(sql.text, sql.values)
    while rows := result.fetchmany(FETCHED):
        budget.check()
        for row in rows:
            text += sum(map(_text_in, row))
            if text > MOST_TEXT:
                raise InvalidQuery("#/pagination/limit", translatable(ANSWER_TOO_LARGE, most=f"{MOST_TEXT:,}"))
            found.append(row)
    return found


def _text_in(cell: object) -> int:
    """The approximate bytes of a cell's text. A character that is not ASCII has up to four."""
    match cell:
        case str():
            return len(cell) if cell.isascii() else len(cell.encode())
        case dict():
            return sum(_text_in(name) + _text_in(item) for name, item in cell.items())
    return 0


def _interrupt_after(seconds: float, done: threading.Event, connection: duckdb.DuckDBPyConnection) -> None:
    """Interrupt repeatedly, because an interrupt between two statements is lost. The query may end meanwhile."""
    if done.wait(seconds):
        return
    with suppress(duckdb.ConnectionException):  # it is closed
        connection.interrupt()
        while not done.wait(0.02):
            connection.interrupt()


def _row(query: Query, found: Sequence[Any]) -> Row:
    width, many = len(query.dimensions), len(query.metrics)
    dimensions = tuple(
        label(given, query.grain) if query.grain and name.startswith("time:") else given
        for name, given in zip(query.dimensions, found, strict=False)
    )
    currencies = iter(found[width + many : -2])
    metrics = tuple(
        _metric(name, given, next(currencies) if name in OF_MONEY else None)
        for name, given in zip(query.metrics, found[width:], strict=False)
    )
    return Row(dimensions, metrics)


def _metric(name: str, given: Any, currency: str | None) -> Metric:
    if name in OF_MONEY:
        return None if given is None or currency is None else MoneyAmount(Decimal(int(given)).scaleb(-3), currency)
    if given is None or isinstance(given, float):
        return given
    if (asked := function_of_numbers(name)) and asked[0] != "count":
        return Decimal(f"{int(given)}e-9")
    return int(given)


def _visit(events: Sequence[tuple[Any, ...]]) -> PastVisit:
    _, began, duration, pageviews, bounce, entry_page, exit_page, described, *_ = events[0]
    known = {name: text for name, text in described.items() if text is not None}
    seconds = (duration + 500) // 1000
    past = tuple(_past_event(event[8:-1]) for event in events)
    return PastVisit(as_datetime(began), seconds, pageviews, bounce, entry_page, exit_page, known, past)


def _past_event(row: Sequence[Any]) -> PastEvent:
    occurred, name, page, hostname, engaged, depth, amount, currency, props = row
    revenue = None if amount is None else MoneyAmount(amount, currency)
    return PastEvent(as_datetime(occurred), name, page, hostname, engaged, depth, revenue, props)


def _check_patterns(connection: duckdb.DuckDBPyConnection, filters: Sequence[Filter]) -> None:
    """Check the patterns with DuckDB too, because its RE2 has another version."""
    check_patterns(filters)
    for condition in conditions(tuple(filters)):
        if condition.operator == "matches":
            for pattern in condition.values:
                try:
                    flags = FLAGS[condition.case_sensitive]
                    connection.execute("SELECT regexp_matches('', ?, ?)", (pattern, flags)).fetchall()
                except duckdb.InterruptException:
                    raise
                except duckdb.Error as error:
                    raise InvalidQuery(condition.place, translatable(INVALID_PATTERN, error=error)) from None


def _countries() -> tuple[list[str], list[str]]:
    return _names("3166-1", "alpha_2")


def _regions() -> tuple[list[str], list[str]]:
    return _names("3166-2", "code")


def _names(standard: str, code: str) -> tuple[list[str], list[str]]:
    """Return the codes and names. They are read from pycountry's file, because its index takes 200 ms to make."""
    found = json.loads(Path(pycountry.DATABASE_DIR, f"iso{standard}.json").read_bytes())[standard]
    return [each[code] for each in found], [each["name"] for each in found]
