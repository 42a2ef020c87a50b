"""`make bench-reports`: questions about 10 million events, compared with MongoDB's aggregation and plain DuckDB.

Generates a month of events (bench/report_data.py), inserts them into the real collection of its own MongoDB, builds the
segments, and asks the questions: warm and cold, with a segment per day and with one for the month, and with the last
hour dirty. It asks the same of the aggregation framework, and of one Parquet file with the same rows, with the same
SQL. Prints tables, and exits with 1 if two answers differ.

EVENTS (10000000), SITES (1000, small ones with 200 events each) and SEED (1) in the environment change the run. Two
more sites have three tenths and a tenth of the events, and show how times grow with size. With FOLDER, the events are
kept there and reused by the next run, which should have the same EVENTS, SITES and SEED.
"""

import os
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import httpx
import psutil
import pymongo
import structlog

from analytics.interval import HOUR, QUARTER, Interval, as_datetime, as_ms
from analytics.reports.engine import Reports
from analytics.segments import duckdb_connection as duck
from analytics.segments.builder import rebuild, write
from analytics.segments.engine import Segments
from analytics.sql import Sql
from bench import report_data
from bench.calibration import cpu_loops, serving
from bench.ingestion import machine, print_table
from bench.report_data import MONTH
from bench.report_questions import QUESTIONS, Question
from config.services import Services
from config.settings import Settings
from footfall.embedded_servers import mongo_server, pick_port
from tests.support.running_system import running

EVENTS, SEED = int(os.environ.get("EVENTS", "10000000")), int(os.environ.get("SEED", "1"))
VISITORS = EVENTS // 25
TENTH, THIRD, WHOLE = "tenth", "three tenths", "all"
SHARES = {TENTH: 10, THIRD: 30, WHOLE: 100}  # percent of EVENTS
SMALL, SMALL_SITES, SMALL_EVENTS = "small-{}", int(os.environ.get("SITES", "1000")), 200
FRESH = 2_000
DERIVED_COLLECTIONS = ("segment_manifests", "segments.files", "segments.chunks", "segment_state", "segment_history",
                       "dirty_hours")  # fmt: skip
ROUNDS = 5
BY_DAYS, BY_MONTH, LIVE = "30 segments of a day", "one segment of the month", f"{FRESH:,} events of the last hour dirty"
SLOWER_THAN_PARQUET, FASTER_THAN_MONGODB = 1.5, 30

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))  # the tables go to the same output


def settings_of(uri: str, folder: Path) -> Settings:
    """The default settings except for the time limit. `folder`: for copies of segments."""
    return Settings(mongodb_uri=uri, segment_dir=str(folder), stats_time_limit=600)


class Rig:
    """Segments and Reports on one MongoDB and one folder of copies."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.settings = settings_of(uri, folder)
        self.services = Services(self.settings)
        self.database = self.services.database
        self.ours: Segments = self.services.segments

    def reports(self) -> Reports:
        ours = Services(replace(self.settings, duckdb_memory=self.settings.report_memory))
        ours.database = self.database
        return ours.reports

    def connect(self, readable: Path) -> duckdb.DuckDBPyConnection:
        """A connection with the limits that the app's connections have."""
        spill = self.ours.store.workplace.unused()
        return duck.connect(self.settings.duckdb_memory, self.settings.duckdb_threads, spill, [readable])


