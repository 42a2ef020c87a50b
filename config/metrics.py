"""Declares every metric, and writes the page for Prometheus.

Each child process of gunicorn and Celery keeps its own numbers in files of a shared folder. The process that is asked
adds them up (the multi-process mode of prometheus_client). The folder must exist before the first fork, therefore
config/gunicorn.py imports this module.
"""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, values
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from config.settings import load_settings_or_exit

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads the folder from this name


def make_folder(parent: str) -> None:
    """Creates a folder for this service, which is removed at exit.

    Services that shared a folder would add up their numbers.
    """
    try:
        os.makedirs(parent, exist_ok=True) if parent else None
        ours, owner = tempfile.mkdtemp(prefix="footfall-metrics-", dir=parent or None), os.getpid()
    except OSError as error:
        sys.exit(f"footfall: {FOLDER} cannot be used: {error}")
    os.environ[FOLDER] = ours

    @atexit.register
    def remove_folder() -> None:
        if owner == os.getpid():  # not in a forked child
            shutil.rmtree(ours, ignore_errors=True)


make_folder(load_settings_or_exit().prometheus_multiproc_dir)

# prometheus_client chooses by the environment when it is first imported. Celery imports it before, for Flower.
values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

EVENT_OUTCOMES = Counter(
    "footfall_events",
    "Events by what became of them: accepted, rejected, refused, dropped at the collector; stored, duplicate, dead,"
    " dropped in a worker.",
    ["outcome", "reason"],
)
RATE_LIMITED = Counter("footfall_rate_limited", "Requests answered with 429, by whose limit it was.", ["limit"])
RATE_UNCHECKED = Counter(
    "footfall_rate_unchecked",
    "Requests admitted without a check of the limit, because Redis did not answer.",
    ["limit"],
)
REQUESTS_SHED = Counter(
    "footfall_requests_shed", "Requests answered with 503, because the process had too many at once."
)
REPLACED_SURROGATES = Counter(
    "footfall_replaced_surrogates",
    "Halves of surrogate pairs in the JSON of hits. U+FFFD is stored instead of each.",
)
BROKEN_REQUESTS = Counter(
    "footfall_broken_requests",
    "Requests that are not HTTP, or did not come to their end, by the name of the error.",
    ["error"],
)
COMMIT_EVENTS = Histogram(
    "footfall_commit_events",
    "Events that one write to the journal carried.",
    buckets=[1, 2, 5, 10, 20, 50, 100, 500, 1000, 5000],
)
COMMIT_SECONDS = Histogram(
    "footfall_commit_seconds",
    "Time of one write to the journal, on disk when it ends.",
    buckets=[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 2],
)
TASK_SECONDS = Histogram(
    "footfall_task_seconds",
    "Time of one Celery task, whatever its end.",
    ["task"],
    buckets=[0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 10, 30],
)
TASK_RETRIES = Counter("footfall_task_retries", "Celery tasks that ended in a retry.", ["task"])
STORE_LAG = Histogram(
    "footfall_store_lag_seconds",
    "From received to stored, of the oldest event of each batch.",
    buckets=[0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60, 600, 3600],
)
ENRICHMENT_FAILURES = Counter(
    "footfall_enrichment_failures",
    "Events for which a step of enrichment failed. They are stored without the fields of the step.",
    ["step"],
)

SEGMENTS = Counter("footfall_segments", "Segments built, of an hour, a day or a month.", ["grain"])


def segment_gauges(waiting: int, oldest_seconds: float) -> Iterable[Metric]:
    yield GaugeMetricFamily("footfall_dirty_hours", "Hours of sites with events that no segment has yet.", waiting)
    yield GaugeMetricFamily(
        "footfall_segments_due_seconds",
        "How many seconds the oldest due hour has waited for its segment. 0 if none is due.",
        oldest_seconds,
    )


def journal_gauges(waiting: int, oldest_seconds: float) -> Iterable[Metric]:
    yield GaugeMetricFamily("footfall_journal_events", "Events that wait in the journal.", waiting)
    yield GaugeMetricFamily(
        "footfall_journal_oldest_seconds",
        "Age of the oldest waiting event, in seconds. 0 if none waits.",
        oldest_seconds,
    )


def dead_letter_gauge(counts: Iterable[tuple[str, int]]) -> Metric:
    """`counts`: pairs of a reason and its number of dead letters."""
    gauge = GaugeMetricFamily("footfall_dead_letters", "Dead letters, by reason.", labels=["reason"])
    for reason, count in counts:
        gauge.add_metric([reason], count)
    return gauge


def store_gauge(up: Iterable[tuple[str, bool]]) -> Metric:
    gauge = GaugeMetricFamily(
        "footfall_store_up", "Whether a store answered what this page asked it.", labels=["store"]
    )
    for store, answers in up:
        gauge.add_metric([store], answers)
    return gauge


def exposition(gauges: Iterable[Metric] = ()) -> bytes:
    """The page of this service: the numbers of all its processes, and these gauges."""

    class Gauges(Collector):
        def collect(self) -> Iterator[Metric]:
            yield from gauges

    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(Gauges())
    return generate_latest(registry)
