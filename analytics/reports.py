"""Questions answered: from a Query to numbers, through one reading of the site's events and one statement of SQL.

Wrong can go: MongoDB away is Unavailable. A question that takes too long, needs too much memory or finds too many
others at work is Refused, with a code and a sentence for whoever asked. A pattern that RE2 does not take is
InvalidQuery, at its place.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pycountry
import pymongo
import structlog
from pymongo.database import Database
from pymongo.errors import PyMongoError

from analytics import exploration_sql
from analytics.answer import (
    Answer,
    Cohort,
    Journeys,
    Metric,
    Money,
    PastEvent,
    PastVisit,
    PathViews,
    Refused,
    Row,
    SiteStats,
)
from analytics.comparison import counterparts
from analytics.query import OF_MONEY, Filter, Grain, Period, Query, conditions, time_labels
from analytics.query_schema import InvalidQuery
from analytics.query_sql import Rows, bucket_of, label, put, statement, value
from analytics.raw_events import visitor_of
from analytics.reading import Reader, Reading, Sql
from analytics.segment_sql import EVENT_COLUMNS
from analytics.segments import make_segments
from analytics.stretch import DAY, QUARTER, Stretch, as_datetime, as_ms
from analytics.unavailable import Unavailable, trouble_with
from config.settings import Settings

log = structlog.get_logger()

MOST_PATHS = 10
PATIENCE = 2.0  # seconds that a question waits for others to end
UTC_ZONE = ZoneInfo("UTC")
ALL_TIME = Stretch(0, as_ms(datetime(9999, 1, 1, tzinfo=UTC)))
MOST_COMPARED = 1_000_000  # groups

# How many visitors; with each of the pages viewed most, the pageviews without a page last; and all pageviews. One
# statement, for a second one costs 2 ms.
_STATS = f"""
WITH people AS (SELECT {{}} AS users FROM ({{}}) WHERE seen IS NULL OR seen < {{}}), pages AS (
  SELECT page, count(*) AS n FROM ({{}}) WHERE name = 'pageview' GROUP BY page)
SELECT users, page, n, total FROM people LEFT JOIN (
  SELECT page, n, (sum(n) OVER ())::BIGINT AS total FROM pages
  ORDER BY page IS NULL, n DESC, page LIMIT {MOST_PATHS}) ON true