@dataclass(frozen=True)
class OneFile:
    """A SnapshotReader, and the Snapshot that it opens, for a Parquet file with all rows of a site."""

    path: str

    as_of = None
    extent = None

    def open(self, *_: object, **__: object) -> "OneFile":
        return self

    def check(self) -> None:
        """The file exists."""

    def holds_whole(self, _: Interval) -> bool:
        return True

    def rows(self, period: Interval, columns: Iterable[str], *, openings: bool = False) -> Sql:
        prior = "CASE WHEN NOT entry AND visit IS NOT NULL THEN seen END AS prior"
        names = dict.fromkeys([*columns, "last_quarter"] if openings else columns)
        what = ", ".join(prior if name == "prior" else name for name in names) or "entry"
        since = "last_quarter >= ?" if openings else "quarter >= ?"
        within = f" WHERE {since} AND quarter < ?" if openings or not MONTH.within(period) else ""
        limits = (period.start // QUARTER, period.end // QUARTER) if within else ()
        return Sql(f"SELECT {what} FROM read_parquet(?){within}", ([self.path], *limits))


class Timed:
    """A DuckDB connection or cursor that adds up the seconds in which it executes and fetches."""

    def __init__(self, connection: Any, clock: list[float]) -> None:
        self._connection = connection
        self._clock = clock

    def cursor(self) -> "Timed":
        return Timed(self._connection.cursor(), self._clock)

    def execute(self, *args: Any) -> "Timed":
        start = time.perf_counter()
        self._connection.execute(*args)
        self._clock[0] += time.perf_counter() - start
        return self

    def fetchall(self) -> Any:
        start = time.perf_counter()
        found = self._connection.fetchall()
        self._clock[0] += time.perf_counter() - start
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@dataclass
class Asked:
    """The results of a process for all questions about one site, by the questions' names: seconds, and answers.

    `first`: before anything was cached. `memory`: bytes after all questions, and the maximum.
    """

    first: dict[str, float] = field(default_factory=dict)
    warm: dict[str, float] = field(default_factory=dict)
    parquet: dict[str, float] = field(default_factory=dict)
    ratio: dict[str, float] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    memory: tuple[int, int] = (0, 0)


# Functions that run in processes of their own


def ask_all(uri: str, folder: Path, site: str, parquet: Path | None = None) -> Asked:
    """Asks all questions in turns. With `parquet`, each question is also asked of that file in turns."""
    rig, asked = Rig(uri, folder), Asked()
    reports = rig.reports()
    for question in QUESTIONS:
        asked.first[question.name], asked.answers[question.name] = timed(question.ask, reports, site)
    asked.memory = (psutil.Process().memory_info().rss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    clock = [0.0]
    alone: Any = None
    if parquet is not None:
        plain = rig.connect(parquet.parent)
        file: Any = OneFile(str(parquet))
        alone = Reports(file, reports.imports, lambda: Timed(plain, clock), time_limit=600, most_fresh=0)  # type: ignore[arg-type,return-value]
    ours, theirs = defaultdict(list), defaultdict(list)
    for _ in range(ROUNDS):
        for question in QUESTIONS:
            ours[question.name].append(timed(question.ask, reports, site)[0])
            if alone is not None:
                clock[0] = 0.0
                assert question.ask(alone, site) == asked.answers[question.name], question.name
                theirs[question.name].append(clock[0])
    asked.warm = {name: median(times) for name, times in ours.items()}
    asked.parquet = {name: median(times) for name, times in theirs.items()}
    asked.ratio = {name: median(a / b for a, b in zip(ours[name], theirs[name], strict=True)) for name in theirs}
    return asked


def ask_renewed(uri: str, folder: Path, site: str, moments: list[datetime]) -> dict[str, float]:
    """Asks each question repeatedly, warm, with new events at `moments` before each time. Returns seconds."""
    rig = Rig(uri, folder)
    reports, times = rig.reports(), defaultdict(list)
    for _ in range(ROUNDS + 1):
        for question in QUESTIONS:
            rig.ours.dirty.mark([(site, as_ms(moment)) for moment in moments], datetime.now(UTC))
            times[question.name].append(timed(question.ask, reports, site)[0])
    return {name: median(each[1:]) for name, each in times.items()}


def ask_cold(uri: str, folder: Path, site: str, name: str) -> float:
    """Asks one question in a new process without segments on disk.

    Returns the seconds from connecting to the answer.
    """
    question = next(q for q in QUESTIONS if q.name == name)
    with tempfile.TemporaryDirectory(dir=folder) as empty:
        return timed(lambda: question.ask(Rig(uri, Path(empty)).reports(), site))[0]


def write_parquet(uri: str, folder: Path, site: str, path: Path) -> None:
    """Writes all rows of the site into one file, as a segment is written."""
    rig = Rig(uri, folder)
    with rig.ours.connect() as connection:
        reading = rig.ours.reader.open(connection, site, MONTH, 0)
        rows = sum(segment.rows for segment in rig.ours.store.manifest(site).segments)
        write(connection, reading, MONTH, rows, path)


def build_days(uri: str, folder: Path, site: str) -> float:
    build = Rig(uri, folder).ours.builder.build
    return timed(lambda: [build(site, "day", day, from_raw=True) for day in report_data.days()])[0]


def merge_days(uri: str, folder: Path, site: str) -> float:
    return timed(Rig(uri, folder).ours.builder.build, site, "month", MONTH)[0]


def rebuild_month(uri: str, folder: Path, site: str) -> float:
    return timed(lambda: list(rebuild(Rig(uri, folder).ours.builder, site, [MONTH])))[0]


def build_rest(uri: str, folder: Path) -> float:
    """Builds what a worker builds of events that are not marked as dirty, because they were inserted here."""
    return timed(Rig(uri, folder).ours.builder.build_due)[0]


def timed(act: Callable[..., Any], *args: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    found = act(*args)
    return time.perf_counter() - start, found


def in_new_process(act: Callable[..., Any], *args: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_be_quiet) as pool:
        return pool.submit(act, *args).result()


def _be_quiet() -> None:
    """Hides the progress bar of DuckDB, which takes a spawned process for one at a terminal."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# The run


@dataclass
class Bench:
    uri: str
    folder: Path
    wrong: list[str] = field(default_factory=list)
    asked: dict[tuple[str, str], Asked] = field(default_factory=dict)  # by site and layout
    cold: dict[tuple[str, str], float] = field(default_factory=dict)  # by layout and question
    mongodb: dict[tuple[str, str], float] = field(default_factory=dict)  # by site and question
    sizes: dict[str, str] = field(default_factory=dict)
    renewed: dict[str, float] = field(default_factory=dict)  # by question

    def __post_init__(self) -> None:
        self.plain = self.folder / "plain"  # DuckDB may read this folder in addition to the copies
        self.plain.mkdir(parents=True)
        self.rig = Rig(self.uri, self.folder)

    def run(self) -> None:
        if self.rig.database["events"].estimated_document_count() == 0:
            self.make_data()
        for name in DERIVED_COLLECTIONS:  # of an earlier run
            self.rig.database[name].drop()
        self.measure()

    def measure(self) -> None:
        self.note_raw()
        self.build()
        for site in SHARES:
            self.ask(site, BY_DAYS)
        self.ask_cold(BY_DAYS)
        days = self.rig.ours.store.manifest(WHOLE).segments
        for site, share in SHARES.items():
            seconds = in_new_process(merge_days, self.uri, self.folder, site)
            self.note(f"days merged into the month, {share} %", site, seconds)
            self.note_size(site)
            if site == THIRD:
                seconds = in_new_process(rebuild_month, self.uri, self.folder, site)
                self.note(f"the month from raw events, {share} %", site, seconds)
            file = self.plain / f"{share}.parquet"
            in_new_process(write_parquet, self.uri, self.folder, site, file)
            self.ask(site, BY_MONTH, file)
        self.ask_cold(BY_MONTH)
        for question in QUESTIONS:
            self.ask_mongodb(TENTH, question)
            if not question.on_tenth:
                self.ask_mongodb(WHOLE, question)
        self.ask_http()
        self.ask_live(days)

    def make_data(self) -> None:
        file = self.plain / "made-up.parquet"
        for seed, (site, share) in enumerate(SHARES.items(), start=SEED):
            report_data.make_up(file, seed, EVENTS * share // 100, VISITORS * share // 100)
            seconds = timed(report_data.load, self.uri, file, seed, site)[0]
            say(f"{site}: {EVENTS * share // 100:,} events stored in {seconds:.0f} s")
        report_data.make_up(file, SEED + 3, SMALL_SITES * SMALL_EVENTS, 20, SMALL_SITES)
        report_data.load(self.uri, file, SEED + 3, SMALL)
        file.unlink()

    def note_raw(self) -> None:
        self.rig.database.client.admin.command("fsync")  # sizes are those of the last checkpoint
        stats = self.rig.database.command("collStats", "events")
        sizes = {"as BSON": "size", "stored": "storageSize", "indexes": "totalIndexSize"}
        each = [f"{stats[key] / stats['count']:,.0f} {name}" for name, key in sizes.items()]
        self.sizes["raw, bytes an event"] = ", ".join(each)

    def build(self) -> None:
        assert self.rig.ours.backfill.all_left()  # lists the months of all sites
        for site, share in SHARES.items():
            seconds = in_new_process(build_days, self.uri, self.folder, site)
            self.note(f"days from raw events, {share} %", site, seconds)
            self.note_size(site)
            self.rig.ours.backfill.finish(self.rig.ours.backfill.past(site, MONTH))
        seconds = in_new_process(build_rest, self.uri, self.folder)
        self.sizes["small sites built"] = f"{SMALL_SITES / seconds:,.0f}/s"

    def note(self, what: str, site: str, seconds: float) -> None:
        events = sum(segment.rows for segment in self.rig.ours.store.manifest(site).segments)
        self.sizes[what] = f"{events / seconds:,.0f} events/s ({seconds:.0f} s)"
        say(f"{what}: {self.sizes[what]}")

    def note_size(self, site: str) -> None:
        segments = self.rig.ours.store.manifest(site).segments
        events = sum(segment.rows for segment in segments)
        size = sum(segment.size for segment in segments)
        self.sizes[f"segments, bytes an event, {len(segments)} of {SHARES[site]} %"] = f"{size / events:.1f}"

    def ask(self, site: str, layout: str, parquet: Path | None = None) -> None:
        self.asked[site, layout] = asked = in_new_process(ask_all, self.uri, self.folder, site, parquet)
        for question in QUESTIONS:
            say(f"{site}, {layout}, {question.name}: {ms(asked.warm[question.name])} ms")
            self.compare(site, question, self.asked[site, BY_DAYS].answers[question.name], asked, layout)

    def ask_cold(self, layout: str) -> None:
        for question in QUESTIONS:
            found = in_new_process(ask_cold, self.uri, self.folder, WHOLE, question.name)
            self.cold[layout, question.name] = found

    def ask_mongodb(self, site: str, question: Question) -> None:
        """Asks twice if the first time was short. The faster time counts."""
        found: list[tuple[float, Any]] = []
        while len(found) < 2 and sum(seconds for seconds, _ in found) < 20:
            found.append(timed(self._aggregate, question, site))
        self.mongodb[site, question.name] = min(seconds for seconds, _ in found)
        say(f"MongoDB, {site}, {question.name}: {min(seconds for seconds, _ in found):.2f} s")
        self.compare(site, question, question.read(found[0][1]), self.asked[site, BY_MONTH], "MongoDB")

    def _aggregate(self, question: Question, site: str) -> list[dict[str, Any]]:
        with pymongo.timeout(3600):  # the app's own limit is 10 s
            return list(self.rig.database["events"].aggregate(question.pipeline(site), allowDiskUse=True))

    def compare(self, site: str, question: Question, expected: Any, asked: Asked, what: str) -> None:
        if expected != asked.answers[question.name]:
            self.wrong.append(f"{question.name}, {site}, {what}: {expected} is not {asked.answers[question.name]}")

    def ask_http(self) -> None:
        """Sends the timeseries query to the reporting app, if the app can answer it. Notes the median time."""
        end = as_datetime(MONTH.end - 1)
        body = {
            "site_id": WHOLE,
            "metrics": ["visitors", "visits"],
            "date_range": [f"{as_datetime(MONTH.start).date()}", f"{end.date()}"],
            "dimensions": ["time:day"],
            "include": {"time_labels": True},
        }
        with serving("report_app.wsgi:app", self.folder, MONGODB_URI=self.uri, SEGMENT_DIR=str(self.folder)) as port:
            url = f"http://127.0.0.1:{port}/api/v2/query"
            answers = [_post(url, body) for _ in range(2 * ROUNDS + 1)]
        if {status for _, status in answers} == {200}:
            self.sizes["the timeseries by HTTP, ms"] = ms(median(seconds for seconds, _ in answers))
        else:
            self.sizes["the timeseries by HTTP, ms"] = f"not answered: {answers[0][1]}"

    def ask_live(self, days: tuple[Any, ...]) -> None:
        """Asks with the segments of days again, and with fresh events in the month's last hour."""
        self.rig.ours.store.replace(self.rig.ours.store.manifest(WHOLE), days, datetime.now(UTC))
        hour = Interval(MONTH.end - HOUR, MONTH.end)
        events = self.rig.database["events"]
        found = list(events.find({"site_id": WHOLE}).sort("timestamp", -1).limit(FRESH))
        fresh = [
            each | {"_id": type(each["_id"])(int=each["_id"].int ^ 1), "timestamp": as_datetime(hour.start + n * 1800)}
            for n, each in enumerate(found)
        ]
        events.insert_many(fresh)
        self.rig.ours.dirty.mark([(WHOLE, as_ms(each["timestamp"])) for each in fresh], datetime.now(UTC))
        self.asked[WHOLE, LIVE] = live = in_new_process(ask_all, self.uri, self.folder, WHOLE)
        moments = [each["timestamp"] for each in fresh[:100]]
        self.renewed = in_new_process(ask_renewed, self.uri, self.folder, WHOLE, moments)
        question = QUESTIONS[0]
        self.compare(WHOLE, question, question.read(self._aggregate(question, WHOLE)), live, LIVE)
        self.rig.ours.builder.build_site(WHOLE, everything=True)
        built = in_new_process(ask_all, self.uri, self.folder, WHOLE)
        for question in QUESTIONS:
            self.compare(WHOLE, question, built.answers[question.name], live, LIVE)
        events.delete_many({"_id": {"$in": [each["_id"] for each in fresh]}})


def _post(url: str, body: dict[str, Any]) -> tuple[float, int]:
    seconds, answer = timed(lambda: httpx.post(url, json=body, timeout=60))
    return seconds, answer.status_code


# The output


def report(bench: Bench) -> bool:
    """Prints the tables. Returns whether all answers were right."""
    by_days, by_month, live = (bench.asked[WHOLE, layout] for layout in (BY_DAYS, BY_MONTH, LIVE))
    tenth = bench.asked[TENTH, BY_MONTH]
    print(f"| ms, {EVENTS:,} events | warm, {BY_DAYS} | warm, {BY_MONTH} | cold, days | cold, month | {LIVE}: first"
          " | as new ones come | then | the same SQL, one Parquet file | of it |")  # fmt: skip
    print("|---|" + "---|" * 9)
    for q in QUESTIONS:
        cold = [ms(bench.cold[layout, q.name]) for layout in (BY_DAYS, BY_MONTH)]
        cells = [ms(by_days.warm[q.name]), ms(by_month.warm[q.name]), *cold]
        cells += [ms(live.first[q.name]), ms(bench.renewed[q.name]), ms(live.warm[q.name])]
        cells += [ms(by_month.parquet[q.name]), f"{by_month.ratio[q.name]:.2f}"]
        print(f"| {q.name} | {' | '.join(cells)} |")
    print(f"\n| against MongoDB's aggregation | its ms on a tenth ({EVENTS // 10:,} events) | ours there | ratio"
          " | its ms on all | ours on all | ratio |")  # fmt: skip
    print("|---|" + "---|" * 6)
    for q in QUESTIONS:
        theirs, all_of_it = bench.mongodb[TENTH, q.name], bench.mongodb.get((WHOLE, q.name))
        cells = [ms(theirs), ms(tenth.warm[q.name]), f"{theirs / tenth.warm[q.name]:,.0f}"]
        if all_of_it is None:
            cells += ["not run", ms(by_month.warm[q.name]), f"its tenth against our all: {ratio(bench, q):,.1f}"]
        else:
            cells += [ms(all_of_it), ms(by_month.warm[q.name]), f"{ratio(bench, q):,.0f}"]
        print(f"| {q.name} | {' | '.join(cells)} |")
    sites = [f"{EVENTS * share // 100:,} events" for share in SHARES.values()]
    print(f"\n| ms, {BY_MONTH}, as it grows | {' | '.join(sites)} |\n|---|" + "---|" * len(SHARES))
    for q in QUESTIONS:
        print(f"| {q.name} | {' | '.join(ms(bench.asked[site, BY_MONTH].warm[q.name]) for site in SHARES)} |")
    after, most = by_month.memory
    bench.sizes["memory of the process after all questions, at most"] = f"{mb(after)}, {mb(most)}"
    print()
    print_table("size and speed of segments", bench.sizes)
    print_table("targets", dict(targets(bench)))
    for each in bench.wrong:
        print(f"WRONG: {each[:2000]}")
    return not bench.wrong


def targets(bench: Bench) -> Iterator[tuple[str, str]]:
    by_days, by_month = bench.asked[WHOLE, BY_DAYS], bench.asked[WHOLE, BY_MONTH]
    for q in QUESTIONS:
        worst = max(by_days.warm[q.name], by_month.warm[q.name])
        if q.target is not None:
            yield f"{q.name}: at most {q.target:g} ms, days or month", met(worst * 1000 <= q.target, f"{ms(worst)} ms")
        times = bench.mongodb[TENTH, q.name] / bench.asked[TENTH, BY_MONTH].warm[q.name]
        if not q.on_tenth:
            times = ratio(bench, q)
        yield (
            f"{q.name}: {FASTER_THAN_MONGODB} times faster than the aggregation{', on a tenth' if q.on_tenth else ''}",
            met(times >= FASTER_THAN_MONGODB, f"{times:,.0f}"),
        )
        of_parquet = by_month.ratio[q.name]
        yield (
            f"{q.name}: within {SLOWER_THAN_PARQUET} of one Parquet file",
            met(of_parquet <= SLOWER_THAN_PARQUET, f"{of_parquet:.2f}"),
        )


def ratio(bench: Bench, question: Question) -> float:
    theirs = bench.mongodb.get((WHOLE, question.name), bench.mongodb[TENTH, question.name])
    return theirs / bench.asked[WHOLE, BY_MONTH].warm[question.name]


def met(yes: bool, value: str) -> str:
    return f"{'met' if yes else 'MISSED'}: {value}"


def ms(seconds: float) -> str:
    return f"{seconds * 1000:,.1f}" if seconds < 0.1 else f"{seconds * 1000:,.0f}"


def mb(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def say(what: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {what}", file=sys.stderr, flush=True)


def calibrate() -> dict[str, str]:
    with duckdb.connect(config={"threads": Settings().duckdb_threads}) as connection:
        connection.execute("CREATE TABLE numbers AS SELECT hash(n) % 1000 AS n FROM range(10000000) AS numbers(n)")
        scan = median(timed(lambda: connection.execute("SELECT sum(n) FROM numbers").fetchall())[0] for _ in range(5))
        group = "SELECT count(*) FROM (SELECT DISTINCT hash(n, rowid % 400) FROM numbers)"
        distinct = median(timed(lambda: connection.execute(group).fetchall())[0] for _ in range(5))
    return {
        "CPU loop, million turns/s": f"{cpu_loops():,.1f}",
        "DuckDB, sum of a column of 10 million, ms": ms(scan),
        "DuckDB, 400,000 distinct values among 10 million, ms": ms(distinct),
    }


@contextmanager
def own_mongodb(folder: Path) -> Iterator[str]:
    server = mongo_server(folder / "mongodb", pick_port(0))
    with running(server):
        yield server.url


def main() -> None:
    print(f"# make bench-reports EVENTS={EVENTS} SEED={SEED}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine()}\n")
    before = calibrate()
    with (
        tempfile.TemporaryDirectory(prefix="footfall-bench-") as name,
        own_mongodb(Path(os.environ.get("FOLDER") or name)) as uri,
    ):
        bench = Bench(uri, Path(name))
        bench.run()
        bench.rig.database.client.close()
    after = calibrate()
    print_table("calibration, before and after", {each: f"{before[each]}, {after[each]}" for each in before})
    sys.exit(0 if report(bench) else 1)


if __name__ == "__main__":
    main()
