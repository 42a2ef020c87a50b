"""`make bench-latency`: how long reports about millions of events take, each beside its limit.

Builds segments of a month from generated columns: one segment of the month, a segment of each day, and the segments of
a site that receives events (29 days, the hours of the last day, and its last hour in no segment). Then it measures
- the visitors and visits of each day: in a new process without segments on its disk, and of the live site
  - with the events of a second stored before each report, as a worker stores them, in the last slots
  - with all slots of the last hour marked before each report, which no new events do: the whole hour is read again
  - after a segment of the last hour was built in another process
- the page of the dashboard and each of its panels, by HTTP, as the running system answers them, and if Chromium is
  installed, its first paint of the page
- reports while events arrive, and events while reports are asked

EVENTS (1000000), SEED (1), RATE (1000 events/s) and SECONDS (20) in the environment change the run. With FOLDER, the
segments are kept there and reused by the next run, which should have the same EVENTS and SEED. Exits with 1 if an
answer is wrong.
"""

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pyarrow.parquet as pq

from analytics.events.store import INDEXES
from analytics.interval import DAY, HOUR, SLOT, Interval, as_ms
from analytics.segments.store import Manifest
from bench import report_data
from bench.generated_events import GeneratedEvents
from bench.ingestion import machine, print_table
from bench.load import Load, post_request, run_load
from bench.report_data import MONTH
from bench.report_questions import QUESTIONS, TIMESERIES
from bench.reports import Rig, ask_cold, in_new_process, ms, own_mongodb, say, timed
from report_app.pages.panels import PANELS
from tests.support.browser import chromium
from tests.support.running_system import system_running, wait_for

EVENTS, SEED = int(os.environ.get("EVENTS", "1000000")), int(os.environ.get("SEED", "1"))
RATE, SECONDS = int(os.environ.get("RATE", "1000")), float(os.environ.get("SECONDS", "20"))
BY_DAYS, BY_MONTH, LIVE = "days", "month", "live"  # sites
LAST_HOUR = Interval(MONTH.end - HOUR, MONTH.end)
SECOND = 1_000  # ms
NEW_SECONDS = 20  # with new events, a report after each
CONNECTIONS = 50
ROUNDS = 5
PERIOD = "period=custom&from=2026-09-01&to=2026-09-30"
QUESTION = next(each for each in QUESTIONS if each.name == TIMESERIES)


@dataclass
class Bench:
    """`rows`: the table. `wrong`: the answers that were not right."""

    uri: str
    folder: Path
    rows: dict[str, str]
    wrong: list[str]

    def note(self, what: str, seconds: float, limit: float | None = None) -> None:
        """`limit`: ms."""
        verdict = "" if limit is None else f", limit {limit:,.0f}: {'met' if seconds * 1000 <= limit else '**missed**'}"
        self.rows[what] = f"{ms(seconds)} ms{verdict}"
        say(f"{what}: {self.rows[what]}")


def build(uri: str, folder: Path, made_up: Path) -> None:
    """Build the segments of the three sites. A file of a day is one file of two sites."""
    rig, visitors = Rig(uri, folder), EVENTS // 25
    if rig.ours.store.manifest(LIVE).segments:
        return
    report_data.make_up(made_up, SEED, EVENTS, visitors)
    rig.ours.backfill.note_if_there_is_none()
    builder = replace(rig.ours.builder, raw=GeneratedEvents(rig.database, made_up, SEED, visitors))
    for day in report_data.days():
        builder.build(BY_DAYS, "day", day, from_raw=True)
    days = rig.ours.store.manifest(BY_DAYS).segments
    rig.ours.store.replace(Manifest(BY_MONTH), days, datetime.now(UTC))
    builder.build(BY_MONTH, "month", MONTH)
    rig.ours.store.replace(Manifest(LIVE), days[:-1], datetime.now(UTC))
    for start in range(MONTH.end - DAY, LAST_HOUR.start, HOUR):
        builder.build(LIVE, "hour", Interval(start, start + HOUR), from_raw=True)


def put_last_hour(rig: Rig, made_up: Path) -> None:
    """Store the events of the last hour, which the site LIVE has in no segment."""
    events = rig.database["events"]
    for name, keys in INDEXES.items():
        events.create_index(keys, name=name)
    rows = pq.read_table(made_up, filters=[("occurred", ">=", LAST_HOUR.start)]).to_pydict()
    events.delete_many({"site_id": LIVE})
    events.insert_many(report_data.documents(rows, SEED, LIVE))
    mark_last_hour(rig)


