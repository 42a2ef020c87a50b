"""Reads during writes: a report is asked again and again, while events of the same site are posted at a fixed rate."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench.load import Load, run_load
from bench.peers.contenders import Contender, Days
from bench.peers.requests import READ, READ_SITE
from tests.support.running_system import wait_for

RATE = 1_000  # events/s
_CONNECTIONS = 50
_STORED_WITHIN = 120  # seconds


@dataclass(frozen=True)
class Reads:
    """`reads`: the reports. `writes`: the posted events. `days`: the report after all of them are stored."""

    reads: Load
    writes: Load
    days: Days


def read_during_writes(contender: Contender, ask: Callable[[str], Days], seconds: float) -> Reads:
    """`ask`: the contender's `ask_days`."""
    over, stored = threading.Event(), contender.events.estimated_document_count()
    with ThreadPoolExecutor(1) as thread:
        asking = thread.submit(_ask_all_the_time, ask, over)
        try:
            writes = run_load(
                contender.port,
                lambda number: READ[number % len(READ)],
                connections=_CONNECTIONS,
                seconds=seconds,
                rate=RATE,
            )
        finally:
            over.set()
        reads = asking.result()
    stored += writes.statuses[200]
    wait_for(lambda: contender.events.estimated_document_count() >= stored, "all events stored", _STORED_WITHIN)
    return Reads(reads, writes, ask(READ_SITE))


def _ask_all_the_time(ask: Callable[[str], Days], over: threading.Event) -> Load:
    load = Load()
    while not over.is_set():
        start = time.perf_counter()
        ask(READ_SITE)
        load.latencies.append(time.perf_counter() - start)
    return load
