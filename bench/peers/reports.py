"""`make bench-peers-reports`: the questions of `make bench-reports`, asked of Footfall and ClickHouse in one process.

ClickHouse (chdb) has the tables of Plausible: events ordered by site, day, name and user, and a row for each visit,
which Plausible derives when it receives events. Here the visits are derived before the measurement. Both systems have
two threads and take turns. Footfall has one segment of the month, as for every past month. Exits with 1 if the answers
to a question differ. EVENTS (1000000) and SEED (1) in the environment change the run.
"""

import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
from chdb.session import Session

from analytics.events.event import PAGEVIEW_TYPES
from analytics.interval import VISIT_GAP, Interval
from bench import report_data
from bench.generated_events import ORIGIN, GeneratedEvents, register_texts
from bench.ingestion import machine, print_table
from bench.report_data import MONTH
from bench.report_questions import DEVICE, FROM, ONE_DAY, QUESTIONS
from bench.reports import Rig, ms, own_mongodb, say, timed

EVENTS, SEED = int(os.environ.get("EVENTS", "1000000")), int(os.environ.get("SEED", "1"))
SITE = "bench"
ROUNDS = 7
TARGET = 0.8 if EVENTS < 5_000_000 else 0.5  # of ClickHouse's time

_KIND = ("device", "browser", "browser_version", "os", "os_version", "country", "region", "city")
_COMMON = ("site_id", "user_id", "session_id", *ORIGIN, *_KIND)
_TYPES = ", ".join(f"{name} {'UInt64' if name.endswith('_id') else 'LowCardinality(String)'}" for name in _COMMON)
# Those columns of Plausible's events_v2 and sessions_v2 that our events fill. Times have milliseconds, so that answers
# can be equal.
TABLES = (
    f"""CREATE TABLE events ({_TYPES}, timestamp DateTime64(3, 'UTC') CODEC(Delta(8), LZ4),
        name LowCardinality(String), pathname String CODEC(ZSTD(3)), meta_key Array(String) CODEC(ZSTD(3)),
        meta_value Array(String) CODEC(ZSTD(3)), revenue Nullable(Decimal64(3)))
        ENGINE = MergeTree PARTITION BY toYYYYMM(timestamp)
        ORDER BY (site_id, toDate(timestamp), name, user_id, timestamp)""",
    f"""CREATE TABLE sessions ({_TYPES}, start DateTime64(3, 'UTC'), is_bounce UInt8, sign Int8)
        ENGINE = CollapsingMergeTree(sign) PARTITION BY toYYYYMM(start)
        ORDER BY (site_id, toDate(start), user_id, session_id)""",
)
# The rows of `events`, from what bench/report_data.py generates. An event has the source of its visit, as in Plausible.
ROWS = f"""
WITH begun AS (
  SELECT *, (occurred - lag(occurred, 1, 0) OVER moment > {VISIT_GAP})::BIGINT AS begins FROM read_parquet(?)
  WINDOW moment AS (PARTITION BY visitor ORDER BY occurred, chance & 4095, chance)
), numbered AS (
  SELECT *, sum(begins) OVER (PARTITION BY visitor ORDER BY occurred, chance & 4095, chance)::BIGINT AS visit FROM begun
), sourced AS (
  SELECT * EXCLUDE origin, coalesce(first_value(origin) OVER moment, 1) AS origin FROM numbered
  WINDOW moment AS (PARTITION BY visitor, visit ORDER BY occurred, chance & 4095, chance)
)
SELECT 1::UBIGINT AS site_id, hash(visitor) AS user_id, hash(visitor::BIGINT << 16 | visit) AS session_id,
  {", ".join(f"coalesce({name}, '') AS {name}" for name in (*ORIGIN, *_KIND))},
  make_timestamp_ms(occurred) AS timestamp,
  CASE WHEN NOT custom THEN 'page_view' WHEN chance % 10 = 0 THEN 'purchase' ELSE 'click-' || chance % 8 END AS name,
  path AS pathname, if(chance % 10 = 3, ['plan', 'logged_in'], []) AS meta_key,
  if(chance % 10 = 3, [['free', 'pro', 'team'][1 + (chance // 10 % 3)::BIGINT], (chance % 4 = 0)::VARCHAR], [])
    AS meta_value,
  if(custom AND chance % 10 = 0, (chance // 10 % 200000 / 100)::DECIMAL(18, 3), NULL) AS revenue
FROM sourced JOIN pages USING (page) JOIN kinds USING (kind) JOIN origins USING (origin)
"""
_VIEW = f"name IN {PAGEVIEW_TYPES}"
SESSIONS = f"""
INSERT INTO sessions SELECT {", ".join(name if name.endswith("_id") else f"any({name})" for name in _COMMON)},
  min(timestamp), countIf({_VIEW}) = 1 AND count() = 1, 1 FROM events GROUP BY site_id, user_id, session_id
"""


