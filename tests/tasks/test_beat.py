"""Beat's schedule does not depend on the machine's clock. Beat, Flower and the supervisor load only what they use."""

import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from celery.beat import ScheduleEntry
from pymongo.database import Database
from redis import Redis

from analytics.journal.journal import JOURNAL_KEY
from config.celery import celery_settings
from config.settings import Settings
from tasks import app
from tasks.beat import BUILDS_WAIT, OwedScheduler
from tasks.segments import build_segments
from tests.support.running_system import own_environment
from tests.support.services import make_services

SCHEDULE = celery_settings(Settings())["beat_schedule"]


class Watched(OwedScheduler):
    """Records what is due instead of sending it."""

    def __init__(self) -> None:
        self.due: Counter[str] = Counter()
        super().__init__(app=app)

    def apply_entry(self, entry: ScheduleEntry, producer: object = None) -> None:
        self.due[entry.name] += 1

    @property
    def producer(self) -> None:
        """No connection, because nothing is sent."""


def tick_for(scheduler: Watched, seconds: float) -> Counter[str]:
    """Ticks as beat does, and sleeps for as long as the tick returns. Returns what was due meanwhile."""
    scheduler.due.clear()
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(max(0.0, min(scheduler.tick(), left)))
    return Counter(scheduler.due)


@pytest.mark.parametrize("jump", [timedelta(hours=-1), timedelta(days=-400), timedelta(hours=1), timedelta(days=400)])
def test_a_jump_of_the_wall_clock_neither_stops_beat_nor_makes_it_send_everything(
    monkeypatch: pytest.MonkeyPatch, jump: timedelta
):
    """Celery asks its app for the time, so the test moves the clock there."""
    real_now = app.now
    jumped = timedelta(0)

    def now() -> datetime:
        return real_now() + jumped

    monkeypatch.setattr(app, "now", now)
    scheduler = Watched()
    assert set(scheduler.schedule) == set(SCHEDULE)
    before = tick_for(scheduler, 2.2)
    jumped = jump
    after = tick_for(scheduler, 2.2)
    for due in (before, after):
        assert set(due) == {"store-events"}, "nothing else has an interval this short"
        assert due["store-events"] in (1, 2, 3)


def test_builds_wait_while_many_events_wait_but_not_for_long(settings: Settings, redis: Redis, database: Database):
    scheduler = Watched()
    scheduler._services = make_services(replace(settings, store_batch=1), redis=redis, database=database)
    assert scheduler._owed(build_segments.name) == 1
    for _ in range(5):
        redis.xadd(JOURNAL_KEY, {"event": "x"})
    assert scheduler._owed(build_segments.name) == 0
    scheduler._caught_up -= BUILDS_WAIT
    assert scheduler._owed(build_segments.name) == 1
    redis.delete(JOURNAL_KEY)
    assert scheduler._owed(build_segments.name) == 1
    redis.xadd(JOURNAL_KEY, {"event": "x"})
    assert scheduler._owed(build_segments.name) == 1, "one task stores them"


@pytest.mark.parametrize(
    ("load", "used", "unused"),
    [
        (
            "tasks, tasks.beat; tasks.app.loader.import_default_modules()",
            {"tasks.retention", "analytics.pipeline"},
            {"duckdb", "pyarrow", "ua_parser", "is_bot"},  # DuckDB and pyarrow take 25 MB, and the tables 25 MB more
        ),
        ("footfall.flower", {"flower.app", "redis"}, {"tasks", "pymongo", "structlog", "prompt_toolkit"}),
        ("footfall.supervisor", {"footfall.embedded_servers"}, {"tasks", "pymongo", "redis", "structlog"}),
    ],
    ids=["beat", "Flower", "the supervisor"],
)
def test_a_process_loads_only_what_it_uses(load: str, used: set[str], unused: set[str]):
    environment = own_environment() | {"MONGODB_URI": "mongodb://127.0.0.1:27017/footfall?replicaSet=footfall"}
    command = [sys.executable, "-c", f"import sys, {load}\nprint(*sys.modules)"]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.split()
    assert used <= set(loaded)
    assert unused.isdisjoint(loaded)
