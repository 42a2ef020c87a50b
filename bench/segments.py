"""`make bench-segments`: how fast segments are built from raw events, and how long the first report then takes.

Inserts a month of events of one site, and of many small sites, into its own MongoDB. It builds the segments in new
processes: by days, the whole month at once, and the months of all small sites. Prints each rate beside its limit, with
the CPU time of the building process, which other loads on the machine affect less than the rate. Then it asks for the
visitors and visits of each day, first in a process that has built the last day just now, then in a new process without
segments on its disk. Last, hours of thousands of sites are due at once, and 1 % of the sites are busy. Exits with 1 if
the segments do not hold all events.

EVENTS (400000), SITES (300, with 200 events each), DUE (10000 sites, with 5 events each, and 300 more if they are busy)
and SEED (1) in the environment change the run.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from bench import report_data
from bench.ingestion import machine, print_table
from bench.report_data import MONTH
from bench.report_questions import QUESTIONS, TIMESERIES
from bench.reports import SMALL, SMALL_EVENTS, Rig, ask_cold, build_rest, in_new_process, ms, own_mongodb, timed

EVENTS, SEED = int(os.environ.get("EVENTS", "400000")), int(os.environ.get("SEED", "1"))
SITES = int(os.environ.get("SITES", "300"))
DUE = int(os.environ.get("DUE", "10000"))
BUSY, DUE_EVENTS = DUE // 100, DUE * 5 + DUE // 100 * 300
SITE, DUE_SITE = "large", "due-{}"
LIMITS = {"events/s": 150_000, "sites/s": 300, "first": 400, "cold": 1_000}  # the last two in ms


def main() -> None:
    print(f"# make bench-segments EVENTS={EVENTS} SITES={SITES} SEED={SEED}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC,"
          f" {machine()}\n")  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="footfall-bench-") as name, own_mongodb(Path(name)) as uri:
        folder = Path(name) / "segments"
        folder.mkdir()
        make_events(uri, folder)
        rows, is_whole = bench(uri, folder)
    print_table("segments from raw events", rows)
    sys.exit(0 if is_whole else 1)


def make_events(uri: str, folder: Path) -> None:
    file = folder / "made-up.parquet"
    report_data.make_up(file, SEED, EVENTS, EVENTS // 25)
    report_data.load(uri, file, SEED, SITE)
    report_data.make_up(file, SEED + 3, SITES * SMALL_EVENTS, 20, SITES)
    report_data.load(uri, file, SEED + 3, SMALL)
    file.unlink()


def bench(uri: str, folder: Path) -> tuple[dict[str, str], bool]:
    """Returns the rows of the table, and whether the segments hold all events."""
    rig = Rig(uri, folder)
    assert rig.ours.backfill.all_left()  # lists the months of all sites
    rig.ours.backfill.finish(rig.ours.backfill.past(SITE, MONTH))
    rows = {
        "the month at once": rate(in_new_process(measure, build_month, uri, folder), EVENTS, "events/s"),
        "the same by days": rate(in_new_process(measure, build_days, uri, folder), EVENTS, "events/s"),
        "small sites": rate(in_new_process(measure, build_rest, uri, folder), SITES, "sites/s"),
        "first report of daily visits after a build": limited(in_new_process(ask_after_build, uri, folder), "first"),
        "the same in a process without segments on its disk": limited(ask(uri, folder), "cold"),
    }
    held = sum(segment.rows for segment in rig.ours.store.manifest(SITE).segments)
    make_due(rig, folder)
    took = in_new_process(measure, build_due, uri, folder)
    rows[f"{DUE:,} sites that are due at once, {BUSY:,} of them busy"] = hourly(took)
    small = sum(each.rows for each in rig.ours.store.sizes() if each.site_id != SITE)
    return rows, (held, small) == (EVENTS, SITES * SMALL_EVENTS + DUE_EVENTS)


def make_due(rig: Rig, folder: Path) -> None:
    file = folder / "made-up.parquet"
    for seed, events, sites in ((SEED + 5, DUE * 5, DUE), (SEED + 6, BUSY * 300, BUSY)):
        report_data.make_up(file, seed, events, 20, sites)
        report_data.load(rig.settings.mongodb_uri, file, seed, DUE_SITE)
        places = pq.read_table(file, columns=["site", "occurred"]).to_pydict()
        moments = [(DUE_SITE.format(site), ms) for site, ms in zip(*places.values(), strict=True)]
        rig.ours.dirty.mark(moments, datetime.now(UTC) - timedelta(hours=2))
        file.unlink()


def measure(act: Callable[[str, Path], Any], uri: str, folder: Path) -> tuple[float, float]:
    """Returns the seconds that it took, and the seconds of CPU of this process."""
    start, cpu = time.perf_counter(), time.process_time()
    act(uri, folder)
    return time.perf_counter() - start, time.process_time() - cpu


def build_month(uri: str, folder: Path) -> None:
    Rig(uri, folder).ours.builder.build(SITE, "month", MONTH, from_raw=True)


def build_days(uri: str, folder: Path) -> None:
    """Builds the days as if there were no segment of the month."""
    ours = Rig(uri, folder).ours
    ours.store.replace(ours.store.manifest(SITE), [], datetime.now(UTC))
    for day in report_data.days():
        ours.builder.build(SITE, "day", day, from_raw=True)


def build_due(uri: str, folder: Path) -> None:
    builder = Rig(uri, folder).ours.builder
    while builder.build_due():
        pass


def ask_after_build(uri: str, folder: Path) -> float:
    """Asks, builds the last day again, and asks again. Returns the seconds of the second answer."""
    rig, question = Rig(uri, folder), next(each for each in QUESTIONS if each.name == TIMESERIES)
    reports = rig.reports()
    before = question.ask(reports, SITE)
    rig.ours.builder.build(SITE, "day", report_data.days()[-1], from_raw=True)
    seconds, after = timed(question.ask, reports, SITE)
    assert before == after
    return seconds


def ask(uri: str, folder: Path) -> float:
    found: float = in_new_process(ask_cold, uri, folder, SITE, TIMESERIES)
    return found


def rate(took: tuple[float, float], count: int, unit: str) -> str:
    seconds, cpu = took
    return f"{count / seconds:,.0f} {unit}, limit {LIMITS[unit]:,}; {cpu / count * 1e6:,.1f} µs of CPU each"


def hourly(took: tuple[float, float]) -> str:
    """They are due once an hour."""
    return f"{took[0]:,.1f} s of 3,600; {took[0] / DUE * 1e3:,.2f} ms and {took[1] / DUE * 1e3:,.2f} ms of CPU each"


def limited(seconds: float, which: str) -> str:
    return f"{ms(seconds)} ms, limit {LIMITS[which]:,}"


if __name__ == "__main__":
    main()