def _within(interval: Interval, column: str = "timestamp") -> str:
    start, end = (f"fromUnixTimestamp64Milli({moment})" for moment in (interval.start, interval.end))
    return f"site_id = 1 AND {column} >= {start} AND {column} < {end}"


def _stats(where: str) -> tuple[str, str]:
    return (
        f"SELECT countIf({_VIEW}), uniqExact(user_id) FROM events WHERE {where}",
        f"SELECT pathname, count() AS views FROM events WHERE {where} AND {_VIEW} GROUP BY pathname"
        " ORDER BY views DESC, pathname LIMIT 10",
    )


def _read_stats(totals: list[Any], paths: list[Any]) -> Any:
    return (*totals[0], paths)


_MONTH = _within(MONTH)
# By the names of QUESTIONS, in their order: the statements, and the value of their rows that Reports returns too.
ASKED: list[tuple[tuple[str, ...], Callable[..., Any]]] = [
    (_stats("site_id = 1"), _read_stats),
    (_stats(_within(ONE_DAY)), _read_stats),
    (
        (
            "SELECT toString(toDate(timestamp)) AS day, uniqExact(user_id), uniqExact(session_id) FROM events"
            f" WHERE {_MONTH} GROUP BY day ORDER BY day",
        ),
        lambda rows: rows,
    ),
    (
        (
            f"SELECT pathname, uniqExact(user_id) AS visitors FROM events WHERE {_MONTH} AND country = '{FROM}'"
            f" AND device = '{DEVICE}' GROUP BY pathname ORDER BY visitors DESC, pathname LIMIT 10",
        ),
        lambda rows: rows,
    ),
    (
        (
            "SELECT if(source = '', 'Direct / None', source) AS label, uniqExact(user_id) AS visitors,"
            " intDiv(200 * sum(sign * is_bounce) + sum(sign), 2 * sum(sign)) FROM sessions"
            f" WHERE {_within(MONTH, 'start')} GROUP BY label ORDER BY visitors DESC, label",
        ),
        lambda rows: rows,
    ),
    (
        (  # not windowFunnel, which lets one event count for two steps, or with strict_increase misses some
            "SELECT sum(one), sum(two), sum(three) FROM (WITH toUInt64(toUnixTimestamp64Milli(timestamp)) AS at"
            " SELECT max(pathname = '/') AS one,"
            " sequenceMatch('(?1).*(?2)')(at, pathname = '/', pathname = '/pricing') AS two,"
            " sequenceMatch('(?1).*(?2).*(?3)')(at, pathname = '/', pathname = '/pricing', name = 'purchase') AS three"
            f" FROM events WHERE {_MONTH} AND (pathname IN ('/', '/pricing') OR name = 'purchase')"
            " GROUP BY session_id)",
        ),
        lambda rows: list(rows[0]),
    ),
    (
        (
            "SELECT toString(first), toString(week), count() FROM (SELECT min(toMonday(timestamp)) AS first,"
            f" groupUniqArray(toMonday(timestamp)) AS weeks FROM events WHERE {_MONTH} GROUP BY user_id)"
            " ARRAY JOIN weeks AS week GROUP BY first, week",
        ),
        lambda rows: {(first, week): visitors for first, week, visitors in rows},
    ),
]