ORDER BY page IS NULL, n DESC, page
"""

TOO_LONG = "This takes longer than {} s; ask about a shorter period, or with fewer dimensions."
TOO_LARGE = "This takes more memory than there is for one question; ask about a shorter period or fewer dimensions."
TOO_MANY = "Too many questions are being answered; please ask again."


@dataclass
class Reports:
    """`time_limit`: seconds for one question; `at_once`: how many are answered at the same time; `patience`: seconds
    that another one waits for its turn. `most_fresh`: see Reader.open.
    """

    reader: Reader
    database: duckdb.DuckDBPyConnection
    time_limit: float
    most_fresh: int
    at_once: int = 4
    patience: float = PATIENCE

    def __post_init__(self) -> None:
        self._turns = threading.BoundedSemaphore(self.at_once)
        for table, names in (("country_names", _countries()), ("region_names", _regions())):
            made = f"CREATE OR REPLACE TABLE {table} AS SELECT unnest(?) AS code, unnest(?) AS name"
            self.database.execute(made, names)

    def answer(self, query: Query) -> Answer:
        """Raises Refused, InvalidQuery, Unavailable."""
        with self._asking(query.site_id) as connection:
            _check_patterns(connection, query.filters)
            found, total, as_of = self._rows(connection, query)
            if query.compare_with is not None:
                found = self._compared(connection, query, query.compare_with, found)
        return Answer(tuple(found), total if query.total_rows else None, as_of)

    def stats(self, site_id: str, day: date | None) -> SiteStats:
        """Of a UTC day, or of all time. Raises Refused, Unavailable."""
        stretch = ALL_TIME
        if day is not None:
            start = as_ms(datetime(day.year, day.month, day.day, tzinfo=UTC))
            stretch = Stretch(start, start + DAY)
        with self._asking(site_id) as connection:
            reading = self.reader.open(connection, site_id, stretch, self.most_fresh, visits=False)
            users = Sql("count(*)" if reading.holds_whole(stretch) else "count(DISTINCT visitor)")
            people = reading.rows(stretch, ["visitor", "seen"], openings=True)
            since = value(stretch.start // QUARTER)
            sql = put(_STATS, users, people, since, reading.rows(stretch, ["name", "page"]))
            found = connection.execute(sql.text, sql.values).fetchall()
        paths = [PathViews(path, n) for _, path, n, _ in found if path is not None]
        return SiteStats(found[0][3] or 0, found[0][0], paths)

    def funnel(self, query: Query, steps: Sequence[Filter], window: timedelta | None) -> list[int]:
        """How many got to each step, each later than the one before: visits, or with a window visitors whose last step
        was at most so long after the first. Raises as `answer` does.
        """
        with self._asking(query.site_id) as connection:
            _check_patterns(connection, (*query.filters, *steps))
            found, _ = self._asked(
                connection,
                query.site_id,
                stretch_of_period(query.period),
                lambda rows, _: exploration_sql.funnel(query, rows, steps, window),
            )
        return [int(count) for count in found[0]]

    def retention(self, query: Query, grain: Grain) -> list[Cohort]:
        """Cohorts in the order of time, those that have anybody. Raises as `answer` does."""
        places = {bucket_of(text, grain): n for n, text in enumerate(time_labels(query.period, grain))}
        active: dict[int, list[int]] = {}
        with self._asking(query.site_id) as connection:
            _check_patterns(connection, query.filters)
            found, _ = self._asked(
                connection,
                query.site_id,
                stretch_of_period(query.period),
                lambda rows, _: exploration_sql.retention(query, rows, grain),
            )
        for cohort, bucket, count in found:
            counts = active.setdefault(cohort, [0] * (len(places) - places[cohort]))
            counts[places[bucket] - places[cohort]] = count
        return [Cohort(label(cohort, grain), tuple(active[cohort])) for cohort in sorted(active)]

    def journeys(self, query: Query, page: str) -> Journeys:
        """Whole visits count, also where they reach beyond the period. Raises as `answer` does."""
        following: Counter[str | None] = Counter()
        preceding: Counter[str | None] = Counter()
        with self._asking(query.site_id) as connection:
            _check_patterns(connection, query.filters)
            stretch = stretch_of_period(query.period)
            reading = self.open(connection, query.site_id, stretch)
            sql = exploration_sql.views_of(query, partial(reading.rows, stretch), page)
            connection.register("viewed", connection.sql(sql.text, params=sql.values).to_arrow_table())
            reach = connection.execute("SELECT min(span_start), max(span_end) + 1 FROM viewed").fetchall()[0]
            if reach[0] is None:
                return Journeys((), ())
            wider = Stretch(*reach)
            reading = self.open(connection, query.site_id, wider)
            sql = exploration_sql.neighbours(query, partial(reading.rows, wider))
            for after, before, count in connection.execute(sql.text, sql.values).fetchall():
                following[after] += count
                preceding[before] += count
        return Journeys(_most_first(following), _most_first(preceding))

    def history(self, site_id: str, user_id: str, period: Period, limit: int) -> list[PastVisit]:
        """A visitor's visits with an event in the period, the latest first; their events within it, oldest first."""
        stretch = stretch_of_period(period)
        with self._asking(site_id) as connection:
            reading = self.open(connection, site_id, stretch)
            sql = exploration_sql.history(partial(reading.rows, stretch), visitor_of(user_id), limit)
            found = connection.execute(sql.text, sql.values).fetchall()
        return [_visit(list(events)) for _, events in groupby(found, key=itemgetter(0))]

    def check(self) -> None:
        """Raises Unavailable where MongoDB does not answer within a second."""
        self.reader.check()

    def earliest(self, site_id: str) -> datetime | None:
        """When the site's first event happened."""
        with self._asking(site_id) as connection:
            found, _ = self._asked(
                connection,
                site_id,
                ALL_TIME,
                lambda rows, _: put("SELECT min(occurred) FROM ({})", rows(["occurred"])),
            )
        first = found[0][0]
        return None if first is None else as_datetime(first)

    def open(self, connection: duckdb.DuckDBPyConnection, site_id: str, stretch: Stretch) -> Reading:
        return self.reader.open(connection, site_id, stretch, self.most_fresh)

    def _asked(
        self,
        connection: duckdb.DuckDBPyConnection,
        site_id: str,
        stretch: Stretch,
        question: Callable[[Rows, Callable[[Stretch], bool]], Sql],
    ) -> tuple[list[tuple[Any, ...]], datetime | None]:
        """What a question finds, and as of when. Asked twice: first for the columns that it needs, as only those of
        visits make it necessary to put visits together.
        """
        columns: set[str] = set()

        def note(names: Iterable[str], *, openings: bool = False) -> Sql:  # noqa: ARG001  as Reading.rows
            columns.update(names)
            return Sql("nothing")

        question(note, lambda _: False)
        reading = self.reader.open(
            connection, site_id, stretch, self.most_fresh, visits=not columns <= set(EVENT_COLUMNS)
        )
        sql = question(partial(reading.rows, stretch), reading.holds_whole)
        return connection.execute(sql.text, sql.values).fetchall(), reading.as_of

    def _rows(
        self,
        connection: duckdb.DuckDBPyConnection,
        query: Query,
        only: Iterable[tuple[str, ...]] | None = None,
    ) -> tuple[list[Row], int, datetime | None]:
        stretch = stretch_of_period(query.period)
        found, as_of = self._asked(
            connection, query.site_id, stretch, lambda rows, whole: statement(query, rows, whole, only)
        )
        return [_row(query, each) for each in found if each[-2]], found[0][-1], as_of

    def _compared(
        self, connection: duckdb.DuckDBPyConnection, query: Query, period: Period, found: list[Row]
    ) -> list[Row]:
        if not found:
            return []
        timeless = [n for n, name in enumerate(query.dimensions) if not name.startswith("time:")]
        only = {tuple(row.dimensions[n] for n in timeless) for row in found}
        earlier = replace(query.in_period(period), limit=MOST_COMPARED, offset=0)
        before, _, _ = self._rows(connection, earlier, only)
        by_group = {row.dimensions: row.metrics for row in before}
        if query.grain is None:
            return [replace(row, before=by_group.get(row.dimensions)) for row in found]
        place = query.dimensions.index(f"time:{query.grain}")
        then = counterparts(query.period, period, query.grain)

        def moved(group: tuple[str, ...]) -> tuple[str, ...]:
            return (*group[:place], then.get(group[place], ""), *group[place + 1 :])

        return [replace(row, before=by_group.get(moved(row.dimensions))) for row in found]

    @contextmanager
    def _asking(self, site_id: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of one's own, in turn, and within the limits."""
        if not self._turns.acquire(timeout=self.patience):
            raise Refused("busy", TOO_MANY)
        done = threading.Event()
        try:
            connection = self.database.cursor()
            threading.Thread(target=_interrupt_after, args=(self.time_limit, done, connection), daemon=True).start()
            with closing(connection), trouble_with("mongodb", PyMongoError), pymongo.timeout(self.time_limit):
                self.check()  # a MongoDB that is away is known after a second, not after the question's limit
                yield connection
        except duckdb.InterruptException:
            raise Refused("time_limit", TOO_LONG.format(f"{self.time_limit:g}")) from None
        except duckdb.OutOfMemoryException:
            raise Refused("memory_limit", TOO_LARGE) from None
        except (duckdb.OperationalError, duckdb.InvalidInputException) as error:
            log.exception("copies_not_read", site_id=site_id)  # damaged or gone; MongoDB has better ones
            self.reader.forget(site_id)
            raise Unavailable("segments", error) from error
        finally:
            done.set()
            self._turns.release()


def _interrupt_after(seconds: float, done: threading.Event, connection: duckdb.DuckDBPyConnection) -> None:
    """Again and again: an interrupt between two statements is lost."""
    if not done.wait(seconds):
        connection.interrupt()
        while not done.wait(0.02):
            connection.interrupt()


def make_reports(settings: Settings, database: Database[dict[str, Any]]) -> Reports:
    """One for each process, made after the fork."""
    segments = make_segments(settings, database)
    return Reports(segments.reader, segments.connect(), settings.stats_time_limit, settings.most_fresh)


def stretch_of_period(period: Period) -> Stretch:
    return Stretch(as_ms(period.start), as_ms(period.end))


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
        return None if given is None or currency is None else Money(Decimal(int(given)).scaleb(-3), currency)
    if given is None or isinstance(given, float):
        return given
    return int(given)


def _visit(events: Sequence[tuple[Any, ...]]) -> PastVisit:
    _, began, duration, pageviews, bounce, entry_page, exit_page, described, *_ = events[0]
    known = {name: text for name, text in described.items() if text is not None}
    seconds = (duration + 500) // 1000
    past = tuple(_past_event(event[8:]) for event in events)
    return PastVisit(as_datetime(began), seconds, pageviews, bounce, entry_page, exit_page, known, past)


def _past_event(row: Sequence[Any]) -> PastEvent:
    occurred, name, page, hostname, engaged, depth, amount, currency, props = row
    revenue = None if amount is None else Money(amount, currency)
    return PastEvent(as_datetime(occurred), name, page, hostname, engaged, depth, revenue, props)


def _most_first(counts: Counter[str | None]) -> tuple[tuple[str | None, int], ...]:
    return tuple(sorted(counts.items(), key=lambda row: (-row[1], row[0] is None, row[0] or "")))


def _check_patterns(connection: duckdb.DuckDBPyConnection, filters: tuple[Filter, ...]) -> None:
    for condition in conditions(filters):
        if condition.operator == "matches":
            for pattern in condition.values:
                try:
                    connection.execute("SELECT regexp_matches('', ?)", (pattern,)).fetchall()
                except duckdb.InterruptException:
                    raise
                except duckdb.Error as error:
                    raise InvalidQuery(condition.place, f"Invalid regular expression: {error}") from None


def _countries() -> tuple[list[str], list[str]]:
    found = list(pycountry.countries)
    return [country.alpha_2 for country in found], [country.name for country in found]


def _regions() -> tuple[list[str], list[str]]:
    found = list(pycountry.subdivisions)
    return [region.code for region in found], [region.name for region in found]