def mark_last_hour(rig: Rig) -> None:
    """Mark all slots of the last hour."""
    rig.ours.dirty.mark([(LIVE, slot) for slot in range(LAST_HOUR.start, LAST_HOUR.end, SLOT)], datetime.now(UTC))


def new_events(made_up: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield RATE events for each of the last seconds of the month. They are like those of the last day."""
    last_day = pq.read_table(made_up, filters=[("occurred", ">=", MONTH.end - DAY)])
    for second in range(NEW_SECONDS):
        rows = last_day.take([n % last_day.num_rows for n in range(second * RATE, (second + 1) * RATE)]).to_pydict()
        start = MONTH.end - (NEW_SECONDS - second) * SECOND
        rows["occurred"] = [start + n * SECOND // RATE for n in range(RATE)]
        yield list(report_data.documents(rows, SEED, LIVE))


# Functions that run in processes of their own


def ask_while_new_events_arrive(uri: str, folder: Path, made_up: Path) -> tuple[list[float], bool]:
    """Ask after the new events of each second. Return the seconds of the reports, and whether a reader without caches
    finds the same as the last one. The new events are removed.
    """
    rig = Rig(uri, folder)
    reports, events, found = rig.reports(), rig.database["events"], []
    QUESTION.ask(reports, LIVE)
    ids = []
    for documents in new_events(made_up):
        events.insert_many(documents, ordered=False)
        rig.ours.dirty.mark([(LIVE, as_ms(each["timestamp"])) for each in documents], datetime.now(UTC))
        found.append(timed(QUESTION.ask, reports, LIVE))
        ids += [each["_id"] for each in documents]
    reports.reader.clear()
    is_right = QUESTION.ask(reports, LIVE) == found[-1][1]
    events.delete_many({"_id": {"$in": ids}})
    mark_last_hour(rig)
    return [seconds for seconds, _ in found], is_right


def ask_of_marked_slots(uri: str, folder: Path) -> tuple[list[float], list[float], Any]:
    """Ask repeatedly, with the slots of the last hour marked before each time. Then build a segment of the hour in
    another process, and ask again. Return the seconds of both, and the last answer.
    """
    rig = Rig(uri, folder)
    reports, renewed, after = rig.reports(), [], []
    QUESTION.ask(reports, LIVE)
    for _ in range(ROUNDS):
        mark_last_hour(rig)
        renewed.append(timed(QUESTION.ask, reports, LIVE)[0])
    for _ in range(ROUNDS):
        mark_last_hour(rig)
        in_new_process(build_hour, uri, folder)
        seconds, answer = timed(QUESTION.ask, reports, LIVE)
        after.append(seconds)
    return renewed, after, answer


def build_hour(uri: str, folder: Path) -> None:
    Rig(uri, folder).ours.builder.build(LIVE, "hour", LAST_HOUR)


def ask_warm(uri: str, folder: Path, site: str) -> tuple[float, Any]:
    reports = Rig(uri, folder).reports()
    answer = QUESTION.ask(reports, site)
    return median(timed(QUESTION.ask, reports, site)[0] for _ in range(ROUNDS)), answer


def measure_reports(bench: Bench, made_up: Path) -> None:
    answers = {}
    for site in (BY_MONTH, BY_DAYS):
        seconds, answers[site] = in_new_process(ask_warm, bench.uri, bench.folder, site)
        bench.note(f"{site}, warm", seconds)
    for site in (BY_MONTH, BY_DAYS, LIVE):
        cold = [in_new_process(ask_cold, bench.uri, bench.folder, site, TIMESERIES) for _ in range(2)]
        bench.note(f"{site}, a process without segments on its disk", min(cold), 1_000)
    seconds, is_right = in_new_process(ask_while_new_events_arrive, bench.uri, bench.folder, made_up)
    bench.note(f"{LIVE}, while {RATE:,} new events arrive each second", median(seconds), 200)
    if not is_right:
        bench.wrong.append(f"{LIVE} after new events is not {LIVE} without caches")
    marked, after, answers[LIVE] = in_new_process(ask_of_marked_slots, bench.uri, bench.folder)
    bench.note(f"{LIVE}, all slots of the last hour marked", median(marked))
    bench.note(f"{LIVE}, first after a segment of an hour is built", median(after), 400)
    bench.wrong += [f"{site} is not {BY_MONTH}" for site in answers if answers[site] != answers[BY_MONTH]]


# The running system


def measure_system(bench: Bench) -> None:
    with system_running(bench.folder, MONGODB_URI=bench.uri) as system, httpx.Client(timeout=60) as client:
        client.base_url = httpx.URL(system.report)
        _get(client, f"/site/{BY_MONTH}?{PERIOD}")  # fetches the segment
        parts = {name: f"/parts/panel/{name}/{BY_MONTH}" for name in PANELS}
        parts |= {"hero": f"/parts/hero/{BY_MONTH}", "world": f"/parts/world/{BY_MONTH}"}
        bench.note("dashboard, the page", _median(client, f"/site/{BY_MONTH}?{PERIOD}"), 500)
        if shutil.which("chromium") and shutil.which("chromedriver"):
            painted = _painted(f"{system.report}/site/{BY_MONTH}?{PERIOD}", bench.folder / "chromium")
            bench.note("dashboard, first contentful paint in Chromium", painted, 500)
        for name, path in parts.items():
            bench.note(f"dashboard, {name}", _median(client, f"{path}?{PERIOD}"), 300)
        alone = _load(system.ports["INGESTION_PORT"])
        asked: list[float] = []
        over = threading.Event()
        body = {"site_id": BY_MONTH, "metrics": ["visitors", "visits"], "dimensions": ["time:day"],
                "date_range": ["2026-09-01", "2026-09-30"]}  # fmt: skip
        asker = threading.Thread(target=_ask, args=(client, body, asked, over))
        asker.start()
        both = _load(system.ports["INGESTION_PORT"])
        over.set()
        asker.join()
    rate = f"{RATE:,} events/s"
    bench.rows[f"single events at {rate}, p50 and p99"] = _times(alone)
    bench.rows["the same while reports are asked all the time"] = _times(both)
    asked.sort()
    bench.rows[f"reports of daily visits meanwhile, {len(asked)}, p50 and p99"] = (
        f"{ms(asked[len(asked) // 2])}, {ms(asked[len(asked) * 99 // 100])} ms"
    )
    if set(alone.statuses) | set(both.statuses) != {200}:
        bench.wrong.append(f"events: {alone.statuses}, {both.statuses}")


def _get(client: httpx.Client, path: str) -> float:
    seconds, answer = timed(lambda: client.get(path))
    assert answer.status_code == 200, (path, answer.text)
    return seconds


def _median(client: httpx.Client, path: str) -> float:
    return median(_get(client, path) for _ in range(ROUNDS))


def _painted(page: str, profile: Path) -> float:
    """Seconds until Chromium shows the page, with its figures unless they take longer than the page waits."""
    paint = "return performance.getEntriesByName('first-contentful-paint').map((entry) => entry.startTime / 1000)"
    found: list[float] = []
    with chromium(profile) as browser:
        for _ in range(ROUNDS):
            browser.get(page)
            found += wait_for(lambda: browser.execute_script(paint), "the first paint")
    return median(found)


def _ask(client: httpx.Client, body: dict[str, Any], asked: list[float], over: threading.Event) -> None:
    while not over.is_set():
        seconds, answer = timed(lambda: client.post("/api/v2/query", json=body))
        assert answer.status_code == 200, answer.text
        asked.append(seconds)


def _load(port: int) -> Load:
    """Send single events of another site at a fixed rate, as far as they are answered in time."""
    run = f"{time.time_ns():x}"

    def render(number: int) -> bytes:
        body = f'{{"site_id":"writes","event_type":"page_view","path":"/{number % 500}","user_id":"{number % 5000}",'
        return post_request("bench", "/event", f'{body}"event_id":"{run}-{number}"}}'.encode())

    return run_load(port, render, connections=CONNECTIONS, seconds=SECONDS, pause=CONNECTIONS / RATE)


def _times(load: Load) -> str:
    return f"{load.latency(0.5):.1f}, {load.latency(0.99):.1f} ms ({load.rate:,.0f}/s)"


def main() -> None:
    print(f"# make bench-latency EVENTS={EVENTS} SEED={SEED}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine()}\n")
    with tempfile.TemporaryDirectory(prefix="footfall-bench-") as name:
        kept = Path(os.environ.get("FOLDER") or name)
        kept.mkdir(parents=True, exist_ok=True)
        with own_mongodb(kept) as uri:
            made_up = kept / "made-up.parquet"
            build(uri, Path(name), made_up)
            put_last_hour(Rig(uri, Path(name)), made_up)
            bench = Bench(uri, Path(name), {}, [])
            measure_reports(bench, made_up)
            measure_system(bench)
    print_table(f"visitors and visits of each of 30 days, and the dashboard, {EVENTS:,} events", bench.rows)
    for each in bench.wrong:
        print(f"WRONG: {each}")
    sys.exit(1 if bench.wrong else 0)


if __name__ == "__main__":
    main()