@dataclass(frozen=True)
class ClickHouse:
    """Plausible's tables in a folder."""

    session: Session

    def rows(self, statement: str) -> list[Any]:
        found = self.session.query(f"{statement} SETTINGS max_threads = 2", "JSONCompact").bytes()
        return [tuple(row) for row in json.loads(found)["data"]]

    def fill(self, file: Path) -> None:
        for table in TABLES:
            self.session.query(table)
        names = ", ".join((*_COMMON, "timestamp", "name", "pathname", "meta_key", "meta_value", "revenue"))
        self.session.query(f"INSERT INTO events ({names}) SELECT {names} FROM file('{file}', Parquet)")
        self.session.query(SESSIONS)
        for table in ("events", "sessions"):
            self.session.query(f"OPTIMIZE TABLE {table} FINAL")

    def bytes_of_an_event(self) -> float:
        active = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table IN ('events', 'sessions')"
        return float(self.rows(active)[0][0]) / EVENTS


def write_rows(made_up: Path, file: Path) -> None:
    """Writes the rows of ClickHouse's `events` as Parquet."""
    with duckdb.connect() as connection:
        register_texts(connection, SEED)
        connection.sql(ROWS, params=[str(made_up)]).write_parquet(str(file))


def build(rig: Rig, made_up: Path) -> None:
    """Build the segment of the month."""
    rig.ours.backfill.note_if_there_is_none()
    builder = replace(rig.ours.builder, raw=GeneratedEvents(rig.database, made_up, SEED, EVENTS // 25))
    for day in report_data.days():
        builder.build(SITE, "day", day, from_raw=True)
    builder.build(SITE, "month", MONTH)


def measure(uri: str, folder: Path) -> bool:
    made_up, rows = folder / "made-up.parquet", folder / "rows.parquet"
    report_data.make_up(made_up, SEED, EVENTS, EVENTS // 25)
    write_rows(made_up, rows)
    clickhouse = ClickHouse(Session(str(folder / "clickhouse")))
    filled = timed(clickhouse.fill, rows)[0]
    say(f"ClickHouse: {EVENTS:,} events in {filled:.0f} s")
    rig = Rig(uri, folder)
    seconds = timed(build, rig, made_up)[0]
    say(f"Footfall: segments in {seconds:.0f} s")
    reports, ours, theirs, wrong = rig.reports(), defaultdict(list), defaultdict(list), []
    for turn in range(ROUNDS + 1):  # the first fills caches
        for question, (statements, read) in zip(QUESTIONS, ASKED, strict=True):
            seconds, answer = timed(question.ask, reports, SITE)
            ours[question.name].append(seconds)
            seconds, found = timed(lambda each=statements: [clickhouse.rows(statement) for statement in each])
            theirs[question.name].append(seconds)
            if turn == 0 and read(*found) != answer:
                wrong.append(f"{question.name}: {read(*found)} is not {answer}")
    print(f"| ms, {EVENTS:,} events, warm, median of {ROUNDS} | Footfall | ClickHouse | ratio | target {TARGET:g} |")
    print("|---|---|---|---|---|")
    for name in ours:
        pairs = [*zip(ours[name], theirs[name], strict=True)][1:]
        ratio = median(a / b for a, b in pairs)
        cells = [ms(median(a for a, _ in pairs)), ms(median(b for _, b in pairs)), f"{ratio:.2f}"]
        print(f"| {name} | {' | '.join(cells)} | {'met' if ratio <= TARGET else '**missed**'} |")
    print()
    size = sum(segment.size for segment in rig.ours.store.manifest(SITE).segments) / EVENTS
    print_table(
        "bytes of an event",
        {"Footfall, segment": f"{size:.1f}", "ClickHouse, both tables": f"{clickhouse.bytes_of_an_event():.1f}"},
    )
    for each in wrong:
        print(f"WRONG: {each[:2000]}")
    return not wrong


def main() -> None:
    moment = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    print(f"# make bench-peers-reports EVENTS={EVENTS} SEED={SEED}, {moment}, {machine()}\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="footfall-bench-") as name, own_mongodb(Path(name)) as uri:
        right = measure(uri, Path(name))
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
